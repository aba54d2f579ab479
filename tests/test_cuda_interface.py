# SPDX-License-Identifier: MIT
"""The CUDA array interface of other libraries: what is refused, and what may only be read."""

import fusedrnn
import numpy as np
import pytest
from cuda_cases import I, Interface, N, T, assert_refused_as_x, inputs, make, normal

pytestmark = pytest.mark.usefixtures("cuda")


def test_what_views_refuse():
    x = normal("float32", T, N, I)
    host = np.zeros((T, N, I), np.float32)
    cases = [
        (
            Interface(x, data=(host.ctypes.data, False)),
            ValueError,
            "x: expected memory of a CUDA device, got memory of the host",
        ),
        (
            Interface(x, strides=(4, 4 * T, 4 * T * N)),
            ValueError,
            "x: expected C-contiguous, got strided data",
        ),
        (
            Interface(x, shape=(2, N, I), strides=(8 * N * I, 4 * I, 4)),  # every second step
            ValueError,
            "x: expected C-contiguous, got strided data",
        ),
        (Interface(x, strides=(4,)), TypeError, "x: expected as many strides as sizes"),
        (
            Interface(x, typestr="<f8"),
            TypeError,
            "x: expected dtype float32, bfloat16, int32 or int64, got <f8",
        ),
        (Interface(x, typestr="<i4"), TypeError, "x: expected dtype float32, got int32"),
        (
            Interface(x, shape=(T, 0, I)),
            ValueError,
            r"x: expected sizes >= 1, got shape \(5, 0, 4\)",
        ),
        (Interface(x, shape="no"), TypeError, "x: expected a valid __cuda_array_interface__"),
        (Interface(x, mask=x), TypeError, "x: expected an array without a mask"),
        (
            Interface(x, data=(x._buffer.pointer + 2, False)),
            ValueError,
            "x: expected aligned memory, got unaligned",
        ),
    ]
    assert_refused_as_x(cases)


class Given:
    """Whatever is there in the place of a CUDA array interface."""

    def __init__(self, value):
        self.__cuda_array_interface__ = value


@pytest.mark.parametrize("key", ["shape", "typestr", "data"])
def test_what_is_missing_is_named(key):
    rest = normal("float32", T, N, I).__cuda_array_interface__
    del rest[key]
    said = f"x: expected a __cuda_array_interface__ with {key}, got one without from Given"
    assert_refused_as_x([(Given(rest), TypeError, f"{said}$")])


@pytest.mark.parametrize("key", ["strides", "stream", "version"])
def test_what_may_be_missing(key):
    x, layer = normal("float32", T, N, I), make("gru")
    rest = x.__cuda_array_interface__
    del rest[key]
    np.testing.assert_array_equal(layer(Given(rest))[0].numpy(), layer(x)[0].numpy())


def test_what_is_no_interface():
    x = normal("float32", T, N, I)
    said = "x: expected a valid __cuda_array_interface__, got another one from "
    values = [("data", bad) for bad in (None, 5, (), (x._buffer.pointer,), ("a", False))]
    values += [("shape", 5), ("typestr", None), ("strides", 4), ("stream", "1")]
    assert_refused_as_x((Interface(x, **{key: bad}), TypeError, said) for key, bad in values)
    assert_refused_as_x((Given(bad), TypeError, said + "Given$") for bad in (None, 5, []))
    number = "x: expected a stream, None or a number >= 1, got 0$"
    assert_refused_as_x([(Interface(x, stream=0), ValueError, number)])


def test_what_is_read_only_is_read_only():
    layer, name = make("gru"), "weight_hh_l0"
    x, _, dy, _ = inputs(layer)
    for arrays in (layer.params, layer.grads):
        arrays[name] = Interface(arrays[name], data=(arrays[name]._buffer.pointer, True))
    tape, before = layer.forward(x)[2], layer.state_dict()
    for write, owner in (
        (layer.zero_grad, rf"grads\['{name}'\]"),
        (lambda: layer.backward(tape, dy), rf"grads\['{name}'\]"),
        (lambda: layer.load_state_dict({k: a + 1 for k, a in before.items()}), name),
    ):
        with pytest.raises(ValueError, match=f"^{owner}: expected a writable array, got a read"):
            write()
    assert not any(fusedrnn.cuda.arrays.host(k, a).any() for k, a in layer.grads.items())
    for k, a in layer.state_dict().items():
        np.testing.assert_array_equal(a, before[k])
