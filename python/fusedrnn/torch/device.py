# SPDX-License-Identifier: MIT
"""What `bridge` does for tensors on a CUDA device: views of their memory, on PyTorch's stream.

All memory is PyTorch's. Sizes as in `bridge`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..cuda.library import core
from ..cuda.stack import FIELDS
from ..cuda.streams import stream_of
from . import bridge
from .layer import Layer


def forward(
    layer: Layer,
    x: Tensor,
    _: None,
    state: Sequence[Tensor],
    weights: Sequence[Tensor],
    tapes: Sequence[Any],
) -> tuple[list[Tensor], list[Tensor]]:
    """Run as `bridge.forward`, but not packed sequences; there is one new tape, or none."""
    y, *state_n = layer.new_outputs(x, state, weights)
    sizes = sizes_of(layer, x, weights)
    tape = [memory(x, core().tape_bytes(*sizes))] if tapes[0] else []
    work = memory(x, core().workspace_bytes(*sizes, "training" if tape else "inference"))
    on, each = stream_of(None, x), grouped(layer, weights)
    kept = tape[0] if tape else None
    arguments = x, None, each, state or None, False, layer.time_first(y), state_n, kept, work
    core().forward(layer.cell, *[views(a, on) for a in arguments], on)
    return [y, *state_n], tape


def backward(
    layer: Layer,
    tapes: Sequence[Tensor],
    x: Tensor,
    y: Tensor,
    weights: Sequence[Tensor],
    douts: Sequence[Tensor | None],
    N: int,
    wants: Sequence[bool],
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Run as `bridge.backward`."""
    dy, *dstate = douts
    dy = torch.zeros_like(y) if dy is None else dy
    shapes, sizes = layer.state_shapes(x, N, weights), sizes_of(layer, x, weights)
    after = None
    if any(part is not None for part in dstate):
        after = [
            x.new_zeros(shape) if part is None else part.contiguous()
            for part, shape in zip(dstate, shapes, strict=True)
        ]
    dx = torch.empty_like(x) if wants[0] else None
    dweights = [torch.empty_like(a) for a in weights] if wants[2] else []
    dstate_0 = [x.new_empty(shape) for shape in shapes]
    work = memory(x, core().workspace_bytes(*sizes, "backward"))
    on, dy = stream_of(None, x), layer.time_first(dy).contiguous()
    into = grouped(layer, dweights) if dweights else None
    arguments = x, None, grouped(layer, weights), False, *tapes, dy, after, dx, into, dstate_0, work
    core().backward(layer.cell, *[views(a, on) for a in arguments], on)
    return [] if dx is None else [dx], dstate_0 if wants[1] else [], dweights


def has(tensor: Tensor) -> bool:
    """Whether a tensor is on a device of CUDA; the tests say so of others."""
    on_device: bool = tensor.is_cuda
    return on_device


def grouped(layer: Layer, weights: Sequence[Tensor]) -> list[tuple[Any, ...]]:
    """Return those weights of each direction that the device's kernels take."""
    return [own[:FIELDS] for own in bridge.grouped(layer, weights)]


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
        return core().Buffer.view(value.detach(), "tensor", on)  # one with a gradient is refused
    return tuple([views(a, on) for a in value]) if isinstance(value, (list, tuple)) else value
