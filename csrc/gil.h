// SPDX-License-Identifier: MIT
// Python's lock, let go of while a call computes or waits.
#pragma once
#include <Python.h>
#include <unistd.h>

namespace fusedrnn {

// Other threads of Python run for as long as this lives. A daemon thread that would go on when the interpreter has ended
// sleeps until the process has, as in Python from 3.14 on; before, Python ends it by unwinding, which would end the process
// here: no destructor survives it, neither pybind11's nor that of an array.
class WithoutGil {
 public:
  WithoutGil() : state_(PyEval_SaveThread()) {}
  WithoutGil(const WithoutGil&) = delete;
  ~WithoutGil() {
    try {
      PyEval_RestoreThread(state_);
    } catch (...) {
      for (;;) pause();
    }
  }

 private:
  PyThreadState* state_;
};

}  // namespace fusedrnn
