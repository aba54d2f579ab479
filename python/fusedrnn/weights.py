# SPDX-License-Identifier: MIT
"""The words every other file speaks: one layer's weights, its state, and the table of cells.

Data only. What a cell computes is in `reference` (NumPy) and in `csrc/cells` (kernels).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

State: TypeAlias = tuple[Array, ...]
"""One array per letter of `Cell.state_letters`: `(h,)`, or `(h, c)` for LSTM.

h is (N, P), any other (N, H); P is H but for a projected LSTM.
"""


class Weights(NamedTuple):
    """Weights of one layer in one direction, or their gradients: same type, same shapes.

    Rows come in G blocks of H, one block per gate, in the order of `Cell.gate_letters`; names,
    shapes, gate order and the two biases are those of `torch.nn.RNN`, `LSTM` and `GRU`.

    Examples
    --------
    >>> import numpy as np
    >>> w = Weights(np.zeros((12, 2)), np.zeros((12, 3)), None, None)  # LSTM: G=4, I=2, H=3
    >>> w.weight_hh.shape
    (12, 3)
    """

    weight_ih: Array
    """(G*H, I): multiplies the input."""
    weight_hh: Array
    """(G*H, P): multiplies h; P is H without projection."""
    bias_ih: Array | None
    """(G*H,), or None for no bias."""
    bias_hh: Array | None
    """(G*H,), or None for no bias."""
    weight_ch: Array | None = None
    """(Q*H,): peepholes, one block per letter of `Cell.peephole_letters`; None if there is none."""
    weight_hr: Array | None = None
    """(P, H), P < H: projects o⊙tanh(c) to h; None for no projection."""
    weight_ln_ih: Array | None = None
    """(G*H,): scales the normalised W_ih x; like all below None without layer normalisation."""
    weight_ln_hh: Array | None = None
    """(G*H,): scales the normalised W_hh h', or what W_hn sees in a reset-before GRU."""
    weight_ln_ch: Array | None = None
    """(H,): scales the normalised c; None for a cell without c."""
    bias_ln_ch: Array | None = None
    """(H,): added to that."""

    def empty_like(self) -> Weights:
        """Return new arrays of the same shapes, None where None."""
        return Weights(*[None if a is None else np.empty_like(a) for a in self])  # type: ignore[arg-type]

    def zeros_like(self) -> Weights:
        """Return zeros of the same shapes, None where None: what gradients are added to."""
        return Weights(*[None if a is None else np.zeros_like(a) for a in self])  # type: ignore[arg-type]


NORMS = tuple([name for name in Weights._fields if "_ln_" in name])
"""The weights of layer normalisation."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What a caller must know of a cell to shape its arrays.

    Examples
    --------
    >>> CELLS["lstm"].gates, CELLS["lstm"].states
    (4, 2)
    """

    gate_letters: str
    """One letter per block of H rows in the weights, in order."""
    state_letters: str
    """One letter per array of the state, in order; the first is the output."""
    peephole_letters: str = ""
    """One letter per block of H in weight_ch: the gates that see c."""
    layer_norm: bool = False
    """Each gate's two products are normalised, and c on its way to h if there is one."""

    @property
    def gates(self) -> int:
        """G, the number of blocks of H rows in the weights."""
        return len(self.gate_letters)

    @property
    def states(self) -> int:
        """S, the number of arrays in the state."""
        return len(self.state_letters)

    @property
    def peepholes(self) -> int:
        """Q, the number of blocks of H in weight_ch."""
        return len(self.peephole_letters)

    @property
    def projects(self) -> bool:
        """Whether h may be projected: where c remembers, h is an output alone."""
        return self.states > 1

    @property
    def lacks(self) -> tuple[str, ...]:
        """The names in `Weights` of which this cell has none; weight_hr aside."""
        has_c = "c" in self.state_letters
        lacks: tuple[str, ...] = () if self.peepholes else ("weight_ch",)
        lacks += () if self.layer_norm else ("weight_ln_ih", "weight_ln_hh")
        return lacks + (() if self.layer_norm and has_c else ("weight_ln_ch", "bias_ln_ch"))


CELLS: Mapping[str, Cell] = MappingProxyType(
    {
        "rnn_tanh": Cell("h", "h"),
        "rnn_relu": Cell("h", "h"),
        "lstm": Cell("ifgo", "hc"),
        "lstm_peephole": Cell("ifgo", "hc", "ifo"),  # Gers and Schmidhuber 2000
        "lstm_coupled": Cell("fgo", "hc"),  # i = 1 - f, Greff et al. 2017
        "lstm_peephole_coupled": Cell("fgo", "hc", "fo"),
        "gru": Cell("rzn", "h"),  # reset after the product, as cuDNN and PyTorch
        "gru_reset_before": Cell("rzn", "h"),  # reset before the product, Cho et al. 2014
        "lstm_norm": Cell("ifgo", "hc", layer_norm=True),  # Ba et al. 2016
        "lstm_peephole_norm": Cell("ifgo", "hc", "ifo", layer_norm=True),
        "lstm_coupled_norm": Cell("fgo", "hc", layer_norm=True),
        "lstm_peephole_coupled_norm": Cell("fgo", "hc", "fo", layer_norm=True),
        "gru_norm": Cell("rzn", "h", layer_norm=True),
        "gru_reset_before_norm": Cell("rzn", "h", layer_norm=True),
    }
)


def unwrapped(parts: State) -> Any:
    """Return a state as callers have it: the tuple (h, c), or h itself where that is all."""
    return parts if len(parts) > 1 else parts[0]


def state_widths(cell: str, weights: Weights) -> tuple[int, ...]:
    """Return the last size of each array of the state: P of h, H of the others.

    Examples
    --------
    >>> import numpy as np
    >>> w = Weights(np.zeros((12, 2)), np.zeros((12, 1)), None, None, None, np.zeros((1, 3)))
    >>> state_widths("lstm", w)
    (1, 3)
    """
    P, weight_hr = weights[1].shape[1], weights[5]
    H = P if weight_hr is None else weight_hr.shape[1]
    return (P, H)[: len(CELLS[cell].state_letters)]


def zero_state(cell: str, N: int, weights: Weights) -> State:
    """Return the zeros that None stands for, as a state or as its gradient."""
    widths = state_widths(cell, weights)
    return tuple([np.zeros_like(weights.weight_hh, shape=(N, width)) for width in widths])
