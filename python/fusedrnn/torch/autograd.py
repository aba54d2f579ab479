# SPDX-License-Identifier: MIT
"""One layer as a function that autograd differentiates: by the kernels, and again by PyTorch."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import _VF, Tensor

from .. import __version__
from . import bridge, device, ops, step
from .bridge import NONES
from .layer import Layer

requires_grad = operator.attrgetter("requires_grad")  # not for torch.compile


def run(
    layer: Layer,
    x: Tensor,
    batch_sizes: Tensor | None,
    state: Sequence[Tensor],
    weights: Sequence[Tensor],
    plain: bool = False,
    inner: bool = False,
) -> Sequence[Tensor]:
    """Return y (but of a step) and the parts of state_n, differentiable where that is wanted.

    `plain`: all tensors are, as `bridge.plain` returns them, on the host, and nothing is compiled.
    `inner`: no one changes y.
    """
    parts = len(state)
    tensors, apply = (x, *state, *weights), apply_layer
    if not plain:
        if torch.compiler.is_compiling():
            return run_compiled(layer, x, batch_sizes, state, weights)
        given, tensors = tensors, bridge.all_plain(tensors)
        if tensors is not given:
            apply = LayerFunction.apply
    on_host = plain or not device.has(tensors[0])
    backend = step if layer.step else bridge if on_host else device
    if torch.is_grad_enabled() and any(map(requires_grad, tensors)):
        copies = not inner and copies_y(layer, x, batch_sizes)
        call = call_of(layer, backend, parts, copies)
        if batch_sizes is not None:
            call = call._replace(batch_sizes=batch_sizes)
        result: Sequence[Tensor] = apply(call, *tensors)
        return result
    x, state, weights = tensors[0], tensors[1 : 1 + parts], tensors[1 + parts :]
    outputs: Sequence[Tensor] = backend.forward(layer, x, batch_sizes, state, weights, NONES)[0]
    return outputs


def copies_y(layer: Layer, x: Tensor, batch_sizes: Tensor | None) -> bool:
    """Whether y may be changed in place, as that of `torch.nn`: backward reads another."""
    if layer.step:
        return False
    if layer.cell != "lstm" or x.dtype != torch.float32 or not torch._C._get_mkldnn_enabled():
        return True
    # oneDNN's, which torch.nn has here, keeps y as well
    return layer.directions == 2 or layer.projected or batch_sizes is not None


def run_compiled(
    layer: Layer,
    x: Tensor,
    batch_sizes: Tensor | None,
    state: Sequence[Tensor],
    weights: Sequence[Tensor],
) -> Sequence[Tensor]:
    """Do as `run` while a graph is made."""
    tensors = (x, *state, *weights)
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    if not state and torch.compiler.is_exporting():  # AOTInductor has no empty lists
        N = layer.sequences(x, state)
        state = [x.new_zeros(shape) for shape in layer.state_shapes(x, N, weights)]
    arrays = x, batch_sizes, list(state), list(weights)
    outputs: list[Tensor] = ops.run_layer(*layer, *arrays, keep, __version__)
    return outputs[: layer.outputs]


class Call(NamedTuple):
    """One call of a layer, beside the tensors that autograd keeps.

    These are the tapes, y (but of a step), x, the parts of the state that were given, the weights.
    """

    layer: Layer
    backend: Any
    """The module that runs it: `bridge`, `step` or `device`."""
    batch_sizes: Tensor | None
    parts: int
    """Of the state that was given: 0 if none was."""
    first: int
    """The place of x among them."""
    copies_y: bool


@functools.cache  # not seen by torch.compile
def call_of(layer: Layer, backend: Any, parts: int, copies_y: bool) -> Call:
    """Return the call of a layer with so many parts of a state."""
    tapes = 1 if backend is device else layer.directions
    return Call(layer, backend, None, parts, tapes + (not layer.step), copies_y)


class LayerFunction(torch.autograd.Function):
    """Inputs are x, the parts of the state and the weights; outputs are y and state_n."""

    @staticmethod
    def forward(ctx: Any, call: Call, x: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Run the kernels."""
        layer, backend, batch_sizes, parts, _, copies_y = call
        outputs, kept = backend.forward(
            layer, x, batch_sizes, tensors[:parts], tensors[parts:], bridge.NEW
        )
        if not layer.step:
            kept.append(outputs[0])
        if copies_y:
            outputs[0] = outputs[0].clone()
        ctx.call = call
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*kept, x, *tensors)  # and so a change in between is found
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *douts: Tensor | None) -> Any:
        """Return the gradients of the inputs, None where they are not wanted."""
        call, wanted, saved = ctx.call, ctx.needs_input_grad[1:], ctx.saved_tensors
        if any(map(is_batched, douts)):  # is_grads_batched=True
            grads = batched_gradients(call, wanted, douts, saved[call.first :])
        elif torch.is_grad_enabled():  # create_graph=True
            grads = LayerBackward.apply(call, wanted, len(douts), *douts, *saved)
        else:
            grads = gradients(call, wanted, douts, saved)
        return None, *grads


