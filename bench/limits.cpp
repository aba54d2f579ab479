// SPDX-License-Identifier: MIT
// What this machine can do on the threads of our own team: multiply-adds, reading a slice of memory, meeting at the barrier.
#include "team.h"

#include <sys/mman.h>

#include <chrono>
#include <cstdlib>
#include <cstring>

#if defined(__AVX512F__)
constexpr int kBytes = 64;
#elif defined(__AVX__)
constexpr int kBytes = 32;
#else
constexpr int kBytes = 16;
#endif
#if defined(__x86_64__)
#define REGISTER "v"
#else
#define REGISTER "w"
#endif

typedef float V __attribute__((vector_size(kBytes)));

namespace {

constexpr int kSums = 12;  // independent sums: more than latency times units, and fewer than AVX2 has registers
constexpr long kHugePage = 2l << 20;

// Writes the seconds that f(team, me) takes on all threads together, so many times.
template <class F> void time(int threads, int takes, double* seconds, F f) {
  using clock = std::chrono::steady_clock;
  fusedrnn::run_team(threads, [&](fusedrnn::Team& team, int me) {
    for (int take = 0; take < takes; take++) {
      team.wait(me);
      const auto start = clock::now();
      f(team, me);
      team.wait(me);
      if (me == 0) seconds[take] = std::chrono::duration<double>(clock::now() - start).count();
    }
  });
}

}  // namespace

// Returns the operations of each take.
extern "C" double peak(int threads, int takes, double* seconds) {
  constexpr int rounds = 200'000;
  time(threads, takes, seconds, [=](fusedrnn::Team&, int) {
    V sums[kSums] = {}, x = {}, y = {};
#pragma GCC unroll 12
    for (V& sum : sums) asm volatile("" : "+" REGISTER(sum));  // else the compiler sees that all are the same
    for (int i = 0; i < rounds; i++) {
      asm volatile("" : "+" REGISTER(x), "+" REGISTER(y));
#pragma GCC unroll 12
      for (V& sum : sums) sum += x * y;
    }
#pragma GCC unroll 12
    for (V& sum : sums) asm volatile("" : : REGISTER(sum));
  });
  return 2.0 * threads * rounds * kSums * kBytes / sizeof(float);
}

// Each thread reads a share of its own again and again; share is a multiple of 8 vectors. Returns the bytes of each take.
extern "C" double bandwidth(int threads, int takes, double* seconds, long share) {
  const long stride = (share + kHugePage - 1) / kHugePage * kHugePage, rounds = 1 + (8l << 20) / share;
  char* all = static_cast<char*>(std::aligned_alloc(kHugePage, threads * stride));
  if (!all) return 0;
  madvise(all, threads * stride, MADV_HUGEPAGE);
  std::memset(all, 0, threads * stride);
  time(threads, takes, seconds, [=](fusedrnn::Team&, int me) {
    const V* begin = reinterpret_cast<V*>(all + me * stride);
    for (long r = 0; r < rounds; r++) {
      for (const V* p = begin; p < begin + share / kBytes; p += 8) {
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) asm volatile("" : : REGISTER(p[i]));
      }
    }
  });
  std::free(all);
  return double(threads) * rounds * share;
}

// Returns how many barriers are in each take.
extern "C" double barrier(int threads, int takes, double* seconds) {
  constexpr int rounds = 200;
  time(threads, takes, seconds, [=](fusedrnn::Team& team, int me) {
    for (int r = 0; r < rounds; r++) team.wait(me);
  });
  return rounds;
}
