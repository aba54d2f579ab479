// SPDX-License-Identifier: MIT
#include "elementwise.h"

#include "prepare.h"

namespace fusedrnn::cuda {
namespace {

template <class Real> __global__ void add_kernel(const Real* from, Real* to, long n) {
  for (long i = blockIdx.x * long(blockDim.x) + threadIdx.x; i < n; i += long(gridDim.x) * blockDim.x)
    to[i] = from_float<Real>(simt::to_float(to[i]) + simt::to_float(from[i]));
}

template <class Real> __global__ void swap_axes_kernel(const Real* from, Real* to, long A, long B, long C) {
  for (long i = blockIdx.x * long(blockDim.x) + threadIdx.x; i < A * B * C; i += long(gridDim.x) * blockDim.x) {
    const long b = i / (A * C), a = i / C % A;
    to[i] = from[(a * B + b) * C + i % C];
  }
}

}  // namespace

void add(Type type, const void* from, void* to, long n, cudaStream_t stream) {
  by_type(type, [&]<class Real>() {
    for_elements(add_kernel<Real>, n, stream, static_cast<const Real*>(from), static_cast<Real*>(to), n);
  });
}

void swap_axes(Type type, const void* from, void* to, long A, long B, long C, cudaStream_t stream) {
  by_type(type, [&]<class Real>() {
    for_elements(swap_axes_kernel<Real>, A * B * C, stream, static_cast<const Real*>(from), static_cast<Real*>(to), A, B, C);
  });
}

}  // namespace fusedrnn::cuda
