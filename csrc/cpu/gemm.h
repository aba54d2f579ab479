// SPDX-License-Identifier: MIT
// The only matrix product: a register tile of kRows rows times vectors of columns over a packed panel, each element one
// chain of fma over k in a fixed order. The vector runs over columns (units), never over k: an element's bits do not
// depend on the tile it falls into, on the batch, on the threads or on the width of the vector.
#pragma once
#include "math.h"

namespace fusedrnn::FUSEDRNN_ISA {

// acc[r][v] += sum over k of a[r * a_row + k * a_k] w[k * w_k + v W]. a_k and w_k may be negative.
template <int kRows, int kVectors, class Real>
INLINE void multiply(Vec<Real> (&acc)[kRows][kVectors], const Real* a, long a_row, long a_k, long K, const Real* w, long w_k) {
  constexpr int W = kWidth<Real>;
  for (long k = 0; k < K; k++, a += a_k, w += w_k) {
    if constexpr (kRows < kVectors) {  // hold the fewer in registers, stream the more
      Vec<Real> x[kRows];
      UNROLL for (int r = 0; r < kRows; r++) x[r] = splat(a[r * a_row]);
      UNROLL for (int v = 0; v < kVectors; v++) {
        Vec<Real> column = load(w + v * W);
        if constexpr (kRows > 1) hold(column);
        UNROLL for (int r = 0; r < kRows; r++) acc[r][v] = fma(x[r], column, acc[r][v]);
      }
    } else {
      Vec<Real> column[kVectors];
      UNROLL for (int v = 0; v < kVectors; v++) column[v] = load(w + v * W);
      UNROLL for (int r = 0; r < kRows; r++) {
        const Vec<Real> x = splat(a[r * a_row]);
        UNROLL for (int v = 0; v < kVectors; v++) acc[r][v] = fma(x, column[v], acc[r][v]);
      }
    }
  }
}

// What a core's second-level cache holds beside all else; panels beyond come from farther away in every step.
constexpr long kNearBytes = 1 << 20;

// Memory that will be read next, brought near while tiles work: a few cache lines before each run of k's. Spread over all tiles
// that share a panel; at once, they would take the fill buffers from the tiles' own loads.
template <class Real> struct Ahead {
  static constexpr long kLine = 64 / sizeof(Real);
  const Real* next = nullptr;
  long lines = 0;

  Ahead() = default;
  // n values from p on, in so many fetches
  Ahead(const Real* p, long n, long fetches) : next(p), lines((n / kLine + fetches - 1) / fetches) {}
  // With 16 registers there are none left for this, and a tile takes twice as long: it costs 3 % and gains nothing.
  INLINE void fetch() {
    if constexpr (kRegisters == 32)
      for (long i = 0; i < lines; i++, next += kLine) __builtin_prefetch(next, 0, 2);
  }
};

constexpr int kLineRows = 64 / kBytes;  // vectors in a cache line

// A tile's rows of its left factor, some k's before they are multiplied: they may have been written by another core, from
// which a line takes 0.1 µs, longer than out-of-order execution looks ahead. Of rows that share a line one is enough.
template <int kRows, int kSharing, class Real> INLINE void fetch_rows(const Real* a, long a_row) {
  UNROLL for (int r = 0; r < kRows; r += kSharing) __builtin_prefetch(a + r * a_row);
}

// Sizes of tiles, in rows and vectors: as many sums as the registers hold beside their operands (24 of 32, 12 of 16).
constexpr int kSums = kRegisters * 3 / 4;
constexpr int kTileRows = kRegisters == 32 ? 6 : 4;     // of the plain product
constexpr int kTileBlocks = kSums / kTileRows;
constexpr int kWideBlocks = kRegisters == 32 ? 8 : 6;   // for few rows: the panel streams past more sums at once
constexpr int kWideRows = kSums / kWideBlocks;
// Blocks (vectors of columns) in one group of a panel, for products over this many rows
constexpr int group_blocks(long rows) { return rows <= kWideRows ? kWideBlocks : kTileBlocks; }

// How a panel's blocks lie: groups of `group` from block `first` to `last`, whoever works on which of them.
struct Groups { int group, first, last; };

template <int n> struct Count { static constexpr int value = n; };

// f(Count<n>) for a run-time n in 1..kMost
template <int kMost, class F> INLINE void with_count(int n, F&& f) {
  if constexpr (kMost > 1) {
    if (n < kMost) return with_count<kMost - 1>(n, f);
  }
  f(Count<kMost>{});
}
// f(Count<n>, first): rows first..last in tiles of at most kMost, as even as can be
template <int kMost, class F> INLINE void for_row_tiles(long first, long last, F&& f) {
  for (long tiles = (last - first + kMost - 1) / kMost; tiles > 0; tiles--) {
    const int n = (last - first + tiles - 1) / tiles;
    with_count<kMost>(n, [&](auto rows) { f(rows, first); });
    first += n;
  }
}
// Blocks first..last in groups of `most`, the last with what is left: f(n, b). `down`: the last group first.
template <class F> INLINE void for_groups(int most, int first, int last, bool down, F&& f) {
  const int groups = (last - first + most - 1) / most;
  for (int i = 0; i < groups; i++) {
    const int b = first + (down ? groups - 1 - i : i) * most;
    f(last - b < most ? last - b : most, b);
  }
}
template <class F> INLINE void for_groups(int most, int first, int last, F&& f) { for_groups(most, first, last, false, f); }
// f(n, b, j0, j1): of each group (n blocks from b on) those, b + j0..b + j1, that are among b0..b1
template <class F> INLINE void for_group_parts(const Groups& groups, int b0, int b1, bool down, F&& f) {
  for_groups(groups.group, groups.first, groups.last, down, [&](int n, int b) {
    const int j0 = b < b0 ? b0 - b : 0, j1 = b1 - b < n ? b1 - b : n;
    if (j0 < j1) f(n, b, j0, j1);
  });
}
// The group that follows the one at block b in for_group_parts: its first block, and how many; none after the last.
struct Group { int first, n; };
inline Group group_after(const Groups& groups, int b, int b0, int b1, bool down) {
  const int first = down ? b - groups.group : b + groups.group, left = groups.last - first;
  if (down ? b <= b0 : first >= b1) return {0, 0};
  return {first, left < groups.group ? left : groups.group};
}

// k's of a product that are done for all rows before the next: so much of a panel stays in the second-level cache.
constexpr long kMostK = 512, kRun = kRegisters == 32 ? 32 : kMostK;

// The left factor: `gates` times `blocks` runs of k. Element (r, k) of run (g, u) stands at
//   data + slot[g] * slot_stride + u * block_stride + r * row + k * step,   k < run (in the last block: last_run)
// Rows of x are runs of kRun; gate gradients, kept [block][slot][row][W], are walked as k = (gate, unit).
template <class Real> struct Left {
  const Real* data;
  long row, step;
  long run, last_run;
  int gates = 1, blocks = 1;
  const int* slot = nullptr;  // null: slot[g] is g
  long slot_stride = 0, block_stride = 0;

  int runs() const { return gates * blocks; }
  // The first k of a run
  long start(int i) const { return i / blocks * ((blocks - 1) * run + last_run) + i % blocks * run; }
  long length() const { return start(runs()); }
};
// Element (r, k) at data + r * row + k * step
template <class Real> Left<Real> plain_left(const Real* data, long row, long step, long K) {
  const int blocks = int((K + kRun - 1) / kRun);
  return {.data = data,
          .row = row,
          .step = step,
          .run = kRun,
          .last_run = K - (blocks - 1) * kRun,
          .blocks = blocks,
          .block_stride = kRun * step};
}

// Where a product comes from or goes to: the W columns of block b in row r stand at data + r * row + b * block.
template <class Real> struct Place {
  Real* data = nullptr;
  long row = 0, block = 0;
};

// out[r][b] = init[r][b] + left[r] · panel[b], for blocks b of W columns
template <class Real> struct Product {
  Left<Real> left;
  const Real* panel;  // the group that starts at block b lies at panel + b * length * W, [k][blocks in group][W]
  Groups groups;      // any; group_blocks() of the rows is the fastest
  Place<const Real> init;  // null: zeros
  Place<Real> out;
  long columns;         // of init and out, from block 0 on; lanes beyond are neither read nor written
  long panel_step = 1;  // -1: k runs through the panel from its end (and through `left`, by its own step)
  bool down = false;    // the last group first
};

// rows r0..r1 of blocks b0..b1
template <class Real> void product(const Product<Real>& p, long r0, long r1, int b0, int b1);

}  // namespace fusedrnn::FUSEDRNN_ISA
