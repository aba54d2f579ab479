# SPDX-License-Identifier: MIT
"""Truncated backpropagation by chunks, against the double loop that says what it means."""

import re
import tracemalloc

import fusedrnn
import numpy as np
import pytest
from layer_cases import LAYERS, flat

T, N, I, H = 11, 2, 3, 5


def problem(name, **options):
    layer = LAYERS[name](I, H, num_layers=2, dtype=np.float64, seed=0, **options)
    rng = np.random.default_rng(0)
    return layer, rng.standard_normal((T, N, I)), rng.standard_normal((T, N, H))


def by_definition(layer, x, dy, k1, k2):
    """Every window by itself, its state from a run over all that came before."""
    layer.zero_grad()
    for start in range(0, T, k1):
        end = min(start + k1, T)
        first = max(start + k1 - k2, 0)
        state = layer(x[:first])[1] if first else None
        y, _, tape = layer.forward(x[first:end], state)
        error = np.zeros_like(y)
        error[start - first :] = dy[start:end]
        layer.backward(tape, error)
    return {name: grad.copy() for name, grad in layer.grads.items()}


@pytest.mark.parametrize(
    ("k1", "k2"), [(1, 1), (1, 4), (3, 3), (3, 6), (4, 12), (11, 11), (20, 20)]
)
@pytest.mark.parametrize("name", LAYERS)
def test_equals_the_definition(name, k1, k2):
    layer, x, dy = problem(name)
    wanted = by_definition(layer, x, dy, k1, k2)
    layer.zero_grad()
    outputs = []
    for chunk in fusedrnn.chunks(layer, x, k1, k2):
        chunk.backward(dy[chunk.steps])
        outputs.append(chunk.y)
    for key, value in wanted.items():
        np.testing.assert_array_equal(layer.grads[key], value, err_msg=key)
    y, state = layer(x)
    np.testing.assert_array_equal(np.concatenate(outputs), y)
    for a, b in zip(flat(chunk.state), flat(state), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("k1", "k2"), [(1, 1), (2, 4), (3, 6), (4, 4), (20, 20)])
@pytest.mark.parametrize("name", LAYERS)
def test_rows_end_and_begin_anew_as_in_a_batch_of_their_own(name, k1, k2):
    """Each row by itself, without its padding, and cut where it is reset."""
    layer, x, dy = problem(name)
    lengths, resets = np.array([9, 4]), np.zeros((T, N), bool)
    resets[[2, 5], [0, 0]] = resets[[0, 3], [1, 1]] = True
    layer.zero_grad()
    for chunk in fusedrnn.chunks(layer, x, k1, k2, None, lengths, resets):
        chunk.backward(dy[chunk.steps])
        outputs = layer(x[: chunk.steps.stop], None, np.minimum(lengths, chunk.steps.stop),
                        resets[: chunk.steps.stop])[0]  # fmt: skip
        np.testing.assert_array_equal(chunk.y, outputs[chunk.steps])
    assert chunk.steps.stop == 9
    got = {name: grad.copy() for name, grad in layer.grads.items()}
    layer.zero_grad()
    for n, length in enumerate(lengths):
        row = slice(n, n + 1)
        for chunk in fusedrnn.chunks(
            layer, x[:length, row].copy(), k1, k2, resets=resets[:length, row].copy()
        ):
            chunk.backward(dy[chunk.steps, row].copy())
    for key, grad in layer.grads.items():
        np.testing.assert_allclose(got[key], grad, rtol=1e-10, atol=1e-13, err_msg=key)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"lengths": np.array([1, T + 1])}, "lengths: expected 0 to T = 11, got 1 to 12"),
        ({"resets": np.zeros((T + 1, N), bool)}, "resets: expected shape (T, N) = (11, 2)"),
    ],
)
def test_forms_that_do_not_fit(options, text):
    layer, x, _ = problem("gru")
    with pytest.raises(ValueError, match=re.escape(text)):
        fusedrnn.chunks(layer, x, 2, **options)  # at once, not at the first chunk


@pytest.mark.parametrize(
    ("x", "state", "text"),
    [
        (np.ones((T, N, I + 1)), None, r"x: expected shape \(T, N, I\) with I = 3"),
        (np.ones((T, N, I), np.float32), None, "x: expected dtype float64, got float32"),
        (np.ones((T, 2 * N, I))[:, ::2], None, "x: expected C-contiguous"),
        (np.ones((T, 0, I)), None, "x: expected T, N, I >= 1"),
        (np.ones((T, N, I)), np.zeros((2, N + 1, H)), r"h_0: expected shape \(L\*D, N, H\)"),
    ],
)
def test_what_is_refused_takes_no_draw(x, state, text):
    """At once as well: nothing was learned from the chunks before."""
    layer, good, _ = problem("gru", dropout=0.5)
    other, _, _ = problem("gru", dropout=0.5)
    with pytest.raises((TypeError, ValueError), match=text):
        fusedrnn.chunks(layer, x, 2, state=state)
    assert (layer.forward(good)[0] == other.forward(good)[0]).all()


