# SPDX-License-Identifier: MIT
"""What the emulator's own tests share: the library of tests/simt, by ctypes."""

import ctypes

import numpy as np

SEEDS = range(5)  # of schedules


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
