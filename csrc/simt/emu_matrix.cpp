// SPDX-License-Identifier: MIT
#include "emu_matrix.h"

#include "emu_bf16.h"
#include "emu_meet.h"
#include "emu_shared.h"

namespace simt::emu {
namespace {

void share(void* const* deposits, std::uint32_t) {
  const auto given = [&](int lane) { return static_cast<const char*>(static_cast<const Rows*>(deposits[lane])->mine); };
  for (int lane = 0; lane < 32; lane++) {
    Rows& to = *static_cast<Rows*>(deposits[lane]);
    for (int q = 0; q < to.count; q++) to.needed[q] = given(8 * q + lane / 4);
  }
}

float half(std::uint32_t pair, int i) { return to_float(bf16{static_cast<std::uint16_t>(pair >> 16 * i)}); }

// Of m16n8k16: lane l holds, with g = l / 4 and t = l % 4,
//   a[i], half e: row g + 8 (i % 2), column 2 t + e + 8 (i / 2)
//   b[i], half e: row 2 t + e + 8 i, column g
//   c[i], d[i]:   row g + 8 (i / 2), column 2 t + i % 2
void multiply(void* const* deposits, std::uint32_t) {
  float a[16][16], b[16][8], d[16][8];
  for (int lane = 0; lane < 32; lane++) {
    const Mma& from = *static_cast<const Mma*>(deposits[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; i++) {
      for (int e = 0; e < 2; e++) a[g + 8 * (i % 2)][2 * t + e + 8 * (i / 2)] = half(from.a[i], e);
      d[g + 8 * (i / 2)][2 * t + i % 2] = from.c[i];
    }
    for (int i = 0; i < 2; i++)
      for (int e = 0; e < 2; e++) b[2 * t + e + 8 * i][g] = half(from.b[i], e);
  }
  for (int row = 0; row < 16; row++)
    for (int k = 0; k < 16; k++)
      for (int column = 0; column < 8; column++) d[row][column] += a[row][k] * b[k][column];
  for (int lane = 0; lane < 32; lane++) {
    Mma& to = *static_cast<Mma*>(deposits[lane]);
    for (int i = 0; i < 4; i++) to.d[i] = d[lane / 4 + 8 * (i / 2)][2 * (lane % 4) + i % 2];
  }
}

}  // namespace

unsigned lane() {
  const Quiet quiet;
  return launch->current->lane;
}

void share_rows(Rows& rows, Place where) {
  const Quiet quiet;
  const Thread& thread = *launch->current;
  const auto refuse = [&](const char* rule) { fail("ldmatrix at " + at(where) + " in " + name(thread) + ": " + rule); };
  if (static_cast<int>(thread.lane) < 8 * rows.count) {
    if (reinterpret_cast<std::uintptr_t>(rows.mine) % 16 != 0) refuse("the row is not aligned to 16 bytes");
    if (!in_shared(rows.mine, 16)) refuse("the row is not in shared memory");
  }
  meet_warp(~0u, &rows, share, Meeting::whole, "ldmatrix", where);
}

void mma(Mma& mine, Place where) {
  const Quiet quiet;
  meet_warp(~0u, &mine, multiply, Meeting::whole, "mma_bf16", where);
}

}  // namespace simt::emu
