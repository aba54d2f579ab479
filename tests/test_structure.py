# SPDX-License-Identifier: MIT
"""The options of a layer: which may change between calls, and that no tape is led astray by it."""

import copy
import pickle
import re

import fusedrnn
import numpy as np
import pytest
from fusedrnn.parameters import FIXED, PROBABILITIES

NOISY = {"dropout": 0.4, "recurrent_dropout": 0.3, "zoneout_h": 0.2, "zoneout_c": 0.1}


@pytest.mark.parametrize("before", [NOISY, dict.fromkeys(NOISY, 0.0)])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("how", [{}, {"checkpoint": 2}, {"memory_budget": 12_000}])
def test_backward_goes_by_the_options_of_its_forward(how, bidirectional, before):
    layer = fusedrnn.LSTM(4, 5, 3, bidirectional=bidirectional, seed=0, **before)
    x = np.random.default_rng(1).standard_normal((9, 3, 4)).astype(np.float32)
    y, _, tape = layer.forward(x, noise=fusedrnn.Noise(7))
    again = layer.forward(x, noise=fusedrnn.Noise(7), **how)[2]
    wanted, _ = layer.backward(tape, np.ones_like(y))
    grads = {name: grad.copy() for name, grad in layer.grads.items()}
    for name in PROBABILITIES:
        setattr(layer, name, 0.9)
    dx, _ = layer.backward(again, np.ones_like(y), accumulate=False)
    np.testing.assert_array_equal(dx, wanted)
    for name, grad in grads.items():
        np.testing.assert_array_equal(layer.grads[name], grad)


def test_a_chunk_goes_back_by_the_options_of_its_forward():
    layer, x = fusedrnn.GRU(4, 5, 2, dropout=0.4, seed=0), np.ones((6, 3, 4), np.float32)
    for changed in (False, True):
        layer.zero_grad()
        layer.dropout = 0.4
        for chunk in fusedrnn.chunks(layer, x, 6, noise=fusedrnn.Noise(3)):
            layer.dropout = 0.9 if changed else 0.4
            chunk.backward(np.ones_like(chunk.y))
        if not changed:
            wanted = {name: grad.copy() for name, grad in layer.grads.items()}
    for name, grad in layer.grads.items():
        np.testing.assert_array_equal(grad, wanted[name])


@pytest.mark.parametrize("name", PROBABILITIES)
def test_a_probability_is_checked_when_it_is_set(name):
    layer = fusedrnn.LSTM(4, 5, 2, **NOISY)
    for value in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match=f"^{name}: expected 0 to 1, got {value}$"):
            setattr(layer, name, value)
    for value in ("x", None, True):
        with pytest.raises(TypeError, match=f"^{name}: expected a number, got"):
            setattr(layer, name, value)
    assert getattr(layer, name) == NOISY[name]


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell", "Linear"])
def test_what_shapes_depend_on_stays(kind):
    layer = getattr(fusedrnn, kind)(4, 5)
    given = [name for name in FIXED if hasattr(layer, name)]
    assert {"bias", "dtype"} < {*given}
    for name in given:
        before = getattr(layer, name)
        wanted = re.escape(f"{name}: expected to stay {before!r}, got 2")
        with pytest.raises(AttributeError, match=f"^{wanted}$"):
            setattr(layer, name, 2)
        setattr(layer, name, before)
        assert getattr(layer, name) == before
    for name in FIXED - {*given}:
        with pytest.raises(AttributeError, match=f"^{name}: {kind} has no such option$"):
            setattr(layer, name, 2)
    for twin in (copy.copy(layer), copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert repr(twin) == repr(layer)
    layer.engine = fusedrnn.reference
    layer.note = "an attribute of the user's"


def test_zoneout_of_c_is_for_cells_that_have_it():
    for layer in (fusedrnn.RNN(4, 5), fusedrnn.GRU(4, 5)):
        layer.zoneout_c = 0.0
        with pytest.raises(
            ValueError, match=r"^zoneout_c: expected 0 for a cell without c, got 0.5"
        ):
            layer.zoneout_c = 0.5
        assert eval(repr(layer), vars(fusedrnn)).zoneout_c == 0
