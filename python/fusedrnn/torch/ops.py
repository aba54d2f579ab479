# SPDX-License-Identifier: MIT
"""The layer as operators of PyTorch, which `torch.compile` and `torch.export` do not look into."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import __version__, _core
from . import bridge
from .layer import Layer


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
    version: str,
) -> tuple[list[Tensor], list[Tensor]]:
    """Run `bridge.forward`; return its outputs and, to be kept, the tapes and a y of its own.

    `version` is there to be seen: PyTorch keeps compiled graphs on disk, and the sizes of the tapes
    in one are those of the version that it was made with.
    """
    layer = Layer(cell, directions, bias, projected, form)
    parts = len(state)
    x, *tensors = bridge.all_plain((x, *state, *weights))
    state, weights = tensors[:parts], tensors[parts:]
    tapes = []
    if keep:
        nbytes = layer.tape_nbytes(x, batch_sizes, state, weights)
        tapes = [torch.from_numpy(_core.buffer(nbytes)) for _ in range(directions)]
    outputs, _ = bridge.forward(layer, x, batch_sizes, state, weights, tapes or bridge.NONES)
    if keep and not layer.step:  # backward reads y, whatever becomes of the one that is given out
        y = outputs[0]
        return [y.clone(), *outputs[1:]], [*tapes, y]
    return outputs, tapes


@run_layer.register_fake
def _(*arguments: Any) -> tuple[list[Tensor], list[Tensor]]:
    *how, x, batch_sizes, state, weights, keep, _ = arguments
    layer = Layer(*how)
    outputs = layer.new_outputs(x, state, weights)
    if not keep:
        return outputs, []
    nbytes = layer.tape_nbytes(x, batch_sizes, state, weights)
    kept = [x.new_empty(nbytes, dtype=torch.uint8) for _ in range(layer.directions)]
    return outputs, kept if layer.step else [*kept, torch.empty_like(outputs[0])]


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
    *how, x, batch_sizes, state, weights, _, _ = inputs
    outputs, kept = output
    ctx.layer = layer = Layer(*how)
    ctx.parts, ctx.kept, ctx.N = len(state), len(kept), layer.sequences(x, outputs[1:])
    ctx.count = len(weights)
    again = () if kept else (batch_sizes, *state)
    ctx.save_for_backward(*kept, x, *weights, *again)


def _backward(ctx: Any, douts: list[Tensor | None], _: Any) -> Any:
    kept, (x, *tensors) = ctx.saved_tensors[: ctx.kept], ctx.saved_tensors[ctx.kept :]
    weights, again = tensors[: ctx.count], tensors[ctx.count :]
    if not kept:  # traced without gradients, as by torch.export: run again
        batch_sizes, *state = again
        kept = run_layer(*ctx.layer, x, batch_sizes, state, weights, True, __version__)[1]
    tapes, y = (kept, None) if ctx.layer.step else (kept[:-1], kept[-1])
    wants = [ctx.needs_input_grad[5], ctx.parts > 0, True]
    dx, dstate, dweights = run_layer_backward(*ctx.layer, tapes, x, y, weights, douts, ctx.N, wants)
    return *[None] * 5, dx[0] if dx else None, None, dstate, dweights, None, None


def _refuse(ctx: Any, *grads: Any) -> Any:
    raise RuntimeError("create_graph=True: expected a module that is not compiled, as this one is")


run_layer.register_autograd(_backward, setup_context=_keep)
run_layer_backward.register_autograd(_refuse)
