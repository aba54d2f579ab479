// SPDX-License-Identifier: MIT
// Vanilla RNN (Elman 1990):  h = φ(x + h'),  φ = tanh or relu. PyTorch's nn.RNN.
#pragma once
#include "cell.h"

namespace fusedrnn::FUSEDRNN_ISA {

struct Tanh {
  static constexpr const char* kName = "rnn_tanh";
  template <class V> INLINE static V apply(V a) { return tanh(a); }
  template <class V> INLINE static V backward(V h, V dh) { return dh * (1 - h * h); }
};

struct Relu {
  static constexpr const char* kName = "rnn_relu";
  template <class V> INLINE static V apply(V a) { return relu(a); }
  template <class V> INLINE static V backward(V h, V dh) { return relu_backward(h, dh); }
};

template <class Activation> struct Rnn {
  static constexpr const char* kName = Activation::kName;
  static constexpr int kGates = 1, kStates = 1, kSaved = 1, kLate = 0, kGrads = 1, kPeepholes = 0;
  static constexpr bool kSavesH = true, kReadsStates = false;
  static constexpr int kX[] = {0}, kH[] = {0};

  template <class V> INLINE static void forward(const V* xg, const V* hg, const V*, const V*, V* s_new, V* saved) {
    saved[0] = s_new[0] = Activation::apply(xg[0] + hg[0]);
  }
  template <class V> INLINE static void backward(const V* saved, const V*, const V*, V* ds, V* d) {
    d[0] = Activation::backward(saved[0], ds[0]);
    ds[0] = V{};
  }
};

}  // namespace fusedrnn::FUSEDRNN_ISA
