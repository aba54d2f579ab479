# SPDX-License-Identifier: MIT
"""`RNN`, `LSTM` and `GRU` of `torch.nn`, running on the kernels.

They are those modules in all but `forward`: it takes the kernels for what these can run, and
`torch.nn`'s own forward for the rest, which also has the words for what does not fit.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import dropout
from torch.nn.utils.rnn import PackedSequence

from . import compilers, fits
from .autograd import run
from .bridge import shapes_of
from .layer import Layer

MODES = {"RNN_TANH": "rnn_tanh", "RNN_RELU": "rnn_relu", "LSTM": "lstm", "GRU": "gru"}


LAYERS = {
    (mode, D == 2, bias, projected, layout == "batch_first"): Layer(
        cell, D, bias, projected, layout
    )
    for mode, cell in MODES.items()
    for D, bias, projected in itertools.product((1, 2), (False, True), (False, True))
    for layout in ("time_first", "batch_first")
}


def settings_of(module: torch.nn.RNNBase) -> tuple[Any, ...]:
    """Return what a module's attributes say it is."""
    own = module.__dict__  # an attribute takes ten times as long: modules have a __getattr__
    return (
        own["mode"], own["input_size"], own["hidden_size"], own["proj_size"], own["num_layers"],
        own["bias"], own["bidirectional"], own["batch_first"],
    )  # fmt: skip


