// SPDX-License-Identifier: MIT
// The contract of a cell: the elementwise part of one time step for one hidden unit of one batch row. A cell sees no
// time, no batch, no direction, no instruction set and no device: V is a SIMD vector or a scalar, and tanh, sigmoid,
// fma and relu are those of the build that includes it (cpu/math.h).
//
//   xg[kGates]     input part of every gate,   W_ih x_t + b_ih
//   hg[kGates]     hidden part of every gate,  W_hh h_{t-1} + b_hh
//   p[kPeepholes]  weights by which gates of the unit see a state of its own (LSTM's peepholes)
//   s[kStates]     state before the step; s[0] is h; where forward reads none, kReadsStates is false, and it is not kept
//   s_new[kStates] state after it
//   saved[kSaved]  what backward needs beside the states; kSavesH: which is s_new[0]
//   ds[kStates]    enters backward as dL/ds_new and leaves as dL/ds, without the path through hg
//   d[kGrads]      gradients of the gates' parts: that of xg[g] is d[kX[g]], that of hg[g] is d[kH[g]]
//
//   forward(xg, hg, p, s, s_new, saved)  backward(saved, p, s, ds, d)
//   peeped(i, saved, s)                  what p[i] was multiplied with, inside gate kPeepholeGate[i]; if kPeepholes > 0
//
// A cell with kLate > 0 has a second product inside the step: its last kLate gates see not h but
//   u = early(xg, hg, s, saved)          the first gates' work; only their xg and hg are given
// so that hg[late] = W_hh[late] u + b_hh[late]. early fills the first kGates - kLate of saved, forward the rest; u is made
// by gate 0, which has no other use, so backward leaves out d[0] and is followed by
//   early_backward(saved, s, du, ds, d)  du = dL/du; writes d[0], adds to ds
//
// What layer normalisation makes of a cell: norm.h.
#pragma once

namespace fusedrnn::FUSEDRNN_ISA {

template <class C>
concept Cell = requires {
  C::kName;
  requires C::kGates > 0 && C::kStates > 0 && C::kSaved > 0;
  requires !C::kSavesH || C::kSaved == 1;
  C::kReadsStates;
  requires C::kLate >= 0 && C::kLate < C::kGates;
  requires C::kGrads >= C::kGates;
  requires C::kPeepholes >= 0;
  C::kX[C::kGates - 1];
  C::kH[C::kGates - 1];
};

}  // namespace fusedrnn::FUSEDRNN_ISA
