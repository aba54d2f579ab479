// SPDX-License-Identifier: MIT
// What the driver refuses, what it finds in kernels, and what it says of the device.
#include <cstring>

#include "check.h"

namespace {

__global__ void hang(float*) {
  if (threadIdx.x == 0) __syncthreads();
  else simt::grid_sync();
}
__global__ void touch(const float* x, float* y) { y[threadIdx.x] = x[threadIdx.x]; }
struct Pair {
  int n;
  const float* p;
};
__global__ void take_pair(Pair, float*) {}
__global__ void take_long(long x, double* y) { *y = static_cast<double>(x); }

std::string refused_launches() {
  simt::emu::Config config;
  config.multiprocessors = 3;
  simt::emu::configure(config);
  Array a(4096);
  const auto launch = [&](dim3 grid, dim3 block, std::size_t shared, bool cooperative = false) {
    return simt::launch(add_one, grid, block, shared, nullptr, cooperative, a.p);
  };
  EXPECT(launch(0, 32, 0) == cudaErrorInvalidConfiguration);
  EXPECT(launch(1, 0, 0) == cudaErrorInvalidConfiguration);
  EXPECT(launch(1, 1025, 0) == cudaErrorInvalidConfiguration);
  EXPECT(launch(1, dim3(1, 1, 65), 0) == cudaErrorInvalidConfiguration);
  EXPECT(launch(dim3(1, 65536), 32, 0) == cudaErrorInvalidConfiguration);
  EXPECT(simt::ask_shared(add_one) == cudaSuccess);
  EXPECT(launch(1, 32, 163 * 1024 + 1) == cudaErrorInvalidValue);
  EXPECT(launch(1, 32, 163 * 1024) == cudaSuccess);
  EXPECT(launch(4, 32, 163 * 1024, true) == cudaErrorCooperativeLaunchTooLarge);
  EXPECT(launch(3, 32, 163 * 1024, true) == cudaSuccess);
  EXPECT(launch(7, 32, 81 * 1024, true) == cudaErrorCooperativeLaunchTooLarge);
  EXPECT(launch(6, 32, 81 * 1024, true) == cudaSuccess);
  EXPECT(launch(7, 1024, 0, true) == cudaErrorCooperativeLaunchTooLarge);
  EXPECT(launch(1, 32, 0) == cudaSuccess);
  EXPECT(cudaPeekAtLastError() == cudaErrorCooperativeLaunchTooLarge);
  EXPECT(cudaGetLastError() == cudaErrorCooperativeLaunchTooLarge);
  EXPECT(cudaDeviceSynchronize() == cudaSuccess);
  EXPECT(std::strcmp(cudaGetErrorName(cudaErrorCooperativeLaunchTooLarge), "cudaErrorCooperativeLaunchTooLarge") == 0);
  EXPECT(std::strcmp(cudaGetErrorString(cudaErrorInvalidValue), "invalid argument") == 0);
  return {};
}
CHECK(refused_launches);

// More than 48 KB have to be asked for, and simt::ask_shared asks for all there is.
std::string asked_shared_memory() {
  cudaLaunchConfig_t config{};
  config.gridDim = config.blockDim = 1;
  config.dynamicSmemBytes = 48 * 1024 + 1;
  Array a(1);
  const auto blocks = [] {
    int value = -1;
    return cudaOccupancyMaxActiveBlocksPerMultiprocessor(&value, hang, 256, 48 * 1024 + 1) == cudaSuccess ? value : -1;
  };
  EXPECT(blocks() == 0);
  EXPECT(cudaLaunchKernelEx(&config, hang, a.p) == cudaErrorInvalidValue);
  EXPECT(cudaFuncSetAttribute(hang, cudaFuncAttributeMaxDynamicSharedMemorySize, 163 * 1024 + 1) == cudaErrorInvalidValue);
  EXPECT(cudaFuncSetAttribute(hang, cudaFuncAttributeMaxDynamicSharedMemorySize, 48 * 1024 + 1) == cudaSuccess);
  EXPECT(cudaLaunchKernelEx(&config, hang, a.p) == cudaSuccess && blocks() == 3);
  config.dynamicSmemBytes = 163 * 1024;
  EXPECT(cudaLaunchKernelEx(&config, hang, a.p) == cudaErrorInvalidValue);
  EXPECT(simt::ask_shared(hang) == cudaSuccess);
  EXPECT(cudaLaunchKernelEx(&config, hang, a.p) == cudaSuccess);
  simt::emu::configure({});
  EXPECT(cudaLaunchKernelEx(&config, hang, a.p) == cudaErrorInvalidValue && blocks() == 0);
  return {};
}
CHECK(asked_shared_memory);

// A kernel that fails says so at the next wait, and then everything does.
std::string sticky_error() {
  float *p, *q;
  EXPECT(cudaMalloc(&p, kBytes) == cudaSuccess);
  EXPECT(simt::launch(hang, 1, 32, 0, nullptr, true, p) == cudaSuccess);
  EXPECT(start(p, nullptr) == cudaSuccess);
  EXPECT(cudaPeekAtLastError() == cudaSuccess);
  EXPECT(cudaDeviceSynchronize() == cudaErrorLaunchFailure);
  EXPECT(simt::emu::last_error().starts_with("deadlock: 1 threads in __syncthreads at host_launches.cu:"));
  EXPECT(cudaGetLastError() == cudaErrorLaunchFailure);
  EXPECT(cudaGetLastError() == cudaErrorLaunchFailure);
  EXPECT(start(p, nullptr) == cudaErrorLaunchFailure);
  EXPECT(cudaMalloc(&q, kBytes) == cudaErrorLaunchFailure);
  EXPECT(cudaMemset(p, 0, kBytes) == cudaErrorLaunchFailure);
  cudaStream_t stream;
  EXPECT(cudaStreamCreate(&stream) == cudaErrorLaunchFailure);
  simt::emu::configure({});
  EXPECT(simt::emu::last_error().empty());
  EXPECT(cudaMemset(p, 0, kBytes) == cudaSuccess && cudaFree(p) == cudaSuccess);
  return {};
}
CHECK(sticky_error);

std::string host_pointers() {
  Array a(32);
  std::vector<float> x(32);
  EXPECT(simt::launch(touch, 1, 32, 0, nullptr, false, x.data(), a.p) == cudaSuccess);
  EXPECT(cudaDeviceSynchronize() == cudaErrorLaunchFailure);
  EXPECT(simt::emu::last_error().starts_with("argument 1 of the kernel holds a pointer to memory of the host"));
  simt::emu::configure({});
  EXPECT(simt::launch(take_pair, 1, 32, 0, nullptr, false, Pair{1, x.data()}, a.p) == cudaSuccess);
  EXPECT(cudaDeviceSynchronize() == cudaErrorLaunchFailure);
  EXPECT(simt::emu::last_error().ends_with("host, at byte 8"));
  simt::emu::configure({});
  EXPECT(simt::launch(take_pair, 1, 32, 0, nullptr, false, Pair{1, a.p + 32}, nullptr) == cudaSuccess);
  EXPECT(cudaDeviceSynchronize() == cudaSuccess);
  return {};
}
CHECK(host_pointers);

std::string converted_arguments() {
  Array<double> a(1);
  double x = 0;
  EXPECT(simt::launch(take_long, 1, 1, 0, nullptr, false, 3, a.p) == cudaSuccess);
  EXPECT(cudaMemcpy(&x, a.p, sizeof x, cudaMemcpyDeviceToHost) == cudaSuccess && x == 3);
  return {};
}
CHECK(converted_arguments);

std::string attributes() {
  simt::emu::Config config;
  config.multiprocessors = 5;
  config.capability_major = 9;
  config.shared_optin = 227 * 1024;
  config.shared_per_sm = 228 * 1024;
  simt::emu::configure(config);
  const auto get = [](cudaDeviceAttr attribute) {
    int value = -1;
    return cudaDeviceGetAttribute(&value, attribute, 0) == cudaSuccess ? value : -1;
  };
  EXPECT(get(cudaDevAttrMultiProcessorCount) == 5);
  EXPECT(get(cudaDevAttrComputeCapabilityMajor) == 9 && get(cudaDevAttrComputeCapabilityMinor) == 0);
  EXPECT(get(cudaDevAttrMaxSharedMemoryPerBlockOptin) == 227 * 1024);
  EXPECT(get(cudaDevAttrMaxSharedMemoryPerMultiprocessor) == 228 * 1024);
  EXPECT(get(cudaDevAttrMaxSharedMemoryPerBlock) == 48 * 1024);
  EXPECT(get(cudaDevAttrMaxThreadsPerBlock) == 1024 && get(cudaDevAttrMaxThreadsPerMultiProcessor) == 2048);
  EXPECT(get(cudaDevAttrCooperativeLaunch) == 1);
  int value;
  EXPECT(cudaDeviceGetAttribute(&value, static_cast<cudaDeviceAttr>(12345), 0) == cudaErrorInvalidValue);
  EXPECT(cudaDeviceGetAttribute(&value, cudaDevAttrCooperativeLaunch, 1) == cudaErrorInvalidDevice);
  EXPECT(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&value, add_one, 256, 0) == cudaSuccess && value == 8);
  EXPECT(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&value, add_one, 33, 0) == cudaSuccess && value == 32);
  EXPECT(simt::ask_shared(add_one) == cudaSuccess);
  EXPECT(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&value, add_one, 256, 100 * 1024) == cudaSuccess && value == 2);
  EXPECT(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&value, add_one, 256, 228 * 1024) == cudaSuccess && value == 0);
  EXPECT(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&value, add_one, 2000, 0) == cudaErrorInvalidValue);
  return {};
}
CHECK(attributes);

std::string devices() {
  int count = -1, current = -1;
  EXPECT(cudaGetDeviceCount(&count) == cudaSuccess && count == 1);
  EXPECT(cudaSetDevice(0) == cudaSuccess && cudaGetDevice(&current) == cudaSuccess && current == 0);
  EXPECT(cudaSetDevice(1) == cudaErrorInvalidDevice);
  simt::emu::Config config;
  config.devices = 0;
  simt::emu::configure(config);
  count = -1;
  EXPECT(cudaGetDeviceCount(&count) == cudaErrorNoDevice && count == -1);
  EXPECT(cudaSetDevice(0) == cudaErrorNoDevice && cudaGetDevice(&current) == cudaErrorNoDevice);
  return {};
}
CHECK(devices);

}  // namespace
