# SPDX-License-Identifier: MIT
"""What the compiler made of the device kernels for every architecture; no GPU is needed."""

import importlib.util
import os
import re
import shutil
import subprocess
from typing import NamedTuple

import pytest
from fusedrnn import _core
from replay_cases import DEVICE_CELLS, TYPES, Case, Device
from replay_runs import plans


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
RESERVED = 1024  # by the system, of the shared memory of a block that has some; not counted for 8.0
REGISTERS, THREADS = 65536, 256  # of a multiprocessor, of a block
BLOCKS = {"forward_kernel": 2, "backward_kernel": 2, "sums_kernel": 2, "product_kernel": 2}

USAGE = re.compile(r"Function (\w+):\s+REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")
FUNCTION = re.compile(r"Function : (\w+)")
INSTRUCTION = re.compile(r"^\s+/\*\w{4,}\*/\s+(?:@!?U?P\w+ )?([A-Z][\w.]+)", re.MULTILINE)


@pytest.fixture(scope="session")
def module():
    """module(option, architecture): what cuobjdump says of the installed device kernels."""
    found = importlib.util.find_spec("fusedrnn._cuda")
    if found is None:
        pytest.skip("fusedrnn was built without device kernels")
    environment = disassembler()
    if environment is None:
        pytest.skip("no cuobjdump and nvdisasm: they come with the extra sass")
    tool = shutil.which("cuobjdump", path=environment["PATH"])

    def say(option, architecture):
        if f" {architecture}" not in _core.cuda_build:
            pytest.skip(f"built for others: {_core.cuda_build}")
        command = [tool, option, "-arch", f"sm_{architecture}", found.origin]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return say


def disassembler() -> dict[str, str] | None:
    """An environment with cuobjdump and nvdisasm, if need be those of their packages."""
    package = importlib.util.find_spec("nvidia")
    places = list(package.submodule_search_locations or []) if package else []
    path = os.pathsep.join([os.environ["PATH"], *(f"{place}/cu13/bin" for place in places)])
    tools = [shutil.which(tool, path=path) for tool in ("cuobjdump", "nvdisasm")]
    return os.environ | {"PATH": path} if all(tools) else None


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_registers_and_stack(architecture, module):
    usage = USAGE.findall(module("-res-usage", architecture))
    reserved = 0 if architecture == "80" else RESERVED
    for loop in BLOCKS:
        assert any(loop in name for name, *_ in usage), loop
    for name, *numbers in usage:
        registers, stack, shared, local = map(int, numbers)
        blocks = next((n for loop, n in BLOCKS.items() if loop in name), 1)
        assert stack == local == 0, (name, numbers)
        assert shared in (0, reserved), (name, numbers)
        assert registers <= REGISTERS // (THREADS * blocks), (name, numbers)


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


def having(instructions: set[str], *words: str) -> set[str]:
    return {i for i in instructions if i.split(".")[0] in words}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_instructions(architecture, module):
    parts = FUNCTION.split(module("-sass", architecture))[1:]
    assert parts
    for name, text in zip(parts[::2], parts[1::2], strict=True):
        instructions = set(INSTRUCTION.findall(text))
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
