// SPDX-License-Identifier: MIT
// Functions of simt/device.h alone, one kernel each, for test_cuda_ptx.py to read what nvcc makes of them.
#include "simt/simt.h"

extern "C" {

// Where arrays of 5 float and of 9 bf16 put the ones after them.
__global__ void takes(long* bytes) {
  simt::Shared shared;
  const auto address = [](const void* p) { return reinterpret_cast<const char*>(p); };
  const char* const first = address(shared.take<float>(5));
  const char* const second = address(shared.take<simt::bf16>(9));
  const char* const third = address(shared.take<float>(1));
  bytes[0] = second - first;
  bytes[1] = third - first;
}

__global__ void copies(const void* from, bool all) {
  simt::Shared shared;
  simt::cp_async16(shared.take<float>(4), from, all);
}

__global__ void multiplies(float (*d)[4], const std::uint32_t (*a)[4], const std::uint32_t (*b)[2], const float (*c)[4]) {
  float sum[4];
  simt::mma_bf16(sum, *a, *b, *c);
  for (int i = 0; i < 4; i++) (*d)[i] = sum[i];
}

__global__ void narrows(simt::bf16* to, const float* from) { *to = simt::to_bf16(*from); }
__global__ void widens(float* to, const simt::bf16* from) { *to = simt::to_float(*from); }
}
