// SPDX-License-Identifier: MIT
// The product inside the step: kRows batch rows times kOut * kUnits rows of weights, over K columns. A chunk of columns is
// copied to shared memory while the one before is multiplied; its columns are split between the warps, whose partial sums
// are added in their order by sum(): the same bits in every run.
#pragma once
#include "math.h"
#include "params.h"

namespace fusedrnn::cuda {

template <class Real> constexpr int kChunk = 4 * kDepth * kWarps / sizeof(Real);  // 512 bytes: both types fit 99 KB
template <class Real> constexpr int kPiece = 16 / sizeof(Real);  // values in the 16 bytes of one copy
template <class Real> constexpr int kPad = kPiece<Real>;         // between rows in shared memory, against bank conflicts

// Rows of K columns, `row` values apart.
template <class Real> struct Rows {
  const Real* data;
  long row;
};

// The weights of one block: fetched chunk by chunk, or in shared memory for the whole loop. Two pointers, so that the compiler
// knows which memory is read.
template <class Real> struct Panel {
  Rows<Real> source;
  const Real* kept;  // rows kept_row apart
  int kept_row;
  bool resident;

  // From this row and this column on
  __device__ Panel from(int row, int column) const {
    return {.source = {source.data + row * source.row + column, source.row},
            .kept = kept + (resident ? row * kept_row + column : 0),
            .kept_row = kept_row,
            .resident = resident};
  }
};

// What a block needs for tiles of at most `outs` times kUnits rows of weights.
template <class Real> struct TileMemory {
  static constexpr int kRow = kChunk<Real> + kPad<Real>;
  Real *a, *w;     // (2, kRows, kRow), (2, outs * kUnits, kRow); w is empty with resident weights
  float* partial;  // (kWarps, outs, kRows, kUnits)

  __device__ TileMemory(simt::Shared& shared, int outs, bool resident)
      : a(shared.take<Real>(2 * kRows * kRow)), w(shared.take<Real>(resident ? 0 : 2 * outs * kUnits * kRow)),
        partial(shared.take<float>(kWarps * outs * kRows * kUnits)) {}
  static std::size_t bytes(int outs, bool resident) {
    return simt::shared_bytes<Real>(2 * kRows * kRow) + (resident ? 0 : simt::shared_bytes<Real>(2 * outs * kUnits * kRow)) +
           simt::shared_bytes<float>(kWarps * outs * kRows * kUnits);
  }
};

// `rows` rows of `columns` columns from k0 on into shared memory, zeros for rows from `valid` on; whole block. Nothing, if
// columns is less than 1.
template <class Real> __device__ void stage(Real* to, int to_row, Rows<Real> from, int rows, int valid, int k0, int columns) {
  const int pieces = columns / kPiece<Real>;
  for (int i = threadIdx.x; i < rows * pieces; i += kThreads) {
    const int r = i / pieces, column = i % pieces * kPiece<Real>;
    simt::cp_async16(to + r * to_row + column, from.data + (r < valid ? r * from.row : 0) + k0 + column, r < valid);
  }
}

// `rows` rows of K columns, kept in shared memory if asked: then copied in one group with the first tile's first chunk.
template <class Real>
__device__ Panel<Real> load_panel(simt::Shared& shared, const Real* data, int rows, int K, bool resident) {
  const Rows<Real> source{data, K};
  const int row = resident ? K + kPad<Real> : 0;
  Real* kept = shared.take<Real>(rows * row);
  if (resident) stage(kept, row, source, rows, rows, 0, K);
  return {.source = source, .kept = kept, .kept_row = row, .resident = resident};
}
template <class Real> std::size_t panel_bytes(int rows, int K) { return simt::shared_bytes<Real>(rows * (K + kPad<Real>)); }

// One warp's share of a chunk: acc[o][i] belongs to the row and the unit that locate() gives.
template <class Real, int kOut> struct WarpProduct;

template <int kOut> struct WarpProduct<float, kOut> {
  float acc[kOut][4] = {};

  __device__ static void locate(int lane, int i, int& row, int& unit) { row = (lane >> 3) + 4 * i, unit = lane & 7; }
  __device__ void add(const float* a, int a_row, const float* w, int w_row, int lane) {
    UNROLL_TWICE for (int k = 0; k < kDepth; k += 4) {  // all four would not fit the registers
      float4 row[4];
      UNROLL
      for (int i = 0; i < 4; i++) row[i] = *reinterpret_cast<const float4*>(a + ((lane >> 3) + 4 * i) * a_row + k);
      UNROLL
      for (int o = 0; o < kOut; o++) {
        const float4 unit = *reinterpret_cast<const float4*>(w + (o * kUnits + (lane & 7)) * w_row + k);
        UNROLL
        for (int i = 0; i < 4; i++) {
          acc[o][i] = fmaf(row[i].x, unit.x, acc[o][i]);
          acc[o][i] = fmaf(row[i].y, unit.y, acc[o][i]);
          acc[o][i] = fmaf(row[i].z, unit.z, acc[o][i]);
          acc[o][i] = fmaf(row[i].w, unit.w, acc[o][i]);
        }
      }
    }
  }
};

// Fragments of mma.sync m16n8k16 as the PTX ISA lays them out.
template <int kOut> struct WarpProduct<simt::bf16, kOut> {
  float acc[kOut][4] = {};

  __device__ static void locate(int lane, int i, int& row, int& unit) {
    row = (lane >> 2) + 8 * (i >> 1), unit = 2 * (lane & 3) + (i & 1);
  }
  __device__ void add(const simt::bf16* a, int a_row, const simt::bf16* w, int w_row, int lane) {
    std::uint32_t rows[4];
    simt::ldmatrix(rows, a + (lane & 15) * a_row + (lane >> 4) * 8);
    UNROLL
    for (int o = 0; o < kOut; o++) {
      std::uint32_t units[2];
      simt::ldmatrix(units, w + (o * kUnits + (lane & 7)) * w_row + ((lane >> 3) & 1) * 8);
      simt::mma_bf16(acc[o], rows, units, acc[o]);
    }
  }
};

// Of rows first to N - 1 of a, and of all rows of the panel, K columns. Whole block; then sum() has the results until the
// next tile's barrier.
template <int kOut, class Real>
__device__ void tile_product(const TileMemory<Real>& memory, const Rows<Real>& a, int first, int N, const Panel<Real>& panel,
                             int K) {
  constexpr int kRow = TileMemory<Real>::kRow;
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, chunks = (K + kChunk<Real> - 1) / kChunk<Real>;
  const Rows<Real> tile{a.data + first * a.row, a.row};
  const auto fetch = [&](int chunk) {
    const int k0 = chunk * kChunk<Real>, columns = min(kChunk<Real>, K - k0), buffer = chunk & 1;
    stage(memory.a + buffer * kRows * kRow, kRow, tile, kRows, N - first, k0, columns);
    if (!panel.resident)
      stage(memory.w + buffer * kOut * kUnits * kRow, kRow, panel.source, kOut * kUnits, kOut * kUnits, k0, columns);
    simt::cp_commit();  // also an empty group, so that all but the newest is always the chunk that is needed
  };
  WarpProduct<Real, kOut> product;
  fetch(0);
  for (int chunk = 0; chunk < chunks; chunk++) {
    fetch(chunk + 1);
    simt::cp_wait<1>();
    __syncthreads();
    const int k0 = chunk * kChunk<Real>, columns = min(kChunk<Real>, K - k0), buffer = chunk & 1;
    const Real* w = panel.resident ? panel.kept + k0 : memory.w + buffer * kOut * kUnits * kRow;
    for (int k = warp * kDepth; k < columns; k += kWarps * kDepth)
      product.add(memory.a + buffer * kRows * kRow + k, kRow, w + k, panel.resident ? panel.kept_row : kRow, lane);
    __syncthreads();
  }
  UNROLL
  for (int o = 0; o < kOut; o++) UNROLL
  for (int i = 0; i < 4; i++) {
    int row, unit;
    product.locate(lane, i, row, unit);
    memory.partial[((warp * kOut + o) * kRows + row) * kUnits + unit] = product.acc[o][i];
  }
  __syncthreads();
}

template <int kOut, class Real> __device__ float sum(const TileMemory<Real>& memory, int o, int row, int unit) {
  float total = 0;
  UNROLL
  for (int warp = 0; warp < kWarps; warp++) total += memory.partial[((warp * kOut + o) * kRows + row) * kUnits + unit];
  return total;
}

}  // namespace fusedrnn::cuda
