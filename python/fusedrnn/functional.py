# SPDX-License-Identifier: MIT
"""One layer in one direction on the fused kernels: check, allocate, run.

The same three functions with the same arguments are in `reference`, in plain NumPy.
Sizes: T time steps, N sequences, I inputs, H hidden units, G gates.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from . import _core, validate
from .ragged import Ragged, zero_before
from .weights import CELLS, Array, State, Weights

__all__ = ["Tape", "backward", "forward", "infer"]


@dataclass(slots=True, eq=False)
class Tape:
    """What `forward` keeps for `backward`: references to its arrays, and the kernel's record.

    Nothing it refers to may change before `backward`, which leaves the tape as it was: it may run
    again.
    """

    cell: str
    x: Array = field(repr=False)
    y: Array = field(repr=False)
    weights: Weights = field(repr=False)
    core: _core.Tape = field(repr=False)
    ragged: Ragged | None = field(repr=False)
    """With lengths: x and y are copies without the padding."""
    reverse: bool
    anew: Array | None = field(repr=False)
    """(T, N) bool: the steps that begin from zero; None without resets."""

    @property
    def nbytes(self) -> int:
        """Memory of the kernel's record, in bytes; x, y and the weights come on top."""
        return self.core.nbytes

    def one_step(self) -> Tape:
        """Return the tape of all steps as the rows of one, (1, R, ...), each from its own state."""
        R = self.y.shape[0] * self.y.shape[1]
        x, y = (a.reshape(1, R, *a.shape[2:]) for a in (self.x, self.y))
        core = _core.one_step(self.core, self.y)
        return Tape(self.cell, x, y, self.weights, core, None, False, None)

    def send_back(self, dy: Array | None, after: State, before: State) -> None:
        """Fill `before` with dstate_0 of a backward pass from dy and `after`, and do no more."""
        _core.backward(
            self.core, self.x, self.y, self.weights, dy, after,
            None, False, None, False, before,
        )  # fmt: skip


def infer(
    cell: str,
    x: Array,
    state: State | None,
    weights: Weights | _core.Packed,
    *,
    reverse: bool = False,
    out: Array | None = None,
    lengths: Array | Ragged | None = None,
    resets: Array | None = None,
) -> tuple[Array, State]:
    """Run one layer in one direction and keep nothing: `forward` without its tape.

    The weights may come packed, as `layer.freeze()` keeps them.

    Examples
    --------
    >>> import numpy as np
    >>> weights = Weights(np.ones((1, 2)), np.ones((1, 1)), None, None)
    >>> y, (h,) = infer("rnn_relu", np.array([[0], [1], [1]]), None, weights)
    >>> y.ravel().tolist()  # h = max(0, 1 + h')
    [1.0, 2.0, 3.0]
    """
    return _run(cell, x, state, weights, reverse, out, None, lengths, resets)[:2]


def forward(
    cell: str,
    x: Array,
    state: State | None,
    weights: Weights,
    *,
    reverse: bool = False,
    out: Array | None = None,
    lengths: Array | Ragged | None = None,
    resets: Array | None = None,
) -> tuple[Array, State, Tape]:
    """Run one layer in one direction over a sequence and keep what `backward` needs.

    Nothing is converted or copied, except token indices that are not int64.

    Parameters
    ----------
    cell : str
        A name in `CELLS`.
    x : ndarray (T, N, I) of the weights' dtype, or (T, N) of integers
        The input, or token indices in [0, I): the same as their one-hot rows.
    state : tuple of ndarray (N, H), or None
        The state before the first step run, (h,) or (h, c); None is zeros.
    weights : Weights of float32 or float64
    reverse : bool
        Run t = T-1 ... 0. y[t] keeps its own t, and state_n is the state after t = 0.
    out : ndarray (T, N, H), optional
        Receives y; its rows may lie apart, as in `big[:, :, :H]`.
    lengths : ndarray (N,) of integers in [0, T], optional
        In any order. Steps past a row's length give zeros in y, leave its state as it is and cost
        nothing; in reverse a row begins with its own last step.
    resets : ndarray (T, N) of bool, optional
        Where true no state passes between t-1 and t, in either direction: the state before the
        step is zero.

    Returns
    -------
    y : ndarray (T, N, H)
        h of every step; `out` if that was given.
    state_n : tuple of ndarray (N, H)
        The state after the last step run; new arrays.
    tape : Tape
        For `backward`. x, y and the weights must not change before.

    Raises
    ------
    TypeError
        An argument of another kind or dtype.
    ValueError
        An unknown cell; a shape or size that does not fit, or of 0; an array that is not
        C-contiguous; a token outside [0, I); `out` read-only or sharing memory with x or state.

    Examples
    --------
    >>> import numpy as np
    >>> weights = Weights(np.ones((1, 2)), np.ones((1, 1)), None, None)
    >>> y, (h,), tape = forward("rnn_relu", np.array([[0], [1], [1]]), None, weights)
    >>> dx, (dh_0,), grads = backward(tape, np.ones_like(y))
    >>> grads.weight_ih.tolist()  # 3 tokens whose error reaches 3, 2, 1 outputs
    [[3.0, 3.0]]
    """
    core = _core.Tape()
    y, state_n, x_run, y_run, ragged, anew = _run(
        cell, x, state, weights, reverse, out, core, lengths, resets
    )
    return y, state_n, Tape(cell, x_run, y_run, weights, core, ragged, reverse, anew)


