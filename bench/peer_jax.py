# SPDX-License-Identifier: MIT
"""JAX: the layer as one writes it there, compiled.

The input part of all steps is one product, `lax.scan` goes over time, and weights are stored
transposed, which measured faster. Of two degrees of unrolling the faster is chosen when it is made.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np

UNROLL = (1, 4)


def make(name, task, cell, weights, x, dy):
    weights = {n: jnp.asarray(a.T.copy()) for n, a in weights.items()}
    names = list(weights)
    leaves = (jnp.asarray(x), *weights.values())
    gradient = jnp.asarray(dy)

    def build(unroll):
        def layer(x, *values):
            return _layer(cell, x, dict(zip(names, values, strict=True)), unroll)

        @jax.jit
        def train(gradient, *leaves):
            y, vjp = jax.vjp(lambda *leaves: layer(*leaves)[0], *leaves)
            return y, *vjp(gradient)

        if task == "training":
            return lambda: jax.block_until_ready(train(gradient, *leaves))
        infer = jax.jit(layer)
        return lambda: jax.block_until_ready(infer(*leaves))

    keys = ("y", "dx", *names) if task == "training" else "yhc"

    def arrays(result):
        pairs = zip(keys, map(np.asarray, result), strict=False)
        return {key: a.T if key in names else a for key, a in pairs}

    return min(map(build, UNROLL), key=_seconds), arrays


def _layer(cell, x, w, unroll):
    """(y, h) or (y, h, c), h and c with an axis of layers."""
    N, H = x.shape[1], w["weight_hh_l0"].shape[0]
    given = x @ w["weight_ih_l0"] + w["bias_ih_l0"]
    zeros = (jnp.zeros((N, H)),) * (2 if cell == "lstm" else 1)

    def step(state, given):
        state = STEPS[cell](state, given, w["weight_hh_l0"], w["bias_hh_l0"])
        return state, state[0]

    state, y = jax.lax.scan(step, zeros, given, unroll=unroll)
    return y, *(s[None] for s in state)


def _rnn(state, given, w, b):
    return (jnp.tanh(given + state[0] @ w + b),)


def _lstm(state, given, w, b):
    h, c = state
    i, f, g, o = jnp.split(given + h @ w + b, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def _gru(state, given, w, b):
    (h,) = state
    hidden = h @ w + b
    H = h.shape[-1]
    r, z = jnp.split(jax.nn.sigmoid(given[:, : 2 * H] + hidden[:, : 2 * H]), 2, axis=-1)
    n = jnp.tanh(given[:, 2 * H :] + r * hidden[:, 2 * H :])
    return ((1 - z) * n + z * h,)


def _gru_reset_before(state, given, w, b):
    (h,) = state
    H = h.shape[-1]
    gates = jax.nn.sigmoid(given[:, : 2 * H] + h @ w[:, : 2 * H] + b[: 2 * H])
    r, z = jnp.split(gates, 2, axis=-1)
    n = jnp.tanh(given[:, 2 * H :] + (r * h) @ w[:, 2 * H :] + b[2 * H :])
    return ((1 - z) * n + z * h,)


STEPS = {"rnn_tanh": _rnn, "lstm": _lstm, "gru": _gru, "gru_reset_before": _gru_reset_before}


def _seconds(call):
    """The least of a few runs after the one that compiles."""
    call()
    times = []
    for _ in range(5):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)
