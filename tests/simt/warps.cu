// SPDX-License-Identifier: MIT
#include "case.h"

namespace {

constexpr unsigned kAll = 0xffffffff;

// Rows of `out`: what each shuffle gives, lane by lane.
template <class T> __global__ void shuffles(const T* in, T* out) {
  const int i = threadIdx.x;
  const T x = in[i];
  out[0 * 32 + i] = __shfl_sync(kAll, x, 5);
  out[1 * 32 + i] = __shfl_sync(kAll, x, i + 3, 8);
  out[2 * 32 + i] = __shfl_up_sync(kAll, x, 3);
  out[3 * 32 + i] = __shfl_up_sync(kAll, x, 3, 8);
  out[4 * 32 + i] = __shfl_down_sync(kAll, x, 5);
  out[5 * 32 + i] = __shfl_down_sync(kAll, x, 5, 16);
  out[6 * 32 + i] = __shfl_xor_sync(kAll, x, 9);
  out[7 * 32 + i] = __shfl_xor_sync(kAll, x, 9, 8);
}
const bool shuffles_float_added = add_case("shuffles_float", shuffles<float>);
const bool shuffles_int_added = add_case("shuffles_int", shuffles<int>);
const bool shuffles_double_added = add_case("shuffles_double", shuffles<double>);

__global__ void votes(const int* in, unsigned* out) {
  const int i = threadIdx.x;
  const unsigned low = 0x00ffffff;
  out[4 * i] = __ballot_sync(kAll, in[i]);
  out[4 * i + 1] = static_cast<unsigned>(__any_sync(kAll, in[i] > 100));
  out[4 * i + 2] = static_cast<unsigned>(__all_sync(kAll, in[i] >= 0));
  out[4 * i + 3] = i < 24 ? __ballot_sync(low, 1) : 0;
}
CASE(votes);

// A tree sum, as kernels do it.
__global__ void warp_sum(const float* in, float* out) {
  float x = in[threadIdx.x];
  for (int offset = 16; offset; offset /= 2) x += __shfl_xor_sync(kAll, x, offset);
  out[threadIdx.x] = x;
}
CASE(warp_sum);

__global__ void full_mask_in_branch(const int* in, int* out) {
  if (threadIdx.x < 8) out[threadIdx.x] = __shfl_sync(kAll, in[threadIdx.x], 0);
  __syncthreads();
}
CASE(full_mask_in_branch);

__global__ void mask_without_self(const int* in, int* out) { out[threadIdx.x] = __shfl_sync(0x0000ffff, in[threadIdx.x], 0); }
CASE(mask_without_self);

__global__ void different_calls(const int* in, int* out) {
  if (threadIdx.x < 8) out[threadIdx.x] = __shfl_sync(kAll, in[threadIdx.x], 0);
  else out[threadIdx.x] = static_cast<int>(__ballot_sync(kAll, in[threadIdx.x]));
}
CASE(different_calls);

// The last warp of a block may have fewer lanes; those that are not there have no value.
__global__ void read_missing_lane(const float* in, float* out) { out[threadIdx.x] = __shfl_sync(kAll, in[threadIdx.x], 31); }
CASE(read_missing_lane);

// Lanes that have left are not waited for.
__global__ void exited_lanes(const int* in, int* out) {
  if (threadIdx.x >= 24) return;
  out[threadIdx.x] = static_cast<int>(__ballot_sync(kAll, in[threadIdx.x]));
}
CASE(exited_lanes);

template <class T> __global__ void add_all(const T* in, T* out) { atomicAdd(out, in[blockIdx.x * blockDim.x + threadIdx.x]); }
const bool add_all_float_added = add_case("add_all_float", add_all<float>);
const bool add_all_int_added = add_case("add_all_int", add_all<int>);

__global__ void add_all_plainly(const int* in, int* out) { *out += in[blockIdx.x * blockDim.x + threadIdx.x]; }
CASE(add_all_plainly);

// The block that comes last adds up what the others left.
template <bool kFence> __global__ void last_block_sums(const int* in, int* out) {
  SIMT_SHARED(int, last, 1);
  const int blocks = static_cast<int>(gridDim.x);
  int* const parts = out + 2;
  if (threadIdx.x == 0) {
    parts[blockIdx.x] = in[blockIdx.x];
    if (kFence) __threadfence();
    last[0] = atomicAdd(out, 1) == blocks - 1;
    if (kFence) __threadfence();
    if (last[0])
      for (int i = 0; i < blocks; i++) out[1] += parts[i];
  }
}
const bool last_block_sums_added = add_case("last_block_sums", last_block_sums<true>);
const bool last_block_sums_without_fence_added = add_case("last_block_sums_without_fence", last_block_sums<false>);

__global__ void arithmetic(const float* in, float* out) {
  const int i = threadIdx.x;
  out[4 * i] = __expf(in[i]);
  out[4 * i + 1] = tanhf(in[i]);
  out[4 * i + 2] = fmaf(in[i], in[i], 1.0f);
  out[4 * i + 3] = min(max(in[i], -1.0f), 1.0f);
}
CASE(arithmetic);

}  // namespace