def backward(
    tape: Tape,
    dy: Array | None,
    dstate: State | None = None,
    *,
    dx: Array | None = None,
    grads: Weights | None = None,
) -> tuple[Array | None, State, Weights]:
    """Backpropagate through time, over every step of `forward`.

    Everything is checked before anything is added.

    Parameters
    ----------
    tape : Tape
        From `forward`.
    dy : ndarray (T, N, H), or None
        Gradient of y; its rows may lie apart, as in `big[:, :, :H]`. None is zeros.
    dstate : tuple of ndarray (N, H), optional
        Gradient of state_n; None is zeros.
    dx : ndarray (T, N, I), optional
        The gradient of x is added into it; without it, it is a new array.
    grads : Weights, optional
        The gradients of the weights are added into its arrays; without it, they are new.

    Returns
    -------
    dx : ndarray (T, N, I), or None for token input
    dstate_0 : tuple of ndarray (N, H)
        Gradient of the state before the first step run.
    grads : Weights
        Gradients, in the shapes of the weights; None where those have None.

    Raises
    ------
    TypeError
        An argument of another kind or dtype; dx for token input.
    ValueError
        A shape that does not fit; an array that is not C-contiguous; dx or grads read-only or
        sharing memory with what is read.
    """
    if type(tape) is not Tape:
        raise TypeError(f"tape: expected the Tape of functional.forward, got {type(tape).__name__}")
    x, y, weights, ragged = tape.x, tape.y, tape.weights, tape.ragged
    letters = validate.cell(tape.cell).state_letters
    (T, N), H = y.shape[:2] if ragged is None else ragged.shape, y.shape[2]
    if dy is not None:
        validate.rows("dy", dy, y.dtype, (T, N, H), "(T, N, H)")
    if dstate is not None:
        validate.state(dstate, validate.DSTATE_NAMES[letters], y.dtype, (N, H), "(N, H)")
    if dx is not None:
        _check_dx(dx, dy, x, y, (T, N))
    if grads is not None:
        validate.grads(grads, weights, tape.cell)
    dweights = _empty_like(weights) if grads is None else grads
    if ragged is not None:
        return _backward_ragged(tape, ragged, dy, dstate, dx, dweights, grads is not None)
    into = np.empty(x.shape, y.dtype) if dx is None and x.ndim == 3 else dx
    dstate_0 = tuple([np.empty((N, H), y.dtype) for _ in letters])
    _core.backward(
        tape.core, x, y, weights, dy, dstate,
        into, dx is not None, dweights, grads is not None, dstate_0,
    )  # fmt: skip
    return into, dstate_0, dweights


