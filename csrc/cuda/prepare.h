// SPDX-License-Identifier: MIT
// What is done once before the time loop: weight_hh in the order in which the blocks read it, the states of the first step.
#pragma once
#include "host.h"
#include "math.h"

namespace fusedrnn::cuda {

// weight_hh (G*H, H) into (Hp/8, G, 8, Hp), rows of the same units together; or transposed into (Hp/8, 8, G, Hp), so that a
// row has what a unit of h is multiplied with. Zeros beyond H.
template <class Real> __global__ void pack_kernel(Real* panels, const Real* weight_hh, int G, int H, int Hp, bool transposed) {
  const long size = long(G) * Hp * Hp;
  for (long i = blockIdx.x * long(blockDim.x) + threadIdx.x; i < size; i += long(gridDim.x) * blockDim.x) {
    const int k = i % Hp, block = i / (long(G) * kUnits * Hp), inner = i / Hp % (G * kUnits);
    const int g = transposed ? inner % G : inner / kUnits, unit = transposed ? inner / G : inner % kUnits;
    const int j = block * kUnits + unit;
    const long at = transposed ? (long(g) * H + k) * H + j : (long(g) * H + j) * H + k;
    panels[i] = j < H && k < H ? weight_hh[at] : from_float<Real>(0.f);
  }
}

// state (N, H), or null for zeros, into (N, Hp)
template <class Real, class Out> __global__ void start_kernel(Out* to, const Real* state, int N, int H, int Hp) {
  for (long i = blockIdx.x * long(blockDim.x) + threadIdx.x; i < long(N) * Hp; i += long(gridDim.x) * blockDim.x) {
    const long n = i / Hp, j = i % Hp;
    to[i] = from_float<Out>(state && j < H ? simt::to_float(state[n * H + j]) : 0.f);
  }
}

template <class... K, class... A> void for_elements(void (*kernel)(K...), long n, cudaStream_t stream, A... args) {
  const long blocks = (n + kThreads - 1) / kThreads;
  check(simt::launch(kernel, dim3(unsigned(blocks < 1024 ? blocks : 1024)), dim3(kThreads), 0, stream, false, args...),
        "cudaLaunchKernel(prepare)");
}

}  // namespace fusedrnn::cuda
