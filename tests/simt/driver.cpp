// SPDX-License-Identifier: MIT
// What test_simt.py calls through ctypes, and, as a program of its own, one case on memory of zeros:
//   selftest CASE GRID BLOCK SHARED_BYTES COOPERATIVE
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "case.h"
#include "check.h"

extern "C" {

void configure(std::uint64_t seed, int multiprocessors, bool check_ldg) {
  simt::emu::Config config;
  config.seed = seed;
  config.multiprocessors = multiprocessors;
  config.check_ldg = check_ldg;
  simt::emu::configure(config);
}

// in and out go to the device, and out comes back. Returns the error of the launch, or of the wait for it.
int run_case(const char* name, const unsigned* grid, const unsigned* block, std::size_t shared_bytes, bool cooperative,
             const void* in, std::size_t in_bytes, void* out, std::size_t out_bytes) {
  void *device_in, *device_out;
  if (cudaMalloc(&device_in, in_bytes) || cudaMalloc(&device_out, out_bytes)) return cudaErrorMemoryAllocation;
  cudaMemcpy(device_in, in, in_bytes, cudaMemcpyHostToDevice);
  cudaMemcpy(device_out, out, out_bytes, cudaMemcpyHostToDevice);
  const Shape shape{{grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]}, shared_bytes, cooperative};
  const cudaError_t launched = cases().at(name)(shape, device_in, device_out);
  const cudaError_t error = launched ? launched : cudaMemcpy(out, device_out, out_bytes, cudaMemcpyDeviceToHost);
  cudaFree(device_in);
  cudaFree(device_out);
  return error;
}

const char* last_error() {
  static std::string text;
  return (text = simt::emu::last_error()).c_str();
}

std::uint64_t switches() { return simt::emu::switches(); }

// What was not true, or nothing.
const char* run_check(const char* name) {
  static std::string wrong;
  simt::emu::configure({});
  wrong = checks().at(name)();
  simt::emu::configure({});
  return wrong.c_str();
}

// Names of all checks, one a line.
const char* check_names() {
  static std::string names;
  names.clear();
  for (const auto& [name, _] : checks()) names += name + "\n";
  return names.c_str();
}

}  // extern "C"

int main(int, char** argv) {
  const auto number = [&](int i) { return static_cast<unsigned>(std::atoi(argv[i])); };
  const unsigned grid[] = {number(2), 1, 1}, block[] = {number(3), 1, 1};
  std::vector<char> in(1 << 16), out((1 << 16) - 8);
  const int error = run_case(argv[1], grid, block, number(4), number(5) != 0, in.data(), in.size(), out.data(), out.size());
  std::printf("%s\n", simt::emu::last_error().c_str());
  return error ? 1 : 0;
}
