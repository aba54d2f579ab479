# SPDX-License-Identifier: MIT
"""Work on streams of the device, and how long memory lives."""

import sys
import threading
import types

import numpy as np
import pytest
from cuda_cases import Foreign, H, I, Interface, N, T, inputs, library, make, normal

pytestmark = pytest.mark.usefixtures("cuda")


def test_streams(cuda, monkeypatch):
    layer = make("lstm", num_layers=2)
    x, state, *_ = inputs(layer)
    expected = layer.forward(x, state)[0].numpy()
    one, other = cuda.Stream(), cuda.Stream()
    handle = one.__cuda_stream__()[1]

    class Theirs:
        cuda_stream = handle

    class Cupys:
        ptr = handle

    for stream in (None, 0, 1, one, other, handle, Theirs(), Cupys()):
        y, _ = layer(x, state, stream=stream)
        np.testing.assert_array_equal(y.numpy(), expected)
    library(monkeypatch, "foreign")
    layer(Foreign(x), stream=one)
    asked = Foreign(x)
    layer(asked, stream=one)
    layer(asked)
    assert asked.streams == [handle, 1]  # 1: DLPack's number of the default stream


class Derived(Foreign):
    """Of a class of the user's."""


@pytest.mark.parametrize("kind", [Foreign, Derived])
@pytest.mark.parametrize("name", ["torch", "cupy"])
def test_the_current_stream_of_a_library(name, kind, cuda, monkeypatch):
    stream, layer = cuda.Stream(), make("gru")
    x = kind(normal("float32", T, N, I))
    if name == "torch":
        namespace = types.SimpleNamespace(current_stream=lambda device: stream)
    else:
        namespace = types.SimpleNamespace(get_current_stream=lambda: stream)
    library(monkeypatch, name, cuda=namespace)
    y, _ = layer(x)
    assert x.streams == [stream.__cuda_stream__()[1]]
    assert type(y) is Foreign
    assert y.array._buffer.stream.handle == stream.__cuda_stream__()[1]


def test_backward_of_a_state_alone_runs_where_that_is(cuda, monkeypatch):
    stream, layer = cuda.Stream(), make("gru")
    namespace = types.SimpleNamespace(current_stream=lambda device: stream)
    library(monkeypatch, "torch", cuda=namespace)
    tape = layer.forward(Foreign(normal("float32", T, N, I)))[2]
    dx, _ = layer.backward(tape, None, Foreign(normal("float32", 1, N, H)))
    assert dx.array._buffer.stream.handle == stream.__cuda_stream__()[1]


@pytest.mark.parametrize("first", [0, 1])
def test_work_on_two_streams_is_in_order(first, cuda):
    """Nothing dies in between: that would wait for all streams."""
    layer, twin = make("lstm"), make("lstm")
    x, state, dy, _ = inputs(layer)
    streams = cuda.Stream(), cuda.Stream()
    there, back = streams[first], streams[1 - first]
    y, state_n, tape = layer.forward(x, state, stream=there)
    again = layer.forward(x, state_n, stream=back)
    alive = [layer.backward(tape, dy, state_n, stream=back)]
    alive += [layer.backward(again[2], y, stream=there)]
    expected_y, expected_n, expected_tape = twin.forward(x, state)
    expected = twin.forward(x, expected_n)
    twin.backward(expected_tape, dy, expected_n)
    twin.backward(expected[2], expected_y)
    np.testing.assert_array_equal(again[0].numpy(), expected[0].numpy())
    for name, a in twin.grads.items():
        np.testing.assert_array_equal(layer.grads[name].numpy(), a.numpy())
    alive += [layer.backward(again[2], dy, stream=there)]
    layer.zero_grad()  # on the default stream, which other streams are not ordered with
    assert not any(a.numpy().any() for a in layer.grads.values())


def test_gradients_are_set_to_zero_before_more_are_added(cuda):
    layer, twin, stream = make("gru"), make("gru"), cuda.Stream()
    x, _, dy, _ = inputs(layer)
    tape = layer.forward(x, stream=stream)[2]
    layer.zero_grad()  # on the default stream
    alive = layer.backward(tape, dy, stream=stream)
    stream.synchronize()
    twin.backward(twin.forward(x)[2], dy)
    for name, a in twin.grads.items():
        np.testing.assert_array_equal(layer.grads[name].numpy(), a.numpy())
    del alive


@pytest.mark.parametrize("theirs", [Foreign, Interface])
@pytest.mark.parametrize("first", [0, 1])
def test_other_libraries_wait_for_results(first, theirs, cuda):
    """Nothing dies in between, and only one stream is waited for, and what that one waits for."""
    layer = make("gru", sizes=(H, H))
    x = normal("float32", T, N, H)
    expected = layer(layer(x)[0])[0].numpy()
    streams = cuda.Stream(), cuda.Stream()
    y = layer(x, stream=streams[first])
    z = layer(theirs(y[0]), stream=streams[1 - first])
    streams[1 - first].synchronize()
    np.testing.assert_array_equal(z[0].numpy(), expected)


class Unordered(Foreign):
    """Of a library that waits for itself."""

    def __dlpack__(self, *, stream=None):
        self.array._buffer.stream.synchronize()
        return self.array.__dlpack__(stream=-1)


