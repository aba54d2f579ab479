// SPDX-License-Identifier: MIT
// The emulated device as tests set it. Calls are safe from any thread, but there is one device for all.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

namespace simt::emu {

// As made, the sizes of a compute capability 8.0, with few multiprocessors.
struct Config {
  std::uint64_t seed = 0;                       // 0: threads take turns; else the orders that this number gives
  int devices = 1;                              // or 0
  int multiprocessors = 8;
  int capability_major = 8, capability_minor = 0;
  std::size_t shared_optin = 163 * 1024;        // dynamic shared memory that a block may ask for, in bytes
  std::size_t shared_per_sm = 164 * 1024;
  std::size_t memory = std::size_t{1} << 30;    // of the device, in bytes
  bool check_ldg = false;                       // __ldg of what changed since the launch began is an error (slow)
  bool check_arguments = true;                  // a kernel's argument that holds a host pointer is an error
};

// A device of this kind, from now on: work in streams is finished first, memory stays, errors are forgotten and so is what
// kernels have asked for.
void configure(const Config& config);
// What was wrong in the kernel that failed last, with file and line; empty if none did since configure().
std::string last_error();
// How often threads took turns since configure().
std::uint64_t switches();

}  // namespace simt::emu
