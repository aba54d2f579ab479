# SPDX-License-Identifier: MIT
"""What the compiler makes of the device kernels for every architecture; no GPU is needed."""

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import host_build
import pytest
from host_build import CSRC
from replay_cases import DEVICE_CELLS, TYPES, Case, Device
from replay_runs import plans

NVCC = shutil.which("nvcc")
KERNELS = sorted(path.name for path in CSRC.glob("cuda/*.cu") if path.name != "plan.cu")


class Limits(NamedTuple):
    """Of a multiprocessor, in bytes: the CUDA C++ programming guide, "Compute Capabilities"."""

    shared_optin: int
    shared_per_sm: int


ARCHITECTURES = {
    "80": Limits(163 * 1024, 164 * 1024),
    "90": Limits(227 * 1024, 228 * 1024),
    "100": Limits(227 * 1024, 228 * 1024),
    "120": Limits(99 * 1024, 100 * 1024),
}
REGISTERS, THREADS = 65536, 256  # of a multiprocessor, of a block
BLOCKS = {"forward_kernel": 2, "backward_kernel": 2, "sums_kernel": 2, "product_kernel": 2}

ENTRY = re.compile(r"Compiling entry function '(\w+)'")
STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers(?:.*?, (\d+) bytes smem)?")

INSTRUCTION = re.compile(r"^\s+/\*\w{4,}\*/\s+(?:@!?U?P\w+ )?([A-Z][\w.]+)", re.MULTILINE)


class Kernel(NamedTuple):
    name: str
    stack: int
    spilled: int
    registers: int
    static_shared: int


def command(architecture: str) -> tuple[str, ...]:
    options = "-std=c++20", "--expt-relaxed-constexpr", f"-I{CSRC}", "-Xptxas", "-v", "-cubin"
    return NVCC, *options, f"-arch=sm_{architecture}"


def kernels_of(cubin: Path) -> list[Kernel]:
    kernels, parts = [], ENTRY.split(cubin.with_suffix(".txt").read_text())[1:]
    for name, text in zip(parts[::2], parts[1::2], strict=True):
        stack, stores, loads = map(int, STACK.search(text).groups())
        registers, shared = USED.search(text).groups()
        kernels.append(Kernel(name, stack, stores + loads, int(registers), int(shared or 0)))
    return kernels


@pytest.fixture(scope="session")
def compiled():
    """The machine code by architecture and source; what ptxas said is beside it."""
    if NVCC is None:
        pytest.skip("no nvcc")
    pairs = [(source, architecture) for architecture in ARCHITECTURES for source in KERNELS]
    jobs = [(CSRC / "cuda" / source, command(architecture)) for source, architecture in pairs]
    return dict(zip(pairs, host_build.compiled(jobs, host_build.folder()), strict=True))


@pytest.mark.parametrize("source", KERNELS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_registers_and_stack(architecture, source, compiled):
    kernels = kernels_of(compiled[source, architecture])
    assert kernels
    for kernel in kernels:
        blocks = next((n for name, n in BLOCKS.items() if name in kernel.name), 1)
        assert kernel.stack == kernel.spilled == kernel.static_shared == 0, kernel
        assert kernel.registers <= REGISTERS // (THREADS * blocks), kernel


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_shared_memory(architecture, build_replay, tmp_path):
    limits = ARCHITECTURES[architecture]
    cases = [
        Case(cell, type, T=2, N=64, I=2, H=H, D=D)
        for cell in DEVICE_CELLS
        for type in TYPES
        for H in (1, 64, 500, 768, 1024, 4096, 30000)
        for D in (1, 2)
    ]
    device = Device(multiprocessors=64, **limits._asdict())
    for case, by_pass in zip(
        cases, plans(build_replay(), [(case, device) for case in cases], tmp_path), strict=True
    ):
        for plan in by_pass[:3]:
            assert 0 < plan.shared_bytes <= limits.shared_optin, (case, by_pass)


def disassembler() -> dict[str, str] | None:
    """An environment with cuobjdump and nvdisasm, if need be those of their packages."""
    package = importlib.util.find_spec("nvidia")
    places = list(package.submodule_search_locations or []) if package else []
    path = os.pathsep.join([os.environ["PATH"], *(f"{place}/cu13/bin" for place in places)])
    tools = [shutil.which(tool, path=path) for tool in ("cuobjdump", "nvdisasm")]
    return os.environ | {"PATH": path} if all(tools) else None


@pytest.fixture(scope="session")
def sass(compiled):
    """sass(source, architecture): the instructions of each kernel, by its name."""
    environment = disassembler()
    if environment is None:
        pytest.skip("no cuobjdump and nvdisasm: they come with the extra sass")
    tool = shutil.which("cuobjdump", path=environment["PATH"])

    def disassemble(source, architecture):
        path = compiled[source, architecture]
        done = subprocess.run(
            [tool, "-sass", path], capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, done.stderr
        parts = re.split(r"Function : (\w+)", done.stdout)[1:]
        return {
            name: set(INSTRUCTION.findall(text))
            for name, text in zip(parts[::2], parts[1::2], strict=True)
        }

    return disassemble


def having(instructions: set[str], *words: str) -> set[str]:
    return {i for i in instructions if i.split(".")[0] in words}


@pytest.mark.parametrize("source", KERNELS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_instructions(architecture, source, sass):
    by_kernel = sass(source, architecture)
    assert by_kernel
    for name, instructions in by_kernel.items():
        assert having(instructions, "EXIT"), name  # else they were not understood
        assert not having(instructions, "LDL", "STL"), name
        loop = "forward_kernel" in name or "backward_kernel" in name
        if loop:
            assert having(instructions, "LDGSTS"), name
            # Only the grid's barrier does not know which memory it reads.
            assert not [i for i in having(instructions, "LD", "ST") if "STRONG" not in i], name
            # What other blocks wrote since the launch may not come from the read-only cache.
            assert not [i for i in instructions if "CONSTANT" in i or i.startswith("LDG.E.CI")], (
                name
            )
        if "__nv_bfloat16" in name and (loop or "product_kernel" in name):
            assert "HMMA.16816.F32.BF16" in instructions, name
            assert having(instructions, "LDSM"), name
