// SPDX-License-Identifier: MIT
// Backpropagation through time for one layer with layer normalisation in one direction, as one thread runs it: the scan of
// backward.h with another step. Gate gradients are those of the cell (Plain's slots) and, behind the norms, of the two
// products; the products' are what W_hh, the gradients of weights and that of x see.
#pragma once
#include "backward.h"
#include "norm.h"

namespace fusedrnn::FUSEDRNN_ISA {

template <class Cell, class Real> class NormBackward : Backward<Cell, Real> {
  using Base = Backward<Cell, Real>;
  using Plain = typename Cell::Plain;
  using Tape = NormTape<Cell, Real>;
  using V = Vec<Real>;
  using Gates = GateGradients<Real>;
  using Step = typename Base::Step;
  using Base::a, Base::z, Base::noise, Base::me, Base::clock, Base::mine, Base::at, Base::weights;
  using Base::du_of, Base::ds_of, Base::load_step, Base::projected;
  using Base::W, Base::S, Base::D, Base::Q, Base::kLate, Base::kEarly;
  static constexpr int G = Cell::kGates;
  static constexpr int kOfC[] = {D - 1};  // the slot of LN(c; γ_c) + β_c, if there is one

 public:
  static long size(const BackwardArgs<Real>& a) { return Base::size(a) + Gains(nullptr, a.size).size; }

  NormBackward(const BackwardArgs<Real>& args, Team& team, int me)
      : Base(args, team, me), blocks(blocks_of<Real>(z.H)), gains(a.workspace + Base::size(a), z),
        tape(const_cast<Real*>(a.tape), z, clock.row(z.T), a.form.noise) {}

  void run() {
    if (me == 0) gains.pack(a.weights, z.H);
    Base::run([&](long t, const Step& now) { take_step(t, now); }, [&](auto&&... of) { norm_gradients(of...); });
  }

 private:
  struct Gains {
    Real *ih, *hh;  // [block][G][W]
    Real* c;        // [block][W]
    long size;
    Gains(Real* base, const Sizes& z) {
      const long units = long(blocks_of<Real>(z.H)) * W;
      Arena<Real> arena{base};
      ih = arena.take(units * G);
      hh = arena.take(units * G);
      c = arena.take(Cell::kNormC * units);
      size = arena.used;
    }
    void pack(const Weights<const Real>& w, long H) const {
      pack_bias(w.weight_ln_ih, H, G, 0, blocks_of<Real>(H), ih);
      pack_bias(w.weight_ln_hh, H, G, 0, blocks_of<Real>(H), hh);
      if constexpr (Cell::kNormC) pack_bias(w.weight_ln_ch, H, 1, 0, blocks_of<Real>(H), c);
    }
  };

  void take_step(long t, const Step& step) {
    const Gates& now = step.d;
    const long count = step.count;
    for (long n = mine.n0; n < mine.end(count); n++) {
      const NormBack<Real> back_c = back_to_c(n, t, now);
      back_to_gates(n, t, now, back_c);
    }
    if constexpr (kLate > 0) {
      if (mine.end(count) > mine.n0)
        Base::hidden_product(now, count, kEarly, kLate, at.w_hh[1], Base::du.place(), false, t % 2);
      for (long n = mine.n0; n < mine.end(count); n++) back_to_early(n, t, now);
    }
  }

  // What the cell's backward reads, with dy; and what zoneout lets pass by the cell
  INLINE void load_all(int b, long n, long t, V* saved, V* s, V* ds, V* passes) const {
    load_step(b, n, t, saved, s, ds);
    if (a.dy && !projected()) ds[0] += load(a.dy + (clock.row(t) + n) * a.dy_row + b * W, lanes_of<Real>(z.H, b));
    if (noise.zones()) UNROLL for (int i = projected(); i < S; i++) passes[i] = noise.template split<Real>(i, ds[i], t, n, b);
  }
  static V v_hat(const V* saved, int norm) { return saved[Plain::kSaved + norm]; }

  // From h to LN(c), whose gradient it leaves in its slot
  NormBack<Real> back_to_c(long n, long t, const Gates& now) const {
    if constexpr (!Cell::kNormC) return {};
    else {
      UnitMeans<2, Real> means(z.H);
      for (int b = 0; b < blocks; b++) {
        V saved[Cell::kSaved], s[S], ds[S], passes[S], d[Plain::kGrads];
        load_all(b, n, t, saved, s, ds, passes);
        const V out = Plain::backward_h(saved, ds[0], V{}, d), scaled = load(gains.c + b * W) * out;
        store(now.at(b, kOfC[0], n), out);
        means.add(0, b, scaled);
        means.add(1, b, scaled * v_hat(saved, Cell::kCNorm));
      }
      return {means.mean(0), means.mean(1), *tape.scale(clock.row(t) + n, Cell::kCNorm)};
    }
  }

  // The cell's backward, then that of the norms of its gates; with late gates only of their hidden parts, by which u has its
  // gradient
  void back_to_gates(long n, long t, const Gates& now, const NormBack<Real>& back_c) const {
    constexpr int kFirst = kLate ? 2 * G - kLate : 0;
    NormSums<kFirst, 2 * G> sums(z.H);
    for (int b = 0; b < blocks; b++) {
      V saved[Cell::kSaved], p[Q + 1], s[S], ds[S], passes[S] = {}, d[Plain::kGrads];
      load_all(b, n, t, saved, s, ds, passes);
      UNROLL for (int i = 0; i < Q; i++) p[i] = load(a.weights.weight_ch + i * z.H + b * W, lanes_of<Real>(z.H, b));
      if constexpr (Cell::kNormC) {
        const V out = load(gains.c + b * W) * load(now.at(b, kOfC[0], n));
        Plain::backward_h(saved, ds[0], V{}, d);
        Plain::backward_c(saved, p, s, ds[1] + back_c(out, v_hat(saved, Cell::kCNorm)), ds, d);
      } else {
        Plain::backward(saved, p, s, ds, d);
      }
      UNROLL for (int i = kLate ? 1 : 0; i < Plain::kGrads; i++) store(now.at(b, i, n), d[i]);
      UNROLL for (int i = 0; i < S; i++) store(ds_of(b, n) + i * W, noise.zones() ? ds[i] + passes[i] : ds[i]);
      add(sums, b, d, saved);
    }
    back_through(sums, n, t, now);
  }
  // The rest, from the gradient of u
  void back_to_early(long n, long t, const Gates& now) const {
    NormSums<0, 2 * G - kLate> sums(z.H);
    for (int b = 0; b < blocks; b++) {
      V saved[Cell::kSaved], s[S], ds[S], d[Plain::kGrads];
      load_step(b, n, t, saved, s, ds);
      Plain::early_backward(saved, s, du_of(b, n), ds, d);
      store(now.at(b, 0, n), d[0]);
      store(ds_of(b, n), ds[0]);
      UNROLL for (int i = 1; i < Plain::kGrads; i++) d[i] = load(now.at(b, i, n));
      add(sums, b, d, saved);
    }
    back_through(sums, n, t, now);
  }

  // Of norms kFrom to kTo: those of the input parts, from 0 on, then those of the hidden parts, from G on
  template <int kFrom, int kTo> struct NormSums {
    UnitMeans<kTo - kFrom, Real> means, along;
    explicit NormSums(long H) : means(H), along(H) {}
  };
  template <int kFrom, int kTo> INLINE void add(NormSums<kFrom, kTo>& sums, int b, const V* d, const V* saved) const {
    UNROLL for (int i = kFrom; i < kTo; i++) {
      const V scaled = gain(b, i) * d[slot(i)];
      sums.means.add(i - kFrom, b, scaled);
      sums.along.add(i - kFrom, b, scaled * v_hat(saved, i));
    }
  }
  template <int kFrom, int kTo> void back_through(NormSums<kFrom, kTo>& sums, long n, long t, const Gates& now) const {
    const long row = clock.row(t) + n;
    NormBack<Real> back[kTo - kFrom];
    for (int i = kFrom; i < kTo; i++)
      back[i - kFrom] = {sums.means.mean(i - kFrom), sums.along.mean(i - kFrom), *tape.scale(row, i)};
    for (int b = 0; b < blocks; b++)
      for (int i = kFrom; i < kTo; i++)
        store(now.at(b, Cell::kFirstX + i, n),
              back[i - kFrom](gain(b, i) * load(now.at(b, slot(i), n)), load(tape.v_hat(b, row, i))));
  }
  // Of gate i of the input parts, or i - G of the hidden parts
  INLINE V gain(int b, int i) const { return load((i < G ? gains.ih : gains.hh) + (b * G + i % G) * W); }
  static constexpr int slot(int i) { return i < G ? Plain::kX[i] : Plain::kH[i - G]; }

  // Sums over rows, for own units, as those of gradients.h
  void norm_gradients(const Chunk& chunk, const Gates& d, bool add) const {
    const int b0 = weights.own.b0, b1 = weights.own.b1;
    const RowOrder order{chunk.rows, !a.reverse};
    const Weights<Real>& out = a.dweights;
    if (out.bias_ih) bias_gradient(d, Plain::kX, G, z.H, b0, b1, order, out.bias_ih, add);
    if (out.bias_hh) bias_gradient(d, Plain::kH, G, z.H, b0, b1, order, out.bias_hh, add);
    for (int b = b0; b < b1; b++) {
      gain_gradient<G>(chunk, d, b, Plain::kX, Cell::kInputNorm, order, out.weight_ln_ih, add);
      gain_gradient<G>(chunk, d, b, Plain::kH, Cell::kHiddenNorm, order, out.weight_ln_hh, add);
      if constexpr (Cell::kNormC) gain_gradient<1>(chunk, d, b, kOfC, Cell::kCNorm, order, out.weight_ln_ch, add);
    }
    if constexpr (Cell::kNormC) bias_gradient(d, kOfC, 1, z.H, b0, b1, order, out.bias_ln_ch, add);
  }
  template <int kCount>
  void gain_gradient(const Chunk& chunk, const Gates& d, int b, const int* slots, int norm, const RowOrder& order, Real* out,
                     bool add) const {
    const long lanes = lanes_of<Real>(z.H, b);
    V total[kCount];
    UNROLL for (int i = 0; i < kCount; i++) total[i] = add ? load(out + i * z.H + b * W, lanes) : V{};
    for (long k = 0; k < order.rows; k++) {
      const long r = order.backwards ? order.rows - 1 - k : k;
      UNROLL for (int i = 0; i < kCount; i++) total[i] =
          fma(load(d.at(b, slots[i], r)), load(tape.v_hat(b, chunk.first_row + r, norm + i)), total[i]);
    }
    UNROLL for (int i = 0; i < kCount; i++) store(out + i * z.H + b * W, total[i], lanes);
  }

  const int blocks;
  const Gains gains;
  const Tape tape;
};

}  // namespace fusedrnn::FUSEDRNN_ISA
