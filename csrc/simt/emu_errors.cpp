// SPDX-License-Identifier: MIT
#include <utility>

#include "emu_device.h"

using namespace simt::emu;

namespace {

// Name and text of an error.
std::pair<const char*, const char*> describe(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return {"cudaSuccess", "no error"};
    case cudaErrorInvalidValue:
      return {"cudaErrorInvalidValue", "invalid argument"};
    case cudaErrorMemoryAllocation:
      return {"cudaErrorMemoryAllocation", "out of memory"};
    case cudaErrorInvalidConfiguration:
      return {"cudaErrorInvalidConfiguration", "invalid configuration argument"};
    case cudaErrorInvalidMemcpyDirection:
      return {"cudaErrorInvalidMemcpyDirection", "invalid copy direction for memcpy"};
    case cudaErrorInvalidDeviceFunction:
      return {"cudaErrorInvalidDeviceFunction", "invalid device function"};
    case cudaErrorNoDevice:
      return {"cudaErrorNoDevice", "no CUDA-capable device is detected"};
    case cudaErrorInvalidDevice:
      return {"cudaErrorInvalidDevice", "invalid device ordinal"};
    case cudaErrorInvalidResourceHandle:
      return {"cudaErrorInvalidResourceHandle", "invalid resource handle"};
    case cudaErrorNotReady:
      return {"cudaErrorNotReady", "device not ready"};
    case cudaErrorLaunchFailure:
      return {"cudaErrorLaunchFailure", "unspecified launch failure"};
    case cudaErrorCooperativeLaunchTooLarge:
      return {"cudaErrorCooperativeLaunchTooLarge", "too many blocks in cooperative launch"};
  }
  return {"unrecognized error code", "unrecognized error code"};
}

}  // namespace

const char* cudaGetErrorName(cudaError_t error) { return describe(error).first; }
const char* cudaGetErrorString(cudaError_t error) { return describe(error).second; }

cudaError_t cudaPeekAtLastError() {
  const Call call;
  return call(device().last);
}

cudaError_t cudaGetLastError() {
  const Call call;
  const cudaError_t error = device().last;
  device().last = device().sticky;
  return error;
}
