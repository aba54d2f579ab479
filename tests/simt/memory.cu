// SPDX-License-Identifier: MIT
// Shared memory, asynchronous copies to it, and __ldg.
#include "case.h"

namespace {

__global__ void uninitialised(const float*, float* out) {
  SIMT_SHARED(float, fixed, 64);
  simt::Shared shared;
  float* const carved = shared.take<float>(64);
  out[threadIdx.x] = threadIdx.x % 2 ? fixed[threadIdx.x] : carved[threadIdx.x];
}
CASE(uninitialised);

// Distance of arrays of 3, 5 and 1 bytes that are taken one after the other, and what they hold.
__global__ void carve(const char* in, char* out) {
  simt::Shared shared;
  char* const a = shared.take<char>(3);
  float4* const b = shared.take<float4>(2);
  char* const c = shared.take<char>(1);
  if (threadIdx.x < 3) a[threadIdx.x] = in[threadIdx.x];
  if (threadIdx.x == 0) b[1] = make_float4(1, 2, 3, 4), c[0] = 9;
  __syncthreads();
  if (threadIdx.x < 3) out[threadIdx.x] = a[threadIdx.x];
  if (threadIdx.x == 3) out[3] = static_cast<char>(b[1].w);
  if (threadIdx.x == 4) out[4] = c[0];
}
CASE(carve);

__global__ void carve_differently(const char*, char*) {
  simt::Shared shared;
  shared.take<char>(threadIdx.x == 0 ? 16 : 32);
}
CASE(carve_differently);

// One element too many, into what would be the next array.
__global__ void overrun_carved(const float* in, float* out) {
  simt::Shared shared;
  float* const a = shared.take<float>(32);
  float* const b = shared.take<float>(32);
  a[threadIdx.x + 1] = in[threadIdx.x];
  __syncthreads();
  b[threadIdx.x] = a[threadIdx.x];
  out[threadIdx.x] = b[threadIdx.x];
}
CASE(overrun_carved);

__global__ void overrun_fixed(const float* in, float* out) {
  SIMT_SHARED(float, s, 31);
  float* const a = s;
  a[threadIdx.x] = in[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = a[30 - threadIdx.x % 31];
}
CASE(overrun_fixed);

__global__ void overrun_global(const float* in, float* out) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  out[i + 1] = in[i];
}
CASE(overrun_global);

__global__ void overrun_by_adding(const float* in, float* out) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  out[i + 1] += in[i];
}
CASE(overrun_by_adding);

template <bool kStored> __global__ void too_much_fixed(const float* in, float* out) {
  SIMT_SHARED(float, s, kStored ? 12289 : 1);
  s[0] = in[0];
  out[0] = s[0];
}
#ifdef FUSEDRNN_EMULATE  // nvcc refuses it
const bool too_much_fixed_added = add_case("too_much_fixed", too_much_fixed<true>);
#endif

enum class Bug { none, no_wait, wait_for_less, no_barrier, source_changes };

// Rows of four values through shared memory in two groups; the second row of zeros, since its predicate is false.
template <Bug kBug> __global__ void copies(const float* in, float* out) {
  simt::Shared shared;
  float* const s = shared.take<float>(3 * 128);
  const int i = 4 * threadIdx.x;
  simt::cp_async16(s + i, (kBug == Bug::source_changes ? out : in) + i, true);
  simt::cp_async16(s + 128 + i, nullptr, false);
  simt::cp_commit();
  simt::cp_async16(s + 256 + i, in + 128 + i, true);
  simt::cp_commit();
  if (kBug == Bug::source_changes) out[i] = in[i] + 1;
  if (kBug == Bug::wait_for_less) simt::cp_wait<1>();
  else if (kBug != Bug::no_wait) simt::cp_wait<0>();
  if (kBug != Bug::no_barrier) __syncthreads();
  for (int j = 0; j < 12; j++) out[12 * threadIdx.x + j] = s[383 - 12 * threadIdx.x - j];
}
const bool copies_added[] = {
    add_case("copies", copies<Bug::none>),
    add_case("copies_no_wait", copies<Bug::no_wait>),
    add_case("copies_wait_for_less", copies<Bug::wait_for_less>),
    add_case("copies_no_barrier", copies<Bug::no_barrier>),
    add_case("copies_source_changes", copies<Bug::source_changes>),
};

// A copy into what another thread may still be reading.
__global__ void copy_too_early(const float* in, float* out) {
  simt::Shared shared;
  float* const s = shared.take<float>(128);
  const int i = 4 * threadIdx.x;
  for (int round = 0; round < 2; round++) {
    simt::cp_async16(s + i, in + i, true);
    simt::cp_commit();
    simt::cp_wait<0>();
    __syncthreads();
    out[round * 32 + threadIdx.x] = s[127 - i];
  }
}
CASE(copy_too_early);

enum class Place { aligned, dst, src, global, host };

template <Place kWrong> __global__ void misplaced_copy(const float* in, float* out) {
  simt::Shared shared;
  float* const s = shared.take<float>(8);
  float* const dst = kWrong == Place::global ? out : kWrong == Place::dst ? s + 1 : s;
  simt::cp_async16(dst, kWrong == Place::src ? in + 1 : kWrong == Place::host ? s + 4 : in, true);
}
const bool misplaced_copy_added[] = {
    add_case("copy_misaligned_dst", misplaced_copy<Place::dst>),
    add_case("copy_misaligned_src", misplaced_copy<Place::src>),
    add_case("copy_to_global", misplaced_copy<Place::global>),
    add_case("copy_from_shared", misplaced_copy<Place::host>),
};

template <bool kWritten> __global__ void constant_load(const float* in, float* out) {
  out[threadIdx.x] = in[threadIdx.x] + 1;
  __syncthreads();
  out[threadIdx.x] += __ldg(kWritten ? out + 31 - threadIdx.x : in + threadIdx.x);
}
const bool constant_load_added = add_case("constant_load", constant_load<false>);
const bool constant_load_of_written_added = add_case("constant_load_of_written", constant_load<true>);

}  // namespace
