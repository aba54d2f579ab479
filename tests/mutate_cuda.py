# SPDX-License-Identifier: MIT
"""Breaks the device kernels in one place at a time and tells which of these mutants no test sees.

Run by hand, for it takes up to an hour:  python tests/mutate_cuda.py [NUMBER ...] [--list]

A mutant lacks one synchronisation, compares with < for <= or the like, or has lost a guard. All
but those in what is known when it is compiled are built at once, asleep, with few cells. Each is
run without sanitizers, then for races, then with those for addresses, until results are wrong or a
run fails. Who survives must be explained in cuda_survivors.md.
"""

import argparse
import dataclasses
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import TOLERANCES
from cuda_mutants import PRELUDE, Mutant, can_sleep, kernel_files, mutants, schema
from host_build import ASAN, CSRC, FEW, TESTS, TSAN, replay
from replay_cases import ONE_BLOCK, SHAPES, SMALL, TWO_BLOCKS, TYPES, Case, Device, Layer, every_way
from replay_runs import plans, run
from test_cuda_plan import EXPECTED as PLANS
from test_cuda_plan import MEMORY, assert_memory, assert_sizes

SURVIVORS = TESTS / "cuda_survivors.md"
OPTIONS = {"ASAN_OPTIONS": "detect_leaks=0", "TSAN_OPTIONS": "halt_on_error=1"}
PLANNING = ("cuda/plan.cu", "cuda/host.h", "cuda/forward.cu", "cuda/backward.cu")
SECONDS = 300  # that the processor gives to one run; a mutant may never end


class Mode:
    """One way to build and to run."""

    def __init__(self, folder: Path, csrc: Path, expected: "Expected", sanitizers, problems):
        self.folder, self.csrc, self.expected, self.problems = folder, csrc, expected, problems
        self.flags = *sanitizers, "-w", "-include", str(csrc / "prelude.h")

    def build(self) -> Path:
        return replay(*self.flags, few=True, csrc=self.csrc, to=self.folder)

    def limited(self, executable: Path) -> Path:
        """What runs it, and ends it if it never would."""
        script = self.folder / f"{executable.parent.name}.sh"
        script.write_text(f'#!/bin/sh\nulimit -t {SECONDS}\nexec {executable} "$@"\n')
        script.chmod(0o755)
        return script

    @functools.cached_property
    def asleep(self) -> Path:
        """What has all mutants that can be woken when it runs, and is right if none is."""
        executable = self.limited(self.build())
        if why := self.wrong(executable, -1):
            raise RuntimeError(f"without a mutant: {why}")
        return executable

    def built_for(self, mutant: Mutant) -> Path:
        """With a mutant that cannot."""
        kept = {self.asleep, *self.folder.iterdir(), self.folder / "replay"}
        path = self.csrc / mutant.file
        text = path.read_text()
        lines = text.split("\n")
        lines[mutant.line - 1] = mutant.mutated()
        path.write_text("\n".join(lines))
        try:
            return self.build().rename(self.folder / "replay")
        finally:
            path.write_text(text)
            for path in set(self.folder.iterdir()) - kept:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def kill(self, number: int, mutant: Mutant, sleeps: bool) -> str:
        """Why the mutant is wrong, or nothing."""
        asleep = self.asleep
        try:
            executable = asleep if sleeps else self.limited(self.built_for(mutant))
        except RuntimeError as error:
            return " ".join(str(error).split())[:200]
        return self.wrong(executable, number, mutant.file in PLANNING)

    def wrong(self, executable: Path, number: int, planning: bool = True) -> str:
        os.environ["MUTANT"] = str(number)
        options = {"env": os.environ | OPTIONS}
        try:
            if planning and (why := wrong_plan(executable, self.folder)):
                return why
            for problems in batches(self.problems):
                results = run(executable, problems, self.folder, **options)
                for (case, _), result in zip(problems, results, strict=True):
                    if why := compare(case, result, self.expected[case]):
                        return f"{why} of {case.cell}, {case.type}"
        except (AssertionError, pytest.fail.Exception):
            return "sizes"
        except RuntimeError as error:
            return " ".join(str(error).split())[:200]
        return ""


def batches(problems: list) -> Iterator[list]:
    """Few at first: most mutants are killed by them."""
    size = 2 * len(FEW)
    for start, end in ((0, size), (size, 3 * size), (3 * size, len(problems))):
        if start < end:
            yield problems[start:end]


class Expected(dict):
    """What the reference computes for a case."""

    def __missing__(self, case: Case):
        self[case] = Layer(case).expected()
        return self[case]


