// SPDX-License-Identifier: MIT
// One vector type for every instruction set: a GNU vector of the widest registers the compiler's flags allow. Arithmetic,
// comparison and ?: come with the type; this file adds what does not. The file is compiled once per instruction set, each
// time into a namespace of that name: nothing here may be shared between them, or the linker could give an older
// processor the wider copy.
#pragma once
#include <cstdint>
#if defined(__FMA__)
#include <immintrin.h>
#endif

#define INLINE inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 64")  // GCC's own unrolling at -O2 leaves the accumulators in memory: 2.7 times slower
#endif

namespace fusedrnn::FUSEDRNN_ISA {

#if defined(__AVX512F__)
constexpr int kBytes = 64, kRegisters = 32;
#elif defined(__AVX2__)
constexpr int kBytes = 32, kRegisters = 16;
#elif defined(__aarch64__)
constexpr int kBytes = 16, kRegisters = 32;
#else
constexpr int kBytes = 16, kRegisters = 16;
#endif

template <class Real> constexpr int kWidth = kBytes / sizeof(Real);
template <class T> struct VecOf { typedef T type __attribute__((vector_size(kBytes))); };
template <class T> using Vec = typename VecOf<T>::type;
template <class Real> struct IntOf;
template <> struct IntOf<float> {
  using type = std::int32_t;
  using unsigned_type = std::uint32_t;
};
template <> struct IntOf<double> {
  using type = std::int64_t;
  using unsigned_type = std::uint64_t;
};
template <class Real> using Int = typename IntOf<Real>::type;
template <class Real> using Unsigned = typename IntOf<Real>::unsigned_type;

// s - 0 is s for every s (s + 0 is not, for -0) and compiles to one broadcast
template <class Real> INLINE Vec<Real> splat(Real s) { return s - Vec<Real>{}; }

template <class Real> INLINE Vec<Real> load(const Real* p) {
  Vec<Real> v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
template <class Real, class V> INLINE void store(Real* p, V v) { __builtin_memcpy(p, &v, sizeof v); }

// v stays in its register: to GCC each use of a loaded value is a load of its own, for fma takes one from memory.
template <class V> INLINE void hold([[maybe_unused]] V& v) {
#if defined(__x86_64__)
  asm("" : "+v"(v));
#endif
}

// The first n lanes; zeros behind.
template <class Real> INLINE Vec<Real> load(const Real* p, long n) {
  if (n >= kWidth<Real>) return load(p);
  Real lanes[kWidth<Real>] = {};
  for (long i = 0; i < n; i++) lanes[i] = p[i];
  return load(lanes);
}
template <class Real, class V> INLINE void store(Real* p, V v, long n) {
  if (n >= kWidth<Real>) return store(p, v);
  for (long i = 0; i < n; i++) p[i] = v[i];
}

// a b + c, rounded once where the instruction set has it. Contraction is off everywhere else: left to itself the compiler
// would fuse differently from one tile shape to the next, and equal bits would be lost.
#if defined(__AVX512F__)
INLINE Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) {
  return (Vec<float>)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
INLINE Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) {
  return (Vec<double>)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
}
#elif defined(__FMA__)
INLINE Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) {
  return (Vec<float>)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
INLINE Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) {
  return (Vec<double>)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
}
#elif defined(__FP_FAST_FMAF)
INLINE Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) {
  UNROLL for (int i = 0; i < kWidth<float>; i++) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
  return c;
}
INLINE Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) {
  UNROLL for (int i = 0; i < kWidth<double>; i++) c[i] = __builtin_fma(a[i], b[i], c[i]);
  return c;
}
#else
template <class V> INLINE V fma(V a, V b, V c) { return a * b + c; }
#endif

