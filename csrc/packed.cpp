// SPDX-License-Identifier: MIT
// Weights packed once, for many calls: _core.pack, _core.infer and _core.step.
#include <climits>

#include "bindings.h"
#include "layer_args.h"

namespace fusedrnn {
namespace {

// Panels of one layer in one direction. They remember their kernels, whose layout they have.
struct Packed {
  Buffer panels;
  std::size_t bytes;
  const Isa* isa;
  int cell;
  bool is_double;
  long I, H, rows;
};

const Packed& read_packed(py::handle object) {
  const Packed* packed = constructed<Packed>(object);
  if (!packed) throw py::type_error("packed: expected Packed, from pack()");
  return *packed;
}

template <class Real> Packed pack(const std::string& name, const py::tuple& weights, long rows) {
  const Isa& isa = current_isa();
  const int index = find_cell(isa, name);
  const CellKernels<Real>& cell = isa.kernels<Real>().cells[index];
  const Sizes z = read_widths(weights, cell.gates);
  PackArgs<Real> a{z.I, z.H, rows, read_weights<const Real>(weights, z, cell, ""), nullptr};
  const std::size_t size = bytes<Real>(cell.panels_size(a));
  Packed packed{Buffer(size, false), size, &isa, index, sizeof(Real) == sizeof(double), z.I, z.H, rows};
  a.panels = static_cast<Real*>(packed.panels.data());
  cell.pack(a);
  return packed;
}

template <class Real> ForwardArgs<Real> args_of(const Packed& packed) {
  ForwardArgs<Real> a{};
  a.size = {0, 0, packed.I, packed.H};
  a.panels = static_cast<const Real*>(packed.panels.data());
  a.panel_rows = packed.rows;
  return a;
}
template <class Real> const CellKernels<Real>& cell_of(const Packed& packed) {
  return packed.isa->kernels<Real>().cells[packed.cell];
}

template <class Real>
void infer(const Packed& packed, py::handle x, py::handle state, bool reverse, py::handle y, py::handle state_n,
           py::handle first_row, py::handle resets) {
  const CellKernels<Real>& cell = cell_of<Real>(packed);
  ForwardArgs<Real> a = args_of<Real>(packed);
  a.reverse = reverse;
  const OwnForm form = read_forward(a, cell.states, x, state, y, state_n, first_row, resets);
  check_memory(a, cell);
  const py::gil_scoped_release release;
  run_forward(a, *packed.isa, cell);
}

// What a step reads and writes: x (N, I) or tokens (N,), states (L, N, H) each.
template <class Real> struct StepArgs {
  long N;
  const Real* x;
  const std::int64_t* tokens;
  const Real* state[kMaxStates];
  Real* out[kMaxStates];
};

// A state may be written where it was read: a kernel writes the new one when all have read the old.
template <class Real> void check_memory(const StepArgs<Real>& a, long I, long size, int states) {
  const auto apart = [](const void* p, long p_bytes, const void* q, long q_bytes) {
    const char *a = static_cast<const char*>(p), *b = static_cast<const char*>(q);
    return !a || !b || a + p_bytes <= b || b + q_bytes <= a;
  };
  const long item = sizeof(Real);
  for (int i = 0; i < states; i++) {
    bool own = apart(a.out[i], size * item, a.x, a.N * I * item) && apart(a.out[i], size * item, a.tokens, a.N * 8);
    for (int j = 0; j < states; j++) {
      if (a.out[i] != a.state[j] || i != j) own = own && apart(a.out[i], size * item, a.state[j], size * item);
      if (i != j) own = own && apart(a.out[i], size * item, a.out[j], size * item);
    }
    if (!own) throw std::invalid_argument("out: expected memory of its own, or the state's, array by array");
  }
}

template <class Real> StepArgs<Real> read_step(const py::tuple& stack, py::handle x, py::handle state, py::handle out) {
  const Packed& first = read_packed(stack[0]);
  const int states = cell_of<Real>(first).states;
  const long L = stack.size(), H = first.H;
  StepArgs<Real> a{};
  if (!py::isinstance<py::array>(x)) throw py::type_error("x: expected numpy.ndarray");
  const auto input = py::reinterpret_borrow<py::array>(x);
  const bool tokens = py::isinstance<py::array_t<std::int64_t>>(x);
  if (const char kind = input.dtype().kind(); !tokens && (kind == 'i' || kind == 'u'))
    throw py::type_error(std::string("x: expected ") + type_name<Real>() + " or int64 tokens, got " +
                         py::cast<std::string>(py::str(input.dtype())));
  if (input.ndim() != (tokens ? 1 : 2))
    throw std::invalid_argument(tokens ? "x: expected tokens (N,)" : "x: expected shape (N, I)");
  a.N = input.shape(0);
  if (a.N < 1) throw std::invalid_argument("x: expected N of at least 1, got 0");
  if (tokens) a.tokens = read_tokens(x, {a.N}, first.I);
  else a.x = pointer<const Real>(x, "x", {a.N, first.I});
  const py::tuple from = items(state, "state", states), to = items(out, "out", states);
  for (int i = 0; i < states; i++) {
    a.state[i] = pointer<const Real>(from[i], "state", {L, a.N, H});
    a.out[i] = pointer<Real>(to[i], "out", {L, a.N, H});
  }
  check_memory(a, first.I, L * a.N * H, states);
  return a;
}

template <class Real> void step(const py::tuple& stack, py::handle x, py::handle state, py::handle out) {
  const StepArgs<Real> step = read_step<Real>(stack, x, state, out);
  std::vector<const Packed*> layers(stack.size());
  for (std::size_t l = 0; l < stack.size(); l++) {
    layers[l] = &read_packed(stack[l]);
    if (layers[l]->cell != layers[0]->cell || layers[l]->is_double != layers[0]->is_double || layers[l]->H != layers[0]->H ||
        (l && layers[l]->I != layers[0]->H))
      throw std::invalid_argument("stack: expected layers of one cell, dtype and H, each as wide as the one before");
  }
  const int states = cell_of<Real>(*layers[0]).states;
  const long size = step.N * layers[0]->H;

  const py::gil_scoped_release release;
  const Buffer y(bytes<Real>(size));
  for (std::size_t l = 0; l < stack.size(); l++) {
    ForwardArgs<Real> a = args_of<Real>(*layers[l]);
    a.size.T = 1, a.size.N = step.N;
    a.x = l ? step.out[0] + (l - 1) * size : step.x;
    a.tokens = l ? nullptr : step.tokens;
    for (int i = 0; i < states; i++) a.state_0[i] = step.state[i] + l * size, a.state_n[i] = step.out[i] + l * size;
    a.y = static_cast<Real*>(y.data());
    a.y_row = layers[l]->H;
    run_forward(a, *layers[l]->isa, cell_of<Real>(*layers[l]));
  }
}

}  // namespace

void bind_packed(py::module_& m) {
  py::class_<Packed>(m, "Packed", "Weights in the order in which the kernels read them.")
      .def_property_readonly("is_double", [](py::object packed) { return read_packed(packed).is_double; })
      .def_property_readonly("input_size", [](py::object packed) { return read_packed(packed).I; })
      .def_property_readonly("hidden_size", [](py::object packed) { return read_packed(packed).H; })
      .def_property_readonly("cell", [](py::object packed) { return cell_of<float>(read_packed(packed)).name; })
      .def_property_readonly("nbytes", [](py::object packed) { return read_packed(packed).bytes; });

  m.def(
      "pack",
      [](const std::string& cell, py::object weights, long rows) {
        const py::tuple w = items(weights, "weights", kWeights);
        if (rows < 1 || rows > INT_MAX)
          throw std::invalid_argument("rows: expected 1 to " + std::to_string(INT_MAX) + ", got " + std::to_string(rows));
        return (py::isinstance<py::array_t<double>>(w[0]) ? pack<double> : pack<float>)(cell, w, rows);
      },
      py::arg("cell"), py::arg("weights"), py::arg("rows"), "A copy of the weights, the fastest for so many rows.");

  m.def(
      "infer",
      [](py::object object, py::object x, py::object state, bool reverse, py::object y, py::object state_n,
         py::object first_row, py::object resets) {
        const Packed& packed = read_packed(object);
        const auto run = packed.is_double ? infer<double> : infer<float>;
        run(packed, x, state, reverse, y, state_n, first_row, resets);
      },
      py::arg("packed"), py::arg("x"), py::arg("state"), py::arg("reverse"), py::arg("y"), py::arg("state_n"),
      py::arg("first_row") = py::none(), py::arg("resets") = py::none(), "Fills y and state_n.");

  m.def(
      "step",
      [](const py::tuple& stack, py::object x, py::object state, py::object out) {
        if (stack.empty()) throw std::invalid_argument("stack: expected at least one layer");
        (read_packed(stack[0]).is_double ? step<double> : step<float>)(stack, x, state, out);
      },
      py::arg("stack"), py::arg("x"), py::arg("state"), py::arg("out"),
      "One step of a stack of layers: fills out, which may be state.");
}

}  // namespace fusedrnn
