// SPDX-License-Identifier: MIT
// Barriers of a block and of the grid. Stricter than the GPU: all threads must take part, and from the same line.
#include <span>

#include "emu_builtins.h"
#include "emu_launch.h"

namespace simt::emu {
namespace {

void meet(Barrier& barrier, std::span<Thread> members, State state, const char* what, Place where) {
  Thread& thread = *launch->current;
  if (barrier.exited)
    fail(name(thread) + " is in " + what + " at " + at(where) + " after " + std::to_string(barrier.exited) +
         " threads have exited");
  if (barrier.arrived == 0) barrier.where = where;
  if (barrier.where.line() != where.line() || barrier.where.column() != where.column())
    fail("divergent " + std::string(what) + ": " + name(thread) + " is at " + at(where) + ", others (" +
         std::to_string(barrier.arrived) + ") at " + at(barrier.where));
  thread.state = state;
  thread.what = what;
  thread.where = where;
  barrier.order.arrive();
  if (++barrier.arrived == members.size()) {
    barrier.arrived = 0;
    barrier.order.complete();
    for (Thread& member : members) ready(member);
  }
  wait();
  barrier.order.leave();
}

void exit(Barrier& barrier, const char* what) {
  barrier.exited++;
  if (barrier.arrived)
    fail(name(*launch->current) + " exits while " + std::to_string(barrier.arrived) + " threads wait in " + what + " at " +
         at(barrier.where));
}

constexpr const char* kBlock = "__syncthreads";
constexpr const char* kGrid = "grid_sync";

}  // namespace

void sync_block(Place where) {
  const Quiet quiet;
  Block& block = *launch->current->block;
  meet(block.barrier, block.threads, State::block, kBlock, where);
}

void sync_grid(Place where) {
  const Quiet quiet;
  if (!launch->kernel.cooperative) fail("grid_sync at " + at(where) + " in a launch that is not cooperative");
  meet(launch->barrier, launch->threads, State::grid, kGrid, where);
}

void exit_barriers() {
  exit(launch->current->block->barrier, kBlock);
  exit(launch->barrier, kGrid);
}

// Orders all threads that call it, which is more than a GPU promises without an atomic read of what was written.
void fence() {
#if SIMT_TSAN
  static char order;
  __tsan_acquire(&order);
  __tsan_release(&order);
#endif
}

}  // namespace simt::emu
