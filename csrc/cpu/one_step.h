// SPDX-License-Identifier: MIT
// All steps of a tape as the rows of one: for work that needs no order among them.
#pragma once
#include "scan.h"

namespace fusedrnn::FUSEDRNN_ISA {

template <class Real> INLINE void copy(const Real* from, long n, Real* to) {
  for (long i = 0; i < n; i++) to[i] = from[i];
}

// to: a tape of R rows, each with the state before it as state_0. Of the arguments it reads what backward reads for that.
template <class Cell, class Real> void one_step(const BackwardArgs<Real>& a, Real* to) {
  using Base = Scan<Cell, Real>;
  constexpr int W = Base::W;
  const Sizes& z = a.size;
  const Clock clock{z.T, z.N, a.reverse, a.form.first_row};
  const long rows = clock.row(z.T), blocks = blocks_of<Real>(z.H);
  const typename Base::Tape from(const_cast<Real*>(a.tape), z, rows), one(to, {1, rows, z.I, z.H}, rows);
  copy(from.taped, blocks * rows * Base::kTaped * W, one.taped);
  if (from.u) copy(from.u, rows * z.H, one.u);
  for (long t = 0; t < z.T; t++)
    for (long n = 0; n < clock.count(t); n++) {
      const long row = clock.row(t) + n, before = clock.row(clock.before(t)) + n;
      const bool reset = a.form.resets && a.form.resets[row], taped = n < clock.count(clock.before(t));
      for (int i = 0; i < Base::S; i++) {
        Real* state = one.state_0[i] + row * z.H;
        if (reset)
          for (long u = 0; u < z.H; u++) state[u] = 0;
        else if (!taped) copy(from.state_0[i] + n * z.H, z.H, state);
        else if (i == 0) copy(a.y + before * a.y_row, z.H, state);
        else
          for (int b = 0; b < blocks; b++) {
            const Real* unit = from.taped + ((b * rows + before) * Base::kTaped + Cell::kSaved + i - 1) * W;
            store(state + b * W, load(unit), lanes_of<Real>(z.H, b));
          }
      }
    }
}

}  // namespace fusedrnn::FUSEDRNN_ISA
