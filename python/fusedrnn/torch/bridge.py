# SPDX-License-Identifier: MIT
"""From tensors to the kernels and back, without a copy: one layer, in one direction or in both.

Sizes: T time steps, N sequences, I inputs, D directions, H hidden units; P, the width of h, is H
but for a projected LSTM. A packed batch comes as (R, ...): the R rows of all its steps. One step of
a cell comes without an axis of time, as (N, I) or (I,), and has no y beside h_n.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .. import _core

if not hasattr(Tensor, "__dlpack_c_exchange_api__"):
    raise ImportError(f"fusedrnn.torch: expected PyTorch 2.10 or later, got {torch.__version__}")
_core.accept_tensors(Tensor, torch.nn.Parameter)  # they go to the kernels as they are
NONES = (None,) * 10


class Layer(NamedTuple):
    """What a layer is, beside its tensors."""

    cell: str
    directions: int
    bias: bool
    projected: bool
    form: str = "time_first"
    """Of y: (T, N, D*P), or of a packed batch (R, D*P); with "batch_first" (N, T, D*P); none of
    one "step" of a cell."""

    @property
    def step(self) -> bool:
        """Whether it is one step, whose only output is state_n."""
        return self.form == "step"

    @property
    def weights(self) -> int:
        """How many weights it has, in all directions."""
        return self.directions * (2 + 2 * self.bias + self.projected)

    def sequences(self, x: Tensor, state: Sequence[Tensor]) -> int:
        """Return N, which a packed batch says by its state; of a step 0."""
        return 0 if self.step else (state[0] if state else x).shape[1]

    def state_shapes(self, x: Tensor, N: int, weights: Sequence[Tensor]) -> list[tuple[int, ...]]:
        """Return the shape of each part of the state: (D, N, P) of h, (D, N, H) of c."""
        P = weights[1].shape[1]
        H = weights[0].shape[0] // 4 if self.projected else P  # an LSTM's
        rows = x.shape[:-1] if self.form == "step" else (self.directions, N)
        return [(*rows, P), (*rows, H)] if self.cell == "lstm" else [(*rows, P)]

    def new_y(self, x: Tensor, P: int) -> Tensor:
        """Return memory for y, in which time comes first whatever the form."""
        width = self.directions * P
        if self.form != "batch_first":
            return x.new_empty(*x.shape[:-1], width)
        T, N = x.shape[:2]
        return x.new_empty_strided((N, T, width), (width, N * width, 1))

    def time_first(self, y: Tensor) -> Tensor:
        """Return y, or its gradient, with time first."""
        return y.transpose(0, 1) if self.form == "batch_first" else y

    def halves(self, y: Tensor) -> Sequence[Tensor]:
        """Return y, or its gradient, of each direction; time comes first."""
        return [y] if self.directions == 1 else y.chunk(2, -1)

    def tape_nbytes(
        self,
        x: Tensor,
        batch_sizes: Tensor | None,
        state: Sequence[Tensor],
        weights: Sequence[Tensor],
    ) -> int:
        """Return how much memory the tape of a direction takes, or a little more."""
        rows: int = math.prod(x.shape[:-1])
        shapes = self.state_shapes(x, self.sequences(x, state), weights)
        N, P, H = rows if self.step else shapes[0][-2], shapes[0][-1], shapes[-1][-1]
        per_row, per_n = rates(self.cell, x.dtype == torch.float64, int(H), int(P), _core.isa())
        steps = 0 if batch_sizes is None else batch_sizes.shape[0]
        return per_row * rows + per_n * N + 8 * steps + BESIDE


BESIDE = 2048
"""Bytes of a tape beside its rows: what it is, and room to align its parts."""


@functools.cache
def rates(cell: str, is_double: bool, H: int, P: int, isa: str) -> tuple[int, int]:
    """Return the bytes a tape has for each row of all steps, and for each sequence.

    At the most: one step, which T may turn out to be, keeps an RNN's h as well.
    """

    def at(T: int, N: int) -> int:
        return _core.tape_nbytes(cell, is_double, T, N, H, P, T * N)

    per_row = (at(4, 32) - at(2, 32)) // 64
    return per_row, (at(1, 64) - at(1, 32)) // 32 - per_row


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
    tapes : for each direction Tensor uint8 to be filled, or True for a new array, or None for none

    Returns
    -------
    outputs : y, in the layer's form, and state_n, as state; of a step only state_n
    tapes : those that were filled
    """
    D, first_row = layer.directions, None
    shapes = layer.state_shapes(x, layer.sequences(x, state), weights)
    outputs = [x.new_empty(*shape) for shape in shapes]  # numbers are read faster than a tuple
    each, before, after = grouped(layer, weights), parts_of(state, D), parts_of(outputs, D)
    ys: Sequence[Any] = NONES[:D]
    if batch_sizes is not None:
        first_row = first_rows(batch_sizes.numpy(), x.shape[0])
    if layer.form != "step":
        y = layer.new_y(x, shapes[0][-1])
        ys, outputs = layer.halves(layer.time_first(y)), [y, *outputs]
    filled = []
    for d in range(D):
        tape = _core.forward(
            layer.cell, x, each[d], before[d] or None, d == 1, ys[d], after[d],
            tapes[d], first_row, None, None, torch.get_num_threads(),
        )  # fmt: skip
        filled.append(tape)
    return outputs, filled


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
        _core.backward(
            tapes[d], x, ys[d], each[d], dys[d], after[d], dx, d > 0,
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


def all_plain(tensors: Sequence[Tensor], count: int = 0) -> Sequence[Tensor]:
    """Return each of a tuple as `plain` does; only the first so many may have the other sign."""
    if _core.are_plain(tensors) and not any(map(Tensor.is_neg, tensors[:count])):
        return tensors
    return tuple(map(plain, tensors))


def plain(tensor: Tensor) -> Tensor:
    """Return the tensor as one that says what its memory says; a copy only if it must be."""
    if tensor._is_zerotensor():  # it has no memory
        return tensor.new_zeros(tensor.shape)
    if not tensor.is_contiguous() or tensor.is_neg():
        return tensor.resolve_neg().contiguous()
    return tensor.clone() if tensor.data_ptr() % tensor.element_size() else tensor


def grouped(layer: Layer, weights: Sequence[Tensor]) -> list[tuple[Any, ...]]:
    """Return the weights of each direction as `weights.Weights` has them."""
    if layer.directions == 1 and not layer.projected:
        return [(*weights, *NONES[len(weights) :])]
    count = len(weights) // layer.directions
    each = [weights[first : first + count] for first in range(0, len(weights), count or 1)]
    if layer.projected:
        return [(*own[:-1], *NONES[count - 1 : 5], own[-1], *NONES[6:]) for own in each]
    return [(*own, *NONES[count:]) for own in each]


def parts_of(state: Sequence[Any], D: int) -> list[tuple[Any, ...]]:
    """Return the parts of a state for each direction; those of one are as they are."""
    if D == 1:
        return [tuple(state)]
    return [tuple([None if part is None else part[d] for part in state]) for d in range(D)]
