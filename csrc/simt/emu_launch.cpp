// SPDX-License-Identifier: MIT
// A kernel from its launch to its end: blocks, warps and threads are set up, run and checked.
#include "emu_launch.h"

#include <algorithm>
#include <numeric>

#include "emu_builtins.h"
#include "emu_device.h"
#include "emu_shared.h"

namespace simt::emu {
namespace {

// Blocks of a launch without grid barriers run in groups, so that they still mix.
constexpr std::size_t kTogether = 4;

uint3 unravel(std::size_t i, dim3 size) {
  return {static_cast<unsigned>(i % size.x), static_cast<unsigned>(i / size.x % size.y),
          static_cast<unsigned>(i / size.x / size.y)};
}

std::size_t warps_of(std::size_t threads) { return (threads + 31) / 32; }

Launch& begin() {
  const Quiet quiet;
  launch->begin.leave();
  return *launch;
}

void thread_main() {
  entered();
  begin().kernel.body();
  {
    const Quiet quiet;
    launch->end.arrive();
    launch->current->state = State::done;
    launch->alive--;
    exit_barriers();
    exit_warp();
  }
  leave();
}

std::string run_together(const Kernel& kernel, std::span<const std::size_t> block_numbers, Random* random) {
  Launch l(kernel, block_numbers, random);
  launch = &l;
  indices.block_size = kernel.block;
  indices.grid_size = kernel.grid;
  l.begin.arrive();
  l.begin.complete();
  start();
  l.end.complete();
  // The thread sanitizer reports those that a failure left unfinished, beside the failure.
  for (Thread& thread : l.threads) destroy(thread);
  if (l.error.empty()) l.error = shared_overrun();
  else forget_stacks();
  device().switches += l.switches;
  launch = nullptr;
  return std::move(l.error);
}

void set_up(Launch& l, std::size_t block, std::size_t i) {
  const std::size_t per_block = l.kernel.block_threads(), number = block * per_block + i;
  Thread& thread = l.threads[number];
  thread.block = &l.blocks[block];
  thread.warp = &l.warps[block * warps_of(per_block) + i / 32];
  thread.lane = i % 32;
  thread.index = unravel(i, l.kernel.block);
  thread.warp->lanes[thread.lane] = &thread;
  thread.warp->alive |= 1u << thread.lane;
  create(thread, number, thread_main);
  l.queue.push(&thread);
}

}  // namespace

Launch::Launch(const Kernel& kernel, std::span<const std::size_t> block_numbers, Random* random)
    : kernel(kernel), random(random), threads(block_numbers.size() * kernel.block_threads()),
      warps(block_numbers.size() * warps_of(kernel.block_threads())), blocks(block_numbers.size()), queue(threads.size()),
      alive(threads.size()) {
  reserve_stacks(threads.size());
  adopt(host);
  const std::size_t per_block = kernel.block_threads();
  for (std::size_t block = 0; block < blocks.size(); block++) {
    blocks[block].index = unravel(block_numbers[block], kernel.grid);
    blocks[block].threads = std::span(threads).subspan(block * per_block, per_block);
    for (std::size_t i = 0; i < per_block; i++) set_up(*this, block, i);
  }
}

std::string run(const Kernel& kernel) {
  const Quiet quiet;
  const Config& config = device().config;
  Random random(config.seed * 1'000'003 + device().launches++);
  Random* const chosen = config.seed ? &random : nullptr;
  std::vector<std::size_t> order(kernel.blocks());
  std::iota(order.begin(), order.end(), 0);
  if (chosen)
    for (std::size_t i = order.size(); i > 1; i--) std::swap(order[i - 1], order[chosen->below(i)]);
  const std::size_t together = kernel.cooperative ? order.size() : kTogether;
  for (std::size_t first = 0; first < order.size(); first += together) {
    const auto blocks = std::span(order).subspan(first, std::min(together, order.size() - first));
    std::string error = run_together(kernel, blocks, chosen);
    if (!error.empty()) return error;
  }
  return {};
}

}  // namespace simt::emu
