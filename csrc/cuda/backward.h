// SPDX-License-Identifier: MIT
// The time loop of backpropagation: a block owns kUnits hidden units of one direction. At step s it makes dL/dh from the
// gate gradients of step s+1, that is what weight_hh passes back, then those of step s. A cell with late gates takes two
// phases a step: dL/du comes from the late gates of all units. After the last step one more product makes dL/dh of the start.
#pragma once
#include "forward.h"

namespace fusedrnn::cuda {

// Where gradient i stands in a row of d: hidden parts first, in the order of the gates, so that they are one block.
template <class Cell> constexpr int position(int i) {
  int others = Cell::kGates;
  for (int k = 0; k <= i; k++) {
    int gate = 0;
    while (gate < Cell::kGates && Cell::kH[gate] != k) gate++;
    if (k == i) return gate < Cell::kGates ? gate : others;
    others += gate == Cell::kGates;
  }
  return others;
}

template <class Cell, class Real> struct BackwardUnit {
  const BackwardParams<Real>& p;
  const BackwardDirection<Real>& d;
  int s, n, j;

  __device__ int t() const { return d.reverse ? p.size.T - 1 - s : s; }
  __device__ long row() const { return long(t()) * p.size.N + n; }
  __device__ bool valid() const { return !p.lengths || t() < p.lengths[n]; }
  __device__ float& ds(int k) const { return d.ds[k][long(n) * p.size.Hp + j]; }
  template <int i> __device__ void store_grad(float value) const {
    constexpr int kPosition = position<Cell>(i);
    d.d[(row() * Cell::kGrads + kPosition) * p.size.Hp + j] = from_float<Real>(value);
  }

  // dL/dstate after step s, but for y.
  __device__ void load_ds(const TileMemory<Real>& memory, float* grads) const {
    UNROLL for (int k = 0; k < Cell::kStates; k++) {
      if (s + 1 < p.size.T) grads[k] = ds(k);
      else grads[k] = d.dstate_n[k] ? simt::to_float(d.dstate_n[k][long(n) * p.size.H + j]) : 0.f;
    }
    if (s + 1 < p.size.T) grads[0] += sum<1>(memory, 0, n % kRows, j % kUnits);
  }
  __device__ void load(float* saved, float* states, float* weights) const {
    UNROLL for (int k = 0; k < Cell::kSaved; k++) saved[k] = d.saved[(row() * Cell::kSaved + k) * p.size.H + j];
    states[0] = simt::to_float(d.h[row() * p.size.Hp + j]);
    if constexpr (Cell::kStates > 1) states[1] = d.c[row() * p.size.Hp + j];
    UNROLL for (int q = 0; q < Cell::kPeepholes; q++) weights[q] = simt::to_float(d.weight_ch[q * p.size.H + j]);
  }

  __device__ void step(const TileMemory<Real>& memory) const {
    float gates[Cell::kGrads] = {};
    if (j < p.size.H) {
      float grads[Cell::kStates];
      load_ds(memory, grads);
      if (valid()) {
        float saved[Cell::kSaved], states[Cell::kStates], weights[Cell::kPeepholes + 1];
        load(saved, states, weights);
        grads[0] += simt::to_float(d.dy[row() * p.size.y_row + j]);
        Cell::backward(saved, weights, states, grads, gates);
      }
      UNROLL for (int k = 0; k < Cell::kStates; k++) ds(k) = grads[k];
    }
    unrolled<Cell::kGrads>([&](auto i) {
      if constexpr (i > 0 || Cell::kLate == 0) store_grad<i>(gates[i]);  // early_backward makes the first one
    });
  }
  __device__ void early(const TileMemory<Real>& memory) const {
    float gates[Cell::kGrads] = {};
    if (j < p.size.H && valid()) {
      float saved[Cell::kSaved], states[Cell::kStates], weights[Cell::kPeepholes + 1], grads[] = {ds(0)};
      load(saved, states, weights);
      Cell::early_backward(saved, states, sum<1>(memory, 0, n % kRows, j % kUnits), grads, gates);
      ds(0) = grads[0];
    }
    store_grad<0>(gates[0]);
  }
  __device__ void start(const TileMemory<Real>& memory) const {
    if (j >= p.size.H) return;
    float grads[Cell::kStates];
    load_ds(memory, grads);
    UNROLL for (int k = 0; k < Cell::kStates; k++) d.dstate_0[k][long(n) * p.size.H + j] = from_float<Real>(grads[k]);
  }
};

// Phases first to last - 1 of all T * kPhases + 1. Grid as in forward.
template <class Cell, class Real>
__global__ void __launch_bounds__(kThreads, 2)
    backward_kernel(const __grid_constant__ BackwardParams<Real> p, int first, int last) {
  const BackwardDirection<Real>& d = p.direction[blockIdx.y];
  const int N = p.size.N, T = p.size.T, Hp = p.size.Hp, K = Cell::kGates * Hp;
  const int row = threadIdx.x / kUnits, j = blockIdx.x * kUnits + threadIdx.x % kUnits;
  simt::Shared shared;
  const TileMemory<Real> memory(shared, 1, p.resident);
  const Panel<Real> panel = load_panel(shared, d.panels + long(blockIdx.x) * kUnits * K, kUnits, K, p.resident);
  for (int phase = first; phase < last; phase++) {
    const int s = T - 1 - phase / kPhases<Cell>;
    const bool early = phase % kPhases<Cell> != 0;
    if (phase > first) simt::grid_sync();
    // What is passed back: the hidden parts of step s+1, if there is one, or those of the late gates of this one.
    const int gate = early ? kFirst<Cell> : 0, from = early ? s : s + 1, t = d.reverse ? T - 1 - from : from;
    for (int tile = blockIdx.z; tile * kRows < N; tile += gridDim.z) {
      if (from < T) {
        const Rows<Real> grads{d.d + (long(t) * N * Cell::kGrads + gate) * Hp, long(Cell::kGrads) * Hp};
        const int columns = (early ? Cell::kLate : kFirst<Cell>)*Hp;
        tile_product<1>(memory, grads, tile * kRows, N, panel.from(0, gate * Hp), columns);
      }
      const BackwardUnit<Cell, Real> unit{.p = p, .d = d, .s = s, .n = tile * kRows + row, .j = j};
      if (row >= kRows || unit.n >= N) continue;
      if (s < 0) unit.start(memory);
      else if (!early) unit.step(memory);
      else if constexpr (Cell::kLate > 0) unit.early(memory);
    }
  }
}

}  // namespace fusedrnn::cuda
