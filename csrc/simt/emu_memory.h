// SPDX-License-Identifier: MIT
// Memory of the device: host memory that can be touched only while a kernel or a copy runs.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

namespace simt::emu {

// Filled with 0xff, which is NaN. null: there is not enough.
void* allocate(std::size_t bytes);
// false: not what allocate() returned.
bool release(void* p);
// Whether bytes from p lie in one allocation.
bool in_device(const void* p, std::size_t bytes);
// The allocation that p points into, or null.
void* allocation_of(const void* p);
std::size_t memory_in_use();

// Whether a kernel's argument, taken as an address, is one of the host's memory.
bool in_host(std::uint64_t word);

// While one lives, device memory may be touched.
struct Open {
  Open();
  ~Open();
  Open(const Open&) = delete;
};

// What is in memory now, for unchanged() to compare with, until forget_snapshot().
void take_snapshot();
void forget_snapshot();
bool unchanged(const void* p, std::size_t bytes);

// What was written past the end of an allocation, or nothing.
std::string device_overrun();

}  // namespace simt::emu
