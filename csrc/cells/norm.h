// SPDX-License-Identifier: MIT
// Layer normalisation in a cell (Ba, Kiros and Hinton 2016, arXiv:1607.06450), gate by gate:
//   xg = LN(W_ih x; γ_ih) + b_ih    hg = LN(W_hh h'; γ_hh) + b_hh    LN(v; γ) = γ v̂,  v̂ = (v - mean v) / sqrt(var v + ε)
// with the mean and the variance over all units of a row, so that the scan makes v̂. The rest is the cell's own, but that
// h = o tanh(LN(c; γ_c) + β_c) in LSTM, whose forward and backward are used in their halves for that, and that a late gate has
// LN(W_hh u; γ_hh).
#pragma once
#include "gru.h"
#include "lstm.h"

namespace fusedrnn::FUSEDRNN_ISA {

// saved: that of C, then v̂ of the G input parts, of the G hidden parts and, if kNormC, of c.
// d: that of C, then the gradients of W_ih x (G), of W_hh h' (G) and, if kNormC, of LN(c; γ_c) + β_c.
template <class C, bool kWithC> struct Normed : C {
  using Plain = C;
  static constexpr bool kNormC = kWithC;
  static constexpr int kNorms = 2 * C::kGates + kNormC, kInputNorm = 0, kHiddenNorm = C::kGates, kCNorm = 2 * C::kGates;
  static constexpr int kSaved = C::kSaved + kNorms, kGrads = C::kGrads + kNorms;
  static constexpr int kFirstX = C::kGrads, kFirstH = C::kGrads + C::kGates;
  static constexpr int kX[] = {kFirstX, kFirstX + 1, kFirstX + 2, kFirstX + 3};
  static constexpr int kH[] = {kFirstH, kFirstH + 1, kFirstH + 2, kFirstH + 3};
};

// Peepholes see c as it is, not its norm.
template <bool kPeephole, bool kCoupled> struct LstmNorm : Normed<Lstm<kPeephole, kCoupled>, true> {
  static constexpr const char* kName = kPeephole  ? kCoupled ? "lstm_peephole_coupled_norm" : "lstm_peephole_norm"
                                       : kCoupled ? "lstm_coupled_norm"
                                                  : "lstm_norm";
};
template <bool kResetAfter> struct GruNorm : Normed<Gru<kResetAfter>, false> {
  static constexpr const char* kName = kResetAfter ? "gru_norm" : "gru_reset_before_norm";
};

template <class C>
concept NormCell = requires { C::kNorms; };

}  // namespace fusedrnn::FUSEDRNN_ISA