def _backward_ragged(
    tape: Tape,
    ragged: Ragged,
    dy: Array | None,
    dstate: State | None,
    dx: Array | None,
    dweights: Weights,
    add: bool,
) -> tuple[Array | None, State, Weights]:
    """Run without the padding; past each length dx is zero."""
    x, y = tape.x, tape.y
    rows = len(ragged.rows), y.shape[2]
    into = np.empty(x.shape, y.dtype) if x.ndim == 3 else None
    dstate_0 = tuple([np.empty(rows, y.dtype) for _ in CELLS[tape.cell].state_letters])
    _core.backward(
        tape.core, x, y, tape.weights, None if dy is None else ragged.pack(dy),
        ragged.pack_state(dstate), into, False, dweights, add, dstate_0,
    )  # fmt: skip
    if into is None:
        result = None
    elif dx is None:
        result = ragged.unpack(into, np.empty((*ragged.shape, x.shape[2]), y.dtype))
    else:
        result = ragged.add(into, dx)
    return result, ragged.unpack_state(dstate_0, dstate), dweights


def _run(
    cell: str,
    x: Array,
    state: State | None,
    weights: Weights | _core.Packed,
    reverse: bool,
    out: Array | None,
    core: _core.Tape | None,
    lengths: Array | Ragged | None,
    resets: Array | None,
) -> tuple[Array, State, Array, Array, Ragged | None, Array | None]:
    """Check, allocate and run; return y, state_n, and what a Tape has of the run."""
    letters = validate.cell(cell).state_letters
    if core is None and isinstance(weights, _core.Packed):
        dtype, I, H = validate.packed(weights, cell)
    else:
        dtype, I, H = validate.weights(weights, cell)
    x = validate.inputs(x, dtype, I)
    T, N = x.shape[:2]
    if state is not None:
        validate.state(state, validate.STATE_NAMES[letters], dtype, (N, H), "(N, H)")
    if out is None:
        out = np.empty((T, N, H), dtype)
    else:
        validate.rows("out", out, dtype, (T, N, H), "(T, N, H)", validate.WRITE)
        for read in (x, *(state or ())):
            validate.apart("out", out, read)
    reverse = validate.flag("reverse", reverse)
    ragged: Ragged | None
    if lengths is None or isinstance(lengths, Ragged):
        ragged = lengths
    else:
        ragged = Ragged(validate.lengths(lengths, T, N), T)
    if resets is not None:
        validate.array("resets", resets, validate.BOOL, (T, N), "(T, N)")
        resets = zero_before(resets, ragged, reverse)
    if ragged is None:
        state_n = tuple([np.empty((N, H), dtype) for _ in letters])
        _call(cell, weights, x, state, reverse, out, state_n, core, None, resets)
        return out, state_n, x, out, None, resets

    x_run = ragged.pack(x)
    y_run = np.empty((*x_run.shape[:2], H), dtype)
    state_n = tuple([np.empty((len(ragged.rows), H), dtype) for _ in letters])
    _call(
        cell, weights, x_run, ragged.pack_state(state), reverse, y_run, state_n,
        core, ragged.first_row, None if resets is None else ragged.pack(resets),
    )  # fmt: skip
    y = ragged.unpack(y_run, out)
    return y, ragged.unpack_state(state_n, state), x_run, y_run, ragged, resets


def _call(
    cell: str,
    weights: Weights | _core.Packed,
    x: Array,
    state: State | None,
    reverse: bool,
    y: Array,
    state_n: State,
    core: _core.Tape | None,
    first_row: Array | None,
    resets: Array | None,
) -> None:
    if isinstance(weights, _core.Packed):
        _core.infer(weights, x, state, reverse, y, state_n, first_row, resets)
    else:
        _core.forward(cell, x, weights, state, reverse, y, state_n, core, first_row, resets)


def _check_dx(
    dx: Array, dy: Array | None, x: Array, y: Array, steps_and_rows: tuple[int, int]
) -> None:
    if x.ndim == 2:
        raise TypeError("dx: expected None, as token indices have no gradient, got an array")
    shape = (*steps_and_rows, x.shape[2])
    validate.array("dx", dx, x.dtype, shape, "(T, N, I)", validate.WRITE)
    for read in (x, y) if dy is None else (x, y, dy):
        validate.apart("dx", dx, read)


def _empty_like(w: Weights) -> Weights:
    return Weights(*[None if a is None else np.empty_like(a) for a in w])  # type: ignore[arg-type]
