# SPDX-License-Identifier: MIT
"""What a layer is to the rest of `fusedrnn.torch`, beside its tensors; sizes as in `bridge`."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .. import _core


class Layer(NamedTuple):
    """What a layer is, beside its tensors."""

    cell: str
    directions: int
    bias: bool
    projected: bool
    layout: str = "time_first"
    """Of y: (T, N, D*P), or of a packed batch (R, D*P); with "batch_first" (N, T, D*P); none of
    one "step" of a cell."""

    @property
    def step(self) -> bool:
        """Whether it is one step, whose only output is state_n."""
        return self.layout == "step"

    @property
    def outputs(self) -> int:
        """How many tensors it gives out: y, but of a step, and the parts of state_n."""
        return (not self.step) + (2 if self.cell == "lstm" else 1)

    @property
    def weights(self) -> int:
        """How many weights it has, in all directions."""
        return self.directions * (2 + 2 * self.bias + self.projected)

    def sequences(self, x: Tensor, state: Sequence[Tensor]) -> int:
        """Return N, which a packed batch says by its state; of a step 0."""
        return 0 if self.layout == "step" else (state[0] if state else x).shape[1]

    def state_shapes(self, x: Tensor, N: int, weights: Sequence[Tensor]) -> list[tuple[int, ...]]:
        """Return the shape of each part of the state: (D, N, P) of h, (D, N, H) of c."""
        cell, D, _, projected, layout = self  # at once: each by its name takes as long
        P, rows = weights[1].shape[1], x.shape[:-1] if layout == "step" else (D, N)
        if cell != "lstm":
            return [(*rows, P)]
        return [(*rows, P), (*rows, weights[0].shape[0] // 4 if projected else P)]

    def new_outputs(
        self, x: Tensor, state: Sequence[Tensor], weights: Sequence[Tensor]
    ) -> list[Tensor]:
        """Return memory for y, but of a step, and for state_n; in y time comes first."""
        _, D, _, _, layout = self
        new, outputs = x.new_empty, []
        shapes = self.state_shapes(x, self.sequences(x, state), weights)
        width = D * shapes[0][-1]
        if layout == "batch_first":
            T, N, _ = x.shape
            outputs.append(x.new_empty_strided((N, T, width), (width, N * width, 1)))
        elif layout != "step":
            outputs.append(new(*x.shape[:-1], width))  # numbers are read faster than a tuple
        for shape in shapes:
            outputs.append(new(*shape))
        return outputs

    def time_first(self, y: Tensor) -> Tensor:
        """Return y, or its gradient, with time first."""
        return y.transpose(0, 1) if self.layout == "batch_first" else y

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
        per_row, per_n = rates(self.cell, x.dtype == torch.float64, int(H), int(P))
        steps = 0 if batch_sizes is None else batch_sizes.shape[0]
        return per_row * rows + per_n * N + 8 * steps + BESIDE


BESIDE = 2048
"""Bytes of a tape beside its rows: what it is, and room to align its parts."""


LANES = 16
"""The widest vector of any instruction set: a tape has whole vectors for a row's units."""


@functools.cache
def rates(cell: str, is_double: bool, H: int, P: int) -> tuple[int, int]:
    """Return the bytes a tape has for each row of all steps, and for each sequence.

    At the most: one step, which T may turn out to be, keeps an RNN's h as well. Sizes of whole
    vectors give every instruction set the same: a compiled graph, kept on disk, may meet another.
    """
    H, P = (-(-size // LANES) * LANES for size in (H, P))

    def at(T: int, N: int) -> int:
        return _core.tape_nbytes(cell, is_double, T, N, H, P, T * N)

    per_row = (at(4, 32) - at(2, 32)) // 64
    return per_row, (at(1, 64) - at(1, 32)) // 32 - per_row
