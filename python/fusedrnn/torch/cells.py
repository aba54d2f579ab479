# SPDX-License-Identifier: MIT
"""`RNNCell`, `LSTMCell` and `GRUCell` of `torch.nn`, running on the kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from . import compilers, fits
from .autograd import run
from .bridge import shapes_of
from .layer import Layer

NAMES = "weight_ih", "weight_hh", "bias_ih", "bias_hh"
NONLINEARITIES = {"tanh": "rnn_tanh", "relu": "rnn_relu"}


STEPS = {
    (cell, bias): Layer(cell, 1, bias, False, "step")
    for cell in ("rnn_tanh", "rnn_relu", "lstm", "gru")
    for bias in (False, True)
}


class FusedCell(compilers.Unscripted, torch.nn.RNNCellBase):
    """What the three share."""

    states = 1
    """Parts of the state: h, or h and c."""
    cell: str | None
    """A name in `CELLS`."""

    def forward(self, input: Any, hx: Any = None) -> Any:
        """Run as `torch.nn`'s module: the same arguments, shapes, errors and results."""
        own = self._parameters
        bare = not self.bias and all(own.get(name, own) is None for name in NAMES[2:])
        weights = fits.weights_of(self, NAMES[:2] if bare else NAMES)
        pairs = self.states == 2 and isinstance(hx, (tuple, list)) and hx
        state = () if hx is None else tuple(hx) if pairs else (hx,)
        tensors, parts, cell = (input, *state, *weights), len(state), self.cell
        shapes, reason = fits.look(tensors, 1 + parts, plain=False)
        if (
            cell is None
            or reason is not None
            or not self._fits(shapes or shapes_of(tensors), parts)
        ):
            return compilers.hand_over(self, super().forward, reason, input, input, hx)
        after = run(STEPS[cell, not bare], input, None, state, weights, plain=bool(shapes))
        return tuple(after) if self.states == 2 else after[0]

    def _fits(self, shapes: Sequence[Sequence[int]], parts: int) -> bool:
        """Whether shapes, of x, so many parts of the state and the weights, are as they shall be.

        And no size is 0.
        """
        shape, *before = shapes[: 1 + parts]
        if len(shape) not in (1, 2) or shape[-1] != self.input_size or 0 in shape:
            return False
        if shapes[2 + parts][-1] != self.hidden_size or parts not in (0, self.states):
            return False
        return before == [(*shape[:-1], self.hidden_size)] * parts


class RNNCell(FusedCell, torch.nn.RNNCell):
    """`torch.nn.RNNCell`, running on the kernels."""

    @property
    def cell(self) -> str | None:  # type: ignore[override]
        """None for a nonlinearity that `torch.nn` will refuse."""
        return NONLINEARITIES.get(self.nonlinearity)


class LSTMCell(FusedCell, torch.nn.LSTMCell):
    """`torch.nn.LSTMCell`, running on the kernels."""

    states, cell = 2, "lstm"


class GRUCell(FusedCell, torch.nn.GRUCell):
    """`torch.nn.GRUCell`, running on the kernels."""

    cell = "gru"
