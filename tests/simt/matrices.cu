// SPDX-License-Identifier: MIT
#include "case.h"

namespace {

// What each lane gets of N matrices that lie one after the other; out (32, N).
template <int N> __global__ void load(const uint4* in, std::uint32_t* out) {
  simt::Shared shared;
  uint4* const rows = shared.take<uint4>(32);
  const int lane = threadIdx.x;
  rows[lane] = in[lane];
  __syncthreads();
  std::uint32_t r[N];
  simt::ldmatrix(r, rows + lane % (8 * N));
  for (int i = 0; i < N; i++) out[lane * N + i] = r[i];
}
const bool load_added[] = {add_case("ldmatrix_2", load<2>), add_case("ldmatrix_4", load<4>)};

// in: 32 lanes of a (4), b (2), c (4) as words. out: (32, 4).
__global__ void mma(const std::uint32_t* in, float* out) {
  const std::uint32_t* const mine = in + 10 * threadIdx.x;
  std::uint32_t a[4], b[2];
  float d[4];
  for (int i = 0; i < 4; i++) a[i] = mine[i];
  for (int i = 0; i < 2; i++) b[i] = mine[4 + i];
  for (int i = 0; i < 4; i++) d[i] = reinterpret_cast<const float*>(mine)[6 + i];
  simt::mma_bf16(d, a, b, d);
  for (int i = 0; i < 4; i++) out[4 * threadIdx.x + i] = d[i];
}
CASE(mma);

// Half of the warp leaves while the others wait for it.
__global__ void mma_left(const std::uint32_t*, float* out) {
  if (threadIdx.x >= 16) return;
  const std::uint32_t a[4] = {}, b[2] = {};
  float d[4] = {};
  simt::mma_bf16(d, a, b, d);
  out[threadIdx.x] = d[0];
}
CASE(mma_left);

__global__ void misaligned_row(const uint4*, std::uint32_t* out) {
  simt::Shared shared;
  std::uint32_t r[2];
  simt::ldmatrix(r, shared.take<char>(32) + 8);
  out[threadIdx.x] = r[0];
}
CASE(misaligned_row);

__global__ void row_in_global(const uint4* in, std::uint32_t* out) {
  std::uint32_t r[2];
  simt::ldmatrix(r, in);
  out[threadIdx.x] = r[0];
}
CASE(row_in_global);

// Rows that another lane has not yet been made to have written.
__global__ void load_without_barrier(const uint4* in, std::uint32_t* out) {
  simt::Shared shared;
  uint4* const rows = shared.take<uint4>(32);
  rows[threadIdx.x] = in[threadIdx.x];
  std::uint32_t r[4];
  simt::ldmatrix(r, rows + threadIdx.x);
  out[threadIdx.x] = r[0];
}
CASE(load_without_barrier);

__global__ void to_bf16(const float* in, std::uint16_t* out) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  reinterpret_cast<simt::bf16*>(out)[i] = simt::to_bf16(simt::to_float(in[i]));
}
CASE(to_bf16);

__global__ void from_bf16(const std::uint16_t* in, float* out) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  out[i] = simt::to_float(reinterpret_cast<const simt::bf16*>(in)[i]);
}
CASE(from_bf16);

}  // namespace
