// SPDX-License-Identifier: MIT
// DLPack's structures in memory, version 0 (without a version of their own), of which we use what a dense array on a CUDA
// device needs: https://dmlc.github.io/dlpack/latest/c_api.html
#pragma once
#include <cstdint>

namespace fusedrnn::cuda::dlpack {

constexpr std::int32_t kCPU = 1, kCUDA = 2, kCUDAManaged = 13;
constexpr std::uint8_t kInt = 0, kUInt = 1, kFloat = 2, kBfloat = 4;

struct Device { std::int32_t type, id; };
struct DataType {
  std::uint8_t code, bits;
  std::uint16_t lanes;
};

struct Tensor {
  void* data;
  Device device;
  std::int32_t ndim;
  DataType dtype;
  std::int64_t* shape;
  std::int64_t* strides;  // in elements; null if C-contiguous
  std::uint64_t byte_offset;
};

struct ManagedTensor {
  Tensor tensor;
  void* context;
  void (*deleter)(ManagedTensor*);
};

constexpr const char *kName = "dltensor", *kUsedName = "used_dltensor";  // of the capsule, before and after it was taken

}  // namespace fusedrnn::cuda::dlpack
