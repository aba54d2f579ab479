// SPDX-License-Identifier: MIT
// The compiled module: names and settings. The work is bound in recurrent.cpp, packed.cpp, ragged.cpp, dropout.cpp,
// head.cpp and adam.cpp.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bindings.h"
#include "cpu/dispatch.h"
#include "cpu/plan.h"
#include "cpu/team.h"
#include "tensors.h"

#if defined(__clang__)
#define FUSEDRNN_COMPILER "Clang " __clang_version__
#else
#define FUSEDRNN_COMPILER "GCC " __VERSION__
#endif

PYBIND11_MODULE(_core, m) {
  using namespace fusedrnn;
  m.doc() = "Fused kernels of fusedrnn. Use the functions of the package: they say in better words what is wrong.";
  m.attr("__version__") = FUSEDRNN_VERSION;
  m.attr("compiler") = FUSEDRNN_COMPILER;
  m.attr("cuda_build") = FUSEDRNN_CUDA_BUILD;
  num_threads();  // reads the environment
  bind_recurrent(m);
  bind_packed(m);
  bind_ragged(m);
  bind_dropout(m);
  bind_head(m);
  bind_adam(m);
  m.def("accept_tensors", &accept_tensors, pybind11::arg("type"), pybind11::arg("parameter"),
        "Tensors of this type may come in place of arrays; it has DLPack's exchange table.");
  m.def("plain_shapes", &plain_shapes, pybind11::arg("tensors"),
        "Their shapes if all are tensors on the CPU of one float dtype, contiguous, not negated, of the type or its subclass "
        "`parameter`; or None.");
  m.def(
      "isas",
      [] {
        std::vector<std::string> names;
        for (const Isa* isa : available_isas()) names.push_back(isa->name);
        return names;
      },
      "Instruction sets this processor has kernels for, the best last.");
  m.def("isa", [] { return std::string(current_isa().name); }, "The instruction set in use.");
  m.def("set_isa", &set_isa, pybind11::arg("name"));
  m.def("num_threads", &num_threads, "The most threads a call may use.");
  m.def("threads_at_work", &threads_at_work, "Threads in calls that run now; a new call takes what is left.");
  m.def("meeting_time", &meeting_time, "Nanoseconds that two threads take to meet at a barrier, as last measured.");
  m.def("threads_of_units", &threads_of_units, pybind11::arg("most"), pybind11::arg("step"), pybind11::arg("meeting"),
        "Threads that share a step of so many operations, by the nanoseconds that two take to meet.");
  m.def(
      "threads_of_rows",
      [](int most, int of_units, long T, long N, long I, long H, int gates, int width, int meeting) {
        return threads_of_rows(most, of_units, {T, N, I, H, H}, gates, width, meeting);
      },
      pybind11::arg("most"), pybind11::arg("of_units"), pybind11::arg("T"), pybind11::arg("N"), pybind11::arg("I"),
      pybind11::arg("H"), pybind11::arg("gates"), pybind11::arg("width"), pybind11::arg("meeting"),
      "Threads that split the rows of a scan whose units so many would split; 1: none should.");
  m.def("set_num_threads", &set_num_threads, pybind11::arg("n"), pybind11::arg("beyond_processors") = false,
        "beyond_processors: also more than the processors this process may run on, to test many threads on few.");
}
