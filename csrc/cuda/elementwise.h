// SPDX-License-Identifier: MIT
// What happens to arrays around a layer's passes: gradients are added up, batch-first arrays turned time-first.
#pragma once
#include "args.h"

namespace fusedrnn::cuda {

// to[i] += from[i], rounded to the type
void add(Type type, const void* from, void* to, long n, cudaStream_t stream);
// From (A, B, C) to (B, A, C).
void swap_axes(Type type, const void* from, void* to, long A, long B, long C, cudaStream_t stream);

}  // namespace fusedrnn::cuda
