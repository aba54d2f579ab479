// SPDX-License-Identifier: MIT
#include "dense.h"

namespace fusedrnn::FUSEDRNN_ISA {
namespace {

// n column blocks of all rows, [row][n][W]
template <class Real> void pack_strip(const RowSource<Real>& source, long rows, long K, int first, int n, Real* strip) {
  constexpr int W = kWidth<Real>;
  for (long i = 0; i < rows; i++) {
    const Real* row = source.row(i);
    for (int j = 0; j < n; j++, strip += W) store(strip, load(row + (first + j) * W, K - (first + j) * W));
  }
}

}  // namespace

template <class Real>
void weight_gradient(const GateGradients<Real>& d, const int* slot, int g0, int g1, long H, int b0, int b1,
                     const RowSource<Real>& source, RowOrder order, Real* dweight, long K, bool add, Real* strip) {
  constexpr int W = kWidth<Real>;
  const long start = order.backwards ? order.rows - 1 : 0, step = order.backwards ? -1 : 1;
  for_groups(kTileBlocks, 0, blocks_of<Real>(K), [&](int n, int first) {
    pack_strip(source, order.rows, K, first, n, strip);
    for (int b = b0; b < b1; b++)
      for (int g = g0; g < g1; g++) {
        Real* out = dweight + (g * H + b * W) * K + first * W;
        product(Product<Real>{.left = plain_left<Real>(d.at(b, slot[g], start), 1, step * W, order.rows),
                              .panel = strip,
                              .groups = {kTileBlocks, 0, n},
                              .init = {add ? out : nullptr, K, W},
                              .out = {out, K, W},
                              .columns = K - first * W,
                              .panel_step = step},
                0, lanes_of<Real>(H, b), 0, n);
      }
  });
}

template <class Real>
void bias_gradient(const GateGradients<Real>& d, const int* slot, int gates, long H, int b0, int b1, RowOrder order,
                   Real* dbias, bool add) {
  constexpr int W = kWidth<Real>;
  for (int b = b0; b < b1; b++)
    for (int g = 0; g < gates; g++) {
      Real* out = dbias + g * H + b * W;
      const Real* row = d.at(b, slot[g], 0);
      Vec<Real> sum = add ? load(out, lanes_of<Real>(H, b)) : Vec<Real>{};
      for (long i = 0; i < order.rows; i++) sum += load(row + (order.backwards ? order.rows - 1 - i : i) * W);
      store(out, sum, lanes_of<Real>(H, b));
    }
}

#define INSTANTIATE(Real)                                                                                                 \
  template void weight_gradient(const GateGradients<Real>&, const int*, int, int, long, int, int, const RowSource<Real>&, \
                                RowOrder, Real*, long, bool, Real*);                                                      \
  template void bias_gradient(const GateGradients<Real>&, const int*, int, long, int, int, RowOrder, Real*, bool);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace fusedrnn::FUSEDRNN_ISA
