# SPDX-License-Identifier: MIT
"""From tensors to the kernels and back, without a copy: one layer, in one direction or in both.

Sizes: T time steps, N sequences, I inputs, D directions, H hidden units; P, the width of h, is H
but for a projected LSTM. A packed batch comes as (1, R, ...): the R rows of all its steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .. import _core
from ..weights import CELLS, Array, Weights


class Layer(NamedTuple):
    """What a layer is, beside its tensors."""

    cell: str
    directions: int
    bias: bool
    projected: bool

    def state_shapes(self, weights: Sequence[Any], N: int) -> list[tuple[int, int, int]]:
        """Return the shape of each part of the state: (D, N, P) of h, (D, N, H) of c."""
        weight_hh, cell = weights[1], CELLS[self.cell]
        widths = weight_hh.shape[1], weight_hh.shape[0] // cell.gates
        return [(self.directions, N, width) for width in widths[: cell.states]]


class Kept(NamedTuple):
    """What backward needs: the memory of forward's tensors, and the tape of each direction."""

    x: Array
    y: Array
    weights: list[Weights]
    tapes: Sequence[_core.Tape]


def forward(
    layer: Layer,
    x: Tensor,
    batch_sizes: Tensor | None,
    state: Sequence[Tensor],
    weights: Sequence[Tensor],
    keep: bool,
) -> tuple[Tensor, list[Tensor], Kept]:
    """Run a layer over a sequence.

    Parameters
    ----------
    x : Tensor (T, N, I)
    batch_sizes : Tensor int64 (T,), or None
        Of a packed batch, which must come with a state.
    state : h (D, N, P), with c (D, N, H) for LSTM; or empty for zeros
    weights : those of each direction, in the order of `torch.nn`
    keep : bool
        Whether to record tapes.

    Returns
    -------
    y : Tensor (T, N, D*P)
    state_n : as state
    kept : Kept
    """
    x_array, each = array(x), grouped(layer, weights)
    before = [array(part) for part in state] or None
    shapes = layer.state_shapes(weights, (state[0] if state else x).shape[1])
    first_row, D, P = None, layer.directions, shapes[0][2]
    if batch_sizes is not None:
        first_row = np.concatenate((np.zeros(1, np.int64), np.cumsum(batch_sizes.numpy())))
    y = np.empty((*x_array.shape[:2], D * P), x_array.dtype)
    state_n = [np.empty(shape, y.dtype) for shape in shapes]
    tapes = [_core.Tape() for _ in range(D)] if keep else []
    for d in range(D):
        _core.forward(
            layer.cell, x_array, each[d], of(before, d), d == 1,
            y[:, :, d * P : (d + 1) * P], of(state_n, d), tapes[d] if keep else None,
            first_row, threads=torch.get_num_threads(),
        )  # fmt: skip
    kept = Kept(x_array, y, each, tapes)
    return torch.from_numpy(y), [torch.from_numpy(part) for part in state_n], kept


def backward(
    layer: Layer,
    kept: Kept,
    dy: Tensor | None,
    dstate: Sequence[Tensor | None],
    N: int,
    wants_dx: bool,
    wants_dweights: bool,
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Backpropagate through time.

    Parameters
    ----------
    dy, dstate : Tensor each, or None for zeros
        Gradients of y and state_n.

    Returns
    -------
    dx : Tensor (T, N, I), or none if not wanted
    dstate_0 : as state
    dweights : as weights, or none if not wanted
    """
    x, y, each, tapes = kept
    D, shapes = layer.directions, layer.state_shapes(each[0], N)
    P, dy_array, after = shapes[0][2], None if dy is None else array(dy), None
    if any(part is not None for part in dstate):
        after = [
            np.zeros(shape, y.dtype) if part is None else array(part)
            for part, shape in zip(dstate, shapes, strict=True)
        ]
    dx = np.empty_like(x) if wants_dx else None
    dstate_0 = [np.empty(shape, y.dtype) for shape in shapes]
    dweights = [one.empty_like() for one in each] if wants_dweights else []
    for d in range(D):
        half = slice(d * P, (d + 1) * P)
        _core.backward(
            tapes[d], x, y[:, :, half], each[d], None if dy_array is None else dy_array[:, :, half],
            of(after, d), dx, d > 0, dweights[d] if dweights else None, False, of(dstate_0, d),
            threads=torch.get_num_threads(),
        )  # fmt: skip
    flat = [torch.from_numpy(a) for one in dweights for a in one if a is not None]
    parts = [torch.from_numpy(part) for part in dstate_0]
    return [] if dx is None else [torch.from_numpy(dx)], parts, flat


def array(tensor: Tensor) -> Array:
    """Return the tensor's memory; a copy only if it is not contiguous."""
    a: Array = tensor.data.contiguous().numpy()  # detach() costs 0.2 us more
    return a


def grouped(layer: Layer, weights: Sequence[Tensor]) -> list[Weights]:
    """Return the weights of each direction."""
    count, each = len(weights) // layer.directions, []
    for first in range(0, len(weights), count):
        ih, hh, *rest = [array(weight) for weight in weights[first : first + count]]
        b_ih, b_hh = rest[:2] if layer.bias else (None, None)
        each.append(Weights(ih, hh, b_ih, b_hh, None, rest[-1] if layer.projected else None))
    return each


def of(state: Sequence[Array] | None, d: int) -> Any:
    """Return the parts (N, width) of direction d, None for none."""
    return None if state is None else tuple([part[d] for part in state])
