// SPDX-License-Identifier: MIT
// The part of the runtime API that is templates, as in <cuda_runtime.h>: what takes a kernel, or a pointer to anything.
#pragma once
#include <cstring>
#include <functional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "emu_runtime.h"

namespace simt::emu {

// Collects what is wrong with a kernel's arguments.
class Arguments {
 public:
  template <class T> void check(T argument) {
    static_assert(std::is_trivially_copyable_v<T>, "a kernel's arguments are copied byte by byte");
    number_++;
    if constexpr (std::is_pointer_v<T>) check_words(&argument, sizeof(T));
#if __has_builtin(__builtin_clear_padding)  // GCC; what stands between the members may be half of an old pointer
    if constexpr (std::is_class_v<T>) {
      __builtin_clear_padding(&argument);
      check_words(&argument, sizeof(T));
    }
#endif
  }
  const std::string& wrong() const { return wrong_; }

 private:
  void check_words(const void* argument, std::size_t bytes);

  int number_ = 0;
  std::string wrong_;
};

cudaError_t launch_kernel(const cudaLaunchConfig_t& config, const void* kernel, std::function<void()> body,
                          const Arguments& arguments);

}  // namespace simt::emu

template <class... Params, class... Args>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Params...), Args&&... args) {
  const std::tuple<std::remove_cv_t<Params>...> params(static_cast<Params>(std::forward<Args>(args))...);
  simt::emu::Arguments arguments;
  std::apply([&](const auto&... param) { (arguments.check(param), ...); }, params);
  return simt::emu::launch_kernel(
      *config, reinterpret_cast<const void*>(kernel), [=] { std::apply(kernel, params); }, arguments);
}

template <class T> cudaError_t cudaMalloc(T** p, std::size_t bytes) { return cudaMalloc(reinterpret_cast<void**>(p), bytes); }
template <class T> cudaError_t cudaMallocFromPoolAsync(T** p, std::size_t bytes, cudaMemPool_t pool, cudaStream_t stream) {
  return cudaMallocFromPoolAsync(reinterpret_cast<void**>(p), bytes, pool, stream);
}
template <class... Params> cudaError_t cudaFuncSetAttribute(void (*kernel)(Params...), cudaFuncAttribute attribute, int value) {
  return cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), attribute, value);
}
template <class... Params>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void (*kernel)(Params...), int block_size,
                                                          std::size_t shared_bytes) {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks, reinterpret_cast<const void*>(kernel), block_size, shared_bytes);
}