apply_layer = super(torch.autograd.Function, LayerFunction).apply
"""`LayerFunction.apply` without what it does for torch.func: 3 us."""


class LayerBackward(torch.autograd.Function):
    """The backward of `LayerFunction` as a function of its own."""

    @staticmethod
    def forward(
        ctx: Any, call: Call, wanted: Sequence[bool], count: int, *tensors: Tensor | None
    ) -> Any:
        """Run the kernels; tensors are so many gradients of outputs, and what forward kept."""
        ctx.call, ctx.count = call, count
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors[:count], *tensors[count + call.first :])
        return tuple(gradients(call, wanted, tensors[:count], tensors[count:]))

    @staticmethod
    def backward(ctx: Any, *ddins: Tensor | None) -> Any:
        """Differentiate PyTorch's own operators twice: slower, and right."""
        given, rest = ctx.saved_tensors[: ctx.count], ctx.saved_tensors[ctx.count :]
        with torch.enable_grad():
            # Nodes of their own, so that what leads from one input to another stays outside
            inputs = [alias(tensor) for tensor in rest]
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
        unkept = [None] * ctx.call.first
        return None, None, None, *ddouts, *unkept, *grads[ctx.count :]


def gradients(
    call: Call, wanted: Sequence[bool], douts: Sequence[Tensor | None], saved: Sequence[Any]
) -> list[Tensor | None]:
    """Return the gradients of x, of the parts of the state and of the weights, where wanted."""
    layer, backend, _, parts, first, _ = call
    last = first + 1 + parts
    x, state, weights = saved[first], saved[first + 1 : last], saved[last:]
    wants = wanted[0], any(wanted[1 : 1 + parts]), any(wanted[1 + parts :])
    if backend is step:
        return step.backward(saved[0], x, state, weights, douts, wants)
    tapes, y, N = saved[: first - 1], saved[first - 1], layer.sequences(x, state)
    dx, dstate, dweights = backend.backward(layer, tapes, x, y, weights, douts, N, wants)
    dstate = dstate[:parts] or [None] * parts
    return [*(dx or [None]), *dstate, *(dweights or [None] * len(weights))]


def batched_gradients(
    call: Call, wanted: Sequence[bool], douts: Sequence[Tensor | None], tensors: Sequence[Tensor]
) -> list[Tensor | None]:
    """Do as `gradients`, by PyTorch's operators: they know of the further axis of douts."""
    further = torch.is_grad_enabled()
    with torch.enable_grad():
        inputs = [alias(tensor) for tensor in tensors]
        outputs = reference(call, *inputs)
        given = [
            torch.zeros_like(output) if dout is None else dout
            for dout, output in zip(douts, outputs, strict=True)
        ]
        chosen = [tensor for tensor, want in zip(inputs, wanted, strict=True) if want]
        grads = iter(torch.autograd.grad(outputs, chosen, given, create_graph=further))
    return [next(grads) if want else None for want in wanted]


def is_batched(tensor: Tensor | None) -> bool:
    """Whether a vmap has one more axis for the tensor than it shows."""
    if tensor is None:
        return False
    of = torch._C._functorch
    return bool(of.is_legacy_batchedtensor(tensor) or of.is_batchedtensor(tensor))


def reference(call: Call, x: Tensor, *tensors: Tensor) -> Sequence[Tensor]:
    """Return what `LayerFunction` does, by operators that can be differentiated twice."""
    layer, _, batch_sizes, parts, *_ = call
    state, weights = list(tensors[:parts]), list(tensors[parts:])
    N = layer.sequences(x, state)
    if layer.step:
        rows, x = x.shape[:-1], x.reshape(1, -1, x.shape[-1])
        state, N = [part.reshape(1, -1, part.shape[-1]) for part in state], x.shape[1]
        layer = layer._replace(layout="time_first")
    state = state or [x.new_zeros(shape) for shape in layer.state_shapes(x, N, weights)]
    how = layer.bias, 1, 0.0, False, layer.directions == 2
    run, hx = getattr(_VF, layer.cell), state if layer.cell == "lstm" else state[0]
    if batch_sizes is None:
        y, *state_n = run(x, hx, weights, *how, False)
    else:
        y, *state_n = run(x, batch_sizes, hx, weights, *how)
    if call.layer.step:
        return [part.reshape(*rows, part.shape[-1]) for part in state_n]
    return [y.transpose(0, 1) if layer.layout == "batch_first" else y, *state_n]


def alias(tensor: Tensor) -> Tensor:
    """Return the tensor as one of its own to differentiate by."""
    return tensor.view_as(tensor) if tensor.requires_grad else tensor.detach().requires_grad_()
