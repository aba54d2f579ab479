// SPDX-License-Identifier: MIT
// Tensor core instructions. Which lane holds what: PTX ISA, "Warp-level matrix instructions".
#pragma once
#include <cstdint>
#include <cstring>

#include "emu_builtins.h"

namespace simt {
namespace emu {

// Rows of 8x8 matrices, whose addresses the lanes give: lane 8 q + j that of row j of matrix q.
struct Rows {
  const void* mine;
  int count;              // of matrices
  const char* needed[4];  // by this lane: row lane / 4 of each matrix
};
void share_rows(Rows& rows, Place where);
unsigned lane();

struct Mma {
  const std::uint32_t *a, *b;  // (4,), (2,): pairs of bf16, the lower half first
  const float* c;              // (4,)
  float d[4];
};
void mma(Mma& mine, Place where);

}  // namespace emu

// r[q]: elements (lane / 4, 2 (lane % 4)) and the next of matrix q, the first in the lower half.
template <int N> void ldmatrix(std::uint32_t (&r)[N], const void* row, emu::Place where = emu::Place::current()) {
  static_assert(N == 2 || N == 4);
  emu::Rows rows{.mine = row, .count = N, .needed = {}};
  emu::share_rows(rows, where);
  const unsigned lane = emu::lane();
  for (int q = 0; q < N; q++) std::memcpy(&r[q], rows.needed[q] + lane % 4 * 4, 4);
}

inline void mma_bf16(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2], const float (&c)[4],
                     emu::Place where = emu::Place::current()) {
  emu::Mma mine{.a = a, .b = b, .c = c, .d = {}};
  emu::mma(mine, where);
  for (int i = 0; i < 4; i++) d[i] = mine.d[i];
}

}  // namespace simt
