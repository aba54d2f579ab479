// SPDX-License-Identifier: MIT
// What a forward call left for backward: for every step and row what the cell kept, and the state it began from.
#pragma once
#include "scan.h"

namespace fusedrnn::FUSEDRNN_ISA {

template <class Cell, class Real> class Taped : Scan<Cell, Real> {
  using Base = Scan<Cell, Real>;
  using V = Vec<Real>;
  using Base::W, Base::S, Base::kTaped, Base::kProjects;

 public:
  Taped(const BackwardArgs<Real>& args, const Clock& clock)
      : a(args), clock(clock), tape(const_cast<Real*>(a.tape), a.size, clock.row(a.size.T), a.form.noise) {}

  // Saved vectors and the state before, of block b in row n of time t; not h where the cell does not read it.
  INLINE void load_step(int b, long n, long t, V* saved, V* s) const {
    const long H = a.size.H, lanes = lanes_of<Real>(H, b);
    const long row = clock.row(t) + n;
    if (Cell::kSavesH && !tape.taped) saved[0] = load(a.y + row * a.y_row + b * W, lanes);
    else UNROLL for (int i = 0; i < Cell::kSaved; i++) saved[i] = load(tape.at(b, row) + i * W);
    if constexpr (kProjects) s[0] = V{};
    switch (before_of(n, t)) {
      case Before::reset:
        UNROLL for (int i = kProjects; i < S; i++) s[i] = V{};
        break;
      case Before::state_0:
        UNROLL for (int i = kProjects; i < S; i++) s[i] = load(tape.state_0[i] + n * H + b * W, lanes);
        break;
      case Before::step: {
        const long last = clock.row(clock.before(t)) + n;
        if constexpr (!kProjects) s[0] = load(a.y + last * a.y_row + b * W, lanes);
        UNROLL for (int i = 1; i < S; i++) s[i] = load(tape.at(b, last) + (Cell::kSaved + i - 1) * W);
      }
    }
  }

  // h before time t in row n, null for zeros
  const Real* h_before(long n, long t) const {
    const Before before = before_of(n, t);
    if (before == Before::reset) return nullptr;
    return before == Before::state_0 ? tape.state_0[0] + n * a.size.P : a.y + (clock.row(clock.before(t)) + n) * a.y_row;
  }

  // What W_hh saw in each of the chunk's rows: pointers into `rows`, as many; zeros (P,)
  RowSource<Real> hidden_rows(const Chunk& chunk, const Real** rows, const Real* zeros) const {
    const Real *h = tape.seen ? tape.seen : a.y, *h_0 = tape.seen ? tape.seen_0 : tape.state_0[0];
    const long h_row = tape.seen ? a.size.P : a.y_row;
    for (long t = chunk.first_time, i = 0; t < chunk.last_time; t++)
      for (long n = 0; n < clock.count(t); n++) {
        const Before before = before_of(n, t);
        rows[i++] = before == Before::reset     ? zeros
                    : before == Before::state_0 ? h_0 + n * a.size.P
                                                : h + (clock.row(clock.before(t)) + n) * h_row;
      }
    return {nullptr, 0, rows};
  }

  // u of a chunk's rows
  RowSource<Real> u_rows(const Chunk& chunk) const { return {tape.u + chunk.first_row * a.size.H, a.size.H}; }

 private:
  // Where row n has its state before time t from
  enum class Before { reset, state_0, step };
  INLINE Before before_of(long n, long t) const {
    if (a.form.resets && a.form.resets[clock.row(t) + n]) return Before::reset;
    return n < clock.count(clock.before(t)) ? Before::step : Before::state_0;
  }

  const BackwardArgs<Real>& a;
  const Clock clock;
  const typename Base::Tape tape;
};

}  // namespace fusedrnn::FUSEDRNN_ISA
