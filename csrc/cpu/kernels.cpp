// SPDX-License-Identifier: MIT
// The table of one instruction set. This file, gemm.cpp and dense.cpp are compiled once for each, with its flags and with
// FUSEDRNN_ISA as the name of its namespace.
#include "adam.h"
#include "backward.h"
#include "dispatch.h"
#include "forward.h"
#include "linear.h"
#include "loss.h"
#include "norm_backward.h"
#include "norm_forward.h"
#include "one_step.h"

#define STRING(x) #x
#define NAME_OF(x) STRING(x)

namespace fusedrnn::FUSEDRNN_ISA {
namespace {

// The scans of a cell, and its panels
template <class C, class Real> struct Engine {
  using Forward = FUSEDRNN_ISA::Forward<C, Real>;
  using Backward = FUSEDRNN_ISA::Backward<C, Real>;
  static Panels<C, Real> panels(const PackArgs<Real>& a) {
    return {a.panels, a.size, share_of_units<Real>(a.size, 0, 1), a.rows, a.rows};
  }
  static void pack(const PackArgs<Real>& a) { panels(a).pack(a.weights, a.size, false, 0, 1); }
};
template <NormCell C, class Real> struct Engine<C, Real> {
  using Forward = NormForward<C, Real>;
  using Backward = NormBackward<C, Real>;
  static NormPanels<C, Real> panels(const PackArgs<Real>& a) { return {a.panels, a.size, a.rows, a.rows}; }
  static void pack(const PackArgs<Real>& a) { panels(a).pack(a.weights, a.size, 0, 1); }
};

template <class C, class Real> void forward(const ForwardArgs<Real>& a, Team& team, int me) {
  typename Engine<C, Real>::Forward(a, team, me).run();
}
template <class C, class Real> void backward(const BackwardArgs<Real>& a, Team& team, int me) {
  typename Engine<C, Real>::Backward(a, team, me).run();
}
template <class C, class Real> long panels_size(const PackArgs<Real>& a) { return Engine<C, Real>::panels(a).size; }
template <class C, class Real> long tape_size(const Sizes& z, long rows, const Noise& noise) {
  return TapeOf<C, Real>(nullptr, z, rows, noise).size;
}
template <class Real> long linear_forward_size(const LinearArgs<Real>& a) { return LinearLayout<Real>(a, false).size; }
template <class Real> long linear_backward_size(const LinearArgs<Real>& a) { return LinearLayout<Real>(a, true).size; }

template <class Real, class F> INLINE void map(const Real* x, Real* out, long n, F f) {
  for (long i = 0; i < n; i += kWidth<Real>) store(out + i, f(load(x + i, n - i)), n - i);
}

constexpr int count_cells() {
  int count = 0;
  for_each_cell([&]<Cell C>() { count++; });
  return count;
}
template <class Real> struct CellTable { CellKernels<Real> cells[count_cells()]; };

template <class Real> constexpr CellTable<Real> cell_table() {
  CellTable<Real> table{};
  CellKernels<Real>* next = table.cells;
  for_each_cell([&]<Cell C>() {
    *next++ = {C::kName,
               C::kGates,
               C::kStates,
               C::kPeepholes,
               NormCell<C>,
               tape_size<C, Real>,
               panels_size<C, Real>,
               Engine<C, Real>::pack,
               Engine<C, Real>::Forward::size,
               Engine<C, Real>::Backward::size,
               forward<C, Real>,
               backward<C, Real>,
               one_step<C, Real>};
  });
  return table;
}
template <class Real> constexpr CellTable<Real> kCells = cell_table<Real>();

template <class Real> constexpr Kernels<Real> table() {
  Kernels<Real> k{};
  k.width = kWidth<Real>;
  k.cell_count = count_cells();
  k.cells = kCells<Real>.cells;
  k.dropout = dropout<Real>;
  k.linear_forward_size = linear_forward_size<Real>;
  k.linear_backward_size = linear_backward_size<Real>;
  k.linear_forward = linear_forward<Real>;
  k.linear_backward = linear_backward<Real>;
  k.softmax_cross_entropy = softmax_cross_entropy<Real>;
  k.adam = adam<Real>;
  k.exp = [](const Real* x, Real* out, long n) { map(x, out, n, [](auto v) { return exp(v); }); };
  k.tanh = [](const Real* x, Real* out, long n) { map(x, out, n, [](auto v) { return tanh(v); }); };
  k.sigmoid = [](const Real* x, Real* out, long n) { map(x, out, n, [](auto v) { return sigmoid(v); }); };
  return k;
}

}  // namespace

extern const Isa isa;
constexpr Isa isa{NAME_OF(FUSEDRNN_ISA), table<float>(), table<double>()};

}  // namespace fusedrnn::FUSEDRNN_ISA
