# SPDX-License-Identifier: MIT
"""Runs layers by `replay` on an emulated device, and compares."""

import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from fusedrnn.weights import Array
from replay_cases import Case, Device, Layer, from_bfloat16, to_bfloat16


class Plan(NamedTuple):
    persistent: int
    unit_blocks: int
    row_blocks: int
    shared_bytes: int
    workspace_bytes: int


class Plans(NamedTuple):
    """Of one layer."""

    inference: Plan
    training: Plan
    backward: Plan
    tape_bytes: int


class Result(NamedTuple):
    """What one run computed."""

    plans: Plans
    inference: dict[str, Array]  # y and state_n
    training: dict[str, Array]  # all by name


def header(case: Case, device: Device, plan_only: bool = False) -> bytes:
    """As `replay` reads it: struct Header."""
    sizes = case.T, case.N, case.I, case.H, case.D, case.reverse
    numbers = (case.type == "bfloat16", *sizes, device.multiprocessors, plan_only)
    large = (device.seed, device.shared_optin, device.shared_per_sm)
    return struct.pack("<32s9i4x3Q", case.cell.encode(), *numbers, *large)


def problem(layer: Layer, device: Device) -> bytes:
    """One problem of the file that `replay` reads: a header, and what Problem reads."""
    bfloat16, parts = layer.case.type == "bfloat16", [header(layer.case, device)]
    for array in layer.inputs():
        if array is None:
            parts.append(struct.pack("<q", -1))
            continue
        data = to_bfloat16(array) if bfloat16 and array.dtype == np.float32 else array
        parts += [struct.pack("<q", data.nbytes), data.tobytes()]
    width = 2 if bfloat16 else 4
    for shape in (shape for group in layer.outputs() for shape in group.values()):
        parts.append(struct.pack("<q", -1 if shape is None else int(np.prod(shape)) * width))
    return b"".join(parts)


PLANS = struct.Struct("<4iQ4iQ4iQQ")


def parse_plans(results: memoryview) -> Plans:
    *numbers, tape_bytes = PLANS.unpack_from(results)
    return Plans(*(Plan(*numbers[i : i + 5]) for i in (0, 5, 10)), tape_bytes)


def parse(layer: Layer, results: memoryview) -> tuple[Result, int]:
    """The first result of those, and how many bytes it takes."""
    bfloat16, at = layer.case.type == "bfloat16", PLANS.size
    forward, backward = layer.outputs()
    runs = []
    for group in (forward, forward, backward):
        arrays = {}
        for name, shape in group.items():
            if shape is None:
                continue
            a = np.frombuffer(
                results, np.uint16 if bfloat16 else np.float32, int(np.prod(shape)), at
            )
            at += a.nbytes
            arrays[name] = (from_bfloat16(a) if bfloat16 else a).reshape(shape)
        runs.append(arrays)
    return Result(parse_plans(results), runs[0], runs[1] | runs[2]), at


def replay_file(replay: Path, problems: list[bytes], folder: Path, **options) -> memoryview:
    paths = folder / "problems", folder / "results"
    paths[0].write_bytes(b"".join(problems))
    command = [replay, *paths]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", **options)
    if done.returncode:
        raise RuntimeError(f"exit status {done.returncode}: {done.stderr[:4000]}")
    return memoryview(paths[1].read_bytes())


def run(
    replay: Path, problems: list[tuple[Case, Device]], folder: Path, **options
) -> Iterator[Result]:
    """Run all problems in one process; RuntimeError with what it said if it fails."""
    layers = [Layer(case) for case, _ in problems]
    devices = [device for _, device in problems]
    results = replay_file(replay, list(map(problem, layers, devices)), folder, **options)
    for layer in layers:
        result, end = parse(layer, results)
        results = results[end:]
        yield result
    assert not results


def plans(replay: Path, problems: list[tuple[Case, Device]], folder: Path) -> list[Plans]:
    """How each would run."""
    headers = [header(case, device, plan_only=True) for case, device in problems]
    results = replay_file(replay, headers, folder)
    return [parse_plans(results[i * PLANS.size :]) for i in range(len(problems))]


def assert_right(case: Case, result: Result, assert_close) -> None:
    for name, array in result.inference.items():
        assert array.tobytes() == result.training[name].tobytes(), (case, name)
    expected = Layer(case).expected()
    for name, array in result.training.items():
        kind = "y" if name in result.inference else "grad"
        assert_close(array, expected[name], kind, case.type)


def assert_equal(result: Result, other: Result, what: object) -> None:
    for name, array in result.training.items():
        assert array.tobytes() == other.training[name].tobytes(), (what, name)
