# SPDX-License-Identifier: MIT
"""The pool of memory behind tapes and workspaces (csrc/memory.cpp)."""

import subprocess
import sys

import pytest
from fusedrnn import _core

MB = 1 << 20
PEAK = """
import sys
from pathlib import Path
from fusedrnn import _core
def peak():
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
before = peak()
for size in map(int, sys.argv[1:]):
    _core.buffer(size).fill(1)
print(1024 * (peak() - before))
"""


@pytest.mark.parametrize("step", [1, -1])
def test_a_buffer_takes_the_memory_of_the_last(step):
    sizes = [str(size * MB) for size in range(16, 32)][::step]
    command = [sys.executable, "-c", PEAK, *sizes]
    peak = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert 31 * MB <= peak < 35 * MB


def test_memory_comes_back():
    """To the sizes it went to before, in turns of which none serves another."""
    sizes = [4 * MB, MB, MB // 4]
    addresses = [[_core.buffer(size).ctypes.data for size in sizes] for _ in range(3)]
    assert addresses[1] == addresses[2]
