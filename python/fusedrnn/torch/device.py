# SPDX-License-Identifier: MIT
"""What `bridge` does for tensors on a CUDA device: views of their memory, on PyTorch's stream.

All memory is PyTorch's. Sizes as in `bridge`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ..cuda.library import core
from ..cuda.streams import stream_of

if TYPE_CHECKING:
    from .bridge import Layer

Group = tuple[Tensor | None, ...]
"""weight_ih, weight_hh, bias_ih, bias_hh, weight_ch of one direction."""


class Kept(NamedTuple):
    """What backward needs: forward's tensors, and its tape."""

    x: Tensor
    weights: list[Group]
    tape: Tensor | None


def forward(
    layer: Layer,
    x: Tensor,
    batch_sizes: None,
    state: Sequence[Tensor],
    weights: Sequence[Tensor],
    keep: bool,
) -> tuple[Tensor, list[Tensor], Kept]:
    """Run as `bridge.forward`, but not packed sequences."""
    x, each = x.data.contiguous(), grouped(layer, weights)
    shapes, sizes = layer.state_shapes(weights, x.shape[1]), sizes_of(layer, x, weights)
    y = x.new_empty(*x.shape[:2], layer.directions * shapes[0][2])
    state_n = [x.new_empty(shape) for shape in shapes]
    tape = memory(x, core().tape_bytes(*sizes)) if keep else None
    work = memory(x, core().workspace_bytes(*sizes, "training" if keep else "inference"))
    before = [part.data.contiguous() for part in state] or None
    on = stream_of(None, x)
    arguments = x, None, each, before, False, y, state_n, tape, work
    core().forward(layer.cell, *[views(a, on) for a in arguments], on)
    return y, state_n, Kept(x, each, tape)


def backward(
    layer: Layer,
    kept: Kept,
    dy: Tensor | None,
    dstate: Sequence[Tensor | None],
    N: int,
    wants_dx: bool,
    wants_dweights: bool,
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Run as `bridge.backward`."""
    x, each, tape = kept
    shapes, sizes = layer.state_shapes(each[0], N), sizes_of(layer, x, each[0])
    if dy is None:
        dy = x.new_zeros(*x.shape[:2], layer.directions * shapes[0][2])
    after = dx = dweights = None
    if any(part is not None for part in dstate):
        after = [
            x.new_zeros(shape) if part is None else part.data.contiguous()
            for part, shape in zip(dstate, shapes, strict=True)
        ]
    if wants_dx:
        dx = torch.empty_like(x)
    if wants_dweights:
        dweights = [[a if a is None else torch.empty_like(a) for a in one] for one in each]
    dstate_0 = [x.new_empty(shape) for shape in shapes]
    work = memory(x, core().workspace_bytes(*sizes, "backward"))
    on, dy = stream_of(None, x), dy.data.contiguous()
    arguments = x, None, each, False, tape, dy, after, dx, dweights, dstate_0, work
    core().backward(layer.cell, *[views(a, on) for a in arguments], on)
    flat = [a for one in dweights or [] for a in one if a is not None]
    return [] if dx is None else [dx], dstate_0, flat


def grouped(layer: Layer, weights: Sequence[Tensor]) -> list[Group]:
    """Return the weights of each direction."""
    count, each = len(weights) // layer.directions, []
    for first in range(0, len(weights), count):
        ih, hh, *biases = [a.data.contiguous() for a in weights[first : first + count]]
        each.append((ih, hh, *(biases if layer.bias else (None, None)), None))
    return each


def sizes_of(layer: Layer, x: Tensor, weights: Sequence[Any]) -> tuple[Any, ...]:
    """Return what the kernels' sizes depend on."""
    dtype = str(x.dtype).removeprefix("torch.")
    return layer.cell, dtype, *x.shape, weights[1].shape[1], layer.directions, x.device.index


def memory(x: Tensor, nbytes: int) -> Tensor:
    """Return so many bytes where x is."""
    return x.new_empty(max(nbytes, 1), dtype=torch.uint8)


def views(value: Any, on: Any) -> Any:
    """Return tensors, or sequences of them, as buffers; all else as it is."""
    if isinstance(value, Tensor):
        return core().Buffer.view(value, "tensor", on)
    return tuple([views(a, on) for a in value]) if isinstance(value, (list, tuple)) else value
