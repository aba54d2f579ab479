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

// More than 48 KB of dynamic shared memory have to be asked for, kernel by kernel: here for as much as the current device
// has, and never less, which would be taken from what another thread is about to launch.
template <class... Params> cudaError_t ask_shared(void (*kernel)(Params...)) {
  int device = 0, most = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  if (error == cudaSuccess) error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most);
  return error;
}

// Starts kernel(args...) in stream; each argument is converted to the kernel's parameter. cooperative: all blocks run at the
// same time, so that grid_sync() may be used; cudaErrorCooperativeLaunchTooLarge if they cannot.
template <class... Params, class... Args>
cudaError_t launch(void (*kernel)(Params...), dim3 grid, dim3 block, std::size_t shared_bytes, cudaStream_t stream,
                   bool cooperative, Args&&... args) {
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