def wrong_plan(executable: Path, folder: Path) -> str:
    """What is found wrong before anything runs."""
    found = plans(executable, [(case, device) for case, device, _, _ in PLANS.values()], folder)
    for plan, (name, (_, _, which, expected)) in zip(found, PLANS.items(), strict=True):
        if getattr(plan, which)[:4] != expected:
            return f"the plan: {name}"
    for cell in MEMORY:
        assert_memory(executable, cell, 2, folder)
    assert_sizes(executable, folder)
    cells = subprocess.run([executable], capture_output=True, text=True, check=True).stdout
    try:
        plans(executable, [(Case("lstm_norm", "float32", 1, 1, 1, 1), Device())], folder)
    except RuntimeError as error:
        known = "expected one that the device has" in str(error)
        return "" if known and len(cells.split()) == 4 * len(FEW) else "the table of cells"
    return "an unknown cell"


def compare(case: Case, result, expected) -> str:
    for name, array in result.inference.items():
        if array.tobytes() != result.training[name].tobytes():
            return f"inference's {name}"
    for name, array in result.training.items():
        limit = TOLERANCES[case.type]["y" if name in result.inference else "grad"]
        error = np.abs(array - expected[name]).max()
        if not error <= limit * np.abs(expected[name]).max():
            return name
    return ""


def plain_problems() -> list[tuple[Case, Device]]:
    """What kills most comes first."""
    kinds = [(cell, type) for cell in FEW for type in TYPES]
    tiles = [Case(*kind, T=3, N=35, I=3, H=20, D=2, lengths=(3, 0, 1, 2)) for kind in kinds]
    devices = (Device(1), SMALL, Device(multiprocessors=2))
    problems = [(case, device) for device in devices for case in tiles]
    problems += [(Case(*kind, **shape), Device(2)) for shape in SHAPES for kind in kinds]
    problems += [(case, Device(3)) for kind in kinds for case in every_way(*kind)]
    only = [{"dx": False}, {"dweights": False}]
    problems += [(dataclasses.replace(tiles[0], **less), Device()) for less in only]
    return problems + [
        (Case(cell, type, T=2, N=2, I=2, H=H), device)
        for cell in ("rnn_relu", "gru_reset_before")
        for type, H in (("float32", 264), ("bfloat16", 520))
        for device in (Device(1), SMALL)
    ]


def race_problems() -> list[tuple[Case, Device]]:
    return [
        (Case(cell, type, T=3, N=19, I=3, H=12, lengths=(3, 1, 2)), device)
        for device in (TWO_BLOCKS, ONE_BLOCK)
        for type in TYPES
        for cell in FEW
    ] + [(Case("lstm_peephole", type, **SHAPES[-1]), ONE_BLOCK) for type in TYPES]


# The flags of a build and what it runs, by what it finds wrong.
MODES = {
    "results": lambda: ((), plain_problems()),
    "races": lambda: (TSAN, race_problems()),
    "addresses": lambda: (ASAN, plain_problems()[:120]),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("numbers", nargs="*", type=int, help="of mutants; all by default")
    parser.add_argument("--mode", choices=MODES, help="only this way of running")
    parser.add_argument("--list", action="store_true", help="only print the mutants")
    parser.add_argument("--folder", type=Path, help="keeps what is built without a mutant")
    options = parser.parse_args()
    every = list(enumerate(mutants(CSRC)))
    chosen = [every[number] for number in options.numbers] or every
    if options.list:
        print(*(f"{number} {mutant}" for number, mutant in chosen), sep="\n")
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        return hunt(
            chosen,
            options.folder or Path(temporary),
            [options.mode] if options.mode else list(MODES),
        )


def hunt(chosen: list[tuple[int, Mutant]], folder: Path, names: list[str]) -> int:
    csrc, expected, unexplained = folder / "csrc", Expected(), 0
    explained = SURVIVORS.read_text() if SURVIVORS.exists() else ""
    shutil.copytree(CSRC, csrc, dirs_exist_ok=True)
    sleeping = put_to_sleep(csrc)
    modes = {name: Mode(folder / name, csrc, expected, *MODES[name]()) for name in names}
    for number, mutant in chosen:
        given = number, mutant, number in sleeping
        deaths = ((name, mode.kill(*given)) for name, mode in modes.items())
        name, why = next(((name, why) for name, why in deaths if why), ("", ""))
        fate = f"killed by {name}" if name else "survives"
        if not name and mutant.key() not in explained:
            fate, unexplained = "SURVIVES UNEXPLAINED", unexplained + 1
        print(f"{number} {fate}: {mutant} -- {why}", flush=True)
    return unexplained != 0


def put_to_sleep(csrc: Path) -> set[int]:
    """Change the sources so that they have all mutants that can be; return their numbers."""
    every, sleeping = list(enumerate(mutants(csrc))), set()
    for path in kernel_files(csrc):
        text = path.read_text()
        can = can_sleep(text.split("\n"))
        own = [(number, mutant) for number, mutant in every if csrc / mutant.file == path]
        chosen = [(number, mutant) for number, mutant in own if can[mutant.line - 1]]
        path.write_text(schema(text, chosen))
        sleeping |= {number for number, _ in chosen}
    (csrc / "prelude.h").write_text(PRELUDE)
    return sleeping


if __name__ == "__main__":
    sys.exit(main())
