// SPDX-License-Identifier: MIT
// One table of kernels for each type; below it nothing branches on the cell or the type.
#pragma once
#include "params.h"

namespace fusedrnn::cuda {

template <class Real> struct SumsParams;

template <class Real> struct CellKernels {
  CellInfo info;
  int saved, grads, late;
  int x_position[kMaxGates], h_position[kMaxGates];  // where the gradients of a gate's parts stand in a row of d
  void (*forward)(ForwardParams<Real>, int first, int last);
  void (*backward)(BackwardParams<Real>, int first, int last);
  void (*sums)(SumsParams<Real>);

  int first() const { return info.gates - late; }  // gates of the first phase of a step
  int phases() const { return late ? 2 : 1; }
};

constexpr int kMaxCells = 8;
template <class Real> struct Kernels {
  int count;
  CellKernels<Real> cells[kMaxCells];
};
template <class Real> const Kernels<Real>& kernels();
template <> const Kernels<float>& kernels();
template <> const Kernels<simt::bf16>& kernels();
// Throws for an unknown cell, and for sizes that the kernels cannot count.
template <class Real> const CellKernels<Real>& kernels_of(const Layer& layer);

}  // namespace fusedrnn::cuda
