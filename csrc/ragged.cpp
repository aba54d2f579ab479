// SPDX-License-Identifier: MIT
// _core.pack_rows and _core.unpack_rows: sequences of unequal length without their padding, and back.
#include <cstring>

#include "bindings.h"
#include "cpu/plan.h"
#include "cpu/team.h"
#include "form.h"
#include "gil.h"

namespace fusedrnn {
namespace {

constexpr double kOperations = 10;  // in whose time a byte is copied, about

// (T, N, ...): each row contiguous, of so many bytes, rows and steps apart by as many as the array's strides say
struct Padded {
  char* data;
  long T, N, step, row, bytes;
  char* at(long t, long n) const { return data + t * step + n * row; }
};

Padded read_padded(const py::array& a, bool writes) {
  if (a.ndim() < 2 || a.size() == 0) throw std::invalid_argument("padded: expected shape (T, N, ...), sizes of at least 1");
  if (!std::strchr("fib", a.dtype().kind())) throw py::type_error("padded: expected floats, integers or bool");
  check_layout(a, "padded", writes);
  long bytes = a.itemsize();
  for (auto i = a.ndim() - 1; i > 1; bytes *= a.shape(i--))
    if (a.shape(i) > 1 && a.strides(i) != bytes) throw std::invalid_argument("padded: expected contiguous rows");
  if (a.strides(0) < 0 || a.strides(1) < 0) throw std::invalid_argument("padded: expected rows in the order of memory");
  return {static_cast<char*>(const_cast<void*>(a.data())), a.shape(0), a.shape(1), a.strides(0), a.strides(1), bytes};
}

// Which rows each step has: the first ones of `order`, so many that first_row (steps + 1,) goes on by
struct Valid {
  const std::int64_t* order;
  std::vector<long> first_row;
  long count(long t) const { return t + 1 < long(first_row.size()) ? first_row[t + 1] - first_row[t] : 0; }
};

Valid read_valid(const py::array& order, py::handle first_row, const Padded& padded) {
  Valid valid{pointer<const std::int64_t>(order, "order", {padded.N}), read_first_row(first_row)};
  if (long(valid.first_row.size()) > padded.T + 1 || valid.count(0) > padded.N)
    throw std::invalid_argument("first_row: expected at most T steps of at most N rows");
  if (std::any_of(valid.order, valid.order + padded.N, [&](std::int64_t n) { return n < 0 || n >= padded.N; }))
    throw std::invalid_argument("order: expected rows in 0..N-1");
  return valid;
}

// Neither may share memory with the other, whichever is written.
char* read_packed(const py::array& packed, const Padded& padded, const Valid& valid, bool writes) {
  check_layout(packed, "packed", writes);
  if (!(packed.flags() & py::array::c_style) || packed.nbytes() != valid.first_row.back() * padded.bytes)
    throw std::invalid_argument("packed: expected C-contiguous (1, R, ...) of the rows of padded");
  auto* data = static_cast<char*>(const_cast<void*>(packed.data()));
  Regions regions;
  const long extent = (padded.T - 1) * padded.step + (padded.N - 1) * padded.row + padded.bytes;
  regions.reads(padded.data, extent);
  regions.writes(data, packed.nbytes(), "packed");
  regions.check();
  return data;
}

// f(t) for every step, those of a thread between those of the others: the first ones have the most rows
template <class F> void for_steps(const Padded& padded, F&& f) {
  const WithoutGil released;
  run_team(plan_rows(padded.T, kOperations * padded.N * padded.bytes), [&](Team& team, int me) {
    for (long t = me; t < padded.T; t += team.size()) f(t);
  });
}

void pack_rows(const py::array& padded, const py::array& order, py::handle first_row, const py::array& packed) {
  const Padded from = read_padded(padded, false);
  const Valid valid = read_valid(order, first_row, from);
  char* const to = read_packed(packed, from, valid, true);
  for_steps(from, [&](long t) {
    for (long n = 0; n < valid.count(t); n++)
      std::memcpy(to + (valid.first_row[t] + n) * from.bytes, from.at(t, valid.order[n]), from.bytes);
  });
}

void unpack_rows(const py::array& packed, const py::array& order, py::handle first_row, const py::array& padded, bool zeros) {
  const Padded to = read_padded(padded, true);
  const Valid valid = read_valid(order, first_row, to);
  const char* const from = read_packed(packed, to, valid, false);
  for_steps(to, [&](long t) {
    const long count = valid.count(t);
    for (long n = 0; n < count; n++)
      std::memcpy(to.at(t, valid.order[n]), from + (valid.first_row[t] + n) * to.bytes, to.bytes);
    for (long n = count; zeros && n < to.N; n++) std::memset(to.at(t, valid.order[n]), 0, to.bytes);
  });
}

}  // namespace

void bind_ragged(py::module_& m) {
  m.def("pack_rows", &pack_rows, py::arg("padded"), py::arg("order"), py::arg("first_row"), py::arg("packed"),
        "Fills packed (1, R, ...) with the rows of padded (T, N, ...) that have a step.");
  m.def("unpack_rows", &unpack_rows, py::arg("packed"), py::arg("order"), py::arg("first_row"), py::arg("padded"),
        py::arg("zeros"), "Fills those rows of padded from packed, and with zeros all others.");
}

}  // namespace fusedrnn
