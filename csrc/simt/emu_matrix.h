// SPDX-License-Identifier: MIT
// Tensor core instructions. Which lane holds what: PTX ISA, "Warp-level matrix instructions".
#pragma once
#include <cstdint>
#include <cstring>

#include "emu_builtins.h"

namespace simt {
namespace emu {

// rows[q][j] = what lane 8 q + j gives as `mine`, for q < count.
void matrix_rows(const void* mine, int count, const char* (*rows)[8], const char* what, Place where);
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
  static_assert(N == 1 || N == 2 || N == 4);
  const char* rows[N][8];
  emu::matrix_rows(row, N, rows, "ldmatrix", where);
  const unsigned lane = emu::lane();
  for (int q = 0; q < N; q++) std::memcpy(&r[q], rows[q][lane / 4] + lane % 4 * 4, 4);
}

// r[q]: elements (2 (lane % 4), lane / 4) and the one below it.
template <int N> void ldmatrix_trans(std::uint32_t (&r)[N], const void* row, emu::Place where = emu::Place::current()) {
  static_assert(N == 1 || N == 2 || N == 4);
  const char* rows[N][8];
  emu::matrix_rows(row, N, rows, "ldmatrix_trans", where);
  const unsigned lane = emu::lane();
  for (int q = 0; q < N; q++) {
    std::uint16_t pair[2];
    for (int i = 0; i < 2; i++) std::memcpy(&pair[i], rows[q][lane % 4 * 2 + i] + lane / 4 * 2, 2);
    std::memcpy(&r[q], pair, 4);
  }
}

inline void mma_bf16(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2], const float (&c)[4],
                     emu::Place where = emu::Place::current()) {
  emu::Mma mine{a, b, c, {}};
  emu::mma(mine, where);
  for (int i = 0; i < 4; i++) d[i] = mine.d[i];
}

}  // namespace simt
