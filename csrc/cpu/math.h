// SPDX-License-Identifier: MIT
// exp, tanh, sigmoid, relu of a vector. Only + - * /, fma, comparison and integer shifts: the same bits on every
// instruction set with fma, and the same in every lane, full or partial vector.
//
// Error over all floats, in units in the last place (of subnormal results: the smallest subnormal), proven by
// tests/test_math.py: exp 1.1, tanh 2.5 (of doubles up to 3), sigmoid 2.5; but where sigmoid should be below 2^-126 (in double
// 2^-1022) it may be 0. NaN stays NaN, ±inf give the limits, tanh(-0) is -0.
#pragma once
#include "vec.h"

namespace fusedrnn::FUSEDRNN_ISA {

// e^r - 1 = r + r^2 p(r) for |r| <= ln2/2: p has nearly the least relative error, 2.4e-8 and 1.8e-17; of
// the floats around it, those with which tanh keeps its bound.
// ln2 is split (Cody and Waite) so that n * kLn2High is exact even without fma; kLn2 is the nearest to it all.
template <class Real> struct ExpOf;
template <> struct ExpOf<float> {
  static constexpr float kP[] = {0x1p-1f, 0x1.5554bap-3f, 0x1.55557cp-5f, 0x1.121d74p-7f, 0x1.6ca066p-10f};
  static constexpr float kLog2e = 0x1.715476p0f, kLn2 = 0x1.62e43p-1f, kLn2High = 0x1.63p-1f, kLn2Low = -0x1.bd0106p-13f;
  static constexpr int kMantissa = 23, kBias = 127;
  static constexpr float kRound = 0x1.8p23f + kBias;  // adding it leaves an integer and the bias in the low bits
  static constexpr float kHighest = 89.f, kLowest = -104.f;  // beyond: inf, 0
  static constexpr float kVanishing = -88.f;  // here n is -kBias, and power_of_two 0
};
template <> struct ExpOf<double> {
  static constexpr double kP[] = {0x1.0000000000005p-1,  0x1.555555555555cp-3,  0x1.55555555520ddp-5,  0x1.111111110e813p-7,
                                  0x1.6c16c17f3caf5p-10, 0x1.a01a01b56b019p-13, 0x1.a019a6770cd51p-16, 0x1.71ddeafafc5e6p-19,
                                  0x1.28a2b9babe24bp-22, 0x1.af7525a32fe99p-26};
  static constexpr double kLog2e = 0x1.71547652b82fep0, kLn2 = 0x1.62e42fefa39efp-1, kLn2High = 0x1.62e42feep-1,
                          kLn2Low = 0x1.a39ef35793c76p-33;
  static constexpr int kMantissa = 52, kBias = 1023;
  static constexpr double kRound = 0x1.8p52 + kBias;
  static constexpr double kHighest = 710., kLowest = -746.;
  static constexpr double kVanishing = -709.;
};

template <class V> struct ElementOf;
template <> struct ElementOf<Vec<float>> { using type = float; };
template <> struct ElementOf<Vec<double>> { using type = double; };
template <class V> using ScalarOf = typename ElementOf<V>::type;

// x = n ln2 + r: returns e^r - 1, and n + kBias in the low bits of `shifted`. Without the split r is off by up to |n| 2e-9
// (2e-17): enough where large |x| matter little.
template <bool kSplit, class V> INLINE V expm1_reduced(V x, V& shifted) {
  using C = ExpOf<ScalarOf<V>>;
  shifted = fma(x, splat(C::kLog2e), splat(C::kRound));
  const V n = shifted - C::kRound;
  V r = fma(n, splat(kSplit ? -C::kLn2High : -C::kLn2), x);
  if constexpr (kSplit) r = fma(n, splat(-C::kLn2Low), r);
  constexpr int kTop = sizeof C::kP / sizeof C::kP[0] - 1;
  V p = splat(C::kP[kTop]);
  UNROLL for (int k = kTop - 1; k >= 0; k--) p = fma(p, r, splat(C::kP[k]));
  return fma(r * r, p, r);
}

// Unsigned: a NaN leaves anything there, and its arithmetic must still be defined.
template <class V> INLINE Vec<Unsigned<ScalarOf<V>>> bits(V x) { return (Vec<Unsigned<ScalarOf<V>>>)x; }

// 2^n for n + kBias in the low bits, n from -kBias to kBias + 1 (0 and inf)
template <class V> INLINE V power_of_two(Vec<Unsigned<ScalarOf<V>>> shifted) {
  return (V)(shifted << ExpOf<ScalarOf<V>>::kMantissa);
}

// NaN stays NaN
template <class V> INLINE V clamp(V x, ScalarOf<V> low, ScalarOf<V> high) {
  return larger(splat(low), smaller(splat(high), x));
}

// 2^n is applied in two halves: results may be subnormal or infinite, and are rounded once.
template <class V> INLINE V exp(V x) {
  using Real = ScalarOf<V>;
  using C = ExpOf<Real>;
  using U = Vec<Unsigned<Real>>;
  constexpr int kAbove = 8 * sizeof(Real) - C::kMantissa + 1;  // bits above n, to be filled with its sign
  V shifted;
  const V q = expm1_reduced<true>(clamp(x, C::kLowest, C::kHighest), shifted);
  const Vec<Int<Real>> n = (Vec<Int<Real>>)((bits(shifted) - C::kBias) << kAbove) >> kAbove, half = n >> 1;
  return (q + 1) * power_of_two<V>((U)(half + C::kBias)) * power_of_two<V>((U)(n - half + C::kBias));
}

// With e = exp(x): e / (e + 1). From x = 40 on the result is 1 in both types.
template <class V> INLINE V sigmoid(V x) {
  V shifted;
  const V q = expm1_reduced<true>(clamp(x, ExpOf<ScalarOf<V>>::kVanishing, 40), shifted),
          two_n = power_of_two<V>(bits(shifted));
  const V e = fma(two_n, q, two_n);
  return e / (e + 1);
}

// With e = exp(2|x|) - 1: e / (e + 2), and the sign of x. From |x| = 20 on the result is 1 in both types.
template <class V> INLINE V tanh(V x) {
  using Real = ScalarOf<V>;
  constexpr auto kSign = Unsigned<Real>(1) << (8 * sizeof(Real) - 1);
  const auto sign = bits(x) & kSign;
  const V magnitude = (V)(bits(x) & ~kSign);
  V shifted;
  const V q = expm1_reduced<false>(smaller(splat(Real(40)), magnitude + magnitude), shifted),
          two_n = power_of_two<V>(bits(shifted));
  const V e = fma(two_n, q, two_n - 1);
  return (V)(bits(e / (e + 2)) | sign);
}

// NaN stays NaN, in both.
template <class V> INLINE V relu(V x) { return larger(V{}, x); }
// The derivative at 0 is 0, as in PyTorch; whatever comes back to a unit that was off, even infinity, ends there.
template <class V> INLINE V relu_backward(V h, V dh) { return h <= 0 ? V{} : dh; }

}  // namespace fusedrnn::FUSEDRNN_ISA
