# SPDX-License-Identifier: MIT
"""The layer in plain NumPy, forward and back: what the kernels must compute, written to be read.

The same functions as `functional`, one layer in one direction: here is the loop over time, in
`reference_cells` the step of each cell. T time steps, N sequences, I inputs, H hidden units,
G gates; P, the width of h, is H but for a projected LSTM. Arrays share one dtype: float32, float64,
or complex128, for everything is analytic and a complex step through it gives exact derivatives.
Nothing here needs the compiled kernels. Shapes and dtypes are checked in `functional`; wrong ones
fail here as NumPy fails.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .noise import CellNoise, dropout
from .ragged import Ragged, zero_before
from .reference_cells import STEPS, Saved
from .reference_linear import Hidden, input_backward, input_forward, linear_backward, linear_forward
from .reference_loss import one_hot, softmax_cross_entropy
from .weights import CELLS, Array, State, Weights, zero_state

__all__ = ["Tape", "backward", "dropout", "forward", "infer"]
__all__ += ["linear_backward", "linear_forward", "softmax_cross_entropy"]


class Tape(NamedTuple):
    """What `forward` keeps for `backward`: references to x and the weights, its own states."""

    cell: str
    x: Array
    """(T, N, I), tokens as one-hot rows."""
    tokens: bool
    weights: Weights
    saved: list[tuple[int, Saved]]
    """(t, what step t kept), in the order in which the steps ran."""
    ragged: Ragged
    """Of the lengths; T without them."""
    reverse: bool
    anew: Array
    """(T, N) bool: the steps that begin from zero."""
    noise: CellNoise

    @property
    def nbytes(self) -> int:
        """Memory of what the steps kept, in bytes."""
        return sum(a.nbytes for _, saved in self.saved for a in saved)

    def one_step(self) -> Tape:
        """Return the tape of all steps as the rows of one, (1, R, ...), each from its own state."""
        saved = dict(self.saved)  # each begins with the state before the step
        in_time = [saved[t][: CELLS[self.cell].states] for t in range(len(self.x))]
        t, n = self.ragged.places()
        state = tuple([np.array(a)[t, n] for a in zip(*in_time, strict=True)])
        x, noise = self.x[np.newaxis, t, n], self.noise.one_step(t, n)
        tape = forward(self.cell, x, state, self.weights, noise=noise)[2]
        return tape._replace(tokens=self.tokens)

    def send_back(self, dy: Array | None, after: State, before: State) -> None:
        """Fill `before` with dstate_0 of a backward pass from dy and `after`."""
        for into, array in zip(before, backward(self, dy, after)[1], strict=True):
            into[...] = array


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
    """Run one layer in one direction for its output alone: `forward` without the tape."""
    form: Any = {"reverse": reverse, "lengths": lengths, "resets": resets, "noise": noise}
    y, state_n, _ = forward(cell, x, state, weights, out=out, **form)
    return y, state_n


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
    """Run one layer in one direction and keep what `backward` needs.

    Parameters
    ----------
    cell : str
        A name in `CELLS`.
    x : ndarray (T, N, I) of the weights' dtype, or (T, N) of integers
        Input, or token indices in [0, I), which give the same as their one-hot rows.
    state : tuple of ndarray (N, H), or None
        State before the first step: (h,), or (h, c) for LSTM. None is zeros. With projection h is
        (N, P).
    weights : Weights
        Never changed here, and not to be changed before `backward`; nor is x.
    reverse : bool
        Run t = T-1, ..., 0.
    out : ndarray (T, N, P), optional
        Receives y; any strides.
    lengths : ndarray (N,) of integers, optional
        Steps past a row's length leave its state as it is, and y is zero there.
    resets : ndarray (T, N) of bool, optional
        Where true, no state passes between t-1 and t, in either direction.
    noise : CellNoise, optional
        Recurrent dropout (Gal and Ghahramani 2016) and zoneout (Krueger et al. 2017).

    Returns
    -------
    y : ndarray (T, N, P)
        h after each step, at the t of its input in either direction.
    state_n : as state
        State after the last step (t = T-1, or 0 if reverse).
    tape : Tape
        For one or more calls of `backward`.

    Raises
    ------
    ValueError
        If the cell is unknown or a token is outside [0, I).

    Examples
    --------
    >>> import numpy as np
    >>> weights = Weights(np.ones((1, 2)), np.ones((1, 1)), None, None)
    >>> y, (h,), tape = forward("rnn_relu", np.array([[0], [1], [1]]), None, weights)
    >>> y.ravel().tolist()  # h = max(0, 1 + h')
    [1.0, 2.0, 3.0]
    """
    if cell not in CELLS:
        raise ValueError(f"cell: expected one of {', '.join(CELLS)}, got {cell!r}")
    weight_ih, weight_hh = weights[:2]
    tokens = x.dtype.kind in "iu"
    T, N = x.shape[:2]
    if state is None:
        state = zero_state(cell, N, weights)
    state = tuple(array.copy() for array in state)  # the tape must not see later changes of it
    y = np.empty_like(weight_hh, shape=(T, N, weight_hh.shape[1])) if out is None else out

    if lengths is None:
        lengths = np.full(N, T)
    ragged = Ragged.of(lengths, T)
    ragged.check(T, N)
    anew = np.zeros((T, N), bool)
    if resets is not None:
        anew |= zero_before(resets, ragged, reverse)  # the tape must not see later changes of it
    valid = ragged.valid[..., np.newaxis]
    rows = np.where(valid if x.ndim == 3 else valid[..., 0], x, 0)  # whatever the padding holds
    if tokens:
        rows = one_hot("x", rows, weight_ih.shape[1], weight_ih.dtype)
    a_ih = input_forward(rows, weights, len(weight_ih) // CELLS[cell].gates)
    step, _ = STEPS[cell]
    noise = noise or CellNoise(0)
    seen = noise.seen(N, weight_hh.shape[1], weight_hh.real.dtype)
    hidden, saved = Hidden.of(weights)._replace(seen=seen), []
    for t in reversed(range(T)) if reverse else range(T):
        before = tuple(np.where(anew[t, :, np.newaxis], 0, array) for array in state)
        after, saved_t = step(a_ih[t], before, hidden)
        after = noise.zoned(t, before, after)
        state = tuple(np.where(valid[t], *pair) for pair in zip(after, state, strict=True))
        y[t] = np.where(valid[t], state[0], 0)
        saved.append((t, saved_t))
    tape = Tape(cell, rows, tokens, weights, saved, ragged, reverse, anew, noise)
    return y, tuple(array.copy() for array in state), tape


def backward(
    tape: Tape,
    dy: Array | None,
    dstate: State | None = None,
    *,
    dx: Array | None = None,
    grads: Weights | None = None,
    accumulate: bool = True,
) -> tuple[Array | None, State, Weights]:
    """Backpropagate through time (Werbos 1990), over all steps of a `forward`.

    Parameters
    ----------
    tape : Tape
        From `forward`.
    dy : ndarray (T, N, P), or None
        Gradient of the loss by y. None is zeros.
    dstate : as state_n, or None
        Gradient by state_n, from whatever used it. None is zeros.
    dx, grads : ndarray (T, N, I) and Weights, optional
        Arrays to add to; without them new ones are made.
    accumulate : bool
        False: write over what grads holds.

    Returns
    -------
    dx : ndarray (T, N, I), or None for token input
    dstate_0 : as state_n
        Gradient by the state before the first step.
    grads : Weights
        Gradients by the weights; None for a bias that is None.

    Examples
    --------
    >>> import numpy as np
    >>> weights = Weights(np.ones((1, 1)), np.ones((1, 1)), None, None)
    >>> y, _, tape = forward("rnn_relu", np.ones((3, 1, 1)), None, weights)
    >>> dx, (dh_0,), grads = backward(tape, np.ones_like(y))
    >>> dx.ravel().tolist()  # x[0] reaches all three outputs, x[2] the last one
    [3.0, 2.0, 1.0]
    """
    weight_hh = tape.weights.weight_hh
    (T, N, _), (GH, P) = tape.x.shape, weight_hh.shape
    if dstate is None:
        dstate = zero_state(tape.cell, N, tape.weights)
    if grads is None:
        grads = tape.weights.zeros_like()
    da_ih = np.empty_like(weight_hh, shape=(T, N, GH))
    hidden = Hidden.of(tape.weights)._replace(seen=tape.noise.seen(N, P, weight_hh.real.dtype))
    dhidden = Hidden.of(tape.weights.zeros_like())
    _, step_back = STEPS[tape.cell]
    of_steps = tape.ragged.valid, tape.anew
    for t, saved in reversed(tape.saved):
        valid, anew = (a[t, :, np.newaxis] for a in of_steps)
        after = tuple(np.where(valid, array, 0) for array in dstate)
        if dy is not None:  # h went to y[t] and to the next step
            after = (after[0] + np.where(valid, dy[t], 0), *after[1:])
        after, passing = tape.noise.split(t, after)
        before, da_ih[t], dhidden_t = step_back(after, saved, hidden)
        before = tuple(a + b for a, b in zip(before, passing, strict=True))
        before = tuple(np.where(anew, 0, array) for array in before)
        dstate = tuple(np.where(valid, *pair) for pair in zip(before, dstate, strict=True))
        for total, new in zip(dhidden, dhidden_t, strict=True):
            if total is not None:
                total += new  # every step used the same weights: their gradients add up
    H = GH // CELLS[tape.cell].gates
    dx_new, dweight_ih, dbias_ih, dnorm_ih = input_backward(tape.x, tape.weights, H, da_ih)
    new_grads = dhidden.weights(dweight_ih, dbias_ih, dnorm_ih)
    for total, new in zip(grads, new_grads, strict=True):
        if total is not None:
            total[...] = total + new if accumulate else new
    if tape.tokens or dx is None:
        return None if tape.tokens else dx_new, dstate, grads
    dx += dx_new
    return dx, dstate, grads
