// SPDX-License-Identifier: MIT
// _core.linear_*, softmax_cross_entropy and the activations by themselves (for their proof).
#include <vector>

#include "arrays.h"
#include "bindings.h"
#include "cpu/dispatch.h"
#include "cpu/plan.h"
#include "gil.h"
#include "memory.h"

namespace fusedrnn {
namespace {

struct Matrix { long rows, columns; };
Matrix matrix_of(py::handle object, const char* name) {
  if (!py::isinstance<py::array>(object)) throw py::type_error(std::string(name) + ": expected numpy.ndarray");
  const auto array = py::reinterpret_borrow<py::array>(object);
  if (array.ndim() != 2 || array.shape(0) < 1 || array.shape(1) < 1)
    throw std::invalid_argument(std::string(name) + ": expected a matrix with rows and columns");
  return {array.shape(0), array.shape(1)};
}

template <class Real> LinearArgs<Real> read_linear(py::handle x, py::handle weight) {
  LinearArgs<Real> a{};
  a.M = matrix_of(x, "x").rows;
  const auto [rows, columns] = matrix_of(weight, "weight");
  a.O = rows, a.I = columns;
  a.x = pointer<const Real>(x, "x", {a.M, a.I});
  a.weight = pointer<const Real>(weight, "weight", {a.O, a.I});
  a.threads = plan_rows(a.M, 2. * a.O * a.I);
  return a;
}

template <class Real, class Size, class Run> void run_linear(LinearArgs<Real>& a, Size size, Run run) {
  Regions regions;
  regions.reads(a.x, a.M * a.I);
  regions.reads(a.weight, a.O * a.I);
  regions.reads(a.bias, a.O);
  regions.reads(a.dy, a.M * a.O);
  regions.writes(a.y, a.M * a.O, "y");
  regions.writes(a.dx, a.M * a.I, "dx");
  regions.writes(a.dweight, a.O * a.I, "dweight");
  regions.writes(a.dbias, a.O, "dbias");
  regions.check();
  const WithoutGil released;
  const Buffer workspace(std::size_t(size(a)) * sizeof(Real));
  a.workspace = static_cast<Real*>(workspace.data());
  run_team(a.threads, [&](Team& team, int me) { run(a, team, me); });
}

template <class Real> void linear_forward(py::handle x, py::handle weight, py::handle bias, py::handle y) {
  const Kernels<Real>& kernels = current_isa().kernels<Real>();
  LinearArgs<Real> a = read_linear<Real>(x, weight);
  a.bias = optional_pointer<const Real>(bias, "bias", {a.O});
  a.y = pointer<Real>(y, "y", {a.M, a.O});
  run_linear(a, kernels.linear_forward_size, kernels.linear_forward);
}

template <class Real>
void linear_backward(py::handle x, py::handle weight, py::handle dy, py::handle dx, py::handle dweight, py::handle dbias,
                     bool add) {
  const Kernels<Real>& kernels = current_isa().kernels<Real>();
  LinearArgs<Real> a = read_linear<Real>(x, weight);
  a.dy = pointer<const Real>(dy, "dy", {a.M, a.O});
  a.dx = pointer<Real>(dx, "dx", {a.M, a.I});
  a.dweight = pointer<Real>(dweight, "dweight", {a.O, a.I});
  a.dbias = optional_pointer<Real>(dbias, "dbias", {a.O});
  a.add = add;
  run_linear(a, kernels.linear_backward_size, kernels.linear_backward);
}

// The sum or mean of the rows' losses, over the rows whose target counts; the mean of no row is NaN, as in PyTorch.
template <class Real>
double softmax_cross_entropy(py::handle logits, py::handle targets, std::int64_t ignore_index, bool mean, py::handle dlogits) {
  LossArgs<Real> a{};
  const auto [rows, columns] = matrix_of(logits, "logits");
  a.M = rows, a.V = columns;
  a.logits = pointer<const Real>(logits, "logits", {a.M, a.V});
  a.targets = pointer<const std::int64_t>(targets, "targets", {a.M});
  a.dlogits = pointer<Real>(dlogits, "dlogits", {a.M, a.V});
  a.ignore_index = ignore_index;
  Regions regions;
  regions.reads(a.targets, a.M);
  if (a.dlogits != a.logits) regions.reads(a.logits, a.M * a.V);
  regions.writes(a.dlogits, a.M * a.V, "dlogits");
  regions.check();
  long counted = 0;
  for (long m = 0; m < a.M; m++) {
    if (a.targets[m] == ignore_index) continue;
    counted++;
    if (a.targets[m] < 0 || a.targets[m] >= a.V)
      throw std::invalid_argument("targets: expected values in 0.." + std::to_string(a.V - 1) + ", got " +
                                  std::to_string(a.targets[m]));
  }
  const double weight = mean ? 1. / double(counted) : 1.;  // of no row: infinite, met by no gradient and a sum of 0
  a.scale = Real(weight);

  const WithoutGil released;
  std::vector<double> losses(a.M);
  a.losses = losses.data();
  const auto run = current_isa().kernels<Real>().softmax_cross_entropy;
  run_team(plan_rows(a.M, 30. * double(a.V)), [&](Team& team, int me) { run(a, team, me); });
  double sum = 0;
  for (const double loss : losses) sum += loss;
  return sum * weight;
}

template <class Real> void activation(const std::string& name, py::handle x, py::handle out) {
  const Kernels<Real>& kernels = current_isa().kernels<Real>();
  const auto run = name == "exp" ? kernels.exp : name == "tanh" ? kernels.tanh : name == "sigmoid" ? kernels.sigmoid : nullptr;
  if (!run) throw std::invalid_argument("name: expected exp, tanh or sigmoid, got '" + name + "'");
  const py::array array = array_of<Real>(x, "x");
  const long n = array.size();
  const Real* from = pointer<const Real>(x, "x", {n});
  Real* to = pointer<Real>(out, "out", {n});
  const WithoutGil released;
  run(from, to, n);
}

}  // namespace

void bind_head(py::module_& m) {
  m.def(
      "linear_forward",
      [](py::object x, py::object weight, py::object bias, py::object y) {
        (holds<double>(weight) ? linear_forward<double> : linear_forward<float>)(x, weight, bias, y);
      },
      py::arg("x"), py::arg("weight"), py::arg("bias"), py::arg("y"), "Fills y = x weightᵀ + bias.");
  m.def(
      "linear_backward",
      [](py::object x, py::object weight, py::object dy, py::object dx, py::object dweight, py::object dbias, bool add) {
        (holds<double>(weight) ? linear_backward<double> : linear_backward<float>)(x, weight, dy, dx, dweight, dbias, add);
      },
      py::arg("x"), py::arg("weight"), py::arg("dy"), py::arg("dx"), py::arg("dweight"), py::arg("dbias"), py::arg("add"),
      "Fills dx, and fills or adds to dweight and dbias (or None).");
  m.def(
      "softmax_cross_entropy",
      [](py::object logits, py::object targets, std::int64_t ignore_index, bool mean, py::object dlogits) {
        return (holds<double>(logits) ? softmax_cross_entropy<double>
                                      : softmax_cross_entropy<float>)(logits, targets, ignore_index, mean, dlogits);
      },
      py::arg("logits"), py::arg("targets"), py::arg("ignore_index"), py::arg("mean"), py::arg("dlogits"),
      "Returns the loss and fills dlogits (which may be logits).");
  m.def(
      "activation",
      [](const std::string& name, py::object x, py::object out) {
        (holds<double>(x) ? activation<double> : activation<float>)(name, x, out);
      },
      py::arg("name"), py::arg("x"), py::arg("out"), "out = exp, tanh or sigmoid of x, as the kernels compute it.");
}

}  // namespace fusedrnn
