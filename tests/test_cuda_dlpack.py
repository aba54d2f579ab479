# SPDX-License-Identifier: MIT
"""DLPack as other libraries write it: with strides, offsets, and a function that must be called."""

import ctypes

import numpy as np
import pytest
from cuda_cases import Foreign, I, N, T, make, normal
from fusedrnn.cuda import Array, library

pytestmark = pytest.mark.usefixtures("cuda")

INTEGERS = ctypes.POINTER(ctypes.c_int64)
DELETER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Managed(ctypes.Structure):
    """DLManagedTensor: https://dmlc.github.io/dlpack/latest/c_api.html."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", INTEGERS),
        ("strides", INTEGERS),
        ("byte_offset", ctypes.c_uint64),
        ("context", ctypes.c_void_p),
        ("deleter", DELETER),
    )


def integers(values):
    return None if values is None else (ctypes.c_int64 * len(values))(*values)


class Theirs:
    """The memory of one of our float32 arrays; strides in elements."""

    def __init__(self, array, shape=None, strides=None, **fields):
        self.array, self.deleted = array, 0
        shape = array.shape if shape is None else shape
        self.kept = integers(shape), integers(strides), DELETER(self.delete)
        fields = {"code": 2, "bits": 32, "lanes": 1, "byte_offset": 0} | fields
        self.managed = Managed(
            array._buffer.pointer,
            *array.__dlpack_device__(),
            ndim=len(shape),
            shape=ctypes.cast(self.kept[0], INTEGERS),
            strides=ctypes.cast(self.kept[1], INTEGERS),
            deleter=self.kept[2],
            **fields,
        )

    def delete(self, _):
        self.deleted += 1

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    def __dlpack__(self, *, stream):
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = (
            ctypes.py_object,
            (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p),
        )
        return new(ctypes.addressof(self.managed), b"dltensor", None)


@pytest.mark.parametrize(
    ("part", "more"),
    [(0, {"strides": (N * I, I, 1)}), (1, {"byte_offset": 4 * T * N * I})],
)
def test_strides_and_offset(part, more):
    whole, layer = normal("float32", 2, T, N, I), make("gru")
    given, alone = Theirs(whole, (T, N, I), **more), Array(whole.numpy()[part])
    np.testing.assert_array_equal(layer(given)[0].numpy(), layer(alone)[0].numpy())
    assert given.deleted == 1


def test_strides_of_one_element_say_nothing():
    x, layer = normal("float32", T, 1, I), make("gru")
    given = Theirs(x, strides=(I, 77, 1))
    np.testing.assert_array_equal(layer(given)[0].numpy(), layer(x)[0].numpy())


def test_a_view_keeps_it():
    core, given = library.core(), Theirs(normal("float32", T, N, I))
    view = core.Buffer.view(given, "x", core.Stream(0, None))
    rows = view.rows(1, 1)
    del view
    assert given.deleted == 0
    del rows
    assert given.deleted == 1


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"strides": (I, T * I, 1)}, ValueError, "C-contiguous, got strided data"),
        ({"strides": (N * I, I, 0)}, ValueError, "C-contiguous, got strided data"),
        ({"strides": (-N * I, I, 1)}, ValueError, "C-contiguous, got strided data"),
        ({"byte_offset": 2}, ValueError, "aligned memory, got unaligned"),
        ({"shape": (T, N, 0)}, ValueError, r"sizes >= 1, got shape \(5, 3, 0\)"),
        ({"shape": (T, N)}, ValueError, r"shape \(T, N, I\) with I = 4, got \(5, 3\)"),
        ({"bits": 16}, TypeError, "dtype float32, bfloat16, int32 or int64, got float16"),
        ({"code": 6, "bits": 8}, TypeError, "dtype float32, .*, got bool8"),
        ({"code": 9}, TypeError, "dtype float32, .*, got code 32"),
        ({"lanes": 2}, TypeError, "dtype float32, .*, got float32"),
        ({"code": 4, "bits": 16}, TypeError, "dtype float32, got bfloat16"),
    ],
)
def test_what_is_refused_is_given_back(change, error, message):
    given = Theirs(normal("float32", T, N, I), **change)
    with pytest.raises(error, match=f"^x: expected {message}$"):
        make("gru")(given)
    assert given.deleted == 1


def test_a_capsule_is_taken_once():
    core, array = library.core(), normal("float32", 4)
    capsule = array.__dlpack__()

    class Again:
        __dlpack_device__ = array.__dlpack_device__

        def __dlpack__(self, stream=None):
            return capsule

    on = core.Stream(0, None)
    core.Buffer.view(Again(), "x", on)
    said = "x: expected a DLPack capsule that nobody has taken, got PyCapsule"
    with pytest.raises(ValueError, match=f"^{said}$"):
        core.Buffer.view(Again(), "x", on)
    capsule = None
    with pytest.raises(ValueError, match=r"^x: expected a DLPack capsule .*, got NoneType$"):
        core.Buffer.view(Again(), "x", on)


@pytest.mark.parametrize("device", [None, 2, (), (2,), ("cuda", 0)])
def test_what_is_no_device(device, monkeypatch):
    x = Foreign(normal("float32", T, N, I))
    monkeypatch.setattr(Foreign, "__dlpack_device__", lambda _: device)
    said = "x: expected a valid __dlpack_device__, got another one from Foreign"
    with pytest.raises(TypeError, match=f"^{said}$"):
        make("gru")(x)


def test_what_dlpack_refuses():
    array = normal("float32", 4)
    for options, error, message in [
        ({"copy": True}, BufferError, "copy: expected None or False, got True"),
        ({"dl_device": (1, 0)}, BufferError, "dl_device: expected the array's own"),
        ({"stream": 0}, ValueError, "stream: expected None or a number >= 1, got 0"),
        ({"stream": -2}, ValueError, "stream: expected None or a number >= 1, got -2"),
        ({"stream": 2**70}, ValueError, "stream: expected None or a number >= 1, got one beyond"),
        ({"stream": "a"}, TypeError, "stream: expected None or a number, got str"),
        ({"stream": 1.5}, TypeError, "stream: expected None or a number, got float"),
    ]:
        with pytest.raises(error, match=f"^{message}"):
            array.__dlpack__(**options)
    array.__dlpack__(stream=-1, max_version=(1, 0), dl_device=(2, 0), copy=False)


def test_what_its_library_does_not_hand_over():
    class Kept(Foreign):
        def __dlpack__(self, *, stream=None):
            raise BufferError("it needs a gradient")

    said = "expected an array that its library hands over, got it needs a gradient"
    with pytest.raises(TypeError, match=f"^x: {said}$"):
        make("gru")(Kept(normal("float32", T, N, I)))
