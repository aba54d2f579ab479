// SPDX-License-Identifier: MIT
// What tests ask of the emulator, in _cuda_emu only.
#include "args.h"
#include "buffer.h"
#include "simt/emu_config.h"

namespace fusedrnn::cuda {

void bind_emulator(py::module_& m) {
  using simt::emu::Config;
  py::class_<Config>(m, "Config", py::module_local())
      .def(py::init<>())
      .def_readwrite("seed", &Config::seed)
      .def_readwrite("devices", &Config::devices)
      .def_readwrite("multiprocessors", &Config::multiprocessors)
      .def_readwrite("capability_major", &Config::capability_major)
      .def_readwrite("capability_minor", &Config::capability_minor)
      .def_readwrite("shared_optin", &Config::shared_optin)
      .def_readwrite("shared_per_sm", &Config::shared_per_sm)
      .def_readwrite("memory", &Config::memory)
      .def_readwrite("check_ldg", &Config::check_ldg)
      .def_readwrite("check_arguments", &Config::check_arguments);
  m.def(
      "configure",
      [](const Config& config) {
        simt::emu::configure(config);
        forget_devices();
      },
      py::arg("config"));
  m.def("last_error", &simt::emu::last_error);
  m.def("unread_error", [] { return cudaGetErrorName(cudaPeekAtLastError()); });
  m.def("switches", &simt::emu::switches);
}

}  // namespace fusedrnn::cuda
