// SPDX-License-Identifier: MIT
// Warp shuffles, votes and __syncwarp. A mask names the lanes that meet; lanes that have exited are not waited for, and their
// values, as those of lanes outside the mask, read as NaN.
#pragma once
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "emu_builtins.h"

namespace simt::emu {

void sync_warp(std::uint32_t mask, Place where);
std::uint32_t ballot(std::uint32_t mask, bool vote, const char* what, Place where);

// The lane that a shuffle reads from: PTX ISA, shfl.sync. Lanes are cut into segments of `width`.
struct Lane {
  int own, first, end;  // of the segment
};
Lane lane(int width);
std::uint64_t exchange(std::uint32_t mask, std::uint64_t value, int source, const char* what, Place where);

template <class T> T shuffle(std::uint32_t mask, T value, int source, const char* what, Place where) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8));
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = exchange(mask, bits, source, what, where);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

}  // namespace simt::emu

inline void __syncwarp(std::uint32_t mask = ~0u, simt::emu::Place where = simt::emu::Place::current()) {
  simt::emu::sync_warp(mask, where);
}
template <class T>
T __shfl_sync(std::uint32_t mask, T value, int source, int width = 32, simt::emu::Place where = simt::emu::Place::current()) {
  const auto lane = simt::emu::lane(width);
  return simt::emu::shuffle(mask, value, lane.first + (source & (width - 1)), "__shfl_sync", where);
}
template <class T>
T __shfl_up_sync(std::uint32_t mask, T value, unsigned delta, int width = 32,
                 simt::emu::Place where = simt::emu::Place::current()) {
  const auto lane = simt::emu::lane(width);
  const int source = lane.own - static_cast<int>(delta);
  return simt::emu::shuffle(mask, value, source < lane.first ? lane.own : source, "__shfl_up_sync", where);
}
template <class T>
T __shfl_down_sync(std::uint32_t mask, T value, unsigned delta, int width = 32,
                   simt::emu::Place where = simt::emu::Place::current()) {
  const auto lane = simt::emu::lane(width);
  const int source = lane.own + static_cast<int>(delta);
  return simt::emu::shuffle(mask, value, source >= lane.end ? lane.own : source, "__shfl_down_sync", where);
}
template <class T>
T __shfl_xor_sync(std::uint32_t mask, T value, int bits, int width = 32, simt::emu::Place where = simt::emu::Place::current()) {
  const auto lane = simt::emu::lane(width);
  const int source = lane.own ^ bits;
  return simt::emu::shuffle(mask, value, source >= lane.end ? lane.own : source, "__shfl_xor_sync", where);
}
inline std::uint32_t __ballot_sync(std::uint32_t mask, bool vote, simt::emu::Place where = simt::emu::Place::current()) {
  return simt::emu::ballot(mask, vote, "__ballot_sync", where);
}
inline int __any_sync(std::uint32_t mask, bool vote, simt::emu::Place where = simt::emu::Place::current()) {
  return simt::emu::ballot(mask, vote, "__any_sync", where) != 0;
}
inline int __all_sync(std::uint32_t mask, bool vote, simt::emu::Place where = simt::emu::Place::current()) {
  return simt::emu::ballot(mask, !vote, "__all_sync", where) == 0;
}
