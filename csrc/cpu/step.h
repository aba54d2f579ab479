// SPDX-License-Identifier: MIT
// A tile of a step: the hidden part of all gates of some units in some rows. It knows the number of gates and not the cell:
// cells with as many share it, and finish what it leaves.
#pragma once
#include "gemm.h"

namespace fusedrnn::FUSEDRNN_ISA {

template <class Real> struct StepTile {
  const Real* bias;  // of the first unit's first gate, [gate][W]; units' blocks bias_block apart
  long bias_block;
  const Real* h;     // (rows, K) from the first row on, rows h_row apart; null is zeros
  long h_row, K;
  const Real* panel;  // of the first column, one k panel_step after another
  long panel_step;
};

// sums: [row][block][gate]
template <int kGates, int kRows, int kBlocks, class Real>
[[gnu::noinline]] void step_sums(StepTile<Real> t, Ahead<Real>& ahead, Vec<Real>* sums) {
  constexpr int W = kWidth<Real>, kVectors = kBlocks * kGates;
  Vec<Real> acc[kRows][kVectors];  // must only be indexed by constants, or it would live in memory
  UNROLL for (int r = 0; r < kRows; r++) UNROLL for (int j = 0; j < kVectors; j++) acc[r][j] =
      load(t.bias + j / kGates * t.bias_block + j % kGates * W);
  for (long k = 0; t.h && k < t.K; k += kRun) {
    ahead.fetch();
    if constexpr (kRegisters == 32)  // else the run is the whole row
      UNROLL for (long line = kRun; line < 2 * kRun; line += Ahead<Real>::kLine) fetch_rows<kRows>(t.h + k + line, t.h_row);
    multiply<kRows, kVectors>(acc, t.h + k, t.h_row, 1, t.K - k < kRun ? t.K - k : kRun, t.panel + k * t.panel_step,
                              t.panel_step);
  }
  UNROLL for (int r = 0; r < kRows; r++) UNROLL for (int j = 0; j < kVectors; j++) sums[r * kVectors + j] = acc[r][j];
}

}  // namespace fusedrnn::FUSEDRNN_ISA
