// SPDX-License-Identifier: MIT
// How many threads a call gets, and how they share it.
#pragma once
#include "../args.h"

namespace fusedrnn {

// The most threads a call may use: set_num_threads(), else FUSEDRNN_NUM_THREADS, OMP_NUM_THREADS, else the processors
// this process may run on. No call uses more than there are such processors, unless told to.
int num_threads();
void set_num_threads(int n, bool beyond_processors = false);  // throws std::invalid_argument below 1

// While it lives, the plans that this thread makes have no more threads than that; 0 is no limit.
class ThreadLimit {
 public:
  explicit ThreadLimit(int most);
  ~ThreadLimit();
};

// Of `most` threads as many as are worth their barrier, if they share the units of a step of so many operations and two of
// them take `meeting` nanoseconds to meet.
int threads_of_units(int most, double step, int meeting);
// Of `most` threads as many as should split the rows of a scan, where so many would split its units; 1 if none should.
int threads_of_rows(int most, int of_units, const Sizes& size, int gates, int width, int meeting);
// width: units in a vector; ragged: steps have fewer and fewer rows, size.N on average
Plan plan_scan(const Sizes& size, int gates, int width, bool backward, bool ragged);
// By rows, whatever the shape: for cells that need all units of a row at once
Plan plan_scan_rows(const Sizes& size, int gates, bool backward);
// For work that threads share by rows without barriers.
int plan_rows(long rows, double operations_per_row);

}  // namespace fusedrnn
