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
    "-std=c++20", "-O1", "-g1", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra",
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
    flags = _key(*map(str.encode, compiler))

    def compiled(source: pathlib.Path) -> str:
        """Return the name of an object, without its suffix, that has the key of what is in it."""
        made = folder / f"{source.stem}-{flags}.d"  # what it was made from
        if not made.exists() or not (folder / f"{_contents(made, flags)}.o").exists():
            new = made.with_suffix(".new")
            command = [*compiler, "-MMD", "-MF", made, "-c", "-x", "c++", source, "-o", new]
            subprocess.run(command, check=True)
            new.rename(folder / f"{_contents(made, flags)}.o")
        return _contents(made, flags)

    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of several processes one builds
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            sources = [*CSRC.glob("cuda/*.c*"), *CSRC.glob("simt/*.cpp")]
            objects = sorted(pool.map(compiled, sources))
        module = folder / _key(*map(str.encode, objects)) / f"{NAME}.so"
        if not module.exists():
            module.parent.mkdir(exist_ok=True)
            paths = [folder / f"{name}.o" for name in objects]
            subprocess.run([*compiler, "-shared", *paths, "-o", module], check=True)
    return module


@functools.cache
def load():
    """Return the module, built if need be."""
    spec = importlib.util.spec_from_file_location(NAME, build())
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _contents(made: pathlib.Path, flags: str) -> str:
    """Return the key of all our files that a compiler's list of dependencies names."""
    names = made.read_text().replace("\\\n", " ").split()[1:]
    files = [pathlib.Path(name) for name in names if name.startswith(str(CSRC))]
    here = [str(file).encode() + file.read_bytes() for file in files if file.exists()]
    return f"{files[0].stem}-{_key(flags.encode(), *here)}"


def _key(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


if __name__ == "__main__":
    print(build())
