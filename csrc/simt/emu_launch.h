// SPDX-License-Identifier: MIT
// The state of a running kernel, for the emulator's own files.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <source_location>
#include <span>
#include <string>
#include <vector>

#include "emu_fiber.h"
#include "emu_types.h"

namespace simt::emu {

using Place = std::source_location;  // in the kernel

struct Block;
struct Warp;

// A barrier of all threads of a block, or of all blocks.
struct Barrier {
  std::size_t arrived = 0, exited = 0;
  Place where;  // of the first to arrive
  Order order;
};

// 16 bytes on their way to shared memory. null src: zeros.
struct Copy {
  char* dst;
  const char* src;
  char bytes[16];  // of the source, when the copy was asked for
};

// What the last lane does for all that meet: deposits[lane] is what lane brought, for each bit of lanes.
using WarpOp = void (*)(void* const* deposits, std::uint32_t lanes);

// exchange: of values, and no more; barrier: what lanes wrote before, all see after; whole: needs all 32 lanes.
enum class Meeting : std::uint8_t { exchange, barrier, whole };

enum class State : std::uint8_t { ready, block, warp, grid, done };

struct Thread : Fiber {
  Block* block;
  Warp* warp;
  unsigned lane;
  uint3 index;
  State state = State::ready;
  // Where it waits, and in what:
  const char* what = nullptr;
  Place where;
  std::uint32_t mask = 0;
  Meeting meeting = Meeting::exchange;
  WarpOp op = nullptr;
  void* deposit = nullptr;
  // Copies not yet waited for; groups are their ends, counted in copies.
  std::vector<Copy> copies;
  std::vector<std::size_t> groups;
};

struct Warp {
  Thread* lanes[32] = {};
  std::uint32_t alive = 0, arrived = 0;
  Order order;
};

struct SharedArray {
  std::unique_ptr<char[]> data;
  std::size_t bytes;
};

struct Block {
  uint3 index;
  std::span<Thread> threads;
  Barrier barrier;
  std::map<const void*, SharedArray> fixed;  // by the place of the declaration
  std::vector<SharedArray> carved;           // by ordinal
};

// What to run.
struct Kernel {
  dim3 grid, block;
  std::size_t shared_bytes;
  bool cooperative;
  std::function<void()> body;

  std::size_t blocks() const { return std::size_t{grid.x} * grid.y * grid.z; }
  std::size_t block_threads() const { return std::size_t{block.x} * block.y * block.z; }
};

// Threads that can go on: each at most once.
class Queue {
 public:
  explicit Queue(std::size_t most);
  bool empty() const { return count_ == 0; }
  void push(Thread* thread) { ring_[(head_ + count_++) & mask_] = thread; }
  void push_front(Thread* thread) {
    ring_[--head_ & mask_] = thread;
    count_++;
  }
  // The one after `skip` others, which is below size().
  Thread* pop(std::size_t skip);
  std::size_t size() const { return count_; }

 private:
  std::vector<Thread*> ring_;
  std::size_t mask_, head_ = 0, count_ = 0;
};

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) { runaway_ = below(2) == 0; }
  std::size_t below(std::size_t n);
  // Which of n threads is next, the last being the newest. Half of the kernels let a few threads run as far ahead of the
  // others as they can, most of the time.
  std::size_t next_of(std::size_t n) { return runaway_ && below(16) ? n - 1 : below(n); }

 private:
  std::uint64_t state_;
  bool runaway_;
};

// Blocks that are on the device together: all of a cooperative kernel, else a few.
struct Launch {
  Launch(const Kernel& kernel, std::span<const std::size_t> block_numbers, Random* random);

  const Kernel& kernel;
  Random* random;  // null: threads take turns
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  std::vector<Block> blocks;
  Queue queue;
  Thread* current = nullptr;
  Fiber host;
  std::size_t alive;
  Barrier barrier;
  Order begin, end;
  std::uint64_t switches = 0;
  std::string error;
};
extern Launch* launch;  // null outside kernels

// Schedule, of the thread that runs:
void ready(Thread& thread);       // it may go on
void ready_next(Thread& thread);  // before all others, when threads take turns
void wait();                      // until another thread makes this one ready
[[noreturn]] void leave();        // for ever
[[noreturn]] void fail(const std::string& message);
void start();                     // from the host: runs threads until all have left or one failed

// The exit of the running thread, as barriers and warp see it.
void exit_barriers();
void exit_warp();

std::string hex(std::uint32_t mask);
std::string at(Place where);               // "file:line"
std::string name(const Thread& thread);    // "thread (1,0,0) of block (0,0,0)"

std::string deadlock();                    // who waits where

// Runs the kernel to its end. Returns what was wrong with it, or nothing.
std::string run(const Kernel& kernel);

}  // namespace simt::emu
