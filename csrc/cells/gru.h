// SPDX-License-Identifier: MIT
// GRU (Cho et al. 2014). Gates r z n.
//   r = σ(x_r + h_r)   z = σ(x_z + h_z)   h = (1 - z) n + z h'
//   reset after  (arXiv:1406.1078v1, PyTorch's nn.GRU):   n = tanh(x_n + r h_n),  h_n = W_hn h' + b_hn
//   reset before (arXiv:1406.1078v3, Keras's default 1.x): n = tanh(x_n + u_n),   u_n = W_hn (r h') + b_hn
#pragma once
#include "cell.h"

namespace fusedrnn::FUSEDRNN_ISA {

template <bool kResetAfter> struct Gru {
  static constexpr const char* kName = kResetAfter ? "gru" : "gru_reset_before";
  static constexpr int kGates = 3, kStates = 1, kLate = kResetAfter ? 0 : 1, kPeepholes = 0;
  // Only reset after needs h_n again; only there the gradient of h_n is not that of x_n.
  static constexpr int kSaved = kResetAfter ? 4 : 3, kGrads = kResetAfter ? 4 : 3;
  static constexpr bool kSavesH = false, kReadsStates = true;
  static constexpr int kX[] = {0, 1, 2}, kH[] = {0, 1, kResetAfter ? 3 : 2};

  template <class V> INLINE static V early(const V* xg, const V* hg, const V* s, V* saved) {
    saved[0] = sigmoid(xg[0] + hg[0]);
    saved[1] = sigmoid(xg[1] + hg[1]);
    return saved[0] * s[0];
  }
  template <class V> INLINE static void forward(const V* xg, const V* hg, const V*, const V* s, V* s_new, V* saved) {
    if constexpr (kResetAfter) early(xg, hg, s, saved);
    const V r = saved[0], z = saved[1];
    const V n = kResetAfter ? tanh(fma(r, hg[2], xg[2])) : tanh(xg[2] + hg[2]);
    s_new[0] = fma(z, s[0] - n, n);
    saved[2] = n;
    if constexpr (kResetAfter) saved[3] = hg[2];
  }
  template <class V> INLINE static void backward(const V* saved, const V*, const V* s, V* ds, V* d) {
    const V r = saved[0], z = saved[1], n = saved[2], dh = ds[0];
    d[1] = dh * (s[0] - n) * z * (1 - z);
    d[2] = dh * (1 - z) * (1 - n * n);
    ds[0] = dh * z;
    if constexpr (kResetAfter) {
      d[0] = d[2] * saved[3] * r * (1 - r);
      d[3] = d[2] * r;
    }
  }
  template <class V> INLINE static void early_backward(const V* saved, const V* s, V du, V* ds, V* d) {
    const V r = saved[0];
    d[0] = du * s[0] * r * (1 - r);
    ds[0] = fma(du, r, ds[0]);
  }
};

}  // namespace fusedrnn::FUSEDRNN_ISA