class Fused(compilers.Unscripted, torch.nn.RNNBase):
    """What the three share."""

    def forward(self, input: Any, hx: Any = None) -> Any:
        """Run as `torch.nn`'s module: the same arguments, shapes, errors and results."""
        packed = isinstance(input, PackedSequence)
        x = input.data if packed else input
        settings, weights = settings_of(self), fits.flat_weights_of(self)
        mode, _, _, proj_size, *_ = settings
        pairs = mode == "LSTM" and isinstance(hx, (tuple, list)) and hx
        state = () if hx is None else tuple(hx) if pairs else (hx,)
        tensors, parts, layer = (x, *state, *weights), len(state), None
        shapes, reason = fits.look(tensors, not packed and not proj_size)
        if reason is None:
            N = rows_of(input) if packed and state else None
            if shapes:
                layer = known_layer_of(settings, shapes, parts, packed, N)
            else:
                layer = layer_of(settings, shapes_of(tensors), parts, packed, N)
        if layer is None:
            return compilers.hand_over(self, super().forward, reason, x, input, hx)
        if packed:
            y, state_n = self._packed(layer, input, state, weights)
        elif x.dim() == 2:
            y, state_n = self._unbatched(layer, x, state, weights)
        else:
            if layer.layout == "batch_first":
                x = x.transpose(0, 1).contiguous()
            y, *state_n = self._stack(layer, x, None, state, weights, shapes is not None)
        return y, tuple(state_n) if mode == "LSTM" else state_n[0]

    def _unbatched(
        self, layer: Layer, x: Tensor, state: Sequence[Tensor], weights: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        x, state = x.unsqueeze(1), [part.unsqueeze(1) for part in state]
        y, *state_n = self._stack(layer, x, None, state, weights)
        return y.squeeze(1), [part.squeeze(1) for part in state_n]

    def _packed(
        self,
        layer: Layer,
        input: PackedSequence,
        state: Sequence[Tensor],
        weights: Sequence[Tensor],
    ) -> tuple[PackedSequence, list[Tensor]]:
        x, batch_sizes, order, back = input
        if not state:
            shapes = layer.state_shapes(x, rows_of(input), weights)
            state = [x.new_zeros(self.num_layers * D, N, width) for D, N, width in shapes]
        elif order is not None:
            state = [part.index_select(1, order) for part in state]
        y, *state_n = self._stack(layer, x, batch_sizes, state, weights)
        if back is not None:
            state_n = [part.index_select(1, back) for part in state_n]
        return PackedSequence(y, batch_sizes, order, back), state_n

    def _stack(
        self,
        last_layer: Layer,
        x: Tensor,
        batch_sizes: Tensor | None,
        state: Sequence[Tensor],
        weights: Sequence[Tensor],
        plain: bool = False,
    ) -> Sequence[Tensor]:
        """Run the layers, with dropout between them; return y and the parts of state_n.

        `plain`: all are, as `bridge.plain` returns them.
        """
        L = self.num_layers
        if L == 1:
            return run(last_layer, x, batch_sizes, state, weights, plain)
        layer, count = last_layer._replace(layout="time_first"), last_layer.weights
        D = layer.directions
        last: list[Sequence[Tensor]] = []
        for l in range(L):
            if l and self.dropout and self.training:
                x = dropout(x, self.dropout)
            before = [part[l * D : (l + 1) * D] for part in state]
            own, inner = weights[l * count : (l + 1) * count], l < L - 1
            layer = layer if inner else last_layer
            x, *state_n = run(layer, x, batch_sizes, before, own, plain, inner)
            last.append(state_n)
        return x, *[torch.cat(parts) for parts in zip(*last, strict=True)]


def layer_of(
    settings: tuple[Any, ...],
    shapes: Sequence[Sequence[int]],
    parts: int,
    packed: bool,
    packed_rows: int | None,
) -> Layer | None:
    """Return a module's last layer, None if `torch.nn` has the words for what does not fit.

    Shapes are those of x, so many parts of the state and the weights. `packed_rows`: N of a packed
    batch that comes with a state. RuntimeError: weights are not those that the attributes say.
    """
    mode, I, H, P, L, bias, bidirectional, batch_first = settings
    shape = shapes[0]
    if len(shape) not in (2, 3) or shape[-1] != I or 0 in shape or (packed and len(shape) == 3):
        return None
    batch_first = batch_first and len(shape) == 3
    if parts:
        rows = packed_rows if packed else shape[0 if batch_first else 1]
        batch = (rows,) if packed or len(shape) == 3 else ()
        widths = [P or H, H] if mode == "LSTM" else [H]
        if [*shapes[1 : 1 + parts]] != [(L * (1 + bidirectional), *batch, n) for n in widths]:
            return None
    layer = LAYERS.get((mode, bidirectional, bias, P > 0, batch_first))
    if layer is not None:
        check_weights(settings, shapes[1 + parts :])
    return layer


known_layer_of = functools.lru_cache(maxsize=256)(layer_of)  # not for torch.compile


def check_weights(settings: tuple[Any, ...], shapes: Sequence[Sequence[int]]) -> None:
    """Check that the weights are those of the attributes, which may have been changed since."""
    mode, I, H, P, L, bias, bidirectional, _ = settings
    rows, width, ends = {"LSTM": 4, "GRU": 3}.get(mode, 1) * H, P or H, ("", "_reverse")
    wanted: list[tuple[str, tuple[int, ...]]] = []
    for l, end in itertools.product(range(L), ends[: 1 + bidirectional]):
        columns = (1 + bidirectional) * width if l else I
        wanted += [
            (f"weight_ih_l{l}{end}", (rows, columns)),
            (f"weight_hh_l{l}{end}", (rows, width)),
        ]
        wanted += [(f"{name}_l{l}{end}", (rows,)) for name in ("bias_ih", "bias_hh") if bias]
        wanted += [(f"weight_hr_l{l}{end}", (P, H))] if P else []
    if len(shapes) != len(wanted):
        said = f"num_layers={L}, bias={bias}, bidirectional={bidirectional}, proj_size={P}"
        raise RuntimeError(f"weights: expected {len(wanted)} with {said}, got {len(shapes)}")
    for (name, shape), got in zip(wanted, shapes, strict=True):
        if tuple(got) != shape:
            raise RuntimeError(f"{name}: expected shape {shape}, got {tuple(got)}")


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
