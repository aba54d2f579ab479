// SPDX-License-Identifier: MIT
// Gradients of the biases and of the peepholes: sums over all steps and rows. A block has 32 units, and a warp every eighth
// row; the warps' sums are added in their order.
#pragma once
#include "backward.h"

namespace fusedrnn::cuda {

template <class Real> struct SumsDirection {
  const Real* d;         // as in BackwardDirection
  const float *c, *saved;
  Real *dbias_ih, *dbias_hh, *dweight_ch;  // (G*H,), (G*H,), (Q*H,); null: not wanted
};
template <class Real> struct SumsParams {
  LoopSizes size;
  const std::int32_t* lengths;
  SumsDirection<Real> direction[kMaxDirections];
};

template <class Cell, class Real> struct UnitSums {
  float values[Cell::kGrads + Cell::kPeepholes] = {};

  // One row: t * N + n
  __device__ void add(const SumsParams<Real>& p, const SumsDirection<Real>& d, long row, int j) {
    float grads[Cell::kGrads];
    unrolled<Cell::kGrads>([&](auto i) {
      constexpr int kPosition = position<Cell>(i);
      grads[i] = simt::to_float(d.d[(row * Cell::kGrads + kPosition) * p.size.Hp + j]);
      values[i] += grads[i];
    });
    if constexpr (Cell::kPeepholes > 0) {
      float saved[Cell::kSaved], states[Cell::kStates] = {0, d.c[row * p.size.Hp + j]};
      UNROLL for (int k = 0; k < Cell::kSaved; k++) saved[k] = d.saved[(row * Cell::kSaved + k) * p.size.H + j];
      unrolled<Cell::kPeepholes>([&](auto q) {
        constexpr int kGate = Cell::kPeepholeGate[q];
        values[Cell::kGrads + q] = fmaf(grads[kGate], Cell::peeped(q, saved, states), values[Cell::kGrads + q]);
      });
    }
  }
  __device__ void store(const SumsDirection<Real>& d, int H, int j) const {
    unrolled<Cell::kGates>([&](auto g) {
      constexpr int kX = Cell::kX[g], kH = Cell::kH[g];
      if (d.dbias_ih) d.dbias_ih[g * H + j] = from_float<Real>(values[kX]);
      if (d.dbias_hh) d.dbias_hh[g * H + j] = from_float<Real>(values[kH]);
    });
    unrolled<Cell::kPeepholes>([&](auto q) {
      if (d.dweight_ch) d.dweight_ch[q * H + j] = from_float<Real>(values[Cell::kGrads + q]);
    });
  }
};

// Grid (tiles of 32 units, directions).
template <class Cell, class Real>
__global__ void __launch_bounds__(kThreads, 2) sums_kernel(const __grid_constant__ SumsParams<Real> p) {
  constexpr int kValues = Cell::kGrads + Cell::kPeepholes;
  simt::Shared shared;
  float* partial = shared.take<float>(kValues * kThreads);  // (kValues, kWarps, 32)
  const SumsDirection<Real>& d = p.direction[blockIdx.y];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, j = blockIdx.x * 32 + lane, N = p.size.N;
  UnitSums<Cell, Real> sums;
  if (j < p.size.H)
    for (long row = warp; row < long(p.size.T) * N; row += kWarps)
      if (!p.lengths || row / N < p.lengths[row % N]) sums.add(p, d, row, j);
  UNROLL for (int i = 0; i < kValues; i++) partial[i * kThreads + threadIdx.x] = sums.values[i];
  __syncthreads();
  if (warp > 0 || j >= p.size.H) return;
  UNROLL for (int i = 0; i < kValues; i++) for (int other = 1; other < kWarps; other++) sums.values[i] +=
      partial[i * kThreads + other * 32 + lane];
  sums.store(d, p.size.H, j);
}

}  // namespace fusedrnn::cuda
