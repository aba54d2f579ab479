# SPDX-License-Identifier: MIT
"""Truncated backpropagation through time as texts write it: what `truncated` must compute."""

from __future__ import annotations

import numpy as np

from .reference import Tape
from .reference_cells import STEPS
from .reference_linear import Hidden, input_backward
from .weights import CELLS, Array, State, Weights, zero_state

__all__ = ["backward"]


def backward(
    tape: Tape, dy: Array, dstate: State, truncate: int
) -> tuple[Array | None, State, Weights]:
    """Take each error by itself from its step back over `truncate` transitions, step by step.

    Parameters
    ----------
    tape : Tape
        From `reference.forward`.
    dy : ndarray (T, N, H)
    dstate : tuple of ndarray (N, H)
    truncate : int >= 0

    Returns
    -------
    dx : ndarray (T, N, I), or None for token input
    dstate_0 : tuple of ndarray (N, H)
    grads : Weights

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import reference
    >>> weights = Weights(np.ones((1, 1)), np.ones((1, 1)), None, None)
    >>> y, state_n, tape = reference.forward("rnn_relu", np.ones((4, 1, 1)), None, weights)
    >>> dx, _, _ = backward(tape, np.ones_like(y), (np.zeros((1, 1)),), 1)
    >>> dx.ravel().tolist()  # x[t] hears of y[t] and y[t+1]
    [2.0, 2.0, 2.0, 1.0]
    """
    plain = Hidden.of(tape.weights)
    (GH, P), dtype = plain.weight.shape, plain.weight.real.dtype
    H = GH // CELLS[tape.cell].gates
    dx, grads = np.zeros_like(tape.x), tape.weights.zeros_like()
    dstate_0 = tuple(array.copy() for array in zero_state(tape.cell, dy.shape[1], tape.weights))
    _, step_back = STEPS[tape.cell]
    for n in range(dy.shape[1]):
        row, noise = slice(n, n + 1), tape.noise.of_rows(np.array([n]))
        hidden = plain._replace(seen=noise.seen(1, P, dtype))
        steps = [(t, saved) for t, saved in tape.saved if t < tape.ragged.lengths[n]]
        error = tuple(array[row] for array in dstate)
        for last in reversed(range(len(steps))):
            t = steps[last][0]
            error = (error[0] + dy[t, row], *error[1:])
            for s in reversed(range(max(0, last - truncate), last + 1)):
                t, saved = steps[s]
                error, passing = noise.split(t, error)
                error, da_ih, dhidden = step_back(error, tuple(a[row] for a in saved), hidden)
                error = tuple(a + b for a, b in zip(error, passing, strict=True))
                error = tuple(np.where(tape.anew[t, n], 0, array) for array in error)
                dx_t, dweight_ih, dbias_ih, dnorm_ih = input_backward(
                    tape.x[t, np.newaxis, row], tape.weights, H, da_ih[np.newaxis]
                )
                dx[t, row] += dx_t[0]
                new = dhidden.weights(dweight_ih, dbias_ih, dnorm_ih)
                for total, part in zip(grads, new, strict=True):
                    if total is not None:
                        total += part
            if last < truncate:  # the state before the first step is within reach
                for total, part in zip(dstate_0, error, strict=True):
                    total[row] += part
            error = tuple(np.zeros_like(array) for array in error)  # dstate was of the last step
        if not steps:
            for total, part in zip(dstate_0, error, strict=True):
                total[row] += part
    return None if tape.tokens else dx, dstate_0, grads
