# SPDX-License-Identifier: MIT
"""A layer's stack, forward and back: one call of the engine for each layer and direction.

Slot l*D + d is layer l, direction d. T time steps, N sequences, D directions, P the width of h.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import kernels, padded, recompute, truncated, validate
from .engine import Engine, unchecked
from .noise import CellNoise, LayerNoise, Noise
from .ragged import Ragged
from .weights import Array, State, Weights, unwrapped

if TYPE_CHECKING:
    from .recurrent import Recurrent

__all__ = ["LayerTape"]


@dataclass(slots=True, eq=False)
class LayerTape:
    """What a layer's `forward` keeps for its `backward`, which may run again.

    It refers to x, the weights and the outputs: they must not change in between.
    """

    layer: object = field(repr=False)
    engine: Engine = field(repr=False)
    shape: tuple[int, ...]
    """That of y."""
    tapes: list[Any] = field(repr=False)
    """The engine's, slot by slot."""
    weights: Sequence[Any] = field(repr=False)
    """Those that were read, slot by slot."""
    drawn: LayerNoise | None

    @property
    def noise(self) -> Noise | None:
        """What dropout and zoneout were drawn from; None without them."""
        return None if self.drawn is None else self.drawn.noise

    @property
    def nbytes(self) -> int:
        """Memory of the kernels' records and of resets, in bytes; with lengths, of x and y as well.

        With lengths, or layers of one direction, also of what is between them. The x and y of the
        call and the weights come on top.
        """
        first, arrays = self.tapes[0], list[Array]()
        if type(first) is not kernels.Tape:
            return sum(tape.nbytes for tape in self.tapes)
        if self.ragged is not None:
            arrays = [a for tape in self.tapes for a in (tape.x, tape.y)]
        elif not self.tapes[-1].reverse:  # every lower layer's y, and what dropout left of it
            arrays = [a for pair in pairwise(self.tapes) for a in (pair[0].y, pair[1].x)]
        whole = [a if a.base is None else a.base for a in arrays]  # not each direction's half
        records: int = sum(tape.record_nbytes for tape in self.tapes)
        return records + sum({id(a): a.nbytes for a in whole}.values())

    @property
    def ragged(self) -> Ragged | None:
        """With lengths, on the kernels: where the rows of the tapes' arrays stand in x and y."""
        first = self.tapes[0]
        return first.ragged if type(first) is kernels.Tape else None


class Call(NamedTuple):
    """One call of a layer's `forward`, checked."""

    engine: Any
    """The functions that take what is checked: `kernels`, `padded` or `reference`."""
    x: Array
    """(T, N, I), or tokens (T, N)."""
    states: list[State | None]
    """Of every slot."""
    weights: Sequence[Any]
    """Of every slot, packed or not."""
    form: dict[str, Any]
    """lengths and resets, if they are given; `ragged` for lengths once padding is taken off."""
    noise: LayerNoise | None = None
    """For training."""
    checkpoint: int | None = None
    """Each layer and direction keeps the state every so many steps."""


def forward(
    layer: Recurrent[Any], call: Call, tapes: list[Any] | None
) -> tuple[Array, list[State]]:
    """Run the layers, each on the output of the one before; fill the tapes if there is a list."""
    x, states, form = call.x, call.states, call.form
    if call.engine is not kernels or "lengths" not in form:
        return _forward(layer, call, tapes)
    if call.checkpoint is not None or len(call.weights) == 1:  # nothing is shared
        return _forward(layer, call._replace(engine=padded), tapes)
    ragged = Ragged.of(form["lengths"], len(x))  # padding is taken off once for all layers
    form = {"ragged": ragged, "resets": form.get("resets")}
    inner = [ragged.pack_state(state) for state in states]
    # no names for arrays without padding: they would outlive the call
    y, state_n = _forward(layer, call._replace(x=ragged.pack(x), states=inner, form=form), tapes)
    outer = [ragged.unpack_state(*pair) for pair in zip(state_n, states, strict=True)]
    return ragged.unpack(y), outer


def _forward(
    layer: Recurrent[Any], call: Call, tapes: list[Any] | None
) -> tuple[Array, list[State]]:
    engine, x, states, weights, form, drawn, every = call
    run, drop = engine.infer if tapes is None else engine.forward, engine.dropout
    D, P = len(layer._directions), layer._h_size
    if every is not None:
        run = partial(recompute.forward, engine, every=every)
    if "ragged" in form:
        drop = partial(drop, ragged=form["ragged"])
    state_n: list[State] = []
    mean = mean_zoneout(layer) if tapes is None and drawn is None else None
    for l in range(layer.num_layers):
        if l and drawn and drawn.dropout:
            x = drop(x, drawn.dropout, drawn.below(l))
        both = np.empty((*x.shape[:2], D * P), layer.dtype) if D == 2 else None
        for d in range(D):
            k, out = l * D + d, None if both is None else both[:, :, d * P : (d + 1) * P]
            noise = drawn.of_slot(k) if drawn else mean
            if every is not None:  # backward begins with the last layer's first direction
                form = form | {"keep": k == len(layer._slots) - D}
            result = run(
                layer.cell, x, states[k], weights[k], reverse=d == 1, out=out, noise=noise, **form
            )
            y = result[0]
            state_n.append(result[1])
            if tapes is not None:
                tapes.append(result[2])
        x = y if both is None else both
    return x, state_n


