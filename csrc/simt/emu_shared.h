// SPDX-License-Identifier: MIT
// Shared memory: every array is a heap block of its own, of just its size, so that overruns from one into the next are
// found: by the address sanitizer where they happen, else, if they write, at the end of the kernel.
#pragma once
#include <cstddef>
#include <string>
#include <type_traits>

#include "emu_builtins.h"
#include "shared_bytes.h"

namespace simt::emu {

// The block's array for this declaration, or for this take of its dynamic memory. NaN when new.
void* fixed_shared(const void* declaration, std::size_t bytes);
void* carved_shared(std::size_t ordinal, std::size_t bytes, Place where);

// Of the launch that ends: what was written past its shared arrays, or nothing.
std::string shared_overrun();
// Whether bytes from p lie in one shared array of the running block.
bool in_shared(const void* p, std::size_t bytes);

// Place: a type that no other declaration has.
template <class T, std::size_t n, class Place>
T (&shared_array(Place))
[n] {
  static_assert(std::is_trivially_copyable_v<T>);
  static char declaration;
  return *static_cast<T(*)[n]>(fixed_shared(&declaration, n * sizeof(T)));
}

}  // namespace simt::emu

#define SIMT_SHARED(T, name, n) T(&name)[n] = simt::emu::shared_array<T, n>([] {})

namespace simt {

class Shared {
 public:
  template <class T> T* take(std::size_t n, emu::Place where = emu::Place::current()) {
    static_assert(std::is_trivially_copyable_v<T> && alignof(T) <= 16);
    return static_cast<T*>(emu::carved_shared(taken_++, n * sizeof(T), where));
  }

 private:
  std::size_t taken_ = 0;
};

}  // namespace simt
