// SPDX-License-Identifier: MIT
// The forward scan of one layer in one direction, as one thread runs it.
//
// The input part of all gates is computed for a chunk of time; then, step by step, a register tile multiplies h by the
// panels of all gates of the same units, and the cell finishes while the sums are in registers.
#pragma once
#include "input.h"
#include "panels.h"
#include "projection.h"
#include "step.h"

namespace fusedrnn::FUSEDRNN_ISA {

template <class Cell, class Real> class Forward : Scan<Cell, Real> {
  using Base = Scan<Cell, Real>;
  using V = Vec<Real>;
  using Tape = typename Base::Tape;
  using Input = InputPart<Cell, Real>;
  using Base::W, Base::G, Base::S, Base::Q, Base::kLate, Base::kEarly, Base::kTaped;

 public:
  static long size(const ForwardArgs<Real>& a) {
    return Layout(nullptr, a).size + (a.panels ? 0 : own_panels(nullptr, a, {}).size);
  }

  Forward(const ForwardArgs<Real>& args, Team& team, int me)
      : a(args), z(args.size), team(team), me(me), threads(team.size()), clock(clock_of(a)), noise(a.form.noise),
        mine(share<Real>(a.plan, z, clock, me, threads)), at(a.workspace, a), tape(at.tape),
        xg(at.xg.own(mine, me, Input::more_rows(z, a.plan))), states(at.state, mine, me),
        panels(a.panels ? Panels<Cell, Real>(const_cast<Real*>(a.panels), z, share_of_units<Real>(z, 0, 1), a.panel_rows,
                                             a.panel_rows)
                        : own_panels(a.workspace + at.size, a, mine)),
        input{a, panels, clock, mine, me, xg} {}

  void run() {
    if (!a.panels) pack();
    Base::load_states(mine, z, a.state_0, states);
    if (a.tape) Base::store_states(mine, z, states, tape.state_0);
    if (noise.drops()) see_state_0();
    for (long first = 0; first < z.T;) {
      const Chunk chunk = input.chunk_from(first);
      input.run(chunk);
      for (; first < chunk.last_step; first++) take_step(chunk, first);
    }
    Base::store_states(mine, z, states, a.state_n, Base::projected(z));  // project() has stored h
  }

 private:
  struct Layout {
    Pieces<Real> xg;      // [block][G][row in chunk][W]
    Pieces<Real> state;   // [block][n][S][W]
    Tape tape;            // the caller's; in inference what is handed over within a step, and `seen` of two steps in turns
    long size;
    Layout(Real* base, const ForwardArgs<Real>& a) : tape(a.tape, a.size, clock_of(a).row(a.size.T), a.form.noise) {
      const Sizes& z = a.size;
      const long vectors = long(blocks_of<Real>(z.H)) * W;
      Arena<Real> arena{base};
      xg = take_pieces(arena, a.plan, Input::rows_of_all(z, a.plan), vectors * G);
      state = take_pieces(arena, a.plan, z.N, vectors * S);
      if (!a.tape) {
        tape.rows = z.N;
        if (kLate) tape.taped = arena.take(vectors * kTaped * z.N);
        if (kLate || z.projected()) tape.u = arena.take(z.N * z.H);
        if (a.form.noise.dropout > 0) tape.seen = arena.take(2 * z.N * z.P), tape.seen_0 = arena.take(z.N * z.P);
      }
      size = arena.used;
    }
  };
  // In the workspace, unless they come packed. A sequence of one chunk needs W_ih once.
  static Panels<Cell, Real> own_panels(Real* base, const ForwardArgs<Real>& a, const Share& mine) {
    const Sizes& z = a.size;
    const bool once = is_one_chunk(z, a.plan) && !a.plan.by_rows && !a.tokens;
    const long rows = a.plan.by_rows ? z.N / a.plan.threads : z.N;
    return {base, z, mine, chunk_rows(z, a.plan), rows, once ? a.plan.threads : 0};
  }

  void pack() {
    panels.pack(a.weights, z, a.plan.by_rows, me, threads);
    if (a.plan.by_rows) team.wait(me);
  }

  // What W_hh sees of state_0; others read it in the first step
  void see_state_0() {
    const Real* h = a.state_0[0];
    for (int b = mine.h0; b < mine.h1; b++)
      for (long n = mine.n0; n < mine.n1; n++) {
        const long at_n = n * z.P + b * W, lanes = lanes_of<Real>(z.P, b);
        store(tape.seen_0 + at_n, h ? noise.seen<Real>(load(h + at_n, lanes), n, b) : V{}, lanes);
      }
    if (!a.plan.by_rows) team.wait(me);
  }

  struct Step {
    long t, row, taped_row, xg_row, xg_rows;  // of batch row 0; rows that xg has
    long unread;                                    // so many rows go on, and no step reads their state
    Real* out;  // h, or u where it is projected
    long out_row;
  };

  void take_step(const Chunk& chunk, long step) {
    const long t = clock.time(step), before = clock.before(t), row = clock.row(t), count = clock.count(t);
    const long going_on = clock.going_on(t);  // the others have the state before from the caller
    const long taped_row = a.tape ? row : 0;
    const bool projected = Base::projected(z);
    Real *const y = a.y + row * a.y_row, *const u = tape.u ? tape.u + taped_row * z.H : nullptr;
    const long unread = Cell::kReadsStates || noise.zones() ? 0 : clock.count(clock.after(t));
    const Step s{
        t, row, taped_row, input.row(chunk, t), input.rows(chunk), unread, projected ? u : y, projected ? z.H : a.y_row};
    if (noise.drops()) {
      stage<0>(s, 0, going_on, seen_at(before), z.P);
      stage<0>(s, going_on, count, tape.seen_0, z.P);
    } else {
      stage<0>(s, 0, going_on, y_at(before), a.y_row);
      stage<0>(s, going_on, count, a.state_0[0], z.P);
    }
    if constexpr (kLate > 0) {
      if (!a.plan.by_rows) team.wait(me);
      stage<1>(s, 0, count, u, z.H);
    }
    if (projected) {
      if (!a.plan.by_rows) team.wait(me);
      project(a, clock, panels.w_hr, panels.h_groups, mine, t, u, seen_at(t));
    }
    if (!a.plan.by_rows) team.wait(me);
  }

  Real* seen_at(long t) const {
    return !tape.seen || t < 0 || t >= z.T ? nullptr : tape.seen + (a.tape ? clock.row(t) : t % 2 * z.N) * z.P;
  }
  const Real* y_at(long t) const { return t < 0 || t >= z.T ? nullptr : a.y + clock.row(t) * a.y_row; }

  // Own units of own rows among r0..r1; h is that of row 0.
  template <int kStage> void stage(const Step& s, long r0, long r1, const Real* h, long h_row) {
    const long n0 = mine.n0 > r0 ? mine.n0 : r0, n1 = mine.end(r1);
    if (n0 >= n1) return;
    constexpr int g = gates_of<Cell>(kStage), kMostRows = step_rows(g);
    const long block = g * z.P * W, tiles = (n1 - n0 + kMostRows - 1) / kMostRows;
    const bool scattered = n1 - n0 <= kScattered, down = s.t % 2,
               near = tiles == 1 || (mine.b1 - mine.b0) * block * long(sizeof(Real)) < kNearBytes;
    for_group_parts(panels.groups[kStage], mine.b0, mine.b1, down, [&](int n, int b, int j0, int j1) {
      const Group next = near ? Group{} : group_after(panels.groups[kStage], b, mine.b0, mine.b1, down);
      Ahead<Real> ahead;
      if (next.n) {
        constexpr int most = step_blocks(g, kMostRows);
        ahead = {panels.w_hh[kStage] + next.first * block, next.n * block,
                 tiles * ((j1 - j0 + most - 1) / most) * ((z.P + kRun - 1) / kRun)};
      }
      for_row_tiles<kMostRows>(n0, n1, [&](auto rows, long row) {
        constexpr int kBlocks = step_blocks(g, rows.value), kMostSums = rows.value * kBlocks * g;
        const StepTile<Real> tile{.bias = panels.b_hh[kStage] + b * g * W,
                                  .h = h ? h + row * h_row : nullptr,
                                  .h_row = h_row,
                                  .K = z.P,
                                  .panel = panels.w_hh[kStage] + b * block};
        for_groups(kBlocks, j0, j1, [&](int count, int j) {
          V sums[kMostSums];  // [row][block][gate]
          if (scattered) fetch_tile<kStage>(s, row, b + j, rows.value, count);
          group_sums<rows.value>(tile, panels.vectors[kStage], n * g, j * g, (j + count) * g, ahead, sums);
          finish_tile<kStage>(s, row, b + j, rows.value, count, sums);
        });
      });
    });
  }

  // What the cell will read of the chunk's input part, brought near while the tile multiplies: few rows of a gate and block
  // are a piece too short for the hardware to foresee.
  static constexpr long kScattered = 8;
  template <int kStage> INLINE void fetch_tile(const Step& s, long n, int b, int rows, int count) const {
    for (int v = b * G + first_gate<Cell>(kStage); count > 0; v += G, count--)
      for (int g = 0; g < gates_of<Cell>(kStage); g++) {
        const Real* p = xg + ((v + g) * s.xg_rows + s.xg_row + n) * W;
        for (int r = 0; r < rows; r += kLineRows) __builtin_prefetch(p + r * W);
      }
  }

  // The cell in the tile's rows n.. and blocks b..; a function of its own, that tiles of all sizes share.
  template <int kStage> [[gnu::noinline]] void finish_tile(const Step& s, long n, int b, int rows, int count, const V* sums) {
    for (int i = 0, r = 0, j = 0; i < rows * count;
         i++, sums += gates_of<Cell>(kStage)) {  // one loop: constants stay in registers
      finish<kStage>(s, n + r, b + j, sums);
      if (++j == count) j = 0, r++;
    }
  }

  template <int kStage> INLINE void finish(const Step& step, long n, int b, const V* sums) {
    constexpr int first = first_gate<Cell>(kStage), count = gates_of<Cell>(kStage), kDone = kStage ? kEarly : 0;
    V x[G], hg[G], s[S], s_new[S], saved[Cell::kSaved];
    UNROLL for (int g = 0; g < count; g++) {
      hg[first + g] = sums[g];
      x[first + g] = load(xg + ((b * G + first + g) * step.xg_rows + step.xg_row + n) * W);
    }
    Real* state = states.at(b, n);
    Real* taped = tape.taped ? tape.at(b, step.taped_row + n) : nullptr;
    UNROLL for (int i = 0; i < S; i++) s[i] = load(state + i * W);
    if (a.form.resets && a.form.resets[step.row + n]) {
      UNROLL for (int i = 0; i < S; i++) s[i] = V{};
      if constexpr (kStage == 0)  // as from h = 0
        UNROLL for (int g = 0; g < count; g++) hg[g] = load(panels.b_hh[0] + (b * count + g) * W);
    }
    if constexpr (kDone > 0) UNROLL for (int i = 0; i < kDone; i++) saved[i] = load(taped + i * W);
    if constexpr (kLate > 0 && kStage == 0) {
      const V u = Cell::early(x, hg, s, saved);
      store(tape.u + (step.taped_row + n) * z.H + b * W, noise.drops() ? noise.seen<Real>(u, n, b) : u, lanes_of<Real>(z.H, b));
      UNROLL for (int i = 0; i < kEarly; i++) store(taped + i * W, saved[i]);
    } else {
      V p[Q + 1];  // one more, for there may be none
      UNROLL for (int i = 0; i < Q; i++) p[i] = load(panels.w_ch + (b * Q + i) * W);
      Cell::forward(x, hg, p, s, s_new, saved);
      if (noise.zones())
        UNROLL for (int i = Base::projected(z); i < S; i++) s_new[i] = noise.zoned<Real>(i, s[i], s_new[i], step.t, n, b);
      if (Cell::kReadsStates || n >= step.unread) UNROLL for (int i = 0; i < S; i++) store(state + i * W, s_new[i]);
      store(step.out + n * step.out_row + b * W, s_new[0], lanes_of<Real>(z.H, b));
      if (noise.drops() && !Base::projected(z))
        store(seen_at(step.t) + n * z.H + b * W, noise.seen<Real>(s_new[0], n, b), lanes_of<Real>(z.H, b));
      if (!taped) return;
      UNROLL for (int i = kDone; i < Cell::kSaved; i++) store(taped + i * W, saved[i]);
      for (int i = 1; i < S; i++) store(taped + (Cell::kSaved + i - 1) * W, s_new[i]);
    }
  }

  const ForwardArgs<Real>& a;
  const Sizes& z;
  Team& team;
  const int me, threads;
  const Clock clock;
  const RowNoise noise;
  const Share mine;
  const Layout at;
  const Tape& tape;
  Real* const xg;  // own
  const typename Base::States states;
  const Panels<Cell, Real> panels;
  const Input input;
};

}  // namespace fusedrnn::FUSEDRNN_ISA
