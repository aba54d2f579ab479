// SPDX-License-Identifier: MIT
// bfloat16: the upper half of a float32.
#pragma once
#include <bit>
#include <cstdint>

namespace simt {

struct bf16 { std::uint16_t bits; };

inline float to_float(bf16 x) { return std::bit_cast<float>(std::uint32_t{x.bits} << 16); }
inline float to_float(float x) { return x; }

// To the nearest, ties to even: half of the last bit kept, less one if that is even, carries where it should. Every NaN
// becomes the one that the GPU makes.
inline bf16 to_bf16(float x) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  if (x != x) return {0x7fff};
  return {static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

}  // namespace simt
