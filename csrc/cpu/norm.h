// SPDX-License-Identifier: MIT
// Layer normalisation over the units of a row, and what its forward and backward scans share: panels, tape. How the norms
// stand in the cells: cells/norm.h. A row needs all its units at once, so that threads share rows and never units.
#pragma once
#include "panels.h"

namespace fusedrnn::FUSEDRNN_ISA {

// The first n lanes; zeros behind, as load's
template <class Real> INLINE Vec<Real> first_lanes(Vec<Real> v, long n) {
  Vec<Int<Real>> lane;
  UNROLL for (int l = 0; l < kWidth<Real>; l++) lane[l] = l;
  return lane < Int<Real>(n) ? v : Vec<Real>{};
}

// Means over the H units of a row, kCount at once. Vectors of any width give the same bits: unit u goes to partial sum u % 16,
// block after block, and the partial sums are added in halves. Lanes beyond the last unit do not count.
template <int kCount, class Real> class UnitMeans {
  static constexpr int W = kWidth<Real>, kPartial = 16;
  static_assert(kPartial % W == 0);

 public:
  explicit UnitMeans(long H) : H(H) {}
  INLINE void add(int i, int b, Vec<Real> v) {
    Real* sum = partial[i] + b % (kPartial / W) * W;
    store(sum, load(sum) + first_lanes<Real>(v, lanes_of<Real>(H, b)));
  }
  // Once, after the last add
  INLINE Real mean(int i) {
    for (int half = kPartial / 2; half > 0; half /= 2)
      for (int k = 0; k < half; k++) partial[i][k] += partial[i][k + half];
    return partial[i][0] / H;
  }

 private:
  const long H;
  alignas(kBytes) Real partial[kCount][kPartial] = {};
};

constexpr double kEpsilon = 1e-5;  // torch.nn.LayerNorm's

// Mean and 1 / sqrt(variance + ε) of kCount rows of H units; value(i, b) is block b of row i.
template <int kCount, class Real, class F> INLINE void moments(long H, Real* mean, Real* scale, F&& value) {
  UnitMeans<kCount, Real> means(H), variances(H);
  const int blocks = blocks_of<Real>(H);
  for (int b = 0; b < blocks; b++)
    for (int i = 0; i < kCount; i++) means.add(i, b, value(i, b));
  for (int i = 0; i < kCount; i++) mean[i] = means.mean(i);
  for (int b = 0; b < blocks; b++)
    for (int i = 0; i < kCount; i++) {
      const Vec<Real> centred = value(i, b) - mean[i];
      variances.add(i, b, centred * centred);
    }
  for (int i = 0; i < kCount; i++) scale[i] = 1 / square_root(variances.mean(i) + Real(kEpsilon));
}

// Gates [block][kCount][W] become gain v̂ + bias; v̂ goes to v_hats, whose blocks lie v_block apart, and its scales to `scales`.
// A function of its own, that the cells share.
template <int kCount, class Real>
[[gnu::noinline]] void normalise(long H, Real* gates, const Real* gain, const Real* bias, Real* v_hats, long v_block,
                                 Real* scales) {
  constexpr int W = kWidth<Real>;
  Real mean[kCount];
  moments<kCount>(H, mean, scales, [&](int g, int b) { return load(gates + (b * kCount + g) * W); });
  for (int b = 0; b < blocks_of<Real>(H); b++) UNROLL for (int g = 0; g < kCount; g++) {
      const long v = (b * kCount + g) * W;
      const Vec<Real> v_hat = (load(gates + v) - mean[g]) * scales[g];
      store(v_hats + b * v_block + g * W, v_hat);
      store(gates + v, fma(load(gain + v), v_hat, load(bias + v)));
    }
}

// The gradient of v, where v̂ = scale (v - mean v): that of v̂, without its mean and its part along v̂.
template <class Real> struct NormBack {
  Real mean, along, scale;  // means of d and of d v̂ over units

  INLINE Vec<Real> operator()(Vec<Real> d, Vec<Real> v_hat) const { return (d - mean - v_hat * along) * scale; }
};

// All weights of one layer in one direction. What is of the hidden part lies by stages: with late gates there are two.
template <class Cell, class Real> struct NormPanels {
  static constexpr int W = kWidth<Real>, G = Cell::kGates, Q = Cell::kPeepholes;
  Real *w_ih, *w_hh[2];          // vectors (block, gate) in groups, [k][vectors in group][W]
  Real *b_ih, *gain_ih;          // [block][G][W]
  Real *b_hh[2], *gain_hh[2];    // [block][gates of the stage][W]
  Real *gain_c, *b_c;            // [block][W]
  Real* w_ch;                    // peepholes, [block][Q][W]
  Real* w_hr;                    // projection: columns are those of h
  Groups input_groups, groups[2], h_groups;  // of vectors
  long size;

  // The groups suit input products of so many rows, and steps of so many, and are right for any.
  NormPanels(Real* base, const Sizes& z, long input_rows, long rows) {
    const int blocks = blocks_of<Real>(z.H);
    const long units = long(blocks) * W;
    input_groups = {group_blocks(input_rows), 0, blocks * G};
    h_groups = {group_blocks(rows), 0, blocks_of<Real>(z.P)};
    Arena<Real> arena{base};
    w_ih = arena.take(units * G * z.I);
    for (Real** vector : {&b_ih, &gain_ih}) *vector = arena.take(units * G);
    for (int stage = 0; stage < stages<Cell>; stage++) {
      const int g = gates_of<Cell>(stage);
      groups[stage] = {group_blocks(rows), 0, blocks * g};
      w_hh[stage] = arena.take(units * g * z.P);
      for (Real** vector : {&b_hh[stage], &gain_hh[stage]}) *vector = arena.take(units * g);
    }
    for (Real** vector : {&gain_c, &b_c}) *vector = arena.take(Cell::kNormC * units);
    w_ch = arena.take(Q * units);
    w_hr = arena.take(z.projected() ? h_groups.last * W * z.H : 0);
    size = arena.used;
  }

  // In turns: a barrier must follow.
  void pack(const Weights<const Real>& w, const Sizes& z, int me, int threads) const {
    const auto in_turns = [&](const GateRows<Real>& rows, const Groups& groups, Real* panel) {
      for_packed_groups(true, me, threads, groups, [&](int n, int v) { pack_units(rows, v, n, panel + v * rows.K * W); });
    };
    const long H = z.H, P = z.P;
    in_turns({w.weight_ih, H, z.I, G}, input_groups, w_ih);
    for (int stage = 0; stage < stages<Cell>; stage++)
      in_turns({w.weight_hh + first_gate<Cell>(stage) * H * P, H, P, gates_of<Cell>(stage)}, groups[stage], w_hh[stage]);
    if (z.projected()) in_turns({w.weight_hr, P, H, 1}, h_groups, w_hr);
    if (me) return;
    const int blocks = blocks_of<Real>(H);
    pack_bias(w.bias_ih, H, G, 0, blocks, b_ih);
    pack_bias(w.weight_ln_ih, H, G, 0, blocks, gain_ih);
    for (int stage = 0; stage < stages<Cell>; stage++) {
      const long first = first_gate<Cell>(stage) * H;
      pack_bias(w.bias_hh ? w.bias_hh + first : nullptr, H, gates_of<Cell>(stage), 0, blocks, b_hh[stage]);
      pack_bias(w.weight_ln_hh + first, H, gates_of<Cell>(stage), 0, blocks, gain_hh[stage]);
    }
    if constexpr (Q > 0) pack_bias(w.weight_ch, H, Q, 0, blocks, w_ch);
    if constexpr (!Cell::kNormC) return;
    pack_bias(w.weight_ln_ch, H, 1, 0, blocks, gain_c);
    pack_bias(w.bias_ln_ch, H, 1, 0, blocks, b_c);
  }
};

// The scan's tape, whose `saved` has every v̂ (cells/norm.h), and behind it what each was scaled by.
template <class Cell, class Real> struct NormTape : Scan<Cell, Real>::Tape {
  using Base = Scan<Cell, Real>;
  Real* scales;  // [row of all][kNorms]

  NormTape(Real* base, const Sizes& z, long rows, const Noise& noise = {}) : Base::Tape(base, z, rows, noise) {
    Arena<Real> arena{base, this->size};
    scales = arena.take(rows * Cell::kNorms);
    this->size = arena.used;
  }
  long block() const { return this->rows * Base::kTaped * Base::W; }  // from one block to the next
  using Base::Tape::at;
  // v̂ of a norm
  INLINE Real* v_hat(int b, long row, int norm) const { return at(b, row) + (Cell::Plain::kSaved + norm) * Base::W; }
  // State i, but not h, after the step
  INLINE Real* state(int b, long row, int i) const { return at(b, row) + (Cell::kSaved + i - 1) * Base::W; }
  INLINE Real* scale(long row, int norm) const { return scales + row * Cell::kNorms + norm; }
};

template <class Cell, class Real> struct TapeOf : Scan<Cell, Real>::Tape { using Scan<Cell, Real>::Tape::Tape; };
template <NormCell Cell, class Real> struct TapeOf<Cell, Real> : NormTape<Cell, Real> { using NormTape<Cell, Real>::NormTape; };

}  // namespace fusedrnn::FUSEDRNN_ISA
