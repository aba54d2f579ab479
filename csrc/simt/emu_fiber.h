// SPDX-License-Identifier: MIT
// Fibers: stacks that take turns in one OS thread. They know nothing of CUDA.
#pragma once
#include <cstddef>

#include "emu_sanitizers.h"

namespace simt::emu {

struct Fiber {
  void* sp = nullptr;  // where it goes on, while another one runs
  char* stack = nullptr;
  std::size_t stack_bytes = 0;
  void* asan = nullptr;  // as the sanitizers call it
  void* tsan = nullptr;
};

constexpr std::size_t kStackBytes = (SIMT_ASAN ? 256 : 64) << 10;

// The calling OS thread's own stack as a fiber.
void adopt(Fiber& fiber);
// A fiber that begins in entry, on stack number index of the stacks that reserve_stacks() made room for.
void create(Fiber& fiber, std::size_t index, void (*entry)());
void destroy(Fiber& fiber);

// Stacks are kept from launch to launch, since fresh pages cost more than most kernels.
void reserve_stacks(std::size_t count);
// After fibers were left in the middle of a function: what the address sanitizer knows of their stacks is void.
void forget_stacks();

// Runs `to` until someone switches back. last: `from` will never run again.
void switch_fiber(Fiber& from, Fiber& to, bool last);
// The first thing that a new fiber does.
void entered();

}  // namespace simt::emu
