# SPDX-License-Identifier: MIT
"""One layer in one direction on the kernels, with arguments that are checked: allocate and run.

The functions of `functional`, for callers that have checked all the arguments. Where lengths are
unequal they take no padding: arrays of time are (1, R, ...) and states those of `ragged.rows`, but
resets (T, N). Sizes: T time steps, N sequences, I inputs, H hidden units, P wide h; R rows of all
steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import _core
from .noise import CellNoise, Noise
from .ragged import Ragged, zero_before
from .weights import Array, State, Weights, state_widths


@dataclass(slots=True, eq=False)
class Tape:
    """What `forward` keeps for `backward`: references to x, y and weights, and the kernel's record.

    Nothing it refers to may change before `backward`, which leaves the tape as it was: it may run
    again.
    """

    cell: str
    x: Array = field(repr=False)
    y: Array = field(repr=False)
    weights: Weights = field(repr=False)
    core: _core.Tape = field(repr=False)
    ragged: Ragged | None = field(repr=False)
    """Where x and y, which have no padding, stand in arrays that have; None without lengths."""
    reverse: bool
    anew: Array | None = field(repr=False)
    """(T, N) bool: the steps that begin from zero; None without resets."""

    @property
    def nbytes(self) -> int:
        """Memory of the kernel's record and of resets, in bytes; of x and y if they are copies."""
        copies = 0 if self.ragged is None else self.x.nbytes + self.y.nbytes
        return self.record_nbytes + copies

    @property
    def record_nbytes(self) -> int:
        """That without x and y."""
        return self.core.nbytes + (0 if self.anew is None else self.anew.nbytes)

    @property
    def shape(self) -> tuple[int, int, int]:
        """That of y: (T, N, P)."""
        T, N = self.y.shape[:2] if self.ragged is None else self.ragged.shape
        return T, N, self.y.shape[2]

    def one_step(self) -> Tape:
        """Return the tape of all steps as the rows of one, (1, R, ...), each from its own state."""
        R = self.y.shape[0] * self.y.shape[1]
        x, y = (a.reshape(1, R, *a.shape[2:]) for a in (self.x, self.y))
        core = _core.one_step(self.core, self.y)
        return Tape(self.cell, x, y, self.weights, core, None, False, None)

    def send_back(self, dy: Array | None, after: State, before: State) -> None:
        """Fill `before` with dstate_0 of a backward pass from dy and `after`, and do no more."""
        _core.backward(
            self.core, self.x, self.y, self.weights, dy, after,
            None, False, None, False, before,
        )  # fmt: skip


def infer(
    cell: str,
    x: Array,
    state: State | None,
    weights: Weights | _core.Packed,
    **form: Any,
) -> tuple[Array, State]:
    """Run as `functional.infer`."""
    return _forward(cell, x, state, weights, None, **form)[:2]


def forward(
    cell: str,
    x: Array,
    state: State | None,
    weights: Weights,
    reverse: bool = False,
    ragged: Ragged | None = None,
    **form: Any,
) -> tuple[Array, State, Tape]:
    """Run as `functional.forward`."""
    core = _core.Tape()
    y, state_n, anew = _forward(cell, x, state, weights, core, reverse, ragged, **form)
    return y, state_n, Tape(cell, x, y, weights, core, ragged, reverse, anew)


def _forward(
    cell: str,
    x: Array,
    state: State | None,
    weights: Weights | _core.Packed,
    core: _core.Tape | None,
    reverse: bool = False,
    ragged: Ragged | None = None,
    out: Array | None = None,
    resets: Array | None = None,
    noise: CellNoise | None = None,
) -> tuple[Array, State, Array | None]:
    """Return y, state_n and the steps that begin from zero."""
    rows, first_row = x.shape[1], None
    anew = resets = None if resets is None else zero_before(resets, ragged, reverse)
    if core is not None and resets is not None:
        anew = resets.copy()  # the caller's own, which the next batch may overwrite
    if ragged is not None:
        rows, first_row = len(ragged.rows), ragged.first_row
        resets = ragged.pack_any(resets)
        noise = None if noise is None else noise.of_rows(ragged.rows)
    if isinstance(weights, _core.Packed):
        dtype, widths = (np.float64 if weights.is_double else np.float32), weights.state_widths
    else:
        dtype, widths = weights[1].dtype.type, state_widths(cell, weights)
    y = np.empty((*x.shape[:2], widths[0]), dtype) if out is None else out
    state_n = tuple([np.empty((rows, width), dtype) for width in widths])
    if isinstance(weights, _core.Packed):  # zoneout's mean is among them
        _core.infer(weights, x, state, reverse, y, state_n, first_row, resets)
    else:
        draws = None if noise is None else noise.core()
        _core.forward(cell, x, weights, state, reverse, y, state_n, core, first_row, resets, draws)
    return y, state_n, anew


def backward(
    tape: Tape,
    dy: Array | None,
    dstate: State | None = None,
    *,
    dx: Array | None = None,
    grads: Weights | None = None,
    accumulate: bool = True,
) -> tuple[Array | None, State, Weights]:
    """Run as `functional.backward`."""
    x, y, weights, add = tape.x, tape.y, tape.weights, dx is not None
    dweights, accumulate = (grads, accumulate) if grads else (weights.empty_like(), False)
    rows = y.shape[1] if tape.ragged is None else len(tape.ragged.rows)
    if dx is None and x.ndim == 3:
        dx = np.empty(x.shape, y.dtype)
    widths = state_widths(tape.cell, weights)
    dstate_0 = tuple([np.empty((rows, width), y.dtype) for width in widths])
    _core.backward(tape.core, x, y, weights, dy, dstate, dx, add, dweights, accumulate, dstate_0)
    return dx, dstate_0, dweights


def dropout(
    x: Array, p: float, noise: Noise, out: Array | None = None, ragged: Ragged | None = None
) -> Array:
    """Run as `functional.dropout`; with `ragged`, x is (1, R, K)."""
    out = np.empty_like(x) if out is None else out
    names: tuple[Array, ...] = ()
    if ragged is not None:
        t, n = ragged.places()
        names = noise.first_row + n, noise.first_step + t
    _core.dropout(x, out, p, *noise, *names)
    return out
