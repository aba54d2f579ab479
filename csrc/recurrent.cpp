// SPDX-License-Identifier: MIT
// _core.forward and _core.backward: one layer, one direction. Checks, finds the kernel, lets go of the GIL.
#include <algorithm>

#include "arrays.h"
#include "bindings.h"
#include "cpu/dispatch.h"
#include "cpu/plan.h"
#include "memory.h"

namespace fusedrnn {
namespace {

// What forward keeps for backward; opaque to Python. It remembers its kernels: its layout is that of their vectors.
struct Tape {
  Buffer buffer;
  const Isa* isa = nullptr;  // null: nothing on it
  int cell = 0;
  bool is_double = false, reverse = false, tokens = false;
  Sizes size{};
};

int find_cell(const Isa& isa, const std::string& name) {
  std::string names;
  for (int i = 0; i < isa.float32.cell_count; i++) {
    if (name == isa.float32.cells[i].name) return i;
    names += (names.empty() ? "" : ", ") + std::string(isa.float32.cells[i].name);
  }
  throw std::invalid_argument("cell: expected one of " + names + ", got '" + name + "'");
}

py::tuple items(py::handle object, const char* name, std::size_t count) {
  if (!py::isinstance<py::tuple>(object)) throw py::type_error(std::string(name) + ": expected a tuple");
  auto tuple = py::reinterpret_borrow<py::tuple>(object);
  if (tuple.size() != count)
    throw std::invalid_argument(std::string(name) + ": expected " + std::to_string(count) + " arrays, got " +
                                std::to_string(tuple.size()));
  return tuple;
}

// Sizes from x (T, N, I) or tokens (T, N), and weight_ih and weight_hh.
Sizes read_sizes(py::handle x, const py::tuple& weights, int gates, bool& tokens) {
  for (int i = 0; i < 2; i++)
    if (!py::isinstance<py::array>(weights[i])) throw py::type_error("weights: expected arrays");
  if (!py::isinstance<py::array>(x)) throw py::type_error("x: expected numpy.ndarray");
  const auto input = py::reinterpret_borrow<py::array>(x), w_ih = py::reinterpret_borrow<py::array>(weights[0]),
             w_hh = py::reinterpret_borrow<py::array>(weights[1]);
  tokens = py::isinstance<py::array_t<std::int64_t>>(x);
  if (input.ndim() != (tokens ? 2 : 3))
    throw std::invalid_argument(tokens ? "x: expected tokens (T, N)" : "x: expected shape (T, N, I)");
  if (w_ih.ndim() != 2 || w_hh.ndim() != 2) throw std::invalid_argument("weights: expected matrices");
  const Sizes z{input.shape(0), input.shape(1), tokens ? w_ih.shape(1) : input.shape(2), w_hh.shape(1)};
  if (z.T < 1 || z.N < 1 || z.I < 1 || z.H < 1)
    throw std::invalid_argument("x, weights: expected T, N, I, H of at least 1, got " +
                                shape_text(std::vector<long>{z.T, z.N, z.I, z.H}));
  if (w_hh.shape(0) != gates * z.H) throw std::invalid_argument("weight_hh: expected shape (gates*H, H)");
  return z;
}

template <class T> Weights<T> read_weights(const py::tuple& arrays, const Sizes& z, int gates, const std::string& prefix) {
  const long rows = gates * z.H;
  return {pointer<T>(arrays[0], prefix + "weight_ih", {rows, z.I}), pointer<T>(arrays[1], prefix + "weight_hh", {rows, z.H}),
          optional_pointer<T>(arrays[2], prefix + "bias_ih", {rows}),
          optional_pointer<T>(arrays[3], prefix + "bias_hh", {rows})};
}

template <class T> void read_states(py::handle tuple, const char* name, const Sizes& z, int states, T** out) {
  if (tuple.is_none()) return;
  const py::tuple arrays = items(tuple, name, states);
  for (int i = 0; i < states; i++) out[i] = pointer<T>(arrays[i], name, {z.N, z.H});
}

const std::int64_t* read_tokens(py::handle x, const Sizes& z) {
  const auto* tokens = pointer<const std::int64_t>(x, "x", {z.T, z.N});
  const auto* bad = std::find_if(tokens, tokens + z.T * z.N, [&](std::int64_t token) { return token < 0 || token >= z.I; });
  if (bad != tokens + z.T * z.N)
    throw std::invalid_argument("x: expected tokens in 0.." + std::to_string(z.I - 1) + ", got " + std::to_string(*bad));
  return tokens;
}

template <class Args> void add_inputs(Regions& regions, const Args& a, int gates) {
  const Sizes& z = a.size;
  regions.reads(a.x, z.T * z.N * z.I);
  regions.reads(a.tokens, z.T * z.N);
  regions.reads(a.weights.weight_ih, gates * z.H * z.I);
  regions.reads(a.weights.weight_hh, gates * z.H * z.H);
  regions.reads(a.weights.bias_ih, gates * z.H);
  regions.reads(a.weights.bias_hh, gates * z.H);
}
long span(const Sizes& z, long row) { return (z.T * z.N - 1) * row + z.H; }

template <class Real> void check_memory(const ForwardArgs<Real>& a, int gates) {
  Regions regions;
  add_inputs(regions, a, gates);
  regions.writes(a.y, span(a.size, a.y_row), "y");
  for (int i = 0; i < kMaxStates; i++) {
    regions.reads(a.state_0[i], a.size.N * a.size.H);
    regions.writes(a.state_n[i], a.size.N * a.size.H, "state_n");
  }
  regions.check();
}

template <class Real> void check_memory(const BackwardArgs<Real>& a, int gates) {
  const Sizes& z = a.size;
  Regions regions;
  add_inputs(regions, a, gates);
  regions.reads(a.y, span(z, a.y_row));
  regions.reads(a.dy, span(z, a.dy_row));
  regions.writes(a.dx, z.T * z.N * z.I, "dx");
  regions.writes(a.dweights.weight_ih, gates * z.H * z.I, "dweight_ih");
  regions.writes(a.dweights.weight_hh, gates * z.H * z.H, "dweight_hh");
  regions.writes(a.dweights.bias_ih, gates * z.H, "dbias_ih");
  regions.writes(a.dweights.bias_hh, gates * z.H, "dbias_hh");
  for (int i = 0; i < kMaxStates; i++) {
    regions.reads(a.dstate_n[i], z.N * z.H);
    regions.writes(a.dstate_0[i], z.N * z.H, "dstate_0");
  }
  regions.check();
}

// Tape.__new__ alone leaves an object without a tape in it.
const Tape& read_tape(py::handle object) {
  if (!py::isinstance<Tape>(object)) throw py::type_error("tape: expected a Tape");
  auto* instance = reinterpret_cast<py::detail::instance*>(object.ptr());
  if (!instance->get_value_and_holder().holder_constructed() || !py::cast<const Tape&>(object).isa)
    throw std::invalid_argument("tape: expected one that forward has filled");
  return py::cast<const Tape&>(object);
}

template <class Real> std::size_t bytes(long values) { return std::size_t(values) * sizeof(Real); }

template <class Real>
void forward(const std::string& name, py::handle x, const py::tuple& weights, py::handle state, bool reverse, py::handle y,
             py::handle state_n, Tape* tape) {
  const Isa& isa = current_isa();
  const int index = find_cell(isa, name);
  const CellKernels<Real>& cell = isa.kernels<Real>().cells[index];
  ForwardArgs<Real> a{};
  bool tokens;
  a.size = read_sizes(x, weights, cell.gates, tokens);
  const Sizes& z = a.size;
  a.reverse = reverse;
  a.weights = read_weights<const Real>(weights, z, cell.gates, "");
  if (tokens) a.tokens = read_tokens(x, z);
  else a.x = pointer<const Real>(x, "x", {z.T, z.N, z.I});
  read_states(state, "state", z, cell.states, a.state_0);
  const Rows<Real> rows = row_pointer<Real>(y, "y", {z.T, z.N, z.H});
  a.y = rows.data;
  a.y_row = rows.row;
  if (state_n.is_none()) throw py::type_error("state_n: expected a tuple");
  read_states(state_n, "state_n", z, cell.states, a.state_n);
  check_memory(a, cell.gates);

  const py::gil_scoped_release release;
  a.plan = plan_scan(z, cell.gates, isa.kernels<Real>().width);
  const Buffer workspace(bytes<Real>(cell.forward_size(z, a.plan, true)));
  a.workspace = static_cast<Real*>(workspace.data());
  Buffer kept;
  if (tape) {
    kept = Buffer(bytes<Real>(cell.tape_size(z)));
    a.tape = static_cast<Real*>(kept.data());
  }
  run_team(a.plan.threads, [&](Team& team, int me) { cell.forward(a, team, me); });
  if (!tape) return;
  *tape = Tape{std::move(kept), &isa, index, sizeof(Real) == sizeof(double), reverse, tokens, z};
}

template <class Real>
void backward(const Tape& tape, py::handle x, py::handle y, const py::tuple& weights, py::handle dy, py::handle dstate_n,
              py::handle dx, bool dx_add, const py::tuple& dweights, bool add, py::handle dstate_0) {
  const Kernels<Real>& kernels = tape.isa->kernels<Real>();
  const CellKernels<Real>& cell = kernels.cells[tape.cell];
  BackwardArgs<Real> a{};
  bool tokens;
  const Sizes z = read_sizes(x, weights, cell.gates, tokens);
  if (tokens != tape.tokens || z.T != tape.size.T || z.N != tape.size.N || z.I != tape.size.I || z.H != tape.size.H)
    throw std::invalid_argument("x, weights: expected those of the forward call");
  a.size = z;
  a.reverse = tape.reverse;
  a.weights = read_weights<const Real>(weights, z, cell.gates, "");
  a.dweights = read_weights<Real>(dweights, z, cell.gates, "d");
  if (tokens) a.tokens = read_tokens(x, z);
  else a.x = pointer<const Real>(x, "x", {z.T, z.N, z.I});
  if (tokens && !dx.is_none()) throw std::invalid_argument("dx: expected None for tokens");
  a.dx = optional_pointer<Real>(dx, "dx", {z.T, z.N, z.I});
  a.dx_add = dx_add;
  a.add = add;
  const Rows<const Real> rows = row_pointer<const Real>(y, "y", {z.T, z.N, z.H});
  a.y = rows.data;
  a.y_row = rows.row;
  if (!dy.is_none()) {
    const Rows<const Real> drows = row_pointer<const Real>(dy, "dy", {z.T, z.N, z.H});
    a.dy = drows.data;
    a.dy_row = drows.row;
  }
  read_states(dstate_n, "dstate_n", z, cell.states, a.dstate_n);
  if (dstate_0.is_none()) throw py::type_error("dstate_0: expected a tuple");
  read_states(dstate_0, "dstate_0", z, cell.states, a.dstate_0);
  a.tape = static_cast<const Real*>(tape.buffer.data());
  check_memory(a, cell.gates);

  const py::gil_scoped_release release;
  a.plan = plan_scan(z, cell.gates, kernels.width);
  const Buffer workspace(bytes<Real>(cell.backward_size(z, a.plan)));
  a.workspace = static_cast<Real*>(workspace.data());
  run_team(a.plan.threads, [&](Team& team, int me) { cell.backward(a, team, me); });
}

bool is_double(const py::tuple& weights) { return py::isinstance<py::array_t<double>>(weights[0]); }

}  // namespace

void bind_recurrent(py::module_& m) {
  py::class_<Tape>(m, "Tape", "What forward keeps for backward.")
      .def(py::init<>())
      .def_property_readonly("nbytes", [](const Tape& tape) { return tape.buffer.bytes(); });

  m.def(
      "forward",
      [](const std::string& cell, py::object x, py::object weights, py::object state, bool reverse, py::object y,
         py::object state_n, Tape* tape) {
        const py::tuple w = items(weights, "weights", 4);
        const auto run = is_double(w) ? forward<double> : forward<float>;
        run(cell, x, w, state, reverse, y, state_n, tape);
      },
      py::arg("cell"), py::arg("x"), py::arg("weights"), py::arg("state"), py::arg("reverse"), py::arg("y"), py::arg("state_n"),
      py::arg("tape"), "Fills y and state_n, and the tape unless None.");

  m.def(
      "backward",
      [](py::object tape_object, py::object x, py::object y, py::object weights, py::object dy, py::object dstate_n,
         py::object dx, bool dx_add, py::object dweights, bool add, py::object dstate_0) {
        const Tape& tape = read_tape(tape_object);
        const auto run = tape.is_double ? backward<double> : backward<float>;
        run(tape, x, y, items(weights, "weights", 4), dy, dstate_n, dx, dx_add, items(dweights, "dweights", 4), add, dstate_0);
      },
      py::arg("tape"), py::arg("x"), py::arg("y"), py::arg("weights"), py::arg("dy"), py::arg("dstate_n"), py::arg("dx"),
      py::arg("dx_add"), py::arg("dweights"), py::arg("add"), py::arg("dstate_0"),
      "Fills, or adds to, dx, dweights and dstate_0.");

  m.def("cells", [] {
    py::list names;
    const auto& kernels = current_isa().float32;
    for (int i = 0; i < kernels.cell_count; i++) names.append(kernels.cells[i].name);
    return names;
  });
}

}  // namespace fusedrnn
