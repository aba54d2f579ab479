// SPDX-License-Identifier: MIT
// What the driver decides about a kernel: whether it fits, and what its failure does to the device.
#include "emu_kernel.h"

#include <algorithm>

#include "emu_builtins.h"
#include "emu_device.h"
#include "emu_launch.h"
#include "emu_memory.h"
#include "emu_stream.h"

namespace simt::emu {
namespace {

// 48 KB, or what was asked for: of more, a launch is refused, and a question for its blocks is answered with 0.
std::size_t shared_limit(const void* kernel) {
  const Device& d = device();
  const auto asked = d.asked_shared.find(kernel);
  const std::size_t limit = std::max(kUnaskedShared, asked == d.asked_shared.end() ? 0 : asked->second);
  return std::min(limit, d.config.shared_optin);
}

// A driver knows the kernel's registers and its static shared memory too; here they do not count.
std::size_t blocks_per_sm(const void* kernel, std::size_t threads, std::size_t shared_bytes) {
  const Config& config = device().config;
  if (shared_bytes > shared_limit(kernel)) return 0;
  constexpr std::size_t kReserved = 1024, kMost = 32;
  const std::size_t warps = (threads + 31) / 32;
  return std::min({kMost, kMaxSmThreads / (warps * 32), config.shared_per_sm / (shared_bytes + kReserved)});
}

cudaError_t refusal(const Kernel& kernel, const void* function) {
  constexpr unsigned kMostYZ = 65535, kMostBlockZ = 64;
  const std::size_t threads = kernel.block_threads();
  if (kernel.blocks() == 0 || threads == 0 || threads > kMaxBlockThreads || kernel.block.z > kMostBlockZ ||
      kernel.grid.x > 0x7fffffff || kernel.grid.y > kMostYZ || kernel.grid.z > kMostYZ)
    return cudaErrorInvalidConfiguration;
  if (kernel.shared_bytes > shared_limit(function)) return cudaErrorInvalidValue;
  const auto multiprocessors = static_cast<std::size_t>(device().config.multiprocessors);
  if (kernel.cooperative && kernel.blocks() > multiprocessors * blocks_per_sm(function, threads, kernel.shared_bytes))
    return cudaErrorCooperativeLaunchTooLarge;
  return cudaSuccess;
}

std::string run_on_device(const Kernel& kernel) {
  const Open open;
  if (device().config.check_ldg) take_snapshot();
  std::string wrong = run(kernel);
  forget_snapshot();
  return wrong.empty() ? device_overrun() : wrong;
}

void execute(const Kernel& kernel, std::string wrong) {
  if (wrong.empty()) wrong = run_on_device(kernel);
  if (wrong.empty()) return;
  device().diagnosis = wrong;
  device().last = device().sticky = cudaErrorLaunchFailure;
  drop_all_work();
}

}  // namespace

void check_constant(const void* p, std::size_t bytes, Place where) {
  const Quiet quiet;
  if (device().config.check_ldg && !unchanged(p, bytes))
    fail("__ldg at " + at(where) + " in " + name(*launch->current) + " reads what this launch has written");
}

void Arguments::check_words(const void* argument, std::size_t bytes) {
  for (std::size_t i = 0; i + sizeof(std::uint64_t) <= bytes; i += sizeof(std::uint64_t)) {
    std::uint64_t word;
    std::memcpy(&word, static_cast<const char*>(argument) + i, sizeof word);
    if (wrong_.empty() && in_host(word))
      wrong_ = "argument " + std::to_string(number_) + " of the kernel holds a pointer to memory of the host, at byte " +
               std::to_string(i);
  }
}

cudaError_t launch_kernel(const cudaLaunchConfig_t& config, const void* function, std::function<void()> body,
                          const Arguments& arguments) {
  const Call call;
  if (call.refused()) return call(cudaSuccess);
  CUstream_st* const stream = find_stream(config.stream);
  if (!stream) return call(cudaErrorInvalidResourceHandle);
  Kernel kernel{.grid = config.gridDim,
                .block = config.blockDim,
                .shared_bytes = config.dynamicSmemBytes,
                .cooperative = false,
                .body = std::move(body)};
  for (unsigned i = 0; i < config.numAttrs; i++)
    if (config.attrs[i].id == cudaLaunchAttributeCooperative) kernel.cooperative = config.attrs[i].val.cooperative != 0;
  const cudaError_t error = refusal(kernel, function);
  if (error != cudaSuccess) return call(error);
  const std::string wrong = device().config.check_arguments ? arguments.wrong() : "";
  add_work(*stream, [kernel = std::move(kernel), wrong] { execute(kernel, wrong); });
  return call(cudaSuccess);
}

}  // namespace simt::emu

using namespace simt::emu;

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  const Call call;
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 ||
      static_cast<std::size_t>(value) > device().config.shared_optin)
    return call(cudaErrorInvalidValue);
  device().asked_shared[kernel] = static_cast<std::size_t>(value);
  return call(cudaSuccess);
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* kernel, int block_size,
                                                          std::size_t shared_bytes) {
  const Call call;
  if (!blocks || block_size < 1 || static_cast<std::size_t>(block_size) > kMaxBlockThreads) return call(cudaErrorInvalidValue);
  *blocks = static_cast<int>(blocks_per_sm(kernel, static_cast<std::size_t>(block_size), shared_bytes));
  return call(cudaSuccess);
}
