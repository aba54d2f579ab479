// SPDX-License-Identifier: MIT
// Backpropagation through time for one layer in one direction, as one thread runs it.
//
// Step by step from the last: dh = gate gradients · W_hh for own units, then the cell's backward on the same units. The
// gradients of weights, biases and x follow chunk by chunk, while the gate gradients are warm.
#pragma once
#include "scan.h"

namespace fusedrnn::FUSEDRNN_ISA {

template <class Cell, class Real> class Backward : Scan<Cell, Real> {
  using Base = Scan<Cell, Real>;
  using V = Vec<Real>;
  using Gates = GateGradients<Real>;
  using Base::W, Base::G, Base::S, Base::D, Base::kLate, Base::kEarly, Base::kTaped;

 public:
  static long size(const BackwardArgs<Real>& a) { return Layout(nullptr, a).size; }

  Backward(const BackwardArgs<Real>& args, Team& team, int me)
      : a(args), z(args.size), team(team), me(me), threads(team.size()), clock{z.T, z.N, a.reverse},
        blocks(blocks_of<Real>(z.H)), mine(share(a.plan, z.N, blocks, me, threads)), own_b0(int(long(blocks) * me / threads)),
        own_b1(int(long(blocks) * (me + 1) / threads)), dx_by_rows(splits_dx_by_rows(a)), once(is_once(a)),
        groups{group_blocks(z.N / (a.plan.by_rows ? threads : 1)), mine.b0, mine.b1}, tape(const_cast<Real*>(a.tape), z),
        at(a.workspace, a) {}

  void run() {
    pack();
    Base::load_states(mine, z, a.dstate_n, at.ds);
    const long steps = a.plan.chunk_steps, chunks = (z.T + steps - 1) / steps;
    Gates after{};  // gate gradients of the step after this one (none yet)
    for (long i = chunks - 1; i >= 0; i--) {
      const Chunk chunk = clock.chunk(i * steps, steps);
      const Gates d{at.d[i % 2], chunk.rows, D};  // in turns: others may still read the last chunk's
      for (long step = chunk.last_step - 1; step >= chunk.first_step; step--) after = take_step(chunk, step, d, after);
      if (a.plan.by_rows) team.wait(me);
      weight_gradients(chunk, d, i + 1 < chunks || a.add);
      if (a.dx) input_gradient(chunk, d);
    }
    hidden_product(after, 0, kEarly, at.w_hh[0], {at.ds, S}, false);
    Base::store_states(mine, z, at.ds, a.dstate_0);
    if (a.tokens) store_token_gradient();
  }

 private:
  struct Layout {
    Real *w_hh[2], *w_ih;  // panels over columns: k = (gate, unit)
    Real* token_sum;       // [block][G][token][W], in the place of w_ih: tokens have no dx
    Real* ds;              // [block][n][S][W]
    Real* du;              // [block][n][W], late gates only
    Real* d[2];            // gate gradients of a chunk, [block][D][row][W]
    Real* strip;           // a strip of the weights' right factor, for each thread
    long strip_size, size;
    Layout(Real* base, const BackwardArgs<Real>& a) {
      const Sizes& z = a.size;
      const Plan& plan = a.plan;
      const long units = long(blocks_of<Real>(z.H)) * W, columns = long(blocks_of<Real>(z.I)) * W;
      const long rows = (plan.chunk_steps < z.T ? plan.chunk_steps : z.T) * z.N;
      Arena<Real> arena{base};
      w_hh[0] = arena.take(kEarly * z.H * units);
      w_hh[1] = arena.take(kLate * z.H * units);
      const long kept = is_once(a) ? plan.threads * kTileBlocks * W : columns;
      w_ih = token_sum = arena.take(G * (a.tokens ? units * z.I : a.dx ? z.H * kept : 0));
      ds = arena.take(units * S * z.N);
      du = arena.take(kLate ? units * z.N : 0);
      for (Real*& buffer : d) buffer = arena.take(units * D * rows);
      strip_size = rows * kTileBlocks * W;
      strip = arena.take(plan.threads * strip_size);
      size = arena.used;
    }
  };

  static bool splits_dx_by_rows(const BackwardArgs<Real>& a) {
    return a.plan.by_rows || blocks_of<Real>(a.size.I) < 2 * a.plan.threads;
  }
  // A sequence of one chunk needs the panels of W_ih once: w_ih has room for one group of each thread.
  static bool is_once(const BackwardArgs<Real>& a) { return a.plan.chunk_steps >= a.size.T && !splits_dx_by_rows(a); }

  void pack() {
    const bool shared = a.plan.by_rows;
    const long early_rows = kEarly * z.H, late_rows = kLate * z.H;
    for_packed_groups(shared, me, threads, groups, [&](int n, int b) {
      pack_columns(a.weights.weight_hh, early_rows, z.H, b, n, at.w_hh[0] + b * early_rows * W);
      if (kLate) pack_columns(a.weights.weight_hh + early_rows * z.H, late_rows, z.H, b, n, at.w_hh[1] + b * late_rows * W);
    });
    const auto [c0, c1] = input_columns();
    if (a.dx && !once)
      for_packed_groups(dx_by_rows, me, threads, {kTileBlocks, c0, c1}, [&](int n, int b) {
        pack_columns(a.weights.weight_ih, G * z.H, z.I, b, n, at.w_ih + b * G * z.H * W);
      });
    if (a.tokens) load_token_gradient();
    if (shared || dx_by_rows) team.wait(me);
  }

  Real* ds_of(int b, long n) const { return at.ds + (b * z.N + n) * S * W; }

  // Vectors [block][n][vectors][W]; the product's target is the first.
  struct Target {
    Real* data;
    int vectors;
    bool add = true;
  };
  // target (+)= gradients of gates g0.. · their rows of W_hh, for own units and rows. `d` starts at the step's row 0.
  void hidden_product(const Gates& d, int g0, int count, const Real* panel, Target target, bool down) {
    const Place<Real> out{target.data, target.vectors * W, z.N * target.vectors * W};
    product(Product<Real>{.left = d.left(z.H, count, Cell::kH + g0),
                          .panel = panel,
                          .groups = groups,
                          .init = {target.add ? out.data : nullptr, out.row, out.block},
                          .out = out,
                          .columns = long(blocks) * W,
                          .down = down},
            mine.n0, mine.n1, mine.b0, mine.b1);
  }

  // Returns where the step's gate gradients are.
  Gates take_step(const Chunk& chunk, long step, const Gates& d, const Gates& after) {
    const long t = clock.time(step), before = clock.before(t);
    const Gates now{d.at(0, 0, (t - chunk.first_time) * z.N), d.rows, D};
    if (after.data) hidden_product(after, 0, kEarly, at.w_hh[0], {at.ds, S}, t % 2);
    for_own_units([&](int b, long n) {
      V saved[Cell::kSaved], s[S], ds[S], grads[D];
      load_step(b, n, t, step ? before : -1, saved, s, ds);
      if (a.dy) ds[0] += load(a.dy + (t * z.N + n) * a.dy_row + b * W, lanes_of<Real>(z.H, b));
      Cell::backward(saved, s, ds, grads);
      UNROLL for (int i = kLate ? 1 : 0; i < D; i++) store(now.at(b, i, n), grads[i]);
      UNROLL for (int i = 0; i < S; i++) store(ds_of(b, n) + i * W, ds[i]);
    });
    if constexpr (kLate > 0) {
      if (!a.plan.by_rows) team.wait(me);
      hidden_product(now, kEarly, kLate, at.w_hh[1], {at.du, 1, false}, t % 2);
      for_own_units([&](int b, long n) {
        V saved[Cell::kSaved], s[S], ds[S], grads[D];
        load_step(b, n, t, step ? before : -1, saved, s, ds);
        Cell::early_backward(saved, s, load(at.du + (b * z.N + n) * W), ds, grads);
        store(now.at(b, 0, n), grads[0]);
        store(ds_of(b, n), ds[0]);
      });
    }
    if (!a.plan.by_rows) team.wait(me);
    return now;
  }

  template <class F> INLINE void for_own_units(F&& f) {
    for (int b = mine.b0; b < mine.b1; b++)
      for (long n = mine.n0; n < mine.n1; n++) f(b, n);
  }
  // What the cell's backward reads; before < 0: the step began from state_0.
  INLINE void load_step(int b, long n, long t, long before, V* saved, V* s, V* ds) {
    const long lanes = lanes_of<Real>(z.H, b);
    const auto taped = [&](long time) { return tape.taped + ((b * z.T + time) * z.N + n) * kTaped * W; };
    UNROLL for (int i = 0; i < Cell::kSaved; i++) saved[i] = load(taped(t) + i * W);
    UNROLL for (int i = 0; i < S; i++) {
      if (before < 0) s[i] = load(tape.state_0[i] + n * z.H + b * W, lanes);
      else if (i == 0) s[i] = load(a.y + (before * z.N + n) * a.y_row + b * W, lanes);
      else s[i] = load(taped(before) + (Cell::kSaved + i - 1) * W);
      ds[i] = load(ds_of(b, n) + i * W);
    }
  }

  // h_{t-1} of the chunk's rows: those of y one step earlier, but state_0 for the first step.
  RowSource<Real> hidden_rows(const Chunk& chunk) const {
    const auto y_at = [&](long t) { return a.y + t * z.N * a.y_row; };
    if (a.reverse) {
      const bool from_start = chunk.first_step == 0;
      return {y_at(chunk.first_time + 1), a.y_row, chunk.rows - (from_start ? z.N : 0), tape.state_0[0], z.H};
    }
    if (chunk.first_step == 0) return {tape.state_0[0], z.H, z.N, a.y, a.y_row};
    return {y_at(chunk.first_time - 1), a.y_row, chunk.rows};
  }

  void weight_gradients(const Chunk& chunk, const Gates& d, bool add) {
    const RowOrder order{chunk.rows, !a.reverse};
    const auto& out = a.dweights;
    Real* strip = at.strip + me * at.strip_size;
    if (out.bias_ih) bias_gradient(d, Cell::kX, G, z.H, own_b0, own_b1, order, out.bias_ih, add);
    if (out.bias_hh) bias_gradient(d, Cell::kH, G, z.H, own_b0, own_b1, order, out.bias_hh, add);
    const auto gradient = [&](const int* slot, int g0, int g1, const RowSource<Real>& source, Real* to, long K) {
      weight_gradient(d, slot, g0, g1, z.H, own_b0, own_b1, source, order, to, K, add, strip);
    };
    if (a.tokens) add_token_gradient(chunk, d);
    else gradient(Cell::kX, 0, G, {a.x + chunk.first_time * z.N * z.I, z.I, chunk.rows}, out.weight_ih, z.I);
    gradient(Cell::kH, 0, kEarly, hidden_rows(chunk), out.weight_hh, z.H);
    if (kLate) gradient(Cell::kH, kEarly, G, {tape.u + chunk.first_time * z.N * z.H, z.H, chunk.rows}, out.weight_hh, z.H);
  }

  // Columns of x whose gradient this thread computes (for all rows, or for its own).
  struct Columns { int c0, c1; };
  Columns input_columns() const {
    const long all = blocks_of<Real>(z.I);
    if (dx_by_rows) return {0, int(all)};
    return {int(all * me / threads), int(all * (me + 1) / threads)};
  }
  void input_gradient(const Chunk& chunk, const Gates& d) {
    const auto [c0, c1] = input_columns();
    const long r0 = dx_by_rows ? chunk.rows * me / threads : 0, r1 = dx_by_rows ? chunk.rows * (me + 1) / threads : chunk.rows;
    Real* dx = a.dx + chunk.first_time * z.N * z.I;
    Product<Real> p{.left = d.left(z.H, G, Cell::kX),
                    .panel = at.w_ih,
                    .groups = {kTileBlocks, c0, c1},
                    .init = {a.dx_add ? dx : nullptr, z.I, W},
                    .out = {dx, z.I, W},
                    .columns = z.I};
    if (!once) return product(p, r0, r1, c0, c1);
    Real* group = at.w_ih + me * kTileBlocks * G * z.H * W;
    for_groups(kTileBlocks, c0, c1, [&](int n, int c) {
      pack_columns(a.weights.weight_ih, G * z.H, z.I, c, n, group);
      p.panel = group;
      p.groups = {n, 0, n};
      p.out.data = dx + c * W;
      p.init.data = a.dx_add ? p.out.data : nullptr;
      p.columns = z.I - c * W;
      product(p, r0, r1, 0, n);
    });
  }

  // The gradient of W_ih for token input: each row adds to one column, kept transposed until the end. The same chain
  // over rows, hence the same bits, as with one-hot rows.
  Real* token_sum(int b, int g, long token) const { return at.token_sum + ((long(b) * G + g) * z.I + token) * W; }

  // f(sum, dweight) for every element of W_ih's own rows
  template <class F> void for_token_sums(F&& f) {
    for (int b = own_b0; b < own_b1; b++)
      for (int g = 0; g < G; g++)
        for (long u = 0; u < lanes_of<Real>(z.H, b); u++) {
          Real* row = a.dweights.weight_ih + (g * z.H + b * W + u) * z.I;
          for (long token = 0; token < z.I; token++) f(token_sum(b, g, token)[u], row[token]);
        }
  }
  void load_token_gradient() {
    for_token_sums([&](Real& sum, const Real& to) { sum = a.add ? to : 0; });
  }
  void store_token_gradient() {
    for_token_sums([](const Real& sum, Real& to) { to = sum; });
  }
  void add_token_gradient(const Chunk& chunk, const Gates& d) {
    const std::int64_t* tokens = a.tokens + chunk.first_time * z.N;
    for (int b = own_b0; b < own_b1; b++)
      for (int g = 0; g < G; g++)
        for (long i = 0; i < chunk.rows; i++) {
          const long r = a.reverse ? i : chunk.rows - 1 - i;
          Real* sum = token_sum(b, g, tokens[r]);
          store(sum, load(sum) + load(d.at(b, Cell::kX[g], r)));
        }
  }

  const BackwardArgs<Real>& a;
  const Sizes& z;
  Team& team;
  const int me, threads;
  const Clock clock;
  const int blocks;
  const Share mine;              // of the scan
  const int own_b0, own_b1;      // unit blocks whose weight gradients this thread sums
  const bool dx_by_rows, once;
  const Groups groups;
  const typename Base::Tape tape;
  const Layout at;
};

}  // namespace fusedrnn::FUSEDRNN_ISA
