// SPDX-License-Identifier: MIT
// CUDA's host API for files that have no kernels: NVIDIA's, or the emulator's of the same names and its controls.
#pragma once

#ifdef FUSEDRNN_EMULATE
#include "emu_config.h"
#include "emu_runtime.h"
#else
#include <cuda_runtime_api.h>
#endif
