// SPDX-License-Identifier: MIT
// Backpropagation through time for one layer in one direction, as one thread runs it.
//
// Step by step from the last: dh = gate gradients · W_hh for own units, then the cell's backward on the same units. The
// gradients of weights (gradients.h) and of x follow chunk by chunk, while the gate gradients are warm.
#pragma once
#include "input_gradient.h"
#include "projection.h"

namespace fusedrnn::FUSEDRNN_ISA {

template <class Cell, class Real> class Backward : Scan<Cell, Real> {
  using Base = Scan<Cell, Real>;
  using V = Vec<Real>;
  using Gates = GateGradients<Real>;
  using Weights = WeightGradients<Cell, Real>;
  using Projection = ProjectionBackward<Real>;

 protected:
  using Base::W, Base::S, Base::D, Base::Q, Base::kLate, Base::kEarly;

 public:
  static long size(const BackwardArgs<Real>& a) { return Layout(nullptr, a).size; }

  Backward(const BackwardArgs<Real>& args, Team& team, int me)
      : a(args), z(args.size), team(team), me(me), threads(team.size()), clock(clock_of(a)), noise(a.form.noise),
        mine(share<Real>(a.plan, z, clock, me, threads)), group(group_blocks(z.N / (a.plan.by_rows ? threads : 1))),
        groups(reads_in_place<Real>(z, z.P) ? all_columns<Real>(z.P) : Groups{group, mine.h0, mine.h1}), at(a.workspace, a),
        states(at.ds, mine, me), du(at.du, mine, me), taped(a, clock), input(a, at.w_ih, me, threads),
        weights(a, clock, taped, {at.gradients + me * at.gradients_size, z, at.rows}, at.token_sum,
                share_of_units<Real>(z, me, threads)),
        projection(a, clock, mine, {group, mine.b0, mine.b1}, {projected() ? at.projection : nullptr, z, a.plan, at.rows}, me) {
  }

  void run() {
    run([&](long t, const Step& now) { take_step(t, now); }, [](auto&&...) {});
  }

 protected:
  // take_step(t, step) from the last one back; more_sums(chunk, d, add) where gradients of weights are wanted
  template <class Take, class Sums> void run(Take&& take_step, Sums&& more_sums) {
    pack();
    Base::load_states(mine, z, a.dstate_n, states);
    Step now{};  // none yet
    for (long step = z.T, i = 0; step > 0; i++) {
      const Chunk chunk = clock.chunk_until(step, a.plan.chunk_rows);
      const Gates d{at.d[i % 2], chunk.rows, D};  // in turns: others may still read the last chunk's
      const Gates dh = projection.gradients(i, chunk);
      while (step > chunk.first_step) {
        const long t = clock.time(--step), row = clock.row(t);
        add_hidden(now, t % 2);
        if (projected()) through_projection(t, dh.from(row - chunk.first_row));
        now = {d.from(row - chunk.first_row), clock.count(t), row};
        take_step(t, now);
      }
      if (a.plan.by_rows) team.wait(me);
      const bool add = i > 0 || a.add;
      weights.sum(chunk, d, dh, add);
      if (weights.wanted) more_sums(chunk, d, add);
      if (a.dx) input.run(chunk, d);
    }
    add_hidden(now, false);
    Base::store_states(mine, z, states, a.dstate_0, projected());
    if (projected()) projection.end();
    weights.end();
  }

  struct Layout {
    Real *w_hh[2], *w_ih;  // panels over columns: k = (gate, unit)
    Real* token_sum;       // in the place of w_ih: tokens have no dx
    Pieces<Real> ds;       // [block][n][S][W]
    Pieces<Real> du;       // [block][n][W], with late gates or recurrent dropout
    Real* d[2];            // gate gradients of a chunk, [block][D][row][W]
    Real* gradients;       // memory of each thread's WeightGradients
    Real* projection;      // memory of ProjectionBackward
    long gradients_size, rows, size;
    Layout(Real* base, const BackwardArgs<Real>& a) {
      const Sizes& z = a.size;
      const Plan& plan = a.plan;
      const long units = long(blocks_of<Real>(z.H)) * W, outputs = long(blocks_of<Real>(z.P)) * W;
      const bool packs = !reads_in_place<Real>(z, z.P);
      rows = chunk_rows(z, plan);
      Arena<Real> arena{base};
      w_hh[0] = packs ? arena.take(kEarly * z.H * outputs) : const_cast<Real*>(a.weights.weight_hh);
      w_hh[1] = packs || !kLate ? arena.take(kLate * z.H * outputs) : w_hh[0] + kEarly * z.H * z.P;
      w_ih = token_sum = arena.take(a.tokens ? Weights::token_sum_size(z) : InputGradient<Cell, Real>::size(a));
      ds = take_pieces(arena, plan, z.N, units * S);
      if (kLate || a.form.noise.dropout > 0) du = take_pieces(arena, plan, z.N, units);
      for (Real*& buffer : d) buffer = arena.take(units * D * rows);
      gradients_size = typename Weights::Layout(nullptr, z, rows).size;
      gradients = arena.take(plan.threads * gradients_size);
      projection = arena.take(typename Projection::Layout(nullptr, z, plan, rows).size);
      size = arena.used;
    }
  };

  void pack() {
    const bool shared = a.plan.by_rows;
    const long early_rows = kEarly * z.H, late_rows = kLate * z.H;
    if (!reads_in_place<Real>(z, z.P))
      for_packed_groups(shared, me, threads, groups, [&](int n, int b) {
        pack_columns(a.weights.weight_hh, early_rows, z.P, b, n, at.w_hh[0] + b * early_rows * W);
        if (kLate) pack_columns(a.weights.weight_hh + early_rows * z.P, late_rows, z.P, b, n, at.w_hh[1] + b * late_rows * W);
      });
    if (a.dx) input.pack();
    if (projected()) projection.begin(shared, me, threads);
    weights.begin();
    if (shared || input.by_rows) team.wait(me);
  }

  Real* ds_of(int b, long n) const { return states.at(b, n); }

  // The gradient of what W_hh saw, as that of h or u
  V du_of(int b, long n) const {
    const V v = load(du.at(b, n));
    return noise.drops() ? noise.seen<Real>(v, n, b) : v;
  }

  // out (+)= gradients of gates g0.. · their rows of W_hh, for own blocks of h of own rows among the first `rows`. `d` starts
  // at the step's row 0.
  void hidden_product(const Gates& d, long rows, int g0, int count, const Real* panel, const Place<Real>& out, bool add,
                      bool down) {
    product(Product<Real>{.left = d.from(mine.n0).left(z.H, count, Cell::kH + g0),
                          .panel = panel,
                          .groups = groups,
                          .init = {add ? out.data : nullptr, out.row, out.block},
                          .out = out,
                          .columns = long(blocks_of<Real>(z.P)) * W,
                          .down = down},
            0, mine.end(rows) - mine.n0, mine.h0, mine.h1);
  }

  bool projected() const { return Base::projected(z); }

  // A step: its gate gradients, from its row 0 on; rows that are in it, and where they stand.
  struct Step {
    Gates d;
    long count, row;
  };
  // ds of h, or `given` of a projection, += what that step gives back; but nothing through a reset.
  void add_hidden(const Step& after, bool down) {
    if (mine.end(after.count) <= mine.n0) return;
    const bool adds = !noise.drops();
    const Place<Real> h = projected() ? projection.given.place() : states.place();
    hidden_product(after.d, after.count, 0, kEarly, at.w_hh[0], adds ? h : du.place(), adds, down);
    if (!adds)
      for (int b = mine.h0; b < mine.h1; b++)
        for (long n = mine.n0; n < mine.end(after.count); n++) {
          Real* to = projected() ? projection.given.at(b, n) : ds_of(b, n);
          store(to, load(to) + du_of(b, n));
        }
    if (!a.form.resets) return;
    for_own_units(after.count, [&](int b, long n) {
      if (!a.form.resets[after.row + n]) return;
      UNROLL for (int i = 0; i < S; i++) store(ds_of(b, n) + i * W, V{});
    });
    if (projected()) projection.reset(after.row, after.count);
  }

  void take_step(long t, const Step& step) {
    const Gates& now = step.d;
    const long count = step.count, row = step.row;
    const Real* dy = a.dy && !projected() ? a.dy + row * a.dy_row : nullptr;
    for_own_units(count, [&](int b, long n) {
      V saved[Cell::kSaved], s[S], ds[S], grads[D];
      load_step(b, n, t, saved, s, ds);
      if (dy) ds[0] += load(dy + n * a.dy_row + b * W, lanes_of<Real>(z.H, b));
      V p[Q + 1];  // one more, for there may be none
      UNROLL for (int i = 0; i < Q; i++) p[i] = load(a.weights.weight_ch + i * z.H + b * W, lanes_of<Real>(z.H, b));
      V passes[S] = {};
      if (noise.zones()) UNROLL for (int i = projected(); i < S; i++) passes[i] = noise.split<Real>(i, ds[i], t, n, b);
      Cell::backward(saved, p, s, ds, grads);
      UNROLL for (int i = kLate ? 1 : 0; i < D; i++) store(now.at(b, i, n), grads[i]);
      UNROLL for (int i = 0; i < S; i++) store(ds_of(b, n) + i * W, noise.zones() ? ds[i] + passes[i] : ds[i]);
    });
    if constexpr (kLate > 0) {
      if (!a.plan.by_rows) team.wait(me);
      if (mine.end(count) > mine.n0) hidden_product(now, count, kEarly, kLate, at.w_hh[1], du.place(), false, t % 2);
      for_own_units(count, [&](int b, long n) {
        V saved[Cell::kSaved], s[S], ds[S], grads[D];
        load_step(b, n, t, saved, s, ds);
        Cell::early_backward(saved, s, du_of(b, n), ds, grads);
        store(now.at(b, 0, n), grads[0]);
        store(ds_of(b, n), ds[0]);
      });
    }
    if (!a.plan.by_rows) team.wait(me);
  }

  // dh of the step at t, then ds of what the cell gave out
  void through_projection(long t, const Gates& dh) {
    projection.gather(t, dh);
    if (!a.plan.by_rows) team.wait(me);
    projection.spread(t, dh, states.place());
  }

  // What the cell's backward reads
  INLINE void load_step(int b, long n, long t, V* saved, V* s, V* ds) const {
    taped.load_step(b, n, t, saved, s);
    UNROLL for (int i = 0; i < S; i++) ds[i] = load(ds_of(b, n) + i * W);
  }
  template <class F> INLINE void for_own_units(long rows, F&& f) {
    for (int b = mine.b0; b < mine.b1; b++)
      for (long n = mine.n0; n < mine.end(rows); n++) f(b, n);
  }

  const BackwardArgs<Real>& a;
  const Sizes& z;
  Team& team;
  const int me, threads;
  const Clock clock;
  const RowNoise noise;
  const Share mine;
  const int group;
  const Groups groups;
  const Layout at;
  const typename Base::States states;  // ds
  const OwnRows<Real, 1> du;
  const Taped<Cell, Real> taped;
  const InputGradient<Cell, Real> input;
  Weights weights;
  Projection projection;
};

}  // namespace fusedrnn::FUSEDRNN_ISA
