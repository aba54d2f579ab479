// SPDX-License-Identifier: MIT
// What a recurrent layer and a linear layer share: gradients of pre-activations ("gate gradients"), kept as
// [block][slot][row][W], and the sums over rows that make those of a weight and its bias of them.
#pragma once
#include "pack.h"

namespace fusedrnn::FUSEDRNN_ISA {

template <class Real> struct GateGradients {
  Real* data;
  long rows;
  int slots;

  Real* at(int block, int slot, long row) const { return data + ((long(block) * slots + slot) * rows + row) * kWidth<Real>; }
  GateGradients from(long row) const { return {at(0, 0, row), rows, slots}; }
  // Rows as the left factor of a product whose k is (gate, unit < H).
  Left<Real> left(long H, int gates, const int* slot) const {
    constexpr int W = kWidth<Real>;
    const int blocks = blocks_of<Real>(H);
    return {.data = data,
            .row = W,
            .step = 1,
            .run = W,
            .last_run = lanes_of<Real>(H, blocks - 1),
            .gates = gates,
            .blocks = blocks,
            .slot = slot,
            .slot_stride = rows * W,
            .block_stride = long(slots) * rows * W};
  }
};

inline constexpr int kOneSlot[] = {0};  // of gradients that have no gates

// Rows of a matrix, evenly apart, or each wherever it is.
template <class Real> struct RowSource {
  const Real* first;
  long stride;
  const Real* const* rows = nullptr;

  const Real* row(long i) const { return rows ? rows[i] : first + i * stride; }
};

// The rows a weight gradient sums over. Each element is one chain from the last time step to the first, so that the
// length of a chunk of time does not change its bits: `backwards` says that rows run against time.
struct RowOrder {
  long rows;
  bool backwards;
};

// dweight[(gate, unit), k] (+)= sum over rows of d[slot[gate]][unit] source[k]; units of blocks b0..b1, gates g0..g1.
// strip: rows * kTileBlocks * W values, this thread's.
template <class Real>
void weight_gradient(const GateGradients<Real>& d, const int* slot, int g0, int g1, long H, int b0, int b1,
                     const RowSource<Real>& source, RowOrder order, Real* dweight, long K, bool add, Real* strip);

// dbias[(gate, unit)] (+)= sum over rows of d[slot[gate]][unit], in the same order.
template <class Real>
void bias_gradient(const GateGradients<Real>& d, const int* slot, int gates, long H, int b0, int b1, RowOrder order,
                   Real* dbias, bool add);

}  // namespace fusedrnn::FUSEDRNN_ISA
