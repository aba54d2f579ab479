// SPDX-License-Identifier: MIT
// Unequal lengths and resets, from Python's arrays to what the kernels read; a tape keeps them for backward.
#pragma once
#include <algorithm>

#include "args.h"
#include "arrays.h"

namespace fusedrnn {

struct OwnForm {
  std::vector<long> first_row;
  std::vector<std::uint8_t> resets;

  Form view() const { return {first_row.empty() ? nullptr : first_row.data(), resets.empty() ? nullptr : resets.data()}; }
  // The kernels' T and N where arrays begin with (T, N): with first_row these are (1, R).
  void set_sizes(Sizes& z, long T, long N) const {
    z.T = first_row.empty() ? T : long(first_row.size()) - 1;
    z.N = first_row.empty() ? N : first_row[1];
  }
};

// first_row: int64 (T + 1,) or None; resets: bool, of the shape (T, N) with which the other arrays begin, or None
inline OwnForm read_form(py::handle first_row, py::handle resets, long T, long N) {
  OwnForm form;
  if (!first_row.is_none()) {
    const long n = array_of<std::int64_t>(first_row, "first_row").size();
    const auto* rows = pointer<const std::int64_t>(first_row, "first_row", {n});
    form.first_row.assign(rows, rows + n);
    bool right = n > 1 && T == 1 && rows[0] == 0 && rows[n - 1] == N;
    for (long t = 1; right && t < n; t++)
      right = rows[t] > rows[t - 1] && (t == 1 || rows[t] - rows[t - 1] <= rows[t - 1] - rows[t - 2]);
    if (!right) throw std::invalid_argument("first_row: expected 0 to R in steps of 1 or more that never grow");
  }
  if (!resets.is_none()) {
    const auto* flags = reinterpret_cast<const std::uint8_t*>(pointer<const bool>(resets, "resets", {T, N}));
    form.resets.assign(flags, flags + T * N);
  }
  return form;
}

}  // namespace fusedrnn
