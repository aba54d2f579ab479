// SPDX-License-Identifier: MIT
// _core.forward and _core.backward: one layer, one direction. Checks, finds the kernel, lets go of the GIL.
#include "bindings.h"
#include "gil.h"
#include "layer_args.h"
#include "tape.h"

namespace fusedrnn {
namespace {

template <class Real> void check_memory(const BackwardArgs<Real>& a, const CellKernels<Real>& cell) {
  const Sizes& z = a.size;
  Regions regions;
  add_inputs(regions, a, cell);
  regions.reads(a.y, span(a, a.y_row));
  regions.reads(a.dy, span(a, a.dy_row));
  regions.writes(a.dx, rows_of(a) * z.I, "dx");
  for_weights(a.dweights, z, cell, [&](Real* p, long n, const char* name) { regions.writes(p, n, name); });
  for (int i = 0; i < kMaxStates; i++) {
    regions.reads(a.dstate_n[i], z.N * z.width(i));
    regions.writes(a.dstate_0[i], z.N * z.width(i), "dstate_0");
  }
  regions.check();
}

template <class Real>
py::object forward(const std::string& name, py::handle x, const py::tuple& weights, py::handle state, bool reverse,
                   py::handle y, py::handle state_n, py::handle tape, py::handle first_row, py::handle resets,
                   py::handle noise) {
  py::object memory = tape.ptr() == Py_True || is_memory(tape) ? py::reinterpret_borrow<py::object>(tape) : py::none();
  Tape* const own = tape.is_none() || !memory.is_none() ? nullptr : &empty_tape(tape);
  const Isa& isa = current_isa();
  const int index = find_cell(isa, name);
  const CellKernels<Real>& cell = isa.kernels<Real>().cells[index];
  ForwardArgs<Real> a{};
  a.size = read_widths(weights, cell);
  a.weights = read_weights<const Real>(weights, a.size, cell, "");
  a.reverse = reverse;
  OwnForm form = read_forward(a, cell.states, x, state, y, state_n, first_row, resets, noise);
  check_memory(a, cell);
  Tape kept;
  if (!tape.is_none()) {
    const std::size_t size = bytes<Real>(cell.tape_size(a.size, rows_of(a), a.form.noise));
    const bool is_double = sizeof(Real) == sizeof(double), tokens = a.tokens != nullptr;
    kept = {{}, nullptr, size, &isa, index, is_double, reverse, tokens, a.size, std::move(form)};
    a.form = kept.form.view();
    if (!own) {
      if (tokens || !resets.is_none() || !noise.is_none())
        throw std::invalid_argument("tape: expected a Tape for tokens, resets or noise");
      if (tape.ptr() == Py_True) memory = buffer(record_bytes(kept.form.first_row.size()) + size);
      a.tape = static_cast<Real*>(write_record(memory, kept));
    }
  }

  const WithoutGil released;
  if (own) {
    kept.buffer = Buffer(kept.bytes);
    kept.values = kept.buffer.data();
    a.tape = static_cast<Real*>(kept.buffer.data());
  }
  run_forward(a, isa, cell);
  if (own) *own = std::move(kept);
  return memory;
}

template <class Real>
void backward(const Tape& tape, py::handle x, py::handle y, const py::tuple& weights, py::handle dy, py::handle dstate_n,
              py::handle dx, bool dx_add, py::handle dweights, bool add, py::handle dstate_0) {
  const Kernels<Real>& kernels = tape.isa->kernels<Real>();
  const CellKernels<Real>& cell = kernels.cells[tape.cell];
  BackwardArgs<Real> a{};
  Sizes z = read_widths(weights, cell);
  const bool tokens = read_steps_and_rows(x, z);
  const long T = z.T, N = z.N;
  tape.form.set_sizes(z, T, N);
  a.form = tape.form.view();
  if (tokens != tape.tokens || z != tape.size || (a.form.first_row && (T != 1 || N != a.form.first_row[z.T])))
    throw std::invalid_argument("x, weights: expected those of the forward call");
  a.size = z;
  a.reverse = tape.reverse;
  a.weights = read_weights<const Real>(weights, z, cell, "");
  if (!dweights.is_none()) a.dweights = read_weights<Real>(items(dweights, "dweights", kWeights), z, cell, "d");
  read_x(a, x, tokens, T, N);
  if (tokens && !dx.is_none()) throw std::invalid_argument("dx: expected None for tokens");
  a.dx = optional_pointer<Real>(dx, "dx", {T, N, z.I});
  a.dx_add = dx_add;
  a.add = add;
  const auto [data, row] = read_y<const Real>(y, z, T, N, {});
  a.y = data, a.y_row = row;
  if (!dy.is_none()) {
    const auto [ddata, drow] = row_pointer<const Real>(dy, "dy", {T, N, z.P});
    a.dy = ddata, a.dy_row = drow;
  }
  read_states(dstate_n, "dstate_n", z, cell.states, a.dstate_n);
  read_states(dstate_0, "dstate_0", z, cell.states, a.dstate_0);
  a.tape = static_cast<const Real*>(tape.values);
  if (bytes<Real>(cell.tape_size(z, rows_of(a), a.form.noise)) > tape.bytes)
    throw std::invalid_argument("tape: expected more bytes, got " + std::to_string(tape.bytes));
  check_memory(a, cell);

  const WithoutGil released;
  Buffer unwanted;
  if (dstate_0.is_none()) {
    unwanted = Buffer(bytes<Real>(cell.states * z.N * z.H));
    for (int i = 0; i < cell.states; i++) a.dstate_0[i] = static_cast<Real*>(unwanted.data()) + i * z.N * z.H;
  }
  a.plan = plan_of(a, cell, kernels.width, true);
  const Buffer workspace(bytes<Real>(cell.backward_size(a)));
  a.workspace = static_cast<Real*>(workspace.data());
  run_team(a.plan.threads, [&](Team& team, int me) { cell.backward(a, team, me); });
}

// What the rows of all steps, one after the other, are called in the draws.
OwnForm one_step_form(const Tape& tape, long R) {
  OwnForm form;
  const Noise noise = tape.form.view().noise;
  form.noise = noise;
  if (noise.dropout == 0 && noise.zoneout[0] == 0 && noise.zoneout[1] == 0) return form;
  const auto& first_row = tape.form.first_row;
  const long N = tape.size.N;
  for (long t = 0, row = 0; row < R; t++)
    for (long n = 0, count = first_row.empty() ? N : first_row[t + 1] - first_row[t]; n < count; n++, row++) {
      form.noise_rows.push_back(noise.row(n));
      form.noise_steps.push_back(noise.step(t, n));
    }
  return form;
}

template <class Real> Tape one_step(const Tape& tape, py::handle y) {
  const CellKernels<Real>& cell = tape.isa->kernels<Real>().cells[tape.cell];
  BackwardArgs<Real> a{};
  a.size = tape.size;
  a.form = tape.form.view();
  a.reverse = tape.reverse;
  a.tape = static_cast<const Real*>(tape.values);
  const long R = rows_of(a), T = a.form.first_row ? 1 : a.size.T;
  const Rows<const Real> rows = row_pointer<const Real>(y, "y", {T, R / T, a.size.P});
  a.y = rows.data;
  a.y_row = rows.row;

  const WithoutGil released;
  const Sizes size{1, R, a.size.I, a.size.H, a.size.P};
  const std::size_t used = bytes<Real>(cell.tape_size(size, R, a.form.noise));
  Buffer kept(used);
  void* const values = kept.data();
  cell.one_step(a, static_cast<Real*>(values));
  return {std::move(kept), values, used, tape.isa, tape.cell, tape.is_double, false, tape.tokens, size, one_step_form(tape, R)};
}

template <class Real> std::size_t tape_size(const std::string& name, const Sizes& z, long rows, const Noise& noise) {
  const Isa& isa = current_isa();
  return bytes<Real>(isa.kernels<Real>().cells[find_cell(isa, name)].tape_size(z, rows, noise));
}

bool is_double(const py::tuple& weights) { return holds<double>(weights[0]); }

}  // namespace

void bind_recurrent(py::module_& m) {
  py::class_<Tape>(m, "Tape", "What forward keeps for backward.")
      .def(py::init<>())
      .def_property_readonly("nbytes", [](py::object tape) { return read_tape(tape).bytes; });

  m.def("buffer", &buffer, py::arg("bytes"), "Memory for a tape, uint8 (bytes,): not initialised, and reused when it dies.");

  m.def(
      "forward",
      [](const std::string& cell, py::object x, py::object weights, py::object state, bool reverse, py::object y,
         py::object state_n, py::object tape, py::object first_row, py::object resets, py::object noise, int threads) {
        const ThreadLimit limit(threads);
        const py::tuple w = items(weights, "weights", kWeights);
        const auto run = is_double(w) ? forward<double> : forward<float>;
        return run(cell, x, w, state, reverse, y, state_n, tape, first_row, resets, noise);
      },
      py::arg("cell"), py::arg("x"), py::arg("weights"), py::arg("state"), py::arg("reverse"), py::arg("y"), py::arg("state_n"),
      py::arg("tape"), py::arg("first_row") = py::none(), py::arg("resets") = py::none(), py::arg("noise") = py::none(),
      py::arg("threads") = 0,
      "Fills y and state_n, and the tape unless None; returns its memory, if True a new one; on so many threads at the most.");

  m.def(
      "backward",
      [](py::object tape_object, py::object x, py::object y, py::object weights, py::object dy, py::object dstate_n,
         py::object dx, bool dx_add, py::object dweights, bool add, py::object dstate_0, int threads) {
        const ThreadLimit limit(threads);
        Tape recorded;
        if (is_memory(tape_object)) recorded = read_record(tape_object);
        const Tape& tape = recorded.isa ? recorded : filled_tape(tape_object);
        const auto run = tape.is_double ? backward<double> : backward<float>;
        run(tape, x, y, items(weights, "weights", kWeights), dy, dstate_n, dx, dx_add, dweights, add, dstate_0);
      },
      py::arg("tape"), py::arg("x"), py::arg("y"), py::arg("weights"), py::arg("dy"), py::arg("dstate_n"), py::arg("dx"),
      py::arg("dx_add"), py::arg("dweights"), py::arg("add"), py::arg("dstate_0"), py::arg("threads") = 0,
      "Fills dstate_0, and fills or adds to dx and dweights; each unless None.");

  m.def(
      "one_step",
      [](py::object tape_object, py::object y) {
        const Tape& tape = filled_tape(tape_object);
        return tape.is_double ? one_step<double>(tape, y) : one_step<float>(tape, y);
      },
      py::arg("tape"), py::arg("y"), "A tape of all steps as the rows of one, (1, R, ...), each with the state before it.");

  m.def(
      "tape_nbytes",
      [](const std::string& cell, bool is_double, long T, long N, long H, long P, long rows, bool drops, bool zones) {
        const auto size = is_double ? tape_size<double> : tape_size<float>;
        Noise noise{};
        noise.dropout = drops;
        noise.zoneout[0] = zones;
        return size(cell, {T, N, 0, H, P}, rows, noise);
      },
      py::arg("cell"), py::arg("is_double"), py::arg("T"), py::arg("N"), py::arg("H"), py::arg("P"), py::arg("rows"),
      py::arg("drops") = false, py::arg("zones") = false,
      "Bytes of a tape of T steps and so many rows, N at the most in a step; with recurrent dropout, with zoneout of h.");
}

}  // namespace fusedrnn
