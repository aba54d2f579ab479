# SPDX-License-Identifier: MIT
"""Gradients by lag against the definition, and the gates' shares against their own values."""

import fusedrnn
import numpy as np
import pytest
from fusedrnn.gradflow import gate_saturation, gradient_flow
from layer_cases import LAYERS, flat

T, N, I, H = 7, 3, 4, 9


@pytest.mark.parametrize("name", LAYERS)
def test_by_lag_is_the_gradient_of_the_state(name):
    """The state before the last l steps, as `backward` over those l steps gives it."""
    layer = LAYERS[name](I, H, num_layers=2, dtype=np.float64, seed=0)
    x = np.random.default_rng(0).standard_normal((T, N, I))
    for grad in layer.grads.values():
        grad[...] = 3
    flow = gradient_flow(layer, x, seed=5)
    assert all((grad == 3).all() for grad in layer.grads.values())
    assert flow.by_lag.shape == (T + 1, 2)
    assert flow.by_step.shape == (T,)
    assert flow.by_lag[0].tolist() == [0, pytest.approx(1)]

    dy = np.random.default_rng(5).standard_normal((1, N, H))
    dy /= np.linalg.norm(dy, axis=2, keepdims=True)
    for lag in range(1, T + 1):
        state = layer(x[: T - lag])[1] if lag < T else None
        y, _, tape = layer.forward(x[T - lag :], state)
        error = np.zeros_like(y)
        error[-1] = dy[0]
        _, dstate = layer.backward(tape, error)
        wanted = np.linalg.norm(flat(dstate)[0], axis=2).mean(axis=1)
        np.testing.assert_allclose(flow.by_lag[lag], wanted, rtol=1e-12)


def test_the_vanishing_gradient_of_the_lecture():
    """An RNN forgets in tens of steps what an LSTM with an open forget gate remembers."""
    x = np.random.default_rng(0).standard_normal((60, 8, 4), np.float32)
    rnn, lstm = fusedrnn.RNN(4, 32, seed=0), fusedrnn.LSTM(4, 32, seed=0)
    lstm.params["bias_hh_l0"][32:64] += 6  # f is nearly 1
    rnn_flow, lstm_flow = gradient_flow(rnn, x).by_lag, gradient_flow(lstm, x).by_lag
    assert 0 < rnn_flow[60, 0] < 1e-6 * rnn_flow[0, 0]
    assert lstm_flow[60, 0] > 1e-2 * lstm_flow[0, 0]


def test_norms_whose_squares_are_no_float32():
    x = np.random.default_rng(0).standard_normal((100, 2, 4))
    by_step = {}
    for dtype in ("float32", "float64"):
        layer = fusedrnn.RNN(4, 32, seed=0, dtype=dtype)
        layer.load_state_dict(fusedrnn.RNN(4, 32, seed=0).state_dict())
        by_step[dtype] = gradient_flow(layer, x.astype(dtype), seed=1).by_step
    assert by_step["float64"][0] < 1e-23
    np.testing.assert_allclose(by_step["float32"], by_step["float64"], rtol=0.05)


@pytest.mark.parametrize("name", LAYERS)
def test_saturation(name):
    layer, x = LAYERS[name](I, H, seed=0), np.zeros((T, N, I), np.float32)
    (calm,) = gate_saturation(layer, x)
    assert set(calm.values()) <= {0.0} or layer.cell.endswith("_norm")  # which makes h' large
    layer.params["bias_ih_l0"][...] = 50
    (full,) = gate_saturation(layer, x)
    assert set(full.values()) <= {1.0} or name == "gru_reset_before"
    letters = fusedrnn.CELLS[layer.cell].gate_letters
    assert set(calm) <= {*letters, "i"}
    assert calm or name == "rnn_relu"


@pytest.mark.parametrize("kind", [fusedrnn.LSTM, fusedrnn.GRU])
def test_saturation_is_that_of_the_layer_s_own_states(kind):
    """With zoneout they are not those without; a step by itself says where each began."""
    layer = kind(I, H, zoneout_h=0.9, dtype=np.float64, seed=0)
    plain = kind(I, H, dtype=np.float64, seed=0)
    for name, p in layer.params.items():
        p *= 6
        plain.params[name][...] = p
    x = np.random.default_rng(0).standard_normal((T, N, I))
    (found,), state, steps = gate_saturation(layer, x), None, []
    for t in range(T):
        steps += gate_saturation(plain, x[t : t + 1], state)
        _, state = layer(x[t : t + 1], state)
    for gate, share in found.items():
        assert share == pytest.approx(np.mean([step[gate] for step in steps]), abs=1e-12)


def test_the_layer_s_gradients_are_not_touched():
    layer, x = fusedrnn.GRU(I, H, seed=0), np.zeros((T, N, I), np.float32)
    for grad in layer.grads.values():
        grad[...] = 3
    layer.grads["bias_hh_l0"] = layer.grads["bias_hh_l0"].copy()
    layer.grads["bias_hh_l0"].flags.writeable = False
    gradient_flow(layer, x)
    assert all((grad == 3).all() for grad in layer.grads.values())


def test_what_is_no_layer_or_no_input():
    for call in (gradient_flow, gate_saturation):
        with pytest.raises(TypeError, match=r"^layer: expected RNN, LSTM or GRU, got str"):
            call("gru", np.zeros((T, N, I), np.float32))
        with pytest.raises(TypeError, match=r"^x: expected ndarray of dtype float32, got NoneType"):
            call(fusedrnn.GRU(I, H), None)


def test_a_seed_that_is_none():
    with pytest.raises(ValueError, match=r"^seed: expected 0 <= seed <= \d+, got -1"):
        gradient_flow(fusedrnn.GRU(I, H), np.zeros((T, N, I), np.float32), seed=-1)


def test_two_directions_are_refused():
    layer, x = fusedrnn.RNN(I, H, bidirectional=True), np.zeros((T, N, I), np.float32)
    for call in (gradient_flow, gate_saturation):
        with pytest.raises(ValueError, match=r"one direction .* got bidirectional="):
            call(layer, x)


def test_saturation_checks_what_it_is_given():
    layer, x = fusedrnn.GRU(I, H), np.zeros((T, N, I), np.float32)
    with pytest.raises(TypeError, match=r"^x: expected dtype float32, got float64"):
        gate_saturation(layer, x.astype(np.float64))
    with pytest.raises(ValueError, match=r"^x: expected shape \(T, N, I\) with I = 4, got"):
        gate_saturation(layer, x[:, :, :2])
    with pytest.raises(TypeError, match=r"^near: expected a number, got str"):
        gate_saturation(layer, x, near="a")
    with pytest.raises(ValueError, match=r"^near: expected 0 to 1, got 2"):
        gate_saturation(layer, x, near=2)


def test_a_layer_with_noise_is_observed_without_a_trace():
    options = {"recurrent_dropout": 0.5, "zoneout_h": 0.2, "seed": 0}
    layer, other = fusedrnn.LSTM(3, 8, **options), fusedrnn.LSTM(3, 8, **options)
    x = np.random.default_rng(0).standard_normal((6, 2, 3)).astype(np.float32)
    first = fusedrnn.gradflow.gradient_flow(layer, x)
    np.testing.assert_array_equal(fusedrnn.gradflow.gradient_flow(layer, x).by_lag, first.by_lag)
    np.testing.assert_array_equal(layer.forward(x)[0], other.forward(x)[0])  # the same draws
    with pytest.raises(ValueError, match=r"^x: expected T, N, I >= 1"):
        fusedrnn.gradflow.gradient_flow(layer, x[:0])
