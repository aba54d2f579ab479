# SPDX-License-Identifier: MIT
"""device="cuda": which calls are refused, in which words, and that a refusal changes nothing."""

from types import SimpleNamespace

import fusedrnn
import numpy as np
import pytest
from cuda_cases import H, I, N, T, assert_refused, inputs, make, normal
from fusedrnn.gradflow import gate_saturation, gradient_flow


class Prepared:
    """A layer after forward, its arguments, and such as are none."""

    def __init__(self):
        self.layer = make("lstm", bidirectional=True)
        self.x, (self.h, _), self.dy, self.dstate = inputs(self.layer)
        self.y, _, self.tape = self.layer.forward(self.x)
        self.host = np.zeros((T, N, I), np.float32)
        self.tokens = fusedrnn.cuda.Array(np.zeros((T, N), np.int64))
        self.bad = normal("float32", 2, N, H + 1)


@pytest.fixture
def one(cuda):
    one = Prepared()
    yield one
    assert not any(a.numpy().any() for a in one.layer.grads.values())
    one.layer.backward(one.tape, one.y, one.dstate)


def test_what_only_the_host_has(one):
    cases = [
        (lambda: one.layer(one.tokens), TypeError, "x: expected dtype float32, got int64"),
        (
            lambda: one.layer(one.x, None, None, np.zeros((T, N), bool)),
            ValueError,
            'resets: expected None with device="cuda", got ndarray',
        ),
        (
            lambda: one.layer.forward(one.x, checkpoint=2),
            ValueError,
            'checkpoint: expected None with device="cuda", got 2',
        ),
        (
            lambda: one.layer.forward(one.x, memory_budget=2),
            ValueError,
            "memory_budget: expected None with",
        ),
        (
            lambda: one.layer.forward(one.x, noise=fusedrnn.Noise(1)),
            ValueError,
            "noise: expected None with",
        ),
        (
            lambda: one.layer.backward(one.tape, one.dy, truncate=2),
            ValueError,
            "truncate: expected None with",
        ),
        (one.layer.freeze, ValueError, "freeze: expected a layer on the host"),
        *(
            (lambda f=f: f(one.layer, one.x), ValueError, "layer: expected a layer on the host")
            for f in (lambda *a: fusedrnn.chunks(*a, 2), gradient_flow, gate_saturation)
        ),
    ]
    assert_refused(cases)


def test_gradients_have_memory_of_their_own(one):
    """A failed call has written to none of them, nor to a parameter."""
    before = one.layer.state_dict()
    part_of_dc_n = {**one.dstate[1].__cuda_array_interface__, "shape": (4 * H,)}
    for name, shared, whose in (
        ("weight_hh_l0", one.layer.params["weight_hh_l0"], "weight_hh_l0"),
        ("weight_hh_l0", one.layer.params["weight_hh_l0_reverse"], "weight_hh_l0_reverse"),
        ("bias_hh_l0", one.layer.grads["bias_ih_l0"], r"grads\['bias_ih_l0'\]"),
        ("bias_hh_l0", SimpleNamespace(__cuda_array_interface__=part_of_dc_n), "dc_n"),
    ):
        kept = one.layer.grads[name]
        one.layer.grads[name] = shared
        with pytest.raises(
            ValueError, match=rf"^grads\['{name}'\].* of its own, got that of {whose}$"
        ):
            one.layer.backward(one.tape, one.dy, one.dstate, accumulate=False)
        one.layer.grads[name] = kept
    for name, value in before.items():
        np.testing.assert_array_equal(one.layer.params[name].numpy(), value)


