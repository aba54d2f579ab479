// SPDX-License-Identifier: MIT
#include "emu_warp.h"

#include <bit>

#include "emu_meet.h"

namespace simt::emu {
namespace {

bool complete(const Warp& warp, std::uint32_t mask) {
  const std::uint32_t lanes = mask & warp.alive;
  if ((warp.arrived & lanes) != lanes) return false;
  for (std::uint32_t rest = lanes; rest; rest &= rest - 1)
    if (warp.lanes[std::countr_zero(rest)]->mask != mask) return false;
  return true;
}

void release(Warp& warp, std::uint32_t mask) {
  const std::uint32_t lanes = mask & warp.alive;
  const Thread& first = *warp.lanes[std::countr_zero(lanes)];
  void* deposits[32] = {};
  for (std::uint32_t rest = lanes; rest; rest &= rest - 1) {
    const Thread& thread = *warp.lanes[std::countr_zero(rest)];
    if (thread.op != first.op || thread.what != first.what)
      fail("lanes of a warp meet in different calls: " + name(first) + " in " + first.what + " at " + at(first.where) + ", " +
           name(thread) + " in " + thread.what + " at " + at(thread.where));
    deposits[thread.lane] = thread.deposit;
  }
  if (first.meeting == Meeting::whole && lanes != ~0u)
    fail(name(first) + " is in " + first.what + " at " + at(first.where) + ", which needs all 32 lanes of its warp, and has " +
         hex(lanes));
  if (first.op) first.op(deposits, lanes);
  warp.order.complete();
  warp.arrived &= ~lanes;
  // A warp that goes on while its stacks are in the cache takes half the time.
  for (int lane = 31; lane >= 0; lane--)
    if (lanes >> lane & 1) ready_next(*warp.lanes[lane]);
}

struct Exchange {
  std::uint64_t value, result;
  int source;
};

void exchange_all(void* const* deposits, std::uint32_t lanes) {
  for (std::uint32_t rest = lanes; rest; rest &= rest - 1) {
    Exchange& mine = *static_cast<Exchange*>(deposits[std::countr_zero(rest)]);
    const bool there = mine.source >= 0 && mine.source < 32 && (lanes >> mine.source & 1);
    mine.result = there ? static_cast<const Exchange*>(deposits[mine.source])->value : ~std::uint64_t{0};
  }
}

void ballot_all(void* const* deposits, std::uint32_t lanes) {
  std::uint64_t votes = 0;
  for (std::uint32_t rest = lanes; rest; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    votes |= static_cast<const Exchange*>(deposits[lane])->value << lane;
  }
  for (std::uint32_t rest = lanes; rest; rest &= rest - 1)
    static_cast<Exchange*>(deposits[std::countr_zero(rest)])->result = votes;
}

}  // namespace

void meet_warp(std::uint32_t mask, void* deposit, WarpOp op, Meeting meeting, const char* what, Place where) {
  Thread& thread = *launch->current;
  Warp& warp = *thread.warp;
  if (!(mask >> thread.lane & 1))
    fail(name(thread) + " is in " + what + " at " + at(where) + " with mask " + hex(mask) + ", which leaves out its own lane " +
         std::to_string(thread.lane));
  thread.state = State::warp;
  thread.what = what;
  thread.where = where;
  thread.mask = mask;
  thread.meeting = meeting;
  thread.op = op;
  thread.deposit = deposit;
  warp.arrived |= 1u << thread.lane;
  if (meeting == Meeting::barrier) warp.order.arrive();
  if (complete(warp, mask)) release(warp, mask);
  wait();
  if (meeting == Meeting::barrier) warp.order.leave();
}

// Others may have waited for nobody but this thread.
void exit_warp() {
  Thread& thread = *launch->current;
  Warp& warp = *thread.warp;
  warp.alive &= ~(1u << thread.lane);
  for (int lane = 0; lane < 32; lane++)
    if ((warp.arrived >> lane & 1) && complete(warp, warp.lanes[lane]->mask)) release(warp, warp.lanes[lane]->mask);
}

void sync_warp(std::uint32_t mask, Place where) {
  const Quiet quiet;
  meet_warp(mask, nullptr, nullptr, Meeting::barrier, "__syncwarp", where);
}

Lane lane(int width) {
  const Quiet quiet;
  const int own = static_cast<int>(launch->current->lane), first = own & -width;
  return {own, first, first + width};
}

std::uint64_t exchange(std::uint32_t mask, std::uint64_t value, int source, const char* what, Place where) {
  const Quiet quiet;
  Exchange mine{value, 0, source};
  meet_warp(mask, &mine, exchange_all, Meeting::exchange, what, where);
  return mine.result;
}

std::uint32_t ballot(std::uint32_t mask, bool vote, const char* what, Place where) {
  const Quiet quiet;
  Exchange mine{vote, 0, 0};
  meet_warp(mask, &mine, ballot_all, Meeting::exchange, what, where);
  return static_cast<std::uint32_t>(mine.result);
}

}  // namespace simt::emu
