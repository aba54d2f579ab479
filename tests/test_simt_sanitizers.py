# SPDX-License-Identifier: MIT
"""What the sanitizers see of kernels in the emulator: what plain runs may not show."""

import os
import subprocess

import pytest
from host_build import ASAN, COMPILER, TSAN, selftest

pytestmark = [
    pytest.mark.skipif(not COMPILER, reason="no C++ compiler"),
    pytest.mark.slow,
]

# Kernel, blocks, threads of a block, bytes of shared memory, cooperative
RIGHT = [
    ("reverse_block", 4, 64, 0, 0),
    ("two_rounds", 4, 64, 0, 0),
    ("reverse_grid", 4, 64, 0, 1),
    ("reverse_warp", 2, 64, 0, 0),
    ("half_warps", 1, 32, 0, 0),
    ("shuffles_float", 1, 32, 0, 0),
    ("votes", 1, 32, 0, 0),
    ("exited_lanes", 1, 32, 0, 0),
    ("add_all_int", 4, 64, 0, 0),
    ("last_block_sums", 4, 32, 0, 0),
    ("carve", 1, 32, 64, 0),
    ("copies", 1, 32, 1536, 0),
    ("constant_load", 1, 32, 0, 0),
    ("ldmatrix_4", 1, 32, 512, 0),
    ("mma", 1, 32, 0, 0),
]
RACES = [
    ("reverse_block_without_barrier", 4, 64, 0, 0),
    ("two_rounds_write_early", 4, 64, 0, 0),
    ("reverse_grid_by_block_barrier", 4, 64, 0, 1),
    ("reverse_warp_without_barrier", 2, 64, 0, 0),
    ("add_all_plainly", 4, 64, 0, 0),
    ("last_block_sums_without_fence", 4, 32, 0, 0),
    ("copies_no_barrier", 1, 32, 1536, 0),
    ("copy_too_early", 1, 32, 512, 0),
    ("load_without_barrier", 1, 32, 512, 0),
]
OVERRUNS = [
    ("overrun_carved", 1, 32, 256, 0, "heap-buffer-overflow"),
    ("overrun_fixed", 1, 32, 0, 0, "heap-buffer-overflow"),
    ("overrun_global", 16, 1024, 0, 0, "use-after-poison"),
]


def name(case):
    return case[0]


@pytest.fixture(scope="session")
def address():
    return selftest("selftest", *ASAN)


@pytest.fixture(scope="session")
def thread():
    return selftest("selftest", *TSAN)


def run(program, case):
    """The exit status, and what the sanitizer says."""
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0", "TSAN_OPTIONS": "exitcode=66"}
    environment.pop("LD_PRELOAD", None)
    done = subprocess.run(
        [program, *map(str, case[:5])], capture_output=True, text=True, env=environment
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("case", RIGHT, ids=name)
def test_right_kernels_are_clean(address, thread, case):
    assert run(address, case) == (0, "")
    assert run(thread, case) == (0, "")


@pytest.mark.parametrize("case", RACES, ids=name)
def test_races(thread, case):
    status, report = run(thread, case)
    assert status == 66
    assert "data race" in report
    assert ".cu:" in report


@pytest.mark.parametrize("case", OVERRUNS, ids=name)
def test_overruns(address, case):
    status, report = run(address, case)
    assert status == 1
    assert case[5] in report
    assert "memory.cu:" in report


def test_a_failed_kernel_is_no_finding(address):
    assert run(address, ("deadlock", 2, 64, 0, 1)) == (1, "")
