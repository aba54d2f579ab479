# SPDX-License-Identifier: MIT
"""Results on the device beside the NumPy reference in float64: every cell and dtype, both plans.

The cases and tolerances are the tests'. Lengths, a given state, its gradient; one direction and
both; twice, for equal bits.
"""

import importlib.util
import pathlib
import sys
from typing import NamedTuple

import fusedrnn
import numpy as np

TESTS = pathlib.Path(__file__).parents[1] / "tests"
sys.path.append(str(TESTS))

from cuda_cases import CELLS, DTYPES, home, inputs, make, step  # noqa: E402

T, N, I = 5, 19, 6  # more rows than a tile has
STAGES = ("inference", "training", "backward")


class Parity(NamedTuple):
    """Of one case: the largest differences, relative to the largest value."""

    cell: str
    dtype: str
    persistent: bool
    directions: int
    H: int
    results: float
    gradients: float
    same_bits: bool

    def fails(self):
        limits = tolerances()[self.dtype]
        within = self.results <= limits["y"] and self.gradients <= limits["grad"]
        return not (within and self.same_bits)  # a NaN is not within


def tolerances():
    """Relative max-norm by dtype: {"y": ..., "grad": ...}."""
    spec = importlib.util.spec_from_file_location("tests_conftest", TESTS / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.TOLERANCES


def parities(cells=CELLS, dtypes=DTYPES):
    """A Parity for each case, one after another."""
    for cell in cells:
        for dtype in dtypes:
            for directions in (1, 2):
                for persistent in (True, False):
                    yield parity(cell, dtype, persistent, directions)


def parity(cell, dtype, persistent, directions):
    H = hidden_size(cell, dtype, persistent, directions)
    layer = make(cell, dtype, (I, H), bidirectional=directions == 2)
    twin = layer.to("cpu", dtype=np.float64)
    twin.engine = fusedrnn.reference
    x, state, dy, dstate = inputs(layer, T, N)
    lengths = np.arange(N) % (T + 1) if directions == 2 else None
    runs = []
    for _ in range(2):
        layer.zero_grad()
        found = step(layer, x, state, lengths, dy, dstate)
        runs.append({name: a.numpy() for name, a in found.items()})
    expected = step(twin, x, state, lengths, dy, dstate, home)
    worst = {"y": 0.0, "grad": 0.0}
    for name, a in runs[0].items():
        kind = "y" if name.startswith(("y", "state_n")) else "grad"
        worst[kind] = np.maximum(worst[kind], difference(a, expected[name]))  # NaN stays
    same = all(a.tobytes() == runs[1][name].tobytes() for name, a in runs[0].items())
    return Parity(cell, dtype, persistent, directions, H, *map(float, worst.values()), same)


def difference(a, expected):
    return np.abs(a.astype(np.float64) - expected).max() / np.abs(expected).max()


def hidden_size(cell, dtype, persistent, directions):
    """An H, no multiple of a tile, whose every pass has this plan on the device."""
    H = 15
    while persistent != is_persistent(cell, dtype, directions, H):
        if persistent or H > 8000:
            raise ValueError(f"{cell}, {dtype}: no hidden size has persistent = {persistent}")
        H += max(16, H // 64 * 16)
    return H


def is_persistent(cell, dtype, directions, H):
    """True or False; None if the passes differ."""
    found = {
        fusedrnn.cuda.plan(cell, N, H, directions=directions, dtype=dtype, stage=stage).persistent
        for stage in STAGES
    }
    return found.pop() if len(found) == 1 else None
