# SPDX-License-Identifier: MIT
"""From tensors to the kernels and back, without a copy: one layer, in one direction or in both.

Sizes: T time steps, N sequences, I inputs, D directions, H hidden units; P, the width of h, is H
but for a projected LSTM. A packed batch comes as (R, ...): the R rows of all its steps. One step of
a cell comes without an axis of time, as (N, I) or (I,), and has no y beside h_n.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._C._functorch import unwrap_if_dead

from .. import _core
from .layer import Layer

if not hasattr(Tensor, "__dlpack_c_exchange_api__"):
    raise ImportError(f"fusedrnn.torch: expected PyTorch 2.10 or later, got {torch.__version__}")
_core.accept_tensors(Tensor, torch.nn.Parameter)  # they go to the kernels as they are
NONES = (None,) * 10
NEW = (True, True)
"""A new tape for each direction."""


def forward(
    layer: Layer,
    x: Tensor,
    batch_sizes: Tensor | None,
    state: Sequence[Tensor],
    weights: Sequence[Tensor],
    tapes: Sequence[Any],
) -> tuple[list[Tensor], list[Any]]:
    """Run a layer over a sequence, or a cell.

    Parameters
    ----------
    x : Tensor (T, N, I), or packed (R, I), or of a step (N, I) or (I,)
        As `plain` returns it, like all below.
    batch_sizes : Tensor int64 (T,), or None
        Of a packed batch, which must come with its state.
    state : h (D, N, P), with c (D, N, H) for LSTM; or empty for zeros
        Of a step without D, and without N if x is.
    weights : those of each direction, in the order of `torch.nn`
    tapes : for each direction Tensor uint8 to be filled, or True for a new one, or None for none

    Returns
    -------
    outputs : y, in the layer's layout, and state_n, as state; of a step only state_n
    tapes : those that are new
    """
    cell, D, _, _, layout = layer
    outputs, first_row, new = layer.new_outputs(x, state, weights), None, []
    y, *state_n = (None, *outputs) if layout == "step" else outputs
    if layout == "batch_first":
        y = layer.time_first(y)
    if batch_sizes is not None:
        first_row = first_rows(batch_sizes.numpy(), x.shape[0])
    each, before, after = grouped(layer, weights), parts_of(state, D), parts_of(state_n, D)
    ys = (y,) if D == 1 or y is None else layer.halves(y)
    for d in range(D):
        tape = _core.forward(
            cell, x, each[d], before[d] or None, d == 1, ys[d], after[d], tapes[d], first_row, None,
            None, torch.get_num_threads(),
        )  # fmt: skip
        if tapes[d] is True:
            new.append(torch.from_numpy(tape))
    return outputs, new


def backward(
    layer: Layer,
    tapes: Sequence[Tensor],
    x: Tensor,
    y: Tensor | None,
    weights: Sequence[Tensor],
    douts: Sequence[Tensor | None],
    N: int,
    wants: Sequence[bool],
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Backpropagate through time.

    Parameters
    ----------
    y : Tensor as forward returned it, or None of a step
    douts : Tensor each, or None for zeros
        Gradients of what forward returned.
    N : int
        Sequences.
    wants : three of bool
        Which gradients are wanted.

    Returns
    -------
    dx : as x, or none if not wanted
    dstate_0 : as state, or none if not wanted
    dweights : as weights, or none if not wanted
    """
    D, (x, *weights) = layer.directions, all_plain((x, *weights))
    dys: Sequence[Any] = NONES[:D]
    ys = dys
    if y is not None:
        dy, *douts = douts
        ys = layer.halves(plain(layer.time_first(y)))
        dys = dys if dy is None else layer.halves(plain(layer.time_first(dy)))
    after = parts_of([None if dout is None else plain(dout) for dout in douts], D)
    dx = torch.empty_like(x) if wants[0] else None
    shapes = layer.state_shapes(x, N, weights) if wants[1] else []
    dstate = [x.new_empty(*shape) for shape in shapes]
    dweights = [torch.empty_like(weight) for weight in weights] if wants[2] else []
    each, before, into = grouped(layer, weights), parts_of(dstate, D), grouped(layer, dweights)
    for d in range(D):
        tape = tapes[d].contiguous()  # as hooks of autograd may not have left it
        _core.backward(
            tape, x, ys[d], each[d], dys[d], after[d], dx, d > 0,
            into[d] if dweights else None, False, before[d] or None, torch.get_num_threads(),
        )  # fmt: skip
    return [] if dx is None else [dx], dstate, dweights


def first_rows(batch_sizes: Any, R: int) -> Any:
    """Return where each step of a packed batch of R rows begins, and R."""
    sizes = np.append(batch_sizes, 1)
    if sizes[:-1].sum() != R or (sizes[1:] > sizes[:-1]).any():
        got = f"got {batch_sizes.tolist()}"
        raise RuntimeError(f"batch_sizes: expected sizes that never grow, R = {R} together, {got}")
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(batch_sizes)))


def shapes_of(tensors: Sequence[Tensor]) -> list[Sequence[int]]:
    """Return their shapes."""
    return [tensor.shape for tensor in tensors]


def all_plain(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return each as `plain` does.

    One that outlives the transform of `torch.func` it was made in is that transform's no more.
    """
    if _core.plain_shapes(tensors):
        return tensors
    return tuple(map(plain, map(unwrap_if_dead, tensors)))


def plain(tensor: Tensor) -> Tensor:
    """Return the tensor as one that says what its memory says; a copy only if it must be."""
    if tensor._is_zerotensor():  # it has no memory
        return tensor.new_zeros(tensor.shape)
    if not tensor.is_contiguous() or tensor.is_neg():
        return tensor.resolve_neg().contiguous()
    return tensor.clone() if tensor.data_ptr() % tensor.element_size() else tensor


def grouped(layer: Layer, weights: Sequence[Tensor]) -> list[tuple[Any, ...]]:
    """Return the weights of each direction as `weights.Weights` has them."""
    _, D, _, projected, _ = layer
    if D == 1 and not projected:
        return [(*weights, *NONES[len(weights) :])]
    count = len(weights) // D
    each = [weights[first : first + count] for first in range(0, len(weights), count or 1)]
    if projected:
        return [(*own[:-1], *NONES[count - 1 : 5], own[-1], *NONES[6:]) for own in each]
    return [(*own, *NONES[count:]) for own in each]


def parts_of(state: Sequence[Any], D: int) -> list[tuple[Any, ...]]:
    """Return the parts of a state for each direction; those of one are as they are."""
    if D == 1:
        return [tuple(state)]
    return [tuple([None if part is None else part[d] for part in state]) for d in range(D)]
