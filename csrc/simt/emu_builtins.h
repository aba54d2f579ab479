// SPDX-License-Identifier: MIT
// What CUDA C++ has without an include: qualifiers, indices, barriers, arithmetic. As functions wherever a function will do,
// with the caller's place as last argument for the messages.
#pragma once
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <source_location>

#include "emu_types.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) alignas(n)
#define __expf expf  // the C library declares a function of this name

namespace simt::emu {

using Place = std::source_location;

// Of the thread that runs: the scheduler writes them at every turn.
struct Indices {
  uint3 thread, block;
  dim3 block_size, grid_size;
};
extern Indices indices;

void sync_block(Place where);
void sync_grid(Place where);
void fence();
// Fails if this launch may have written there.
void check_constant(const void* p, std::size_t bytes, Place where);

}  // namespace simt::emu

inline const uint3& threadIdx = simt::emu::indices.thread;
inline const uint3& blockIdx = simt::emu::indices.block;
inline const dim3& blockDim = simt::emu::indices.block_size;
inline const dim3& gridDim = simt::emu::indices.grid_size;
constexpr int warpSize = 32;

using std::max;
using std::min;

inline void __syncthreads(simt::emu::Place where = simt::emu::Place::current()) { simt::emu::sync_block(where); }
inline void __threadfence() { simt::emu::fence(); }

template <class T> inline T __ldg(const T* p, simt::emu::Place where = simt::emu::Place::current()) {
  simt::emu::check_constant(p, sizeof(T), where);
  return *p;
}

// Returns what was there before.
template <class T> inline T atomicAdd(T* p, std::type_identity_t<T> x) {
  return std::atomic_ref<T>(*p).fetch_add(x, std::memory_order_relaxed);
}

namespace simt {

inline void grid_sync(emu::Place where = emu::Place::current()) { emu::sync_grid(where); }

}  // namespace simt
