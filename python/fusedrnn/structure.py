# SPDX-License-Identifier: MIT
"""What `RNN`, `LSTM` and `GRU` are made of: options, and parameters by name for every layer.

Slot l*D + d is layer l, direction d; its names end in `_l{l}`, and `_reverse` if d is 1.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from . import validate
from .names import Names, Shapes, names_of_weights, shapes_of_weights
from .noise import LayerNoise, Noise, checked
from .parameters import Parameters
from .placement import Placed
from .ragged import valid_steps
from .weights import CELLS, Array

__all__ = ["Structure", "check_plain"]


class Structure(Placed, Parameters):
    """Stacked layers of a cell, in one direction or both, batch-first or not."""

    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        *,
        bias: bool,
        batch_first: bool,
        bidirectional: bool,
        dropout: float,
        recurrent_dropout: float,
        zoneout_h: float,
        zoneout_c: float = 0.0,
        proj_size: int = 0,
        dtype: Any,
        seed: Any,
        device: str,
    ) -> None:
        self.cell = cell
        self.device = device
        self.input_size = validate.size("input_size", input_size)
        self.hidden_size = validate.size("hidden_size", hidden_size)
        self.proj_size = validate.integer("proj_size", proj_size, 0, self.hidden_size - 1)
        self._h_size = self.proj_size or self.hidden_size  # P
        self.num_layers = validate.integer("num_layers", num_layers, 1, validate.MOST_LAYERS)
        self.bias = validate.flag("bias", bias)
        self.batch_first = validate.flag("batch_first", batch_first)
        self.dropout = dropout
        if self.dropout and self.num_layers == 1:
            warnings.warn("dropout is between layers, and num_layers is 1", stacklevel=3)
        self.recurrent_dropout = recurrent_dropout
        self.zoneout_h, self.zoneout_c = zoneout_h, zoneout_c
        self.bidirectional = validate.flag("bidirectional", bidirectional)
        self._check_options()
        self._directions = ("", "_reverse")[: 1 + self.bidirectional]
        self._letters = CELLS[cell].state_letters
        shapes: Shapes = {}
        self._slots: list[Names] = []  # slot l*D + d is layer l, direction d
        for layer in range(self.num_layers):
            width = len(self._directions) * self._h_size if layer else self.input_size
            for direction in self._directions:
                suffix = f"_l{layer}{direction}"
                names = names_of_weights(cell, self.bias, suffix, self.proj_size > 0)
                shapes |= shapes_of_weights(
                    cell, width, self.hidden_size, names, self.proj_size or None
                )
                self._slots.append(names)
        sizes, bound = (self.input_size, self.hidden_size), 1 / math.sqrt(self.hidden_size)
        super().__init__(shapes, sizes, bound, dtype, seed)

    def _drawn(
        self, noise: Noise | None, x: Array, lengths: Array | None = None
    ) -> LayerNoise | None:
        """Return the noise of one call of `forward`, None if this layer has none.

        After all other checks: a call that is refused takes nothing from the generator.
        """
        if noise is not None:
            noise = checked(noise)
        if not (self.dropout or self.recurrent_dropout or self.zoneout_h or self.zoneout_c):
            return None
        if x.dtype.kind in "iu":  # tokens
            tokens = x if lengths is None else x[valid_steps(lengths, len(x))]
            validate.indices("x", tokens, self.input_size)
        noise = noise or Noise(int(self._rng.integers(2**64, dtype=np.uint64)))
        zoneout = self.zoneout_h, self.zoneout_c
        return LayerNoise(noise, self.dropout, self.recurrent_dropout, zoneout)

    def _swapped(self, a: Array) -> Array:
        """Exchange the first two axes, by a copy, if batch_first."""
        return np.ascontiguousarray(a.swapaxes(0, 1)) if self.batch_first else a

    def _resets(self, resets: Array, shape: tuple[int, ...]) -> Array:
        """Return resets with time first."""
        rule, shape = ("(N, T)", shape[::-1]) if self.batch_first else ("(T, N)", shape)
        validate.array("resets", resets, validate.BOOL, shape, rule)
        return self._swapped(resets)


def check_plain(layer: object) -> None:
    """Refuse what cannot be run step by step, time first."""
    if not isinstance(layer, Structure):
        raise TypeError(f"layer: expected RNN, LSTM or GRU, got {validate.describe(layer)}")
    if layer.device != "cpu":
        raise ValueError('layer: expected a layer on the host, got one with device="cuda"')
    if layer.bidirectional or layer.batch_first:
        got = f"bidirectional={layer.bidirectional}, batch_first={layer.batch_first}"
        raise ValueError(f"layer: expected one direction and batch_first=False, got {got}")
