// SPDX-License-Identifier: MIT
// The products outside the time loop: c = Σ over terms of a bᵀ (+ bias), M by N over K, for several outputs in one launch.
// Used for the input part, dx and the gradients of the weights. A block makes 64 by 64 of one output.
#pragma once
#include "host.h"
#include "math.h"

namespace fusedrnn::cuda {

constexpr int kMaxTerms = kMaxDirections * kMaxGates;
constexpr int kSide = 64, kProductDepth = 32;

// Rows of K that are padding count as zeros, whatever b holds there: row t * N + n of a sequence that has ended. None without
// lengths.
struct Padding {
  const std::int32_t* lengths;
  int N;

  __device__ bool has(int row) const { return lengths && row / N >= lengths[row % N]; }
};

// Output z is the sum of terms z * terms ... z * terms + terms - 1. An operand lies with K along its rows, or across them:
// a (M, K) or (K, M), b (N, K) or (K, N), with rows a_row and b_row apart.
template <class Real, class Out> struct ProductParams {
  int M, N, K, terms = 1, outputs = 1;
  long a_row = 0, b_row = 0, c_row = 0;
  const Real *a[kMaxTerms] = {}, *b[kMaxTerms] = {};
  Out* c[kMaxTerms] = {};
  const Real* bias[kMaxTerms] = {};  // (N,) or null
  Padding padding = {};
};

template <class Real> constexpr int kProductRow = kProductDepth + (sizeof(Real) == 2 ? 8 : 1);  // against bank conflicts

// kSide rows (of M or N) by kProductDepth of K, zeros beyond the edges, always with K along the rows of `to`; whole block.
// Neighbouring threads read neighbouring memory in both layouts.
template <bool kAcross, class Real>
__device__ void stage_operand(Real* to, const Real* from, long from_row, int r0, int rows, int k0, int K,
                              const Padding& padding) {
  for (int i = threadIdx.x; i < kSide * kProductDepth; i += kThreads) {
    const int r = kAcross ? i % kSide : i / kProductDepth, k = kAcross ? i / kSide : i % kProductDepth;
    const bool inside = r0 + r < rows && k0 + k < K && !padding.has(k0 + k);
    const long at = kAcross ? (k0 + k) * from_row + r0 + r : (r0 + r) * from_row + k0 + k;
    to[r * kProductRow<Real> + k] = inside ? from[at] : from_float<Real>(0.f);
  }
}

// One thread's part of the block's tile: locate() says to which row and column acc[i] belongs.
template <class Real> struct BlockProduct;

template <> struct BlockProduct<float> {
  float acc[16] = {};

  __device__ static void locate(int i, int& m, int& n) {
    m = threadIdx.x / 16 + 16 * (i / 4), n = threadIdx.x % 16 + 16 * (i % 4);
  }
  __device__ void add(const float* a, const float* b) {
    constexpr int kRow = kProductRow<float>;
    for (int k = 0; k < kProductDepth; k++) {
      float left[4], right[4];
      UNROLL for (int i = 0; i < 4; i++) left[i] = a[(threadIdx.x / 16 + 16 * i) * kRow + k];
      UNROLL for (int i = 0; i < 4; i++) right[i] = b[(threadIdx.x % 16 + 16 * i) * kRow + k];
      UNROLL for (int i = 0; i < 16; i++) acc[i] = fmaf(left[i / 4], right[i % 4], acc[i]);
    }
  }
};

// Eight warps, each 16 rows by 32 columns: four fragments of m16n8k16.
template <> struct BlockProduct<simt::bf16> {
  float acc[4][4] = {};

  __device__ static void locate(int i, int& m, int& n) {
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    m = warp / 2 * 16 + (lane >> 2) + 8 * (i % 4 / 2), n = warp % 2 * 32 + i / 4 * 8 + 2 * (lane & 3) + i % 2;
  }
  __device__ void add(const simt::bf16* a, const simt::bf16* b) {
    constexpr int kRow = kProductRow<simt::bf16>;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    UNROLL for (int k = 0; k < kProductDepth; k += kDepth) {
      std::uint32_t left[4], right[2];
      simt::ldmatrix(left, a + (warp / 2 * 16 + (lane & 15)) * kRow + k + (lane >> 4) * 8);
      UNROLL for (int tile = 0; tile < 4; tile++) {
        simt::ldmatrix(right, b + (warp % 2 * 32 + tile * 8 + (lane & 7)) * kRow + k + ((lane >> 3) & 1) * 8);
        simt::mma_bf16(acc[tile], left, right, acc[tile]);
      }
    }
  }
};

// Grid (tiles of M, tiles of N, outputs): M may be all rows of all steps, and only the first may pass 65,535.
template <bool kAcrossA, bool kAcrossB, class Real, class Out>
__global__ void __launch_bounds__(kThreads, 2) product_kernel(const __grid_constant__ ProductParams<Real, Out> p) {
  simt::Shared shared;
  Real* a = shared.take<Real>(kSide * kProductRow<Real>);
  Real* b = shared.take<Real>(kSide * kProductRow<Real>);
  const int m0 = blockIdx.x * kSide, n0 = blockIdx.y * kSide, z = blockIdx.z;
  BlockProduct<Real> product;
  for (int term = z * p.terms; term < (z + 1) * p.terms; term++)
    for (int k0 = 0; k0 < p.K; k0 += kProductDepth) {
      stage_operand<kAcrossA>(a, p.a[term], p.a_row, m0, p.M, k0, p.K, {});
      stage_operand<kAcrossB>(b, p.b[term], p.b_row, n0, p.N, k0, p.K, p.padding);
      __syncthreads();
      product.add(a, b);
      __syncthreads();
    }
  UNROLL for (int i = 0; i < 16; i++) {
    int m, n;
    product.locate(i, m, n);
    m += m0, n += n0;
    if (m >= p.M || n >= p.N) continue;
    const float bias = p.bias[z] ? simt::to_float(p.bias[z][n]) : 0.f;
    p.c[z][m * p.c_row + n] = from_float<Out>(reinterpret_cast<const float*>(product.acc)[i] + bias);
  }
}

template <bool kAcrossA, bool kAcrossB, class Real, class Out>
void product(const ProductParams<Real, Out>& p, cudaStream_t stream) {
  const dim3 grid((p.M + kSide - 1) / kSide, (p.N + kSide - 1) / kSide, p.outputs);
  const std::size_t shared = 2 * simt::shared_bytes<Real>(kSide * kProductRow<Real>);
  check(simt::launch(product_kernel<kAcrossA, kAcrossB, Real, Out>, grid, dim3(kThreads), shared, stream, false, p),
        "cudaLaunchKernel(product)");
}

}  // namespace fusedrnn::cuda
