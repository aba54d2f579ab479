# SPDX-License-Identifier: MIT
"""Builds `replay`: the device kernels and cuda_replay.cpp, by a host compiler, for the emulator."""

import hashlib
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TESTS = Path(__file__).resolve().parent
CSRC = TESTS.parent / "csrc"
COMPILER = os.environ.get("CXX", "g++")

# Kernels load bf16 as words and float as float4.
FLAGS = ["-std=c++20", "-O1", "-g1", "-Wall", "-Wextra", "-DFUSEDRNN_EMULATE"]
FLAGS += ["-fno-strict-aliasing", "-Wno-unknown-pragmas"]
ASAN = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
TSAN = ("-fsanitize=thread",)

# Each way in which a cell can differ: peepholes and two states; a hidden part with a gradient of
# its own; a second product inside the step; one gate.
FEW = ("lstm_peephole", "gru", "gru_reset_before", "rnn_relu")
FEW_CELLS = (
    "device::Lstm<true,false>,device::Gru<true>,device::Gru<false>,device::Rnn<device::Relu>"
)


def have_compiler() -> bool:
    return shutil.which(COMPILER) is not None


def sources(csrc: Path) -> list[Path]:
    return [
        *sorted(csrc.glob("simt/emu_*.cpp")),
        *sorted(csrc.glob("cuda/*.cu")),
        TESTS / "cuda_replay.cpp",
    ]


def key(csrc: Path, flags: list[str]) -> str:
    """What the executable is made of, as a name of a folder."""
    digest = hashlib.sha256(" ".join([COMPILER, *flags]).encode())
    version = subprocess.run([COMPILER, "--version"], capture_output=True, check=True)
    digest.update(version.stdout)
    headers = [p for room in ("simt", "cuda", "cells") for p in sorted(csrc.glob(f"{room}/*.h"))]
    for path in [*sources(csrc), *headers]:
        digest.update(f"\n{path.name}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def compile_one(source: Path, csrc: Path, flags: list[str], to: Path) -> Path:
    out = to / f"{source.name}.o"
    command = [COMPILER, "-x", "c++", *flags, f"-I{csrc}", "-c", str(source), "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")
    return out


def build(folder: Path, *flags: str, few: bool = False, csrc: Path = CSRC) -> Path:
    """Return the executable from folder, made anew if any source or flag has changed.

    few: only the cells of FEW, for builds that would take long.
    """
    every = [*FLAGS, *flags, *([f"-DFUSEDRNN_ONLY_CELLS={FEW_CELLS}"] if few else [])]
    home = folder / key(csrc, every)
    executable = home / "replay"
    if executable.exists():
        return executable
    home.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        largest_first = reversed(sources(csrc))
        objects = list(pool.map(lambda s: compile_one(s, csrc, every, home), largest_first))
    unfinished = home / f"replay.{os.getpid()}"
    subprocess.run([COMPILER, *flags, *map(str, objects), "-o", str(unfinished)], check=True)
    return unfinished.rename(executable)
