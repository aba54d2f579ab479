# SPDX-License-Identifier: MIT
"""The emulator of csrc/simt and the kernels of tests/simt, compiled for a test session."""

import ctypes
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
KERNELS = sorted(
    ROOT / "tests/simt" / name
    for name in ["barriers.cu", "warps.cu", "memory.cu", "matrices.cu", "driver.cpp"]
)
CHECKS = sorted((ROOT / "tests/simt").glob("host_*.cu"))
EMULATOR = sorted((ROOT / "csrc/simt").glob("emu_*.cpp"))
INCLUDES = [f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'tests/simt'}"]
SEEDS = range(5)  # of schedules
COMPILER = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++")


def run(command):
    """Run a command; what it says is the error if it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")


def together(sources, path):
    """One file that includes all sources: the standard library is read once."""
    path.write_text("".join(f'#include "{source}"\n' for source in sources))
    return path


def build(folder, target, *flags):
    """Compile all into folder / target: a library if its name ends in .so, else a program."""
    groups = {"emulator": EMULATOR, "kernels": KERNELS, "checks": CHECKS}
    common = [COMPILER, "-std=c++20", "-O1", "-fPIC", *flags]
    emulate = ["-fno-strict-aliasing", "-DFUSEDRNN_EMULATE", *INCLUDES]
    warnings = ["-Wall", "-Wextra", "-Werror", "-Wno-psabi"]

    def compile_group(name):
        source = together(groups[name], folder / f"{name}.cpp")
        run([*common, *emulate, *warnings, "-c", source, "-o", source.with_suffix(".o")])
        return source.with_suffix(".o")

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_group, groups))
    shared = ["-shared"] if target.endswith(".so") else []
    run([*common, *shared, *objects, "-o", folder / target])
    return folder / target


class Emulator:
    """The library; kernels run by name."""

    def __init__(self, path):
        self.library = ctypes.CDLL(str(path))
        self.library.last_error.restype = ctypes.c_char_p
        self.library.run_check.restype = ctypes.c_char_p
        self.library.check_names.restype = ctypes.c_char_p
        self.library.switches.restype = ctypes.c_uint64

    def configure(self, seed=0, multiprocessors=8, check_ldg=False):
        self.library.configure(
            ctypes.c_uint64(seed), ctypes.c_int(multiprocessors), ctypes.c_bool(check_ldg)
        )

    def run(self, name, x, out, grid=1, block=32, shared_bytes=0, cooperative=False):
        """Return what the kernel makes of out. RuntimeError: it failed, with the diagnosis."""
        x, out = np.ascontiguousarray(x), np.array(out)
        sizes = [_dim3(grid), _dim3(block)]
        error = self.library.run_case(
            name.encode(),
            *(ctypes.c_void_p(size.ctypes.data) for size in sizes),
            ctypes.c_size_t(shared_bytes),
            ctypes.c_bool(cooperative),
            ctypes.c_void_p(x.ctypes.data),
            ctypes.c_size_t(x.nbytes),
            ctypes.c_void_p(out.ctypes.data),
            ctypes.c_size_t(out.nbytes),
        )
        if error:
            raise RuntimeError(self.library.last_error().decode() or f"error {error}")
        return out

    def check(self, name):
        return self.library.run_check(name.encode()).decode()

    def check_names(self):
        return self.library.check_names().decode().split()

    def switches(self):
        return self.library.switches()


def ints(n):
    return np.arange(100, 100 + n, dtype=np.int32)


def nothing(n, dtype=np.int32):
    return np.zeros(n, dtype)


def _dim3(size):
    size = size if isinstance(size, tuple) else (size,)
    return np.array(size + (1,) * (3 - len(size)), np.uint32)
