# SPDX-License-Identifier: MIT
"""Layers from and to Keras; each conversion compares outputs itself before it returns."""

import os

import fusedrnn
import numpy as np
import pytest
from fusedrnn.keras import from_keras, to_keras
from fusedrnn.layers import KINDS
from layer_cases import DTYPES

os.environ.setdefault("KERAS_BACKEND", "numpy")
keras = pytest.importorskip("keras")

# Of tensors that Keras' torch backend gives to NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

I, H, T, N = 3, 4, 5, 2
FORMS = {
    "rnn_tanh": ("SimpleRNN", {}),
    "rnn_relu": ("SimpleRNN", {"activation": "relu"}),
    "lstm": ("LSTM", {}),
    "gru": ("GRU", {}),
    "gru_reset_before": ("GRU", {"reset_after": False}),
}
RANDOM = {
    name: keras.initializers.RandomNormal(stddev=0.7, seed=seed)
    for seed, name in enumerate(("kernel_initializer", "recurrent_initializer", "bias_initializer"))
}


def make(name, bidirectional=False, **options):
    """A built layer of Keras, biases and all random."""
    kind, form = FORMS[name]
    layer = getattr(keras.layers, kind)(H, **(RANDOM | form | options))
    if bidirectional:
        layer = keras.layers.Bidirectional(layer, dtype=options.get("dtype"))
    layer.build((None, None, I))
    return layer


def numbers(tensor):
    return keras.ops.convert_to_numpy(tensor)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("use_bias", [False, True])
@pytest.mark.parametrize("name", FORMS)
def test_both_ways(name, use_bias, bidirectional, dtype, assert_close):
    options = {"return_sequences": True, "use_bias": use_bias, "dtype": np.dtype(dtype).name}
    theirs = make(name, bidirectional, **options)
    ours = from_keras(theirs)
    assert ours.cell == name
    assert (ours.bias, ours.bidirectional, ours.dtype) == (use_bias, bidirectional, dtype)
    x = np.random.default_rng(0).standard_normal((N, T, I)).astype(dtype)
    y, _ = ours(x)
    assert_close(y.astype(np.float32), numbers(theirs(x)), "y")  # Keras rounds to float32 inside
    again = to_keras(ours)
    assert type(again) is type(theirs)
    for a, b in zip(again.weights, theirs.weights, strict=True):
        np.testing.assert_array_equal(numbers(a.value), numbers(b.value))


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("name", FORMS)
def test_to_keras(name, bidirectional, batch_first, assert_close):
    kind, options = KINDS[name]
    form = {"bidirectional": bidirectional, "batch_first": batch_first, "recurrent_dropout": 0.25}
    ours = kind(I, H, seed=0, **form, **options)
    theirs = to_keras(ours, return_sequences=False, return_state=True, name="ours")
    x = np.random.default_rng(0).standard_normal((N, T, I)).astype(np.float32)
    _, state = ours(x if batch_first else np.ascontiguousarray(x.swapaxes(0, 1)))
    h, *states = map(numbers, theirs(x))
    assert_close(h, np.concatenate(list(state[0] if isinstance(state, tuple) else state), -1), "y")
    assert len(states) == (1 + isinstance(state, tuple)) * (1 + bidirectional)
    one = theirs.forward_layer if bidirectional else theirs
    assert one.recurrent_dropout == from_keras(theirs).recurrent_dropout == 0.25


@pytest.mark.parametrize("return_state", [False, True])
@pytest.mark.parametrize("return_sequences", [False, True])
def test_whatever_the_layer_returns(return_sequences, return_state):
    options = {"return_sequences": return_sequences, "return_state": return_state}
    for bidirectional in (False, True):
        ours = from_keras(make("lstm", bidirectional, **options))
        assert (ours.cell, ours.bidirectional) == ("lstm", bidirectional)


def test_layers_of_a_model():
    model = keras.Sequential(
        [
            keras.Input((None, I)),
            keras.layers.Bidirectional(keras.layers.GRU(H, return_sequences=True)),
            keras.layers.LSTM(H),
        ]
    )
    x = np.random.default_rng(0).standard_normal((N, T, I)).astype(np.float32)
    y = x
    for layer in model.layers:
        y, state = from_keras(layer)(y)
    np.testing.assert_allclose(state[0][0], numbers(model(x)), atol=1e-6)


def test_dropout_of_the_input_is_not_carried_over():
    for bidirectional in (False, True):
        with pytest.warns(UserWarning, match=r"^dropout: expected 0, .*: 0.2 of x is not carried"):
            ours = from_keras(make("lstm", bidirectional, return_sequences=True, dropout=0.2))
        assert ours.dropout == 0


