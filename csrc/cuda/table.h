// SPDX-License-Identifier: MIT
// Fills the table of one type; included by the file that compiles its kernels.
#pragma once
#include "kernels.h"
#include "sums.h"

namespace fusedrnn::cuda {

template <class Real> Kernels<Real> table() {
  Kernels<Real> k{};
  for_each_cell([&]<class Cell>() {
    CellKernels<Real>& cell = k.cells[k.count++];
    cell.info = {.name = Cell::kName, .gates = Cell::kGates, .states = Cell::kStates, .peepholes = Cell::kPeepholes};
    cell.saved = Cell::kSaved, cell.grads = Cell::kGrads, cell.late = Cell::kLate;
    for (int g = 0; g < Cell::kGates; g++)
      cell.x_position[g] = position<Cell>(Cell::kX[g]), cell.h_position[g] = position<Cell>(Cell::kH[g]);
    cell.forward = forward_kernel<Cell, Real>;
    cell.backward = backward_kernel<Cell, Real>;
    cell.sums = sums_kernel<Cell, Real>;
  });
  return k;
}

}  // namespace fusedrnn::cuda