def backward(
    layer: Recurrent[Any],
    tape: LayerTape,
    dy: Array | None,
    dstates: Sequence[State | None],
    grads: Sequence[Weights],
    truncate: int | None,
    accumulate: bool,
    into: Array | None = None,
) -> tuple[Array | None, list[State]]:
    """Go back through the layers, adding into their gradients or writing over them.

    The gradient of x is added to `into`, if that is given.
    """
    ragged = tape.ragged
    if ragged is None or truncate is not None or len(tape.tapes) == 1:
        back = partial(_way_back(tape, truncate), accumulate=accumulate)
        drop = unchecked(tape.engine).dropout
        return _backward(layer, tape, dy, dstates, grads, back, drop, into)
    inner = [ragged.pack_state(dstate) for dstate in dstates]
    back = partial(kernels.backward, accumulate=accumulate)
    drop = partial(kernels.dropout, ragged=ragged)
    dx, dstate_0 = _backward(
        layer, tape, ragged.pack_any(dy), inner, grads, back, drop, ragged.pack_any(into)
    )
    outer = [ragged.unpack_state(*pair) for pair in zip(dstate_0, dstates, strict=True)]
    return ragged.unpack_dx(dx, into), outer


def _backward(
    layer: Recurrent[Any],
    tape: LayerTape,
    dy: Array | None,
    dstates: Sequence[State | None],
    grads: Sequence[Weights],
    back: Any,
    drop: Any,
    into: Array | None,
) -> tuple[Array | None, list[State]]:
    D, P, drawn = len(layer._directions), layer._h_size, tape.drawn
    dstate_0: list[State] = [()] * len(layer._slots)
    dx = dy
    for l in reversed(range(layer.num_layers)):
        dy, dx = dx, None if l else into
        for d in range(D):
            k, dy_d = l * D + d, dy if dy is None or D == 1 else dy[:, :, d * P : (d + 1) * P]
            dx, dstate_0[k], _ = back(tape.tapes[k], dy_d, dstates[k], dx=dx, grads=grads[k])
        if l and drawn and drawn.dropout and dx is not None:
            dx = drop(dx, drawn.dropout, drawn.below(l), out=dx)
    return dx, dstate_0


def is_one_call(tape: LayerTape) -> bool:
    """Whether going back is one call of `_core`, which sees all that is read and written."""
    first = tape.tapes[0]
    return len(tape.tapes) == 1 and type(first) is kernels.Tape and first.ragged is None


def _way_back(tape: LayerTape, truncate: int | None) -> Any:
    """Return what takes an engine's tape and the gradients of its outputs back."""
    first, engine = tape.tapes[0], unchecked(tape.engine)
    if engine is kernels and (truncate is not None or tape.ragged is not None):
        engine = padded
    back = engine.backward
    if truncate is not None:
        back = partial(truncated.backward, engine, truncate=truncate)
    if not isinstance(first, recompute.Tape):
        return back
    if truncate is None:
        return recompute.backward
    return lambda tape, *args, **into: back(tape.whole(), *args, **into)


def mean_zoneout(layer: Recurrent[Any]) -> CellNoise | None:
    """Return zoneout as it is in inference, None if there is none."""
    zoneout = layer.zoneout_h, layer.zoneout_c
    return CellNoise(0, zoneout=zoneout, expected=True) if any(zoneout) else None


def split_state(
    layer: Recurrent[Any], state: Any, N: int, names: dict[str, tuple[str, ...]]
) -> list[State | None]:
    """Check a layer's state, or its gradient, and return that of every slot."""
    count = len(layer._slots)
    if state is None:
        return [None] * count
    parts = state if layer._letters == "hc" else (state,)
    shape, rule = (count, N, layer.hidden_size), "(L*D, N, H)"
    validate.state(parts, names[layer._letters], layer.dtype, shape, rule, layer._h_size)
    return [tuple([part[k] for part in parts]) for k in range(count)]


def join_states(layer: Recurrent[Any], states: list[State]) -> Any:
    """Return the states of all slots as the layer's."""
    parts: tuple[Array, ...]
    if len(states) == 1:
        parts = tuple([part[np.newaxis] for part in states[0]])
    else:
        parts = tuple([np.array(slots) for slots in zip(*states, strict=True)])
    return unwrapped(parts)
