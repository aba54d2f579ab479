// SPDX-License-Identifier: MIT
// The cells of the one list (cells/all.h) that the device has: all but those with layer normalisation, whose sums over a
// row's units no block has. With FUSEDRNN_ONLY_CELLS, types of some of them, only those: for builds that take long otherwise.
#pragma once
#include <type_traits>

#include "math.h"
// The cells' formulas
#include "cells/all.h"

namespace fusedrnn::cuda {

#ifdef FUSEDRNN_ONLY_CELLS
template <class Cell, class... Few> constexpr bool kAmong = (std::is_same_v<Cell, Few> || ...);
template <class Cell> constexpr bool kBuilt = kAmong<Cell, FUSEDRNN_ONLY_CELLS>;
#else
template <class Cell> constexpr bool kBuilt = !device::NormCell<Cell>;
#endif

template <class F> void for_each_cell(F&& f) {
  device::for_each_cell([&]<class Cell>() {
    if constexpr (kBuilt<Cell>) f.template operator()<Cell>();
  });
}

}  // namespace fusedrnn::cuda
