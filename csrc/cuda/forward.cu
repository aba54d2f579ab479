// SPDX-License-Identifier: MIT
// A layer forward: the input part of all steps in one product, then the time loop of both directions at once.
#include "host.h"
#include "prepare.h"
#include "product.h"

namespace fusedrnn::cuda {
namespace {

template <class Real> struct ForwardMemory {
  Real* panels[kMaxDirections];
  float* xg[kMaxDirections];

  ForwardMemory(Arena& arena, const Layer& l, const CellKernels<Real>& cell) {
    for (int d = 0; d < l.D; d++) {
      panels[d] = arena.take<Real>(panels_size(l, cell.info.gates));
      xg[d] = arena.take<float>(long(l.T) * l.N * cell.info.gates * l.H);
    }
  }
};

template <class Real> void input_part(const Layer& l, const CellKernels<Real>& cell, const ForwardMemory<Real>& memory) {
  const int columns = cell.info.gates * l.H;
  ProductParams<Real, float> p{
      .M = l.T * l.N, .N = columns, .K = l.I, .outputs = l.D, .a_row = l.I, .b_row = l.I, .c_row = columns};
  for (int d = 0; d < l.D; d++) {
    p.a[d] = static_cast<const Real*>(l.x);
    p.b[d] = static_cast<const Real*>(l.weights[d].weight_ih);
    p.c[d] = memory.xg[d];
    p.bias[d] = static_cast<const Real*>(l.weights[d].bias_ih);
  }
  product<false, false>(p, l.stream);
}

template <class Real> void run(const ForwardArgs& args) {
  const Layer& l = args.layer;
  const CellKernels<Real>& cell = kernels_of<Real>(l);
  const bool training = args.tape;
  const Plan how = plan(l, training ? Pass::training : Pass::inference);
  Arena workspace(args.workspace), tape(args.tape);
  const ForwardMemory<Real> memory(workspace, l, cell);
  ForwardParams<Real> p{
      .size = loop_sizes(l), .training = training, .resident = how.persistent, .lengths = l.lengths, .direction = {}};
  for (int d = 0; d < l.D; d++) {
    const States<Real> states(training ? tape : workspace, l, cell, training);
    const Weights<const void*>& w = l.weights[d];
    const long part = long(d) * l.N * l.H;
    p.direction[d] = {.reverse = reversed(l, d),
                      .panels = memory.panels[d],
                      .xg = memory.xg[d],
                      .bias_hh = static_cast<const Real*>(w.bias_hh),
                      .weight_ch = static_cast<const Real*>(w.weight_ch),
                      .h = states.h,
                      .c = states.c,
                      .u = states.u,
                      .saved = states.saved,
                      .y = static_cast<Real*>(args.y) + long(d) * l.H,
                      .state_n = {}};
    const auto state_0 = [&](int k) { return args.state_0[k] ? static_cast<const Real*>(args.state_0[k]) + part : nullptr; };
    const int Hp = p.size.Hp, slot = p.slot(0, p.direction[d].reverse);
    for_elements(pack_kernel<Real>, panels_size(l, cell.info.gates), l.stream, memory.panels[d],
                 static_cast<const Real*>(w.weight_hh), cell.info.gates, l.H, Hp, false);
    for_elements(start_kernel<Real, Real>, long(l.N) * Hp, l.stream, states.h + long(slot) * l.N * Hp, state_0(0), l.N, l.H,
                 Hp);
    if (states.c)
      for_elements(start_kernel<Real, float>, long(l.N) * Hp, l.stream, states.c + long(slot) * l.N * Hp, state_0(1), l.N, l.H,
                   Hp);
    for (int k = 0; k < cell.info.states; k++) p.direction[d].state_n[k] = static_cast<Real*>(args.state_n[k]) + part;
  }
  input_part(l, cell, memory);
  run_loop(cell.forward, p, how, l.D, l.T * cell.phases(), l.stream);
}

}  // namespace

std::size_t tape_bytes(const Layer& l) {
  return by_type(l.type, [&]<class Real>() {
    Arena arena(nullptr);
    for (int d = 0; d < l.D; d++) States<Real>(arena, l, kernels_of<Real>(l), true);
    return arena.used();
  });
}

std::size_t forward_bytes(const Layer& l, bool training) {
  return by_type(l.type, [&]<class Real>() {
    const CellKernels<Real>& cell = kernels_of<Real>(l);
    Arena arena(nullptr);
    ForwardMemory<Real>(arena, l, cell);
    for (int d = 0; d < l.D && !training; d++) States<Real>(arena, l, cell, false);
    return arena.used();
  });
}

void forward(const ForwardArgs& args) {
  by_type(args.layer.type, [&]<class Real>() { run<Real>(args); });
}

}  // namespace fusedrnn::cuda
