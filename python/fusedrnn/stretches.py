# SPDX-License-Identifier: MIT
"""A layer's forward and backward, in stretches of time where memory is to be saved.

Layers of one direction run a stretch together before the next one begins: none of those below
holds its output, or the gradient of it, for longer. Where there are two directions each runs by
itself. `recompute` has what is kept and what is run again.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import _core, recompute, stack, validate
from .noise import LayerNoise
from .stack import Call, LayerTape
from .weights import Array, State, Weights

if TYPE_CHECKING:
    from .recurrent import Recurrent

__all__ = ["backward", "forward", "interval"]


def interval(layer: Recurrent[Any], call: Call, memory_budget: int) -> int | None:
    """Return the longest stretch with which a call fits a budget of memory.

    What counts is what `forward` keeps, and in `backward` the tape and the y of one stretch: of one
    layer and direction after the other or, where the layers run a stretch together, of all, with
    what dropout left of the y between them.

    Parameters
    ----------
    memory_budget : int
        In bytes.

    Returns
    -------
    every : int, or None if the whole tapes fit

    Raises
    ------
    ValueError
        No stretch fits. The message has the least memory that would do.

    Examples
    --------
    >>> import numpy as np, fusedrnn
    >>> gru, x = fusedrnn.GRU(64, 64), np.zeros((4096, 1, 64), np.float32)
    >>> interval(gru, gru._checked(x, None, None, None), gru.forward(x)[2].nbytes // 20)
    158
    """
    (T, N), lengths, together = call.x.shape[:2], call.form.get("lengths"), _together(layer)
    if lengths is not None:
        T = int(lengths.max())
    h = N * layer._h_size * layer.dtype.itemsize  # bytes of one step's
    c = N * layer.hidden_size * layer.dtype.itemsize if "c" in layer._letters else 0
    states, at_once = len(layer._slots) * (h + c), sum if together else max
    resets = N if "resets" in call.form else 0  # of which each tape has a copy
    copies = len(call.x) * resets * (1 if together else len(layer._slots))
    between = layer.num_layers - 1 if together and lengths is None else 0
    dropped = between if layer.dropout else 0

    def of_stretch(steps: int) -> int:
        y, records = int(steps * h), _tapes(layer, call, steps, together)
        tapes = [record + steps * resets for record in records]
        if lengths is not None:
            return at_once(tapes) + y
        return dropped * y + at_once([tape + y for tape in tapes])

    least = sum(_tapes(layer, call, T, True)) + (between + dropped) * T * h
    least += len(layer._slots) * len(call.x) * resets
    if least <= memory_budget:
        return None
    for count in range(1, T + 1):
        if copies + count * states >= least:
            break
        every: int = -(-T // count)
        alone = of_stretch(1) if T % every == 1 else 0  # one step keeps what more leave to y
        need = copies + count * states + max(of_stretch(every), alone)
        if need <= memory_budget:
            return every
        least = min(least, need)
    raise ValueError(
        f"memory_budget: expected at least {least} bytes for this x, got {memory_budget}"
    )


def _tapes(layer: Recurrent[Any], call: Call, steps: int, together: bool) -> list[int]:
    """Return the bytes of every slot's tape of so many steps, without resets.

    With lengths it holds its x and y without the padding: where all slots run together, the first
    one x, and an upper layer's first one what dropout left of the y below.
    """
    N, lengths, P = call.x.shape[1], call.form.get("lengths"), layer._h_size
    rows = steps * N
    if lengths is not None:
        steps = min(steps, lengths.max())
        N, rows = np.count_nonzero(lengths), int(np.minimum(lengths, steps).sum())
    record = _core.tape_nbytes(
        layer.cell, layer.dtype == np.float64, steps, N, layer.hidden_size, P, rows,
        layer.recurrent_dropout > 0, layer.zoneout_h > 0,
    )  # fmt: skip
    D, slots, y = len(layer._directions), len(layer._slots), P * layer.dtype.itemsize
    if lengths is None:
        return slots * [record]
    first, upper = call.x[0, 0].nbytes, D * y
    inputs = D * [first] + (slots - D) * [upper]
    if together:
        left = upper if layer.dropout else 0
        inputs = [0 if k % D else left if k else first for k in range(slots)]
    return [record + rows * (x + y) for x in inputs]


def forward(
    layer: Recurrent[Any], call: Call, tapes: list[Any] | None
) -> tuple[Array, list[State]]:
    """Run as `stack.forward`."""
    if call.checkpoint is None or tapes is None or not _together(layer):
        return stack.forward(layer, call, tapes)
    way, states = OneWay(layer, call.engine), call.states
    if states[0] is None:
        N = call.x.shape[1]
        states = stack.split_state(layer, layer.zero_state(N), N, validate.STATE_NAMES)
    y, state_n, tape = recompute.forward(
        way, layer.cell, call.x, chained(states), call.weights,
        every=call.checkpoint, keep=True, noise=call.noise, **call.form,
    )  # fmt: skip
    tapes.append(tape)
    return y, way.by_slot(state_n)


def backward(
    layer: Recurrent[Any],
    tape: LayerTape,
    dy: Array | None,
    dstates: list[State | None],
    grads: Sequence[Weights],
    truncate: int | None,
    accumulate: bool,
) -> tuple[Array | None, list[State]]:
    """Go back as `stack.backward`."""
    first = tape.tapes[0]
    way = first.engine if isinstance(first, recompute.Tape) else None
    if isinstance(way, OneWay):
        if truncate is None:
            dx, before, _ = recompute.backward(
                first, dy, chained(dstates), grads=grads, accumulate=accumulate
            )
            return dx, way.by_slot(before)
        tape = first.whole()
    return stack.backward(layer, tape, dy, dstates, grads, truncate, accumulate)


class OneWay(NamedTuple):
    """All layers of one direction as an engine for `recompute`; its tape is a `LayerTape`.

    A state is that of every layer, one after the other.
    """

    layer: Recurrent[Any]
    engine: Any

    def infer(self, cell: str, *args: Any, **form: Any) -> tuple[Array, State]:
        """Run a stretch."""
        return self._forward(None, *args, **form)

    def forward(
        self,
        cell: str,
        x: Array,
        state: State,
        weights: Sequence[Any],
        *,
        noise: LayerNoise | None,
        **form: Any,
    ) -> tuple[Array, State, LayerTape]:
        """Run a stretch and keep its tapes."""
        tapes: list[Any] = []
        y, state_n = self._forward(tapes, x, state, weights, noise=noise, **form)
        return y, state_n, LayerTape(self.layer, self.engine, y.shape, tapes, weights, noise)

    def backward(
        self,
        tape: LayerTape,
        dy: Array | None,
        dstate: State | None,
        *,
        dx: Array | None,
        grads: Sequence[Weights],
        accumulate: bool,
    ) -> tuple[Array | None, State, Sequence[Weights]]:
        """Go back through a stretch."""
        dstates = self.by_slot(dstate)
        dx, dstate_0 = stack.backward(self.layer, tape, dy, dstates, grads, None, accumulate, dx)
        return dx, tuple(chain(*dstate_0)), grads

    def by_slot(self, state: State | None) -> list[Any]:
        """Return the state of each layer."""
        if state is None:
            return [None] * self.layer.num_layers
        each = len(self.layer._letters)
        return [state[k : k + each] for k in range(0, len(state), each)]

    def _forward(
        self,
        tapes: list[Any] | None,
        x: Array,
        state: State,
        weights: Sequence[Any],
        *,
        reverse: bool,
        noise: LayerNoise | None,
        out: Array | None = None,
        **form: Any,
    ) -> tuple[Array, State]:
        states = self.by_slot(state)
        call = Call(self.engine, x, states, weights, form, noise)
        y, state_n = stack.forward(self.layer, call, tapes)
        if out is not None:
            out[...] = y
        return y, tuple(chain(*state_n))


def _together(layer: Recurrent[Any]) -> bool:
    """Whether the layers run a stretch before the next one begins."""
    return len(layer._directions) == 1 and layer.num_layers > 1


def chained(states: list[State | None]) -> State | None:
    """Return the states of all layers one after the other, or None."""
    return None if states[0] is None else tuple(chain(*[state or () for state in states]))