def two(forward, backward):
    """A bidirectional LSTM, with options of each direction."""
    backward = keras.layers.LSTM(H, return_sequences=True, go_backwards=True, **backward)
    forward = keras.layers.LSTM(H, return_sequences=True, **forward)
    layer = keras.layers.Bidirectional(forward, backward_layer=backward)
    layer.build((None, None, I))
    return layer


@pytest.mark.parametrize("rates", [(0.2, 0.0), (0.0, 0.2), (0.1, 0.2)])
def test_dropout_of_one_direction_is_not_carried_over(rates):
    theirs = two(*({"dropout": rate} for rate in rates))
    said = " and ".join(str(rate) for rate in rates if rate)
    with pytest.warns(UserWarning, match=rf"^dropout: expected 0, .*: {said} of x is not carried"):
        from_keras(theirs)


def test_one_direction_may_have_no_bias():
    forward = keras.layers.GRU(H, return_sequences=True, **RANDOM)
    options = {"return_sequences": True, "go_backwards": True, "use_bias": False}
    theirs = keras.layers.Bidirectional(forward, backward_layer=keras.layers.GRU(H, **options))
    theirs.build((None, None, I))
    ours = from_keras(theirs)
    assert ours.bias
    assert not ours.params["bias_hh_l0_reverse"].any()


def test_what_ours_do_not_have_is_refused_by_name():
    other = keras.layers.Bidirectional(
        keras.layers.LSTM(H),
        backward_layer=keras.layers.GRU(H, go_backwards=True),
    )
    other.build((None, None, I))
    for layer, error, message in [
        (make("lstm", activation="relu"), ValueError, "activation: expected tanh, got relu"),
        (make("rnn_tanh", activation="elu"), ValueError, "activation: .* tanh or relu, got elu"),
        (
            make("gru", recurrent_activation="hard_sigmoid"),
            ValueError,
            "recurrent_activation: expected sigmoid, got hard_sigmoid",
        ),
        (make("gru", go_backwards=True), ValueError, "go_backwards: expected False, got True"),
        (keras.layers.GRU(H, stateful=True), ValueError, "stateful: expected False, got True"),
        (
            keras.layers.Bidirectional(keras.layers.LSTM(H), merge_mode="sum"),
            ValueError,
            "merge_mode: expected concat, got sum",
        ),
        (make("lstm", dtype="bfloat16"), ValueError, "dtype: .* or float64, got bfloat16"),
        (make("gru", dtype="mixed_bfloat16"), ValueError, "dtype: .* got mixed_bfloat16"),
        (make("gru", True, dtype="mixed_float16"), ValueError, "dtype: .* got mixed_float16"),
        (other, ValueError, "backward_layer: expected lstm, got gru"),
        (
            two({"recurrent_dropout": 0.1}, {"recurrent_dropout": 0.4}),
            ValueError,
            "backward_layer.recurrent_dropout: expected 0.1, got 0.4",
        ),
        (keras.layers.LSTM(H), ValueError, "layer: expected a built layer"),
        (keras.layers.Dense(H), TypeError, "layer: expected a Keras SimpleRNN, .*, got Dense"),
        (keras.layers.RNN(keras.layers.LSTMCell(H)), TypeError, "layer: expected .*, got RNN"),
        (None, TypeError, "layer: expected .*, got NoneType"),
    ]:
        with pytest.raises(error, match=rf"^{message}"):
            from_keras(layer)


def test_what_keras_does_not_have_is_refused_by_name():
    for options, message in [
        ({"num_layers": 2}, "num_layers: expected 1, got 2"),
        ({"proj_size": 2}, "proj_size: expected 0, got 2"),
        ({"zoneout_h": 0.5}, "zoneout_h: expected 0, got 0.5"),
        ({"peephole": True}, "layer: expected rnn_tanh, .*, got lstm_peephole"),
        ({"coupled": True}, "layer: .*, got lstm_coupled"),
        ({"layer_norm": True}, "layer: .*, got lstm_norm"),
    ]:
        with pytest.raises(ValueError, match=rf"^{message}"):
            to_keras(fusedrnn.LSTM(I, H, **options))


def test_the_probe_finds_what_was_not_looked_for():
    with pytest.raises(RuntimeError, match=r"^Keras computes something else on a probe"):
        to_keras(fusedrnn.GRU(I, H, seed=0), activation="relu")
