// SPDX-License-Identifier: MIT
// Unequal lengths, resets and noise, from Python's objects to what the kernels read; a tape keeps them for backward.
#pragma once
#include "args.h"
#include "arrays.h"

namespace fusedrnn {

struct OwnForm {
  std::vector<long> first_row;
  std::vector<std::uint8_t> resets;
  Noise noise{};
  std::vector<std::int64_t> noise_rows, noise_steps;

  Form view() const {
    const auto data = [](const auto& vector) { return vector.empty() ? nullptr : vector.data(); };
    Form form{data(first_row), data(resets), noise};
    form.noise.rows = data(noise_rows), form.noise.steps = data(noise_steps);
    return form;
  }
  // The kernels' T and N where arrays begin with (T, N): with first_row these are (1, R).
  void set_sizes(Sizes& z, long T, long N) const {
    z.T = first_row.empty() ? T : long(first_row.size()) - 1;
    z.N = first_row.empty() ? N : first_row[1];
  }
};

inline double probability(py::handle value, const char* name) {
  const double p = py::cast<double>(value);
  if (!(p >= 0 && p <= 1)) throw std::invalid_argument(std::string(name) + ": expected 0 to 1, got " + std::to_string(p));
  return p;
}

// (seed, dropout, zoneout of h, of c, expected, first_step, first_row, rows, steps): rows and steps int64 (N,) or None
inline void read_noise(OwnForm& form, py::handle noise, long T, long N) {
  const py::tuple items = py::cast<py::tuple>(noise);
  if (items.size() != 9) throw std::invalid_argument("noise: expected 9 items, got " + std::to_string(items.size()));
  form.noise.seed = py::cast<std::uint64_t>(items[0]);
  form.noise.dropout = probability(items[1], "recurrent_dropout");
  form.noise.zoneout[0] = probability(items[2], "zoneout_h"), form.noise.zoneout[1] = probability(items[3], "zoneout_c");
  form.noise.expected = py::cast<bool>(items[4]);
  form.noise.first_step = py::cast<long>(items[5]), form.noise.first_row = py::cast<long>(items[6]);
  const auto copy = [N](py::handle array, const char* name, std::vector<std::int64_t>& to) {
    if (array.is_none()) return;
    const auto* from = pointer<const std::int64_t>(array, name, {N});
    to.assign(from, from + N);
  };
  copy(items[7], "noise.rows", form.noise_rows);
  copy(items[8], "noise.steps", form.noise_steps);
  if (T != 1 && !form.noise_steps.empty()) throw std::invalid_argument("noise.steps: expected None beyond one step");
}

// Whether these are first rows: from 0 in steps of 1 or more that never grow
inline bool are_first_rows(const std::vector<long>& rows) {
  bool right = rows.size() > 1 && rows[0] == 0;
  for (std::size_t t = 1; right && t < rows.size(); t++)
    right = rows[t] > rows[t - 1] && (t == 1 || rows[t] - rows[t - 1] <= rows[t - 1] - rows[t - 2]);
  return right;
}

inline std::vector<long> read_first_row(py::handle object) {
  const long n = array_of<std::int64_t>(object, "first_row").size();
  const auto* rows = pointer<const std::int64_t>(object, "first_row", {n});
  std::vector<long> first_row(rows, rows + n);
  if (!are_first_rows(first_row))
    throw std::invalid_argument("first_row: expected 0 to R in steps of 1 or more that never grow");
  return first_row;
}

// first_row: int64 (T + 1,) or None; resets: bool, of the shape (T, N) with which the other arrays begin, or None
inline OwnForm read_form(py::handle first_row, py::handle resets, py::handle noise, long T, long N) {
  OwnForm form;
  if (!first_row.is_none()) {
    form.first_row = read_first_row(first_row);
    if (T != 1 || form.first_row.back() != N) throw std::invalid_argument("first_row: expected that of arrays (1, R, ...)");
  }
  if (!resets.is_none()) {
    const auto* flags = reinterpret_cast<const std::uint8_t*>(pointer<const bool>(resets, "resets", {T, N}));
    form.resets.assign(flags, flags + T * N);
  }
  if (!noise.is_none()) {
    Sizes z{};
    form.set_sizes(z, T, N);
    read_noise(form, noise, z.T, z.N);
  }
  return form;
}

}  // namespace fusedrnn
