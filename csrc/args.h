// SPDX-License-Identifier: MIT
// What one call hands to the kernels: plain data, known to every build. No Python, no instruction set, no device.
//
// Sizes: T time steps, N batch rows, I input size, H hidden size, P width of h, G gates, S states (state 0 is h).
// P is H but with projection, where h = weight_hr u with weight_hr (P, H), P < H, and u (N, H) is what the cell gives out.
// Arrays are row-major and belong to the caller. Weights are PyTorch's: weight_ih (G*H, I), weight_hh (G*H, P).
// Sequences of unequal length stand longest first, and without gaps: step t has the rows first_row[t]..first_row[t + 1] of
// (R, I) and (R, P) where others have (T, N, I) and (T, N, P); R is all of them, N those of step 0.
#pragma once
#include <cstdint>

namespace fusedrnn {

constexpr int kMaxStates = 2;

struct Sizes {
  long T, N, I, H, P;

  bool projected() const { return P < H; }
  long width(int state) const { return state ? H : P; }
  bool operator==(const Sizes&) const = default;
};

enum class NoiseKind : std::uint64_t { dropout, recurrent_dropout, zoneout_h, zoneout_c };

// Random masks of one layer in one direction, drawn as cpu/noise.h says. All zero: none.
struct Noise {
  std::uint64_t seed;
  double dropout;                        // probability that W_hh does not see a unit of h, for a whole sequence
  double zoneout[kMaxStates];            // probability that a unit of a state stays as it was before the step
  bool expected;                         // zoneout by its mean, as in inference
  long first_step, first_row;            // what time 0 and batch row 0 are called in the draws
  const std::int64_t *rows, *steps;      // or null: (N,), what each row, and its only step (T = 1), is called

  long row(long n) const { return rows ? rows[n] : first_row + n; }
  long step(long t, long n) const { return steps ? steps[n] : first_step + t; }
};

// What some steps of some rows do otherwise. Null, and noise of zeros: nothing.
struct Form {
  const long* first_row;       // (T + 1,)
  const std::uint8_t* resets;  // (R,): not 0: the state before the step is zero, whatever came before
  Noise noise;
};

// How the threads share the work; see plan.cpp for the rules.
struct Plan {
  int threads;
  bool by_rows;      // each thread scans its own batch rows (no barrier), else its own units (one barrier a step)
  long chunk_rows;   // the input part and the weight gradients are done for so many rows at a time, or for one step
};

// Same shapes for the weights and for their gradients. Biases may be null; weight_ch (Q*H,) is, without peepholes (Q = 0),
// and weight_hr, without projection. Without layer normalisation the last four are: (G*H,) twice and, null as well if the cell
// has no c, (H,) twice.
template <class Real> struct Weights {
  Real *weight_ih, *weight_hh, *bias_ih, *bias_hh, *weight_ch, *weight_hr;
  Real *weight_ln_ih, *weight_ln_hh, *weight_ln_ch, *bias_ln_ch;
};

template <class Real> struct ForwardArgs {
  Sizes size;
  Form form;
  Plan plan;
  bool reverse;                      // true: time runs from T-1 to 0
  const Real* x;                     // (T, N, I), or null:
  const std::int64_t* tokens;        // (T, N) indices below I, the same as one-hot rows of x
  Weights<const Real> weights;       // not read where panels are given
  const Real* panels;                // from pack(), or null
  long panel_rows;
  const Real* state_0[kMaxStates];   // h (N, P), c (N, H); null is zeros
  Real* y;                           // (T, N, P), rows y_row apart
  long y_row;
  Real* state_n[kMaxStates];         // as state_0
  Real* tape;                        // tape_size() values for backward; null: inference
  Real* workspace;                   // forward_size() values
};

// Weights packed once for many calls of forward
template <class Real> struct PackArgs {
  Sizes size;                        // T and N are not read
  long rows;                         // of the calls it will be fastest for
  Weights<const Real> weights;
  Real* panels;                      // panels_size() values
};

template <class Real> struct BackwardArgs {
  Sizes size;
  Form form;
  Plan plan;
  bool reverse;
  const Real* x;
  const std::int64_t* tokens;
  Weights<const Real> weights;
  const Real* y;
  long y_row;
  const Real* tape;
  const Real* dy;                    // (T, N, P), rows dy_row apart
  long dy_row;
  const Real* dstate_n[kMaxStates];  // null is zeros
  Real* dx;                          // (T, N, I) or null
  bool dx_add;                       // add into dx, else overwrite
  Weights<Real> dweights;            // all null: not wanted
  bool add;                          // add into dweights, else overwrite
  Real* dstate_0[kMaxStates];
  Real* workspace;                   // backward_size() values
};

// Dropout of (T, N, K), in place or not
template <class Real> struct DropoutArgs {
  long T, N, K;
  Noise noise;                       // its dropout, seed, and what rows and steps are called
  const Real* x;
  Real* out;                         // may be x itself
};

// y = x weightᵀ + bias over M rows, and its gradients
template <class Real> struct LinearArgs {
  long M, I, O;
  int threads;
  const Real *x, *weight, *bias;     // (M, I), (O, I), (O,) or null
  Real* y;                           // (M, O); forward only
  const Real* dy;                    // (M, O); backward only, as all below
  Real *dx, *dweight, *dbias;        // dbias may be null
  bool add;                          // add into dweight and dbias, else overwrite
  Real* workspace;
};

// One pass over M rows of V logits: per-row losses and dlogits = (softmax - onehot) * scale
template <class Real> struct LossArgs {
  long M, V;
  const Real* logits;                // (M, V)
  const std::int64_t* targets;       // (M,)
  std::int64_t ignore_index;         // rows with this target: loss 0, gradient 0
  Real scale;
  Real* dlogits;                     // (M, V); may be logits itself
  double* losses;                    // (M,)
};

// Adam's step number k of some parameters, in place (Kingma and Ba 2015, algorithm 1), or AdamW's (Loshchilov and Hutter 2019,
// algorithm 2). Threads share each parameter.
template <class Real> struct AdamArgs {
  struct Parameter {
    long n;
    Real* p;                         // (n,), as all of them
    const Real* g;                   // its gradient
    Real *m, *s;                     // running means of g and of g²
  };
  long count;
  const Parameter* parameters;       // (count,)
  Real weight_decay;                 // times p joins g; 0 for AdamW
  Real kept;                         // of p: 1 - lr weight_decay for AdamW, else 1
  Real m_rate, m_decay;              // 1 - beta1, beta1
  Real s_rate, s_decay;              // 1 - beta2, beta2
  Real s_unbiased;                   // sqrt(1 - beta2ᵏ)
  Real eps;
  Real rate;                         // lr / (1 - beta1ᵏ)
};

}  // namespace fusedrnn
