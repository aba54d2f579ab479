// SPDX-License-Identifier: MIT
// The meeting of a warp's lanes, which all that a warp does together is made of.
#pragma once
#include "emu_launch.h"

namespace simt::emu {

// Waits for all lanes of mask that have not exited; the last to come does op for all.
void meet_warp(std::uint32_t mask, void* deposit, WarpOp op, Meeting meeting, const char* what, Place where);

}  // namespace simt::emu
