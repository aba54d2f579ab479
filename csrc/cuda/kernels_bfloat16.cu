// SPDX-License-Identifier: MIT
#include "table.h"

namespace fusedrnn::cuda {

template <> const Kernels<simt::bf16>& kernels() {
  static const Kernels<simt::bf16> k = table<simt::bf16>();
  return k;
}

}  // namespace fusedrnn::cuda
