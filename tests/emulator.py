# SPDX-License-Identifier: MIT
"""The device kernels on the host: builds and loads `_cuda_emu` from the text that nvcc compiles.

`python tests/emulator.py` builds it and says where it is. Objects are kept in build/emulator, or
the folder FUSEDRNN_EMULATOR_DIR. FUSEDRNN_EMULATOR_SANITIZE=address,undefined or =thread builds it
with sanitizers: its process must then load their library first.
"""

import concurrent.futures
import fcntl
import functools
import hashlib
import importlib.util
import os
import pathlib
import subprocess
import sysconfig

import pybind11

ROOT = pathlib.Path(__file__).parents[1]
NAME = "_cuda_emu"
CSRC = ROOT / "csrc"
FLAGS = (
    "-std=c++20", "-O1", "-g1", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror",
    "-DFUSEDRNN_EMULATE", f"-DFUSEDRNN_CUDA_MODULE={NAME}", f"-I{CSRC}",
    f"-I{pybind11.get_include()}", f"-I{sysconfig.get_paths()['include']}",
)  # fmt: skip


def build() -> pathlib.Path:
    """Compile what has changed and return the module's path."""
    folder = pathlib.Path(os.environ.get("FUSEDRNN_EMULATOR_DIR", ROOT / "build" / "emulator"))
    folder.mkdir(parents=True, exist_ok=True)
    sanitize = os.environ.get("FUSEDRNN_EMULATOR_SANITIZE")
    compiler = [
        os.environ.get("CXX", "g++"),
        *FLAGS,
        *([f"-fsanitize={sanitize}"] * bool(sanitize)),
    ]
    headers = b"".join(path.read_bytes() for path in sorted(CSRC.rglob("*.h")))
    sources = [*CSRC.glob("cuda/*.c*"), *CSRC.glob("simt/*.cpp")]

    def compiled(source: pathlib.Path) -> pathlib.Path:
        key = _key(headers, source.read_bytes(), *map(str.encode, compiler))
        to = folder / f"{source.stem}-{key}.o"
        if not to.exists():
            part = to.with_suffix(".part")
            subprocess.run([*compiler, "-c", "-x", "c++", source, "-o", part], check=True)
            part.rename(to)
        return to

    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of several processes one builds
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = sorted(pool.map(compiled, sources))
        module = folder / _key(*map(str.encode, map(str, objects))) / f"{NAME}.so"
        if not module.exists():
            module.parent.mkdir(exist_ok=True)
            subprocess.run([*compiler, "-shared", *objects, "-o", module], check=True)
    return module


@functools.cache
def load():
    """Return the module, built if need be."""
    spec = importlib.util.spec_from_file_location(NAME, build())
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _key(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


if __name__ == "__main__":
    print(build())
