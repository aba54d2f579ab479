// SPDX-License-Identifier: MIT
// Streams and events: work waits until somebody waits for it, and then no more is done than that needs. So a result that was
// not waited for is not there, and work that was not ordered by an event comes in the wrong order.
#pragma once
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <vector>

#include "emu_runtime.h"

namespace simt::emu {

// A stream's work up to a ticket; tickets grow over all streams.
struct Position {
  CUstream_st* stream = nullptr;
  std::uint64_t ticket = 0;
};

struct Work {
  std::uint64_t ticket;
  std::vector<Position> after;
  std::function<void()> run;
};

// The stream that the API's argument means, or null.
CUstream_st* find_stream(cudaStream_t stream);
// after: what else it has to wait for.
void add_work(CUstream_st& stream, std::function<void()> run, Position after = {});
Position last_work(CUstream_st& stream);
bool is_done(Position position);
void run_until(Position position);
void finish_all();
// After an error nothing more is done.
void drop_all_work();

}  // namespace simt::emu

struct CUstream_st {
  bool blocking;  // waits for the default stream, and it for this one
  std::deque<simt::emu::Work> work;
};

struct CUevent_st {
  bool timed = true;
  simt::emu::Position recorded;                // nothing, before it is
  std::chrono::steady_clock::time_point time;  // when it came to pass
};
