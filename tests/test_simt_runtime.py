# SPDX-License-Identifier: MIT
"""The emulator: CUDA's runtime API; and nvcc on the same kernels."""

import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from host_build import COMPILER, CSRC, TESTS, run, selftest
from simt_cases import ints, nothing

pytestmark = pytest.mark.skipif(not COMPILER, reason="no C++ compiler")

CHECKS = [
    "asked_shared_memory",
    "attributes",
    "converted_arguments",
    "copies",
    "default_stream",
    "devices",
    "events",
    "fresh_memory_is_nan",
    "host_pointers",
    "memory",
    "pointers",
    "refused_launches",
    "sticky_error",
    "stream_memory",
    "touch_device_memory",
    "work_waits",
    "wrong_copies",
]


class TestRuntime:
    @pytest.mark.parametrize("name", sorted(set(CHECKS) - {"touch_device_memory"}))
    def test_check(self, emulator, name):
        assert emulator.check(name) == ""

    def test_all_checks_are_run(self, emulator):
        assert emulator.check_names() == CHECKS

    def test_host_cannot_touch_device_memory(self):
        code = "import ctypes, sys; ctypes.CDLL(sys.argv[1]).run_check(b'touch_device_memory')"
        done = subprocess.run([sys.executable, "-c", code, selftest("selftest.so")])
        assert done.returncode == -signal.SIGSEGV

    def test_from_many_threads(self, emulator):
        x = ints(256)

        def reverse(_):
            return emulator.run("reverse_grid", x, nothing(256), 8, cooperative=True)

        with ThreadPoolExecutor(4) as pool:
            for out in pool.map(reverse, range(20)):
                assert np.array_equal(out, x[::-1])


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("nvcc"), reason="no nvcc")
@pytest.mark.parametrize("architecture", ["sm_75", "sm_80"])
def test_nvcc_compiles_the_same_text(tmp_path, architecture):
    source = tmp_path / "kernels.cu"
    source.write_text("".join(f'#include "{path}"\n' for path in TESTS.glob("simt/[!h]*.cu")))
    target = ["-c", source, "-o", tmp_path / "kernels.o"]
    run(
        ["nvcc", "-std=c++20", f"-arch={architecture}", f"-I{CSRC}", f"-I{TESTS / 'simt'}", *target]
    )
