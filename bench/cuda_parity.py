# SPDX-License-Identifier: MIT
"""Results on the device beside the NumPy reference in float64: every cell and dtype, both plans.

The cases and tolerances are the tests'. Lengths, a given state, its gradient; one direction and
both; twice, for equal bits. Rounding puts units at relu's kink on its other side, which is no error
but another gradient: there the reference goes back by the slopes of the device's y.
"""

import functools
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
    H: int
    directions: int
    persistent: bool
    results: float = np.nan
    gradients: float = np.nan
    same_bits: bool = False
    error: str = ""
    """Of the call that failed."""

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
                for persistent, sizes in hidden_sizes(cell, dtype, directions).items():
                    for H in sizes:
                        case = Parity(cell, dtype, H, directions, persistent)
                        try:
                            yield compared(case)
                        except RuntimeError as error:
                            yield case._replace(error=str(error))


def hidden_sizes(cell, dtype, directions):
    """{persistent: sizes}: the smallest and the largest with one launch, the next with many.

    None is a multiple of a tile; on the way to many launches, steps get longer with H.
    """
    H, found = 15, {True: [], False: []}
    while not found[False]:
        if (persistent := is_persistent(cell, dtype, directions, H)) is not None:
            found[persistent].append(H)
        H += max(16, H // 128 * 16)
    one = found[True]
    return found | {True: one[:1] + one[1:][-1:]}


def is_persistent(cell, dtype, directions, H):
    """True or False; None if the passes differ."""
    found = {
        fusedrnn.cuda.plan(cell, N, H, directions=directions, dtype=dtype, stage=stage).persistent
        for stage in STAGES
    }
    return found.pop() if len(found) == 1 else None


def compared(case):
    layer = make(case.cell, case.dtype, (I, case.H), bidirectional=case.directions == 2)
    twin = layer.to("cpu", dtype=np.float64)
    twin.engine = fusedrnn.reference
    x, state, dy, dstate = inputs(layer, T, N)
    lengths = np.arange(N) % (T + 1) if case.directions == 2 else None
    runs = []
    for _ in range(2):
        layer.zero_grad()
        found = step(layer, x, state, lengths, dy, dstate)
        runs.append({name: a.numpy() for name, a in found.items()})
    change = [functools.partial(take_slopes, y=runs[0]["y"])] * (case.cell == "rnn_relu")
    expected = step(twin, x, state, lengths, dy, dstate, home, *change)
    worst = {"y": 0.0, "grad": 0.0}
    for name, a in runs[0].items():
        kind = "y" if name.startswith(("y", "state_n")) else "grad"
        worst[kind] = np.maximum(worst[kind], difference(a, expected[name]))  # NaN stays
    same = all(a.tobytes() == runs[1][name].tobytes() for name, a in runs[0].items())
    results, gradients = map(float, worst.values())
    return case._replace(results=results, gradients=gradients, same_bits=same)


def take_slopes(tape, y):
    """Let the reference's tape of one layer have its slopes of this y (T, N, D*H)."""
    for one, h in zip(tape.tapes, np.split(y, len(tape.tapes), axis=2), strict=True):
        one.saved[:] = [(t, (h_prev, h[t])) for t, (h_prev, _) in one.saved]


def difference(a, expected):
    return np.abs(a.astype(np.float64) - expected).max() / np.abs(expected).max()
