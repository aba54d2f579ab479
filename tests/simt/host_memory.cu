// SPDX-License-Identifier: MIT
// Memory of the device, and copies to and from it.
#include "check.h"

namespace {

std::string copies() {
  Array a(32), b(32);
  std::vector<float> x(32, 3), y(32, 0);
  EXPECT(cudaMemcpy(a.p, x.data(), kBytes, cudaMemcpyHostToDevice) == cudaSuccess);
  EXPECT(cudaMemcpy(b.p, a.p, kBytes, cudaMemcpyDeviceToDevice) == cudaSuccess);
  EXPECT(cudaMemcpy(y.data(), b.p, kBytes, cudaMemcpyDeviceToHost) == cudaSuccess);
  EXPECT(x == y);
  EXPECT(cudaMemset(b.p, 0, kBytes) == cudaSuccess);
  EXPECT(cudaMemcpy(y.data(), b.p, kBytes, cudaMemcpyDefault) == cudaSuccess);
  EXPECT(y == std::vector<float>(32, 0));
  EXPECT(cudaMemcpy(y.data(), x.data(), kBytes, cudaMemcpyHostToHost) == cudaSuccess);
  EXPECT(x == y);
  return {};
}
CHECK(copies);

std::string wrong_copies() {
  Array a(32);
  std::vector<float> x(64);
  EXPECT(cudaMemcpy(a.p, x.data(), kBytes, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);
  EXPECT(cudaMemcpy(x.data(), x.data(), kBytes, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
  EXPECT(cudaMemcpy(a.p, x.data(), 2 * kBytes, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
  EXPECT(cudaMemcpy(a.p + 1, x.data(), kBytes, cudaMemcpyDefault) == cudaErrorInvalidValue);
  EXPECT(cudaMemset(a.p, 0, kBytes + 1) == cudaErrorInvalidValue);
  EXPECT(cudaMemset(x.data(), 0, kBytes) == cudaErrorInvalidValue);
  EXPECT(cudaMemcpy(a.p, x.data(), kBytes, static_cast<cudaMemcpyKind>(7)) == cudaErrorInvalidMemcpyDirection);
  EXPECT(cudaFree(x.data()) == cudaErrorInvalidValue);
  EXPECT(cudaFree(a.p + 1) == cudaErrorInvalidValue);
  EXPECT(cudaFree(nullptr) == cudaSuccess);
  EXPECT(cudaGetLastError() == cudaErrorInvalidValue);
  EXPECT(cudaGetLastError() == cudaSuccess);
  return {};
}
CHECK(wrong_copies);

std::string memory() {
  simt::emu::Config config;
  config.memory = 1 << 20;
  simt::emu::configure(config);
  void *p, *q;
  std::size_t free, total;
  EXPECT(cudaMalloc(&p, 1 << 21) == cudaErrorMemoryAllocation);
  EXPECT(cudaGetLastError() == cudaErrorMemoryAllocation);
  EXPECT(cudaMalloc(&p, 1 << 19) == cudaSuccess);
  EXPECT(reinterpret_cast<std::uintptr_t>(p) % 256 == 0);
  EXPECT(cudaMemGetInfo(&free, &total) == cudaSuccess && free == 1 << 19 && total == 1 << 20);
  EXPECT(cudaMalloc(&q, (1 << 19) + 1) == cudaErrorMemoryAllocation);
  EXPECT(cudaFree(p) == cudaSuccess);
  EXPECT(cudaMalloc(&q, 1 << 20) == cudaSuccess);
  EXPECT(cudaFree(q) == cudaSuccess);
  EXPECT(cudaMalloc(&q, 0) == cudaSuccess && !q);
  return {};
}
CHECK(memory);

std::string fresh_memory_is_nan() {
  Array a(33);
  std::vector<float> x(33, 0);
  EXPECT(cudaMemcpy(x.data(), a.p, 33 * sizeof(float), cudaMemcpyDeviceToHost) == cudaSuccess);
  for (const float value : x) EXPECT(value != value);
  return {};
}
CHECK(fresh_memory_is_nan);

std::string stream_memory() {
  simt::emu::Config config;
  config.memory = 1 << 20;
  simt::emu::configure(config);
  cudaStream_t stream;
  EXPECT(cudaStreamCreate(&stream) == cudaSuccess);
  cudaMemPoolProps properties{};
  cudaMemPool_t pool;
  EXPECT(cudaMemPoolCreate(&pool, &properties) == cudaErrorInvalidValue);
  properties.allocType = cudaMemAllocationTypePinned;
  properties.location = {.type = cudaMemLocationTypeDevice, .id = 0};
  EXPECT(cudaMemPoolCreate(&pool, &properties) == cudaSuccess);
  std::vector<float> x(32, 0);
  for (int i = 0; i < 8; i++) {  // more than there is, but not at the same time
    float* p;
    EXPECT(cudaMallocFromPoolAsync(&p, 1 << 18, pool, stream) == cudaSuccess);
    EXPECT(cudaMemsetAsync(p, 0, kBytes, stream) == cudaSuccess);
    EXPECT(start(p, stream) == cudaSuccess);
    EXPECT(cudaMemcpyAsync(x.data(), p, kBytes, cudaMemcpyDeviceToHost, stream) == cudaSuccess);
    EXPECT(cudaFreeAsync(p, stream) == cudaSuccess);
  }
  EXPECT(cudaStreamSynchronize(stream) == cudaSuccess);
  EXPECT(x == std::vector<float>(32, 1));
  EXPECT(cudaStreamDestroy(stream) == cudaSuccess);
  return {};
}
CHECK(stream_memory);

std::string pointers() {
  Array a(32);
  cudaPointerAttributes attributes;
  EXPECT(cudaPointerGetAttributes(&attributes, a.p + 31) == cudaSuccess);
  EXPECT(attributes.type == cudaMemoryTypeDevice && attributes.device == 0 && attributes.devicePointer == a.p + 31);
  EXPECT(cudaPointerGetAttributes(&attributes, a.p + 32) == cudaSuccess);
  EXPECT(attributes.type == cudaMemoryTypeUnregistered);
  EXPECT(cudaPointerGetAttributes(&attributes, &a) == cudaSuccess);
  EXPECT(attributes.type == cudaMemoryTypeUnregistered && attributes.hostPointer == &a);
  return {};
}
CHECK(pointers);

// Host code that touches device memory dies.
std::string touch_device_memory() {
  Array a(32);
  cudaMemset(a.p, 0, kBytes);
  cudaDeviceSynchronize();
  const volatile float* const p = a.p;
  return p[0] == 0 ? "lived" : "lived, too";
}
CHECK(touch_device_memory);

}  // namespace
