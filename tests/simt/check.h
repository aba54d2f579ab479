// SPDX-License-Identifier: MIT
// Host code on the runtime API by name, for test_simt.py to run on a fresh device: each check gives the first expression
// that was not true, or nothing.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "simt/simt.h"

inline std::map<std::string, std::string (*)()>& checks() {
  static std::map<std::string, std::string (*)()> all;
  return all;
}

#define CHECK(check) static const bool check##_added = checks().emplace(#check, check).second
#define EXPECT(what) \
  if (!(what)) return std::string(#what) + ", line " + std::to_string(__LINE__) + ": " + simt::emu::last_error()

constexpr std::size_t kBytes = 32 * sizeof(float);

template <class T = float> struct Array {
  explicit Array(std::size_t n) { cudaMalloc(&p, n * sizeof(T)); }
  ~Array() { cudaFree(p); }
  T* p;
};

static __global__ void add_one(float* x) { x[blockIdx.x * blockDim.x + threadIdx.x] += 1; }

static inline cudaError_t start(float* x, cudaStream_t stream) { return simt::launch(add_one, 1, 32, 0, stream, false, x); }
