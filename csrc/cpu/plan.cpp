// SPDX-License-Identifier: MIT
#include "plan.h"

#ifdef _OPENMP
#include <omp.h>
#endif

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "team.h"

namespace fusedrnn {
namespace {

// Measured on 2 cores of a Zen 4 (about 100 operations a nanosecond a core, a barrier 0.1 to 0.4 µs, waking OpenMP's
// threads 1 to 3 µs): a thread must have this much to do between two barriers, and in the whole call.
constexpr double kOperationsPerStep = 16e3, kOperationsPerCall = 400e3;

// What it must have between two barriers for each nanosecond that a barrier takes. Measured on a Zen 5 whose processors meet in
// 62 ns at times, at others in 350: there two threads take as long as one at 300 to 400 operations a step and nanosecond.
constexpr double kOperationsPerNanosecond = 250;

// Rows of a chunk of time. Forward: the input part of all gates stays in cache. Backward: the gradients of the weights, read
// and written once a chunk, are larger still (384 against 192: LSTM training 0.88 to 1.0 of the time, 768 equal).
constexpr long kForwardRows = 192, kBackwardRows = 384;

int from_environment(const char* name) {
  const char* text = std::getenv(name);
  if (!text) return 0;
  const long n = std::strtol(text, nullptr, 10);  // OMP_NUM_THREADS may be a list: its first number counts
  return n > 0 ? int(std::min<long>(n, kMaxThreads)) : 0;
}

constexpr long kWeightsOfEach = 128 << 10;  // values of W_hh that every thread may read in every step

// Those allowed to the process by taskset, a container or a batch system. OpenMP knows them even where it has bound this
// thread to one of them (OMP_PROC_BIND).
int processors() {
#ifdef _OPENMP
  return std::clamp(omp_get_num_procs(), 1, kMaxThreads);
#else
  return 1;
#endif
}

int default_threads() {
  static const int wanted = [] {  // read once: the environment may change while a call without the GIL reads it
    for (const char* name : {"FUSEDRNN_NUM_THREADS", "OMP_NUM_THREADS"})
      if (const int n = from_environment(name)) return n;
    return 0;
  }();
  return wanted ? wanted : processors();
}

std::atomic<int> chosen{0};
std::atomic<bool> oversubscribe{false};
thread_local int limit = 0;  // of ThreadLimit; 0: none

// As many threads as the work is worth, are allowed and find a processor: those that share one only wait for one another.
// So of two calls at the same time each soon has half of the processors.
int threads_for(double worth) {
  if (worth < 2) return 1;
  const int free = oversubscribe ? kMaxThreads : std::max(1, processors() - threads_at_work());
  return int(std::min({worth, double(num_threads()), double(free), double(limit ? limit : kMaxThreads)}));
}

}  // namespace

ThreadLimit::ThreadLimit(int most) { limit = std::max(most, 0); }
ThreadLimit::~ThreadLimit() { limit = 0; }

int num_threads() {
  if (!has_openmp()) return 1;
  const int n = chosen.load();
  return n ? n : default_threads();
}

void set_num_threads(int n, bool beyond_processors) {
  if (n < 1) throw std::invalid_argument("num_threads: expected at least 1, got " + std::to_string(n));
  chosen.store(std::min(n, kMaxThreads));
  oversubscribe.store(beyond_processors);
}

int threads_of_units(int most, double step, int meeting) {
  return int(std::clamp(step / (kOperationsPerNanosecond * meeting) + 0.5, 1., double(std::max(most, 1))));
}

Plan plan_scan(const Sizes& z, int gates, int width, bool backward, bool ragged) {
  const long projection = z.projected() ? z.P * z.H : 0, scanned = gates * z.H * z.P + projection;  // weights of a step
  const double step = 2. * z.N * (scanned + gates * z.H * z.I), call = step * z.T;
  const long blocks = (z.H + width - 1) / width;
  Plan plan{};
  plan.chunk_rows = backward ? kBackwardRows : kForwardRows;
  const int most = threads_for(std::min(step / kOperationsPerStep, call / kOperationsPerCall) + 0.5);
  // By rows: no barrier in the scan, and h (N, P) stays with its thread, but every thread reads all of W_hh (G*H, P). Right for
  // many rows and weights that stay in each core's cache. (RNN 64,16,128 and 64,32,256 0.92 of the time, RNN 64,8,64 0.67, LSTM
  // 64,32,64 and 256,128,64 0.9; by units: LSTM 64,16,128 0.83, GRU 64,32,128 0.93.) With vectors of 8 (AVX2, Zen 3), from
  // 8 rows a thread on, by rows is as fast, and takes 0.7 to 0.9 of the time where other programs disturb: no thread waits.
  // Ragged batches go by units: each thread would multiply the few rows that its longest ones leave by all of W_hh (AVX2, mean
  // length 0.28 T: LSTM 64,32,256 0.65 of the time, GRU 64,64,128 0.7).
  const bool many = gates * z.H <= 8 * z.N && scanned <= kWeightsOfEach && z.N >= 4 * most;
  const bool narrow = width <= 8 && scanned <= 2 * kWeightsOfEach && z.N >= 8 * most;
  plan.by_rows = (many || narrow) && most > 1 && !ragged;
  plan.threads = plan.by_rows ? most : int(std::min<long>(most, blocks));
  if (plan.threads > 1 && !plan.by_rows && !oversubscribe) {
    plan.threads = threads_of_units(plan.threads, step, meeting_time());
    if (plan.threads == 1) measure_meeting();
  }
  return plan;
}

Plan plan_scan_rows(const Sizes& z, int gates, bool backward) {
  const double call = 2. * z.T * z.N * z.H * (gates * (z.P + z.I) + (z.projected() ? z.P : 0));
  const int threads = int(std::min<long>(threads_for(call / kOperationsPerCall + 0.5), z.N));
  return {threads, true, backward ? kBackwardRows : kForwardRows};
}

int plan_rows(long rows, double operations_per_row) {
  return int(std::min<long>(threads_for(rows * operations_per_row / kOperationsPerCall + 0.5), rows));
}

}  // namespace fusedrnn