def test_memory_lives_as_long_as_other_streams_read_it(cuda):
    layer = make("gru", sizes=(H, H))
    x = normal("float32", T, N, H)
    expected = layer(layer(x)[0])[0].numpy()
    streams = cuda.Stream(), cuda.Stream()
    for theirs in (lambda a: a, Foreign, Interface, Unordered):
        y = layer(x, stream=streams[0])
        z = layer(theirs(y[0]), stream=streams[1])
        del y
        np.testing.assert_array_equal(z[0].numpy(), expected)


def test_states_live_as_long_as_other_streams_read_them(cuda):
    """Layers have views of them, and it is the whole that lives."""
    layer = make("gru", num_layers=2)
    x = normal("float32", T, N, I)
    expected = layer(x, layer(x)[1])[0].numpy()
    streams = cuda.Stream(), cuda.Stream()
    state_n = layer(x, stream=streams[0])[1]
    y, _ = layer(x, state_n, stream=streams[1])
    del state_n
    streams[0].synchronize()
    np.testing.assert_array_equal(y.numpy(), expected)


@pytest.mark.parametrize("kind", ["of its stream", "of all streams"])
def test_other_threads_run_while_memory_waits_to_be_freed(kind, cuda, emulated):
    """For work of the host, say, that is enqueued too. They get no time but what is given them."""
    emulated()
    go, seen, stream, interval = threading.Event(), [], cuda.Stream(), sys.getswitchinterval()
    x, layer = normal("float32", 40 * T, N, I), make("gru")
    y, _ = layer(x, stream=stream)
    y.__dlpack__(stream=-1)  # to who knows which stream
    alive = {"of its stream": y, "of all streams": x}
    del x, y
    thread = threading.Thread(target=lambda: go.wait() and seen.append(1))
    sys.setswitchinterval(1000)
    try:
        thread.start()
        go.set()
        assert not seen
        del alive[kind]
        assert seen
    finally:
        sys.setswitchinterval(interval)
        thread.join()


def test_values_are_copied_in_after_what_is_under_way(cuda):
    layer, stream = make("gru"), cuda.Stream()
    x, weights = normal("float32", T, N, I), layer.params["weight_hh_l0"]
    expected = layer(x)[0].numpy()
    y, _ = layer(x, stream=stream)
    weights.copy_from(np.zeros(weights.shape))
    np.testing.assert_array_equal(y.numpy(), expected)


def test_values_that_were_copied_in_are_there_for_every_stream(cuda):
    layer, stream = make("gru"), cuda.Stream()
    x, weights = normal("float32", T, N, I), layer.params["weight_hh_l0"]
    weights.copy_from(np.zeros(weights.shape))
    y, _ = layer(x, stream=stream)
    stream.synchronize()
    np.testing.assert_array_equal(y.numpy(), layer(x)[0].numpy())


def test_what_streams_refuse():
    layer, x = make("gru"), normal("float32", T, N, I)
    kinds = [("0", TypeError), (1.0, TypeError), (True, TypeError)]
    for bad, error in [*kinds, (-1, ValueError), (2**64, ValueError), (2**70, ValueError)]:
        with pytest.raises(error, match=r"^stream: expected"):
            layer(x, stream=bad)


def test_memory_is_given_back(emulated):
    emulated(memory=2**20)
    layer = make("lstm", sizes=(I, H))
    x, _, dy, _ = inputs(layer)
    for _ in range(200):  # 200 times what one step takes would not fit
        y, _, tape = layer.forward(x)
        layer.backward(tape, dy)
    y.numpy()


@pytest.mark.parametrize("memory", [2**17, 2**18, 2**19])
def test_out_of_memory(memory, emulated):
    layer = make("lstm", sizes=(I, 24), num_layers=2)
    x, state, dy, dstate = inputs(layer)
    y, _, tape = layer.forward(x, state)
    layer.backward(tape, dy, dstate)
    expected, grads = y.numpy(), {name: a.numpy() for name, a in layer.grads.items()}
    del y, tape
    big = normal("float32", 40, 60, I)
    emulated(memory=memory)
    with pytest.raises(
        RuntimeError,
        match=r"^cudaMallocFromPoolAsync of \d+ bytes: .*\(cudaErrorMemoryAllocation\)",
    ):
        layer.backward(layer.forward(big)[2], normal("float32", 40, 60, 24))
    for name, a in layer.grads.items():
        np.testing.assert_array_equal(a.numpy(), grads[name])
    emulated()
    np.testing.assert_array_equal(layer(x, state)[0].numpy(), expected)


@pytest.mark.parametrize("batch_first", [False, True])
def test_backward_out_of_memory_leaves_gradients(batch_first, emulated):
    layer = make("rnn_tanh", sizes=(300, 2), batch_first=batch_first)
    x, dy = normal("float32", 5, 10, 300), normal("float32", 5, 10, 2)
    tape = layer.forward(x)[2]
    for failed in range(100):
        emulated(memory=2**16 + failed * 2**12)
        try:
            layer.backward(tape, dy)
            break
        except RuntimeError:
            assert not any(grad.numpy().any() for grad in layer.grads.values())
    assert 0 < failed < 99
    assert layer.grads["weight_hh_l0"].numpy().any()
