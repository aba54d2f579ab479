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

// A thread with rows of its own waits for nobody, but its tiles are smaller: in the whole call it must have so much to do.
constexpr double kOperationsPerRowsCall = 1e6;

// Rows of a chunk of time. Forward: the input part of all gates stays in cache. Backward: the gradients of the weights, read
// and written once a chunk, are larger still (384 against 192: LSTM training 0.88 to 1.0 of the time, 768 equal).
constexpr long kForwardRows = 192, kBackwardRows = 384;

// 0: nothing is said. Of OMP_NUM_THREADS, which may be a list, the first number counts; of nonsense in it OpenMP warns.
int threads_of_environment() {
  const char *own = std::getenv("FUSEDRNN_NUM_THREADS"), *text = own && *own ? own : std::getenv("OMP_NUM_THREADS");
  if (!text) return 0;
  char* end;
  const long n = std::strtol(text, &end, 10);
  if (text == own && (n < 1 || *end))
    throw std::invalid_argument("FUSEDRNN_NUM_THREADS: expected a number of at least 1, got '" + std::string(own) + "'");
  return int(std::clamp<long>(n, 0, kMaxThreads));
}

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
  static const int wanted = threads_of_environment();  // once: it may change while a call without the GIL reads it
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

namespace {

// Values of W_hh, and of a projection
long scanned(const Sizes& z, int gates) { return gates * z.H * z.P + (z.projected() ? z.P * z.H : 0); }
double operations(const Sizes& z, int gates) { return 2. * z.N * (scanned(z, gates) + gates * z.H * z.I); }
double largest_share(long all, long threads) { return double((all + threads - 1) / threads) / all; }

}  // namespace

// A thread that splits rows waits for nobody, and h (N, P) stays with it, but it reads all of W_hh (G*H, P) in every step, and
// W_ih (G*H, I) in every chunk, from its cache, where they have to fit. Nanoseconds of a step both ways, for vectors of `width`
// values: 3 a nanosecond are multiplied, 2.2 read from a second-level cache; one comes from another core in 4. Measured, with
// other shares of both:
//   Zen 4, 72 ns   by rows RNN 64,16,128 and 64,32,256 0.92 of the time by units, RNN 64,8,64 0.67, LSTM 64,32,64 0.9;
//                  but LSTM 64,16,128 1.2, GRU 64,32,128 1.08
//   Xeon, 190 ns   what this chooses for 2 to 16 rows of 20 to 160 units 0.90 of the time by units, LSTM 30,7,33 0.62
// With vectors of 8 (AVX2, Zen 3), from 8 rows a thread on, by rows is as fast, and takes 0.7 to 0.9 of the time where other
// programs disturb: no thread waits.
int threads_of_rows(int most, int of_units, const Sizes& z, int gates, int width, int meeting) {
  constexpr long kWeightsOfEach = 128 << 10;
  const double step = operations(z, gates), blocks = (z.H + width - 1) / width;
  const double read = scanned(z, gates) + double(gates) * z.H * z.I * std::min(1., double(z.N) / kForwardRows);
  const int threads = int(std::min({double(most), step * z.T / kOperationsPerRowsCall + 0.5, double(z.N)}));
  if (threads < 2) return 1;
  if (width <= 8 && scanned(z, gates) <= 2 * kWeightsOfEach && z.N >= 8 * threads) return threads;
  const double multiplied = step / (6.25 * width), others = 1 - 1. / threads;
  const double by_rows = multiplied * largest_share(z.N, threads) + others * read / width / 2.2;
  const double by_units =
      multiplied * largest_share(blocks, of_units) + (of_units > 1 ? 1.5 * meeting + others * z.N * z.P / width * 4 : 0);
  return scanned(z, gates) <= kWeightsOfEach && by_rows < by_units ? threads : 1;
}

Plan plan_scan(const Sizes& z, int gates, int width, bool backward, bool ragged) {
  const double step = operations(z, gates);
  const int most = threads_for(std::min(step / kOperationsPerStep, step * z.T / kOperationsPerCall) + 0.5);
  int of_units = int(std::min<long>(most, (z.H + width - 1) / width));
  const bool counts = of_units > 1 && !oversubscribe;
  if (counts) of_units = threads_of_units(of_units, step, meeting_time());
  // Ragged batches go by units, if not near the first-level cache: each thread would multiply the few rows that its longest
  // ones leave by all of W_hh (AVX2, mean length 0.28 T: LSTM 64,32,256 0.65 of the time by rows, GRU 64,64,128 0.7; but by
  // rows RNN 400,32,64 0.68 of that by units, RNN 1000,8,128 0.83).
  constexpr long kWeightsOfRagged = 16 << 10;
  const int of_rows =
      ragged && scanned(z, gates) > kWeightsOfRagged ? 1 : threads_of_rows(most, of_units, z, gates, width, meeting_time());
  if (counts && of_units == 1 && of_rows == 1) measure_meeting();
  return {of_rows > 1 ? of_rows : of_units, of_rows > 1, backward ? kBackwardRows : kForwardRows};
}

Plan plan_scan_rows(const Sizes& z, int gates, bool backward) {
  const double call = operations(z, gates) * z.T;
  const int threads = int(std::min<long>(threads_for(call / kOperationsPerCall + 0.5), z.N));
  return {threads, true, backward ? kBackwardRows : kForwardRows};
}

int plan_rows(long rows, double operations_per_row) {
  return int(std::min<long>(threads_for(rows * operations_per_row / kOperationsPerCall + 0.5), rows));
}

}  // namespace fusedrnn
