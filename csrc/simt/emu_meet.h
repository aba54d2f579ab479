// SPDX-License-Identifier: MIT
// The meeting of a warp's lanes, which all that a warp does together is made of.
#pragma once
#include "emu_launch.h"

namespace simt::emu {

// Waits for all lanes of mask that have not exited; the last to come does op for all. ordered: what lanes wrote before, all
// see after (a shuffle does not promise that).
void meet_warp(std::uint32_t mask, void* deposit, WarpOp op, bool ordered, const char* what, Place where);

// As above, for instructions that need all 32 lanes.
void meet_full_warp(void* deposit, WarpOp op, const char* what, Place where);

}  // namespace simt::emu
