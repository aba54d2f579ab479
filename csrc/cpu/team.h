// SPDX-License-Identifier: MIT
// The threads of one call and their barrier. Everything here runs in code compiled for any processor.
#pragma once

namespace fusedrnn {

constexpr int kMaxThreads = 256;

class Team {
 public:
  int size() const { return size_; }
  // Returns when every thread has called it as often as this one. Spins, then sleeps until the last one comes.
  void wait(int me);

 private:
  friend void run_team(int threads, void (*body)(void* context, Team&, int me), void* context);
  // One counter a thread, each on its own pair of cache lines (processors fetch lines in pairs).
  struct alignas(128) Slot { unsigned steps; };
  int size_ = 1;
  int sleepers_ = 0;
  Slot slots_[kMaxThreads];
};

// Runs body(context, team, me) on up to `threads` threads of OpenMP's pool, the caller's among them; team.size() says how
// many came.
void run_team(int threads, void (*body)(void* context, Team&, int me), void* context);

// f(team, me) on every thread.
template <class F> void run_team(int threads, F&& f) {
  run_team(threads, [](void* context, Team& team, int me) { (*static_cast<F*>(context))(team, me); }, &f);
}

// Nanoseconds that two threads take to meet at a barrier: 60 where they share a cache, some hundred where they do not. Teams
// measure it while they work, a microsecond in eight milliseconds at the most, for a virtual machine's processors may move.
int meeting_time();
// The same by a team that does nothing else, ever more seldom while nothing changes: for callers that would have one if it
// were less.
void measure_meeting();

// Threads that run a body now, those of all callers together
int threads_at_work();

bool has_openmp();

}  // namespace fusedrnn
