// SPDX-License-Identifier: MIT
// Softmax and cross-entropy of a row of logits, its gradient in the same pass. Sums run over 64-byte stretches whatever the
// vector's width, so that every instruction set with fma gives the same bits.
#pragma once
#include "../args.h"
#include "math.h"
#include "team.h"

namespace fusedrnn::FUSEDRNN_ISA {

constexpr int kStretch = 64;

template <class Real> INLINE Vec<Real> load_or_lowest(const Real* p, long n) {
  if (n >= kWidth<Real>) return load(p);
  Real lanes[kWidth<Real>];
  for (int i = 0; i < kWidth<Real>; i++) lanes[i] = i < n ? p[i] : -__builtin_inf();
  return load(lanes);
}

// Writes exp(x - max) and returns their sum.
template <class Real> double exponentials(const Real* x, long V, Real most, Real* out) {
  constexpr int W = kWidth<Real>, kParts = kStretch / kBytes, kLanes = kStretch / sizeof(Real);
  Vec<Real> sum[kParts] = {};
  for (long v = 0; v < V; v += kLanes) UNROLL for (int i = 0; i < kParts; i++) {
      const long left = V - v - i * W;
      const Vec<Real> e = exp(load_or_lowest(x + v + i * W, left) - most);
      sum[i] += e;
      store(out + v + i * W, e, left);
    }
  Real lanes[kLanes];
  for (int i = 0; i < kParts; i++) store(lanes + i * W, sum[i]);
  double total = 0;
  for (const Real lane : lanes) total += lane;
  return total;
}

template <class Real> Real greatest(const Real* x, long V) {
  constexpr int W = kWidth<Real>;
  Vec<Real> most = splat(Real(-__builtin_inf()));
  for (long v = 0; v < V; v += W) {
    const Vec<Real> part = load_or_lowest(x + v, V - v);
    most = larger(part, most);
  }
  Real all = most[0];
  for (int i = 1; i < W; i++) all = most[i] > all ? most[i] : all;
  return all;
}

template <class Real> void softmax_cross_entropy(const LossArgs<Real>& a, Team& team, int me) {
  constexpr int W = kWidth<Real>;
  for (long m = a.M * me / team.size(); m < a.M * (me + 1) / team.size(); m++) {
    const Real* x = a.logits + m * a.V;
    Real* dx = a.dlogits + m * a.V;
    if (a.targets[m] == a.ignore_index) {
      a.losses[m] = 0;
      for (long v = 0; v < a.V; v++) dx[v] = 0;
      continue;
    }
    const Real most = greatest(x, a.V), target = x[a.targets[m]];  // read before dx, which may be x
    const double sum = exponentials(x, a.V, most, dx);
    a.losses[m] = __builtin_log(sum) - (double(target) - double(most));
    const Real scale = Real(a.scale / sum);
    for (long v = 0; v < a.V; v += W) store(dx + v, load(dx + v, a.V - v) * scale, a.V - v);
    dx[a.targets[m]] -= a.scale;
  }
}

}  // namespace fusedrnn::FUSEDRNN_ISA
