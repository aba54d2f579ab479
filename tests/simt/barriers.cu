// SPDX-License-Identifier: MIT
#include "case.h"

namespace {

__device__ int global_index() { return blockIdx.x * blockDim.x + threadIdx.x; }

// Every thread passes a value to the thread opposite in its block.
__global__ void reverse_block(const int* in, int* out) {
  SIMT_SHARED(int, s, 256);
  s[threadIdx.x] = in[global_index()];
  __syncthreads();
  out[global_index()] = s[blockDim.x - 1 - threadIdx.x];
}
CASE(reverse_block);

__global__ void reverse_block_without_barrier(const int* in, int* out) {
  SIMT_SHARED(int, s, 256);
  s[threadIdx.x] = in[global_index()];
  out[global_index()] = s[blockDim.x - 1 - threadIdx.x];
}
CASE(reverse_block_without_barrier);

// The second round writes what the first may still read.
template <bool kBarrier> __global__ void two_rounds(const int* in, int* out) {
  SIMT_SHARED(int, s, 256);
  for (int round = 0; round < 2; round++) {
    s[threadIdx.x] = in[global_index()] + round;
    __syncthreads();
    out[global_index()] = s[blockDim.x - 1 - threadIdx.x];
    if (kBarrier) __syncthreads();
  }
}
const bool two_rounds_added = add_case("two_rounds", two_rounds<true>);
const bool two_rounds_write_early_added = add_case("two_rounds_write_early", two_rounds<false>);

__global__ void reverse_grid(const int* in, int* out) {
  const int n = gridDim.x * blockDim.x, i = global_index();
  out[i] = in[i];
  simt::grid_sync();
  const int mine = out[n - 1 - i];
  simt::grid_sync();
  out[i] = mine;
}
CASE(reverse_grid);

__global__ void reverse_grid_by_block_barrier(const int* in, int* out) {
  const int n = gridDim.x * blockDim.x, i = global_index();
  out[i] = in[i];
  __syncthreads();
  const int mine = out[n - 1 - i];
  __syncthreads();
  out[i] = mine;
}
CASE(reverse_grid_by_block_barrier);

template <bool kBarrier> __global__ void reverse_warp(const int* in, int* out) {
  SIMT_SHARED(int, s, 256);
  const int lane = threadIdx.x % 32, first = threadIdx.x - lane;
  s[threadIdx.x] = in[global_index()];
  if (kBarrier) __syncwarp();
  out[global_index()] = s[first + 31 - lane];
}
const bool reverse_warp_added = add_case("reverse_warp", reverse_warp<true>);
const bool reverse_warp_without_barrier_added = add_case("reverse_warp_without_barrier", reverse_warp<false>);

// The halves of a warp meet apart, one more often than the other.
__global__ void half_warps(const int* in, int* out) {
  SIMT_SHARED(int, s, 32);
  const int i = threadIdx.x;
  const unsigned half = i < 16 ? 0x0000ffff : 0xffff0000;
  for (int round = 0; round < (i < 16 ? 1 : 3); round++) {
    s[i] = in[i] + round;
    __syncwarp(half);
    out[i] = s[i ^ 15];
    __syncwarp(half);
  }
}
CASE(half_warps);

__global__ void divergent_block(const int*, int*) {
  if (threadIdx.x < 8) __syncthreads();
  else __syncthreads();
}
CASE(divergent_block);

__global__ void divergent_grid(const int*, int*) {
  if (blockIdx.x == 0) simt::grid_sync();
  else simt::grid_sync();
}
CASE(divergent_grid);

// Never passed: some threads wait for the block, others for the grid.
__global__ void deadlock(const int*, int*) {
  if (threadIdx.x < 8) __syncthreads();
  else simt::grid_sync();
}
CASE(deadlock);

__global__ void exit_before_barrier(const int*, int*) {
  if (threadIdx.x < 8) return;
  __syncthreads();
}
CASE(exit_before_barrier);

__global__ void exit_during_barrier(const int*, int*) {
  if (threadIdx.x >= 8) return;
  __syncthreads();
}
CASE(exit_during_barrier);

__global__ void nothing(const int*, int*) {}
CASE(nothing);

// In what order threads come: each draws a number.
__global__ void order(const int*, int* out) {
  __syncthreads();
  out[1 + global_index()] = atomicAdd(out, 1);
}
CASE(order);

__global__ void indices(const int*, int* out) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  int* const mine = out + 6 * (block * blockDim.x * blockDim.y * blockDim.z + thread);
  const unsigned all[] = {blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z};
  for (int i = 0; i < 6; i++) mine[i] = static_cast<int>(all[i]);
}
CASE(indices);

// Nearly the whole stack of a thread in one array.
__global__ void deep_stack(const int* in, int* out) {
  constexpr int kBytes = 63 * 1024;
  volatile char local[kBytes];
  for (int i = 0; i < kBytes; i++) local[i] = static_cast<char>(in[threadIdx.x] + i);
  __syncthreads();
  out[threadIdx.x] = local[in[threadIdx.x]];
}
CASE(deep_stack);

}  // namespace
