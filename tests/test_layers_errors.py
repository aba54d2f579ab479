# SPDX-License-Identifier: MIT
"""RNN, LSTM, GRU: parameters by name, and what they refuse, with nothing half done."""

import pickle
import re

import numpy as np
import pytest
from fusedrnn import GRU, LSTM, RNN
from fusedrnn.weights import CELLS, Weights
from layer_cases import LAYERS, H, I, N, T


@pytest.fixture(params=LAYERS)
def make(request):
    return LAYERS[request.param]


def test_parameters_are_those_of_torch(make):
    layer = make(I, H, 2, bidirectional=True, seed=0)
    G = layer.params["bias_ih_l0"].size // H
    lacks = (*CELLS[layer.cell].lacks, "weight_hr")
    names = [name for name in Weights._fields if name not in lacks]
    suffixes = ["_l0", "_l0_reverse", "_l1", "_l1_reverse"]
    assert list(layer.params) == [name + suffix for suffix in suffixes for name in names]
    assert layer.params["weight_ih_l0"].shape == (G * H, I)
    assert layer.params["weight_ih_l1_reverse"].shape == (G * H, 2 * H)
    assert layer.params["weight_hh_l1"].shape == (G * H, H)
    for name, a in layer.params.items():
        assert a.dtype == np.float32
        if "_ln_" in name:  # a norm alone, and nothing beside it
            assert (a == name.startswith("weight")).all()
        else:
            assert 0 < np.abs(a).max() <= 1 / np.sqrt(H)
        assert layer.grads[name].shape == a.shape
    assert "bias_ih_l0" not in make(I, H, bias=False).params


def test_seeds(make):
    a, b, c, d = (make(I, H, seed=seed) for seed in (1, 1, 2, np.random.default_rng(1)))
    for name, value in a.params.items():
        np.testing.assert_array_equal(value, b.params[name])
        np.testing.assert_array_equal(value, d.params[name])
        assert (value != c.params[name]).any() or "_ln_" in name
    assert (make(I, H).params["bias_hh_l0"] != make(I, H).params["bias_hh_l0"]).any()


def test_repr_and_pickle(make):
    layer = make(2, 3)
    assert re.fullmatch(rf"{type(layer).__name__}\(2, 3.*\)", repr(layer))
    layer = LSTM(2, 3, num_layers=2, batch_first=True, bidirectional=True, dtype=np.float64)
    assert repr(layer) == (
        "LSTM(2, 3, num_layers=2, batch_first=True, bidirectional=True, dtype=float64)"
    )
    assert repr(RNN(2, 3, nonlinearity="relu", bias=False)) == (
        "RNN(2, 3, nonlinearity='relu', bias=False)"
    )
    copy = pickle.loads(pickle.dumps(make(2, 3, seed=0)))
    x = np.ones((T, N, 2), np.float32)
    np.testing.assert_array_equal(copy(x)[0], make(2, 3, seed=0)(x)[0])


def test_forward_refuses_with_the_layer_s_names(make):
    layer = make(I, H, 2, bidirectional=True)
    x = np.zeros((T, N, I), np.float32)
    with pytest.raises(
        ValueError, match=r"^x: expected shape \(T, N, I\) with I = 5, got \(6, 3, 4\)"
    ):
        layer(np.zeros((T, N, 4), np.float32))
    with pytest.raises(TypeError, match=r"^x: expected dtype float32, got float64"):
        layer(x.astype(float))
    with pytest.raises(ValueError, match=r"^x: expected C-contiguous"):
        layer(x[:, ::2])
    h = np.zeros((3, N, H), np.float32)
    state = (h, h) if layer._letters == "hc" else h
    wanted = r"^h_0: expected shape \(L\*D, N, H\) = \(4, 3, 7\), got \(3, 3, 7\)"
    with pytest.raises(ValueError, match=wanted):
        layer(x, state)
    with pytest.raises(TypeError, match=r"^(state: .*h_0, c_0.* got|h_0: expected ndarray)"):
        layer(x, h if layer._letters == "hc" else (h,))
    layer = make(I, H, batch_first=True)
    with pytest.raises(ValueError, match=r"^x: expected shape \(N, T, I\) with I = 5"):
        layer(np.zeros((N, T, 4), np.float32))
    with pytest.raises(ValueError, match=r"^x: expected integers \(N, T\)"):
        layer(np.zeros((N, T, 1), np.int32))


def test_parameters_are_checked_at_every_call(make):
    layer, x = make(I, H, 2), np.zeros((T, N, I), np.float32)
    layer.params["weight_hh_l1"] = layer.params["weight_hh_l1"][:, :-1].copy()
    with pytest.raises(ValueError, match=r"^weight_hh_l1: expected shape \((\d\*)?H, H\) = "):
        layer(x)
    layer.params["weight_hh_l1"] = np.zeros_like(layer.grads["weight_hh_l1"], dtype=float)
    with pytest.raises(TypeError, match=r"^weight_hh_l1: expected dtype float32, got float64"):
        layer.forward(x)
    del layer.params["weight_hh_l1"]
    with pytest.raises(
        ValueError, match=r"^params: expected an array named weight_hh_l1, got none"
    ):
        layer(x)


