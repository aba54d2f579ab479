// SPDX-License-Identifier: MIT
// The state of the emulated device, for the emulator's own files.
#pragma once
#include <map>
#include <mutex>
#include <string>

#include "emu_config.h"
#include "emu_runtime.h"

namespace simt::emu {

// What is the same for all devices that we know.
constexpr std::size_t kMaxBlockThreads = 1024, kMaxSmThreads = 2048, kUnaskedShared = 48 * 1024;

struct Device {
  Config config;
  cudaError_t last = cudaSuccess;    // what cudaGetLastError tells, and forgets
  cudaError_t sticky = cudaSuccess;  // after a kernel failed: the answer to everything
  std::string diagnosis;
  std::map<const void*, std::size_t> asked_shared;  // by kernel, cudaFuncSetAttribute's
  std::uint64_t switches = 0, launches = 0;
  std::recursive_mutex mutex;
};
Device& device();

// One call of the API: holds the device; its answer becomes the last error.
class Call {
 public:
  Call() : lock_(device().mutex) {}
  bool refused() const { return device().sticky != cudaSuccess; }
  cudaError_t operator()(cudaError_t error) const {
    if (refused()) error = device().sticky;
    if (error != cudaSuccess) device().last = error;
    return error;
  }

 private:
  std::lock_guard<std::recursive_mutex> lock_;
};

}  // namespace simt::emu
