# SPDX-License-Identifier: MIT
"""`RNNCell`, `LSTMCell` and `GRUCell` of `torch.nn`, running on the kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import fits
from .autograd import run
from .bridge import Layer

NAMES = "weight_ih", "weight_hh", "bias_ih", "bias_hh"


class FusedCell(torch.nn.RNNCellBase):
    """What the three share."""

    states = 1
    """Parts of the state: h, or h and c."""
    cell: str | None
    """A name in `CELLS`."""

    def forward(self, input: Any, hx: Any = None) -> Any:
        """Run as `torch.nn`'s module: the same arguments, shapes, errors and results."""
        cell, names = self.cell, NAMES if self.bias else NAMES[:2]
        weights = [getattr(self, name, None) for name in names]
        state = () if hx is None else hx if self.states == 2 else (hx,)
        reason = fits.mode()
        if cell is None:
            return super().forward(input, hx)
        if reason is None:
            if not self._fits(input, state, weights):
                return super().forward(input, hx)
            reason = fits.why_not((input, *state, *weights))
        if reason:
            with fits.handed_over(reason):
                return super().forward(input, hx)
        batched = input.dim() == 2
        shape = (1, *input.shape) if batched else (1, 1, *input.shape)
        before = [part.reshape(1, -1, self.hidden_size) for part in state]
        layer = Layer(cell, 1, self.bias, False)
        _, *after = run(layer, input.reshape(shape), None, before, weights)
        after = [part.reshape(*input.shape[:-1], self.hidden_size) for part in after]
        return tuple(after) if self.states == 2 else after[0]

    def _fits(self, x: Any, state: Any, weights: Sequence[Any]) -> bool:
        """Whether kinds, shapes and dtypes are as they shall be, and nothing is empty."""
        if not isinstance(state, (tuple, list)) or len(state) not in (0, self.states):
            return False
        if not all(isinstance(tensor, Tensor) for tensor in (x, *state, *weights)):
            return False
        if x.dim() not in (1, 2) or x.shape[-1] != self.input_size or x.numel() == 0:
            return False
        shape = (*x.shape[:-1], self.hidden_size)
        return all(part.shape == shape for part in state) and all(
            tensor.dtype == x.dtype for tensor in (*state, *weights)
        )


class RNNCell(FusedCell, torch.nn.RNNCell):
    """`torch.nn.RNNCell`, running on the kernels."""

    @property
    def cell(self) -> str | None:  # type: ignore[override]
        """None for a nonlinearity that `torch.nn` will refuse."""
        return {"tanh": "rnn_tanh", "relu": "rnn_relu"}.get(self.nonlinearity)


class LSTMCell(FusedCell, torch.nn.LSTMCell):
    """`torch.nn.LSTMCell`, running on the kernels."""

    states, cell = 2, "lstm"


class GRUCell(FusedCell, torch.nn.GRUCell):
    """`torch.nn.GRUCell`, running on the kernels."""

    cell = "gru"
