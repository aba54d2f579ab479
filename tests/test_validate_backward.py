# SPDX-License-Identifier: MIT
"""Bad arguments of functional.backward: what the error says, and that nothing is half done."""

import re

import numpy as np
import pytest
from fusedrnn import functional
from fusedrnn.weights import Weights
from validate_cases import F4, STATE, H, I, N, T, changed, lstm_weights, read_only, strided, zeros


def trained():
    x, weights = zeros(T, N, I), lstm_weights()
    y, _, tape = functional.forward("lstm", x, None, weights)
    return x, y, weights, tape


def ones_like(weights):
    return Weights(*(np.ones_like(a) for a in weights))


BAD_BACKWARD = [
    ({"tape": None}, TypeError, "tape: expected the Tape of functional.forward, got NoneType"),
    ({"dy": [1.0]}, TypeError, "dy: expected ndarray of dtype float32, got list"),
    ({"dy": zeros(T, N, H, dtype=float)}, TypeError, "dy: expected dtype float32, got float64"),
    ({"dy": zeros(T, N, 1)}, ValueError, r"dy: expected shape \(T, N, H\) = \(3, 2, 5\)"),
    ({"dy": strided(zeros(T, N, H))}, ValueError, "dy: expected C-contiguous"),
    ({"dy": np.broadcast_to(F4(1), (T, N, H))}, ValueError, "dy: expected C-contiguous"),
    ({"dstate": STATE[0]}, TypeError, r"dstate: expected the tuple \(dh_n, dc_n\)"),
    ({"dstate": (STATE[0], zeros(N))}, ValueError, r"dc_n: expected shape \(N, H\) = \(2, 5\)"),
    ({"dx": zeros(T, N, H)}, ValueError, r"dx: expected shape \(T, N, I\) = \(3, 2, 4\)"),
    ({"dx": read_only(zeros(T, N, I))}, ValueError, "dx: expected a writable array"),
    ({"grads": list(lstm_weights())}, TypeError, "grads: expected Weights"),
    ({"grads": lstm_weights(bias_ih=None)}, TypeError, "grads.bias_ih: expected ndarray"),
    (
        {"grads": lstm_weights(weight_hh=zeros(4 * H, I))},
        ValueError,
        re.escape("grads.weight_hh: expected shape (4*H, H) = (20, 5), got (20, 4)"),
    ),
    (
        {"grads": lstm_weights(bias_hh=read_only(zeros(20)))},
        ValueError,
        "grads.bias_hh: .*writable",
    ),
]


@pytest.mark.parametrize(("changes", "error", "message"), BAD_BACKWARD, ids=changed)
def test_backward_refuses_before_adding(changes, error, message):
    _, y, weights, tape = trained()
    grads, dx = ones_like(weights), np.ones((T, N, I), F4)
    arguments = {"tape": tape, "dy": np.ones_like(y), "dx": dx, "grads": grads}
    with pytest.raises(error, match=rf"^{message}"):
        functional.backward(**(arguments | changes))
    assert (dx == 1).all()
    assert all((a == 1).all() for a in grads)


def test_backward_keeps_apart_what_it_reads_and_writes():
    x, y, weights, tape = trained()
    with pytest.raises(ValueError, match=r"^grads.weight_ih: expected memory of its own"):
        functional.backward(tape, np.ones_like(y), grads=weights)
    with pytest.raises(ValueError, match=r"^dx: expected memory of its own"):
        functional.backward(tape, np.ones_like(y), dx=x)


def test_backward_of_tokens_and_of_no_bias():
    weights = lstm_weights(bias_ih=None, bias_hh=None)
    y, _, tape = functional.forward("lstm", zeros(T, N, dtype=np.uint8), None, weights)
    dx, _, grads = functional.backward(tape, np.ones_like(y))
    assert dx is None
    assert grads.bias_ih is None
    assert grads.bias_hh is None
    with pytest.raises(TypeError, match=r"^dx: expected None"):
        functional.backward(tape, np.ones_like(y), dx=zeros(T, N, I))
    with pytest.raises(TypeError, match=r"^grads.bias_ih: expected None"):
        functional.backward(tape, np.ones_like(y), grads=lstm_weights())