def test_what_forward_refuses(one):
    cases = [
        (
            lambda: one.layer(one.x, one.h),
            TypeError,
            r"state: expected the tuple \(h_0, c_0\) or None, got Array",
        ),
        (
            lambda: one.layer(one.x, (one.h,)),
            TypeError,
            r"state: expected the tuple \(h_0, c_0\) or None, got tuple of 1",
        ),
        (
            lambda: one.layer(one.x, (one.h, one.bad)),
            ValueError,
            r"c_0: expected shape \(L\*D, N, H\) = \(2, 3, 7\), got \(2, 3, 8\)",
        ),
        (
            lambda: one.layer(one.x, (one.h, one.host)),
            TypeError,
            "c_0: expected an array on a CUDA device, got numpy.ndarray",
        ),
        (
            lambda: one.layer(one.x, None, [1, 2, 3]),
            TypeError,
            "lengths: expected an ndarray of integers, got list",
        ),
        (
            lambda: one.layer(one.x, None, np.array([1, 2])),
            ValueError,
            r"lengths: expected shape \(N,\) = \(3,\), got \(2,\)",
        ),
        (
            lambda: one.layer(one.x, None, np.array([1, 2, T + 1])),
            ValueError,
            "lengths: expected 0 to T = 5, got 1 to 6",
        ),
        (
            lambda: one.layer(one.x, None, one.x),
            TypeError,
            "lengths: expected an ndarray of integers",
        ),
    ]
    assert_refused(cases)


def test_what_backward_refuses(one):
    cases = [
        (
            lambda: one.layer.backward(one.tape, one.x),
            ValueError,
            r"dy: expected shape \(T, N, D\*H\) = \(5, 3, 14\), got",
        ),
        (
            lambda: one.layer.backward(one.tape, one.host),
            TypeError,
            "dy: expected an array on a CUDA device",
        ),
        (
            lambda: one.layer.backward(one.tape, one.dy, (one.h, one.bad)),
            ValueError,
            r"dc_n: expected shape",
        ),
        (
            lambda: one.layer.backward(None, one.dy),
            TypeError,
            "tape: expected a DeviceTape, got NoneType",
        ),
        (
            lambda: make("lstm").backward(one.tape, one.dy),
            ValueError,
            "tape: expected one made by this layer",
        ),
        (
            lambda: one.layer.load_state_dict([]),
            TypeError,
            "mapping: expected a mapping by name, got list",
        ),
        (lambda: one.layer.zero_state(0), ValueError, "N: expected 1 <= N"),
    ]
    assert_refused(cases)


@pytest.mark.usefixtures("cuda")
def test_parameters_are_checked():
    layer = make("lstm")
    x, _, dy, _ = inputs(layer)
    tape = layer.forward(x)[2]
    for arrays, owner in ((layer.params, ""), (layer.grads, "grads")):
        label = r"grads\['bias_hh_l0'\]" if owner else "bias_hh_l0"
        before = arrays.pop("bias_hh_l0")
        for value, error, message in [
            (
                None,
                ValueError,
                f"{owner or 'params'}: expected an array named bias_hh_l0, got none",
            ),
            (before.numpy(), TypeError, f"{label}: expected an array on a CUDA device"),
            (
                normal("bfloat16", 4 * H),
                TypeError,
                f"{label}: expected dtype float32, got bfloat16",
            ),
            (
                normal("float32", H),
                ValueError,
                rf"{label}: expected shape \(4\*H,\) = \(28,\), got",
            ),
        ]:
            if value is not None:
                arrays["bias_hh_l0"] = value
            with pytest.raises(error, match=f"^{message}"):
                layer.backward(tape, dy) if owner else layer(x)
        arrays["bias_hh_l0"] = before
    assert not any(a.numpy().any() for a in layer.grads.values())


@pytest.mark.usefixtures("cuda")
def test_what_is_set_on_a_layer_of_a_device():
    layer = make("lstm")
    for name in ("dropout", "recurrent_dropout", "zoneout_h", "zoneout_c"):
        setattr(layer, name, 0.0)
        with pytest.raises(ValueError, match=f'^{name}: expected 0 with device="cuda", got 0.5'):
            setattr(layer, name, 0.5)
        assert getattr(layer, name) == 0
    with pytest.raises(ValueError, match=r"^engine: expected the device's own"):
        layer.engine = fusedrnn.reference
