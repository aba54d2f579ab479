// SPDX-License-Identifier: MIT
// Weights copied into panels: in the order in which the tiles read them, lanes beyond the last unit filled with zeros.
#pragma once
#include "gemm.h"

namespace fusedrnn::FUSEDRNN_ISA {

template <class Real> constexpr int blocks_of(long units) { return int((units + kWidth<Real> - 1) / kWidth<Real>); }
template <class Real> constexpr long lanes_of(long units, int block) {
  const long left = units - long(block) * kWidth<Real>;
  return left < kWidth<Real> ? left : kWidth<Real>;
}

// A slice of a weight (.., H, K) seen as vectors over units: vector v = block * gates + gate holds the units of that block.
template <class Real> struct GateRows {
  const Real* weight;  // row of the first gate's unit 0; gates lie H rows apart
  long H, K;
  int gates;

  const Real* unit_rows(int vector) const { return weight + ((vector % gates) * H + vector / gates * kWidth<Real>)*K; }
  long lanes(int vector) const { return lanes_of<Real>(H, vector / gates); }
};

// Vectors first..first+n as one group [k][n][W]: products whose columns are units. W x W tiles are transposed in registers.
template <class Real> void pack_units(const GateRows<Real>& rows, int first, int n, Real* group) {
  constexpr int W = kWidth<Real>;
  for (int j = 0; j < n; j++) {
    const Real* source = rows.unit_rows(first + j);
    const long lanes = rows.lanes(first + j);
    long k = 0;
    if (lanes == W) {
      for (; k + W <= rows.K; k += W) {
        Vec<Real> v[W];
        UNROLL for (int i = 0; i < W; i++) v[i] = load(source + i * rows.K + k);
        transpose<Real>(v);
        UNROLL for (int i = 0; i < W; i++) store(group + ((k + i) * n + j) * W, v[i]);
      }
    }
    for (; k < rows.K; k++)
      for (int i = 0; i < W; i++) group[(k * n + j) * W + i] = i < lanes ? source[i * rows.K + k] : 0;
  }
}

// Column blocks first..first+n of weight (M, K) as one group [m][n][W]: products that sum over units.
template <class Real> void pack_columns(const Real* weight, long M, long K, int first, int n, Real* group) {
  constexpr int W = kWidth<Real>;
  for (long m = 0; m < M; m++, weight += K)
    for (int j = 0; j < n; j++, group += W) store(group, load(weight + (first + j) * W, K - (first + j) * W));
}

// A bias (gates * H,) as [block][gate][W]; null is zeros.
template <class Real> void pack_bias(const Real* bias, long H, int gates, int b0, int b1, Real* out) {
  constexpr int W = kWidth<Real>;
  for (int v = b0 * gates; v < b1 * gates; v++) {
    const int block = v / gates;
    store(out + v * W, bias ? load(bias + (v % gates) * H + block * W, lanes_of<Real>(H, block)) : Vec<Real>{});
  }
}

}  // namespace fusedrnn::FUSEDRNN_ISA
