// SPDX-License-Identifier: MIT
// _core.longest_first, pack_rows and unpack_rows: sequences of unequal length without their padding, and back.
#include <algorithm>
#include <utility>

#include "bindings.h"
#include "cpu/plan.h"
#include "cpu/team.h"
#include "form.h"
#include "gil.h"

namespace fusedrnn {
namespace {

// What a byte that is copied counts: a thread is to have 270 KB, 20 µs and more, for beside other programs a team may wait for
// a slice of time (20 µs of copying took 8 ms).
constexpr double kOperations = 1.5;

// Rows of K values: (T, N, K) with padding, and packed (1, R, K)
template <class T> struct Arrays {
  long steps, N, K;
  Rows<T> padded;
  T* packed;
  std::vector<std::int64_t> order;  // (N,): the rows of the batch, the longest first
  std::vector<long> first_row;      // of each step in R, up to the end of the longest

  // Those that have a step are the first ones of `order`.
  long count(long t) const { return t + 1 < long(first_row.size()) ? first_row[t + 1] - first_row[t] : 0; }
  T* padded_row(long t, long n) const { return padded.data + (t * N + order[n]) * padded.row; }
  T* packed_row(long t, long n) const { return packed + (first_row[t] + n) * K; }
};

bool is_permutation(const std::vector<std::int64_t>& order) {
  std::vector<bool> seen(order.size());
  return std::all_of(order.begin(), order.end(), [&](std::int64_t n) {
    if (n < 0 || n >= std::int64_t(seen.size()) || seen[n]) return false;
    return bool(seen[n] = true);
  });
}

// Of Padded and Packed one is T, and the other, which is only read, const T.
template <class T, class Padded, class Packed>
Arrays<T> read(py::handle padded, py::handle order, py::handle first_row, py::handle packed) {
  const Shape shape = shape_of(padded, "padded: expected numpy.ndarray");
  if (shape.ndim != 2 && shape.ndim != 3) throw std::invalid_argument("padded: expected shape (T, N, K) or (T, N)");
  Arrays<T> a{shape.sizes[0], shape.sizes[1], shape.ndim == 3 ? shape.sizes[2] : 1, {}, nullptr, {}, read_first_row(first_row)};
  if (a.steps < 1 || a.N < 1 || a.K < 1) throw std::invalid_argument("padded: expected sizes of at least 1");
  if (long(a.first_row.size()) - 1 > a.steps || a.count(0) > a.N)
    throw std::invalid_argument("first_row: expected at most T steps of at most N rows");
  const auto* rows = pointer<const std::int64_t>(order, "order", {a.N});
  a.order.assign(rows, rows + a.N);
  if (!is_permutation(a.order)) throw std::invalid_argument("order: expected each of 0..N-1 once");
  const long R = a.first_row.back();
  if (shape.ndim == 3) {
    const auto [data, row] = row_pointer<Padded>(padded, "padded", {a.steps, a.N, a.K});
    a.padded = {const_cast<T*>(data), row};
    a.packed = const_cast<T*>(pointer<Packed>(packed, "packed", {1, R, a.K}));
  } else {
    a.padded = {const_cast<T*>(pointer<Padded>(padded, "padded", {a.steps, a.N})), 1};
    a.packed = const_cast<T*>(pointer<Packed>(packed, "packed", {1, R}));
  }
  Regions regions;  // whichever is written
  regions.reads(a.padded.data, (a.steps * a.N - 1) * a.padded.row + a.K);
  regions.writes(a.packed, R * a.K, "packed");
  regions.check();
  return a;
}

// f(t), which writes so many rows in all, the steps of a thread between those of the others: the first ones have the most rows
template <class T, class F> void for_steps(const Arrays<T>& a, long steps, long rows, F&& f) {
  if (steps == 0) return;
  const int threads = plan_rows(steps, kOperations * rows / steps * a.K * sizeof(T));
  run_team(threads, [&](Team& team, int me) {
    for (long t = me; t < steps; t += team.size()) f(t);
  });
}

template <class T> void pack_rows(py::handle padded, py::handle order, py::handle first_row, py::handle packed) {
  const auto a = read<T, const T, T>(padded, order, first_row, packed);
  const WithoutGil released;
  for_steps(a, long(a.first_row.size()) - 1, a.first_row.back(), [&](long t) {
    for (long n = 0; n < a.count(t); n++) std::copy_n(a.padded_row(t, n), a.K, a.packed_row(t, n));
  });
}

template <class T> void unpack_rows(py::handle packed, py::handle order, py::handle first_row, py::handle padded, bool zeros) {
  const auto a = read<T, T, const T>(padded, order, first_row, packed);
  const WithoutGil released;
  const long steps = zeros ? a.steps : long(a.first_row.size()) - 1, rows = zeros ? steps * a.N : a.first_row.back();
  for_steps(a, steps, rows, [&](long t) {
    const long count = a.count(t);
    for (long n = 0; n < count; n++) std::copy_n(a.packed_row(t, n), a.K, a.padded_row(t, n));
    for (long n = count; zeros && n < a.N; n++) std::fill_n(a.padded_row(t, n), a.K, T{});
  });
}

// Of lengths (N,) from 0 to T: the rows, the longest first and equal ones in their order; and where each step of the longest
// begins without padding, and where the last one ends.
py::tuple longest_first(py::handle object, long T) {
  const long N = array_of<std::int64_t>(object, "lengths").size();
  const auto* lengths = pointer<const std::int64_t>(object, "lengths", {N});
  if (N < 1) throw std::invalid_argument("lengths: expected at least one, got none");
  const auto [least, most] = std::minmax_element(lengths, lengths + N);
  if (*least < 0 || *most > T)
    throw std::invalid_argument("lengths: expected 0 to T = " + std::to_string(T) + ", got " + std::to_string(*least) + " to " +
                                std::to_string(*most));
  const long steps = *most;
  std::vector<long> longer(steps + 1);  // rows of length t; then those longer than t; then the place of the next of length t
  for (long n = 0; n < N; n++) longer[lengths[n]]++;
  for (long t = steps, sum = 0; t >= 0; t--) sum += std::exchange(longer[t], sum);
  py::array_t<std::int64_t> order(N), first_row(steps + 1);
  std::int64_t *const rows = order.mutable_data(), *const first = first_row.mutable_data();
  first[0] = 0;
  for (long t = 0; t < steps; t++) first[t + 1] = first[t] + longer[t];
  for (long n = 0; n < N; n++) rows[longer[lengths[n]]++] = n;
  return py::make_tuple(order, first_row);
}

// f(T{}) of the type that an array has
template <class F> void with_type(py::handle array, F&& f) {
  if (holds<float>(array)) f(float{});
  else if (holds<double>(array)) f(double{});
  else if (holds<bool>(array)) f(bool{});
  else f(std::int64_t{});
}

}  // namespace

void bind_ragged(py::module_& m) {
  m.def("longest_first", &longest_first, py::arg("lengths"), py::arg("T"),
        "The order of rows of these lengths, and where each step begins without padding: int64 (N,), (steps + 1,).");
  m.def(
      "pack_rows",
      [](py::object padded, py::object order, py::object first_row, py::object packed) {
        with_type(padded, [&](auto value) { pack_rows<decltype(value)>(padded, order, first_row, packed); });
      },
      py::arg("padded"), py::arg("order"), py::arg("first_row"), py::arg("packed"),
      "Fills packed (1, R, ...) with the rows of padded (T, N, ...) that have a step.");
  m.def(
      "unpack_rows",
      [](py::object packed, py::object order, py::object first_row, py::object padded, bool zeros) {
        with_type(packed, [&](auto value) { unpack_rows<decltype(value)>(packed, order, first_row, padded, zeros); });
      },
      py::arg("packed"), py::arg("order"), py::arg("first_row"), py::arg("padded"), py::arg("zeros"),
      "Fills those rows of padded from packed, and with zeros all others.");
}

}  // namespace fusedrnn
