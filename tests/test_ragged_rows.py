# SPDX-License-Identifier: MIT
"""Rows of unequal sequences, taken out of their padding and put back: against NumPy's indices."""

import fusedrnn
import numpy as np
import pytest
from fusedrnn import _core
from fusedrnn.ragged import Ragged, valid_steps
from hypothesis import given
from hypothesis import strategies as st

LENGTHS = np.array([3, 9, 0, 7, 7, 1])
T, N = 12, len(LENGTHS)  # beyond the longest


def values(dtype, *shape):
    return (np.random.default_rng(0).random((T, N, *shape)) * 9).astype(dtype)


def halves(a):
    return np.concatenate([a, a], axis=2)[:, :, : a.shape[2]]


@pytest.mark.parametrize("form", [np.asarray, halves], ids=["whole", "half"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool"])
def test_against_indices(dtype, form, threads):
    threads(3)
    ragged, a = Ragged(LENGTHS, T), form(values(dtype, 5))
    wanted = a[ragged.places()]
    assert len(wanted) == LENGTHS.sum()
    packed = ragged.pack(a)
    np.testing.assert_array_equal(packed, wanted[np.newaxis])
    out = form(np.full(a.shape, 7, dtype))
    ragged.put(packed, out)
    valid = valid_steps(LENGTHS, T)
    np.testing.assert_array_equal(out, np.where(valid[..., np.newaxis], a, np.full(1, 7, dtype)))
    ragged.unpack(packed, out)
    np.testing.assert_array_equal(out, a * valid[..., np.newaxis])
    np.testing.assert_array_equal(ragged.unpack(packed), out)


def test_values_without_a_third_axis():
    ragged, a = Ragged(LENGTHS, T), values("int64")
    np.testing.assert_array_equal(ragged.pack(a)[0], a[ragged.places()])


def test_many_threads_have_the_rows_of_one(threads):
    lengths = np.random.default_rng(1).integers(0, 301, 40)
    a = np.random.default_rng(2).random((300, 40, 33))
    results = []
    for n in (1, 2, 5):
        threads(n)
        ragged = Ragged(lengths, 300)
        results.append((ragged.pack(a), ragged.unpack(ragged.pack(a))))
    for packed, unpacked in results[1:]:
        np.testing.assert_array_equal(packed, results[0][0])
        np.testing.assert_array_equal(unpacked, results[0][1])


def test_what_does_not_fit_is_refused():
    r, a = Ragged(LENGTHS, T), values("float32", 5)
    packed = r.pack(a)
    good = {"padded": a, "order": r.order, "first_row": r.first_row, "packed": packed}
    _core.pack_rows(**good)
    fixed = a.copy()
    fixed.flags.writeable = False
    for name, bad, text in (
        ("padded", a[:, 0, 0].copy(), "padded: expected shape"),
        ("padded", a[:, :, ::2], "padded: expected contiguous rows"),
        ("padded", a[::-1], "padded: expected contiguous rows evenly apart"),
        ("padded", np.broadcast_to(a[:1], a.shape), "padded: expected"),
        ("padded", a[:4], "first_row: expected at most T steps"),
        ("padded", a[:, :5], "order: expected shape"),
        ("order", r.order[:4].copy(), "order: expected shape"),
        ("order", r.order + 1, "order: expected each of"),
        ("order", r.order * 0, "order: expected each of"),
        ("first_row", r.first_row[::-1].copy(), "first_row: expected 0 to R"),
        ("first_row", np.arange(3) * 7, "first_row: expected at most"),
        ("packed", packed[:, 1:].copy(), "packed: expected shape"),
        ("packed", packed[0], "packed: expected shape"),
        ("packed", np.zeros((1, 27, 10), "f")[:, :, ::2], "packed: expected C-contiguous"),
        ("packed", a.reshape(-1, 5)[np.newaxis, : packed.shape[1]], "packed: expected memory"),
    ):
        for zeros in (None, True, False):
            with pytest.raises(ValueError, match=f"^{text}"):
                call(good | {name: bad}, zeros)
    with pytest.raises(ValueError, match=r"^padded: expected a writable"):
        call(good | {"padded": fixed}, True)
    for name in ("padded", "packed"):
        for bad in (good[name].astype("O"), good[name].astype("c8"), np.ma.array(good[name])):
            for zeros in (None, True):
                with pytest.raises(TypeError, match=r"^pa.*ed: expected "):
                    call(good | {name: bad}, zeros)


def test_the_order_is_what_it_was_when_it_was_checked():
    memory = np.arange(9)
    order, into = memory[:8], memory[1:].reshape(1, 8)
    _core.pack_rows(np.full((1, 8), 2**40), order, np.array([0, 8]), into)
    assert (into == 2**40).all()


def test_rows_of_one_sequence_or_step_have_any_stride():
    """NumPy calls an array C-contiguous whatever the stride of an axis of size 1."""
    gru, lengths = fusedrnn.GRU(3, 4, seed=0), np.array([5])
    x = np.random.default_rng(0).random((6, 1, 3), dtype=np.float32)
    wanted, flipped = gru(x, lengths=lengths)[0], np.flip(x, 1)
    assert flipped.flags.c_contiguous
    np.testing.assert_array_equal(gru(flipped, lengths=lengths)[0], wanted)
    tape = gru.forward(flipped, lengths=lengths)[2]
    dx = gru.backward(tape, np.flip(np.ones_like(wanted), 1))[0]
    assert dx[:5].all()
    assert not dx[5].any()


def test_unsigned_lengths_and_orders():
    wanted = Ragged(LENGTHS, T)
    np.testing.assert_array_equal(Ragged(LENGTHS.astype("u1"), T).rows, wanted.rows)
    np.testing.assert_array_equal(Ragged(LENGTHS, T, wanted.order[:]).first_row, wanted.first_row)
    with pytest.raises(ValueError, match=r"^order: expected the longest row first, got rows of \["):
        Ragged(LENGTHS, T, np.arange(N))


@given(st.integers(0, 9), st.lists(st.integers(0, 9), min_size=1, max_size=9))
def test_where_steps_begin(more, lengths):
    longest, lengths = max(lengths), np.array(lengths)
    order, first_row = _core.longest_first(lengths, longest + more)
    np.testing.assert_array_equal(order, np.argsort(-lengths, kind="stable"))
    counts = [np.count_nonzero(lengths > t) for t in range(longest)]
    np.testing.assert_array_equal(first_row, np.cumsum([0, *counts]))


@pytest.mark.parametrize(
    ("lengths", "kind", "text"),
    [
        (np.array([1, 6]), ValueError, "lengths: expected 0 to T = 5, got 1 to 6"),
        (np.array([-1, 1]), ValueError, "lengths: expected 0 to T = 5, got -1 to 1"),
        (np.array([], np.int64), ValueError, "lengths: expected at least one, got none"),
        (np.ones((1, 2), np.int64), ValueError, r"lengths: expected shape \(2,\), got \(1, 2\)"),
        (np.ones(2), TypeError, "lengths: expected int64, got float64"),
        ([1, 2], TypeError, "lengths: expected numpy.ndarray, got list"),
    ],
)
def test_lengths_that_are_none(lengths, kind, text):
    with pytest.raises(kind, match=f"^{text}$"):
        _core.longest_first(lengths, 5)


def test_rows_of_another_batch():
    x, w = np.ones((5, 4, 3), np.float32), fusedrnn.LSTM(3, 4, seed=0)._weights()[0]
    for lengths, steps in (([3, 0, 2, 3], 3), ([3, 0, 2, 3], 7), ([5, 5, 1], 5)):
        ragged, text = Ragged(np.array(lengths), steps), r"lengths: expected those of \(T, N\) = "
        for engine in (fusedrnn.functional, fusedrnn.reference):
            with pytest.raises(ValueError, match=f"^{text}"):
                engine.forward("lstm", x, None, w, lengths=ragged)


def call(arrays, zeros):
    if zeros is None:
        _core.pack_rows(**arrays)
    else:
        _core.unpack_rows(**arrays, zeros=zeros)
