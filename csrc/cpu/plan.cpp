// SPDX-License-Identifier: MIT
#include "plan.h"

#include <sched.h>

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

// Rows of a chunk of time: its input part or gate gradients stay in cache (384 against 192: LSTM training 0.88 to 1.0 of the time, 768 equal).
constexpr long kChunkRows = 384;

int from_environment(const char* name) {
  const char* text = std::getenv(name);
  if (!text) return 0;
  const long n = std::strtol(text, nullptr, 10);  // OMP_NUM_THREADS may be a list: its first number counts
  return n > 0 ? int(std::min<long>(n, kMaxThreads)) : 0;
}

int default_threads() {
  for (const char* name : {"FUSEDRNN_NUM_THREADS", "OMP_NUM_THREADS"})
    if (const int n = from_environment(name)) return n;
  cpu_set_t allowed;  // by taskset, a container, a batch system
  CPU_ZERO(&allowed);
  return sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? std::clamp(CPU_COUNT(&allowed), 1, kMaxThreads) : 1;
}

std::atomic<int> chosen{0};

}  // namespace

int num_threads() {
  if (!has_openmp()) return 1;
  const int n = chosen.load();
  return n ? n : default_threads();
}

void set_num_threads(int n) {
  if (n < 1) throw std::invalid_argument("num_threads: expected at least 1, got " + std::to_string(n));
  chosen.store(std::min(n, kMaxThreads));
}

Plan plan_scan(const Sizes& z, int gates, int width) {
  const double step = 2. * z.N * gates * z.H * (z.H + z.I), call = step * z.T;
  const long blocks = (z.H + width - 1) / width;
  Plan plan{};
  plan.chunk_steps = std::max(1L, kChunkRows / z.N);
  const long most = std::min({double(num_threads()), step / kOperationsPerStep + 0.5, call / kOperationsPerCall + 0.5});
  // No barrier in the scan, but every thread reads all of W_hh: right for many rows and few weights.
  plan.by_rows = z.N >= 16 && z.H <= 128 && z.N >= 4 * most && most > 1;
  plan.threads = int(std::max(1L, plan.by_rows ? most : std::min(most, blocks)));
  return plan;
}

int plan_rows(long rows, double operations_per_row) {
  const double most = std::min(double(num_threads()), rows * operations_per_row / kOperationsPerCall + 0.5);
  return int(std::clamp<long>(long(most), 1, rows));
}

}  // namespace fusedrnn
