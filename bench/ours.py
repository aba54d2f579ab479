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
    call = ours.freeze(x.shape[1]) if name == "frozen" else ours
    return lambda: call(x), states


def states(result):
    """y, h and, for LSTM, c by name, from what a layer of PyTorch's form returns."""
    y, state = result
    arrays = (y, *state) if isinstance(state, tuple) else (y, state)
    return dict(zip("yhc", map(np.asarray, arrays), strict=False))
