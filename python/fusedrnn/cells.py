# SPDX-License-Identifier: MIT
"""`RNNCell`, `LSTMCell`, `GRUCell`: one step at a time, for streaming; parameters as `torch.nn`'s.

Sizes: N sequences, I = input_size, H = hidden_size. A step is the layer's with T = 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np

from . import validate
from .engine import Computed, Engine, unchecked
from .layers import gru_name, lstm_name
from .names import names_of_weights, shapes_of_weights
from .parameters import Parameters
from .weights import CELLS, Array, State, unwrapped

__all__ = ["CellTape", "GRUCell", "LSTMCell", "RNNCell"]

CellState = TypeVar("CellState")  # h, or (h, c), each (N, H)


@dataclass(slots=True, eq=False)
class CellTape:
    """What a cell's `forward` keeps for its `backward`, which leaves it as it was.

    It refers to x and the weights: they must not change in between.
    """

    cell: object = field(repr=False)
    engine: Engine = field(repr=False)
    N: int
    tape: Any = field(repr=False)


class SingleStep(Computed, Parameters, Generic[CellState]):
    """What the cell classes share."""

    def __init__(
        self, cell: str, input_size: int, hidden_size: int, bias: bool, dtype: Any, seed: Any
    ) -> None:
        self.cell = cell
        self.input_size = validate.size("input_size", input_size)
        self.hidden_size = validate.size("hidden_size", hidden_size)
        self.bias = validate.flag("bias", bias)
        names = names_of_weights(cell, self.bias)
        self._slots = [names]
        self._letters = CELLS[cell].state_letters
        sizes, bound = (self.input_size, self.hidden_size), 1 / math.sqrt(self.hidden_size)
        super().__init__(shapes_of_weights(cell, *sizes, names), sizes, bound, dtype, seed)

    def __call__(self, x: Array, state: CellState | None = None) -> CellState:
        """Take one step and keep nothing: `forward` without its tape."""
        x, parts = self._checked(x, state)
        (weights,) = self._weights()
        _, state_n = unchecked(self.engine).infer(self.cell, x, parts, weights)
        return unwrapped(state_n)  # type: ignore[no-any-return]

    def forward(self, x: Array, state: CellState | None = None) -> tuple[CellState, CellTape]:
        """Take one step and keep what `backward` needs.

        Parameters
        ----------
        x : ndarray (N, I) of the cell's dtype, or (N,) of integers
            The input, or token indices in [0, I): the same as one-hot rows.
        state : ndarray h (N, H), for LSTM the tuple (h, c); optional
            The state before; None is zeros.

        Returns
        -------
        state : as the argument
            The state after; new arrays.
        tape : CellTape
            For `backward`. x and the parameters must not change before.

        Raises
        ------
        TypeError
            An argument, or an array put into `params`, of another kind or dtype.
        ValueError
            A shape or size that does not fit, or of 0; an array that is not C-contiguous; a token
            outside [0, I).
        """
        engine = self.engine
        x, parts = self._checked(x, state)
        (weights,) = self._weights()
        _, state_n, tape = unchecked(engine).forward(self.cell, x, parts, weights)
        return unwrapped(state_n), CellTape(self, engine, x.shape[1], tape)

    def backward(
        self, tape: CellTape, dstate: CellState, *, accumulate: bool = True
    ) -> tuple[Array | None, CellState]:
        """Backpropagate through one step and add the weights' gradients into `grads`.

        Everything is checked before anything is added.

        Parameters
        ----------
        tape : CellTape
            From `forward` of this cell.
        dstate : as state
            Gradient of the state after.
        accumulate : bool
            False: `grads` is written over instead, and need not be zero.

        Returns
        -------
        dx : ndarray (N, I), or None for token input
        dstate : as state
            Gradient of the state before.

        Raises
        ------
        TypeError
            An argument, or an array put into `grads`, of another kind or dtype.
        ValueError
            The tape of another cell; a shape that does not fit; an array that is not C-contiguous.
        """
        self._check_tape(tape, CellTape, "cell")
        parts = self._parts(dstate, tape.N, validate.DSTATE_NAMES)
        (grads,) = self._dweights()
        accumulate = validate.flag("accumulate", accumulate)
        dh, *rest = parts  # h is y as well: its gradient enters there
        dstate_n = (np.zeros_like(dh), *rest) if rest else None
        dx, dstate_0, _ = unchecked(tape.engine).backward(
            tape.tape, dh[None], dstate_n, grads=grads, accumulate=accumulate
        )
        return None if dx is None else dx[0], unwrapped(dstate_0)

    def _checked(self, x: Array, state: CellState | None) -> tuple[Array, State | None]:
        """Check a step's arguments; return x with a time axis, and the state as a tuple."""
        x = validate.inputs(x, self.dtype, self.input_size, ("N", "I"))
        if state is None:
            return x[None], None
        return x[None], self._parts(state, x.shape[0], validate.STATE_NAMES)

    def _parts(self, state: CellState, N: int, names: dict[str, tuple[str, ...]]) -> State:
        parts: Any = state if self._letters == "hc" else (state,)
        shape = (N, self.hidden_size)
        validate.state(parts, names[self._letters], self.dtype, shape, "(N, H)")
        return parts  # type: ignore[no-any-return]


