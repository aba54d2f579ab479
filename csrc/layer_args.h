// SPDX-License-Identifier: MIT
// From Python's arguments to the kernels': cells, sizes, weights, states, tokens.
#pragma once
#include <algorithm>
#include <functional>
#include <numeric>

#include "arrays.h"
#include "cpu/dispatch.h"
#include "cpu/plan.h"
#include "form.h"
#include "memory.h"

namespace fusedrnn {

inline int find_cell(const Isa& isa, const std::string& name) {
  const auto* cells = isa.float32.cells;
  const int count = isa.float32.cell_count;
  for (int i = 0; i < count; i++)
    if (name == cells[i].name) return i;
  std::string names;
  for (int i = 0; i < count; i++) names += (i ? ", " : "") + std::string(cells[i].name);
  throw std::invalid_argument("cell: expected one of " + names + ", got '" + name + "'");
}

constexpr int kWeights = 10, kWeightHr = 5;  // fields of Python's Weights

inline py::tuple items(py::handle object, const char* name, std::size_t count) {
  if (!py::isinstance<py::tuple>(object))
    throw py::type_error(std::string(name) + ": expected a tuple, got " + Py_TYPE(object.ptr())->tp_name);
  auto tuple = py::reinterpret_borrow<py::tuple>(object);
  if (tuple.size() != count)
    throw std::invalid_argument(std::string(name) + ": expected " + std::to_string(count) + " arrays, got " +
                                std::to_string(tuple.size()));
  return tuple;
}

// I, P and H, from the columns of weight_ih (gates*H, I), of weight_hh (gates*H, P) and, with projection, of weight_hr (P, H);
// T and N are left at 0.
template <class Real> Sizes read_widths(const py::tuple& weights, const CellKernels<Real>& cell) {
  const auto columns = [&](int i) {
    const Shape matrix = shape_of(weights[i], "weights: expected arrays");
    if (matrix.ndim != 2) throw std::invalid_argument("weights: expected matrices");
    return matrix.sizes[1];
  };
  const bool projected = !weights[kWeightHr].is_none();
  if (projected && cell.states == 1) throw py::type_error("weight_hr: expected None for a cell of one state");
  const long I = columns(0), P = columns(1), H = projected ? columns(kWeightHr) : P;
  if (I < 1 || P < 1 || H < 1)
    throw std::invalid_argument("weights: expected I, P, H of at least 1, got " + shape_text(std::vector<long>{I, P, H}));
  if (projected && P >= H)
    throw std::invalid_argument("weight_hr: expected P < H = " + std::to_string(H) + ", got P = " + std::to_string(P));
  return {0, 0, I, H, P};
}

// T and N from x, (T, N, I) or tokens (T, N), and whether it holds tokens; a tensor of one step may be (N, I), or (I,)
inline bool read_steps_and_rows(py::handle x, Sizes& z) {
  const Shape input = shape_of(x, "x: expected numpy.ndarray");
  const bool tokens = holds<std::int64_t>(x);
  const bool step = is_tensor(x) && !tokens && (input.ndim == 2 || input.ndim == 1);
  if (input.ndim != (tokens ? 2 : 3) && !step)
    throw std::invalid_argument(tokens ? "x: expected tokens (T, N)" : "x: expected shape (T, N, I)");
  z.T = step ? 1 : input.sizes[0], z.N = step && input.ndim == 1 ? 1 : input.sizes[step ? 0 : 1];
  if (z.T < 1 || z.N < 1)
    throw std::invalid_argument("x: expected T, N of at least 1, got " + shape_text(std::vector<long>{z.T, z.N}));
  return tokens;
}

// `arrays` are those read_widths() took z from, or are to have the same shapes.
template <class T, class Real>
Weights<T> read_weights(const py::tuple& arrays, const Sizes& z, const CellKernels<Real>& cell, const std::string& prefix) {
  const long rows = cell.gates * z.H;
  if (!cell.peepholes && !arrays[4].is_none())
    throw py::type_error(prefix + "weight_ch: expected None for a cell without peepholes");
  if (!z.projected() && !arrays[kWeightHr].is_none())
    throw py::type_error(prefix + "weight_hr: expected None without projection");
  const auto norm = [&](int i, const char* name, bool there, long n) {
    if (!there && !arrays[i].is_none()) throw py::type_error(prefix + name + ": expected None for a cell without such a norm");
    return there ? pointer<T>(arrays[i], prefix + name, {n}) : nullptr;
  };
  const bool norm_c = cell.layer_norm && cell.states > 1;
  return {pointer<T>(arrays[0], prefix + "weight_ih", {rows, z.I}),
          pointer<T>(arrays[1], prefix + "weight_hh", {rows, z.P}),
          optional_pointer<T>(arrays[2], prefix + "bias_ih", {rows}),
          optional_pointer<T>(arrays[3], prefix + "bias_hh", {rows}),
          cell.peepholes ? pointer<T>(arrays[4], prefix + "weight_ch", {cell.peepholes * z.H}) : nullptr,
          z.projected() ? pointer<T>(arrays[kWeightHr], prefix + "weight_hr", {z.P, z.H}) : nullptr,
          norm(6, "weight_ln_ih", cell.layer_norm, rows),
          norm(7, "weight_ln_hh", cell.layer_norm, rows),
          norm(8, "weight_ln_ch", norm_c, z.H),
          norm(9, "bias_ln_ch", norm_c, z.H)};
}

// One that is read may be None, for zeros.
template <class T> void read_states(py::handle tuple, const char* name, const Sizes& z, int states, T** out) {
  if (tuple.is_none()) return;
  const py::tuple arrays = items(tuple, name, states);
  for (int i = 0; i < states; i++)
    if (!std::is_const_v<T> || !arrays[i].is_none()) out[i] = pointer<T>(arrays[i], name, {z.N, z.width(i)});
}

// Indices in 0..I-1
inline const std::int64_t* read_tokens(py::handle x, std::initializer_list<long> shape, long I) {
  const auto* tokens = pointer<const std::int64_t>(x, "x", shape);
  const auto* end = std::accumulate(shape.begin(), shape.end(), 1L, std::multiplies<>()) + tokens;
  const auto* bad = std::find_if(tokens, end, [&](std::int64_t token) { return token < 0 || token >= I; });
  if (bad != end)
    throw std::invalid_argument("x: expected tokens in 0.." + std::to_string(I - 1) + ", got " + std::to_string(*bad));
  return tokens;
}

// x (T, N, I), or tokens (T, N)
template <template <class> class Args, class Real> void read_x(Args<Real>& a, py::handle x, bool tokens, long T, long N) {
  if (tokens) a.tokens = read_tokens(x, {T, N}, a.size.I);
  else a.x = pointer<const Real>(x, "x", {T, N, a.size.I});
}

// y (T, N, P); of one step it may be None, and is then what the caller says
template <class T> Rows<T> read_y(py::handle y, const Sizes& z, long steps, long N, Rows<T> of_one_step) {
  if (!y.is_none()) return row_pointer<T>(y, "y", {steps, N, z.P});
  if (z.T != 1) throw std::invalid_argument("y: expected an array beyond one step, got None");
  return of_one_step;
}

// All that forward reads and writes but the weights. a.size has I, H and P, and gets T and N. y may be None for one step,
// whose y is h_n.
template <class Real>
OwnForm read_forward(ForwardArgs<Real>& a, int states, py::handle x, py::handle state, py::handle y, py::handle state_n,
                     py::handle first_row, py::handle resets, py::handle noise) {
  Sizes& z = a.size;
  const bool tokens = read_steps_and_rows(x, z);
  const long T = z.T, N = z.N;
  OwnForm form = read_form(first_row, resets, noise, T, N);
  form.set_sizes(z, T, N);
  a.form = form.view();
  read_x(a, x, tokens, T, N);
  read_states(state, "state", z, states, a.state_0);
  if (state_n.is_none()) throw py::type_error("state_n: expected a tuple");
  read_states(state_n, "state_n", z, states, a.state_n);
  const auto [data, row] = read_y<Real>(y, z, T, N, {a.state_n[0], z.P});
  a.y = data, a.y_row = row;
  return form;
}

// R, the rows of all steps
template <class Args> long rows_of(const Args& a) {
  return a.form.first_row ? a.form.first_row[a.size.T] : a.size.T * a.size.N;
}

// f(data, values, name of its gradient) of each; data may be null
template <class T, class Real, class F>
void for_weights(const Weights<T>& w, const Sizes& z, const CellKernels<Real>& cell, F&& f) {
  const long rows = cell.gates * z.H;
  f(w.weight_ih, rows * z.I, "dweight_ih");
  f(w.weight_hh, rows * z.P, "dweight_hh");
  f(w.bias_ih, rows, "dbias_ih");
  f(w.bias_hh, rows, "dbias_hh");
  f(w.weight_ch, cell.peepholes * z.H, "dweight_ch");
  f(w.weight_hr, z.P * z.H, "dweight_hr");
  f(w.weight_ln_ih, rows, "dweight_ln_ih");
  f(w.weight_ln_hh, rows, "dweight_ln_hh");
  f(w.weight_ln_ch, z.H, "dweight_ln_ch");
  f(w.bias_ln_ch, z.H, "dbias_ln_ch");
}

template <class Args, class Real> void add_inputs(Regions& regions, const Args& a, const CellKernels<Real>& cell) {
  regions.reads(a.x, rows_of(a) * a.size.I);
  regions.reads(a.tokens, rows_of(a));
  for_weights(a.weights, a.size, cell, [&](const Real* p, long n, const char*) { regions.reads(p, n); });
}
// Values from the first to the last of R rows of P values
template <class Args> long span(const Args& a, long row) { return (rows_of(a) - 1) * row + a.size.P; }

template <class Real> void check_memory(const ForwardArgs<Real>& a, const CellKernels<Real>& cell) {
  Regions regions;
  add_inputs(regions, a, cell);
  if (a.y != a.state_n[0] || a.size.T != 1) regions.writes(a.y, span(a, a.y_row), "y");
  for (int i = 0; i < kMaxStates; i++) {
    regions.reads(a.state_0[i], a.size.N * a.size.width(i));
    regions.writes(a.state_n[i], a.size.N * a.size.width(i), "state_n");
  }
  regions.check();
}

template <class Real> std::size_t bytes(long values) { return std::size_t(values) * sizeof(Real); }

template <class Args, class Real> Plan plan_of(const Args& a, const CellKernels<Real>& cell, int width, bool backward) {
  if (cell.layer_norm) return plan_scan_rows(a.size, cell.gates, backward);
  Sizes mean = a.size;  // of unequal lengths a step has so many rows
  mean.N = std::max(1L, rows_of(a) / mean.T);
  return plan_scan(mean, cell.gates, width, backward, a.form.first_row);
}

// Chooses the plan and runs; for after the GIL is let go.
template <class Real> void run_forward(ForwardArgs<Real>& a, const Isa& isa, const CellKernels<Real>& cell) {
  a.plan = plan_of(a, cell, isa.kernels<Real>().width, false);
  const Buffer workspace(bytes<Real>(cell.forward_size(a)));
  a.workspace = static_cast<Real*>(workspace.data());
  run_team(a.plan.threads, [&](Team& team, int me) { cell.forward(a, team, me); });
}

// An object of T that was made by a constructor: T.__new__ alone leaves one without a T in it.
template <class T> T* constructed(py::handle object) {
  if (!py::isinstance<T>(object)) return nullptr;
  auto* instance = reinterpret_cast<py::detail::instance*>(object.ptr());
  return instance->get_value_and_holder().holder_constructed() ? &py::cast<T&>(object) : nullptr;
}

}  // namespace fusedrnn
