# SPDX-License-Identifier: MIT
"""proj_size: what the layer refuses, what the kernels refuse again, and cells without it."""

from functools import partial

import fusedrnn
import numpy as np
import pytest
from fusedrnn import GRU, LSTM, _core
from projection_cases import H, I, N, P, T, arguments, deep

WRONG = {
    "as wide as h": (H, ValueError, rf"proj_size: expected 0 <= proj_size <= {H - 1}, got {H}"),
    "negative": (-1, ValueError, "proj_size: expected 0 <= proj_size"),
    "a float": (2.0, TypeError, "proj_size: expected an integer, got float"),
    "a bool": (True, TypeError, "proj_size: expected an integer, got bool"),
}


@pytest.mark.parametrize(("value", "error", "text"), WRONG.values(), ids=WRONG)
def test_wrong_proj_size(value, error, text):
    with pytest.raises(error, match=rf"^{text}"):
        LSTM(I, H, proj_size=value)


def test_wrong_arguments_of_the_layer():
    layer = deep(bidirectional=False)
    x, (h, c), dy, _ = arguments(layer)
    with pytest.raises(ValueError, match=r"^h_0: expected shape \(L\*D, N, P\) = \(2, 6, 6\), got"):
        layer(x, (c, c))
    with pytest.raises(ValueError, match=r"^c_0: expected shape \(L\*D, N, H\) = \(2, 6, 21\)"):
        layer(x, (h, h))
    y, _, tape = layer.forward(x)
    with pytest.raises(ValueError, match=r"^dy: expected shape \(T, N, D\*P\) = \(9, 6, 6\), got"):
        layer.backward(tape, np.zeros((T, N, H), np.float32))
    with pytest.raises(ValueError, match=r"^dh_n: expected shape \(L\*D, N, P\)"):
        layer.backward(tape, dy, (c, c))
    layer.params["weight_hr_l0"] = np.zeros((P, P), np.float32)
    with pytest.raises(ValueError, match=r"^weight_hr_l0: expected shape \(P, H\) = \(6, 21\)"):
        layer(x)
    with pytest.raises(ValueError, match=r"^h of state: expected shape"):
        deep(bidirectional=False).freeze().step(x[0], (c, c))
    assert y.shape == (T, N, P)


def zeros(*shape):
    return np.zeros(shape, np.float32)


def test_the_kernels_check_again():
    weights = (zeros(12, 2), zeros(12, 2), None, None, None, zeros(2, 3), *[None] * 4)
    states, x, y = (zeros(1, 2), zeros(1, 3)), zeros(4, 1, 2), zeros(4, 1, 2)
    run = partial(_core.forward, "lstm", x)
    tape = _core.Tape()
    run(weights, None, False, y, states, tape)
    for bad, error, text in (
        (weights[:5], ValueError, "weights: expected 10 arrays, got 5"),
        ((*weights[:5], zeros(2), *weights[6:]), ValueError, "weights: expected matrices"),
        (
            (*weights[:5], zeros(2, 2), *weights[6:]),
            ValueError,
            "weight_hr: expected P < H = 2, got P = 2",
        ),
        ((*weights[:5], zeros(1, 3), *weights[6:]), ValueError, "weight_hr: expected shape"),
        ((*weights[:5], zeros(2, 4), *weights[6:]), ValueError, "weight_ih: expected shape"),
        ((*weights[:5], [[1.0]], *weights[6:]), TypeError, "weights: expected arrays"),
        ((*weights[:5], None, *weights[6:]), ValueError, "weight_ih: expected shape"),
    ):
        with pytest.raises(error, match=text):
            run(bad, None, False, y, states, None)
    with pytest.raises(TypeError, match="weight_hr: expected None for a cell of one state"):
        _core.pack("rnn_tanh", (zeros(3, 2), *weights[1:]), 1)
    with pytest.raises(ValueError, match="y: expected shape"):
        run(weights, None, False, zeros(4, 1, 3), states, None)
    with pytest.raises(ValueError, match=r"own, got memory shared with state_n"):
        run(weights, None, False, y, (y[0], states[1]), None)
    grads = tuple(None if w is None else w.copy() for w in weights)
    back = partial(_core.backward, tape, x, y)
    for bad, text in (
        ((*grads[:5], weights[5], *grads[6:]), "dweight_hr: expected memory of its own"),
        ((*grads[:5], zeros(2, 2), *grads[6:]), "dweight_hr: expected shape"),
    ):
        with pytest.raises(ValueError, match=text):
            back(weights, y.copy(), None, None, False, bad, False, states)
    other = (zeros(12, 2), zeros(12, 1), None, None, None, zeros(1, 3), *[None] * 4)
    with pytest.raises(ValueError, match="expected those of the forward call"):
        back(other, y.copy(), None, None, False, other, False, states)


def test_only_lstm_has_it():
    with pytest.raises(TypeError):
        GRU(2, 3, proj_size=1)
    weights = fusedrnn.Weights(zeros(9, 2), zeros(9, 1), None, None, None, zeros(1, 3))
    with pytest.raises(TypeError, match=r"^weight_hr: expected None for gru, got ndarray"):
        fusedrnn.functional.infer("gru", zeros(4, 1, 2), None, weights)
