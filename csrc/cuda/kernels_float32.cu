// SPDX-License-Identifier: MIT
#include "table.h"

namespace fusedrnn::cuda {

template <> const Kernels<float>& kernels() {
  static const Kernels<float> k = table<float>();
  return k;
}

}  // namespace fusedrnn::cuda
