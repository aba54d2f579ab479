// SPDX-License-Identifier: MIT
// The build in which the device sees the cells: V is one float of one thread.
#pragma once
#include "simt/simt.h"

#define FUSEDRNN_ISA device
#define INLINE __host__ __device__ __forceinline__
#if defined(__CUDACC__) || defined(__clang__)
#define UNROLL _Pragma("unroll")
#define UNROLL_TWICE _Pragma("unroll 2")
#else
#define UNROLL _Pragma("GCC unroll 64")
#define UNROLL_TWICE _Pragma("GCC unroll 2")
#endif

namespace fusedrnn::device {

INLINE float fma(float a, float b, float c) { return fmaf(a, b, c); }
INLINE float tanh(float x) { return tanhf(x); }
INLINE float sigmoid(float x) { return 1 / (1 + expf(-x)); }
INLINE float relu(float x) { return x < 0 ? 0.f : x; }  // NaN stays NaN, in both
INLINE float relu_backward(float h, float dh) { return h <= 0 ? 0.f : dh; }

}  // namespace fusedrnn::device