// The smaller and the larger of two; where one is NaN, b. What compilers make of ?: compares into a mask and blends by it.
// (Of all lanes by their mask: _mm512_min_ps begins with a register of no value, of which GCC 12 warns.)
#if defined(__AVX512F__)
INLINE Vec<float> smaller(Vec<float> a, Vec<float> b) {
  return (Vec<float>)_mm512_maskz_min_ps(__mmask16(-1), (__m512)a, (__m512)b);
}
INLINE Vec<float> larger(Vec<float> a, Vec<float> b) {
  return (Vec<float>)_mm512_maskz_max_ps(__mmask16(-1), (__m512)a, (__m512)b);
}
INLINE Vec<double> smaller(Vec<double> a, Vec<double> b) {
  return (Vec<double>)_mm512_maskz_min_pd(__mmask8(-1), (__m512d)a, (__m512d)b);
}
INLINE Vec<double> larger(Vec<double> a, Vec<double> b) {
  return (Vec<double>)_mm512_maskz_max_pd(__mmask8(-1), (__m512d)a, (__m512d)b);
}
#elif defined(__AVX__)
INLINE Vec<float> smaller(Vec<float> a, Vec<float> b) { return (Vec<float>)_mm256_min_ps((__m256)a, (__m256)b); }
INLINE Vec<float> larger(Vec<float> a, Vec<float> b) { return (Vec<float>)_mm256_max_ps((__m256)a, (__m256)b); }
INLINE Vec<double> smaller(Vec<double> a, Vec<double> b) { return (Vec<double>)_mm256_min_pd((__m256d)a, (__m256d)b); }
INLINE Vec<double> larger(Vec<double> a, Vec<double> b) { return (Vec<double>)_mm256_max_pd((__m256d)a, (__m256d)b); }
#else
template <class V> INLINE V smaller(V a, V b) { return a < b ? a : b; }
template <class V> INLINE V larger(V a, V b) { return a > b ? a : b; }
#endif

INLINE float square_root(float x) { return __builtin_sqrtf(x); }
INLINE double square_root(double x) { return __builtin_sqrt(x); }
#if defined(__AVX512F__)  // of all lanes by their mask: as above
INLINE Vec<float> square_root(Vec<float> x) { return (Vec<float>)_mm512_maskz_sqrt_ps(__mmask16(-1), (__m512)x); }
INLINE Vec<double> square_root(Vec<double> x) { return (Vec<double>)_mm512_maskz_sqrt_pd(__mmask8(-1), (__m512d)x); }
#elif defined(__AVX__)
INLINE Vec<float> square_root(Vec<float> x) { return (Vec<float>)_mm256_sqrt_ps((__m256)x); }
INLINE Vec<double> square_root(Vec<double> x) { return (Vec<double>)_mm256_sqrt_pd((__m256d)x); }
#else
template <class V> INLINE V square_root(V x) {
  UNROLL for (unsigned i = 0; i < sizeof x / sizeof x[0]; i++) x[i] = square_root(x[i]);
  return x;
}
#endif

// W vectors of W values, transposed by log2 W rounds of exchanges.
template <int kStep, class Real> INLINE void exchange(Vec<Real>* v) {
  constexpr int W = kWidth<Real>;
  Vec<Int<Real>> low, high;
  UNROLL for (int l = 0; l < W; l++) {
    low[l] = l & kStep ? W + l - kStep : l;
    high[l] = l & kStep ? W + l : l + kStep;
  }
  UNROLL for (int i = 0; i < W; i++) {
    if (i & kStep) continue;
    const Vec<Real> a = v[i], b = v[i + kStep];
#if defined(__clang__)
    UNROLL for (int l = 0; l < W; l++) {
      v[i][l] = low[l] < W ? a[low[l]] : b[low[l] - W];
      v[i + kStep][l] = high[l] < W ? a[high[l]] : b[high[l] - W];
    }
#else
    v[i] = __builtin_shuffle(a, b, low);
    v[i + kStep] = __builtin_shuffle(a, b, high);
#endif
  }
}
template <class Real> INLINE void transpose(Vec<Real>* v) {
  exchange<1, Real>(v);
  if constexpr (kWidth<Real> > 2) exchange<2, Real>(v);
  if constexpr (kWidth<Real> > 4) exchange<4, Real>(v);
  if constexpr (kWidth<Real> > 8) exchange<8, Real>(v);
}

}  // namespace fusedrnn::FUSEDRNN_ISA