def test_weights_may_change_between_chunks():
    layer, x, dy = problem("gru")
    for chunk in fusedrnn.chunks(layer, x, 2, 4):
        layer.zero_grad()
        chunk.backward(dy[chunk.steps])
        for name, p in layer.params.items():
            p -= 0.1 * layer.grads[name]
    assert all(np.isfinite(p).all() for p in layer.params.values())


@pytest.mark.parametrize(
    ("options", "arguments", "text"),
    [
        ({"bidirectional": True}, (2,), "layer: expected one direction"),
        ({"batch_first": True}, (2,), "layer: expected one direction"),
        ({}, (0,), "k1: expected"),
        ({}, (2, 3), "k2: expected a multiple of k1 = 2, got 3"),
    ],
)
def test_wrong_arguments(options, arguments, text):
    layer, x, _ = problem("lstm", **options)
    with pytest.raises(ValueError, match=text):
        fusedrnn.chunks(layer, x, *arguments)


@pytest.mark.parametrize(
    ("x", "text"),
    [
        ([1.0], "x: expected ndarray"),
        (np.ones(3), r"x: expected shape \(T, N, I\) with I = 3, got \(3,\)"),
        (np.float64(1), "x: expected ndarray"),
        (np.ones(()), r"x: expected shape \(T, N, I\) with I = 3, got \(\)"),
        (np.ones((0, N, I)), r"x: expected T, N, I >= 1, got shape \(0, 2, 3\)"),
        (np.ones((8, N, I, 2)), r"x: expected shape .*, got \(8, 2, 3, 2\)"),
        (np.ones((8, N, 5)), r"x: expected shape .*, got \(8, 2, 5\)"),
        (np.ones((8, N)), r"x: expected shape .*, got \(8, 2\)"),
        (np.ones((8, N, I), int), r"x: expected integers .*, got shape \(8, 2, 3\)"),
        (np.ones((8, 0), int), r"x: expected integers .*, got shape \(8, 0\)"),
    ],
)
def test_wrong_inputs(x, text):
    layer, _, _ = problem("lstm")
    with pytest.raises((TypeError, ValueError), match=text):
        fusedrnn.chunks(layer, x, 2)


def test_tokens_are_read_when_their_chunk_comes():
    layer = problem("lstm")[0]
    x = np.zeros((10**6, N), np.int32)
    x[4] = I
    tracemalloc.start()
    chunks = fusedrnn.chunks(layer, x, 2)
    assert tracemalloc.get_traced_memory()[1] < x.nbytes / 10
    tracemalloc.stop()
    next(chunks), next(chunks)
    with pytest.raises(ValueError, match=r"^x: expected tokens in 0..2, got 3"):
        next(chunks)


def test_what_is_no_layer():
    with pytest.raises(TypeError, match=r"^layer: expected RNN, LSTM or GRU, got NoneType"):
        fusedrnn.chunks(None, np.ones((T, N, I)), 2)


def test_wrong_gradient():
    layer, x, dy = problem("lstm")
    with pytest.raises(ValueError, match="dy: expected shape"):
        next(fusedrnn.chunks(layer, x, 2)).backward(dy)


def test_the_arrays_of_a_caller_are_copied():
    """But x: a chunk is what it would have been, whatever became of them, and of chunk.state."""
    layer, x, dy = problem("lstm")
    lengths, resets = np.array([T, 4]), np.zeros((T, N), bool)
    resets[5] = True
    state = tuple(np.ones((2, N, H)) for _ in "hc")
    found = []
    for overwritten in (False, True):
        layer.zero_grad()
        given = tuple(part.copy() for part in state), lengths.copy(), resets.copy()
        chunks = fusedrnn.chunks(layer, x, 3, 6, *given)
        outputs = []
        while True:
            if overwritten:
                for a in (*given[0], *given[1:]):
                    a[...] = 1
            if (chunk := next(chunks, None)) is None:
                break
            outputs.append(chunk.y)
            if overwritten:
                for part in chunk.state:
                    part[...] = 7
            chunk.backward(dy[chunk.steps])
        found.append((*outputs, *(grad.copy() for grad in layer.grads.values())))
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_noise_that_is_given_holds_for_options_set_later():
    layer, x = fusedrnn.GRU(3, 4, seed=0), np.ones((6, 2, 3), np.float32)
    pieces = fusedrnn.chunks(layer, x, 2, noise=fusedrnn.Noise(1))
    layer.recurrent_dropout = 0.5
    y = np.concatenate([piece.y for piece in pieces])
    np.testing.assert_array_equal(y, layer.forward(x, noise=fusedrnn.Noise(1))[0])
