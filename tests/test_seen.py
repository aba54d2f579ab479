# SPDX-License-Identifier: MIT
"""What a layer remembers of its arrays: whatever becomes of them, nothing is half done."""

import copy
import pickle

import numpy as np
import pytest
from fusedrnn import GRU, LSTM
from layer_cases import H, I, N, T


def test_gradients_that_share_memory_are_refused_before_anything_is_added():
    layer, x = LSTM(I, H, 2, seed=0), np.ones((T, N, I), np.float32)
    y, _, tape = layer.forward(x)
    layer.backward(tape, np.ones_like(y))  # these are apart
    layer.zero_grad()
    layer.grads["bias_ih_l0"] = layer.grads["bias_hh_l0"]
    message = r"^grads\['bias_hh_l0'\]: .* memory of its own, got that of grads\['bias_ih_l0'\]$"
    with pytest.raises(ValueError, match=message):
        layer.backward(tape, np.ones_like(y))
    assert not any(grad.any() for grad in layer.grads.values())


@pytest.mark.parametrize(("whose", "name"), [("x", "x"), ("dy", "dy"), ("dstate", "dc_n")])
def test_gradients_that_share_memory_with_an_argument_are_refused(whose, name):
    """The kernels of one layer would write what the next one reads."""
    layer, x = LSTM(I, H, 2, seed=0), np.ones((T, N, I), np.float32)
    y, state, _ = layer.forward(x)
    dy, dstate = np.ones_like(y), tuple(np.ones_like(part) for part in state)
    shared = {"x": x, "dy": dy, "dstate": dstate[1]}[whose]
    buffer = np.ones(shared.size + 4 * H, np.float32)
    layer.grads["bias_hh_l1"] = buffer[: 4 * H]
    again = buffer[: shared.size].reshape(shared.shape)
    given = {"x": x, "dy": dy, "dstate": dstate}
    given[whose] = (dstate[0], again) if whose == "dstate" else again
    tape = layer.forward(given["x"])[2]
    with pytest.raises(ValueError, match=rf"^grads\['bias_hh_l1'\]: .* that of {name}$"):
        layer.backward(tape, given["dy"], given["dstate"])


@pytest.mark.parametrize(
    ("how", "whose"),
    [
        (how, whose)
        for how in ("lengths", "checkpoint", "truncate")
        for whose in ("x", "dy", "dh_n")
        if (how, whose) != ("lengths", "x")  # of which there is a copy without padding
    ],
)
def test_so_they_are_where_one_layer_takes_several_calls(how, whose):
    """What is packed, or a later stretch, would not be seen; and a part would be added before."""
    layer, lengths = GRU(4, 4, seed=0), np.array([6, 2, 0])
    buffer = np.ones(6 * 3 * 4 + 1, np.float32)
    shapes = {"x": (6, 3, 4), "dy": (6, 3, 4), "dh_n": (1, 3, 4)}
    given = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    given[whose] = buffer[: given[whose].size].reshape(shapes[whose])
    layer.grads["bias_hh_l0"] = buffer[:12]
    options = {"checkpoint": 2} if how == "checkpoint" else {}
    tape = layer.forward(given["x"], lengths=lengths if how == "lengths" else None, **options)[2]
    with pytest.raises(ValueError, match=rf"^grads\['bias_hh_l0'\]: .* that of {whose}$"):
        layer.backward(tape, given["dy"], given["dh_n"], truncate=2 if how == "truncate" else None)
    assert not any(grad.any() for name, grad in layer.grads.items() if name != "bias_hh_l0")
    assert (buffer == 1).all()


def test_arrays_found_right_before_are_found_wrong_after_a_change():
    layer, x = LSTM(I, H, 2, seed=0), np.ones((T, N, I), np.float32)
    y, _, tape = layer.forward(x)
    layer.backward(tape, np.ones_like(y))
    layer.zero_grad()

    def refused(error, message):
        before = [grad.copy() for grad in layer.grads.values()]
        with pytest.raises(error, match=message):
            layer.backward(tape, np.ones_like(y))
        for grad, unchanged in zip(layer.grads.values(), before, strict=True):
            np.testing.assert_array_equal(grad, unchanged)

    bias = layer.grads.pop("bias_hh_l1")
    refused(ValueError, "grads: expected an array named bias_hh_l1, got none")
    for name in ("bias_hh_l1", "bias_hh_l0"):  # of another layer: its call would not see the other
        layer.grads["bias_hh_l1"] = layer.params[name]
        refused(ValueError, rf"grads\['bias_hh_l1'\]: .* memory of its own, got that of {name}$")
    layer.grads["bias_hh_l1"] = bias
    layer.backward(tape, np.ones_like(y))
    layer.zero_grad()
    for name in ("bias_hh_l1", "bias_hh_l0"):  # backward begins with layer 1
        layer.grads[name].flags.writeable = False
        refused(ValueError, "expected a writable array")
        layer.grads[name].flags.writeable = True
    weight = layer.params.pop("weight_hh_l1")
    refused(ValueError, "params: expected an array named weight_hh_l1, got none")
    with pytest.raises(ValueError, match="params: expected an array named weight_hh_l1, got none"):
        layer(x)
    layer.params["weight_hh_l1"] = weight[:, :-1].copy()
    with pytest.raises(ValueError, match=r"weight_hh_l1: expected shape \(4\*H, H\)"):
        layer(x)


def test_copies_see_their_own_arrays():
    layer, x = LSTM(I, H, seed=0), np.ones((T, N, I), np.float32)
    y, _, tape = layer.forward(x)
    layer.backward(tape, np.ones_like(y))
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        other.params["weight_hh_l0"] *= 0
        assert (other(x)[0] != y).any()
        np.testing.assert_array_equal(layer(x)[0], y)
    before = layer.grads["bias_ih_l0"].copy()
    other.backward(other.forward(x)[2], np.ones_like(y))
    np.testing.assert_array_equal(layer.grads["bias_ih_l0"], before)
