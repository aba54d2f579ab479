# SPDX-License-Identifier: MIT
"""One layer in one direction on the fused kernels: the checks.

`padded` sees to unequal lengths, `kernels` allocates and runs. The same four functions with the
same arguments are in `reference`, in plain NumPy. Sizes: T time steps, N sequences, I inputs, H
hidden units, G gates; P, the width of h, is H but for a projected LSTM.
"""

from __future__ import annotations

from typing import Any

from . import check_weights, kernels, padded, validate
from .kernels import Tape
from .noise import CellNoise, Noise
from .ragged import Ragged
from .weights import Array, State, Weights, state_widths

__all__ = ["Tape", "backward", "dropout", "forward", "infer"]

unchecked = kernels
"""The same functions for layers, which have checked all arguments and taken padding off."""

Y_RULES = "(T, N, H)", "(T, N, P)"  # without and with projection


def infer(
    cell: str,
    x: Array,
    state: State | None,
    weights: Weights,
    *,
    reverse: bool = False,
    out: Array | None = None,
    lengths: Array | Ragged | None = None,
    resets: Array | None = None,
    noise: CellNoise | None = None,
) -> tuple[Array, State]:
    """Run one layer in one direction and keep nothing: `forward` without its tape.

    Examples
    --------
    >>> import numpy as np
    >>> weights = Weights(np.ones((1, 2)), np.ones((1, 1)), None, None)
    >>> y, (h,) = infer("rnn_relu", np.array([[0], [1], [1]]), None, weights)
    >>> y.ravel().tolist()  # h = max(0, 1 + h')
    [1.0, 2.0, 3.0]
    """
    x, form = _checked(cell, x, state, weights, reverse, out, lengths, resets, noise)
    return padded.infer(cell, x, state, weights, out=out, **form)


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
    noise: CellNoise | None = None,
) -> tuple[Array, State, Tape]:
    """Run one layer in one direction over a sequence and keep what `backward` needs.

    Nothing is converted or copied, except token indices that are not int64 and, with `lengths`, x
    and y without their padding.

    Parameters
    ----------
    cell : str
        A name in `CELLS`.
    x : ndarray (T, N, I) of the weights' dtype, or (T, N) of integers
        The input, or token indices in [0, I): the same as their one-hot rows.
    state : tuple of ndarray (N, H), or None
        The state before the first step run, (h,) or (h, c); None is zeros. With projection h is
        (N, P).
    weights : Weights of float32 or float64
    reverse : bool
        Run t = T-1 ... 0. y[t] keeps its own t, and state_n is the state after t = 0.
    out : ndarray (T, N, P), optional
        Receives y; its rows may lie apart, as in `big[:, :, :P]`.
    lengths : ndarray (N,) of integers in [0, T], not all 0, optional
        In any order. Steps past a row's length give zeros in y, leave its state as it is and cost
        nothing; in reverse a row begins with its own last step.
    resets : ndarray (T, N) of bool, optional
        Where true no state passes between t-1 and t, in either direction: the state before the
        step is zero.
    noise : fusedrnn.noise.CellNoise, optional
        Recurrent dropout and zoneout.

    Returns
    -------
    y : ndarray (T, N, P)
        h of every step; `out` if that was given.
    state_n : as state
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
    x, form = _checked(cell, x, state, weights, reverse, out, lengths, resets, noise)
    return padded.forward(cell, x, state, weights, out=out, **form)


def backward(
    tape: Tape,
    dy: Array | None,
    dstate: State | None = None,
    *,
    dx: Array | None = None,
    grads: Weights | None = None,
    accumulate: bool = True,
) -> tuple[Array | None, State, Weights]:
    """Backpropagate through time, over every step of `forward`.

    Everything is checked before anything is added.

    Parameters
    ----------
    tape : Tape
        From `forward`.
    dy : ndarray (T, N, P), or None
        Gradient of y; its rows may lie apart, as in `big[:, :, :P]`. None is zeros.
    dstate : as state_n, optional
        Gradient of state_n; None is zeros.
    dx : ndarray (T, N, I), optional
        The gradient of x is added into it; without it, it is a new array.
    grads : Weights, optional
        The gradients of the weights are added into its arrays; without it, they are new.
    accumulate : bool
        False: written over what the arrays of grads hold.

    Returns
    -------
    dx : ndarray (T, N, I), or None for token input
    dstate_0 : as state_n
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
    (T, N, P), dtype = tape.shape, tape.y.dtype
    H = state_widths(tape.cell, tape.weights)[-1]
    letters = validate.cell(tape.cell).state_letters
    if dy is not None:
        validate.rows("dy", dy, dtype, (T, N, P), Y_RULES[P != H])
    if dstate is not None:
        validate.state(dstate, validate.DSTATE_NAMES[letters], dtype, (N, H), "(N, H)", P)
    if dx is not None:
        _check_dx(dx, dy, tape.x, tape.y, (T, N))
    if grads is not None:
        check_weights.grads(grads, tape.weights, tape.cell)
    accumulate = validate.flag("accumulate", accumulate)
    return padded.backward(tape, dy, dstate, dx=dx, grads=grads, accumulate=accumulate)


def dropout(x: Array, p: float, noise: Noise, out: Array | None = None) -> Array:
    """Return x (T, N, K) with elements zero with probability p, the others scaled; out may be x."""
    return kernels.dropout(x, p, noise, out)


def _checked(
    cell: str,
    x: Array,
    state: State | None,
    weights: Weights,
    reverse: bool,
    out: Array | None,
    lengths: Array | Ragged | None,
    resets: Array | None,
    noise: CellNoise | None,
) -> tuple[Array, dict[str, Any]]:
    """Check everything; return x, tokens as int64, and how to run it."""
    letters = validate.cell(cell).state_letters
    dtype, I, H, P = check_weights.weights(weights, cell)
    x = validate.inputs(x, dtype, I)
    T, N = x.shape[:2]
    if state is not None:
        validate.state(state, validate.STATE_NAMES[letters], dtype, (N, H), "(N, H)", P)
    if out is not None:
        validate.rows("out", out, dtype, (T, N, P), Y_RULES[P != H], validate.WRITE)
        for read in (x, *(state or ())):
            validate.apart("out", out, read)
    if isinstance(lengths, Ragged):
        lengths.check(T, N)
    else:
        lengths = validate.lengths(lengths, T, N)
    if resets is not None:
        validate.array("resets", resets, validate.BOOL, (T, N), "(T, N)")
    form: dict[str, Any] = {"reverse": validate.flag("reverse", reverse)}
    form |= {"lengths": lengths, "resets": resets, "noise": noise}
    if noise is not None:
        if not isinstance(noise, CellNoise):
            raise TypeError(f"noise: expected CellNoise, got {type(noise).__name__}")
        noise.check()
    return x, form


def _check_dx(
    dx: Array, dy: Array | None, x: Array, y: Array, steps_and_rows: tuple[int, int]
) -> None:
    if x.ndim == 2:
        raise TypeError("dx: expected None, as token indices have no gradient, got an array")
    shape = (*steps_and_rows, x.shape[2])
    validate.array("dx", dx, x.dtype, shape, "(T, N, I)", validate.WRITE)
    for read in (x, y) if dy is None else (x, y, dy):
        validate.apart("dx", dx, read)
