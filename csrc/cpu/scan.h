// SPDX-License-Identifier: MIT
// What the forward and the backward scan share: who does what, and where things lie.
#pragma once
#include "../args.h"
#include "dense.h"  // before the cells: they use its vectors' functions
#include "team.h"

#include "../cells/all.h"

namespace fusedrnn::FUSEDRNN_ISA {

// One thread's part of the scan: unit blocks b0..b1 of rows n0..n1.
struct Share {
  int b0, b1;
  long n0, n1;
};
inline Share share(const Plan& plan, long N, int blocks, int me, int threads) {
  if (plan.by_rows) return {0, blocks, N * me / threads, N * (me + 1) / threads};
  return {int(long(blocks) * me / threads), int(long(blocks) * (me + 1) / threads), 0, N};
}

// Hands out pieces of one allocation, each from a cache line pair on; with no base it only counts.
template <class Real> struct Arena {
  Real* base;
  long used = 0;

  Real* take(long n) {
    constexpr long kUnit = 128 / sizeof(Real);
    Real* piece = base ? base + used : nullptr;
    used += (n + kUnit - 1) / kUnit * kUnit;
    return piece;
  }
};

// A stretch of time handled together. Rows of a chunk stand in the order of time in memory, whatever the direction.
struct Chunk {
  long first_step, last_step;  // steps count in the direction of the scan
  long first_time, last_time;  // times from the earliest on, and past the latest
  long first_row, rows;        // of the first time, and of all
};

// Time as the scan sees it: step 0 is the first it takes. Rows: see args.h.
struct Clock {
  long T, N;
  bool reverse;
  const long* first_row;

  long time(long step) const { return reverse ? T - 1 - step : step; }
  long before(long t) const { return reverse ? t + 1 : t - 1; }
  long row(long t) const { return first_row ? first_row[t] : t * N; }
  // Rows that are there at t; none outside of time
  long count(long t) const { return t < 0 || t >= T ? 0 : first_row ? first_row[t + 1] - first_row[t] : N; }
  Chunk chunk(long first_step, long steps) const {
    const long last = first_step + steps < T ? first_step + steps : T;
    const long from = reverse ? T - last : first_step, to = from + last - first_step;
    return {first_step, last, from, to, row(from), row(to) - row(from)};
  }
};

template <class Cell, class Real> struct Scan {
  static constexpr int W = kWidth<Real>, G = Cell::kGates, S = Cell::kStates, D = Cell::kGrads;
  static constexpr int kLate = Cell::kLate, kEarly = G - kLate;
  static constexpr int P = Cell::kPeepholes;
  static constexpr int kTaped = Cell::kSaved + S - 1;  // vectors a unit leaves on the tape: saved, and the states but h

  // The tape: [block][row of all][kTaped][W], then u of late gates (R, H), then what W_hh sees of h and of h_0, (R, H) and
  // (N, H), if that is not h itself, then state_0, (N, H) each.
  struct Tape {
    Real *taped, *u, *seen, *seen_0, *state_0[kMaxStates] = {};
    long rows, size;
    Tape(Real* base, const Sizes& z, long rows, bool drops) : rows(rows) {
      Arena<Real> arena{base};
      taped = arena.take(blocks_of<Real>(z.H) * rows * kTaped * W);
      u = kLate ? arena.take(rows * z.H) : nullptr;
      seen = drops ? arena.take(rows * z.H) : nullptr;
      seen_0 = drops ? arena.take(z.N * z.H) : nullptr;
      for (int i = 0; i < S; i++) state_0[i] = arena.take(z.N * z.H);
      size = arena.used;
    }
  };

  // One thread's part of the caller's states, (N, H) each and null for zeros, to [block][n][S][W] and back.
  static void load_states(const Share& mine, const Sizes& z, const Real* const* from, Real* to) {
    for (int b = mine.b0; b < mine.b1; b++)
      for (long n = mine.n0; n < mine.n1; n++)
        for (int i = 0; i < S; i++)
          store(to + ((b * z.N + n) * S + i) * W,
                from[i] ? load(from[i] + n * z.H + b * W, lanes_of<Real>(z.H, b)) : Vec<Real>{});
  }
  static void store_states(const Share& mine, const Sizes& z, const Real* from, Real* const* to) {
    for (int b = mine.b0; b < mine.b1; b++)
      for (long n = mine.n0; n < mine.n1; n++)
        for (int i = 0; i < S; i++)
          store(to[i] + n * z.H + b * W, load(from + ((b * z.N + n) * S + i) * W), lanes_of<Real>(z.H, b));
  }
};

// Shared panels are packed in turns (a barrier must follow), own panels by their owner.
template <class F> INLINE void for_packed_groups(bool shared, int me, int threads, const Groups& groups, F&& f) {
  int turn = 0;
  for_groups(groups.group, groups.first, groups.last, [&](int n, int b) {
    if (!shared || turn++ % threads == me) f(n, b);
  });
}

}  // namespace fusedrnn::FUSEDRNN_ISA
