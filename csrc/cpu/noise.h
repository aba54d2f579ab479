// SPDX-License-Identifier: MIT
// Random masks from a counter: a draw depends on (seed, kind, step, row, unit) alone, so it is the same for any split of the
// batch, any number of threads and any width of the vector, and backward draws again instead of keeping it.
// python/fusedrnn/noise.py is the same in NumPy.
#pragma once
#include "../args.h"
#include "pack.h"
#include "team.h"

namespace fusedrnn::FUSEDRNN_ISA {

// One row's 64 bits for the draws of its units.
struct RowKey { std::uint32_t low, high; };

// splitmix64 (Steele, Lea, Flood 2014)
INLINE std::uint64_t mix(std::uint64_t z) {
  z += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

INLINE RowKey row_key(std::uint64_t seed, NoiseKind kind, long step, long row) {
  const std::uint64_t key = mix(mix(mix(mix(seed) ^ std::uint64_t(kind)) ^ std::uint64_t(step)) ^ std::uint64_t(row));
  return {std::uint32_t(key), std::uint32_t(key >> 32)};
}

// Lanes that are drawn, each with this probability: units b W and on. lowbias32 (Wellons 2018), the row's key within.
// In double the lanes hold 32 bits as well: the same draws.
template <class Real> INLINE Vec<Int<Real>> drawn(RowKey key, int b, double probability) {
  using U = Vec<Unsigned<Real>>;
  constexpr Unsigned<Real> k32 = 0xffffffffu;
  U x;
  UNROLL for (int l = 0; l < kWidth<Real>; l++) x[l] = l;
  x = ((x + Unsigned<Real>(b) * kWidth<Real>)*Unsigned<Real>(0x9e3779b9u) + key.low) & k32;
  x ^= x >> 16;
  x = (x * Unsigned<Real>(0x7feb352du)) & k32;
  x ^= x >> 15;
  x = ((x + key.high) * Unsigned<Real>(0x846ca68bu)) & k32;
  x ^= x >> 16;
  return (Vec<Int<Real>>)(x >> 8) < Int<Real>(probability * (1 << 24));
}

// v with drawn units zero and the others scaled, so that the mean stays. A probability of 1 leaves zeros.
template <class Real> INLINE Vec<Real> dropped(Vec<Real> v, RowKey key, int b, double probability) {
  const Real scale = probability < 1 ? Real(1 / (1 - probability)) : Real(0);
  return drawn<Real>(key, b, probability) ? Vec<Real>{} : v * scale;
}

// Dropout between layers: every element by itself.
template <class Real> void dropout(const DropoutArgs<Real>& a, Team& team, int me) {
  constexpr int W = kWidth<Real>;
  const long rows = a.T * a.N, threads = team.size();
  for (long r = rows * me / threads; r < rows * (me + 1) / threads; r++) {
    const long t = r / a.N, n = r % a.N;
    const RowKey key = row_key(a.noise.seed, NoiseKind::dropout, a.noise.step(t, n), a.noise.row(n));
    for (int b = 0; b < blocks_of<Real>(a.K); b++) {
      const long at = r * a.K + b * W, lanes = lanes_of<Real>(a.K, b);
      store(a.out + at, dropped<Real>(load(a.x + at, lanes), key, b, a.noise.dropout), lanes);
    }
  }
}

// A layer's noise for the rows of its batch
class RowNoise {
 public:
  explicit RowNoise(const Noise& noise)
      : noise(noise), with_dropout(noise.dropout > 0), with_zoneout(noise.zoneout[0] > 0 || noise.zoneout[1] > 0) {}

  bool drops() const { return with_dropout; }
  bool zones() const { return with_zoneout; }

  // h, or its gradient, where W_hh sees it: one mask for a row's whole sequence
  template <class Real> INLINE Vec<Real> seen(Vec<Real> v, long n, int b) const {
    Real lanes[kWidth<Real>];
    store(lanes, v);
    drop(lanes, n, b);
    return load(lanes);
  }
  // State i after zoneout: drawn units keep the state before
  template <class Real> INLINE Vec<Real> zoned(int i, Vec<Real> before, Vec<Real> after, long t, long n, int b) const {
    Real old[kWidth<Real>], lanes[kWidth<Real>];
    store(old, before), store(lanes, after);
    zone(i, old, lanes, t, n, b);
    return load(lanes);
  }
  // The same for a gradient: what goes on to the cell stays in ds, what passes by it is returned
  template <class Real> INLINE Vec<Real> split(int i, Vec<Real>& ds, long t, long n, int b) const {
    Real passes[kWidth<Real>], lanes[kWidth<Real>];
    store(lanes, ds);
    split(i, lanes, passes, t, n, b);
    ds = load(lanes);
    return load(passes);
  }

 private:
  // Functions of their own: inlined, they would be in every tile.
  template <class Real> [[gnu::noinline]] void drop(Real* v, long n, int b) const {
    store(v, dropped<Real>(load(v), row_key(noise.seed, NoiseKind::recurrent_dropout, 0, noise.row(n)), b, noise.dropout));
  }
  template <class Real> [[gnu::noinline]] void zone(int i, const Real* old, Real* v, long t, long n, int b) const {
    if (noise.zoneout[i] == 0) return;
    const Vec<Real> before = load(old), after = load(v);
    if (noise.expected) store(v, fma(splat(Real(noise.zoneout[i])), before - after, after));
    else store(v, kept<Real>(i, t, n, b) ? before : after);
  }
  template <class Real> [[gnu::noinline]] void split(int i, Real* v, Real* passes, long t, long n, int b) const {
    const Real p = Real(noise.zoneout[i]);
    Vec<Real> ds = load(v), passing{};
    if (p > 0) passing = noise.expected ? ds * p : kept<Real>(i, t, n, b) ? ds : Vec<Real>{};
    store(passes, passing);
    store(v, ds - passing);
  }
  template <class Real> INLINE Vec<Int<Real>> kept(int i, long t, long n, int b) const {
    const NoiseKind kind = i ? NoiseKind::zoneout_c : NoiseKind::zoneout_h;
    return drawn<Real>(row_key(noise.seed, kind, noise.step(t, n), noise.row(n)), b, noise.zoneout[i]);
  }

  const Noise& noise;
  const bool with_dropout, with_zoneout;
};

}  // namespace fusedrnn::FUSEDRNN_ISA
