// SPDX-License-Identifier: MIT
// The parts of the module _core; module.cpp puts them together.
#pragma once
#include <pybind11/pybind11.h>

namespace fusedrnn {

void bind_recurrent(pybind11::module_& m);
void bind_packed(pybind11::module_& m);
void bind_dropout(pybind11::module_& m);
void bind_ragged(pybind11::module_& m);
void bind_head(pybind11::module_& m);
void bind_adam(pybind11::module_& m);

}  // namespace fusedrnn
