// SPDX-License-Identifier: MIT
#include "emu_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <vector>

#include "emu_device.h"
#include "emu_sanitizers.h"

namespace simt::emu {
namespace {

// Pages of its own, between two that nobody may ever touch. What is left of the last page keeps its guard.
struct Allocation {
  std::size_t bytes, pages;  // pages in bytes
  std::vector<char> snapshot;
};

// NaNs, as all memory at first, but signalling ones of float and bfloat16: adding to them makes them quiet, and is seen.
constexpr char guard(std::size_t offset) { return offset % 2 ? '\xff' : '\xbf'; }

std::map<char*, Allocation>& allocations = *new std::map<char*, Allocation>;
std::size_t in_use = 0;
int open_count = 0;

std::size_t page() {
  static const auto size = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return size;
}

void protect(int how) {
  for (auto& [base, allocation] : allocations) mprotect(base, allocation.pages, how);
}

auto find(const void* p) {
  char* const address = const_cast<char*>(static_cast<const char*>(p));
  auto after = allocations.upper_bound(address);
  if (after == allocations.begin()) return allocations.end();
  const auto found = std::prev(after);
  return address < found->first + found->second.bytes ? found : allocations.end();
}

// Also just before its begin and just after its end, where pointers may well point.
bool around_allocation(const char* address) {
  for (const auto& [base, allocation] : allocations)
    if (address >= base - page() && address < base + allocation.pages + page()) return true;
  return false;
}

}  // namespace

void* allocate(std::size_t bytes) {
  const std::size_t pages = (bytes + page() - 1) / page() * page(), limit = device().config.memory;
  if (pages < bytes || in_use > limit || pages > limit - in_use) return nullptr;
  void* const reserved = mmap(nullptr, pages + 2 * page(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) return nullptr;
  char* const base = static_cast<char*>(reserved) + page();
  mprotect(base, pages, PROT_READ | PROT_WRITE);
  std::memset(base, 0xff, bytes);
  for (std::size_t i = bytes; i < pages; i++) base[i] = guard(i);
  if (open_count == 0) mprotect(base, pages, PROT_NONE);
  forbid(base + bytes, pages - bytes);
  allocations[base] = {bytes, pages, {}};
  in_use += pages;
  return base;
}

bool release(void* p) {
  const auto found = allocations.find(static_cast<char*>(p));
  if (found == allocations.end()) return false;
  const auto& [base, allocation] = *found;
  allow(base, allocation.pages);
  munmap(base - page(), allocation.pages + 2 * page());
  in_use -= allocation.pages;
  allocations.erase(found);
  return true;
}

bool in_device(const void* p, std::size_t bytes) {
  const auto found = find(p);
  if (found == allocations.end()) return false;
  return bytes <= found->second.bytes - static_cast<std::size_t>(static_cast<const char*>(p) - found->first);
}

void* allocation_of(const void* p) {
  const auto found = find(p);
  return found == allocations.end() ? nullptr : found->first;
}

std::size_t memory_in_use() { return in_use; }

bool in_host(std::uint64_t word) {
  constexpr std::uint64_t kLowest = 1 << 16;  // no pages below, by default
  if (word < kLowest) return false;
  const auto* const address = reinterpret_cast<char*>(word);
  unsigned char resident;
  return !around_allocation(address) && mincore(const_cast<char*>(address) - word % page(), 1, &resident) == 0;
}

Open::Open() {
  if (open_count++ == 0) protect(PROT_READ | PROT_WRITE);
}
Open::~Open() {
  if (--open_count == 0) protect(PROT_NONE);
}

void take_snapshot() {
  for (auto& [base, allocation] : allocations) allocation.snapshot.assign(base, base + allocation.bytes);
}

void forget_snapshot() {
  for (auto& [base, allocation] : allocations) allocation.snapshot = {};
}

bool unchanged(const void* p, std::size_t bytes) {
  const auto found = find(p);
  if (found == allocations.end() || found->second.snapshot.empty()) return true;
  return std::memcmp(p, found->second.snapshot.data() + (static_cast<const char*>(p) - found->first), bytes) == 0;
}

std::string device_overrun() {
  if (SIMT_ASAN) return {};  // it has seen it happen, and forbids the look
  for (const auto& [base, allocation] : allocations) {
    for (std::size_t i = allocation.bytes; i < allocation.pages; i++)
      if (base[i] != guard(i))
        return "an allocation of " + std::to_string(allocation.bytes) + " bytes of device memory was written past its end";
  }
  return {};
}

}  // namespace simt::emu
