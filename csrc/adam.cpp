// SPDX-License-Identifier: MIT
// _core.adam: a step of the optimiser, of all its parameters in one call.
#include <cmath>
#include <vector>

#include "bindings.h"
#include "cpu/dispatch.h"
#include "cpu/plan.h"
#include "gil.h"
#include "layer_args.h"

namespace fusedrnn {
namespace {

constexpr double kOperations = 20;  // of one value, about: its 28 bytes from and to memory

struct Settings {
  double lr, beta1, beta2, eps, weight_decay;
  bool decoupled;
  double step;
};

// The updates of one type; those of the other are left.
template <class Real> std::vector<typename AdamArgs<Real>::Parameter> read(const py::list& updates) {
  std::vector<typename AdamArgs<Real>::Parameter> parameters;
  for (const py::handle update : updates) {
    const py::tuple arrays = items(update, "update", 4);
    if (!holds<Real>(arrays[0])) continue;
    const long n = array_of<Real>(arrays[0], "param").size();
    parameters.push_back({n, pointer<Real>(arrays[0], "param", {n}), pointer<const Real>(arrays[1], "grad", {n}),
                          pointer<Real>(arrays[2], "exp_avg", {n}), pointer<Real>(arrays[3], "exp_avg_sq", {n})});
  }
  return parameters;
}

template <class Real> void run(const std::vector<typename AdamArgs<Real>::Parameter>& parameters, const Settings& s) {
  long values = 0;
  for (const auto& parameter : parameters) values += parameter.n;
  if (!values) return;
  AdamArgs<Real> a{};
  a.count = long(parameters.size());
  a.parameters = parameters.data();
  a.weight_decay = Real(s.decoupled ? 0 : s.weight_decay);
  a.kept = Real(s.decoupled ? 1 - s.lr * s.weight_decay : 1);
  a.m_rate = Real(1 - s.beta1), a.m_decay = Real(s.beta1);
  a.s_rate = Real(1 - s.beta2), a.s_decay = Real(s.beta2);
  a.s_unbiased = Real(std::sqrt(1 - std::pow(s.beta2, s.step)));
  a.eps = Real(s.eps);
  a.rate = Real(s.lr / (1 - std::pow(s.beta1, s.step)));
  const auto kernel = current_isa().kernels<Real>().adam;
  run_team(plan_rows(values, kOperations), [&](Team& team, int me) { kernel(a, team, me); });
}

}  // namespace

void bind_adam(py::module_& m) {
  m.def(
      "adam",
      [](const py::list& updates, double lr, double beta1, double beta2, double eps, double weight_decay, bool decoupled,
         double step) {
        const Settings settings{lr, beta1, beta2, eps, weight_decay, decoupled, step};
        const auto singles = read<float>(updates);
        const auto doubles = read<double>(updates);
        if (singles.size() + doubles.size() != updates.size()) throw py::type_error("param: expected float32 or float64");
        const WithoutGil released;
        run<float>(singles, settings);
        run<double>(doubles, settings);
      },
      py::arg("updates"), py::arg("lr"), py::arg("beta1"), py::arg("beta2"), py::arg("eps"), py::arg("weight_decay"),
      py::arg("decoupled"), py::arg("step"),
      "Takes step number `step` of each (param, grad, exp_avg, exp_avg_sq), flat arrays of one type, in place; decoupled: "
      "AdamW's.");
}

}  // namespace fusedrnn
