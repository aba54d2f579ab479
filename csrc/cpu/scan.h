// SPDX-License-Identifier: MIT
// What the forward and the backward scan share: who does what, and where things lie.
#pragma once
#include "../args.h"
#include "dense.h"  // before the cells: they use its vectors' functions
#include "team.h"

#include "../cells/all.h"

namespace fusedrnn::FUSEDRNN_ISA {

// One thread's part of the scan: of rows n0..n1 the unit blocks b0..b1, and the blocks h0..h1 of h (the same numbers, unless
// h is projected).
struct Share {
  int b0, b1, h0, h1;
  long n0, n1;

  // Past the last of its rows among the first so many
  long end(long rows) const { return n1 < rows ? n1 : rows; }
};
template <class Real> Share share_of_units(const Sizes& z, int me, int threads) {
  const long blocks = blocks_of<Real>(z.H), h = blocks_of<Real>(z.P);
  return {
      int(blocks * me / threads), int(blocks * (me + 1) / threads), int(h * me / threads), int(h * (me + 1) / threads), 0, z.N};
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
class Clock {
 public:
  long T, N;
  bool reverse;
  const long* first_row;

  long time(long step) const { return reverse ? T - 1 - step : step; }
  long before(long t) const { return reverse ? t + 1 : t - 1; }
  long after(long t) const { return reverse ? t - 1 : t + 1; }
  long row(long t) const { return first_row ? first_row[t] : t * N; }
  // Rows that are there at t; none outside of time
  long count(long t) const { return t < 0 || t >= T ? 0 : first_row ? first_row[t + 1] - first_row[t] : N; }
  // The chunk that begins with a step, or ends before one: so many rows, or one step
  Chunk chunk_from(long first, long most_rows) const {
    long last = first + 1;
    for (long rows = count(time(first)); last < T && (rows += count(time(last))) <= most_rows;) last++;
    return chunk(first, last);
  }
  Chunk chunk_until(long last, long most_rows) const {
    long first = last - 1;
    for (long rows = count(time(first)); first > 0 && (rows += count(time(first - 1))) <= most_rows;) first--;
    return chunk(first, last);
  }

  // Rows of the step at t that had one before
  long going_on(long t) const {
    const long earlier = count(before(t)), now = count(t);
    return earlier < now ? earlier : now;
  }

  // Of steps
  Chunk chunk(long first, long last) const {
    const long from = reverse ? T - last : first, to = from + last - first;
    return {first, last, from, to, row(from), row(to) - row(from)};
  }
};

template <class Args> Clock clock_of(const Args& a) { return {a.size.T, a.size.N, a.reverse, a.form.first_row}; }

// Rows of equal length in equal numbers; else so that each thread has about as many (row, step)s. Possibly none.
inline long first_own_row(const Clock& clock, int me, int threads) {
  if (!clock.first_row) return clock.N * me / threads;
  const long wanted = clock.row(clock.T) * me / threads;
  long n = 0;
  for (long work = 0, length = clock.T; work < wanted; n++) {
    while (clock.count(length - 1) <= n) length--;
    work += length;
  }
  return n;
}
template <class Real> Share share(const Plan& plan, const Sizes& z, const Clock& clock, int me, int threads) {
  if (!plan.by_rows) return share_of_units<Real>(z, me, threads);
  const long n0 = first_own_row(clock, me, threads), n1 = first_own_row(clock, me + 1, threads);
  return {0, blocks_of<Real>(z.H), 0, blocks_of<Real>(z.P), n0, n1};
}

// Memory for all rows, so many values each. Where threads split rows, each one's piece stands a page from the next: the
// hardware fetches what lies behind within a page, and would take it from the core that writes it (LSTM 30,7,33 by rows 0.76 of
// the time by units, and so 0.62; GRU 400,8,24 1.1 of the time on one thread, and so 0.87).
template <class Real> struct Pieces {
  Real* all = nullptr;
  long row = 0, apart = 0;  // values of a row; and from one piece to the next, 0 where all threads share one

  // more: rows that each has room for beside its own
  Real* own(const Share& mine, int me, long more = 0) const {
    return all && apart ? all + (mine.n0 + me * more) * row + me * apart : all;
  }
};
template <class Real> Pieces<Real> take_pieces(Arena<Real>& arena, const Plan& plan, long rows, long row) {
  const long apart = plan.by_rows ? 4096 / sizeof(Real) : 0;
  return {arena.take(rows * row + plan.threads * apart), row, apart};
}

// Vectors of a thread's rows, [block][n][kVectors][W]
template <class Real, int kVectors> struct OwnRows {
  static constexpr long kRow = kVectors * kWidth<Real>;
  Real* data;
  long first, rows;

  OwnRows(const Pieces<Real>& pieces, const Share& mine, int me)
      : data(pieces.own(mine, me)), first(mine.n0), rows(mine.n1 - mine.n0) {}
  Real* at(int b, long n) const { return data + (b * rows + n - first) * kRow; }
  // The first vector of each, as a product's target
  Place<Real> place() const { return {data, kRow, rows * kRow}; }
};

// Rows that a chunk has at the most, and whether all steps are sure to be one.
inline long chunk_rows(const Sizes& z, const Plan& plan) {
  const long all = z.T * z.N, most = plan.chunk_rows > z.N ? plan.chunk_rows : z.N;
  return all < most ? all : most;
}
inline bool is_one_chunk(const Sizes& z, const Plan& plan) { return z.T * z.N == chunk_rows(z, plan); }

// Weights (k, columns) are panels as they are, in one group of all columns, whose tiles read lines far apart. Where there are
// no more rows in all than one tile has, that takes less time than to pack them: 0.73 to 0.93 of a training step.
template <class Real> bool reads_in_place(const Sizes& z, long columns) {
  return z.T * z.N <= kTileRows && columns % kWidth<Real> == 0;
}
template <class Real> constexpr Groups all_columns(long columns) {
  const int blocks = blocks_of<Real>(columns);
  return {blocks, 0, blocks};
}

template <class Cell, class Real> struct Scan {
  static constexpr int W = kWidth<Real>, G = Cell::kGates, S = Cell::kStates, D = Cell::kGrads;
  static constexpr int kLate = Cell::kLate, kEarly = G - kLate;
  static constexpr int Q = Cell::kPeepholes;
  static constexpr bool kProjects = S > 1;  // h may be projected: the cell sees it in hg alone, never in s[0]
  static bool projected(const Sizes& z) { return kProjects && z.projected(); }
  static constexpr int kTaped = Cell::kSaved + S - 1;  // vectors a unit leaves on the tape: saved, and the states but h

  // Whether those vectors are there: if the only one is h, backward has it from y, unless zoneout made that another, or of one
  // step there is none.
  static bool has_taped(const Sizes& z, const Noise& noise) { return !Cell::kSavesH || noise.zoneout[0] > 0 || z.T == 1; }

  // The tape: [block][row of all][kTaped][W], then u of late gates or of a projection (R, H), then what W_hh sees of h and of
  // h_0, (R, P) and (N, P), if that is not h itself, then state_0.
  struct Tape {
    Real *taped, *u, *seen, *seen_0, *state_0[kMaxStates] = {};
    long rows, size;
    Tape(Real* base, const Sizes& z, long rows, const Noise& noise) : rows(rows) {
      const bool drops = noise.dropout > 0;
      Arena<Real> arena{base};
      taped = has_taped(z, noise) ? arena.take(blocks_of<Real>(z.H) * rows * kTaped * W) : nullptr;
      u = kLate || z.projected() ? arena.take(rows * z.H) : nullptr;
      seen = drops ? arena.take(rows * z.P) : nullptr;
      seen_0 = drops ? arena.take(z.N * z.P) : nullptr;
      for (int i = 0; i < S; i++) state_0[i] = arena.take(z.N * z.width(i));
      size = arena.used;
    }
    INLINE Real* at(int b, long row) const { return taped + (b * rows + row) * kTaped * W; }
  };

  using States = OwnRows<Real, S>;
  // One thread's part of the caller's states, null for zeros, and back, from the first-th on.
  static void load_states(const Share& mine, const Sizes& z, const Real* const* from, const States& to) {
    for_state_vectors(mine, z, 0, [&](int i, int b, long n, long at, long lanes) {
      store(to.at(b, n) + i * W, from[i] ? load(from[i] + at, lanes) : Vec<Real>{});
    });
  }
  static void store_states(const Share& mine, const Sizes& z, const States& from, Real* const* to, int first = 0) {
    for_state_vectors(mine, z, first, [&](int i, int b, long n, long at, long lanes) {
      store(to[i] + at, load(from.at(b, n) + i * W), lanes);
    });
  }

 private:
  // f(state, block, row, offset in the caller's array, lanes)
  template <class F> INLINE static void for_state_vectors(const Share& mine, const Sizes& z, int first, F&& f) {
    for (int b = mine.b0; b < mine.b1; b++)
      for (long n = mine.n0; n < mine.n1; n++)
        for (int i = first; i < S; i++)
          if (const long lanes = lanes_of<Real>(z.width(i), b); lanes > 0) f(i, b, n, n * z.width(i) + b * W, lanes);
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
