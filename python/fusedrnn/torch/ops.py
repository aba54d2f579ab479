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
    layout: str,
    x: Tensor,
    batch_sizes: Tensor | None,
    state: Sequence[Tensor],
    weights: Sequence[Tensor],
    keep: bool,
    version: str,
) -> list[Tensor]:
    """Run `bridge.forward`; return its outputs and, to be kept, the tapes and a y of its own.

    In one list: Inductor's C++ wrapper takes no lists of lists.

    `version` is there to be seen: PyTorch keeps compiled graphs on disk, and the sizes of the tapes
    in one are those of the version that it was made with.
    """
    layer = Layer(cell, directions, bias, projected, layout)
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
        return [y.clone(), *outputs[1:], *tapes, y]
    return [*outputs, *tapes]


@run_layer.register_fake
def _(*arguments: Any) -> list[Tensor]:
    *how, x, batch_sizes, state, weights, keep, _ = arguments
    layer = Layer(*how)
    outputs = layer.new_outputs(x, state, weights)
    if not keep:
        return outputs
    nbytes = layer.tape_nbytes(x, batch_sizes, state, weights)
    tapes = [x.new_empty(nbytes, dtype=torch.uint8) for _ in range(layer.directions)]
    return [*outputs, *tapes] if layer.step else [*outputs, *tapes, torch.empty_like(outputs[0])]


@torch.library.custom_op("fusedrnn::layer_backward", mutates_args=())
def run_layer_backward(
    cell: str,
    directions: int,
    bias: bool,
    projected: bool,
    layout: str,
    tapes: Sequence[Tensor],
    x: Tensor,
    y: Tensor | None,
    weights: Sequence[Tensor],
    douts: Sequence[Tensor | None],
    N: int,
    wants: Sequence[bool],
) -> list[Tensor]:
    """Run `bridge.backward`; return its gradients in one list."""
    layer = Layer(cell, directions, bias, projected, layout)
    dx, dstate, dweights = bridge.backward(layer, tapes, x, y, weights, douts, N, wants)
    return [*dx, *dstate, *dweights]


@run_layer_backward.register_fake
def _(*arguments: Any) -> list[Tensor]:
    *how, _, x, _, weights, _, N, wants = arguments
    shapes = Layer(*how).state_shapes(x, N, weights)
    dx = [x.new_empty(x.shape)] if wants[0] else []
    dstate = [x.new_empty(shape) for shape in shapes] if wants[1] else []
    dweights = [weight.new_empty(weight.shape) for weight in weights] if wants[2] else []
    return [*dx, *dstate, *dweights]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    *how, x, batch_sizes, state, weights, _, _ = inputs
    ctx.layer = layer = Layer(*how)
    outputs, kept = output[: layer.outputs], output[layer.outputs :]
    ctx.parts, ctx.kept, ctx.N = len(state), len(kept), layer.sequences(x, outputs[1:])
    ctx.count = len(weights)
    again = () if kept else (batch_sizes, *state)
    ctx.save_for_backward(*kept, x, *weights, *again)


def _backward(ctx: Any, douts: list[Tensor | None]) -> Any:
    kept, (x, *tensors) = ctx.saved_tensors[: ctx.kept], ctx.saved_tensors[ctx.kept :]
    weights, again = tensors[: ctx.count], tensors[ctx.count :]
    if not kept:  # traced without gradients, as by torch.export: run again
        batch_sizes, *state = again
        arrays = x, batch_sizes, state, weights
        kept = run_layer(*ctx.layer, *arrays, True, __version__)[ctx.layer.outputs :]
    tapes, y = (kept, None) if ctx.layer.step else (kept[:-1], kept[-1])
    wants = [ctx.needs_input_grad[5], ctx.parts > 0, True]
    douts = douts[: ctx.layer.outputs]
    grads = run_layer_backward(*ctx.layer, tapes, x, y, weights, douts, ctx.N, wants)
    dx, others = (grads[0], grads[1:]) if wants[0] else (None, grads)
    return *[None] * 5, dx, None, others[: ctx.parts], others[ctx.parts :], None, None


def _refuse(ctx: Any, *grads: Any) -> Any:
    raise RuntimeError("create_graph=True: expected a module that is not compiled, as this one is")


run_layer.register_autograd(_backward, setup_context=_keep)
run_layer_backward.register_autograd(_refuse)
