// SPDX-License-Identifier: MIT
#include "emu_shared.h"

#include <algorithm>
#include <cstring>

#include "emu_launch.h"

namespace simt::emu {
namespace {

constexpr std::size_t kFixedLimit = 48 * 1024;  // of SIMT_SHARED, whatever the device

// Where no sanitizer watches, the end of each array is followed by bytes that must not change.
constexpr std::size_t kGuard = SIMT_ASAN ? 0 : 64;
constexpr char kGuardByte = 0x5a;

SharedArray fresh(std::size_t bytes) {
  SharedArray array{std::unique_ptr<char[]>(new char[bytes + kGuard]), bytes};
  std::memset(array.data.get(), 0xff, bytes);
  std::memset(array.data.get() + bytes, kGuardByte, kGuard);
  return array;
}

bool overrun(const SharedArray& array) {
  const char* guard = array.data.get() + array.bytes;
  return std::any_of(guard, guard + kGuard, [](char byte) { return byte != kGuardByte; });
}

bool holds(const SharedArray& array, const char* p, std::size_t bytes) {
  return p >= array.data.get() && p + bytes <= array.data.get() + array.bytes;
}

std::size_t rounded(std::size_t bytes) { return shared_bytes<char>(bytes); }

}  // namespace

void* fixed_shared(const void* declaration, std::size_t bytes) {
  const Quiet quiet;
  auto& arrays = launch->current->block->fixed;
  const auto [place, added] = arrays.try_emplace(declaration);
  if (added) {
    place->second = fresh(bytes);
    std::size_t sum = 0;
    for (const auto& [_, array] : arrays) sum += rounded(array.bytes);
    if (sum > kFixedLimit)
      fail("the arrays of SIMT_SHARED take " + std::to_string(sum) + " bytes, more than " + std::to_string(kFixedLimit));
  }
  return place->second.data.get();
}

void* carved_shared(std::size_t ordinal, std::size_t bytes, Place where) {
  const Quiet quiet;
  auto& arrays = launch->current->block->carved;
  if (ordinal == arrays.size()) {
    std::size_t sum = rounded(bytes);
    for (const SharedArray& array : arrays) sum += rounded(array.bytes);
    if (sum > launch->kernel.shared_bytes)
      fail("Shared::take at " + at(where) + " makes it " + std::to_string(sum) +
           " bytes of shared memory; the launch asked for " + std::to_string(launch->kernel.shared_bytes));
    arrays.push_back(fresh(bytes));
  }
  if (arrays[ordinal].bytes != bytes)
    fail("Shared::take at " + at(where) + " takes " + std::to_string(bytes) + " bytes in " + name(*launch->current) +
         "; another thread's take of this ordinal was " + std::to_string(arrays[ordinal].bytes));
  return arrays[ordinal].data.get();
}

std::string shared_overrun() {
  const auto written = [](const Block& block, const SharedArray& array, const std::string& which) {
    return "shared memory of block " + std::to_string(block.index.x) + " was written past the end of " + which + ", of " +
           std::to_string(array.bytes) + " bytes";
  };
  for (const Block& block : launch->blocks) {
    for (const auto& [_, array] : block.fixed)
      if (overrun(array)) return written(block, array, "an array of SIMT_SHARED");
    for (std::size_t i = 0; i < block.carved.size(); i++)
      if (overrun(block.carved[i])) return written(block, block.carved[i], "take " + std::to_string(i));
  }
  return {};
}

bool in_shared(const void* p, std::size_t bytes) {
  const Block& block = *launch->current->block;
  const char* const begin = static_cast<const char*>(p);
  return std::any_of(block.carved.begin(), block.carved.end(), [&](auto& array) { return holds(array, begin, bytes); }) ||
         std::any_of(block.fixed.begin(), block.fixed.end(), [&](auto& entry) { return holds(entry.second, begin, bytes); });
}

}  // namespace simt::emu
