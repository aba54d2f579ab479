// SPDX-License-Identifier: MIT
// The gradient of x for a chunk of time, gate gradients · W_ih, as one thread makes its columns, or its rows.
#pragma once
#include "scan.h"

namespace fusedrnn::FUSEDRNN_ISA {

template <class Cell, class Real> class InputGradient {
  static constexpr int W = kWidth<Real>, G = Cell::kGates;
  const BackwardArgs<Real>& a;
  const Sizes& z;
  Real* const w_ih;  // panels over columns, size(a) values: k = (gate, unit)
  const int me, threads;

 public:
  const bool by_rows;  // else by columns, and each thread packs its own

  InputGradient(const BackwardArgs<Real>& args, Real* w_ih, int me, int threads)
      : a(args), z(args.size), w_ih(w_ih), me(me), threads(threads), by_rows(splits_rows(args)) {}

  static long size(const BackwardArgs<Real>& a) {
    if (!a.dx || reads_in_place<Real>(a.size, a.size.I)) return 0;
    return G * a.size.H * W * (is_once(a) ? a.plan.threads * kTileBlocks : blocks_of<Real>(a.size.I));
  }

  // A barrier must follow if by rows.
  void pack() const {
    if (is_once(a) || reads_in_place<Real>(z, z.I)) return;
    const auto [c0, c1] = columns();
    for_packed_groups(by_rows, me, threads, {kTileBlocks, c0, c1},
                      [&](int n, int b) { pack_columns(a.weights.weight_ih, G * z.H, z.I, b, n, w_ih + b * G * z.H * W); });
  }

  void run(const Chunk& chunk, const GateGradients<Real>& d) const {
    const auto [c0, c1] = columns();
    const long r0 = by_rows ? chunk.rows * me / threads : 0, r1 = by_rows ? chunk.rows * (me + 1) / threads : chunk.rows;
    const bool in_place = reads_in_place<Real>(z, z.I);
    Real* dx = a.dx + chunk.first_row * z.I;
    Product<Real> p{.left = d.left(z.H, G, Cell::kX),
                    .panel = in_place ? a.weights.weight_ih : w_ih,
                    .groups = in_place ? all_columns<Real>(z.I) : Groups{kTileBlocks, c0, c1},
                    .init = {a.dx_add ? dx : nullptr, z.I, W},
                    .out = {dx, z.I, W},
                    .columns = z.I};
    if (in_place || !is_once(a)) return product(p, r0, r1, c0, c1);
    Real* group = w_ih + me * kTileBlocks * G * z.H * W;
    for_groups(kTileBlocks, c0, c1, [&](int n, int c) {
      pack_columns(a.weights.weight_ih, G * z.H, z.I, c, n, group);
      p.panel = group;
      p.groups = {n, 0, n};
      p.out.data = dx + c * W;
      p.init.data = a.dx_add ? p.out.data : nullptr;
      p.columns = z.I - c * W;
      product(p, r0, r1, 0, n);
    });
  }

 private:
  static bool splits_rows(const BackwardArgs<Real>& a) {
    return a.plan.by_rows || blocks_of<Real>(a.size.I) < 2 * a.plan.threads;
  }
  // A sequence of one chunk needs the panels once: there is room for one group of each thread.
  static bool is_once(const BackwardArgs<Real>& a) { return is_one_chunk(a.size, a.plan) && !splits_rows(a); }

  struct Columns { int c0, c1; };
  Columns columns() const {
    const long all = blocks_of<Real>(z.I);
    if (by_rows) return {0, int(all)};
    return {int(all * me / threads), int(all * (me + 1) / threads)};
  }
};

}  // namespace fusedrnn::FUSEDRNN_ISA
