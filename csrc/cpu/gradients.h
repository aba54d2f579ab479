// SPDX-License-Identifier: MIT
// The gradients of one layer's weights, as one thread sums those of its own units, chunk by chunk while the gate gradients
// are warm. Each element is one chain from the last time step to the first: chunks of any length give the same bits.
#pragma once
#include "taped.h"

namespace fusedrnn::FUSEDRNN_ISA {

template <class Cell, class Real> class WeightGradients : Scan<Cell, Real> {
  using Base = Scan<Cell, Real>;
  using V = Vec<Real>;
  using Gates = GateGradients<Real>;
  using Base::W, Base::G, Base::S, Base::Q, Base::kLate, Base::kEarly;

 public:
  // One thread's memory, or with no base its size, for chunks of so many rows.
  struct Layout {
    Real* strip;          // a strip of the products' right factor
    const Real** hidden;  // h before each row
    Real* zeros;          // (P,)
    long size;
    Layout(Real* base, const Sizes& z, long rows) {
      constexpr long kPointer = sizeof hidden, kValue = sizeof *base;
      Arena<Real> arena{base};
      strip = arena.take(rows * kTileBlocks * W);
      hidden = reinterpret_cast<const Real**>(arena.take(rows * kPointer / kValue));
      zeros = arena.take(z.P);
      size = arena.used;
    }
  };
  const bool wanted;  // else none of them
  const Share own;    // of units, whoever scans which rows

  // Values of token_sum, where x is tokens: [block][G][token][W]
  static long token_sum_size(const Sizes& z) { return G * long(blocks_of<Real>(z.H)) * W * z.I; }

  WeightGradients(const BackwardArgs<Real>& args, const Clock& clock, const Taped<Cell, Real>& taped, const Layout& at,
                  Real* token_sum, const Share& own)
      : wanted(args.dweights.weight_ih != nullptr), own(own), a(args), z(args.size), clock(clock), taped(taped), at(at),
        sums(token_sum) {}

  void begin() {
    for (long i = 0; i < z.P; i++) at.zeros[i] = 0;
    if (wanted && a.tokens) for_token_sums([&](Real& sum, const Real& to) { sum = a.add ? to : 0; });
  }
  void end() {
    if (wanted && a.tokens) for_token_sums([](const Real& sum, Real& to) { to = sum; });
  }

  // d: gate gradients of the chunk; dh: with projection, those of its h; add: to what stands there
  void sum(const Chunk& chunk, const Gates& d, const Gates& dh, bool add) {
    if (!wanted) return;
    const RowOrder order{chunk.rows, !a.reverse};
    const Weights<Real>& out = a.dweights;
    if constexpr (!NormCell<Cell>) {  // else they come after the norms
      if (out.bias_ih) bias_gradient(d, Cell::kX, G, z.H, own.b0, own.b1, order, out.bias_ih, add);
      if (out.bias_hh) bias_gradient(d, Cell::kH, G, z.H, own.b0, own.b1, order, out.bias_hh, add);
    }
    const auto gradient = [&](const int* slot, int g0, int g1, const RowSource<Real>& source, Real* to, long K) {
      weight_gradient(d, slot, g0, g1, z.H, own.b0, own.b1, source, order, to, K, add, at.strip);
    };
    if constexpr (Q > 0) peepholes(chunk, d, order, add);
    if (a.tokens) tokens(chunk, d);
    else gradient(Cell::kX, 0, G, {a.x + chunk.first_row * z.I, z.I}, out.weight_ih, z.I);
    gradient(Cell::kH, 0, kEarly, taped.hidden_rows(chunk, at.hidden, at.zeros), out.weight_hh, z.P);
    if (kLate) gradient(Cell::kH, kEarly, G, taped.u_rows(chunk), out.weight_hh, z.H);
    if (Base::projected(z))
      weight_gradient(dh, kOneSlot, 0, 1, z.P, own.h0, own.h1, taped.u_rows(chunk), order, out.weight_hr, z.H, add, at.strip);
  }

 private:
  void peepholes(const Chunk& chunk, const Gates& d, const RowOrder& order, bool add) {
    for (int b = own.b0; b < own.b1; b++) {
      Real* out = a.dweights.weight_ch + b * W;
      const long lanes = lanes_of<Real>(z.H, b);
      V total[Q];
      UNROLL for (int i = 0; i < Q; i++) total[i] = add ? load(out + i * z.H, lanes) : V{};
      const auto add_row = [&](long n, long t) {
        V saved[Cell::kSaved], s[S];
        taped.load_step(b, n, t, saved, s);
        const long r = clock.row(t) + n - chunk.first_row;
        UNROLL for (int j = 0; j < Q; j++) total[j] =
            fma(load(d.at(b, Cell::kPeepholeGate[j], r)), Cell::peeped(j, saved, s), total[j]);
      };
      if (order.backwards)
        for (long t = chunk.last_time - 1; t >= chunk.first_time; t--)
          for (long n = clock.count(t) - 1; n >= 0; n--) add_row(n, t);
      else
        for (long t = chunk.first_time; t < chunk.last_time; t++)
          for (long n = 0; n < clock.count(t); n++) add_row(n, t);
      UNROLL for (int i = 0; i < Q; i++) store(out + i * z.H, total[i], lanes);
    }
  }

  // W_ih with token input: each row adds to one column, kept transposed until the end. The same chain over rows, hence the
  // same bits, as with one-hot rows.
  void tokens(const Chunk& chunk, const Gates& d) {
    const std::int64_t* tokens = a.tokens + chunk.first_row;
    for (int b = own.b0; b < own.b1; b++)
      for (int g = 0; g < G; g++)
        for (long i = 0; i < chunk.rows; i++) {
          const long r = a.reverse ? i : chunk.rows - 1 - i;
          Real* total = token_sum(b, g, tokens[r]);
          store(total, load(total) + load(d.at(b, Cell::kX[g], r)));
        }
  }
  Real* token_sum(int b, int g, long token) const { return sums + ((long(b) * G + g) * z.I + token) * W; }
  // f(sum, dweight) for every element of W_ih's own rows
  template <class F> void for_token_sums(F&& f) {
    for (int b = own.b0; b < own.b1; b++)
      for (int g = 0; g < G; g++)
        for (long u = 0; u < lanes_of<Real>(z.H, b); u++) {
          Real* row = a.dweights.weight_ih + (g * z.H + b * W + u) * z.I;
          for (long token = 0; token < z.I; token++) f(token_sum(b, g, token)[u], row[token]);
        }
  }

  const BackwardArgs<Real>& a;
  const Sizes& z;
  const Clock clock;
  const Taped<Cell, Real>& taped;
  const Layout at;
  Real* const sums;
};

}  // namespace fusedrnn::FUSEDRNN_ISA
