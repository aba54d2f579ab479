// SPDX-License-Identifier: MIT
// The input part of all gates for a chunk of time, x W_ih^T + b_ih, as one thread makes it for its own units and rows.
#pragma once
#include "panels.h"

namespace fusedrnn::FUSEDRNN_ISA {

template <class Cell, class Real> struct InputPart {
  static constexpr int W = kWidth<Real>, G = Cell::kGates;
  const ForwardArgs<Real>& a;
  const Panels<Cell, Real>& panels;
  const Clock& clock;
  const Share& mine;
  const int me;
  Real* const xg;  // [block][G][row][W], own rows of the chunk

  // Where threads split rows, each one's xg may hold its part of a chunk's rows, or a step of all its own: so many more than
  // its own, and the rows of all threads
  static long more_rows(const Sizes& z, const Plan& plan) {
    const long part = plan.chunk_rows / plan.threads, all = z.T * z.N;
    return part < all ? part : all;
  }
  static long rows_of_all(const Sizes& z, const Plan& plan) {
    return plan.by_rows ? z.N + plan.threads * more_rows(z, plan) : chunk_rows(z, plan);
  }

  // The chunk that begins with a step: the same for all threads, unless they split rows
  Chunk chunk_from(long first) const {
    if (!a.plan.by_rows) return clock.chunk_from(first, a.plan.chunk_rows);
    const long most = a.plan.chunk_rows / a.plan.threads;
    for (long last = first + 1;; last++)
      if (last == clock.T || rows(clock.chunk(first, last + 1)) > most) return clock.chunk(first, last);
  }
  // Rows of xg, and where row 0 of the step at t would be. Own rows of a step are as many as at its first time, or fewer.
  long rows(const Chunk& chunk) const {
    return a.plan.by_rows ? (chunk.last_time - chunk.first_time) * own(chunk.first_time) : chunk.rows;
  }
  long row(const Chunk& chunk, long t) const {
    return a.plan.by_rows ? (t - chunk.first_time) * own(chunk.first_time) - mine.n0 : clock.row(t) - chunk.first_row;
  }

  void run(const Chunk& chunk) const {
    if (a.tokens) gather(chunk);
    else if (panels.once) pack_and_multiply(chunk);
    else if (!a.plan.by_rows) product(of(chunk, whole(chunk)), 0, chunk.rows, mine.b0 * G, mine.b1 * G);
    else  // all runs by a group of panels while it is near
      for_groups(panels.input_groups.group, 0, panels.input_groups.last, [&](int n, int b) {
        for_runs(chunk, [&](const Run& run) { product(of(chunk, run), 0, run.rows, b, b + n); });
      });
  }

 private:
  // Rows of the chunk, and those of xg that are theirs, evenly apart
  struct Run { long rows, from, from_step, to, to_step; };
  static Run whole(const Chunk& chunk) { return {chunk.rows, 0, 1, 0, 1}; }

  long own(long t) const {
    const long end = mine.end(clock.count(t));
    return end > mine.n0 ? end - mine.n0 : 0;
  }

  // f(run) of those that this thread scans: of equal lengths with few own rows each over time, which gives larger tiles, else
  // step by step, or as many steps as have these rows alone
  template <class F> void for_runs(const Chunk& chunk, F&& f) const {
    if (!a.plan.by_rows) return f(whole(chunk));
    const long first = chunk.first_time, steps = chunk.last_time - first, most = own(first);
    if (!clock.first_row && most < steps) {
      for (long n = 0; n < most; n++) f(Run{steps, mine.n0 + n, clock.N, n, most});
      return;
    }
    for (long t = first, next; t < chunk.last_time; t = next) {
      const long rows = own(t);
      for (next = t + 1; rows == most && clock.count(t) == rows && next < chunk.last_time && clock.count(next) == rows;) next++;
      if (rows > 0) f(Run{rows * (next - t), clock.row(t) - chunk.first_row + mine.n0, 1, (t - first) * most, 1});
    }
  }

  Product<Real> of(const Chunk& chunk, const Run& run) const {
    const long I = a.size.I;
    return {.left = plain_left(a.x + (chunk.first_row + run.from) * I, run.from_step * I, 1, I),
            .panel = panels.w_ih,
            .groups = panels.input_groups,
            .init = {panels.b_ih, 0, W},
            .out = {xg + run.to * W, run.to_step * W, rows(chunk) * W},
            .columns = long(blocks_of<Real>(a.size.H)) * G * W};
  }

  // Each group of panels is packed where the one before lay.
  void pack_and_multiply(const Chunk& chunk) const {
    const Sizes& z = a.size;
    Product<Real> p = of(chunk, whole(chunk));
    Real* group = panels.w_ih + me * panels.input_groups.group * z.I * W;
    p.panel = group;
    for_groups(panels.input_groups.group, mine.b0 * G, mine.b1 * G, [&](int n, int v) {
      pack_units(GateRows<Real>{a.weights.weight_ih, z.H, z.I, G}, v, n, group);
      p.groups = {n, 0, n};
      p.init.data = panels.b_ih + v * W;
      p.out.data = xg + v * chunk.rows * W;
      p.columns = n * W;
      product(p, 0, chunk.rows, 0, n);
    });
  }

  // The product with one-hot rows: the same bits.
  void gather(const Chunk& chunk) const {
    const std::int64_t* tokens = a.tokens + chunk.first_row;
    for_group_parts(panels.input_groups, mine.b0 * G, mine.b1 * G, false, [&](int n, int first, int j0, int j1) {
      for (int v = first + j0; v < first + j1; v++) {
        const Vec<Real> bias = load(panels.b_ih + v * W);
        const Real* column = panels.w_ih + first * a.size.I * W + (v - first) * W;
        for_runs(chunk, [&](const Run& run) {
          Real* to = xg + (v * rows(chunk) + run.to) * W;
          for (long i = 0; i < run.rows; i++)
            store(to + i * run.to_step * W, bias + load(column + tokens[run.from + i * run.from_step] * n * W));
        });
      }
    });
  }
};

}  // namespace fusedrnn::FUSEDRNN_ISA
