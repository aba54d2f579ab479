# SPDX-License-Identifier: MIT
"""The layer as operators of PyTorch, which `torch.compile` and `torch.export` do not look into."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import _core
from . import bridge
from .bridge import Layer


@torch.library.custom_op("fusedrnn::layer", mutates_args=())
def run_layer(
    cell: str,
    directions: int,
    bias: bool,
    projected: bool,
    form: str,
    x: Tensor,
    batch_sizes: Tensor | None,
    state: Sequence[Tensor],
    weights: Sequence[Tensor],
    keep: bool,
) -> tuple[list[Tensor], list[Tensor]]:
    """Run `bridge.forward`."""
    layer = Layer(cell, directions, bias, projected, form)
    parts = len(state)
    x, *tensors = bridge.all_plain((x, *state, *weights), 1 + parts)
    state, weights = tensors[:parts], tensors[parts:]
    tapes = []
    if keep:
        nbytes = layer.tape_nbytes(x, batch_sizes, state, weights)
        tapes = [torch.from_numpy(_core.buffer(nbytes)) for _ in range(directions)]
    outputs, _ = bridge.forward(layer, x, batch_sizes, state, weights, tapes or bridge.NONES)
    return outputs, tapes


@run_layer.register_fake
def _(*arguments: Any) -> tuple[list[Tensor], list[Tensor]]:
    *how, x, batch_sizes, state, weights, keep = arguments
    layer = Layer(*how)
    shapes = layer.state_shapes(x, layer.sequences(x, state), weights)
    outputs = [x.new_empty(shape) for shape in shapes]
    if not layer.step:
        outputs.insert(0, layer.new_y(x, shapes[0][-1]))
    nbytes = layer.tape_nbytes(x, batch_sizes, state, weights) if keep else 0
    count = layer.directions if keep else 0
    return outputs, [x.new_empty(nbytes, dtype=torch.uint8) for _ in range(count)]


@torch.library.custom_op("fusedrnn::layer_backward", mutates_args=())
def run_layer_backward(
    cell: str,
    directions: int,
    bias: bool,
    projected: bool,
    form: str,
    tapes: Sequence[Tensor],
    x: Tensor,
    y: Tensor | None,
    weights: Sequence[Tensor],
    douts: Sequence[Tensor | None],
    N: int,
    wants: Sequence[bool],
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Run `bridge.backward`."""
    layer = Layer(cell, directions, bias, projected, form)
    return bridge.backward(layer, tapes, x, y, weights, douts, N, wants)


@run_layer_backward.register_fake
def _(*arguments: Any) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    *how, _, x, _, weights, _, N, wants = arguments
    shapes = Layer(*how).state_shapes(x, N, weights)
    dx = [x.new_empty(x.shape)] if wants[0] else []
    dstate = [x.new_empty(shape) for shape in shapes] if wants[1] else []
    dweights = [weight.new_empty(weight.shape) for weight in weights] if wants[2] else []
    return dx, dstate, dweights


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
    *how, x, batch_sizes, state, weights, _ = inputs
    outputs, tapes = output
    ctx.layer = layer = Layer(*how)
    ctx.parts, ctx.D, ctx.N = len(state), len(tapes), layer.sequences(x, outputs[1:])
    ctx.count = len(weights)
    again = () if tapes else (batch_sizes, *state)
    ctx.save_for_backward(*tapes, x, None if layer.step else outputs[0], *weights, *again)


def _backward(ctx: Any, douts: list[Tensor | None], _: Any) -> Any:
    tapes, (x, y, *tensors) = ctx.saved_tensors[: ctx.D], ctx.saved_tensors[ctx.D :]
    weights, again = tensors[: ctx.count], tensors[ctx.count :]
    if not ctx.D:  # traced without gradients, as by torch.export: the tapes are made now
        batch_sizes, *state = again
        tapes = run_layer(*ctx.layer, x, batch_sizes, state, weights, True)[1]
    wants = [ctx.needs_input_grad[5], ctx.parts > 0, True]
    dx, dstate, dweights = run_layer_backward(*ctx.layer, tapes, x, y, weights, douts, ctx.N, wants)
    return *[None] * 5, dx[0] if dx else None, None, dstate, dweights, None


def _refuse(ctx: Any, *grads: Any) -> Any:
    raise RuntimeError("create_graph=True: expected a module that is not compiled, as this one is")


run_layer.register_autograd(_backward, setup_context=_keep)
run_layer_backward.register_autograd(_refuse)
