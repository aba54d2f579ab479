# SPDX-License-Identifier: MIT
"""Truncated backpropagation through time as texts write it: what `truncated` must compute."""

from __future__ import annotations

import numpy as np

from .reference import Tape
from .reference_cells import STEPS
from .reference_linear import Hidden, linear_backward, linear_forward
from .reference_norm import layer_norm_backward
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
    weight_ih, weight_hh, _, _, weight_ch, weight_hr, ln_ih, *norms = tape.weights
    plain = Hidden(weight_hh, np.zeros_like(weight_hh[:, 0]), weight_ch, *norms)
    P, dtype = weight_hh.shape[1], weight_hh.real.dtype
    unprojected = tape.unprojected or [np.empty(0)] * len(tape.saved)
    dx, grads = np.zeros_like(tape.x), tape.weights.zeros_like()
    dstate_0 = tuple(array.copy() for array in zero_state(tape.cell, dy.shape[1], tape.weights))
    _, step_back = STEPS[tape.cell]
    for n in range(dy.shape[1]):
        row, noise = slice(n, n + 1), tape.noise.of_rows(np.array([n]))
        hidden = plain._replace(seen=noise.seen(1, P, dtype))
        all_steps = zip(tape.saved, unprojected, strict=True)
        steps = [(t, saved, u) for (t, saved), u in all_steps if tape.ragged.valid[t, n]]
        error = tuple(array[row] for array in dstate)
        for last in reversed(range(len(steps))):
            t = steps[last][0]
            error = (error[0] + dy[t, row], *error[1:])
            for s in reversed(range(max(0, last - truncate), last + 1)):
                (t, saved, u), dweight_hr = steps[s], None
                error, passing = noise.split(t, error)
                if weight_hr is not None:
                    du, dweight_hr, _ = linear_backward(u[row], weight_hr, error[0])
                    error = (du, *error[1:])
                error, da_ih, dhidden = step_back(error, tuple(a[row] for a in saved), hidden)
                error = tuple(a + b for a, b in zip(error, passing, strict=True))
                error = tuple(np.where(tape.anew[t, n], 0, array) for array in error)
                x, dbias_ih, dln_ih = tape.x[t, row], da_ih[0], None
                if ln_ih is not None:
                    product = linear_forward(x, weight_ih)
                    H = len(ln_ih) // CELLS[tape.cell].gates
                    da_ih, dln_ih = layer_norm_backward(product, ln_ih, H, da_ih)
                dx_t, dweight_ih, _ = linear_backward(x, weight_ih, da_ih)
                dx[t, row] += dx_t
                dweight_hh, dbias_hh, dweight_ch, *dnorms, _ = dhidden
                by_name = (dweight_ih, dweight_hh, dbias_ih, dbias_hh, dweight_ch, dweight_hr)
                new = Weights(*by_name, dln_ih, *dnorms)
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
