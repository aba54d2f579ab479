# SPDX-License-Identifier: MIT
"""ONNX's recurrent operators in plain NumPy, by the operators' own text and in its notation.

What conversions are compared with: so it shares no table and no kernel with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..weights import Array


def run(op: str, inputs: Sequence[Any], attributes: Mapping[str, Any]) -> tuple[Array, ...]:
    """Return Y, Y_h, and Y_c of an LSTM; inputs in the operator's order, None where there is none.

    One row at a time, one step at a time.
    """
    X, W, R, B, sequence_lens, initial_h, initial_c, P = [*inputs, *[None] * 8][:8]
    layout = attributes.get("layout")
    if layout:
        X = X.swapaxes(0, 1)
        initial_h = None if initial_h is None else initial_h.swapaxes(0, 1)
        initial_c = None if initial_c is None else initial_c.swapaxes(0, 1)
    (T, N, _), (D, rows, H) = X.shape, R.shape
    B = np.zeros((D, 2 * rows), X.dtype) if B is None else B
    P = np.zeros((D, 3 * H), X.dtype) if P is None else P
    Y = np.zeros((T, D, N, H), X.dtype)
    Y_h = np.zeros((D, N, H), X.dtype) if initial_h is None else initial_h.copy()
    Y_c = np.zeros((D, N, H), X.dtype) if initial_c is None else initial_c.copy()
    for d in range(D):
        reverse = d == 1 or attributes.get("direction") == "reverse"
        name = (attributes.get("activations") or ["Tanh", "Tanh"])[d if op == "RNN" else 0]
        how = {**attributes, "f": name.lower()}
        for n in range(N):
            steps = range(T if sequence_lens is None else int(sequence_lens[n]))
            for t in reversed(steps) if reverse else steps:
                H_t, C_t = Y_h[d, n], Y_c[d, n]
                Y_h[d, n], Y_c[d, n] = step(op, X[t, n], H_t, C_t, W[d], R[d], B[d], P[d], how)
                Y[t, d, n] = Y_h[d, n]
    if layout:
        Y, Y_h, Y_c = Y.transpose(2, 0, 1, 3), Y_h.swapaxes(0, 1), Y_c.swapaxes(0, 1)
    return (Y, Y_h, Y_c) if op == "LSTM" else (Y, Y_h)


def sigmoid(a: Array) -> Array:
    """Return 1/(1 + e^-a) by a tanh, which does not overflow."""
    return (1 + np.tanh(a / 2)) / 2


def step(
    op: str, x: Array, H: Array, C: Array,
    W: Array, R: Array, B: Array, P: Array, attributes: Mapping[str, Any],
) -> tuple[Array, Array]:  # fmt: skip
    """Return H_t and C_t of one row, x (I,)."""
    Wb, Rb = np.split(B, 2)
    if op == "RNN":
        a = W @ x + R @ H + Wb + Rb
        return (np.maximum(a, 0) if attributes["f"] == "relu" else np.tanh(a)), C
    if op == "GRU":
        (Wz, Wr, Wh), (Rz, Rr, Rh) = np.split(W, 3), np.split(R, 3)
        (Wbz, Wbr, Wbh), (Rbz, Rbr, Rbh) = np.split(Wb, 3), np.split(Rb, 3)
        z = sigmoid(Wz @ x + Rz @ H + Wbz + Rbz)
        r = sigmoid(Wr @ x + Rr @ H + Wbr + Rbr)
        if attributes.get("linear_before_reset"):
            h = np.tanh(Wh @ x + r * (Rh @ H + Rbh) + Wbh)
        else:
            h = np.tanh(Wh @ x + Rh @ (r * H) + Rbh + Wbh)
        return (1 - z) * h + z * H, C
    i, o, f, c = np.split(W @ x + R @ H + Wb + Rb, 4)
    Pi, Po, Pf = np.split(P, 3)
    i = sigmoid(i + Pi * C)
    f = 1 - i if attributes.get("input_forget") else sigmoid(f + Pf * C)
    C = f * C + i * np.tanh(c)
    return sigmoid(o + Po * C) * np.tanh(C), C
