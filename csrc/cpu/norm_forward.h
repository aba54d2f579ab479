// SPDX-License-Identifier: MIT
// The forward scan of one layer with layer normalisation in one direction, as one thread runs it for its own rows.
//
// The input part of a chunk of time, normalised; then, step by step, the hidden part of all gates as a plain product, its
// norms, the cell. A row's gates stand together, [block][G][W], in the hidden part those of each stage: a norm goes through all
// of them.
#pragma once
#include "norm.h"
#include "projection.h"

namespace fusedrnn::FUSEDRNN_ISA {

template <class Cell, class Real> class NormForward : Scan<Cell, Real> {
  using Base = Scan<Cell, Real>;
  using Plain = typename Cell::Plain;
  using V = Vec<Real>;
  using Base::W, Base::G, Base::S, Base::Q, Base::kLate, Base::kEarly;
  // The last stage, the gates it finds done and those it has
  static constexpr int kLast = stages<Cell> - 1, kDone = first_gate<Cell>(kLast), kEnd = gates_of<Cell>(kLast);

 public:
  static long size(const ForwardArgs<Real>& a) {
    return Layout(nullptr, a).size + (a.panels ? 0 : make_panels(nullptr, a).size);
  }

  NormForward(const ForwardArgs<Real>& args, Team& team, int me)
      : a(args), z(args.size), team(team), me(me), threads(team.size()), clock(clock_of(a)), noise(a.form.noise),
        blocks(blocks_of<Real>(z.H)), mine(share<Real>(a.plan, z, clock, me, threads)), row_size(long(blocks) * G * W),
        at(a.workspace, a), hg(at.hg.own(mine, me)), states(at.state, mine, me), panels(make_panels(a.workspace + at.size, a)),
        tape(a.tape ? Tape(a.tape, z, clock.row(z.T), a.form.noise) : Tape(at.scratch + me * at.scratch_size, one_row(z), 1)),
        seen_0(a.tape ? tape.seen_0 : at.seen) {}

  void run() {
    if (!a.panels) {
      panels.pack(a.weights, z, me, threads);
      team.wait(me);
    }
    Base::load_states(mine, z, a.state_0, states);
    if (a.tape) Base::store_states(mine, z, states, tape.state_0);
    if (noise.drops()) see_state_0();
    for (long first = 0, i = 0; first < z.T; i++) {
      const Chunk chunk = clock.chunk_from(first, a.plan.chunk_rows);
      Real* xg = at.xg[i % 2];  // in turns: others may still read the last chunk's
      input_part(chunk, xg);
      team.wait(me);
      for (; first < chunk.last_step; first++) take_step(clock.time(first), chunk, xg);
    }
    Base::store_states(mine, z, states, a.state_n, projected());  // project() has stored h
  }

 private:
  using Tape = NormTape<Cell, Real>;
  using Panels = NormPanels<Cell, Real>;

  struct Layout {
    Real* xg[2];  // [row in chunk][block][G][W]
    Pieces<Real> hg;  // [n], of each stage [block][its gates][W]
    Pieces<Real> state;  // [block][n][S][W]
    Real* u;  // inference with late gates or projection: that of a step, (N, H)
    Real* seen;  // inference with recurrent dropout: what W_hh sees of h, (N, P)
    Real* scratch;  // inference: in place of the tape, one row of it for each thread
    long scratch_size, size;
    Layout(Real* base, const ForwardArgs<Real>& a) {
      const Sizes& z = a.size;
      const long units = long(blocks_of<Real>(z.H)) * W;
      Arena<Real> arena{base};
      for (Real*& chunk : xg) chunk = arena.take(units * G * chunk_rows(a.size, a.plan));
      hg = take_pieces(arena, a.plan, z.N, units * G);
      state = take_pieces(arena, a.plan, z.N, units * S);
      u = a.tape || !(kLate || z.projected()) ? nullptr : arena.take(z.N * z.H);
      seen = a.tape || a.form.noise.dropout == 0 ? nullptr : arena.take(z.N * z.P);
      scratch_size = a.tape ? 0 : Tape(nullptr, one_row(z), 1).size;
      scratch = arena.take(a.plan.threads * scratch_size);
      size = arena.used;
    }
  };
  static Sizes one_row(const Sizes& z) { return {1, 1, z.I, z.H, z.H}; }
  // In the workspace, unless they come packed
  static Panels make_panels(Real* base, const ForwardArgs<Real>& a) {
    if (a.panels) return {const_cast<Real*>(a.panels), a.size, a.panel_rows, a.panel_rows};
    return {base, a.size, chunk_rows(a.size, a.plan) / a.plan.threads, a.size.N / a.plan.threads};
  }
  bool projected() const { return Base::projected(z); }
  // Where the tape has a row
  long kept(long row) const { return a.tape ? row : 0; }

  // The threads share the chunk's rows, whoever scans them.
  void input_part(const Chunk& chunk, Real* xg) {
    const long r0 = chunk.rows * me / threads, r1 = chunk.rows * (me + 1) / threads;
    if (a.tokens) gather(chunk, r0, r1, xg);
    else multiply_rows(plain_left(a.x + chunk.first_row * z.I, z.I, 1, z.I), panels.w_ih, panels.input_groups, xg, r0, r1);
    for (long r = r0; r < r1; r++)
      normalise_row<G>(xg + r * row_size, kept(chunk.first_row + r), Cell::kInputNorm, panels.gain_ih, panels.b_ih);
  }
  void multiply_rows(const Left<Real>& left, const Real* panel, const Groups& groups, Real* out, long r0, long r1) const {
    product(Product<Real>{.left = left,
                          .panel = panel,
                          .groups = groups,
                          .init = {},
                          .out = {out, row_size, W},
                          .columns = long(groups.last) * W},
            r0, r1, 0, groups.last);
  }
  // The product with one-hot rows: the same bits.
  void gather(const Chunk& chunk, long r0, long r1, Real* xg) const {
    const std::int64_t* tokens = a.tokens + chunk.first_row;
    for_groups(panels.input_groups.group, 0, blocks * G, [&](int n, int first) {
      for (long r = r0; r < r1; r++) {
        const Real* column = panels.w_ih + (first * z.I + tokens[r] * n) * W;
        for (int j = 0; j < n; j++)
          store(xg + r * row_size + (first + j) * W, V{} + load(column + j * W));  // 0 + -0 is 0, in the product, too
      }
    });
  }

  // Gates of a row, with v̂ and its scales to the tape's row
  template <int kCount> void normalise_row(Real* gates, long row, int norm, const Real* gain, const Real* bias) const {
    normalise<kCount>(z.H, gates, gain, bias, tape.v_hat(0, row, norm), tape.block(), tape.scale(row, norm));
  }

  void take_step(long t, const Chunk& chunk, const Real* xg) {
    const long before = clock.before(t), row = clock.row(t), count = clock.count(t);
    const long going_on = clock.going_on(t);  // the others have the state before from the caller
    if (going_on > 0 && noise.drops()) hidden_part(0, 0, going_on, seen_of(before), z.P);
    else if (going_on > 0) hidden_part(0, 0, going_on, a.y + clock.row(before) * a.y_row, a.y_row);
    hidden_part(0, going_on, count, noise.drops() ? seen_0 : a.state_0[0], z.P);
    const Real* x_gates = xg + (row - chunk.first_row) * row_size;
    for (long n = mine.n0; n < mine.end(count); n++) {
      const bool reset = a.form.resets && a.form.resets[row + n];
      if (reset) clear(n);
      if constexpr (kLate > 0) finish_early(n, t, x_gates + n * row_size);
      else finish(n, t, x_gates + n * row_size);
    }
    if constexpr (kLate > 0) {
      hidden_part(1, 0, count, u_of(t), z.H);
      for (long n = mine.n0; n < mine.end(count); n++) finish(n, t, x_gates + n * row_size);
    }
    if (projected()) project(a, clock, panels.w_hr, panels.h_groups, mine, t, u_of(t), noise.drops() ? seen_of(t) : nullptr);
  }

  // The gates of a stage, own rows among r0..r1; h, or u, is that of row 0, null is zeros.
  [[gnu::noinline]] void hidden_part(int stage, long r0, long r1, const Real* h, long h_row) {
    const long n0 = mine.n0 > r0 ? mine.n0 : r0, n1 = mine.end(r1);
    if (n0 >= n1) return;
    if (h) multiply_rows(plain_left(h, h_row, 1, z.P), panels.w_hh[stage], panels.groups[stage], hg_of(0, stage), n0, n1);
    else
      for (long i = 0; i < (n1 - n0) * row_size; i++) hg_of(n0, 0)[i] = 0;
  }
  Real* hg_of(long n, int stage) const { return hg + (n - mine.n0) * row_size + first_gate<Cell>(stage) * (long(blocks) * W); }
  // Of the step's row 0
  Real* u_of(long t) const { return a.tape ? tape.u + clock.row(t) * z.H : at.u; }
  Real* state_of(int b, long n) const { return states.at(b, n); }
  // As from a state of zeros
  void clear(long n) {
    for (long i = 0; i < row_size; i++) hg_of(n, 0)[i] = 0;
    for (int b = 0; b < blocks; b++) UNROLL for (int i = 0; i < S; i++) store(state_of(b, n) + i * W, V{});
  }

  // The gates before the late ones, and what those see. The values of gates take the place of their sums.
  void finish_early(long n, long t, const Real* x_gates) {
    Real* gates = hg_of(n, 0);
    normalise_row<kEarly>(gates, kept(clock.row(t) + n), Cell::kHiddenNorm, panels.gain_hh[0], panels.b_hh[0]);
    for (int b = 0; b < blocks; b++) {
      V xg[G], hg[G], s[S], saved[Plain::kSaved];
      UNROLL for (int g = 0; g < kEarly; g++) xg[g] = load(x_gates + (b * G + g) * W),
                                              hg[g] = load(gates + (b * kEarly + g) * W);
      UNROLL for (int i = 0; i < S; i++) s[i] = load(state_of(b, n) + i * W);
      const V u = Plain::early(xg, hg, s, saved);
      store(u_of(t) + n * z.H + b * W, noise.drops() ? noise.seen<Real>(u, n, b) : u, lanes_of<Real>(z.H, b));
      UNROLL for (int i = 0; i < kEarly; i++) store(gates + (b * kEarly + i) * W, saved[i]);
    }
  }
  // The rest of the step at t in row n. c waits on the tape: h sees all of it, whatever zoneout keeps.
  void finish(long n, long t, const Real* x_gates) {
    const long row = kept(clock.row(t) + n);
    Real* h_gates = hg_of(n, kLast);
    normalise_row<kEnd>(h_gates, row, Cell::kHiddenNorm + kDone, panels.gain_hh[kLast], panels.b_hh[kLast]);
    for (int b = 0; b < blocks; b++) {
      V xg[G], hg[G], p[Q + 1], s[S], s_new[S] = {}, saved[Plain::kSaved] = {};  // p: there may be none
      UNROLL for (int g = kDone; g < G; g++) xg[g] = load(x_gates + (b * G + g) * W),
                                             hg[g] = load(h_gates + (b * kEnd + g - kDone) * W);
      if constexpr (kDone > 0) UNROLL for (int i = 0; i < kDone; i++) saved[i] = load(hg_of(n, 0) + (b * kDone + i) * W);
      UNROLL for (int i = 0; i < Q; i++) p[i] = load(panels.w_ch + (b * Q + i) * W);
      UNROLL for (int i = 0; i < S; i++) s[i] = load(state_of(b, n) + i * W);
      if constexpr (Cell::kNormC) {
        Plain::forward_c(xg, hg, p, s, s_new, saved);
        store(tape.state(b, row, 1), s_new[1]);
        UNROLL for (int i = 0; i < Plain::kSaved; i++) store(tape.at(b, row) + i * W, saved[i]);
      } else {
        Plain::forward(xg, hg, p, s, s_new, saved);
        leave(b, n, t, s_new, saved);
      }
    }
    if constexpr (Cell::kNormC) finish_h(n, t);
  }
  // h from the norm of c
  void finish_h(long n, long t) {
    const long row = kept(clock.row(t) + n);
    Real mean, *scale = tape.scale(row, Cell::kCNorm);
    moments<1>(z.H, &mean, scale, [&](int, int b) { return load(tape.state(b, row, 1)); });
    for (int b = 0; b < blocks; b++) {
      V s_new[S], saved[Plain::kSaved];
      UNROLL for (int i = 0; i < Plain::kSaved; i++) saved[i] = load(tape.at(b, row) + i * W);
      s_new[1] = load(tape.state(b, row, 1));
      const V v_hat = (s_new[1] - mean) * *scale;
      store(tape.v_hat(b, row, Cell::kCNorm), v_hat);
      Plain::forward_h(fma(load(panels.gain_c + b * W), v_hat, load(panels.b_c + b * W)), s_new, saved);
      leave(b, n, t, s_new, saved);
    }
  }
  INLINE void leave(int b, long n, long t, V* s_new, const V* saved) {
    const long row = clock.row(t) + n;
    UNROLL for (int i = 0; i < S; i++) {
      Real* state = state_of(b, n) + i * W;
      if (noise.zones() && (i || !projected())) s_new[i] = noise.zoned<Real>(i, load(state), s_new[i], t, n, b);
      store(state, s_new[i]);
      if (i > 0) store(tape.state(b, kept(row), i), s_new[i]);
    }
    store(projected() ? u_of(t) + n * z.H + b * W : a.y + row * a.y_row + b * W, s_new[0], lanes_of<Real>(z.H, b));
    if (noise.drops() && !projected()) see(b, n, s_new[0], seen_of(t));
    UNROLL for (int i = 0; i < Plain::kSaved; i++) store(tape.at(b, kept(row)) + i * W, saved[i]);
  }

  // With recurrent dropout: what W_hh sees of h after t, of its row 0 on; rows not yet begun have it of state_0.
  Real* seen_of(long t) const { return a.tape ? tape.seen + clock.row(t) * z.P : at.seen; }
  void see(int b, long n, V h, Real* seen) const {
    store(seen + n * z.P + b * W, noise.seen<Real>(h, n, b), lanes_of<Real>(z.P, b));
  }
  void see_state_0() const {
    for (int b = mine.h0; b < mine.h1; b++)
      for (long n = mine.n0; n < mine.n1; n++) see(b, n, load(state_of(b, n)), seen_0);
  }

  const ForwardArgs<Real>& a;
  const Sizes& z;
  Team& team;
  const int me, threads;
  const Clock clock;
  const RowNoise noise;
  const int blocks;
  const Share mine;
  const long row_size;  // values of all gates of a row
  const Layout at;
  Real* const hg;  // own
  const typename Base::States states;
  const Panels panels;
  const Tape tape;
  Real* const seen_0;  // what W_hh sees of state_0
};

}  // namespace fusedrnn::FUSEDRNN_ISA