def test_errors_leave_gradients_as_they_were(make):
    """The bad array is that of the first layer, whose turn comes last."""
    layer, other = (make(I, H, 2, bidirectional=True, seed=seed) for seed in (0, 1))
    y, state, tape = layer.forward(np.ones((T, N, I), np.float32))
    dy, dstate = np.ones_like(y), state
    good = layer.grads["weight_ih_l0"]
    bad = [np.zeros((1, 1), np.float32), good.astype(float), good[::-1], None]
    read_only = good.copy()
    read_only.flags.writeable = False
    for grad in (*bad, read_only, layer.params["weight_ih_l0"]):
        layer.grads["weight_ih_l0"] = grad
        with pytest.raises((TypeError, ValueError), match=r"^grads\['weight_ih_l0'\]: expected"):
            layer.backward(tape, dy)
    del layer.grads["weight_ih_l0"]
    with pytest.raises(ValueError, match=r"^grads: expected an array named weight_ih_l0, got none"):
        layer.backward(tape, dy)
    layer.grads["weight_ih_l0"] = good

    short = tuple(a[:1] for a in dstate) if isinstance(dstate, tuple) else dstate[:1]
    for arguments, error, message in [
        ((None, dy), TypeError, "tape: expected a LayerTape, got NoneType"),
        (
            (other.forward(np.ones((T, N, I), np.float32))[2], dy),
            ValueError,
            "tape: .*another layer",
        ),
        ((tape, dy[:-1]), ValueError, r"dy: expected shape \(T, N, D\*H\) = \(6, 3, 14\), got"),
        ((tape, dy.astype(float)), TypeError, "dy: expected dtype float32, got float64"),
        ((tape, dy[:, :, ::-1]), ValueError, "dy: expected C-contiguous"),
        ((tape, dy.tolist()), TypeError, "dy: expected ndarray of dtype float32, got list"),
        ((tape, dy, short), ValueError, r"dh_n: expected shape \(L\*D, N, H\) = \(4, 3, 7\)"),
    ]:
        with pytest.raises(error, match=rf"^{message}"):
            layer.backward(*arguments)
    assert not any(a.any() for a in layer.grads.values())
    layer.backward(tape, dy, dstate)
    assert any(a.any() for a in layer.grads.values())


def test_state_dict_is_a_copy(make):
    layer = make(I, H, seed=0)
    copy = layer.state_dict()
    copy["weight_hh_l0"][...] = 0
    assert layer.params["weight_hh_l0"].any()


def test_load_state_dict(make):
    layer, source = make(I, H, seed=0), make(I, H, seed=1, dtype=np.float64)
    arrays = list(layer.params.values())
    layer.load_state_dict({name: a.tolist() for name, a in source.state_dict().items()})
    for (name, value), a in zip(layer.params.items(), arrays, strict=True):
        assert value is a
        np.testing.assert_array_equal(value, source.params[name].astype(np.float32))


class Unreadable:
    """Such as a tensor on another device."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("not here")


def test_load_state_dict_checks_everything_first(make):
    layer = make(I, H, seed=0)
    before, good = layer.state_dict(), make(I, H, seed=1).state_dict()
    (last, value) = list(good.items())[-1]
    without = {name: a for name, a in good.items() if name != last}
    for mapping, error, message in [
        (list(good.items()), TypeError, "mapping: expected a mapping by name, got list"),
        (without, ValueError, f"mapping: .*missing: {last}, unknown: none"),
        (
            good | {"weight_hr_l0": value},
            ValueError,
            "mapping: .*missing: none, unknown: weight_hr_l0",
        ),
        ({}, ValueError, "mapping: .*missing: weight_ih_l0, weight_hh_l0"),
        (good | {last: value[:-1]}, ValueError, rf"{last}: expected shape \((\d\*)?H,\) = .*, got"),
        (good | {last: value.astype(int)}, TypeError, f"{last}: expected a float dtype, got int64"),
        (good | {last: value + 1j}, TypeError, f"{last}: expected a float dtype, got complex"),
        (good | {last: "bias"}, TypeError, f"{last}: expected a float dtype, got <U4"),
        (good | {last: Unreadable()}, TypeError, f"{last}: expected an array, got Unreadable"),
    ]:
        with pytest.raises(error, match=rf"^{message}"):
            layer.load_state_dict(mapping)
        for name, a in layer.params.items():
            np.testing.assert_array_equal(a, before[name])
    layer.params[last].flags.writeable = False
    with pytest.raises(ValueError, match=rf"^{last}: expected a writable array"):
        layer.load_state_dict(good)
    np.testing.assert_array_equal(layer.params["weight_ih_l0"], before["weight_ih_l0"])


def test_load_state_dict_of_its_own_arrays_under_other_names():
    layer = GRU(4, 4, bidirectional=True, seed=0)
    before = layer.state_dict()

    def other(name):
        return name.removesuffix("_reverse") if name.endswith("_reverse") else name + "_reverse"

    layer.load_state_dict({name: layer.params[other(name)] for name in layer.params})
    for name, a in layer.params.items():
        np.testing.assert_array_equal(a, before[other(name)])


@pytest.mark.parametrize("options", [{}, {"checkpoint": 2}])
def test_gradients_in_the_memory_of_a_parameter_that_was_replaced(options):
    layer = GRU(4, 4, num_layers=2, seed=0)
    y, _, tape = layer.forward(np.ones((5, 2, 4), np.float32), **options)
    old = layer.params["weight_ih_l0"]
    layer.params["weight_ih_l0"] = old.copy()
    layer.grads["weight_hh_l1"], before = old, old.copy()
    text = (
        r"^grads\['weight_hh_l1'\]: expected memory of its own, got that of parameter 0 of forward"
    )
    with pytest.raises(ValueError, match=text):
        layer.backward(tape, np.ones_like(y))
    np.testing.assert_array_equal(old, before)
    assert not any(layer.grads[name].any() for name in layer.grads if name != "weight_hh_l1")
