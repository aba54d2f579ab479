// SPDX-License-Identifier: MIT
#pragma once
#include <cstddef>

namespace simt {

// What Shared::take<T>(n) takes of the dynamic shared memory: the launch asks for the sum of these.
template <class T> __host__ __device__ constexpr std::size_t shared_bytes(std::size_t n) {
  return (n * sizeof(T) + 15) / 16 * 16;
}

}  // namespace simt
