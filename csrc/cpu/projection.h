// SPDX-License-Identifier: MIT
// Projection (Sak et al. 2014, arXiv:1402.1128): h = W_hr u, (N, P), where u = o tanh(c), (N, H), is what the cell gives out.
// In a step each thread makes its own blocks of h for its own rows. Where threads split units, a barrier must stand before
// and after, as u and h are read whole.
#pragma once
#include "gradients.h"
#include "noise.h"

namespace fusedrnn::FUSEDRNN_ISA {

// h of the step at t, in y, from u of its row 0 on; with recurrent dropout what W_hh sees of it, in `seen`; and state_n of rows
// that end with this step. The panels w_hr lie in groups of blocks of h.
template <class Real>
[[gnu::noinline]] void project(const ForwardArgs<Real>& a, const Clock& clock, const Real* w_hr, const Groups& groups,
                               const Share& mine, long t, const Real* u, Real* seen) {
  constexpr int W = kWidth<Real>;
  const long H = a.size.H, P = a.size.P, row = clock.row(t), before = clock.before(t);
  const long end = mine.end(clock.count(t)), staying = clock.count(clock.after(t));
  if (end <= mine.n0) return;
  Real* y = a.y + row * a.y_row;
  product(Product<Real>{.left = plain_left(u, H, 1, H),
                        .panel = w_hr,
                        .groups = groups,
                        .init = {},
                        .out = {y, a.y_row, W},
                        .columns = P,
                        .down = t % 2 != 0},
          mine.n0, end, mine.h0, mine.h1);
  const auto h_before = [&](long n) -> const Real* {  // null for zeros
    if (a.form.resets && a.form.resets[row + n]) return nullptr;
    if (n < clock.count(before)) return a.y + (clock.row(before) + n) * a.y_row;
    return a.state_0[0] ? a.state_0[0] + n * P : nullptr;
  };
  const RowNoise noise(a.form.noise);
  if (noise.drops() || noise.zones())
    for (long n = mine.n0; n < end; n++)
      for (int b = mine.h0; b < mine.h1; b++) {
        const long lanes = lanes_of<Real>(P, b);
        const Real* h_n = h_before(n);
        const Vec<Real> old = h_n ? load(h_n + b * W, lanes) : Vec<Real>{};
        const Vec<Real> h = noise.zoned<Real>(0, old, load(y + n * a.y_row + b * W, lanes), t, n, b);
        store(y + n * a.y_row + b * W, h, lanes);
        if (noise.drops()) store(seen + n * P + b * W, noise.seen<Real>(h, n, b), lanes);
      }
  for (long n = mine.n0 > staying ? mine.n0 : staying; n < end; n++)
    for (int b = mine.h0; b < mine.h1; b++) {
      const long lanes = lanes_of<Real>(P, b);
      store(a.state_n[0] + n * P + b * W, load(y + n * a.y_row + b * W, lanes), lanes);
    }
}

// The way back: dh, of dy and of what the step after gives back; then du = dh W_hr.
template <class Real> class ProjectionBackward {
  static constexpr int W = kWidth<Real>;
  using Gates = GateGradients<Real>;

 public:
  struct Layout {
    Real* w_hr;   // panels over columns: k = column of h
    Pieces<Real> given;  // what the step after gives back and what passes by it, or dstate_n: [block of h][n][W]
    Real* dh[2];  // of a chunk, in turns as gate gradients: [block of h][row][W]
    long size;
    Layout(Real* base, const Sizes& z, const Plan& plan, long chunk_rows) {
      const long columns = long(blocks_of<Real>(z.P)) * W;
      Arena<Real> arena{base};
      w_hr = arena.take(z.P * blocks_of<Real>(z.H) * W);
      given = take_pieces(arena, plan, z.N, columns);
      for (Real*& buffer : dh) buffer = arena.take(columns * chunk_rows);
      size = z.projected() ? arena.used : 0;
    }
  };

  ProjectionBackward(const BackwardArgs<Real>& args, const Clock& clock, const Share& mine, const Groups& units,
                     const Layout& at, int me)
      : given(at.given, mine, me), a(args), z(args.size), clock(clock), mine(mine), units(units), at(at) {}

  const OwnRows<Real, 1> given;  // the product of the step after belongs there

  void begin(bool shared, int me, int threads) {
    for_packed_groups(shared, me, threads, units,
                      [&](int n, int b) { pack_columns(a.weights.weight_hr, z.P, z.H, b, n, at.w_hr + b * z.P * W); });
    const Real* from = a.dstate_n[0];
    for_own(z.N, [&](int b, long n, long offset, long lanes) {
      store(given.at(b, n), from ? load(from + offset, lanes) : Vec<Real>{});
    });
  }
  void end() {
    for_own(z.N, [&](int b, long n, long offset, long lanes) { store(a.dstate_0[0] + offset, load(given.at(b, n)), lanes); });
  }

  // Nothing through a reset: `row` is that of the step's batch row 0.
  void reset(long row, long count) {
    for_own(count, [&](int b, long n, long, long) {
      if (a.form.resets[row + n]) store(given.at(b, n), Vec<Real>{});
    });
  }

  // dh of a chunk, the i-th
  Gates gradients(long i, const Chunk& chunk) const { return {at.dh[i % 2], chunk.rows, 1}; }
  // dh of the step at t; `now` is that of its row 0. What zoneout lets pass by the step is given on.
  void gather(long t, const Gates& now) {
    const RowNoise noise(a.form.noise);
    const Real* dy = a.dy ? a.dy + clock.row(t) * a.dy_row : nullptr;
    for_own(clock.count(t), [&](int b, long n, long, long lanes) {
      Vec<Real> dh = load(given.at(b, n));
      if (dy) dh += load(dy + n * a.dy_row + b * W, lanes);
      store(given.at(b, n), noise.zones() ? noise.split<Real>(0, dh, t, n, b) : Vec<Real>{});
      store(now.at(b, 0, n), dh);
    });
  }
  // du for own units, from dh of all columns
  void spread(long t, const Gates& now, const Place<Real>& du) {
    if (const long end = mine.end(clock.count(t)); mine.n0 < end)
      product(Product<Real>{.left = now.from(mine.n0).left(z.P, 1, kOneSlot),
                            .panel = at.w_hr,
                            .groups = units,
                            .init = {},
                            .out = du,
                            .columns = long(blocks_of<Real>(z.H)) * W,
                            .down = t % 2 != 0},
              0, end - mine.n0, mine.b0, mine.b1);
  }

 private:
  // f(block, row, offset in (N, P), lanes) for own columns of own rows among the first `rows`
  template <class F> INLINE void for_own(long rows, F&& f) const {
    for (int b = mine.h0; b < mine.h1; b++)
      for (long n = mine.n0; n < mine.end(rows); n++) f(b, n, n * z.P + b * W, lanes_of<Real>(z.P, b));
  }

  const BackwardArgs<Real>& a;
  const Sizes& z;
  const Clock clock;
  const Share mine;
  const Groups units;
  const Layout at;
};

}  // namespace fusedrnn::FUSEDRNN_ISA
