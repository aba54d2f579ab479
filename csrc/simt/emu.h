// SPDX-License-Identifier: MIT
// simt.h on the host: kernels run on fibers, one for each CUDA thread, all in the OS thread that runs the launch. What the
// GPU leaves undefined is made visible: memory starts as NaN, copies arrive as late as they may, barriers that cannot be
// passed are reported with file and line. Build kernels and emulator with the same flags, -fno-strict-aliasing among them
// (kernels load bf16 as words and float as float4), and with -fsanitize=address or thread for what plain runs cannot see.
//
// It executes one sequentially consistent order out of many (emu_config.h: seed), says nothing about speed, registers or
// the last digit of the GPU's functions, and is no proof: a race may show in no order that was tried.
#pragma once
#include "emu_bf16.h"
#include "emu_builtins.h"
#include "emu_copy.h"
#include "emu_kernel.h"
#include "emu_matrix.h"
#include "emu_shared.h"
#include "emu_warp.h"
