# SPDX-License-Identifier: MIT
"""The layer as operators of PyTorch, which `torch.compile` and `torch.export` do not look into.

A tape cannot pass through a graph of tensors. What passes is a tensor of its first byte, which
keeps the tape alive and by whose address it is found.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from .. import _core
from . import bridge
from .bridge import Kept, Layer

tapes: WeakValueDictionary[int, _core.Tape] = WeakValueDictionary()
"""By the address of their first byte."""


@torch.library.custom_op("fusedrnn::layer", mutates_args=())
def run_layer(
    cell: str,
    directions: int,
    bias: bool,
    projected: bool,
    x: Tensor,
    batch_sizes: Tensor | None,
    state: Sequence[Tensor],
    weights: Sequence[Tensor],
    keep: bool,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Return y, state_n and, if they are to be kept, the tapes."""
    layer = Layer(cell, directions, bias, projected)
    y, state_n, kept = bridge.forward(layer, x, batch_sizes, state, weights, keep)
    handles = [torch.from_numpy(tape.first_byte()) for tape in kept.tapes]
    for handle, tape in zip(handles, kept.tapes, strict=True):
        tapes[handle.data_ptr()] = tape
    return y, state_n, handles


@run_layer.register_fake
def _(*arguments: Any) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    *how, x, _, state, weights, keep = arguments
    layer = Layer(*how)
    shapes = layer.state_shapes(weights, (state[0] if state else x).shape[1])
    y = x.new_empty(*x.shape[:2], layer.directions * shapes[0][2])
    state_n = [x.new_empty(shape) for shape in shapes]
    handles = [x.new_empty(1, dtype=torch.uint8) for _ in range(layer.directions)] if keep else []
    return y, state_n, handles


@torch.library.custom_op("fusedrnn::layer_backward", mutates_args=())
def run_layer_backward(
    cell: str,
    directions: int,
    bias: bool,
    projected: bool,
    handles: Sequence[Tensor],
    x: Tensor,
    y: Tensor,
    weights: Sequence[Tensor],
    dy: Tensor | None,
    dstate: Sequence[Tensor | None],
    N: int,
    wants_dx: bool,
    wants_dweights: bool,
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Return dx, dstate_0 and dweights as `bridge.backward`."""
    try:
        filled = [tapes[handle.data_ptr()] for handle in handles]
    except KeyError:
        raise RuntimeError("tapes: expected those of the forward call, got copies") from None
    layer = Layer(cell, directions, bias, projected)
    kept = Kept(bridge.array(x), bridge.array(y), bridge.grouped(layer, weights), filled)
    return bridge.backward(layer, kept, dy, dstate, N, wants_dx, wants_dweights)


@run_layer_backward.register_fake
def _(*arguments: Any) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    *how, _, x, _, weights, _, _, N, wants_dx, wants_dweights = arguments
    shapes = Layer(*how).state_shapes(weights, N)
    dx = [x.new_empty(x.shape)] if wants_dx else []
    dweights = [weight.new_empty(weight.shape) for weight in weights] if wants_dweights else []
    return dx, [x.new_empty(shape) for shape in shapes], dweights


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
    *ctx.layer, x, batch_sizes, state, weights, _ = inputs
    y, state_n, handles = output
    ctx.parts, ctx.N, ctx.count = len(state), state_n[0].shape[1], len(weights)
    again = [] if handles else [batch_sizes, *state]
    ctx.save_for_backward(x, y, *weights, *handles, *again)
    ctx.kept = len(handles)


def _backward(ctx: Any, dy: Tensor | None, dstate: list[Tensor | None], _: Any) -> Any:
    x, y, *tensors = ctx.saved_tensors
    weights, handles = tensors[: ctx.count], tensors[ctx.count :]
    if not ctx.kept:  # traced without gradients, as by torch.export: the tapes are made now
        batch_sizes, *state = handles
        handles = run_layer(*ctx.layer, x, batch_sizes, state, weights, True)[2]
    dx, dstate_0, dweights = run_layer_backward(
        *ctx.layer, handles, x, y, weights, dy, dstate, ctx.N, ctx.needs_input_grad[4], True
    )
    dx = dx[0] if dx else None
    return None, None, None, None, dx, None, dstate_0[: ctx.parts], dweights, None


def _refuse(ctx: Any, *grads: Any) -> Any:
    raise RuntimeError("create_graph=True: expected a module that is not compiled, as this one is")


run_layer.register_autograd(_backward, setup_context=_keep)
run_layer_backward.register_autograd(_refuse)
