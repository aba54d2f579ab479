// SPDX-License-Identifier: MIT
// All steps of a tape as the rows of one: for work that needs no order among them.
#pragma once
#include "noise.h"
#include "norm.h"
#include "taped.h"

namespace fusedrnn::FUSEDRNN_ISA {

template <class Real> INLINE void copy(const Real* from, long n, Real* to) {
  for (long i = 0; i < n; i++) to[i] = from[i];
}

// to: a tape of R rows, each with the state before it as state_0. Of the arguments it reads what backward reads for that.
template <class Cell, class Real> void one_step(const BackwardArgs<Real>& a, Real* to) {
  using Base = Scan<Cell, Real>;
  constexpr int W = Base::W;
  const Sizes& z = a.size;
  const Clock clock = clock_of(a);
  const Taped<Cell, Real> taped(a, clock);
  const Noise& noise = a.form.noise;
  const RowNoise row_noise(noise);
  const long rows = clock.row(z.T), blocks = blocks_of<Real>(z.H);
  const TapeOf<Cell, Real> from(const_cast<Real*>(a.tape), z, rows, noise), one(to, {1, rows, z.I, z.H, z.P}, rows, noise);
  if (from.taped) copy(from.taped, blocks * rows * Base::kTaped * W, one.taped);
  if (from.u) copy(from.u, rows * z.H, one.u);
  if constexpr (NormCell<Cell>) copy(from.scales, rows * Cell::kNorms, one.scales);
  for (long t = 0; t < z.T; t++)
    for (long n = 0; n < clock.count(t); n++) {
      const long row = clock.row(t) + n;
      const Real* h = taped.h_before(n, t);
      for (int b = 0; b < blocks_of<Real>(z.P); b++) {
        const long at = row * z.P + b * W, lanes = lanes_of<Real>(z.P, b);
        const Vec<Real> v = h ? load(h + b * W, lanes) : Vec<Real>{};
        store(one.state_0[0] + at, v, lanes);
        if (one.seen_0) store(one.seen_0 + at, row_noise.seen<Real>(v, n, b), lanes);
      }
      if (Base::S == 1 && from.taped) continue;  // all of it is copied
      for (int b = 0; b < blocks; b++) {
        Vec<Real> saved[Cell::kSaved], s[Base::S];
        taped.load_step(b, n, t, saved, s);
        if (!from.taped) store(one.taped + (b * rows + row) * W, saved[0]);
        for (int i = 1; i < Base::S; i++) store(one.state_0[i] + row * z.H + b * W, s[i], lanes_of<Real>(z.H, b));
      }
    }
}

}  // namespace fusedrnn::FUSEDRNN_ISA
