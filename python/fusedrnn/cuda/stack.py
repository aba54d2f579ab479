# SPDX-License-Identifier: MIT
"""A layer's stack on the device, forward and back: one call of the kernels for all directions.

Arguments are buffers of the compiled module, checked and time first; what is computed is enqueued
on a stream. T time steps, N sequences, H hidden units, L layers, D directions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ..names import pick
from .library import core

if TYPE_CHECKING:
    from .recurrent import DeviceRecurrent

Buffer = Any
"""Of the compiled module."""

FIELDS = 5
"""The kernels' weights: the first of `Weights`."""


class Call(NamedTuple):
    """One layer's forward call, for its backward."""

    x: Buffer
    lengths: Buffer | None
    weights: tuple[tuple[Buffer | None, ...], ...]
    """Of each direction."""
    tape: Buffer


class Run(NamedTuple):
    """Where a pass runs, and what it allocates."""

    layer: DeviceRecurrent
    stream: Any

    def new(self, *shape: int, dtype: str | None = None) -> Buffer:
        """Return uninitialised memory."""
        dtype = dtype or str(self.layer.dtype)
        return core().Buffer(shape, dtype, self.layer.device_index, self.stream)

    def memory(self, nbytes: int) -> Buffer:
        """Return so many bytes."""
        return self.new(max(nbytes, 1), dtype="uint8")

    def sizes(self, x: Buffer) -> tuple[Any, ...]:
        """Return what the kernels' sizes depend on."""
        layer = self.layer
        D = len(layer._directions)
        return layer.cell, str(layer.dtype), *x.shape, layer.hidden_size, D, layer.device_index

    def states(self, N: int) -> tuple[Buffer, ...]:
        """Return memory for a state of the whole stack."""
        shape = len(self.layer._slots), N, self.layer.hidden_size
        return tuple([self.new(*shape) for _ in self.layer._letters])

    def swapped(self, a: Buffer) -> Buffer:
        """Return a copy with the first two axes exchanged if batch_first, else the same."""
        if not self.layer.batch_first:
            return a
        to = self.new(a.shape[1], a.shape[0], a.shape[2])
        core().swap_axes(a, to, self.stream)
        return to


def forward(
    run: Run,
    x: Buffer,
    state: tuple[Buffer, ...] | None,
    lengths: Buffer | None,
    params: dict[str, Buffer],
    keep: bool,
) -> tuple[Buffer, tuple[Buffer, ...], list[Call]]:
    """Run the layers, each on the output of the one before; return y, state_n, calls if kept."""
    layer, D, state_n = run.layer, len(run.layer._directions), run.states(x.shape[1])
    calls = []
    for l in range(layer.num_layers):
        weights = tuple([pick(params, names)[:FIELDS] for names in _slots(layer, l)])
        sizes = run.sizes(x)
        tape = run.memory(core().tape_bytes(*sizes)) if keep else None
        work = run.memory(core().workspace_bytes(*sizes, "training" if keep else "inference"))
        y = run.new(*x.shape[:2], D * layer.hidden_size)
        core().forward(
            layer.cell, x, lengths, weights, of_layer(state, l, D), False, y,
            of_layer(state_n, l, D), tape, work, run.stream,
        )  # fmt: skip
        if keep:
            calls.append(Call(x, lengths, weights, tape))
        x = y
    return x, state_n, calls


def backward(
    run: Run,
    calls: list[Call],
    dy: Buffer,
    dstate: tuple[Buffer, ...] | None,
    grads: dict[str, Buffer],
    accumulate: bool,
) -> tuple[Buffer, tuple[Buffer, ...]]:
    """Go back through the layers; when all is enqueued, add into the gradients.

    dx comes back as x was given, with its axes swapped if batch_first.
    """
    layer, D, dstate_0 = run.layer, len(run.layer._directions), run.states(dy.shape[1])
    made: list[tuple[Buffer, Buffer]] = []
    for l in reversed(range(layer.num_layers)):
        call, dweights = calls[l], []
        for names in _slots(layer, l):
            into = pick(grads, names)[:FIELDS]
            new = tuple([None if a is None else run.new(*a.shape) for a in into])
            made += [(a, b) for a, b in zip(new, into, strict=True) if a is not None]
            dweights.append(new)
        work = run.memory(core().workspace_bytes(*run.sizes(call.x), "backward"))
        dx = run.new(*call.x.shape)
        core().backward(
            layer.cell, call.x, call.lengths, call.weights, False, call.tape, dy,
            of_layer(dstate, l, D), dx, tuple(dweights), of_layer(dstate_0, l, D), work, run.stream,
        )  # fmt: skip
        dy = dx
    dx = run.swapped(dx)
    for new, into in made:
        if not accumulate:
            into.zero(run.stream)
        core().add(new, into, run.stream)
    return dx, dstate_0


def of_layer(state: tuple[Buffer, ...] | None, l: int, D: int) -> tuple[Buffer, ...] | None:
    """Return the part (D, N, H) of each array of a state."""
    return None if state is None else tuple([part.rows(l * D, D) for part in state])


def _slots(layer: DeviceRecurrent, l: int) -> Any:
    D = len(layer._directions)
    return layer._slots[l * D : (l + 1) * D]
