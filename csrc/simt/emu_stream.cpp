// SPDX-License-Identifier: MIT
#include "emu_stream.h"

#include <algorithm>
#include <memory>

#include "emu_device.h"

namespace simt::emu {
namespace {

// For ever, as device().
template <class T> using Owned = std::vector<std::unique_ptr<T>>;
CUstream_st& default_stream = *new CUstream_st{true, {}};
Owned<CUstream_st>& streams = *new Owned<CUstream_st>;  // those that were created
Owned<CUevent_st>& events = *new Owned<CUevent_st>;
std::uint64_t last_ticket = 0;

template <class T> auto find(Owned<T>& all, const T* one) {
  return std::find_if(all.begin(), all.end(), [&](const auto& other) { return other.get() == one; });
}

bool is_event(cudaEvent_t event) { return find(events, event) != events.end(); }

// The default stream waits for all blocking ones, and they wait for it.
std::vector<Position> implied(CUstream_st& stream) {
  std::vector<Position> after;
  if (&stream == &default_stream) {
    for (const auto& other : streams)
      if (other->blocking) after.push_back(last_work(*other));
  } else if (stream.blocking) {
    after.push_back(last_work(default_stream));
  }
  return after;
}

}  // namespace

CUstream_st* find_stream(cudaStream_t stream) {
  if (!stream) return &default_stream;
  return find(streams, stream) == streams.end() ? nullptr : stream;
}

void add_work(CUstream_st& stream, std::function<void()> run, Position after) {
  std::vector<Position> all = implied(stream);
  all.push_back(after);
  stream.work.push_back({++last_ticket, std::move(all), std::move(run)});
}

Position last_work(CUstream_st& stream) { return {&stream, stream.work.empty() ? 0 : stream.work.back().ticket}; }

// A stream that is gone has done its work; so has one of the same address with newer tickets.
bool is_done(Position position) {
  const CUstream_st* const stream = position.stream;
  if (stream != &default_stream && find(streams, stream) == streams.end()) return true;
  return stream->work.empty() || stream->work.front().ticket > position.ticket;
}

// Ends, since work waits for smaller tickets only. A kernel that fails empties all streams.
void run_until(Position position) {
  while (!is_done(position)) {
    const Work work = std::move(position.stream->work.front());
    position.stream->work.pop_front();
    for (const Position& before : work.after) run_until(before);
    if (device().sticky == cudaSuccess) work.run();
  }
}

void finish_all() {
  run_until(last_work(default_stream));
  for (const auto& stream : streams) run_until(last_work(*stream));
}

void drop_all_work() {
  default_stream.work.clear();
  for (const auto& stream : streams) stream->work.clear();
}

}  // namespace simt::emu

using namespace simt::emu;

cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, cudaStreamDefault); }

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  const Call call;
  if (call.refused()) return call(cudaSuccess);
  if (!stream || (flags & ~cudaStreamNonBlocking)) return call(cudaErrorInvalidValue);
  streams.push_back(std::make_unique<CUstream_st>(flags != cudaStreamNonBlocking));
  *stream = streams.back().get();
  return call(cudaSuccess);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const Call call;
  if (find(streams, stream) == streams.end()) return call(cudaErrorInvalidResourceHandle);
  run_until(last_work(*stream));
  streams.erase(find(streams, stream));
  return call(cudaSuccess);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const Call call;
  CUstream_st* const found = find_stream(stream);
  if (!found) return call(cudaErrorInvalidResourceHandle);
  run_until(last_work(*found));
  return call(cudaSuccess);
}

cudaError_t cudaDeviceSynchronize() {
  const Call call;
  finish_all();
  return call(cudaSuccess);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
  const Call call;
  CUstream_st* const found = find_stream(stream);
  if (!found || !is_event(event)) return call(cudaErrorInvalidResourceHandle);
  if (flags) return call(cudaErrorInvalidValue);
  if (!call.refused()) add_work(*found, [] {}, event->recorded);
  return call(cudaSuccess);
}

cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  const Call call;
  if (call.refused()) return call(cudaSuccess);
  if (!event || (flags & ~cudaEventDisableTiming)) return call(cudaErrorInvalidValue);
  events.push_back(std::make_unique<CUevent_st>());
  events.back()->timed = flags != cudaEventDisableTiming;
  *event = events.back().get();
  return call(cudaSuccess);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const Call call;
  CUstream_st* const found = find_stream(stream);
  if (!found || !is_event(event)) return call(cudaErrorInvalidResourceHandle);
  if (call.refused()) return call(cudaSuccess);
  add_work(*found, [event] {
    if (is_event(event)) event->time = std::chrono::steady_clock::now();
  });
  event->recorded = last_work(*found);
  return call(cudaSuccess);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const Call call;
  if (!is_event(event)) return call(cudaErrorInvalidResourceHandle);
  run_until(event->recorded);
  return call(cudaSuccess);
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  const Call call;
  for (const cudaEvent_t event : {start, end}) {
    if (!is_event(event) || !event->timed || !event->recorded.stream) return call(cudaErrorInvalidResourceHandle);
    if (!is_done(event->recorded)) return call(cudaErrorNotReady);
  }
  if (!milliseconds) return call(cudaErrorInvalidValue);
  *milliseconds = std::chrono::duration<float, std::milli>(end->time - start->time).count();
  return call(cudaSuccess);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const Call call;
  if (!is_event(event)) return call(cudaErrorInvalidResourceHandle);
  events.erase(find(events, event));
  return call(cudaSuccess);
}
