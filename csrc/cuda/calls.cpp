// SPDX-License-Identifier: MIT
// _cuda.forward and _cuda.backward: checks every argument, lets go of the GIL, enqueues. The Python side has checked
// already, with better words. Sizes as in args.h.
#include "call_args.h"
#include "check.h"
#include "elementwise.h"
#include "gil.h"

namespace fusedrnn::cuda {
namespace {

void run_forward(const std::string& cell, py::object x_object, py::object lengths, py::object weights, py::object state,
                 bool reverse, py::object y, py::object state_n, py::object tape, py::object workspace, py::object stream) {
  const Buffer& x = buffer_of(x_object, "x");
  Arrays arrays(x, x.dtype);
  ForwardArgs a{};
  a.layer = read_layer(arrays, cell, x, lengths, weights, reverse, stream);
  const Layer& z = a.layer;
  if (!state.is_none()) read_states(state, "state", z, a.state_0, Reads{arrays});
  a.y = arrays.writes(y, "y", {z.T, z.N, long(z.D) * z.H});
  read_states(state_n, "state_n", z, a.state_n, Writes{arrays});
  const OnDevice current(x.device);
  if (!tape.is_none()) a.tape = arrays.memory(tape, "tape", tape_bytes(z), true);
  a.workspace =
      arrays.memory(workspace, "workspace", workspace_bytes(z, tape.is_none() ? Pass::inference : Pass::training), true);
  arrays.settle(stream);
  const WithoutGil released;
  forward(a);
}

void run_backward(const std::string& cell, py::object x_object, py::object lengths, py::object weights, bool reverse,
                  py::object tape, py::object dy, py::object dstate_n, py::object dx, py::object dweights, py::object dstate_0,
                  py::object workspace, py::object stream) {
  const Buffer& x = buffer_of(x_object, "x");
  Arrays arrays(x, x.dtype);
  BackwardArgs a{};
  a.layer = read_layer(arrays, cell, x, lengths, weights, reverse, stream);
  const Layer& z = a.layer;
  a.dy = arrays.reads(dy, "dy", {z.T, z.N, long(z.D) * z.H});
  if (!dstate_n.is_none()) read_states(dstate_n, "dstate_n", z, a.dstate_n, Reads{arrays});
  if (!dx.is_none()) a.dx = arrays.writes(dx, "dx", {z.T, z.N, z.I});
  if (!dweights.is_none()) {
    const py::tuple directions = items(dweights, "dweights", z.D);
    for (int d = 0; d < z.D; d++)
      a.dweights[d] = read_weights<void*>(directions[d], z, cell_of(cell), true, &z.weights[d], Writes{arrays});
  }
  read_states(dstate_0, "dstate_0", z, a.dstate_0, Writes{arrays});
  const OnDevice current(x.device);
  a.tape = arrays.memory(tape, "tape", tape_bytes(z), false);
  a.workspace = arrays.memory(workspace, "workspace", workspace_bytes(z, Pass::backward), true);
  arrays.settle(stream);
  const WithoutGil released;
  backward(a);
}

// What can be said of a call before there are arrays.
Layer sized(const std::string& cell, const std::string& dtype, long T, long N, long I, long H, long D) {
  Layer layer{};
  layer.cell = cell_of(cell).name;
  layer.type = type_of(dtype);
  layer.T = size(T, "T"), layer.N = size(N, "N"), layer.I = size(I, "I"), layer.H = size(H, "H");
  if (D != 1 && D != 2) throw std::invalid_argument("D: expected 1 or 2, got " + std::to_string(D));
  layer.D = int(D);
  return layer;
}

void run_add(py::object from_object, py::object to_object, py::object stream) {
  const Buffer& from = buffer_of(from_object, "from");
  Arrays arrays(from, from.dtype);
  const Type type = type_of(name_of(from.dtype));
  const Buffer& to = buffer_of(to_object, "to");
  if (from.shape != to.shape)
    throw std::invalid_argument("to: expected shape " + shape_text(from.shape) + ", got " + shape_text(to.shape));
  arrays.reads(from_object, "from", from.shape);
  void* target = arrays.writes(to_object, "to", from.shape);
  const OnDevice current(from.device);
  arrays.settle(stream);
  add(type, from.data, target, from.count(), stream_of(stream));
}

void run_swap_axes(py::object from_object, py::object to_object, py::object stream) {
  const Buffer& from = buffer_of(from_object, "from");
  Arrays arrays(from, from.dtype);
  const Type type = type_of(name_of(from.dtype));
  if (from.shape.size() != 3) throw std::invalid_argument("from: expected three axes, got " + shape_text(from.shape));
  const long A = from.shape[0], B = from.shape[1], C = from.shape[2];
  arrays.reads(from_object, "from", from.shape);
  void* target = arrays.writes(to_object, "to", {B, A, C});
  const OnDevice current(from.device);
  arrays.settle(stream);
  swap_axes(type, from.data, target, A, B, C, stream_of(stream));
}

// A function of a layer's sizes, and of more, as one of Python's.
template <class... More, class F> void bind_sizes(py::module_& m, const char* name, F f, const auto&... more) {
  const auto call = [f](const std::string& cell, const std::string& dtype, long T, long N, long I, long H, long D, int device,
                        const More&... others) {
    const OnDevice current(device);
    return f(sized(cell, dtype, T, N, I, H, D), others...);
  };
  m.def(name, call, py::arg("cell"), py::arg("dtype"), py::arg("T"), py::arg("N"), py::arg("I"), py::arg("H"), py::arg("D"),
        py::arg("device"), more...);
}

py::tuple plan_of(const Layer& layer, const std::string& pass) {
  const Plan p = plan(layer, pass_of(pass));
  return py::make_tuple(p.persistent, p.unit_blocks, p.row_blocks, p.shared_bytes);
}

py::list cells() {
  py::list names;
  for (int i = 0; const CellInfo* cell = cell_info(i); i++) names.append(cell->name);
  return names;
}

}  // namespace

void bind_calls(py::module_& m) {
  m.def("forward", &run_forward, py::arg("cell"), py::arg("x"), py::arg("lengths"), py::arg("weights"), py::arg("state"),
        py::arg("reverse"), py::arg("y"), py::arg("state_n"), py::arg("tape"), py::arg("workspace"), py::arg("stream"),
        "Fills y and state_n, and the tape unless None.");
  m.def("backward", &run_backward, py::arg("cell"), py::arg("x"), py::arg("lengths"), py::arg("weights"), py::arg("reverse"),
        py::arg("tape"), py::arg("dy"), py::arg("dstate_n"), py::arg("dx"), py::arg("dweights"), py::arg("dstate_0"),
        py::arg("workspace"), py::arg("stream"), "Fills dx and dweights, unless None, and dstate_0.");
  m.def("add", &run_add, py::arg("from"), py::arg("to"), py::arg("stream"));
  m.def("swap_axes", &run_swap_axes, py::arg("from"), py::arg("to"), py::arg("stream"), "The first two of three.");
  bind_sizes<>(m, "tape_bytes", &tape_bytes);
  const auto workspace = [](const Layer& layer, const std::string& pass) { return workspace_bytes(layer, pass_of(pass)); };
  bind_sizes<std::string>(m, "workspace_bytes", workspace, py::arg("pass_"));
  bind_sizes<std::string>(m, "plan", &plan_of, py::arg("pass_"), "persistent, unit_blocks, row_blocks, shared_bytes");
  m.def("cells", &cells);
}

}  // namespace fusedrnn::cuda
