// SPDX-License-Identifier: MIT
// A tile of a step: the hidden part of some gates in some rows. It knows neither the cell nor its gates: all cells share it,
// and finish what it leaves.
#pragma once
#include "gemm.h"

namespace fusedrnn::FUSEDRNN_ISA {

constexpr int gcd(int a, int b) { return b ? gcd(b, a % b) : a; }

// A step's tile for `gates` gates, measured: its rows; with so many rows its vectors of columns, at the most; and the blocks of
// units whose gates are multiplied before the cell goes on: those of one tile or, where 16 registers rarely hold all gates of a
// block, of a number of full tiles.
constexpr int step_rows(int gates) { return kRegisters == 32 ? (gates == 3 ? 8 : 6) : 4; }
constexpr int step_vectors(int rows) { return rows == 1 ? kSums * 2 / 3 : kSums / rows; }
constexpr int step_blocks(int gates, int rows) {
  const int most = step_vectors(rows), cap = rows == 1 ? 8 : 4;
  if (kRegisters == 16 && rows > 1) return most / gcd(most, gates);
  const int blocks = most / gates;
  return blocks < 1 ? 1 : blocks < cap ? blocks : cap;
}
// Rows of the first tile of a scan of so many
constexpr int step_rows_of(int gates, long rows) {
  const int most = step_rows(gates), tiles = (rows + most - 1) / most;
  return tiles ? (rows + tiles - 1) / tiles : 1;
}

template <class Real> struct StepTile {
  const Real* bias;  // of the first column
  const Real* h;     // (rows, K) from the first row on, rows h_row apart; null is zeros
  long h_row, K;
  const Real* panel;  // of the first column, one k panel_step after another
  long panel_step = 0;
};

// The first row's sums, and those of the next sums_row behind
template <int kRows, int kVectors, class Real>
[[gnu::noinline]] void step_sums(const StepTile<Real>& t, Ahead<Real>& ahead, Vec<Real>* sums, int sums_row) {
  constexpr int W = kWidth<Real>;
  Vec<Real> acc[kRows][kVectors];  // must only be indexed by constants, or it would live in memory
  UNROLL for (int r = 0; r < kRows; r++) UNROLL for (int j = 0; j < kVectors; j++) acc[r][j] = load(t.bias + j * W);
  for (long k = 0; t.h && k < t.K; k += kRun) {
    ahead.fetch();
    if constexpr (kRegisters == 32)  // else the run is the whole row
      UNROLL for (long line = kRun; line < 2 * kRun; line += Ahead<Real>::kLine) fetch_rows<kRows, 1>(t.h + k + line, t.h_row);
    multiply<kRows, kVectors>(acc, t.h + k, t.h_row, 1, t.K - k < kRun ? t.K - k : kRun, t.panel + k * t.panel_step,
                              t.panel_step);
  }
  UNROLL for (int r = 0; r < kRows; r++) UNROLL for (int j = 0; j < kVectors; j++) sums[r * sums_row + j] = acc[r][j];
}

// The sums of vectors first..last, [row][vector], in as many tiles as that takes. They are of a group of `all` vectors, which
// lie in panels of `of_panel` vectors each, back to back from t.panel on.
template <int kRows, class Real>
INLINE void group_sums(StepTile<Real> t, int of_panel, int all, int first, int last, Ahead<Real>& ahead, Vec<Real>* sums) {
  constexpr int W = kWidth<Real>, kVectors = step_vectors(kRows);
  const Real *const bias = t.bias, *const panels = t.panel;
  for (int v = first, i = first % of_panel, n; v < last; v += n, i = i + n < of_panel ? i + n : 0) {
    const int begin = v - i, size = all - begin < of_panel ? all - begin : of_panel,
              left = size - i < last - v ? size - i : last - v;
    n = left < kVectors ? left : kVectors;
    t.bias = bias + v * W;
    t.panel = panels + (begin * t.K + i) * W;
    t.panel_step = size * W;
    with_count<kVectors>(n, [&](auto vectors) { step_sums<kRows, vectors.value>(t, ahead, sums + v - first, last - first); });
  }
}

}  // namespace fusedrnn::FUSEDRNN_ISA
