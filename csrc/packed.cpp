// SPDX-License-Identifier: MIT
// Weights packed once, for many calls: _core.pack, _core.infer and _core.step.
#include <climits>

#include "bindings.h"
#include "gil.h"
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
  Sizes size;  // T and N are 0
  long rows;
  Noise noise;  // zoneout by its mean
};

const Packed& read_packed(py::handle object) {
  const Packed* packed = constructed<Packed>(object);
  if (!packed) throw py::type_error("packed: expected Packed, from pack()");
  return *packed;
}

template <class Real>
Packed pack(const std::string& name, const py::tuple& weights, long rows, double zoneout_h, double zoneout_c) {
  const Isa& isa = current_isa();
  const int index = find_cell(isa, name);
  const CellKernels<Real>& cell = isa.kernels<Real>().cells[index];
  const Sizes z = read_widths(weights, cell);
  PackArgs<Real> a{z, rows, read_weights<const Real>(weights, z, cell, ""), nullptr};
  const std::size_t size = bytes<Real>(cell.panels_size(a));
  Packed packed{Buffer(size, false), size, &isa, index, sizeof(Real) == sizeof(double), z, rows, {}};
  packed.noise.zoneout[0] = zoneout_h, packed.noise.zoneout[1] = zoneout_c, packed.noise.expected = true;
  a.panels = static_cast<Real*>(packed.panels.data());
  cell.pack(a);
  return packed;
}

template <class Real> ForwardArgs<Real> args_of(const Packed& packed) {
  ForwardArgs<Real> a{};
  a.size = packed.size;
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
  const OwnForm form = read_forward(a, cell.states, x, state, y, state_n, first_row, resets, py::none());
  a.form.noise = packed.noise;
  check_memory(a, cell);
  const WithoutGil released;
  run_forward(a, *packed.isa, cell);
}

// What a step reads and writes: x (N, I) or tokens (N,), states h (L, N, P), (L, N, H).
template <class Real> struct StepArgs {
  long N;
  const Real* x;
  const std::int64_t* tokens;
  const Real* state[kMaxStates];
  Real* out[kMaxStates];
};

// A state may be written where it was read: a kernel writes the new one when all have read the old.
template <class Real> void check_memory(const StepArgs<Real>& a, const Sizes& z, long layers) {
  Regions regions;
  regions.reads(a.x, a.N * z.I);
  regions.reads(a.tokens, a.N);
  for (int i = 0; i < kMaxStates; i++) {
    const long size = layers * a.N * z.width(i);
    if (a.out[i] != a.state[i]) regions.reads(a.state[i], size);
    regions.writes(a.out[i], size, "out");
  }
  regions.check();
}

template <class Real> StepArgs<Real> read_step(const py::tuple& stack, py::handle x, py::handle state, py::handle out) {
  const Packed& first = read_packed(stack[0]);
  const int states = cell_of<Real>(first).states;
  const long L = stack.size();
  StepArgs<Real> a{};
  if (!py::isinstance<py::array>(x)) throw py::type_error("x: expected numpy.ndarray");
  const auto input = py::reinterpret_borrow<py::array>(x);
  const bool tokens = py::isinstance<py::array_t<std::int64_t>>(x);
  if (const char kind = input.dtype().kind(); !tokens && (kind == 'i' || kind == 'u'))
    throw py::type_error(std::string("x: expected ") + type_name<Real>() + " or int64 tokens, got " +
                         py::cast<std::string>(py::str(input.dtype())));
  if (input.ndim() != (tokens ? 1 : 2)) {
    const std::string rule = tokens ? "tokens (N,)" : "shape (N, I) with I = " + std::to_string(first.size.I);
    throw std::invalid_argument("x: expected " + rule + ", got " +
                                shape_text(std::vector<long>(input.shape(), input.shape() + input.ndim())));
  }
  a.N = input.shape(0);
  if (a.N < 1) throw std::invalid_argument("x: expected N of at least 1, got 0");
  if (tokens) a.tokens = read_tokens(x, {a.N}, first.size.I);
  else a.x = pointer<const Real>(x, "x", {a.N, first.size.I});
  const py::tuple from = items(state, "state", states), to = items(out, "out", states);
  for (int i = 0; i < states; i++) {
    const long width = first.size.width(i);
    a.state[i] = pointer<const Real>(from[i], i ? "c of state" : "h of state", {L, a.N, width});
    a.out[i] = pointer<Real>(to[i], i ? "c of out" : "h of out", {L, a.N, width});
  }
  check_memory(a, first.size, L);
  return a;
}

template <class Real> void step(const py::tuple& stack, py::handle x, py::handle state, py::handle out) {
  const StepArgs<Real> step = read_step<Real>(stack, x, state, out);
  std::vector<const Packed*> layers(stack.size());
  for (std::size_t l = 0; l < stack.size(); l++) {
    layers[l] = &read_packed(stack[l]);
    const Sizes &z = layers[l]->size, &first = layers[0]->size;
    if (layers[l]->cell != layers[0]->cell || layers[l]->is_double != layers[0]->is_double || z.H != first.H ||
        z.P != first.P || (l && z.I != first.P))
      throw std::invalid_argument("stack: expected layers of one cell, dtype, H and P, each as wide as the one before");
  }
  const int states = cell_of<Real>(*layers[0]).states;
  const Sizes& z = layers[0]->size;

  const WithoutGil released;
  const Buffer y(bytes<Real>(step.N * z.P));
  for (std::size_t l = 0; l < stack.size(); l++) {
    ForwardArgs<Real> a = args_of<Real>(*layers[l]);
    a.form.noise = layers[l]->noise;
    a.size.T = 1, a.size.N = step.N;
    a.x = l ? step.out[0] + (l - 1) * step.N * z.P : step.x;
    a.tokens = l ? nullptr : step.tokens;
    for (int i = 0; i < states; i++) {
      const long before = l * step.N * z.width(i);
      a.state_0[i] = step.state[i] + before, a.state_n[i] = step.out[i] + before;
    }
    a.y = static_cast<Real*>(y.data());
    a.y_row = z.P;
    run_forward(a, *layers[l]->isa, cell_of<Real>(*layers[l]));
  }
}

// P of h, and H of the others
py::tuple state_widths(py::object object) {
  const Packed& packed = read_packed(object);
  py::tuple widths(cell_of<float>(packed).states);
  for (std::size_t i = 0; i < widths.size(); i++) widths[i] = packed.size.width(i);
  return widths;
}

}  // namespace

void bind_packed(py::module_& m) {
  py::class_<Packed>(m, "Packed", "Weights in the order in which the kernels read them.")
      .def_property_readonly("is_double", [](py::object packed) { return read_packed(packed).is_double; })
      .def_property_readonly("state_widths", state_widths)
      .def_property_readonly("nbytes", [](py::object packed) { return read_packed(packed).bytes; });

  m.def(
      "pack",
      [](const std::string& cell, py::object weights, long rows, py::object zoneout_h, py::object zoneout_c) {
        const py::tuple w = items(weights, "weights", kWeights);
        if (rows < 1 || rows > INT_MAX)
          throw std::invalid_argument("rows: expected 1 to " + std::to_string(INT_MAX) + ", got " + std::to_string(rows));
        return (holds<double>(w[0]) ? pack<double> : pack<float>)(cell, w, rows, probability(zoneout_h, "zoneout_h"),
                                                                  probability(zoneout_c, "zoneout_c"));
      },
      py::arg("cell"), py::arg("weights"), py::arg("rows"), py::arg("zoneout_h") = 0., py::arg("zoneout_c") = 0.,
      "A copy of the weights, the fastest for so many rows.");

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
