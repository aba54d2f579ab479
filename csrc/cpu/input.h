// SPDX-License-Identifier: MIT
// The input part of all gates for a chunk of time, x W_ih^T + b_ih, as one thread makes it for its own units and rows.
#pragma once
#include "panels.h"

namespace fusedrnn::FUSEDRNN_ISA {

template <class Cell, class Real> struct InputPart {
  static constexpr int W = kWidth<Real>, G = Cell::kGates;
  const ForwardArgs<Real>& a;
  const Panels<Cell, Real>& panels;
  const Clock& clock;
  const Share& mine;
  const int me;
  Real* const xg;  // [block][G][row in chunk][W]

  void run(const Chunk& chunk) const {
    if (a.tokens) gather(chunk);
    else if (panels.once) pack_and_multiply(chunk);
    else for_own_rows(chunk, [&](long r0, long r1) { product(whole(chunk), r0, r1, mine.b0 * G, mine.b1 * G); });
  }

 private:
  // f(r0, r1): the chunk's rows that this thread scans
  template <class F> void for_own_rows(const Chunk& chunk, F&& f) const {
    if (!a.plan.by_rows) return f(0L, chunk.rows);
    for (long t = chunk.first_time; t < chunk.last_time; t++) {
      const long r = clock.row(t) - chunk.first_row, n1 = mine.n1 < clock.count(t) ? mine.n1 : clock.count(t);
      if (mine.n0 < n1) f(r + mine.n0, r + n1);
    }
  }

  Product<Real> whole(const Chunk& chunk) const {
    return {.left = plain_left(a.x + chunk.first_row * a.size.I, a.size.I, 1, a.size.I),
            .panel = panels.w_ih,
            .groups = panels.input_groups,
            .init = {panels.b_ih, 0, W},
            .out = {xg, W, chunk.rows * W},
            .columns = long(blocks_of<Real>(a.size.H)) * G * W};
  }

  // Each group of panels is packed where the one before lay.
  void pack_and_multiply(const Chunk& chunk) const {
    const Sizes& z = a.size;
    Product<Real> p = whole(chunk);
    Real* group = panels.w_ih + me * panels.input_groups.group * z.I * W;
    p.panel = group;
    for_groups(panels.input_groups.group, mine.b0 * G, mine.b1 * G, [&](int n, int v) {
      pack_units(GateRows<Real>{a.weights.weight_ih, z.H, z.I, G}, v, n, group);
      p.groups = {n, 0, n};
      p.init.data = panels.b_ih + v * W;
      p.out.data = xg + v * chunk.rows * W;
      p.columns = n * W;
      product(p, 0, chunk.rows, 0, n);
    });
  }

  // The product with one-hot rows: the same bits.
  void gather(const Chunk& chunk) const {
    const std::int64_t* tokens = a.tokens + chunk.first_row;
    for_group_parts(panels.input_groups, mine.b0 * G, mine.b1 * G, false, [&](int n, int first, int j0, int j1) {
      for (int v = first + j0; v < first + j1; v++) {
        const Vec<Real> bias = load(panels.b_ih + v * W);
        const Real* column = panels.w_ih + first * a.size.I * W + (v - first) * W;
        for_own_rows(chunk, [&](long r0, long r1) {
          for (long r = r0; r < r1; r++) store(xg + (v * chunk.rows + r) * W, bias + load(column + tokens[r] * n * W));
        });
      }
    });
  }
};

}  // namespace fusedrnn::FUSEDRNN_ISA
