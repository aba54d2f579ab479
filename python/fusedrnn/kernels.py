# SPDX-License-Identifier: MIT
"""One layer in one direction on the kernels, with arguments that are checked: allocate and run.

The functions of `functional` and `reference`, for callers that have checked all the arguments.
Sizes: T time steps, N sequences, I inputs, H hidden units, P wide h; R rows of all steps, without
padding.
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
    """With lengths: x and y are copies without the padding."""
    reverse: bool
    anew: Array | None = field(repr=False)
    """(T, N) bool: the steps that begin from zero; None without resets."""

    @property
    def nbytes(self) -> int:
        """Memory of the kernel's record, in bytes, and of x and y if they are copies."""
        copies = 0 if self.ragged is None else self.x.nbytes + self.y.nbytes
        return self.core.nbytes + copies

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
    **form: Any,
) -> tuple[Array, State, Tape]:
    """Run as `functional.forward`."""
    core = _core.Tape()
    y, state_n, (x, y_run, ragged, anew) = _forward(cell, x, state, weights, core, reverse, **form)
    return y, state_n, Tape(cell, x, y_run, weights, core, ragged, reverse, anew)


def _forward(
    cell: str,
    x: Array,
    state: State | None,
    weights: Weights | _core.Packed,
    core: _core.Tape | None,
    reverse: bool = False,
    out: Array | None = None,
    lengths: Array | Ragged | None = None,
    resets: Array | None = None,
    noise: CellNoise | None = None,
) -> tuple[Array, State, tuple[Array, Array, Ragged | None, Array | None]]:
    """Return y and state_n; and what the kernels saw: x, y, where their rows belong, resets."""
    ragged = Ragged(lengths, len(x)) if isinstance(lengths, np.ndarray) else lengths
    if resets is not None:
        resets = zero_before(resets, ragged, reverse)
    given, y, first_row, anew = state, out, None, resets
    if core is not None and resets is not None:
        anew = resets.copy()  # the caller's own, which the next batch may overwrite
    if ragged is not None:
        x, state, y, first_row = ragged.pack(x), ragged.pack_state(state), None, ragged.first_row
        resets = None if resets is None else ragged.pack(resets)
        noise = None if noise is None else noise.of_rows(ragged.rows)
    rows = x.shape[1] if ragged is None else len(ragged.rows)
    if isinstance(weights, _core.Packed):
        dtype, widths = (np.float64 if weights.is_double else np.float32), weights.state_widths
    else:
        dtype, widths = weights[1].dtype.type, state_widths(cell, weights)
    y = np.empty((*x.shape[:2], widths[0]), dtype) if y is None else y
    state_n = tuple([np.empty((rows, width), dtype) for width in widths])
    if isinstance(weights, _core.Packed):
        _core.infer(weights, x, state, reverse, y, state_n, first_row, resets)
    else:
        draws = None if noise is None else noise.core()
        _core.forward(cell, x, weights, state, reverse, y, state_n, core, first_row, resets, draws)
    if ragged is None:
        return y, state_n, (x, y, None, anew)
    return ragged.unpack(y, out), ragged.unpack_state(state_n, given), (x, y, ragged, anew)


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
    x, y, weights, ragged = tape.x, tape.y, tape.weights, tape.ragged
    dweights, accumulate = (grads, accumulate) if grads else (weights.empty_like(), False)
    rows, into, given = y.shape[1], dx, dstate
    if ragged is not None:  # past each length dx is zero
        dy = None if dy is None else ragged.pack(dy)
        rows, dstate = len(ragged.rows), ragged.pack_state(dstate)
        into = None if dx is None else ragged.pack(dx)
    if into is None and x.ndim == 3:
        into = np.empty(x.shape, y.dtype)
    widths = state_widths(tape.cell, weights)
    dstate_0 = tuple([np.empty((rows, width), y.dtype) for width in widths])
    _core.backward(
        tape.core, x, y, weights, dy, dstate, into, dx is not None, dweights, accumulate, dstate_0
    )
    if ragged is None:
        return into, dstate_0, dweights
    if into is not None:
        into = ragged.unpack(into) if dx is None else ragged.put(into, dx)
    return into, ragged.unpack_state(dstate_0, given), dweights


def dropout(x: Array, p: float, noise: Noise, out: Array | None = None) -> Array:
    """Return x (T, N, K) with elements zero with probability p, the others scaled; out may be x."""
    out = np.empty_like(x) if out is None else out
    _core.dropout(x, out, p, *noise)
    return out
