// SPDX-License-Identifier: MIT
#include "emu_copy.h"

#include <cstring>

#include "emu_launch.h"
#include "emu_memory.h"
#include "emu_shared.h"

namespace simt::emu {
namespace {

constexpr std::size_t kBytes = 16;

bool misaligned(const void* p) { return reinterpret_cast<std::uintptr_t>(p) % kBytes != 0; }

void check(const void* dst, const void* src, bool pred, Place where) {
  const Quiet quiet;
  const auto refuse = [&](const char* rule) {
    fail("cp_async16 at " + at(where) + " in " + name(*launch->current) + ": " + rule);
  };
  if (misaligned(dst)) refuse("the destination is not aligned to 16 bytes");
  if (!in_shared(dst, kBytes)) refuse("the destination is not in shared memory");
  if (!pred) return;
  if (misaligned(src)) refuse("the source is not aligned to 16 bytes");
  if (!in_device(src, kBytes)) refuse("the source is not in global memory");
}

// How many copies must have arrived when the last `keep` groups need not.
std::size_t due(std::size_t keep) {
  const Quiet quiet;
  const auto& groups = launch->current->groups;
  return groups.size() <= keep ? 0 : groups[groups.size() - 1 - keep];
}

Copy checked(std::size_t i, Place where) {
  const Quiet quiet;
  const Copy& copy = launch->current->copies[i];
  if (copy.src && std::memcmp(copy.src, copy.bytes, kBytes) != 0)
    fail("cp_wait at " + at(where) + " in " + name(*launch->current) +
         ": the source of a copy has changed since it was asked for");
  return copy;
}

void forget(std::size_t count, std::size_t keep) {
  const Quiet quiet;
  auto& copies = launch->current->copies;
  auto& groups = launch->current->groups;
  if (groups.size() <= keep) return;
  copies.erase(copies.begin(), copies.begin() + static_cast<std::ptrdiff_t>(count));
  groups.erase(groups.begin(), groups.end() - static_cast<std::ptrdiff_t>(keep));
  for (std::size_t& end : groups) end -= count;
}

}  // namespace

// What is read and written outside Quiet is the kernel's own, for the thread sanitizer to see.
void request_copy(void* dst, const void* src, bool pred, Place where) {
  check(dst, src, pred, where);
  Copy copy{static_cast<char*>(dst), pred ? static_cast<const char*>(src) : nullptr, {}};
  if (pred) std::memcpy(copy.bytes, src, kBytes);
  std::memset(dst, 0xff, kBytes);
  const Quiet quiet;
  launch->current->copies.push_back(copy);
}

void commit_copies() {
  const Quiet quiet;
  launch->current->groups.push_back(launch->current->copies.size());
}

void wait_for_copies(std::size_t keep, Place where) {
  const std::size_t count = due(keep);
  for (std::size_t i = 0; i < count; i++) {
    const Copy copy = checked(i, where);
    std::memcpy(copy.dst, copy.bytes, kBytes);
  }
  forget(count, keep);
}

}  // namespace simt::emu
