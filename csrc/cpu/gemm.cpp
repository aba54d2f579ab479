// SPDX-License-Identifier: MIT
// The plain product, for both types; compiled once per instruction set.
#include "gemm.h"

namespace fusedrnn::FUSEDRNN_ISA {
namespace {

// A tile's sums from and to memory. They are indexed by constants only, or they would live in memory themselves; at the
// edge of a matrix they pass through an array. `columns` are those from block b on.
template <int kRows, int kBlocks, class Real>
INLINE void load_tile(Vec<Real> (&acc)[kRows][kBlocks], const Place<const Real>& from, long r, int b, long columns) {
  constexpr int W = kWidth<Real>;
  const Real* p = from.data + r * from.row + b * from.block;
  if (columns >= kBlocks * W) {
    UNROLL for (int i = 0; i < kRows; i++) UNROLL for (int j = 0; j < kBlocks; j++) acc[i][j] =
        load(p + i * from.row + j * from.block);
  } else {
    Vec<Real> edge[kRows][kBlocks];
    for (int i = 0; i < kRows; i++)
      for (int j = 0; j < kBlocks; j++) edge[i][j] = load(p + i * from.row + j * from.block, columns - j * W);
    UNROLL for (int i = 0; i < kRows; i++) UNROLL for (int j = 0; j < kBlocks; j++) acc[i][j] = edge[i][j];
  }
}
template <int kRows, int kBlocks, class Real>
INLINE void store_tile(const Vec<Real> (&acc)[kRows][kBlocks], const Place<Real>& to, long r, int b, long columns) {
  constexpr int W = kWidth<Real>;
  Real* p = to.data + r * to.row + b * to.block;
  if (columns >= kBlocks * W) {
    UNROLL for (int i = 0; i < kRows; i++) UNROLL for (int j = 0; j < kBlocks; j++)
        store(p + i * to.row + j * to.block, acc[i][j]);
  } else {
    Vec<Real> edge[kRows][kBlocks];
    UNROLL for (int i = 0; i < kRows; i++) UNROLL for (int j = 0; j < kBlocks; j++) edge[i][j] = acc[i][j];
    for (int i = 0; i < kRows; i++)
      for (int j = 0; j < kBlocks; j++) store(p + i * to.row + j * to.block, edge[i][j], columns - j * W);
  }
}

constexpr int kRunsAhead = 2;  // 1 and 3 gain less, 8 nothing

// Runs of the left factor that are done for all rows and blocks before the next
struct Runs { int first, last; };

// `w`: the tile's columns at k = 0, one k w_k after another
template <int kRows, int kBlocks, class Real>
[[gnu::noinline]] void tile(const Product<Real>& p, Runs runs, long r, int b, const Real* w, long w_k, Ahead<Real>& ahead) {
  constexpr int W = kWidth<Real>;
  Vec<Real> acc[kRows][kBlocks] = {};
  const long columns = p.columns - b * W;
  const Place<const Real> init = runs.first ? Place<const Real>{p.out.data, p.out.row, p.out.block} : p.init;
  if (init.data) load_tile<kRows, kBlocks>(acc, init, r, b, columns);

  const Left<Real>& a = p.left;
  w += a.start(runs.first) * w_k;
  for (int i = runs.first; i < runs.last;) {
    const int g = i / a.blocks, u0 = i % a.blocks, u1 = runs.last - i < a.blocks - u0 ? u0 + runs.last - i : a.blocks;
    const Real* from = a.data + (a.slot ? a.slot[g] : g) * a.slot_stride + u0 * a.block_stride + r * a.row;
    for (int u = u0; u < u1; u++, from += a.block_stride) {
      const long run = u + 1 < a.blocks ? a.run : a.last_run;
      ahead.fetch();
      fetch_rows<kRows, kLineRows>(from + kRunsAhead * a.block_stride, a.row);
      multiply<kRows, kBlocks>(acc, from, a.row, a.step, run, w, w_k);
      w += run * w_k;
    }
    i += u1 - u0;
  }
  store_tile<kRows, kBlocks>(acc, p.out, r, b, columns);
}

// Tiles of at most kRows x kBlocks over blocks b + j0..b + j1 of the group of n that starts at block b; `next` is fetched.
template <int kRows, int kBlocks, class Real>
void group(const Product<Real>& p, Runs runs, long r0, long r1, int n, int b, int j0, int j1, Group next) {
  constexpr int W = kWidth<Real>;
  const long length = p.left.length(), w_k = n * W;
  const Real* w = p.panel + b * length * W + (p.panel_step < 0 ? (length - 1) * w_k : 0);
  Ahead<Real> ahead;
  if (next.n) {
    const long k = p.left.start(runs.first), K = p.left.start(runs.last) - k, next_k = next.n * W;
    const long tiles = (r1 - r0 + kRows - 1) / kRows * ((j1 - j0 + kBlocks - 1) / kBlocks);
    ahead = {p.panel + next.first * length * W + k * next_k, K * next_k, tiles * (runs.last - runs.first)};
  }
  for_groups(kBlocks, j0, j1, [&](int count, int j) {
    with_count<kBlocks>(count, [&](auto blocks) {
      for_row_tiles<kRows>(r0, r1, [&](auto rows, long r) {
        tile<rows.value, blocks.value>(p, runs, r, b + j, w + j * W, p.panel_step * w_k, ahead);
      });
    });
  });
}

}  // namespace

template <class Real> void product(const Product<Real>& p, long r0, long r1, int b0, int b1) {
  const bool few = r1 - r0 <= kWideRows;  // one tile of rows reads a panel once, in one go
  const int all = p.left.runs(), most = few ? all : p.left.run < kMostK ? int(kMostK / p.left.run) : 1;
  const long block = p.left.length() * kWidth<Real>;
  const bool near = (b1 - b0) * block * long(sizeof(Real)) < kNearBytes;
  for (int first = 0; first < all; first += most) {
    const Runs runs{first, first + most < all ? first + most : all};
    for_group_parts(p.groups, b0, b1, p.down, [&](int n, int b, int j0, int j1) {
      const Group next = near || few ? Group{} : group_after(p.groups, b, b0, b1, p.down);
      if (few) group<kWideRows, kWideBlocks>(p, runs, r0, r1, n, b, j0, j1, next);
      else group<kTileRows, kTileBlocks>(p, runs, r0, r1, n, b, j0, j1, next);
    });
  }
}
template void product(const Product<float>&, long, long, int, int);
template void product(const Product<double>&, long, long, int, int);

}  // namespace fusedrnn::FUSEDRNN_ISA
