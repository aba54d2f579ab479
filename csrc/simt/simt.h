// SPDX-License-Identifier: MIT
// What a kernel includes, and nothing else of CUDA: one text for nvcc and, with FUSEDRNN_EMULATE, for a host compiler, which
// makes of it kernels that run in the emulator (emu.h).
//
// Rules that keep it one text:
//   launch by simt::launch, no <<<>>>; shared memory by SIMT_SHARED and simt::Shared, no bare __shared__;
//   barriers are __syncthreads, __syncwarp and simt::grid_sync, never a loop that waits for memory to change;
//   PTX only in device.h, each with its twin in the emulator.
#pragma once
#include "runtime.h"

#ifdef FUSEDRNN_EMULATE
#include "emu.h"
#else
#include "device.h"
#endif

namespace simt {

// Starts kernel(args...) in stream; each argument is converted to the kernel's parameter. cooperative: all blocks run at the
// same time, so that grid_sync() may be used; cudaErrorCooperativeLaunchTooLarge if they cannot.
template <class... Params, class... Args>
cudaError_t launch(void (*kernel)(Params...), dim3 grid, dim3 block, std::size_t shared_bytes, cudaStream_t stream,
                   bool cooperative, Args&&... args) {
  constexpr std::size_t kUnasked = 48 * 1024;  // more dynamic shared memory has to be asked for, kernel by kernel
  if (shared_bytes > kUnasked) {
    const cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes));
    if (error != cudaSuccess) return error;
  }
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeCooperative;
  attribute.val.cooperative = cooperative;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, kernel, std::forward<Args>(args)...);
}

}  // namespace simt
