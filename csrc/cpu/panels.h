// SPDX-License-Identifier: MIT
// The weights of one layer in one direction as the forward scan reads them.
#pragma once
#include "scan.h"
#include "step.h"

namespace fusedrnn::FUSEDRNN_ISA {

// A cell with late gates takes a step in two stages, each with gates and panels of its own.
template <class Cell> constexpr int stages = Cell::kLate ? 2 : 1;
template <class Cell> constexpr int first_gate(int stage) { return stage * (Cell::kGates - Cell::kLate); }
template <class Cell> constexpr int gates_of(int stage) { return stage ? Cell::kLate : Cell::kGates - Cell::kLate; }

// What a first-level cache may hold. Of one row, panels of this size and more are two groups at least: steps take them up and
// down in turns, so that each finds one of them there.
constexpr long kFirstLevelBytes = 48 << 10;

template <class Cell, class Real> struct Panels {
  static constexpr int W = kWidth<Real>, G = Cell::kGates;
  Real *w_ih, *w_hh[2];                // panels
  Real *b_ih, *b_hh[2];                // [block][gates, of the stage in b_hh][W]
  Real* w_ch;                          // peepholes, [block][Q][W]
  Real* w_hr;                          // projection: columns are those of h
  Groups input_groups, groups[2];      // of w_ih (of vectors: G a block) and of w_hh,
  int vectors[2];                      // where a group is a number of panels of so many vectors
  Groups h_groups;                     // of w_hr
  int once;                            // > 0: w_ih is used once, and has room for one group of so many threads each
  long size;

  // Of a share's blocks; the groups suit input products of so many rows, and scans of so many, and are right for any.
  Panels(Real* base, const Sizes& z, const Share& of, long input_rows, long rows, int once = 0)
      : input_groups{group_blocks(input_rows), of.b0 * G, of.b1 * G}, h_groups{group_blocks(rows), of.h0, of.h1}, once(once) {
    const long units = long(blocks_of<Real>(z.H)) * W;
    Arena<Real> arena{base};
    w_ih = arena.take((once ? long(once) * input_groups.group * W : units * G) * z.I);
    for (int stage = 0; stage < stages<Cell>; stage++) {
      const int g = gates_of<Cell>(stage), tile_rows = step_rows_of(g, rows), all = of.b1 - of.b0,
                most = step_blocks(g, tile_rows);
      const bool fits = all * g * W * z.P * long(sizeof(Real)) < kFirstLevelBytes;
      const int blocks = rows > 1 || fits || all > most ? most : (all + 1) / 2;
      groups[stage] = {blocks, of.b0, of.b1};
      vectors[stage] = step_vectors(tile_rows) < blocks * g ? step_vectors(tile_rows) : blocks * g;
      w_hh[stage] = arena.take(units * g * z.P);
      b_hh[stage] = arena.take(units * g);
    }
    b_ih = arena.take(units * G);
    w_ch = arena.take(units * Cell::kPeepholes);
    w_hr = arena.take(z.projected() ? long(blocks_of<Real>(z.P)) * W * z.H : 0);
    size = arena.used;
  }

  // shared: the threads take turns, and a barrier must follow
  void pack(const Weights<const Real>& w, const Sizes& z, bool shared, int me, int threads) const {
    const long I = z.I, H = z.H, P = z.P;
    if (!once)
      for_packed_groups(shared, me, threads, input_groups,
                        [&](int n, int v) { pack_units(GateRows<Real>{w.weight_ih, H, I, G}, v, n, w_ih + v * I * W); });
    for (int stage = 0; stage < stages<Cell>; stage++) {
      const int g = gates_of<Cell>(stage);
      const GateRows<Real> rows{w.weight_hh + first_gate<Cell>(stage) * H * P, H, P, g};
      for_packed_groups(shared, me, threads, groups[stage], [&](int n, int b) {
        for_groups(vectors[stage], b * g, (b + n) * g, [&](int m, int v) { pack_units(rows, v, m, w_hh[stage] + v * P * W); });
        pack_bias(w.bias_hh ? w.bias_hh + first_gate<Cell>(stage) * H : nullptr, H, g, b, b + n, b_hh[stage]);
      });
    }
    for_packed_groups(shared, me, threads, groups[0], [&](int n, int b) {
      pack_bias(w.bias_ih, H, G, b, b + n, b_ih);
      if constexpr (Cell::kPeepholes > 0) pack_bias(w.weight_ch, H, Cell::kPeepholes, b, b + n, w_ch);
    });
    if (z.projected())
      for_packed_groups(shared, me, threads, h_groups,
                        [&](int n, int b) { pack_units(GateRows<Real>{w.weight_hr, P, H, 1}, b, n, w_hr + b * H * W); });
  }
};

}  // namespace fusedrnn::FUSEDRNN_ISA
