// SPDX-License-Identifier: MIT
// _core.dropout: the random masks between layers.
#include "bindings.h"
#include "gil.h"
#include "layer_args.h"

namespace fusedrnn {
namespace {

constexpr double kOperations = 20;  // of one element, about

template <class Real>
void dropout(const py::array& x, py::handle out, double p, std::uint64_t seed, long first_step, long first_row, py::handle rows,
             py::handle steps) {
  DropoutArgs<Real> a{};
  a.T = x.shape(0), a.N = x.shape(1), a.K = x.shape(2);
  if (a.T < 1 || a.N < 1 || a.K < 1) throw std::invalid_argument("x: expected sizes of at least 1");
  a.x = pointer<const Real>(x, "x", {a.T, a.N, a.K});
  a.out = pointer<Real>(out, "out", {a.T, a.N, a.K});
  a.noise.dropout = p;
  a.noise.seed = seed, a.noise.first_step = first_step, a.noise.first_row = first_row;
  if (a.T != 1 && !steps.is_none()) throw std::invalid_argument("steps: expected None for T = " + std::to_string(a.T));
  a.noise.rows = optional_pointer<const std::int64_t>(rows, "rows", {a.N});
  a.noise.steps = optional_pointer<const std::int64_t>(steps, "steps", {a.N});
  if (a.x != a.out) {
    Regions regions;
    regions.reads(a.x, a.T * a.N * a.K);
    regions.writes(a.out, a.T * a.N * a.K, "out");
    regions.check();
  }
  const int threads = plan_rows(a.T * a.N, kOperations * a.K);
  const auto kernel = current_isa().kernels<Real>().dropout;
  const WithoutGil released;
  run_team(threads, [&](Team& team, int me) { kernel(a, team, me); });
}

}  // namespace

void bind_dropout(py::module_& m) {
  m.def(
      "dropout",
      [](const py::array& x, py::object out, py::object p, std::uint64_t seed, long first_step, long first_row, py::object rows,
         py::object steps) {
        if (x.ndim() != 3) throw std::invalid_argument("x: expected shape (T, N, K)");
        const auto run = holds<double>(x) ? dropout<double> : dropout<float>;
        run(x, out, probability(p, "dropout"), seed, first_step, first_row, rows, steps);
      },
      py::arg("x"), py::arg("out"), py::arg("p"), py::arg("seed"), py::arg("first_step"), py::arg("first_row"),
      py::arg("rows") = py::none(), py::arg("steps") = py::none(),
      "Fills out, which may be x: elements are zero with probability p, the others are scaled by 1 / (1 - p). "
      "What is drawn for a row goes by rows (N,), in one step by steps (N,) as well, else by first_row and first_step on.");
}

}  // namespace fusedrnn
