# SPDX-License-Identifier: MIT
"""One layer in one direction on the fused kernels: check, allocate, run.

The same three functions with the same arguments are in `reference`, in plain NumPy.
Sizes: T time steps, N sequences, I inputs, H hidden units, G gates.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from . import _core, validate
from .weights import Array, State, Weights

__all__ = ["Tape", "backward", "forward", "infer"]


@dataclass(slots=True, eq=False)
class Tape:
    """What `forward` keeps for `backward`: references to x, y and weights, and the kernel's record.

    Nothing it refers to may change before `backward`, which leaves the tape as it was: it may run
    again.
    """

    cell: str
    x: Array = field(repr=False)
    y: Array = field(repr=False)
    weights: Weights = field(repr=False)
    core: _core.Tape = field(repr=False)

    @property
    def nbytes(self) -> int:
        """Memory of the kernel's record, in bytes; x, y and the weights come on top."""
        return self.core.nbytes


def infer(
    cell: str,
    x: Array,
    state: State | None,
    weights: Weights | _core.Packed,
    *,
    reverse: bool = False,
    out: Array | None = None,
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
    return _run(cell, x, state, weights, reverse, out, None)[:2]


def forward(
    cell: str,
    x: Array,
    state: State | None,
    weights: Weights,
    *,
    reverse: bool = False,
    out: Array | None = None,
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
    y, state_n, x = _run(cell, x, state, weights, reverse, out, core)
    return y, state_n, Tape(cell, x, y, weights, core)


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
    x, y, weights = tape.x, tape.y, tape.weights
    G, letters = validate.cell(tape.cell)
    _, N, H = y.shape
    if dy is not None:
        validate.rows("dy", dy, y.dtype, y.shape, "(T, N, H)")
    if dstate is not None:
        validate.state(dstate, validate.DSTATE_NAMES[letters], y.dtype, (N, H), "(N, H)")
    if dx is not None:
        _check_dx(dx, dy, x, y)
    if grads is not None:
        validate.grads(grads, weights, G)

    into = np.empty(x.shape, y.dtype) if dx is None and x.ndim == 3 else dx
    dweights = _empty_like(weights) if grads is None else grads
    dstate_0 = tuple([np.empty((N, H), y.dtype) for _ in letters])
    _core.backward(
        tape.core, x, y, weights, dy, dstate,
        into, dx is not None, dweights, grads is not None, dstate_0,
    )  # fmt: skip
    return into, dstate_0, dweights


def _run(
    cell: str,
    x: Array,
    state: State | None,
    weights: Weights | _core.Packed,
    reverse: bool,
    out: Array | None,
    core: _core.Tape | None,
) -> tuple[Array, State, Array]:
    """Check, allocate and run; return y, state_n, and x as the kernel saw it."""
    G, letters = validate.cell(cell)
    if core is None and isinstance(weights, _core.Packed):
        dtype, I, H = validate.packed(weights, cell)
    else:
        dtype, I, H = validate.weights(weights, G)
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
    state_n = tuple([np.empty((N, H), dtype) for _ in letters])
    reverse = validate.flag("reverse", reverse)
    if isinstance(weights, _core.Packed):
        _core.infer(weights, x, state, reverse, out, state_n)
    else:
        _core.forward(cell, x, weights, state, reverse, out, state_n, core)
    return out, state_n, x


def _check_dx(dx: Array, dy: Array | None, x: Array, y: Array) -> None:
    if x.ndim == 2:
        raise TypeError("dx: expected None, as token indices have no gradient, got an array")
    validate.array("dx", dx, x.dtype, x.shape, "(T, N, I)", validate.WRITE)
    for read in (x, y) if dy is None else (x, y, dy):
        validate.apart("dx", dx, read)


def _empty_like(w: Weights) -> Weights:
    bias_ih = None if w.bias_ih is None else np.empty_like(w.bias_ih)
    bias_hh = None if w.bias_hh is None else np.empty_like(w.bias_hh)
    return Weights(np.empty_like(w.weight_ih), np.empty_like(w.weight_hh), bias_ih, bias_hh)
