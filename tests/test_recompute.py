# SPDX-License-Identifier: MIT
"""A checkpoint interval: the bits of the whole tape, in less memory."""

import fusedrnn
import numpy as np
import pytest
from layer_cases import LAYERS, flat, like

T, N, I, H = 10, 5, 4, 19
LENGTHS = np.array([3, 10, 6, 0, 6])
RESETS = np.random.default_rng(1).random((T, N)) < 0.3
FORMS = {
    "plain": {},
    "lengths": {"lengths": LENGTHS},
    "resets": {"resets": RESETS},
    "lengths_and_resets": {"lengths": LENGTHS, "resets": RESETS},
}


def results(layer, x, dy, state, **options):
    layer.zero_grad()
    y, state_n, tape = layer.forward(x, state, **options)
    dx, dstate = layer.backward(tape, dy, like(state_n, np.random.default_rng(2)))
    arrays = {"y": y, "dx": dx, **{k: g.copy() for k, g in layer.grads.items()}}
    return arrays | {f"state{k}": a for k, a in enumerate((*flat(state_n), *flat(dstate)))}


@pytest.mark.parametrize("tokens", [False, True], ids=["floats", "tokens"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", LAYERS)
def test_the_bits_of_the_whole_tape(name, form, tokens):
    layer = LAYERS[name](I, H, num_layers=2, bidirectional=True, seed=0)
    rng = np.random.default_rng(0)
    x = rng.integers(0, I, (T, N)) if tokens else rng.standard_normal((T, N, I), np.float32)
    dy = rng.standard_normal((T, N, 2 * H), np.float32)
    for state in (None, like(layer.zero_state(N), rng)):
        wanted = results(layer, x, dy, state, **FORMS[form])
        for every in (1, 3, 5, T, 100):
            got = results(layer, x, dy, state, checkpoint=every, **FORMS[form])
            for key, value in wanted.items():
                np.testing.assert_array_equal(got[key], value, err_msg=f"{key}, {every}")


def test_gradients_add_up():
    layer, x = fusedrnn.GRU(3, 4, seed=0), np.ones((7, 2, 3), np.float32)
    y, _, tape = layer.forward(x, checkpoint=3)
    layer.backward(tape, np.ones_like(y))
    once = {name: grad.copy() for name, grad in layer.grads.items()}
    layer.backward(tape, np.ones_like(y))
    for name, grad in layer.grads.items():
        np.testing.assert_allclose(grad, 2 * once[name], rtol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_less_memory(name):
    layer, x = LAYERS[name](2, 16, seed=0), np.zeros((4096, 1, 2), np.float32)
    whole = layer.forward(x)[2].nbytes
    stretch = layer.forward(x[:64])[2].nbytes + 64 * 16 * 4  # its tape and its y
    assert 10 * (layer.forward(x, checkpoint=64)[2].nbytes + stretch) <= whole


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "8"])
def test_wrong_interval(wrong):
    with pytest.raises((TypeError, ValueError), match="checkpoint: expected"):
        fusedrnn.RNN(2, 3).forward(np.zeros((4, 1, 2), np.float32), checkpoint=wrong)
