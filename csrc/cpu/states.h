// SPDX-License-Identifier: MIT
// The states on a tape, for work that takes all steps at once.
#pragma once
#include "scan.h"

namespace fusedrnn::FUSEDRNN_ISA {

// out, (R, H) each: the state before every step. Of the arguments it reads what backward reads to find them.
template <class Cell, class Real> void states_before(const BackwardArgs<Real>& a, Real* const* out) {
  using Base = Scan<Cell, Real>;
  constexpr int W = Base::W;
  const Sizes& z = a.size;
  const Clock clock{z.T, z.N, a.reverse, a.form.first_row};
  const typename Base::Tape tape(const_cast<Real*>(a.tape), z, clock.row(z.T));
  const auto copy = [&](const Real* from, Real* to) {
    for (long u = 0; u < z.H; u++) to[u] = from ? from[u] : 0;
  };
  for (long t = 0; t < z.T; t++)
    for (long n = 0; n < clock.count(t); n++) {
      const long row = clock.row(t) + n, before = clock.row(clock.before(t)) + n;
      const bool reset = a.form.resets && a.form.resets[row], taped = n < clock.count(clock.before(t));
      for (int i = 0; i < Base::S; i++) {
        Real* to = out[i] + row * z.H;
        if (reset) copy(nullptr, to);
        else if (!taped) copy(tape.state_0[i] + n * z.H, to);
        else if (i == 0) copy(a.y + before * a.y_row, to);
        else
          for (int b = 0; b < blocks_of<Real>(z.H); b++) {
            const Real* unit = tape.taped + ((b * tape.rows + before) * Base::kTaped + Cell::kSaved + i - 1) * W;
            store(to + b * W, load(unit), lanes_of<Real>(z.H, b));
          }
      }
    }
}

}  // namespace fusedrnn::FUSEDRNN_ISA
