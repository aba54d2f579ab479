# SPDX-License-Identifier: MIT
"""What the tests of the layers share: every kind of layer, and states in their two forms."""

from functools import partial

import numpy as np
from fusedrnn.layers import KINDS

LAYERS = {name: partial(layer, **options) for name, (layer, options) in KINDS.items()}
FORMS = ("nonlinearity", "reset_after", "peephole", "coupled", "layer_norm")
DTYPES = (np.float32, np.float64)
T, N, I, H = 6, 3, 5, 7


def flat(state):
    """The arrays of a state, (h,) or (h, c)."""
    return state if isinstance(state, tuple) else (state,)


def like(state, rng):
    """Random values in the form of a state."""
    values = tuple(rng.standard_normal(a.shape).astype(a.dtype) for a in flat(state))
    return values if isinstance(state, tuple) else values[0]


def twin(layer, engine, dtype, **changes):
    """A layer with the same parameters on another engine or of another dtype."""
    options = {
        name: getattr(layer, name)
        for name in ("bias", "batch_first", "bidirectional", *FORMS)
        if hasattr(layer, name)
    }
    if layer.proj_size:  # only LSTM takes it
        options["proj_size"] = layer.proj_size
    sizes = layer.input_size, layer.hidden_size, layer.num_layers
    other = type(layer)(*sizes, **(options | {"dtype": dtype} | changes))
    other.load_state_dict(layer.state_dict())
    other.engine = engine
    return other


def cast(value, dtype):
    """Arrays, tuples of arrays, None and tokens in another precision."""
    if isinstance(value, tuple):
        return tuple(cast(a, dtype) for a in value)
    return value if value is None or value.dtype.kind in "iu" else value.astype(dtype)


def step(layer, x, state, dy, dstate):
    """All results of a forward and backward pass, by name."""
    y, state_n, tape = layer.forward(x, state)
    dx, dstate_0 = layer.backward(tape, dy, dstate)
    results = {"y": y} | {f"state_n{k}": a for k, a in enumerate(flat(state_n))}
    grads = {"dx": dx} | {f"dstate_0{k}": a for k, a in enumerate(flat(dstate_0))} | layer.grads
    return results, {name: a for name, a in grads.items() if a is not None}
