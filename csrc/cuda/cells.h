// SPDX-License-Identifier: MIT
// The cells of the one list (cells/all.h) that the device has: all but those with layer normalisation, whose sums over a
// row's units no block has.
#pragma once
#include "math.h"
// The cells' formulas
#include "cells/all.h"

namespace fusedrnn::cuda {

template <class F> void for_each_cell(F&& f) {
  device::for_each_cell([&]<class Cell>() {
    if constexpr (!device::NormCell<Cell>) f.template operator()<Cell>();
  });
}

}  // namespace fusedrnn::cuda
