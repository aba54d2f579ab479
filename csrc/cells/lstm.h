// SPDX-License-Identifier: MIT
// LSTM with forget gate (Gers et al. 2000), PyTorch's nn.LSTM. Gates i f g o; states h, c.
//   i = σ(x_i + h_i)   f = σ(x_f + h_f)   g = tanh(x_g + h_g)   o = σ(x_o + h_o)
//   c = f c' + i g     h = o tanh(c)
// Peepholes (Gers and Schmidhuber 2000) add p_i c', p_f c' and p_o c inside their gates' σ; coupled gates (Greff et al. 2017)
// are f g o, and i = 1 - f.
#pragma once
#include "cell.h"

namespace fusedrnn::FUSEDRNN_ISA {

template <bool kPeephole, bool kCoupled> struct Lstm {
  static constexpr const char* kName = kPeephole  ? kCoupled ? "lstm_peephole_coupled" : "lstm_peephole"
                                       : kCoupled ? "lstm_coupled"
                                                  : "lstm";
  static constexpr int kGates = kCoupled ? 3 : 4, kStates = 2, kSaved = kGates + 1, kLate = 0, kGrads = kGates;
  static constexpr bool kSavesH = false, kReadsStates = true;
  static constexpr int kX[] = {0, 1, 2, 3}, kH[] = {0, 1, 2, 3};
  static constexpr int I = 0, F = kGates - 3, G = F + 1, O = F + 2;  // there is no I if coupled
  static constexpr int kPeepholes = kPeephole ? kGates - 1 : 0, kLastPeephole = kPeepholes - 1;
  static constexpr int kPeepholeGate[] = {0, kCoupled ? O : F, O};

  template <class V> INLINE static void forward(const V* xg, const V* hg, const V* p, const V* s, V* s_new, V* saved) {
    forward_c(xg, hg, p, s, s_new, saved);
    forward_h(s_new[1], s_new, saved);
  }
  // All but h, and h from c or from what is made of it.
  template <class V> INLINE static void forward_c(const V* xg, const V* hg, const V* p, const V* s, V* s_new, V* saved) {
    const auto sum = [&](int gate, int peephole, V c) {
      const V a = xg[gate] + hg[gate];
      if constexpr (kPeephole) return fma(p[peephole], c, a);
      else return a;
    };
    const V f = sigmoid(sum(F, F, s[1])), i = kCoupled ? 1 - f : sigmoid(sum(I, I, s[1])), g = tanh(xg[G] + hg[G]);
    const V c = fma(f, s[1], i * g), o = sigmoid(sum(O, kLastPeephole, c));
    s_new[1] = c;
    if constexpr (!kCoupled) saved[I] = i;
    saved[F] = f, saved[G] = g, saved[O] = o;
  }
  template <class V> INLINE static void forward_h(V c, V* s_new, V* saved) {
    saved[kGates] = tanh(c);
    s_new[0] = saved[O] * saved[kGates];
  }

  template <class V> INLINE static void backward(const V* saved, const V* p, const V* s, V* ds, V* d) {
    backward_c(saved, p, s, backward_h(saved, ds[0], ds[1], d), ds, d);
  }
  // The gradient of forward_h's c, added to dc.
  template <class V> INLINE static V backward_h(const V* saved, V dh, V dc, V* d) {
    const V o = saved[O], tanh_c = saved[kGates];
    d[O] = dh * tanh_c * o * (1 - o);
    return fma(dh * o, 1 - tanh_c * tanh_c, dc);
  }
  template <class V> INLINE static void backward_c(const V* saved, const V* p, const V* s, V dc, V* ds, V* d) {
    const V f = saved[F], i = kCoupled ? 1 - f : saved[I], g = saved[G];
    if constexpr (kPeephole) dc = fma(d[O], p[kLastPeephole], dc);
    d[F] = dc * (kCoupled ? s[1] - g : s[1]) * f * (1 - f);
    d[G] = dc * i * (1 - g * g);
    if constexpr (!kCoupled) d[I] = dc * g * i * (1 - i);
    ds[0] = V{};
    ds[1] = dc * f;
    if constexpr (kPeephole) UNROLL for (int gate = 0; gate < kLastPeephole; gate++) ds[1] = fma(d[gate], p[gate], ds[1]);
  }
  template <class V> INLINE static V peeped(int peephole, const V* saved, const V* s) {
    if (peephole < kLastPeephole) return s[1];
    return fma(saved[F], s[1], (kCoupled ? 1 - saved[F] : saved[I]) * saved[G]);  // c, as forward made it
  }
};

}  // namespace fusedrnn::FUSEDRNN_ISA
