// SPDX-License-Identifier: MIT
// Small kernels by name, each from `in` to `out`, for test_simt.py to run.
#pragma once
#include <functional>
#include <map>
#include <string>

#include "simt/simt.h"

struct Shape {
  dim3 grid, block;
  std::size_t shared_bytes;
  bool cooperative;
};

using Start = std::function<cudaError_t(const Shape& shape, const void* in, void* out)>;

inline std::map<std::string, Start>& cases() {
  static std::map<std::string, Start> all;
  return all;
}

template <class In, class Out> bool add_case(const char* name, void (*kernel)(const In*, Out*)) {
  cases()[name] = [kernel](const Shape& shape, const void* in, void* out) {
    return simt::launch(kernel, shape.grid, shape.block, shape.shared_bytes, nullptr, shape.cooperative,
                        static_cast<const In*>(in), static_cast<Out*>(out));
  };
  return true;
}

#define CASE(kernel) static const bool kernel##_added = add_case(#kernel, kernel)
