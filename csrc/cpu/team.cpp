// SPDX-License-Identifier: MIT
#include "team.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <ctime>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace fusedrnn {
namespace {

// 0.1 to 0.2 ms (a pause takes 40 to 140 cycles). Waking a sleeper takes a virtual machine 50 µs and more: with 500, a call of
// 0.8 ms took 1.2. Who waits longer than this waits for a thread that has lost its core, perhaps to this one.
constexpr int kSpins = 4000;

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// After fork() the child has none of OpenMP's threads, and libgomp would wait for them for ever.
bool forked = false;
int at_work = 0;
[[maybe_unused]] const int at_fork = pthread_atfork(nullptr, nullptr, [] { forked = true, at_work = 0; });

using Nanoseconds = long long;
constexpr Nanoseconds kSecond = 1'000'000'000;
constexpr Nanoseconds kFarthest = 1000;  // of two sockets; a thread that takes longer has lost its processor, and not for long
constexpr Nanoseconds kDoubt = kSecond / 128;
Nanoseconds measured_at = -kSecond;
Nanoseconds believed = kDoubt;  // how long a measurement keeps callers from having a team: longer each time it is confirmed
int meeting = 60;

Nanoseconds now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * kSecond + t.tv_nsec;
}
bool is_old(Nanoseconds age) { return now() - __atomic_load_n(&measured_at, __ATOMIC_RELAXED) > age; }

// Thread `me` of two
void measure(Team& pair, int me) {
  constexpr int kTakes = 4, kMeetings = 4;
  Nanoseconds least = LLONG_MAX;
  pair.wait(me);
  for (int take = 0; take < kTakes; take++) {
    const Nanoseconds begin = now();
    for (int i = 0; i < kMeetings; i++) pair.wait(me);
    least = std::min(least, (now() - begin) / kMeetings);
  }
  if (me == 0) __atomic_store_n(&meeting, int(std::clamp<Nanoseconds>(least, 1, kFarthest)), __ATOMIC_RELAXED);
}

}  // namespace

int meeting_time() { return __atomic_load_n(&meeting, __ATOMIC_RELAXED); }

void measure_meeting() {
  const Nanoseconds age = __atomic_load_n(&believed, __ATOMIC_RELAXED);
  if (!is_old(age)) return;
  run_team(2, [](Team&, int) {});
  __atomic_store_n(&believed, std::min(2 * age, kSecond), __ATOMIC_RELAXED);
}

int threads_at_work() { return __atomic_load_n(&at_work, __ATOMIC_RELAXED); }

bool has_openmp() {
#ifdef _OPENMP
  return true;
#else
  return false;
#endif
}

// Sleeping instead of yielding: with two other busy processes on two cores, a call of 1.4 ms took 372 with sched_yield.
void Team::wait(int me) {
  if (size_ == 1) return;
  const unsigned steps = slots_[me].steps + 1;
  __atomic_store_n(&slots_[me].steps, steps, __ATOMIC_RELEASE);
  if (__atomic_load_n(&sleepers_, __ATOMIC_RELAXED)) syscall(SYS_futex, &slots_[me].steps, FUTEX_WAKE_PRIVATE, INT_MAX);
  for (int other = 0; other < size_; other++) {
    // The difference is signed: counters may wrap, and others may be one step ahead.
    const auto missing = [&](unsigned now) { return static_cast<int>(now - steps) < 0; };
    const unsigned* theirs = &slots_[other].steps;
    for (int spins = 0; spins < kSpins && missing(__atomic_load_n(theirs, __ATOMIC_ACQUIRE)); spins++) pause();
    if (!missing(__atomic_load_n(theirs, __ATOMIC_ACQUIRE))) continue;
    // Without a fence above (it would cost 4 % of small steps) the other may miss this sleeper: hence the timeout.
    __atomic_add_fetch(&sleepers_, 1, __ATOMIC_SEQ_CST);
    constexpr timespec kMostSleep{0, 1'000'000};
    for (unsigned now; missing(now = __atomic_load_n(theirs, __ATOMIC_ACQUIRE));)
      syscall(SYS_futex, theirs, FUTEX_WAIT_PRIVATE, now, &kMostSleep);
    __atomic_sub_fetch(&sleepers_, 1, __ATOMIC_SEQ_CST);
  }
}

void run_team(int threads, void (*body)(void*, Team&, int), void* context) {
  Team team, pair;
  if (threads > kMaxThreads) threads = kMaxThreads;
  for (int i = 0; i < threads; i++) team.slots_[i].steps = 0;
  const bool measures = threads > 1 && is_old(kDoubt);
  if (measures) {
    __atomic_store_n(&measured_at, now(), __ATOMIC_RELAXED);
    __atomic_store_n(&believed, kDoubt, __ATOMIC_RELAXED);
    pair.slots_[0].steps = pair.slots_[1].steps = 0;
    pair.size_ = 2;
  }
  __atomic_add_fetch(&at_work, threads, __ATOMIC_RELAXED);
#ifdef _OPENMP
  if (threads > 1 && !forked) {
#pragma omp parallel num_threads(threads)
    {
#pragma omp single
      team.size_ = omp_get_num_threads();  // may be fewer than asked for; the implied barrier shows it to all
      const int me = omp_get_thread_num();
      if (measures && team.size_ > 1 && me < 2) measure(pair, me);
      body(context, team, me);
    }
  } else
#endif
    body(context, team, 0);
  __atomic_sub_fetch(&at_work, threads, __ATOMIC_RELAXED);
}

}  // namespace fusedrnn
