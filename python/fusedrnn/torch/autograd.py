# SPDX-License-Identifier: MIT
"""One layer as a function that autograd differentiates: by the kernels, and again by PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import _VF, Tensor

from . import bridge, device, ops
from .bridge import Kept, Layer
from .fits import without_onednn


def run(
    layer: Layer,
    x: Tensor,
    batch_sizes: Tensor | None,
    state: Sequence[Tensor],
    weights: Sequence[Tensor],
) -> Sequence[Tensor]:
    """Return y and the parts of state_n of one layer, differentiable where that is wanted."""
    tensors = (x, *state, *weights)
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    if torch.compiler.is_compiling():
        y, state_n, _ = ops.run_layer(*layer, x, batch_sizes, list(state), list(weights), keep)
        return y.clone() if keep else y, *state_n  # backward reads y, whatever becomes of this one
    if keep:
        result: Sequence[Tensor] = LayerFunction.apply(layer, batch_sizes, len(state), *tensors)
        return result
    y, state_n, _ = _room(x.is_cuda).forward(layer, x, batch_sizes, state, weights, keep=False)
    return y, *state_n


def _room(on_device: bool) -> Any:
    """Return what runs a layer on a device, or on the host: their functions are the same."""
    return device if on_device else bridge


class Call(NamedTuple):
    """One call of a layer, beside the tensors that autograd keeps."""

    layer: Layer
    batch_sizes: Tensor | None
    N: int
    parts: int
    """Of the state that was given: 0 if none was."""
    kept: Kept | device.Kept


class LayerFunction(torch.autograd.Function):
    """Inputs are a layer, x, the parts of its state and its weights; outputs are y and state_n."""

    @staticmethod
    def forward(
        ctx: Any,
        layer: Layer,
        batch_sizes: Tensor | None,
        parts: int,
        x: Tensor,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        """Run the kernels; tensors are so many parts of the state, and the weights."""
        y, state_n, kept = _room(x.is_cuda).forward(
            layer, x, batch_sizes, tensors[:parts], tensors[parts:], keep=True
        )
        ctx.call = Call(layer, batch_sizes, state_n[0].shape[1], parts, kept)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, y, *tensors)  # and so a change in between is found
        return y, *state_n

    @staticmethod
    def backward(ctx: Any, *douts: Tensor | None) -> Any:
        """Return the gradients of the inputs, None where they are not wanted."""
        wanted = ctx.needs_input_grad[3:]
        if torch.is_grad_enabled():  # create_graph=True
            grads = LayerBackward.apply(ctx.call, wanted, len(douts), *douts, *ctx.saved_tensors)
        else:
            ctx.saved_tensors  # noqa: B018  # finds changes since forward
            grads = gradients(ctx.call, wanted, douts)
        return None, None, None, *grads


class LayerBackward(torch.autograd.Function):
    """The backward of `LayerFunction` as a function of its own."""

    @staticmethod
    def forward(
        ctx: Any, call: Call, wanted: Sequence[bool], count: int, *tensors: Tensor | None
    ) -> Any:
        """Run the kernels; tensors are so many gradients of outputs, and what forward kept."""
        ctx.call, ctx.count = call, count
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)
        return tuple(gradients(call, wanted, tensors[:count]))

    @staticmethod
    def backward(ctx: Any, *ddins: Tensor | None) -> Any:
        """Differentiate PyTorch's own operators twice: slower, and right."""
        given, (x, _, *rest) = ctx.saved_tensors[: ctx.count], ctx.saved_tensors[ctx.count :]
        with torch.enable_grad():
            # Nodes of their own, so that what leads from one input to another stays outside
            inputs = [alias(tensor) for tensor in (x, *rest)]
            outputs = reference(ctx.call, *inputs)
            douts = [
                torch.zeros_like(output, requires_grad=True) if dout is None else alias(dout)
                for dout, output in zip(given, outputs, strict=True)
            ]
            dins = torch.autograd.grad(outputs, inputs, douts, create_graph=True)
            pairs = [pair for pair in zip(dins, ddins, strict=True) if pair[1] is not None]
            grads = torch.autograd.grad(
                [din for din, _ in pairs],
                [*douts, *inputs],
                [ddin for _, ddin in pairs],
                create_graph=torch.is_grad_enabled(),
                allow_unused=True,
            )
        ddouts = [None if dout is None else grad for dout, grad in zip(given, grads, strict=False)]
        return None, None, None, *ddouts, grads[ctx.count], None, *grads[ctx.count + 1 :]


def gradients(
    call: Call, wanted: Sequence[bool], douts: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """Return the gradients of x, of the parts of the state and of the weights, where wanted."""
    parts, weights = call.parts, wanted[1 + call.parts :]
    dx, dstate, dweights = _room(isinstance(call.kept, device.Kept)).backward(
        call.layer, call.kept, douts[0], douts[1:], call.N, wanted[0], any(weights)
    )
    grads = [*(dx or [None]), *dstate[:parts], *(dweights or [None] * len(weights))]
    return [grad if want else None for grad, want in zip(grads, wanted, strict=True)]


def reference(call: Call, x: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Return what `LayerFunction` does, by operators that can be differentiated twice."""
    layer, batch_sizes, N, parts, _ = call
    state, weights = list(tensors[:parts]), list(tensors[parts:])
    state = state or [x.new_zeros(shape) for shape in layer.state_shapes(weights, N)]
    how = layer.bias, 1, 0.0, False, layer.directions == 2
    run, hx = getattr(_VF, layer.cell), state if layer.cell == "lstm" else state[0]
    with without_onednn():
        if batch_sizes is None:
            return tuple(run(x, hx, weights, *how, False))
        y, *state_n = run(x[0], batch_sizes, hx, weights, *how)
    return y[None], *state_n


def alias(tensor: Tensor) -> Tensor:
    """Return the tensor as one of its own to differentiate by."""
    return tensor.view_as(tensor) if tensor.requires_grad else tensor.detach().requires_grad_()
