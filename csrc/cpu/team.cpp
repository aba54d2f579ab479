// SPDX-License-Identifier: MIT
#include "team.h"

#include <pthread.h>
#include <sched.h>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace fusedrnn {
namespace {

// About 20 µs: longer than any step's imbalance, shorter than a time slice that a descheduled thread would cost.
constexpr int kSpins = 1000;

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// After fork() the child has none of OpenMP's threads, and libgomp would wait for them for ever.
bool forked = false;
[[maybe_unused]] const int at_fork = pthread_atfork(nullptr, nullptr, [] { forked = true; });

}  // namespace

bool has_openmp() {
#ifdef _OPENMP
  return true;
#else
  return false;
#endif
}

void Team::wait(int me) {
  if (size_ == 1) return;
  const unsigned steps = slots_[me].steps + 1;
  __atomic_store_n(&slots_[me].steps, steps, __ATOMIC_RELEASE);
  for (int other = 0; other < size_; other++) {
    int spins = 0;
    // The difference is signed: counters may wrap, and others may be one step ahead.
    while (static_cast<int>(__atomic_load_n(&slots_[other].steps, __ATOMIC_ACQUIRE) - steps) < 0) {
      if (++spins < kSpins) pause();
      else sched_yield();
    }
  }
}

void run_team(int threads, void (*body)(void*, Team&, int), void* context) {
  Team team;
  if (threads > kMaxThreads) threads = kMaxThreads;
  for (int i = 0; i < threads; i++) team.slots_[i].steps = 0;
#ifdef _OPENMP
  if (threads > 1 && !forked) {
#pragma omp parallel num_threads(threads)
    {
#pragma omp single
      team.size_ = omp_get_num_threads();  // may be fewer than asked for; the implied barrier shows it to all
      body(context, team, omp_get_thread_num());
    }
    return;
  }
#endif
  body(context, team, 0);
}

}  // namespace fusedrnn
