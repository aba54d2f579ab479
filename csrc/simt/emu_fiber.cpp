// SPDX-License-Identifier: MIT
#include "emu_fiber.h"

#include <pthread.h>
#include <sys/mman.h>

#include <cstdint>
#include <new>
#include <vector>

// simt_switch(void** save, void* to): pushes the registers that a function must preserve, stores the stack pointer in *save,
// takes `to` for it and pops. The C library's swapcontext does a system call each time, and takes ten times as long.
extern "C" void simt_switch(void** save, void* to);

#if defined(__x86_64__)
asm(R"(
.text
.hidden simt_switch
.globl simt_switch
.type simt_switch, @function
simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size simt_switch, .-simt_switch
)");
#elif defined(__aarch64__)
asm(R"(
.text
.hidden simt_switch
.globl simt_switch
.type simt_switch, %function
simt_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x2, sp
  str x2, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size simt_switch, .-simt_switch
)");
#else
#error "the emulator has no fiber switch for this processor: write simt_switch and first_frame"
#endif

namespace simt::emu {
namespace {

#if SIMT_TSAN
std::vector<void*> idle;  // fibers of the thread sanitizer, for which it takes and clears memory each time it makes one
#endif

char* stacks = nullptr;
std::size_t stacks_bytes = 0;

// What simt_switch pops to begin in entry: zeros for the registers, and no caller (where a debugger stops).
void* first_frame(char* top, void (*entry)()) {
  void** frame = reinterpret_cast<void**>(top);
#if defined(__x86_64__)
  *--frame = nullptr;  // entry's return address; with it, the stack is aligned as after a call
  *--frame = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; i++) *--frame = nullptr;
#else
  for (int i = 0; i < 20; i++) *--frame = nullptr;
  frame[11] = reinterpret_cast<void*>(entry);  // x30
#endif
  return frame;
}

}  // namespace

void adopt(Fiber& fiber) {
  pthread_attr_t attributes;
  void* low = nullptr;
  if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
    pthread_attr_getstack(&attributes, &low, &fiber.stack_bytes);
    pthread_attr_destroy(&attributes);
  }
  fiber.stack = static_cast<char*>(low);
#if SIMT_TSAN
  fiber.tsan = __tsan_get_current_fiber();
#endif
}

void create(Fiber& fiber, std::size_t index, void (*entry)()) {
  fiber.stack = stacks + (index + 1) * kStackBytes;
  fiber.stack_bytes = kStackBytes;
  // Equal distances would put the used ends of all stacks into the same few sets of the caches.
  const std::size_t colour = index % 61 * 192;
  fiber.sp = first_frame(fiber.stack + kStackBytes - 64 - colour, entry);
#if SIMT_TSAN
  if (idle.empty()) {
    fiber.tsan = __tsan_create_fiber(0);
  } else {
    fiber.tsan = idle.back();
    idle.pop_back();
  }
#endif
}

void destroy([[maybe_unused]] Fiber& fiber) {
#if SIMT_TSAN
  idle.push_back(fiber.tsan);
#endif
}

void reserve_stacks(std::size_t count) {
  const std::size_t bytes = (count + 1) * kStackBytes;  // the first takes what overflows the one above it
  if (bytes <= stacks_bytes) return;
  forget_stacks();
  void* fresh = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (fresh == MAP_FAILED) throw std::bad_alloc();
  stacks = static_cast<char*>(fresh);
  stacks_bytes = bytes;
}

void forget_stacks() {
  if (!stacks) return;
  allow(stacks, stacks_bytes);
  munmap(stacks, stacks_bytes);
  stacks = nullptr;
  stacks_bytes = 0;
}

// Not in Quiet when a fiber ends, and no race of its own.
__attribute__((no_sanitize("thread"))) void switch_fiber(Fiber& from, Fiber& to, [[maybe_unused]] bool last) {
#if SIMT_ASAN
  __sanitizer_start_switch_fiber(last ? nullptr : &from.asan, to.stack, to.stack_bytes);
#endif
#if SIMT_TSAN
  __tsan_switch_to_fiber(to.tsan, __tsan_switch_to_fiber_no_sync);
#endif
  simt_switch(&from.sp, to.sp);
#if SIMT_ASAN
  __sanitizer_finish_switch_fiber(from.asan, nullptr, nullptr);
#endif
}

void entered() {
#if SIMT_ASAN
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
}

}  // namespace simt::emu
