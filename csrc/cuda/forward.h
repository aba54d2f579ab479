// SPDX-License-Identifier: MIT
// The forward time loop: a block owns kUnits hidden units of one direction, all their gates, and walks over its tiles of
// batch rows. A cell with late gates takes two phases a step, for it needs u of all units in between.
#pragma once
#include "cells.h"
#include "tile.h"

namespace fusedrnn::cuda {

template <class Cell> constexpr int kPhases = Cell::kLate ? 2 : 1;
template <class Cell> constexpr int kFirst = Cell::kGates - Cell::kLate;  // gates of the first phase

// One hidden unit j of one batch row n at step s.
template <class Cell, class Real> struct ForwardUnit {
  const ForwardParams<Real>& p;
  const ForwardDirection<Real>& d;
  int s, n, j;

  __device__ int t() const { return d.reverse ? p.size.T - 1 - s : s; }
  __device__ long row() const { return long(t()) * p.size.N + n; }
  __device__ long state(int step) const { return (long(p.slot(step, d.reverse)) * p.size.N + n) * p.size.Hp + j; }
  __device__ bool valid() const { return j < p.size.H && (!p.lengths || t() < p.lengths[n]); }
  __device__ float* saved() const { return d.saved + (p.training ? row() : n) * Cell::kSaved * p.size.H + j; }
  __device__ Real* u() const { return d.u + (p.training ? row() : n) * p.size.Hp + j; }

  __device__ void load(float* states) const {
    states[0] = simt::to_float(d.h[state(s)]);
    if constexpr (Cell::kStates > 1) states[1] = d.c[state(s)];
  }
  __device__ void load_saved(float* saved_values, int count) const {
    for (int k = 0; k < count; k++) saved_values[k] = saved()[k * p.size.H];
  }
  // Gates first_gate on: their parts, the hidden one from the tile.
  template <int kFrom, int kOut> __device__ void load_gates(const TileMemory<Real>& memory, float* xg, float* hg) const {
    const int row_in_tile = n % kRows, H = p.size.H;
    UNROLL for (int o = 0; o < kOut; o++) {
      const int g = kFrom + o;
      xg[g] = d.xg[row() * Cell::kGates * H + g * H + j];
      hg[g] = sum<kOut>(memory, o, row_in_tile, j % kUnits) + (d.bias_hh ? simt::to_float(d.bias_hh[g * H + j]) : 0.f);
    }
  }

  __device__ void store(const float* states) const {
    const Real h = from_float<Real>(states[0]);
    d.h[state(s + 1)] = h;
    if constexpr (Cell::kStates > 1) d.c[state(s + 1)] = states[1];
    if (j >= p.size.H) return;
    d.y[row() * p.size.y_row + j] = valid() ? h : from_float<Real>(0.f);
    if (s + 1 < p.size.T) return;
    UNROLL for (int k = 0; k < Cell::kStates; k++) d.state_n[k][long(n) * p.size.H + j] = from_float<Real>(states[k]);
  }
  __device__ void store_saved(const float* saved_values, int from, int to) const {
    for (int k = from; k < to; k++) saved()[k * p.size.H] = saved_values[k];
  }

  // What the first phase makes for the second.
  __device__ void early(const TileMemory<Real>& memory) const {
    float u_value = 0;
    if (valid()) {
      float xg[Cell::kGates], hg[Cell::kGates], states[Cell::kStates], saved_values[Cell::kSaved];
      load_gates<0, kFirst<Cell>>(memory, xg, hg);
      load(states);
      u_value = Cell::early(xg, hg, states, saved_values);
      store_saved(saved_values, 0, kFirst<Cell>);
    }
    *u() = from_float<Real>(u_value);
  }
  __device__ void finish(const TileMemory<Real>& memory) const {
    float states[Cell::kStates];
    load(states);  // zero beyond H
    if (valid()) {
      constexpr int kFrom = Cell::kLate ? kFirst<Cell> : 0;
      float xg[Cell::kGates], hg[Cell::kGates], weights[Cell::kPeepholes + 1], states_new[Cell::kStates];
      float saved_values[Cell::kSaved];
      load_gates<kFrom, Cell::kGates - kFrom>(memory, xg, hg);
      UNROLL for (int q = 0; q < Cell::kPeepholes; q++) weights[q] = simt::to_float(d.weight_ch[q * p.size.H + j]);
      if constexpr (Cell::kLate > 0) load_saved(saved_values, kFrom);
      Cell::forward(xg, hg, weights, states, states_new, saved_values);
      if (p.training) store_saved(saved_values, kFrom, Cell::kSaved);
      UNROLL for (int k = 0; k < Cell::kStates; k++) states[k] = states_new[k];
    }
    store(states);
  }
};

// Phases first to last - 1 of all T * kPhases. Grid (Hp / kUnits, directions, tiles of rows or fewer).
template <class Cell, class Real>
__global__ void __launch_bounds__(kThreads, 2)
    forward_kernel(const __grid_constant__ ForwardParams<Real> p, int first, int last) {
  const ForwardDirection<Real>& d = p.direction[blockIdx.y];
  const int N = p.size.N, Hp = p.size.Hp, row = threadIdx.x / kUnits, j = blockIdx.x * kUnits + threadIdx.x % kUnits;
  simt::Shared shared;
  const TileMemory<Real> memory(shared, kFirst<Cell>, p.resident);
  const Panel<Real> panel =
      load_panel(shared, d.panels + long(blockIdx.x) * Cell::kGates * kUnits * Hp, Cell::kGates * kUnits, Hp, p.resident);
  for (int phase = first; phase < last; phase++) {
    const int s = phase / kPhases<Cell>;
    const bool early = Cell::kLate && phase % kPhases<Cell> == 0;
    if (phase > first) simt::grid_sync();
    for (int tile = blockIdx.z; tile * kRows < N; tile += gridDim.z) {
      const ForwardUnit<Cell, Real> unit{.p = p, .d = d, .s = s, .n = tile * kRows + row, .j = j};
      const bool own = row < kRows && unit.n < N;
      if constexpr (Cell::kLate > 0) {
        if (!early) {
          const Rows<Real> u{d.u + (p.training ? long(unit.t()) * N * Hp : 0), Hp};
          tile_product<Cell::kLate>(memory, u, tile * kRows, N, panel.from(kFirst<Cell> * kUnits, 0), Hp);
          if (own) unit.finish(memory);
          continue;
        }
      }
      const Rows<Real> h{d.h + long(p.slot(s, d.reverse)) * N * Hp, Hp};
      tile_product<kFirst<Cell>>(memory, h, tile * kRows, N, panel, Hp);
      if (!own) continue;
      if constexpr (Cell::kLate > 0) unit.early(memory);
      else unit.finish(memory);
    }
  }
}

}  // namespace fusedrnn::cuda
