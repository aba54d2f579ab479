// SPDX-License-Identifier: MIT
// Which thread runs next: a turn ends only where a thread waits for others, so that a seed gives one order.
#include <bit>
#include <cstdio>
#include <cstring>
#include <map>

#include "emu_builtins.h"
#include "emu_launch.h"

namespace simt::emu {

Launch* launch = nullptr;
Indices indices{};

Queue::Queue(std::size_t most) : ring_(std::bit_ceil(most)), mask_(ring_.size() - 1) {}

Thread* Queue::pop(std::size_t skip) {
  if (skip + 1 == count_) return ring_[(head_ + --count_) & mask_];
  std::swap(ring_[(head_ + skip) & mask_], ring_[head_ & mask_]);
  count_--;
  return ring_[head_++ & mask_];
}

// splitmix64 (Steele, Lea and Flood 2014)
std::size_t Random::below(std::size_t n) {
  std::uint64_t z = state_ += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return (z >> 32) * n >> 32;
}

namespace {

// The next thread that can go on, made the one that runs, or the host if there is none.
Fiber& choose() {
  Launch& l = *launch;
  if (l.queue.empty()) {
    if (l.alive && l.error.empty()) l.error = deadlock();
    return l.host;
  }
  Thread& next = *l.queue.pop(l.random ? l.random->next_of(l.queue.size()) : 0);
  l.current = &next;
  l.switches++;
  indices.thread = next.index;
  indices.block = next.block->index;
  return next;
}

}  // namespace

void ready(Thread& thread) {
  thread.state = State::ready;
  launch->queue.push(&thread);
}

void ready_next(Thread& thread) {
  thread.state = State::ready;
  if (launch->random) launch->queue.push(&thread);
  else launch->queue.push_front(&thread);
}

void wait() {
  Thread& thread = *launch->current;
  constexpr std::ptrdiff_t kSpare = 2048;  // for what the emulator itself calls
  if (static_cast<char*>(__builtin_frame_address(0)) - thread.stack < kSpare)
    fail(name(thread) + " uses more than its " + std::to_string(kStackBytes) + " bytes of stack");
  Fiber& next = choose();
  if (&next != &thread) switch_fiber(thread, next, false);
}

void leave() {
  Fiber *from, *next;
  {
    const Quiet quiet;
    from = launch->current;
    next = &choose();
  }
  switch_fiber(*from, *next, true);
  __builtin_unreachable();
}

void start() { switch_fiber(launch->host, choose(), false); }

void fail(const std::string& message) {
  if (launch->error.empty()) launch->error = message;
  switch_fiber(*launch->current, launch->host, false);
  __builtin_unreachable();
}

std::string hex(std::uint32_t mask) {
  char text[11];
  std::snprintf(text, sizeof text, "0x%08x", mask);
  return text;
}

std::string at(Place where) {
  const char* slash = std::strrchr(where.file_name(), '/');
  return std::string(slash ? slash + 1 : where.file_name()) + ":" + std::to_string(where.line());
}

std::string name(const Thread& thread) {
  const auto triple = [](uint3 i) {
    return "(" + std::to_string(i.x) + "," + std::to_string(i.y) + "," + std::to_string(i.z) + ")";
  };
  return "thread " + triple(thread.index) + " of block " + triple(thread.block->index);
}

std::string deadlock() {
  std::map<std::string, std::size_t> waiting;
  for (const Thread& thread : launch->threads) {
    if (thread.state == State::done) {
      waiting["have exited"]++;
      continue;
    }
    std::string where = std::string("in ") + thread.what + " at " + at(thread.where);
    if (thread.state == State::warp) where += " with mask " + hex(thread.mask);
    waiting[where]++;
  }
  std::string text;
  for (const auto& [where, count] : waiting)
    text += (text.empty() ? "deadlock: " : ", ") + std::to_string(count) + " threads " + where;
  return text;
}

}  // namespace simt::emu
