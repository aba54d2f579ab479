# SPDX-License-Identifier: MIT
"""Memory of the device: other libraries' views of it and ours of theirs, as arguments."""

import gc

import fusedrnn
import numpy as np
import pytest
from cuda_cases import (
    Foreign,
    H,
    I,
    Interface,
    N,
    T,
    assert_refused,
    assert_refused_as_x,
    inputs,
    library,
    make,
    normal,
)

pytestmark = pytest.mark.usefixtures("cuda")


def test_views_share_memory(cuda):
    core, array = cuda.library.core(), normal("float32", T, N, I)
    on = core.Stream(0, None)
    for theirs in (
        array,
        Foreign(array),
        Interface(array),
        Interface(array, strides=(4 * N * I, 4 * I, 4)),
    ):
        view = core.Buffer.view(theirs, "x", on)
        assert (view.shape, view.dtype, view.pointer) == (
            array.shape,
            "float32",
            array._buffer.pointer,
        )
        np.testing.assert_array_equal(view.download(), array.numpy())
    half = normal("bfloat16", 3)
    assert core.Buffer.view(Foreign(half), "x", on).dtype == "bfloat16"
    with pytest.raises(AttributeError, match="there is none for bfloat16"):
        half.__cuda_array_interface__  # noqa: B018


def test_views_keep_what_they_show(cuda):
    core = cuda.library.core()
    array = normal("float32", 4, 5)
    values, view = array.numpy(), core.Buffer.view(Foreign(array), "x", core.Stream(0, None))
    capsule = array.__dlpack__()
    rows = view.rows(1, 2)
    del array, view
    gc.collect()
    filler = [normal("float32", 4, 5, seed=k) for k in range(5)]
    np.testing.assert_array_equal(rows.download(), values[1:3])
    del capsule, filler


def test_what_is_no_input():
    host = np.zeros((T, N, I), np.float32)
    cases = [
        (host, TypeError, "x: expected an array on a CUDA device, got numpy.ndarray on the host"),
        (host.tolist(), TypeError, "x: expected an array on a CUDA device, got list"),
        (None, TypeError, "x: expected an array on a CUDA device, got NoneType"),
        (normal("bfloat16", T, N, I), TypeError, "x: expected dtype float32, got bfloat16"),
        (
            normal("float32", T, N),
            ValueError,
            r"x: expected shape \(T, N, I\) with I = 4, got \(5, 3\)",
        ),
        (normal("float32", T, N, 9), ValueError, r"x: expected shape \(T, N, I\) with I = 4, got"),
    ]
    assert_refused_as_x(cases)


def test_what_of_pytorch_is_no_input():
    torch = pytest.importorskip("torch")
    layer = make("gru")
    tape = layer.forward(normal("float32", T, N, I))[2]
    x, dy = torch.ones(T, N, I), torch.ones(T, N, H)
    packed = torch.nn.utils.rnn.pack_sequence([x[:, 0]])
    wanted = "expected an array on a CUDA device"
    cases = [
        (lambda: layer(x), TypeError, f"x: {wanted}, got Tensor on the host"),
        (lambda: layer(packed), TypeError, f"x: {wanted}, got PackedSequence"),
        (lambda: layer.backward(tape, dy), TypeError, f"dy: {wanted}, got Tensor on the host"),
    ]
    assert_refused(cases)


def test_results_are_of_the_library_of_x(monkeypatch):
    layer = make("lstm", bidirectional=True, batch_first=True)
    x, state, dy, dstate = inputs(layer)
    expected = layer(x, state)[0].numpy()
    library(monkeypatch, "foreign")
    y, (h, c), tape = layer.forward(Foreign(x), tuple(map(Foreign, state)))
    dx, dstate_0 = layer.backward(tape, Foreign(dy), dstate)
    for a in (y, h, c, dx, *dstate_0):
        assert type(a) is Foreign
    np.testing.assert_array_equal(y.array.numpy(), expected)
    assert type(layer(x)[0]) is fusedrnn.cuda.Array


