// The plain product and the weights' gradients, for both types; compiled once per instruction set.
#include "dense.h"

namespace fusedrnn::FUSEDRNN_ISA {
namespace {

template <int kRows, int kBlocks, class Real>
[[gnu::noinline]] void tile(const Product<Real>& p, long r, int b) {
  constexpr int W = kWidth<Real>;
  // The sums are indexed by constants only, or they would live in memory; `edge` takes the partial loads and stores.
  Vec<Real> acc[kRows][kBlocks], edge[kRows][kBlocks] = {};
  const long columns = p.columns - b * W;
  if (p.init)
    for (int i = 0; i < kRows; i++)
      for (int j = 0; j < kBlocks; j++) edge[i][j] = load(p.init + (r + i) * p.init_row + (b + j) * p.init_block, columns - j * W);
  UNROLL for (int i = 0; i < kRows; i++) UNROLL for (int j = 0; j < kBlocks; j++) acc[i][j] = edge[i][j];

  const Left<Real>& a = p.left;
  const long length = a.length(), w_k = p.panel_step * kBlocks * W;
  const Real* w = p.panel + b * length * W + (p.panel_step < 0 ? (length - 1) * kBlocks * W : 0);
  for (int g = 0; g < a.gates; g++) {
    const Real* gate = a.data + r * a.row + (a.slot ? a.slot[g] : g) * a.slot_stride;
    for (int u = 0; u < a.blocks; u++) {
      const long run = u + 1 < a.blocks ? a.run : a.last_run;
      multiply<kRows, kBlocks>(acc, gate + u * a.block_stride, a.row, a.step, run, w, w_k);
      w += run * w_k;
    }
  }
  UNROLL for (int i = 0; i < kRows; i++) UNROLL for (int j = 0; j < kBlocks; j++) edge[i][j] = acc[i][j];
  for (int i = 0; i < kRows; i++)
    for (int j = 0; j < kBlocks; j++) store(p.out + (r + i) * p.out_row + (b + j) * p.out_block, edge[i][j], columns - j * W);
}

template <int kRows, int kBlocks, class Real> void group(const Product<Real>& p, long r0, long r1, int n, int b) {
  with_count<kBlocks>(n, [&](auto blocks) {
    for_row_tiles<kRows>(r0, r1, [&](auto rows, long r) { tile<rows.value, blocks.value>(p, r, b); });
  });
}

}  // namespace

template <class Real> void product(const Product<Real>& p, long r0, long r1, int b0, int b1) {
  for_groups(p.group, b0, b1, [&](int n, int b) {
    if (p.group == kWideBlocks) group<kWideRows, kWideBlocks>(p, r0, r1, n, b);
    else group<kTileRows, kTileBlocks>(p, r0, r1, n, b);
  });
}
template void product(const Product<float>&, long, long, int, int);
template void product(const Product<double>&, long, long, int, int);

}  // namespace fusedrnn::FUSEDRNN_ISA
