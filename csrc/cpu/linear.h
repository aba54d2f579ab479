// SPDX-License-Identifier: MIT
// The linear layer on the same tiles: y = x Wᵀ + b, and its gradients. Threads share the rows; of dW, the outputs.
#pragma once
#include "../args.h"
#include "scan.h"

namespace fusedrnn::FUSEDRNN_ISA {

constexpr long kLinearChunk = 192;  // rows of dy kept in cache for dW, db and dx

template <class Real> struct LinearLayout {
  Real *panel, *bias, *d[2], *strip;
  long strip_size, size;
  LinearLayout(const LinearArgs<Real>& a, bool backward) {
    constexpr int W = kWidth<Real>;
    const long outputs = long(blocks_of<Real>(a.O)) * W, inputs = long(blocks_of<Real>(a.I)) * W;
    Arena<Real> arena{a.workspace};
    panel = arena.take(backward ? a.O * inputs : outputs * a.I);
    bias = arena.take(backward ? 0 : outputs);
    for (Real*& buffer : d) buffer = arena.take(backward ? outputs * kLinearChunk : 0);
    strip_size = backward ? kLinearChunk * kTileBlocks * W : 0;
    strip = arena.take(a.threads * strip_size);
    size = arena.used;
  }
};

template <class Real> void linear_forward(const LinearArgs<Real>& a, Team& team, int me) {
  constexpr int W = kWidth<Real>;
  const LinearLayout<Real> at(a, false);
  const int threads = team.size(), blocks = blocks_of<Real>(a.O);
  const Groups groups{group_blocks(a.M), 0, blocks};
  for_packed_groups(true, me, threads, groups, [&](int n, int b) {
    pack_units(GateRows<Real>{a.weight, a.O, a.I, 1}, b, n, at.panel + b * a.I * W);
    pack_bias(a.bias, a.O, 1, b, b + n, at.bias);
  });
  team.wait(me);
  product(Product<Real>{.left = plain_left(a.x, a.I, 1, a.I),
                        .panel = at.panel,
                        .groups = groups,
                        .init = {at.bias, 0, W},
                        .out = {a.y, a.O, W},
                        .columns = a.O},
          a.M * me / threads, a.M * (me + 1) / threads, 0, blocks);
}

// Rows first..first+rows of dy as gate gradients of one slot, output blocks b0..b1.
template <class Real> void spread(const LinearArgs<Real>& a, const GateGradients<Real>& d, long first, int b0, int b1) {
  for (int b = b0; b < b1; b++)
    for (long r = 0; r < d.rows; r++)
      store(d.at(b, 0, r), load(a.dy + (first + r) * a.O + b * kWidth<Real>, lanes_of<Real>(a.O, b)));
}

template <class Real> void linear_backward(const LinearArgs<Real>& a, Team& team, int me) {
  constexpr int W = kWidth<Real>;
  const LinearLayout<Real> at(a, true);
  const int threads = team.size(), blocks = blocks_of<Real>(a.O), inputs = blocks_of<Real>(a.I);
  const int b0 = long(blocks) * me / threads, b1 = long(blocks) * (me + 1) / threads;
  for_packed_groups(true, me, threads, {kTileBlocks, 0, inputs},
                    [&](int n, int b) { pack_columns(a.weight, a.O, a.I, b, n, at.panel + b * a.O * W); });
  for (long chunk = (a.M - 1) / kLinearChunk; chunk >= 0; chunk--) {
    const long first = chunk * kLinearChunk, rows = a.M - first < kLinearChunk ? a.M - first : kLinearChunk;
    const bool add = a.add || first + rows < a.M;
    const GateGradients<Real> d{at.d[chunk % 2], rows, 1};  // in turns: others may still read the last chunk's
    const RowOrder order{rows, true};
    spread(a, d, first, b0, b1);
    team.wait(me);
    if (a.dbias) bias_gradient(d, kOneSlot, 1, a.O, b0, b1, order, a.dbias, add);
    weight_gradient(d, kOneSlot, 0, 1, a.O, b0, b1, {a.x + first * a.I, a.I}, order, a.dweight, a.I, add,
                    at.strip + me * at.strip_size);
    product(Product<Real>{.left = d.left(a.O, 1, kOneSlot),
                          .panel = at.panel,
                          .groups = {kTileBlocks, 0, inputs},
                          .init = {},
                          .out = {a.dx + first * a.I, a.I, W},
                          .columns = a.I},
            rows * me / threads, rows * (me + 1) / threads, 0, inputs);
  }
}

}  // namespace fusedrnn::FUSEDRNN_ISA
