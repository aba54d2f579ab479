// SPDX-License-Identifier: MIT
// simt.h on a GPU, for nvcc. Each function is one instruction or one library call; what they do is described in the PTX ISA
// (docs.nvidia.com/cuda/parallel-thread-execution) under the instruction's name, and must be what the emulator does.
#pragma once
#ifndef __CUDACC__
#error "simt.h needs nvcc, or FUSEDRNN_EMULATE for the emulator"
#endif
#include <cooperative_groups.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <utility>

#include "shared_bytes.h"

#define SIMT_SHARED(T, name, n) __shared__ __align__(16) T name[n]

namespace simt {

__device__ __forceinline__ void grid_sync() { cooperative_groups::this_grid().sync(); }

// Dynamic shared memory, handed out in the order of the calls: the same calls in every thread.
class Shared {
 public:
  template <class T> __device__ __forceinline__ T* take(std::size_t n) {
    extern __shared__ __align__(16) unsigned char simt_dynamic_shared[];
    T* const array = reinterpret_cast<T*>(simt_dynamic_shared + taken_);
    taken_ += shared_bytes<T>(n);
    return array;
  }

 private:
  std::size_t taken_ = 0;
};

__device__ __forceinline__ unsigned shared_address(const void* p) { return static_cast<unsigned>(__cvta_generic_to_shared(p)); }

// 16 bytes from global to shared memory, both aligned so; pred false: zeros, and the source is not read.
__device__ __forceinline__ void cp_async16(void* shared_dst, const void* global_src, bool pred) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared_dst)), "l"(global_src),
               "r"(pred ? 16 : 0)
               : "memory");
#else
  *static_cast<uint4*>(shared_dst) = pred ? *static_cast<const uint4*>(global_src) : make_uint4(0, 0, 0, 0);
#endif
}
// Ends a group of copies.
__device__ __forceinline__ void cp_commit() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
// All but the last N groups of this thread have arrived; other threads need a barrier after it.
template <int N> __device__ __forceinline__ void cp_wait() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#endif
}

using bf16 = __nv_bfloat16;
__device__ __forceinline__ bf16 to_bf16(float x) { return __float2bfloat16_rn(x); }
__device__ __forceinline__ float to_float(bf16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float to_float(float x) { return x; }

// N 8x8 matrices of 16-bit values from shared memory; lane 8 i + j gives the address of row j of matrix i.
template <int N> __device__ __forceinline__ void ldmatrix(std::uint32_t (&r)[N], const void* row) {
  static_assert(N == 2 || N == 4);
  const unsigned a = shared_address(row);
  if constexpr (N == 2)
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1},[%2];" : "=r"(r[0]), "=r"(r[1]) : "r"(a) : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3},[%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(a)
                 : "memory");
}

// d (16, 8) = a (16, 16) b (16, 8) + c, a and b in bf16, d and c in float32; d may be c.
__device__ __forceinline__ void mma_bf16(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                                         const float (&c)[4]) {
#if __CUDA_ARCH__ >= 800
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%10,%11,%12,%13};"
               : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]), "f"(c[1]), "f"(c[2]), "f"(c[3]));
#else
  __trap();
#endif
}

}  // namespace simt
