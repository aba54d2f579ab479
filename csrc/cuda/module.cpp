// SPDX-License-Identifier: MIT
// The module _cuda (and _cuda_emu, the same on the emulator): memory of the device, the layers' calls, what device there is.
// Use the functions of the package: they say in better words what is wrong.

#include "buffer.h"
#include "check.h"

namespace fusedrnn::cuda {
namespace {

int device_count() {
  int count = 0;
  check(cudaGetDeviceCount(&count), "cudaGetDeviceCount");  // a failure leaves the count as it was
  return count;
}

py::dict device(int index) {
  const auto get = [&](cudaDeviceAttr attribute) {
    int value = 0;
    check(cudaDeviceGetAttribute(&value, attribute, index), "cudaDeviceGetAttribute");
    return value;
  };
  py::dict facts;
  facts["capability"] = py::make_tuple(get(cudaDevAttrComputeCapabilityMajor), get(cudaDevAttrComputeCapabilityMinor));
  facts["multiprocessors"] = get(cudaDevAttrMultiProcessorCount);
  facts["shared_bytes"] = get(cudaDevAttrMaxSharedMemoryPerBlockOptin);
  facts["memory_pools"] = get(cudaDevAttrMemoryPoolsSupported) != 0;
  return facts;
}

}  // namespace
}  // namespace fusedrnn::cuda

PYBIND11_MODULE(FUSEDRNN_CUDA_MODULE, m) {
  using namespace fusedrnn::cuda;
  m.doc() = "Fused device kernels of fusedrnn. Use the functions of the package: they say in better words what is wrong.";
  m.def("device_count", &device_count);
  m.def("device", &device, py::arg("index"), "capability, multiprocessors, shared_bytes, memory_pools");
  bind_buffer(m);
  bind_calls(m);
#ifdef FUSEDRNN_EMULATE
  bind_emulator(m);
#endif
}
