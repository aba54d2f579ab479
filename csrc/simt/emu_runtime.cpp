// SPDX-License-Identifier: MIT
// The device and its memory, as the runtime API shows them.
#include "emu_runtime.h"

#include <cstring>

#include "emu_device.h"
#include "emu_memory.h"
#include "emu_stream.h"

namespace simt::emu {

Device& device() {
  static Device& one = *new Device;  // for ever: memory may be freed while the process ends
  return one;
}

void configure(const Config& config) {
  const Call call;
  finish_all();
  Device& d = device();
  d.config = config;
  d.last = d.sticky = cudaSuccess;
  d.diagnosis.clear();
  d.asked_shared.clear();
  d.switches = d.launches = 0;
}

std::string last_error() {
  const Call call;
  return device().diagnosis;
}

std::uint64_t switches() {
  const Call call;
  return device().switches;
}

namespace {

// Whether both ends are where the kind says.
bool fits(const void* dst, const void* src, std::size_t bytes, cudaMemcpyKind kind) {
  const auto is = [&](const void* p, bool wanted) { return wanted ? in_device(p, bytes) : !allocation_of(p); };
  switch (kind) {
    case cudaMemcpyHostToHost:
      return is(dst, false) && is(src, false);
    case cudaMemcpyHostToDevice:
      return is(dst, true) && is(src, false);
    case cudaMemcpyDeviceToHost:
      return is(dst, false) && is(src, true);
    case cudaMemcpyDeviceToDevice:
      return is(dst, true) && is(src, true);
    case cudaMemcpyDefault:
      return is(dst, allocation_of(dst) != nullptr) && is(src, allocation_of(src) != nullptr);
  }
  return false;
}

}  // namespace
}  // namespace simt::emu

using namespace simt::emu;

cudaError_t cudaGetDeviceCount(int* count) {
  const Call call;
  if (device().config.devices == 0) return call(cudaErrorNoDevice);  // as NVIDIA's, leaving *count as it is
  *count = device().config.devices;
  return call(cudaSuccess);
}

cudaError_t cudaGetDevice(int* device) {
  const Call call;
  *device = 0;
  return call(simt::emu::device().config.devices ? cudaSuccess : cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int device) {
  const Call call;
  if (simt::emu::device().config.devices == 0) return call(cudaErrorNoDevice);
  return call(device == 0 ? cudaSuccess : cudaErrorInvalidDevice);
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int number) {
  const Call call;
  if (number != 0) return call(cudaErrorInvalidDevice);
  const Config& config = device().config;
  const auto answer = [&](std::size_t number) {
    *value = static_cast<int>(number);
    return call(cudaSuccess);
  };
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      return answer(kMaxBlockThreads);
    case cudaDevAttrMaxSharedMemoryPerBlock:
      return answer(kUnaskedShared);
    case cudaDevAttrMultiProcessorCount:
      return answer(config.multiprocessors);
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      return answer(kMaxSmThreads);
    case cudaDevAttrComputeCapabilityMajor:
      return answer(config.capability_major);
    case cudaDevAttrComputeCapabilityMinor:
      return answer(config.capability_minor);
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      return answer(config.shared_per_sm);
    case cudaDevAttrCooperativeLaunch:
    case cudaDevAttrMemoryPoolsSupported:
      return answer(1);
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      return answer(config.shared_optin);
  }
  return call(cudaErrorInvalidValue);
}

cudaError_t cudaMalloc(void** p, std::size_t bytes) {
  const Call call;
  if (call.refused()) return call(cudaSuccess);
  if (!p) return call(cudaErrorInvalidValue);
  *p = bytes ? allocate(bytes) : nullptr;
  return call(*p || !bytes ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t cudaFree(void* p) {
  const Call call;
  finish_all();
  return call(!p || release(p) ? cudaSuccess : cudaErrorInvalidValue);
}

// All pools are one.
cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps* properties) {
  const Call call;
  if (call.refused()) return call(cudaSuccess);
  if (!pool || !properties || properties->allocType != cudaMemAllocationTypePinned ||
      properties->location.type != cudaMemLocationTypeDevice || properties->location.id != 0)
    return call(cudaErrorInvalidValue);
  static char one;
  *pool = reinterpret_cast<cudaMemPool_t>(&one);
  return call(cudaSuccess);
}

cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value) {
  const Call call;
  return call(pool && attribute == cudaMemPoolAttrReleaseThreshold && value ? cudaSuccess : cudaErrorInvalidValue);
}

// Memory that earlier work in any stream gives back can be had, after a wait for it.
cudaError_t cudaMallocFromPoolAsync(void** p, std::size_t bytes, cudaMemPool_t pool, cudaStream_t stream) {
  const Call call;
  if (call.refused()) return call(cudaSuccess);
  if (!p || !bytes || !pool) return call(cudaErrorInvalidValue);
  if (!find_stream(stream)) return call(cudaErrorInvalidResourceHandle);
  *p = allocate(bytes);
  if (!*p) {
    finish_all();
    *p = allocate(bytes);
  }
  return call(*p ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t cudaFreeAsync(void* p, cudaStream_t stream) {
  const Call call;
  CUstream_st* const found = find_stream(stream);
  if (!found) return call(cudaErrorInvalidResourceHandle);
  if (!p || allocation_of(p) != p) return call(cudaErrorInvalidValue);
  if (!call.refused()) add_work(*found, [p] { release(p); });
  return call(cudaSuccess);
}

cudaError_t cudaMemcpyAsync(void* dst, const void* src, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  const Call call;
  CUstream_st* const found = find_stream(stream);
  if (!found) return call(cudaErrorInvalidResourceHandle);
  if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault) return call(cudaErrorInvalidMemcpyDirection);
  if (call.refused() || bytes == 0) return call(cudaSuccess);
  if (!fits(dst, src, bytes, kind)) return call(cudaErrorInvalidValue);
  add_work(*found, [=] {
    const Open open;
    std::memmove(dst, src, bytes);
  });
  return call(cudaSuccess);
}

cudaError_t cudaMemcpy(void* dst, const void* src, std::size_t bytes, cudaMemcpyKind kind) {
  const cudaError_t error = cudaMemcpyAsync(dst, src, bytes, kind);
  return error == cudaSuccess ? cudaStreamSynchronize(nullptr) : error;
}

cudaError_t cudaMemsetAsync(void* p, int value, std::size_t bytes, cudaStream_t stream) {
  const Call call;
  CUstream_st* const found = find_stream(stream);
  if (!found) return call(cudaErrorInvalidResourceHandle);
  if (call.refused() || bytes == 0) return call(cudaSuccess);
  if (!in_device(p, bytes)) return call(cudaErrorInvalidValue);
  add_work(*found, [=] {
    const Open open;
    std::memset(p, value, bytes);
  });
  return call(cudaSuccess);
}

// Returns before it is done, as on a GPU.
cudaError_t cudaMemset(void* p, int value, std::size_t bytes) { return cudaMemsetAsync(p, value, bytes); }

cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  const Call call;
  *total = device().config.memory;
  *free = *total - std::min(*total, memory_in_use());
  return call(cudaSuccess);
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* p) {
  const Call call;
  void* const mutable_p = const_cast<void*>(p);
  if (allocation_of(p)) *attributes = {cudaMemoryTypeDevice, 0, mutable_p, nullptr};
  else *attributes = {cudaMemoryTypeUnregistered, -2, nullptr, mutable_p};  // -2: as NVIDIA's
  return call(cudaSuccess);
}
