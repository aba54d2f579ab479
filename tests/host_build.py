# SPDX-License-Identifier: MIT
"""Builds the device kernels for the emulator, by a host compiler, from the text that nvcc compiles.

What was compiled is kept in build/emulator, or the folder FUSEDRNN_EMULATOR_DIR, by the contents of
all files it was made of. `python tests/host_build.py` builds the module `_cuda_emu` and says where
it is. FUSEDRNN_EMULATOR_SANITIZE=address,undefined or =thread builds that one with sanitizers: its
process must then load their library first.
"""

import concurrent.futures
import fcntl
import functools
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

TESTS = Path(__file__).resolve().parent
CSRC = TESTS.parent / "csrc"
COMPILER = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++")

# Kernels load bf16 as words and float as float4.
FLAGS = ("-std=c++20", "-O1", "-g1", "-fPIC", "-fvisibility=hidden", "-fno-strict-aliasing")
FLAGS += ("-Wall", "-Wextra", "-Werror", "-Wno-psabi", "-DFUSEDRNN_EMULATE")
ASAN = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
TSAN = ("-fsanitize=thread",)

# Each way in which a cell can differ: peepholes and two states; a hidden part with a gradient of
# its own; a second product inside the step; one gate.
FEW = ("lstm_peephole", "gru", "gru_reset_before", "rnn_relu")
FEW_CELLS = (
    "device::Lstm<true,false>,device::Gru<true>,device::Gru<false>,device::Rnn<device::Relu>"
)

Sources = dict[Path, tuple[str, ...]]
"""What is compiled, and the flags of each beside those of all."""


def sources(paths: Iterable[Path], *flags: str) -> Sources:
    return dict.fromkeys(sorted(paths), flags)


def replay(*flags: str, few: bool = False, csrc: Path = CSRC, to: Path | None = None) -> Path:
    """Return the program of cuda_replay.cpp. few: only the cells of FEW, for long builds."""
    kernels = sources(csrc.glob("cuda/*.cu"), *[f"-DFUSEDRNN_ONLY_CELLS={FEW_CELLS}"] * few)
    driver = sources([TESTS / "cuda_replay.cpp"])
    return build("replay", kernels | driver, *flags, csrc=csrc, to=to)


@functools.cache
def selftest(target: str, *flags: str) -> Path:
    """Return the emulator with the kernels of tests/simt: selftest.so, or the program selftest."""
    cases = sources([*TESTS.glob("simt/*.c*")], "-fvisibility=default", f"-I{TESTS / 'simt'}")
    return build(target, cases, *flags)


def module() -> Path:
    """Return `_cuda_emu`: the module `_cuda`, on the emulator."""
    import pybind11

    folders = pybind11.get_include(), sysconfig.get_paths()["include"]
    flags = ["-DFUSEDRNN_CUDA_MODULE=_cuda_emu", *(f"-I{folder}" for folder in folders)]
    binding = sources(CSRC.glob("cuda/*.cpp"), *flags)
    sanitize = os.environ.get("FUSEDRNN_EMULATOR_SANITIZE")
    sanitizers = [f"-fsanitize={sanitize}"] if sanitize else []
    return build("_cuda_emu.so", sources(CSRC.glob("cuda/*.cu")) | binding, *sanitizers)


@functools.cache
def load() -> ModuleType:
    """Return the module, built if need be."""
    spec = importlib.util.spec_from_file_location("_cuda_emu", module())
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def build(
    target: str, what: Sources, *flags: str, csrc: Path = CSRC, to: Path | None = None
) -> Path:
    """Compile these sources and the emulator, as far as they changed; return the linked target."""
    to, command = to or folder(), (COMPILER, *FLAGS, *flags, f"-I{csrc}")
    what = what | sources(csrc.glob("simt/*.cpp"))
    largest_first = sorted(what, key=lambda source: source.suffix == ".cpp")
    jobs = [(source, (*command, *what[source], "-c", "-x", "c++")) for source in largest_first]
    objects = sorted(compiled(jobs, to))
    home = to / key(*command, *(path.name for path in objects))
    if not (home / target).exists():
        home.mkdir(exist_ok=True)
        shared = ["-shared"] if target.endswith(".so") else []
        unfinished = home / f"{target}.{os.getpid()}"
        run([*command, *shared, *objects, "-o", unfinished])
        unfinished.rename(home / target)
    return home / target


def folder() -> Path:
    return Path(os.environ.get("FUSEDRNN_EMULATOR_DIR", TESTS.parent / "build" / "emulator"))


def compiled(jobs: list[tuple[Path, tuple[str, ...]]], to: Path) -> list[Path]:
    """Return what each command makes of its source."""
    to.mkdir(parents=True, exist_ok=True)
    with (to / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of several processes one builds
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(lambda job: compiled_one(*job, to), jobs))


def compiled_one(source: Path, command: tuple[str, ...], to: Path) -> Path:
    flags = key(version(command[0]), *command, str(source))
    made = to / f"{source.name}-{flags}.d"  # what it was made from

    def kept() -> Path:
        """Return the file whose name has the key of all that is in it."""
        words = re.split(r"(?<!\\)\s+", made.read_text().replace("\\\n", " ").strip())
        names = [word.replace("\\ ", " ") for word in words[1:]]
        files = [path for path in map(Path, names) if path.exists()]
        return to / f"{source.name}-{key(flags, *names, *(f.read_bytes() for f in files))}.o"

    if not made.exists() or not kept().exists():
        new = made.with_suffix(".new")
        run([*command, "-MMD", "-MF", made, source, "-o", new])
        new.rename(kept())
    return kept()


def run(command: list) -> str:
    """Run a command and return what it says; if it fails, that is the error."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


@functools.cache
def version(compiler: str) -> str:
    return run([compiler, "--version"])


def key(*parts: str | bytes) -> str:
    data = [part if isinstance(part, bytes) else part.encode() for part in parts]
    return hashlib.sha256(b"\0".join(data)).hexdigest()[:16]


if __name__ == "__main__":
    print(module())
