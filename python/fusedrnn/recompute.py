# SPDX-License-Identifier: MIT
"""Backpropagation through time with less memory, for one more run forward.

Forward keeps the state before every stretch of so many steps; backward runs each stretch again,
the last one first, and holds the tape of one at a time (Chen et al. 2016, arXiv:1604.06174). Every
sum over time goes on where the stretch after it ended: the bits are those of the whole tape.
`stretches.interval` says how long a stretch may be for a budget of memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import validate
from .noise import CellNoise, LayerNoise
from .ragged import Ragged
from .weights import Array, State, zero_state

__all__ = ["Tape", "backward", "forward"]


@dataclass(slots=True, eq=False)
class Tape:
    """What `forward` keeps: references to its arguments, and the state before each stretch."""

    engine: Any = field(repr=False)
    """That of one layer and direction, or `stretches.OneWay`; the next ones are of its kind."""
    cell: str
    x: Array = field(repr=False)
    weights: Any = field(repr=False)
    reverse: bool
    lengths: Array | None = field(repr=False)
    order: Array | None = field(repr=False)
    """The rows, the longest first: the same in every stretch, so that sums keep their order."""
    resets: Array | None = field(repr=False)
    noise: CellNoise | LayerNoise | None
    before: list[tuple[slice, State]] = field(default_factory=list, repr=False)
    """In the order in which the stretches ran, up to the end of the longest row."""
    last: Any = field(default=None, repr=False)
    """The engine's tape of the last stretch, until `backward`, which begins with it, takes it."""

    @property
    def nbytes(self) -> int:
        """Memory of the states kept, of resets and of the last stretch's tape."""
        kept = sum(part.nbytes for _, state in self.before for part in state)
        return kept + sum(a.nbytes for a in (self.resets, self.last) if a is not None)

    def options(self, steps: slice) -> dict[str, Any]:
        """Return what the engine needs to know of these steps."""
        noise = None if self.noise is None else self.noise.from_step(steps.start)
        options: dict[str, Any] = {"reverse": self.reverse, "noise": noise}
        if self.lengths is not None:
            T = steps.stop - steps.start
            options["lengths"] = Ragged(np.clip(self.lengths - steps.start, 0, T), T, self.order)
        if self.resets is not None:
            options["resets"] = self.resets[steps]
        return options

    def run(self, steps: slice, before: State) -> Any:
        """Return the engine's tape of these steps."""
        x, options = self.x[steps], self.options(steps)
        return self.engine.forward(self.cell, x, before, self.weights, **options)[2]

    def take(self, steps: slice, before: State) -> Any:
        """Return the tape of these steps: that of the last stretch is there, once."""
        last, self.last = self.last, None
        return self.run(steps, before) if last is None else last

    def whole(self) -> Any:
        """Return the engine's tape of all steps: the memory that was saved, after all."""
        return self.run(slice(0, len(self.x)), self.before[0][1])

    def cut(self, state: State, steps: slice) -> State:
        """Zero the rows that a reset keeps from passing into these steps from those after them.

        In the direction of time the engine does it: the reset is in the steps' own first row.
        """
        if self.resets is None or not self.reverse or steps.stop == len(self.x):
            return state
        passes = ~self.resets[steps.stop]
        if self.lengths is not None:
            passes |= self.lengths <= steps.stop
        return tuple([np.where(passes[:, np.newaxis], part, 0) for part in state])


def forward(
    engine: Any,
    cell: str,
    x: Array,
    state: State | None,
    weights: Any,
    *,
    every: int,
    keep: bool = False,
    reverse: bool = False,
    out: Array | None = None,
    lengths: Array | None = None,
    resets: Array | None = None,
    noise: CellNoise | LayerNoise | None = None,
) -> tuple[Array, State, Tape]:
    """Run as `engine.forward`, but keep only the state before every stretch of `every` steps.

    With `keep`, for the slot that goes back first, the tape of the last stretch as well: `backward`
    would begin with making it again.
    """
    T, N = x.shape[:2]
    if state is None:
        state = zero_state(cell, N, weights)
    y = np.empty((T, N, state[0].shape[1]), state[0].dtype) if out is None else out
    lengths, resets = (None if a is None else a.copy() for a in (lengths, resets))
    order = None if lengths is None else Ragged(lengths, T).order
    tape = Tape(engine, cell, x, weights, reverse, lengths, order, resets, noise)
    if lengths is not None:
        T = int(lengths.max())
        y[T:] = 0
    *others, last = stretches(T, every, reverse)
    if others and len(state) == 1 and lengths is None and resets is None:
        state = run_through(tape, others, state, y)
        others = []
    for steps in (*others, last):
        state = tape.cut(state, steps)
        tape.before.append((steps, tuple([part.copy() for part in state])))
        run = engine.forward if keep and steps is last else engine.infer
        form = tape.options(steps)
        _, state, *kept = run(cell, x[steps], state, weights, out=y[steps], **form)
    tape.last = kept[0] if kept else None
    return y, state, tape


def run_through(tape: Tape, stretches: list[slice], state: State, y: Array) -> State:
    """Run stretches at once, where h is all of the state: what is before each stands in y."""
    first, last = stretches[0], stretches[-1]
    steps = slice(min(first.start, last.start), max(first.stop, last.stop))
    x, options = tape.x[steps], tape.options(steps)
    after: State
    _, after = tape.engine.infer(tape.cell, x, state, tape.weights, out=y[steps], **options)
    for steps in stretches:
        tape.before.append((steps, tuple([part.copy() for part in state])))
        state = (y[steps.start if tape.reverse else steps.stop - 1],)
    return after


def backward(
    tape: Tape,
    dy: Array | None,
    dstate: State | None = None,
    *,
    dx: Array | None = None,
    grads: Any = None,
    accumulate: bool = True,
) -> tuple[Array | None, State, Any]:
    """Backpropagate as the engine's own backward."""
    engine, x, state = tape.engine, tape.x, dstate
    if dx is None and x.ndim == 3:
        dx = np.zeros(x.shape, x.dtype)
    for steps, before in reversed(tape.before):
        dy_part, dx_part = (None if a is None else a[steps] for a in (dy, dx))
        _, after, grads = engine.backward(  # no name for the tape: it would outlive the call
            tape.take(steps, before), dy_part, state, dx=dx_part, grads=grads, accumulate=accumulate
        )
        accumulate = True
        state = tape.cut(after, steps)
    assert state is not None
    return dx, state, grads


def checked(checkpoint: int | None, memory_budget: int | None) -> tuple[int | None, int | None]:
    """Return the options of a layer's `forward`, both checked; only one may be given."""
    if checkpoint is not None:
        checkpoint = validate.size("checkpoint", checkpoint)
    if memory_budget is not None:
        memory_budget = validate.integer("memory_budget", memory_budget, 1)
        if checkpoint is not None:
            wanted = f"None with checkpoint = {checkpoint}"
            raise ValueError(f"memory_budget: expected {wanted}, got {memory_budget}")
    return checkpoint, memory_budget


def stretches(T: int, every: int, reverse: bool) -> Iterator[slice]:
    """Yield the stretches of T steps in the direction of the run.

    A shorter one is the first: so backward, which comes to it last, has memory for its tape.
    """
    ends = range(every, T + every, every) if reverse else range(T, 0, -every)
    for end in reversed(ends):
        yield slice(max(end - every, 0), min(end, T))