def test_parameters_of_another_library():
    layer, twin = make("gru"), make("gru")
    x, _, dy, _ = inputs(layer)
    theirs = {name: Foreign(a) for name, a in layer.grads.items()}
    layer.grads |= theirs
    layer.params["weight_hh_l0"] = Interface(layer.params["weight_hh_l0"])
    for one in (layer, twin):
        one.zero_grad()
        one.backward(one.forward(x)[2], dy)
    for name, a in twin.grads.items():
        np.testing.assert_array_equal(theirs[name].array.numpy(), a.numpy())
    layer.load_state_dict({name: a + 1 for name, a in twin.state_dict().items()})
    np.testing.assert_array_equal(
        layer.state_dict()["weight_hh_l0"], twin.params["weight_hh_l0"].numpy() + 1
    )


def test_lengths_of_any_library():
    layer, lengths = make("lstm"), np.array([2, 5, 0])
    x = normal("float32", T, N, I)
    expected = layer(x, None, lengths)[0].numpy()
    for given in (
        fusedrnn.cuda.Array(lengths),
        Foreign(fusedrnn.cuda.Array(lengths.astype(np.int32))),
    ):
        np.testing.assert_array_equal(layer(x, None, given)[0].numpy(), expected)
    torch = pytest.importorskip("torch")
    np.testing.assert_array_equal(layer(x, None, torch.tensor(lengths))[0].numpy(), expected)


class Tensor:
    """PyTorch's on the host, as far as it is asked: DLPack alone sees neither sign nor bfloat16."""

    def __init__(self, values, dtype="torch.bfloat16"):
        self.values, self.dtype = values, dtype

    def __dlpack_device__(self):
        return 1, 0

    def __dlpack__(self, **_):
        return pytest.fail("NumPy reads it by itself")

    def __array__(self, *_, **__):
        if self.dtype != "torch.float32":
            raise RuntimeError("Can't call numpy() on Tensor that has negative bit set")
        return self.values

    def float(self):
        return Tensor(self.values, "torch.float32")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_tensors_on_the_host(dtype):
    layer = make("gru", dtype=dtype)
    wanted = {name: a + 1 for name, a in layer.state_dict().items()}
    for state in (wanted, {name: Tensor(a) for name, a in wanted.items()}):
        layer.load_state_dict(state)
        for name, a in layer.state_dict().items():
            np.testing.assert_allclose(a, wanted[name], rtol=2**-8)
    before, bad = layer.state_dict(), Tensor(wanted["weight_hh_l0"], "of the other sign")
    said = "weight_hh_l0: expected an array, got Tensor: Can't call"
    with pytest.raises(TypeError, match=f"^{said}"):
        layer.load_state_dict(wanted | {"weight_hh_l0": bad})
    np.testing.assert_array_equal(layer.state_dict()["weight_hh_l0"], before["weight_hh_l0"])
    wanted = np.linspace(0, 1, 4)
    array = fusedrnn.cuda.Array(Tensor(wanted), dtype)
    array.copy_from(Tensor(wanted))
    np.testing.assert_allclose(array.numpy(), wanted, rtol=2**-8)
    x = normal(dtype, T, N, I)
    with pytest.raises(TypeError, match=r"^lengths: expected an ndarray of integers, got ndarray"):
        layer(x, None, Tensor(np.array([1.0, 2.0, 3.0])))


def test_copies_to_the_host_are_refused_by_name():
    layer, x = make("gru"), normal("float32", T, N, I)
    bad = Interface(fusedrnn.cuda.Array([5, 5, 5]), typestr="<f8")
    state = layer.state_dict()
    refused = "expected dtype float32, bfloat16, int32 or int64, got <f8"
    with pytest.raises(TypeError, match=f"^lengths: {refused}$"):
        layer(x, None, bad)
    with pytest.raises(TypeError, match=f"^weight_hh_l0: {refused}$"):
        layer.load_state_dict(state | {"weight_hh_l0": bad})
    layer.params["weight_hh_l0"] = bad
    with pytest.raises(TypeError, match=f"^weight_hh_l0: {refused}$"):
        layer.state_dict()