class RNNCell(SingleStep[Array]):
    """One step of `RNN`: h = φ(W_ih x + b_ih + W_hh h' + b_hh), as `torch.nn.RNNCell`.

    Parameters: see `RNN`.

    Examples
    --------
    >>> import numpy as np
    >>> cell, h = RNNCell(4, 8, seed=0), None
    >>> for token in [2, 0, 3]:
    ...     h = cell(np.array([token]), h)
    >>> h.shape
    (1, 8)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        nonlinearity: str = "tanh",
        bias: bool = True,
        dtype: Any = np.float32,
        seed: Any = None,
    ) -> None:
        self.nonlinearity = validate.choice("nonlinearity", nonlinearity, ("tanh", "relu"))
        super().__init__(f"rnn_{nonlinearity}", input_size, hidden_size, bias, dtype, seed)


class LSTMCell(SingleStep[tuple[Array, Array]]):
    """One step of `LSTM`: the state is the tuple (h, c), as in `torch.nn.LSTMCell`.

    Parameters: see `LSTM`.

    Examples
    --------
    >>> import numpy as np
    >>> cell = LSTMCell(4, 8, seed=0)
    >>> (h, c), tape = cell.forward(np.zeros((3, 4), np.float32))
    >>> dx, (dh, dc) = cell.backward(tape, (np.ones_like(h), np.zeros_like(c)))
    >>> dx.shape, dc.shape
    ((3, 4), (3, 8))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        peephole: bool = False,
        coupled: bool = False,
        layer_norm: bool = False,
        dtype: Any = np.float32,
        seed: Any = None,
    ) -> None:
        self.peephole = validate.flag("peephole", peephole)
        self.coupled = validate.flag("coupled", coupled)
        self.layer_norm = validate.flag("layer_norm", layer_norm)
        cell = lstm_name(self.peephole, self.coupled, self.layer_norm)
        super().__init__(cell, input_size, hidden_size, bias, dtype, seed)


class GRUCell(SingleStep[Array]):
    """One step of `GRU`, as `torch.nn.GRUCell`. Parameters: see `GRU`.

    Examples
    --------
    >>> import numpy as np
    >>> cell = GRUCell(4, 8, seed=0)
    >>> cell(np.zeros((3, 4), np.float32)).shape
    (3, 8)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        reset_after: bool = True,
        layer_norm: bool = False,
        bias: bool = True,
        dtype: Any = np.float32,
        seed: Any = None,
    ) -> None:
        self.reset_after = validate.flag("reset_after", reset_after)
        self.layer_norm = validate.flag("layer_norm", layer_norm)
        cell = gru_name(self.reset_after, self.layer_norm)
        super().__init__(cell, input_size, hidden_size, bias, dtype, seed)
