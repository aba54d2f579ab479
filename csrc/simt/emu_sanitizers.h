// SPDX-License-Identifier: MIT
// What the sanitizers have to be told; nothing without them.
#pragma once
#include <cstddef>

#ifndef __has_feature
#define __has_feature(name) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#define SIMT_ASAN 1
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#else
#define SIMT_ASAN 0
#endif
#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
#define SIMT_TSAN 1
#include <sanitizer/tsan_interface.h>
extern "C" {
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
#else
#define SIMT_TSAN 0
#endif

namespace simt::emu {

// While one lives, this CUDA thread's reads and writes are the emulator's own, and no races. May not outlive the thread.
struct Quiet {
#if SIMT_TSAN
  Quiet() {
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  }
  ~Quiet() {
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
  }
#else
  Quiet() {}
  ~Quiet() {}
#endif
  Quiet(const Quiet&) = delete;
};

// Happens-before of a meeting: all before arrive() of any member, before all after leave() of every member. The last to
// arrive carries it over from one object to the other: with a single one, who leaves late would also see what an early
// arrival at the next meeting did, and miss a race with it.
struct Order {
  char gathered, given;
#if SIMT_TSAN
  void arrive() { __tsan_release(&gathered); }
  void complete() {
    __tsan_acquire(&gathered);
    __tsan_release(&given);
  }
  void leave() { __tsan_acquire(&given); }
#else
  void arrive() {}
  void complete() {}
  void leave() {}
#endif
};

inline void forbid([[maybe_unused]] const void* p, [[maybe_unused]] std::size_t bytes) {
#if SIMT_ASAN
  __asan_poison_memory_region(p, bytes);
#endif
}
inline void allow([[maybe_unused]] const void* p, [[maybe_unused]] std::size_t bytes) {
#if SIMT_ASAN
  __asan_unpoison_memory_region(p, bytes);
#endif
}

}  // namespace simt::emu
