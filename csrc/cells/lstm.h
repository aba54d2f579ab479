// SPDX-License-Identifier: MIT
// LSTM with forget gate (Gers et al. 2000), PyTorch's nn.LSTM. Gates i f g o; states h, c.
//   i = σ(x_i + h_i)   f = σ(x_f + h_f)   g = tanh(x_g + h_g)   o = σ(x_o + h_o)
//   c = f c' + i g     h = o tanh(c)
#pragma once
#include "cell.h"

namespace fusedrnn::FUSEDRNN_ISA {

struct Lstm {
  static constexpr const char* kName = "lstm";
  static constexpr int kGates = 4, kStates = 2, kSaved = 5, kLate = 0, kGrads = 4;
  static constexpr int kX[] = {0, 1, 2, 3}, kH[] = {0, 1, 2, 3};

  template <class V> INLINE static void forward(const V* xg, const V* hg, const V* s, V* s_new, V* saved) {
    const V i = sigmoid(xg[0] + hg[0]), f = sigmoid(xg[1] + hg[1]);
    const V g = tanh(xg[2] + hg[2]), o = sigmoid(xg[3] + hg[3]);
    const V c = fma(f, s[1], i * g), tanh_c = tanh(c);
    s_new[0] = o * tanh_c;
    s_new[1] = c;
    saved[0] = i, saved[1] = f, saved[2] = g, saved[3] = o, saved[4] = tanh_c;
  }
  template <class V> INLINE static void backward(const V* saved, const V* s, V* ds, V* d) {
    const V i = saved[0], f = saved[1], g = saved[2], o = saved[3], tanh_c = saved[4];
    const V dh = ds[0], dc = fma(dh * o, 1 - tanh_c * tanh_c, ds[1]);
    d[0] = dc * g * i * (1 - i);
    d[1] = dc * s[1] * f * (1 - f);
    d[2] = dc * i * (1 - g * g);
    d[3] = dh * tanh_c * o * (1 - o);
    ds[0] = V{};
    ds[1] = dc * f;
  }
};

}  // namespace fusedrnn::FUSEDRNN_ISA
