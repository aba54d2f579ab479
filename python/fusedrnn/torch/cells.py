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

    states = gates = 1
    """Parts of the state: h, or h and c; blocks of H rows in the weights."""
    cell: str | None
    """A name in `CELLS`."""

    def forward(self, input: Any, hx: Any = None) -> Any:
        """Run as `torch.nn`'s module: the same arguments, shapes, errors and results."""
        own = self._parameters
        bare = not self.bias and all(own.get(name, "absent") is None for name in NAMES[2:])
        weights = fits.weights_of(self, NAMES[:2] if bare else NAMES)
        pairs = self.states == 2 and isinstance(hx, (tuple, list)) and hx
        state = () if hx is None else tuple(hx) if pairs else (hx,)
        tensors, parts = (input, *state, *weights), len(state)
        shapes, reason = fits.look(tensors, devices=False)
        layer = STEPS.get((self.cell or "", not bare)) if reason is None else None
        if layer is None or not self._fits(shapes or shapes_of(tensors), parts):
            return compilers.hand_over(self, super().forward, reason, input, input, hx)
        after = run(layer, input, None, state, weights, plain=bool(shapes))
        return tuple(after) if self.states == 2 else after[0]

    def _fits(self, shapes: Sequence[Sequence[int]], parts: int) -> bool:
        """Whether shapes, of x, so many parts of the state and the weights, are as they shall be.

        And no size is 0.
        """
        shape, I, H = shapes[0], self.input_size, self.hidden_size
        if (
            len(shape) not in (1, 2)
            or shape[-1] != I
            or 0 in shape
            or parts not in (0, self.states)
        ):
            return False
        rows, state = self.gates * H, (*shape[:-1], H)
        weights = [(rows, I), (rows, H), (rows,), (rows,)][: len(shapes) - 1 - parts]
        return [*shapes[1:]] == [state] * parts + weights


class RNNCell(FusedCell, torch.nn.RNNCell):
    """`torch.nn.RNNCell`, running on the kernels."""

    @property
    def cell(self) -> str | None:  # type: ignore[override]
        """None for a nonlinearity that `torch.nn` will refuse."""
        return NONLINEARITIES.get(self.nonlinearity)


class LSTMCell(FusedCell, torch.nn.LSTMCell):
    """`torch.nn.LSTMCell`, running on the kernels."""

    states, gates, cell = 2, 4, "lstm"


class GRUCell(FusedCell, torch.nn.GRUCell):
    """`torch.nn.GRUCell`, running on the kernels."""

    gates, cell = 3, "gru"
