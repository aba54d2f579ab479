// SPDX-License-Identifier: MIT
// A layer backward: the time loop makes the gate gradients of all steps, then products make those of x and of the weights.
#include "host.h"
#include "prepare.h"
#include "product.h"
#include "sums.h"

namespace fusedrnn::cuda {
namespace {

template <class Real> struct BackwardMemory {
  Real* panels[kMaxDirections];
  Real* d[kMaxDirections];
  float* ds[kMaxDirections][kMaxStates];

  BackwardMemory(Arena& arena, const Layer& l, const CellKernels<Real>& cell) {
    const long row = padded(l.H);
    for (int k = 0; k < l.D; k++) {
      panels[k] = arena.take<Real>(panels_size(l, cell.info.gates));
      d[k] = arena.take<Real>(long(l.T) * l.N * cell.grads * row);
      for (int state = 0; state < cell.info.states; state++) ds[k][state] = arena.take<float>(l.N * row);
    }
  }
};

// Everything of one call, by name
template <class Real> struct Backward {
  const BackwardArgs& args;
  const Layer& l;
  const CellKernels<Real>& cell;
  BackwardMemory<Real> memory;
  Arena tape;
  long row;  // Hp
  States<Real> states[kMaxDirections];

  Backward(const BackwardArgs& args, Arena workspace)
      : args(args), l(args.layer), cell(kernels_of<Real>(l)), memory(workspace, l, cell), tape(args.tape), row(padded(l.H)),
        states{direction(0), direction(1)} {}
  States<Real> direction(int d) {  // the second has no buffers if there is one only
    Arena none(nullptr);
    return States<Real>(d < l.D ? tape : none, l, cell, true);
  }
  const Real* weight(const void* p) const { return static_cast<const Real*>(p); }

  void time_loop() {
    const Plan how = plan(l, Pass::backward);
    BackwardParams<Real> p{.size = loop_sizes(l), .resident = how.persistent, .lengths = l.lengths, .direction = {}};
    for (int d = 0; d < l.D; d++) {
      const Weights<const void*>& w = l.weights[d];
      for_elements(pack_kernel<Real>, panels_size(l, cell.info.gates), l.stream, memory.panels[d], weight(w.weight_hh),
                   cell.info.gates, l.H, int(row), true);
      p.direction[d] = {.reverse = reversed(l, d),
                        .panels = memory.panels[d],
                        .weight_ch = weight(w.weight_ch),
                        .h = states[d].h,
                        .c = states[d].c,
                        .saved = states[d].saved,
                        .dy = weight(args.dy) + long(d) * l.H,
                        .dstate_n = {},
                        .d = memory.d[d],
                        .ds = {},
                        .dstate_0 = {}};
      const long part = long(d) * l.N * l.H;
      for (int k = 0; k < cell.info.states; k++) {
        p.direction[d].dstate_n[k] = args.dstate_n[k] ? weight(args.dstate_n[k]) + part : nullptr;
        p.direction[d].ds[k] = memory.ds[d][k];
        p.direction[d].dstate_0[k] = static_cast<Real*>(args.dstate_0[k]) + part;
      }
    }
    run_loop(cell.backward, p, how, l.D, l.T * cell.phases() + 1, l.stream);
  }

  // A product of the gate gradients at these positions with what of_gate(i, d, g) gives p: i counts the gates g of all
  // directions d.
  using Product = ProductParams<Real, Real>;
  template <bool kAcrossA, class OfGate> void gate_product(Product p, const int (&positions)[kMaxGates], OfGate of_gate) {
    p.a_row = cell.grads * row;
    for (int d = 0, i = 0; d < l.D; d++)
      for (int g = 0; g < cell.info.gates; g++, i++) {
        p.a[i] = memory.d[d] + positions[g] * row;
        of_gate(p, i, d, g);
      }
    product<kAcrossA, true>(p, l.stream);
  }

  void dx() {
    Product sum{.M = l.T * l.N, .N = l.I, .K = l.H, .terms = l.D * cell.info.gates, .b_row = l.I, .c_row = l.I};
    sum.c[0] = static_cast<Real*>(args.dx);
    gate_product<false>(sum, cell.x_position, [&](Product& p, int i, int d, int g) {
      p.b[i] = weight(l.weights[d].weight_ih) + long(g) * l.H * l.I;
    });
  }

  void dweight_ih() {
    const Product all{.M = l.H,
                      .N = l.I,
                      .K = l.T * l.N,
                      .outputs = l.D * cell.info.gates,
                      .b_row = l.I,
                      .c_row = l.I,
                      .padding = {l.lengths, l.N}};
    gate_product<true>(all, cell.x_position, [&](Product& p, int i, int d, int g) {
      p.b[i] = weight(l.x);
      p.c[i] = static_cast<Real*>(args.dweights[d].weight_ih) + long(g) * l.H * l.I;
    });
  }

  void dweight_hh() {
    const Product all{.M = l.H,
                      .N = l.H,
                      .K = l.T * l.N,
                      .outputs = l.D * cell.info.gates,
                      .b_row = row,
                      .c_row = l.H,
                      .padding = {l.lengths, l.N}};
    gate_product<true>(all, cell.h_position, [&](Product& p, int i, int d, int g) {
      p.b[i] = g < cell.first() ? states[d].h : states[d].u;
      p.c[i] = static_cast<Real*>(args.dweights[d].weight_hh) + long(g) * l.H * l.H;
    });
  }

  void sums() {
    SumsParams<Real> p{.size = loop_sizes(l), .lengths = l.lengths, .direction = {}};
    for (int d = 0; d < l.D; d++) {
      const Weights<void*>& to = args.dweights[d];
      p.direction[d] = {.d = memory.d[d],
                        .c = states[d].c,
                        .saved = states[d].saved,
                        .dbias_ih = static_cast<Real*>(to.bias_ih),
                        .dbias_hh = static_cast<Real*>(to.bias_hh),
                        .dweight_ch = static_cast<Real*>(to.weight_ch)};
    }
    const std::size_t shared = simt::shared_bytes<float>((cell.grads + cell.info.peepholes) * kThreads);
    check(simt::launch(cell.sums, dim3((l.H + 31) / 32, l.D), dim3(kThreads), shared, l.stream, false, p),
          "cudaLaunchKernel(sums)");
  }

  void run() {
    time_loop();
    if (args.dx) dx();
    if (!args.dweights[0].weight_ih) return;
    dweight_ih();
    dweight_hh();
    sums();
  }
};

}  // namespace

std::size_t workspace_bytes(const Layer& l, Pass pass) {
  if (pass != Pass::backward) return forward_bytes(l, pass == Pass::training);
  return by_type(l.type, [&]<class Real>() {
    Arena arena(nullptr);
    BackwardMemory<Real>(arena, l, kernels_of<Real>(l));
    return arena.used();
  });
}

void backward(const BackwardArgs& args) {
  by_type(args.layer.type, [&]<class Real>() { Backward<Real>(args, Arena(args.workspace)).run(); });
}

}  // namespace fusedrnn::cuda
