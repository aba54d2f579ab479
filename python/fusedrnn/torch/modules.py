# SPDX-License-Identifier: MIT
"""`RNN`, `LSTM` and `GRU` of `torch.nn`, running on the kernels.

They are those modules in all but `forward`: it takes the kernels for what these can run, and
`torch.nn`'s own forward for the rest, which also has the words for what does not fit.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import dropout
from torch.nn.utils.rnn import PackedSequence

from . import compilers, fits
from .autograd import run
from .bridge import Layer

MODES = {"RNN_TANH": "rnn_tanh", "RNN_RELU": "rnn_relu", "LSTM": "lstm", "GRU": "gru"}


LAYERS = {
    (mode, D == 2, bias, projected, form == "batch_first"): Layer(cell, D, bias, projected, form)
    for mode, cell in MODES.items()
    for D, bias, projected in itertools.product((1, 2), (False, True), (False, True))
    for form in ("time_first", "batch_first")
}


class Fused(compilers.Unscripted, torch.nn.RNNBase):
    """What the three share."""

    def forward(self, input: Any, hx: Any = None) -> Any:
        """Run as `torch.nn`'s module: the same arguments, shapes, errors and results."""
        packed = isinstance(input, PackedSequence)
        x = input.data if packed else input
        weights = fits.flat_weights_of(self)
        pairs = self.mode == "LSTM" and isinstance(hx, (tuple, list)) and hx
        state = () if hx is None else tuple(hx) if pairs else (hx,)
        plain = not packed and not self.proj_size
        reason = fits.mode() or fits.why_not((x, *state, *weights), plain)
        if reason is not None or not self._fits(x, input if packed else None, state):
            return compilers.hand_over(self, super().forward, reason, x, input, hx)
        y, state_n = (self._packed if packed else self._padded)(input, state, weights)
        return y, tuple(state_n) if self.mode == "LSTM" else state_n[0]

    def _padded(
        self, x: Tensor, state: Sequence[Tensor], weights: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        if x.dim() == 2:
            x, state = x.unsqueeze(1), [part.unsqueeze(1) for part in state]
            y, state_n = self._stack(x, None, state, weights)
            return y.squeeze(1), [part.squeeze(1) for part in state_n]
        if self.batch_first:
            x = x.transpose(0, 1).contiguous()
        return self._stack(x, None, state, weights, self.batch_first)

    def _packed(
        self, input: PackedSequence, state: Sequence[Tensor], weights: Sequence[Tensor]
    ) -> tuple[PackedSequence, list[Tensor]]:
        x, batch_sizes, order, back = input
        if not state:
            shapes = self._layer_of(False).state_shapes(x, rows_of(input), weights)
            state = [x.new_zeros(self.num_layers * D, N, width) for D, N, width in shapes]
        elif order is not None:
            state = [part.index_select(1, order) for part in state]
        y, state_n = self._stack(x, batch_sizes, state, weights)
        if back is not None:
            state_n = [part.index_select(1, back) for part in state_n]
        return PackedSequence(y, batch_sizes, order, back), state_n

    def _stack(
        self,
        x: Tensor,
        batch_sizes: Tensor | None,
        state: Sequence[Tensor],
        weights: Sequence[Tensor],
        batch_first: bool = False,
    ) -> tuple[Tensor, list[Tensor]]:
        """Run the layers, with dropout between them."""
        last_layer, L = self._layer_of(batch_first), self.num_layers
        copies_y = self._copies_y(x, batch_sizes)
        self._check_edits(L * last_layer.weights, weights)
        if L == 1:
            y, *state_n = run(last_layer, x, batch_sizes, state, weights, copies_y)
            return y, state_n
        layer, count = self._layer_of(False), last_layer.weights
        D = layer.directions
        last: list[Sequence[Tensor]] = []
        for l in range(L):
            if l and self.dropout and self.training:
                x = dropout(x, self.dropout)
            before = [part[l * D : (l + 1) * D] for part in state]
            own = weights[l * count : (l + 1) * count]
            layer = last_layer if l == L - 1 else layer
            x, *state_n = run(layer, x, batch_sizes, before, own, copies_y and l == L - 1)
            last.append(state_n)
        return x, [torch.cat(parts) for parts in zip(*last, strict=True)]

    def _check_edits(self, count: int, weights: Sequence[Tensor]) -> None:
        """Check that attributes changed after construction are still those of the weights."""
        if len(weights) != count:
            names = "num_layers", "bias", "bidirectional", "proj_size"
            said = ", ".join(f"{name}={getattr(self, name)}" for name in names)
            raise RuntimeError(f"weights: expected {count} with {said}, got {len(weights)}")
        H, width = self.hidden_size, self.proj_size or self.hidden_size
        shape = weights[1].shape if count else (0, width)
        if shape[-1] != width or (self.proj_size and shape[0] != 4 * H):
            rule = f"expected {width} columns and hidden_size = {H} rows a gate"
            raise RuntimeError(f"weight_hh_l0: {rule}, got {tuple(shape)}")

    def _copies_y(self, x: Tensor, batch_sizes: Tensor | None) -> bool:
        """Whether y may be changed in place, as that of `torch.nn`."""
        if torch.compiler.is_compiling():
            return False  # `ops` does it, for all
        if self.mode != "LSTM" or x.dtype != torch.float32 or not torch._C._get_mkldnn_enabled():
            return True
        # oneDNN's, which torch.nn has here, keeps y as well
        return self.bidirectional or self.proj_size > 0 or batch_sizes is not None

    def _layer_of(self, batch_first: bool) -> Layer:
        return LAYERS[self.mode, self.bidirectional, self.bias, self.proj_size > 0, batch_first]

    def _fits(self, x: Tensor, packed: PackedSequence | None, state: tuple[Tensor, ...]) -> bool:
        """Whether shapes are as they shall be, and no size is 0."""
        shape = x.shape
        if len(shape) not in (2, 3) or shape[-1] != self.input_size or 0 in shape:
            return False
        if packed is not None:
            if len(shape) != 2:
                return False
            batch = (rows_of(packed),) if state else ()
        else:
            batch = (shape[0 if self.batch_first else 1],) if len(shape) == 3 else ()
        if not state:
            return True
        rows, widths = self.num_layers * (1 + self.bidirectional), [self.hidden_size]
        if self.mode == "LSTM":
            widths.insert(0, self.proj_size or self.hidden_size)
        return [part.shape for part in state] == [(rows, *batch, width) for width in widths]


class RNN(Fused, torch.nn.RNN):
    """`torch.nn.RNN`, running on the kernels."""


class LSTM(Fused, torch.nn.LSTM):
    """`torch.nn.LSTM`, running on the kernels."""


class GRU(Fused, torch.nn.GRU):
    """`torch.nn.GRU`, running on the kernels."""


compilers.allow(Fused)


def rows_of(packed: PackedSequence) -> int:
    """Return N."""
    if packed.sorted_indices is not None:  # a shape can be compiled, a value cannot
        N: int = packed.sorted_indices.shape[0]
        return N
    return int(packed.batch_sizes[0])
