# SPDX-License-Identifier: MIT
"""What the emulator says of wrong kernels."""

import re

import numpy as np
import pytest
from host_build import COMPILER, TESTS
from simt_cases import ints, nothing

pytestmark = pytest.mark.skipif(not COMPILER, reason="no C++ compiler")

# Kernel, how it is launched, and what is said of it, where L is the file and line of the call,
# and T(i) or T(i, j) thread i of block 0 or j.
WRONG = [
    ("divergent_block", {}, "divergent __syncthreads: T(8) is at L, others (8) at L"),
    (
        "divergent_grid",
        {"grid": 2, "cooperative": True},
        "divergent grid_sync: T(0, 1) is at L, others (32) at L",
    ),
    (
        "deadlock",
        {"grid": 2, "block": 64, "cooperative": True},
        "deadlock: 16 threads in __syncthreads at L, 112 threads in grid_sync at L",
    ),
    ("reverse_grid", {}, "grid_sync at L in a launch that is not cooperative"),
    ("exit_before_barrier", {}, "T(8) is in __syncthreads at L after 8 threads have exited"),
    ("exit_during_barrier", {}, "T(8) exits while 8 threads wait in __syncthreads at L"),
    ("deep_stack", {}, "T(0) uses more than its 65536 bytes of stack"),
    (
        "full_mask_in_branch",
        {},
        "deadlock: 8 threads in __shfl_sync at L with mask 0xffffffff, "
        "24 threads in __syncthreads at L",
    ),
    (
        "mask_without_self",
        {},
        "T(16) is in __shfl_sync at L with mask 0x0000ffff, which leaves out its own lane 16",
    ),
    (
        "different_calls",
        {},
        "lanes of a warp meet in different calls: T(0) in __shfl_sync at L, T(8) in "
        "__ballot_sync at L",
    ),
    (
        "carve",
        {"shared_bytes": 48},
        "Shared::take at L makes it 64 bytes of shared memory; the launch asked for 48",
    ),
    (
        "carve_differently",
        {"shared_bytes": 64},
        "Shared::take at L takes 32 bytes in T(1); another thread's take of this ordinal was 16",
    ),
    ("too_much_fixed", {}, "the arrays of SIMT_SHARED take 49168 bytes, more than 49152"),
    (
        "overrun_carved",
        {"shared_bytes": 256},
        "shared memory of block 0 was written past the end of take 0, of 128 bytes",
    ),
    (
        "overrun_fixed",
        {},
        "shared memory of block 0 was written past the end of an array of SIMT_SHARED, of "
        "124 bytes",
    ),
    (
        "overrun_global",
        {"grid": 8},
        "an allocation of 1024 bytes of device memory was written past its end",
    ),
    (
        "overrun_by_adding",
        {"grid": 8},
        "an allocation of 1024 bytes of device memory was written past its end",
    ),
    (
        "copy_misaligned_dst",
        {"shared_bytes": 32},
        "cp_async16 at L in T(0): the destination is not aligned to 16 bytes",
    ),
    (
        "copy_misaligned_src",
        {"shared_bytes": 32},
        "cp_async16 at L in T(0): the source is not aligned to 16 bytes",
    ),
    (
        "copy_to_global",
        {"shared_bytes": 32},
        "cp_async16 at L in T(0): the destination is not in shared memory",
    ),
    (
        "copy_from_shared",
        {"shared_bytes": 32},
        "cp_async16 at L in T(0): the source is not in global memory",
    ),
    (
        "copies_source_changes",
        {"shared_bytes": 1536},
        "cp_wait at L in T(0): the source of a copy has changed since it was asked for",
    ),
    (
        "misaligned_row",
        {"shared_bytes": 32},
        "ldmatrix at L in T(0): the row is not aligned to 16 bytes",
    ),
    ("row_in_global", {}, "ldmatrix at L in T(0): the row is not in shared memory"),
    (
        "mma",
        {"block": 16},
        "T(0) is in mma_bf16 at L, which needs all 32 lanes of its warp, and has 0x0000ffff",
    ),
    (
        "mma_left",
        {},
        "T(0) is in mma_bf16 at L, which needs all 32 lanes of its warp, and has 0x0000ffff",
    ),
]
CALLS = ("__syncthreads", "grid_sync", "__shfl", "__ballot", "take", "cp_", "ldmatrix", "mma_")


@pytest.mark.parametrize(("name", "how", "text"), WRONG, ids=[case[0] for case in WRONG])
def test_diagnosis(emulator, name, how, text):
    with pytest.raises(RuntimeError) as error:
        emulator.run(name, ints(256), nothing(256), **how)
    said = re.sub(r"thread \((\d+),0,0\) of block \(0,0,0\)", r"T(\1)", str(error.value))
    said = re.sub(r"thread \((\d+),0,0\) of block \((\d+),0,0\)", r"T(\1, \2)", said)
    assert re.sub(r"\w+\.cu:\d+", "L", said) == text
    for file, line in re.findall(r"at (\w+\.cu):(\d+)", said):
        lines = (TESTS / "simt" / file).read_text().splitlines()
        assert any(call in lines[int(line) - 1] for call in CALLS)
    # What a failed kernel leaves behind does not reach the next.
    emulator.configure()
    out = emulator.run("reverse_block", ints(64), nothing(64), 2)
    assert np.array_equal(out, ints(64).reshape(2, 32)[:, ::-1].ravel())
