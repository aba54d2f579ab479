// SPDX-License-Identifier: MIT
// What the kernels of the time loop are given, and how their memory is laid out. Sizes as in args.h, and Hp, H rounded up to
// whole steps of the tensor instruction: buffers of our own have Hp columns, zeros beyond H, so that no product has a tail.
//
// Time t of a direction is a step s: t = s, or T-1-s in reverse. What is kept by step is ordered by time, and a state before
// the step of time t stands at t, the last one at T: so the products after the loop read whole blocks of T*N rows.
#pragma once
#include <utility>

#include "args.h"
#include "simt/simt.h"

namespace fusedrnn::cuda {

constexpr int kMaxGates = 4, kMaxGrads = 4, kMaxPeepholes = 3;
constexpr int kWarps = 8, kThreads = 32 * kWarps;  // of a block; two blocks a multiprocessor leave each thread 128 registers
constexpr int kRows = 16, kUnits = 8;  // a tile: batch rows by hidden units, those of the tensor instruction m16n8k16
constexpr int kDepth = 16;             // and its depth

__host__ __device__ constexpr int round_up(int n, int to) { return (n + to - 1) / to * to; }
constexpr int padded(int H) { return round_up(H, kDepth); }

template <class Real> __device__ __forceinline__ Real from_float(float x) {
  if constexpr (sizeof(Real) == sizeof(float)) return x;
  else return simt::to_bf16(x);
}

// f(0), f(1) ... f(n - 1) with numbers the compiler knows: the tables of a cell can be read on the device by no other.
template <int n, class F> __device__ __forceinline__ void unrolled(F&& f) {
  [&]<int... i>(std::integer_sequence<int, i...>) {
    (f(std::integral_constant<int, i>{}), ...);
  }(std::make_integer_sequence<int, n>{});
}

struct LoopSizes {
  int T, N, H, Hp;
  long y_row;  // D*H
};

template <class Real> struct ForwardDirection {
  bool reverse;
  const Real* panels;         // (Hp/8, G, 8, Hp): weight_hh by blocks of units
  const float* xg;            // (T, N, G*H)
  const Real *bias_hh, *weight_ch;  // (G*H,), (Q*H,), or null
  Real* h;                    // (T+1, N, Hp), states before each step; (2, N, Hp) in inference
  float* c;                   // the same, or null if the cell has none
  Real* u;                    // (T, N, Hp), what late gates see; (N, Hp) in inference, null without late gates
  float* saved;               // (T, N, kSaved, H); (N, kSaved, H) in inference with late gates, else null
  Real* y;                    // (T, N, H), rows y_row apart
  Real* state_n[kMaxStates];  // (N, H)
};

template <class Real> struct ForwardParams {
  LoopSizes size;
  bool training, resident;
  const std::int32_t* lengths;
  ForwardDirection<Real> direction[kMaxDirections];

  __host__ __device__ int slot(int s, bool reverse) const {
    return !training ? s & 1 : s == size.T || !reverse ? s : size.T - 1 - s;
  }
};

template <class Real> struct BackwardDirection {
  bool reverse;
  const Real* panels;               // (Hp/8, 8, G, Hp): weight_hh, transposed, by blocks of units
  const Real* weight_ch;
  const Real* h;                    // as in ForwardDirection
  const float *c, *saved;
  const Real* dy;                   // (T, N, H), rows y_row apart
  const Real* dstate_n[kMaxStates]; // (N, H), or null
  Real* d;                          // (T, N, kGrads, Hp), gradients of the gates' parts, in the order of position()
  float* ds[kMaxStates];            // (N, Hp), gradients of the states, without the path through the gates
  Real* dstate_0[kMaxStates];       // (N, H)
};

template <class Real> struct BackwardParams {
  LoopSizes size;
  bool resident;
  const std::int32_t* lengths;
  BackwardDirection<Real> direction[kMaxDirections];
};

}  // namespace fusedrnn::cuda
