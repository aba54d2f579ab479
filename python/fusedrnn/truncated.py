# SPDX-License-Identifier: MIT
"""Truncated backpropagation through time: each step's error reaches back so far and no further.

Texts write a loop over the steps with a loop back from each: T·K products of one row. But all steps
can send their error back at the same time, as the rows of one step. In the first pass each sends
its own over one transition, in every further one its own and what has arrived; after K passes each
step has the error of itself and of the K steps after it. So it is K products of all rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .ragged import Ragged
from .weights import Array, State, Weights, state_widths

__all__ = ["backward"]


def backward(
    engine: Any,
    tape: Any,
    dy: Array | None,
    dstate: State | None = None,
    *,
    truncate: int,
    dx: Array | None = None,
    grads: Weights | None = None,
    accumulate: bool = True,
) -> tuple[Array | None, State, Weights]:
    """Backpropagate as `engine.backward`, each error over at most `truncate` state transitions.

    The error of step t is dy[t], and dstate at the last step run. With K = truncate it reaches the
    gates of the steps t, t-1, ... t-K of the run; the state before the first step is one more
    transition away. It is for its meaning, not for speed: K = 0 costs up to 2 full backward passes,
    each transition 0.3 to 0.6 of one. Memory: that of 4 to 5 more tapes (RNN, whose tape is small:
    10).

    Parameters
    ----------
    engine : functional, padded or reference
    tape : Tape
        From `engine.forward`.
    dy, dstate, dx, grads, accumulate : as for `engine.backward`
    truncate : int >= 0
        From T on it is `engine.backward`.

    Returns
    -------
    dx, dstate_0, grads : as from `engine.backward`

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import functional
    >>> weights = Weights(np.ones((1, 1)), np.ones((1, 1)), None, None)
    >>> y, _, tape = functional.forward("rnn_relu", np.ones((4, 1, 1)), None, weights)
    >>> dx, _, _ = backward(functional, tape, np.ones_like(y), truncate=1)
    >>> dx.ravel().tolist()  # x[t] hears of y[t] and y[t+1]
    [2.0, 2.0, 2.0, 1.0]
    """
    rows = Rows(tape)
    if truncate >= rows.shape[0]:
        whole: tuple[Array | None, State, Weights] = engine.backward(
            tape, dy, dstate, dx=dx, grads=grads, accumulate=accumulate
        )
        return whole
    step, dy = tape.one_step(), None if dy is None else rows.pack(dy)
    dtype, widths = tape.weights.weight_hh.dtype, state_widths(tape.cell, tape.weights)
    sent, arrived = (  # np.zeros would leave fresh pages, dear if they are read before written
        tuple([np.full((rows.count, width), 0, dtype) for width in widths]) for _ in range(2)
    )
    if dstate is not None:
        for a, end in zip(arrived, rows.pack_state(dstate), strict=True):
            a[rows.last] = end
    for _ in range(truncate):
        step.send_back(dy, arrived, sent)
        for a, s in zip(arrived, sent, strict=True):
            if rows.anew is not None:
                s[rows.anew] = 0
            a[rows.before] = s[rows.after]
    dstate_0 = tuple([s[rows.first].copy() for s in sent])
    into = None if dx is None else rows.pack(dx)
    new, _, grads = engine.backward(step, dy, arrived, dx=into, grads=grads, accumulate=accumulate)
    assert grads is not None
    return rows.unpack_dx(new, dx), rows.unpack_state(dstate_0, dstate), grads


class Rows:
    """All steps of all sequences as the rows of one step, (1, R, ...), and which follows which."""

    def __init__(self, tape: Any) -> None:
        self.ragged: Ragged | None = tape.ragged
        self.shape: tuple[int, int] = tape.x.shape[:2] if self.ragged is None else self.ragged.shape
        pairs, ends = self._slices() if self.ragged is None else _indices(self.ragged)
        way = -1 if tape.reverse else 1
        self.before, self.after = pairs[::way]
        """Rows that have a next one in the direction of the run, and those next ones."""
        self.first, self.last = ends[::way]
        """Of each sequence."""
        T, N = self.shape
        self.count = T * N if self.ragged is None else self.ragged.count
        self.anew: Array | None = None if tape.anew is None else self.pack(tape.anew)[0]

    def _slices(self) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
        T, N = self.shape
        R = T * N
        return (slice(0, R - N), slice(N, R)), (slice(0, N), slice(R - N, R))

    def pack(self, a: Array) -> Array:
        """Return (1, R, ...) of a (T, N, ...), without lengths the same memory."""
        if self.ragged is not None:
            return self.ragged.pack(a)
        return a.reshape(1, self.count, *a.shape[2:])

    def pack_state(self, state: State) -> State:
        """Return those of the sequences that have a step."""
        return state if self.ragged is None else tuple([a[self.ragged.rows] for a in state])

    def unpack_state(self, packed: State, before: State | None) -> State:
        """Return (N, H) each; sequences without a step keep what was before."""
        return packed if self.ragged is None else self.ragged.unpack_state(packed, before)

    def unpack_dx(self, new: Array | None, dx: Array | None) -> Array | None:
        """Return new (1, R, I) as (T, N, I), in dx if that was given: new began with it."""
        if self.ragged is not None:
            return self.ragged.unpack_dx(new, dx)
        if new is None or dx is not None:
            return dx
        return new.reshape(*self.shape, -1)


def _indices(ragged: Ragged) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Return rows that have a next one in time and those; and the first and last of each row."""
    (t, _), first_row = ragged.places(), ragged.first_row
    later = np.flatnonzero(t)
    earlier = later - (first_row[t[later]] - first_row[t[later] - 1])
    lengths = ragged.lengths[ragged.rows]
    first = np.arange(len(lengths))
    return (earlier, later), (first, first_row[lengths - 1] + first)
