# SPDX-License-Identifier: MIT
"""What this machine can do (limits.cpp, compiled here and now), and the bound of a problem by it.

A problem's bound is the time of its operations at the peak, and for the products that go step by
step at least the time to read the weights at the bandwidth of a core's own share of them.
"""

import ctypes
import functools
import os
import pathlib
import statistics
import subprocess
import tempfile

from fusedrnn.weights import CELLS

HERE = pathlib.Path(__file__).parent
TEAM = HERE.parent / "csrc" / "cpu"
FLAGS = {"avx512": ["-mavx512f"], "avx2": ["-mavx2", "-mfma"]}
TAKES = 15  # each figure is the median of so many
SHARES = tuple(2**i for i in range(15, 26))  # 32 KB to 32 MB, the shares of the printed curve


@functools.cache
def library():
    """limits.cpp for the instruction set in use."""
    import fusedrnn

    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "limits.so"
        compiler = os.environ.get("CXX", "c++").split()
        options = ["-O2", "-std=c++20", "-ffp-contract=fast", "-fopenmp", "-fPIC", "-shared"]
        sources = [HERE / "limits.cpp", TEAM / "team.cpp", "-I", TEAM, "-o", path]
        options += FLAGS.get(fusedrnn.isa(), [])
        subprocess.run([*compiler, *options, *map(str, sources)], check=True)
        loaded = ctypes.CDLL(str(path))
    for name in ("peak", "bandwidth", "barrier"):
        getattr(loaded, name).restype = ctypes.c_double
    return loaded


def peak(threads):
    """Operations (2 for a multiply-add) a second, all threads together."""
    return _rate("peak", threads)


def bandwidth(threads, share):
    """Bytes a second, all threads together, each reading `share` bytes of its own."""
    return _rate("bandwidth", threads, ctypes.c_long(max(4096, share // 4096 * 4096)))


def barrier(threads):
    """Seconds of one barrier."""
    return 1 / _rate("barrier", threads)


def _rate(name, threads, *args):
    seconds = (ctypes.c_double * TAKES)()
    amount = getattr(library(), name)(threads, TAKES, seconds, *args)
    return amount / statistics.median(seconds)


def limits(threads, cell, T, N, I, H):
    """The figures that bound one problem, measured now."""
    return {
        "peak": peak(threads),
        "bandwidth": bandwidth(threads, 4 * CELLS[cell].gates * H * H // threads),
        "barrier": barrier(threads),
    }


def bound(limits, task, cell, T, N, I, H):
    """The least seconds that the problem can take.

    Training is the forward scan, a backward scan that reads W_hh as often, and the products
    for dx, dW_ih and dW_hh, which can take all steps at once.
    """
    rows, width = CELLS[cell].gates * H, limits["peak"] / (2 * T * N)
    step_by_step = max(rows * H / width, T * 4 * rows * H / limits["bandwidth"])
    if task == "inference":
        return rows * I / width + step_by_step
    return 3 * rows * I / width + 2 * step_by_step + rows * H / width
