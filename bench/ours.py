# SPDX-License-Identifier: MIT
"""The contestants of this package: a layer, frozen too, and the NumPy reference."""

import fusedrnn
import numpy as np
from contestants import layer


def make(name, task, cell, weights, x, dy):
    ours = layer(cell, x.shape[-1], dy.shape[-1])
    if name == "reference":
        ours.engine = fusedrnn.reference

    def train():
        y, _, tape = ours.forward(x)
        dx, _ = ours.backward(tape, dy, accumulate=False)
        return {"y": y, "dx": dx, **ours.grads}

    if task == "training":
        return train, dict
    N = x.shape[1]
    call = ours.freeze(N) if name == "frozen" else ours
    if name == "frozen" and len(x) == 1:  # which has a call of its own, into memory that is there
        before, after = ours.zero_state(N), ours.zero_state(N)
        return lambda: call.step(x[0], before, after), one_step
    return lambda: call(x), states


def one_step(state):
    """The same from the state after the only step."""
    h = state[0] if isinstance(state, tuple) else state
    return states((h, state))


def states(result):
    """y, h and, for LSTM, c by name, from what a layer of PyTorch's form returns."""
    y, state = result
    arrays = (y, *state) if isinstance(state, tuple) else (y, state)
    return dict(zip("yhc", map(np.asarray, arrays), strict=False))
