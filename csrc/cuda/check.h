// SPDX-License-Identifier: MIT
// A CUDA call that fails becomes an exception: the call and the reason.
#pragma once
#include <stdexcept>
#include <string>

#include "simt/runtime.h"

namespace fusedrnn::cuda {

// call: a string, or what makes one; it is asked only after a failure
template <class Call> void check(cudaError_t error, const Call& call) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // else a library that asks for it after its own launches, as PyTorch, would take it for theirs
  std::string text;
  if constexpr (std::is_invocable_v<Call>) text = call();
  else text = call;
  throw std::runtime_error(text + ": " + cudaGetErrorString(error) + " (" + cudaGetErrorName(error) + ")");
}

// Makes a device the current one, and then again the one before.
class OnDevice {
 public:
  explicit OnDevice(int device) {
    check(cudaGetDevice(&before_), "cudaGetDevice");
    if (device != before_) check(cudaSetDevice(device), [=] { return "cudaSetDevice(" + std::to_string(device) + ")"; });
    changed_ = device != before_;
  }
  OnDevice(const OnDevice&) = delete;
  ~OnDevice() {
    if (changed_) cudaSetDevice(before_);
  }

 private:
  int before_ = 0;
  bool changed_ = false;
};

}  // namespace fusedrnn::cuda
