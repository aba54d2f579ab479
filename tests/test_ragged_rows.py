# SPDX-License-Identifier: MIT
"""Rows of unequal sequences, taken out of their padding and put back: against NumPy's indices."""

import numpy as np
import pytest
from fusedrnn import _core
from fusedrnn.ragged import Ragged, valid_steps

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
    wanted = a[ragged.t, ragged.n]
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
    np.testing.assert_array_equal(ragged.pack(a)[0], a[ragged.t, ragged.n])


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
        ("padded", a[::-1], "padded: expected rows in the order"),
        ("padded", a[:4], "first_row: expected at most T steps"),
        ("padded", a[:, :3], "order: expected shape"),
        ("order", r.order[:4].copy(), "order: expected shape"),
        ("order", r.order + 1, "order: expected rows in"),
        ("first_row", r.first_row[::-1].copy(), "first_row: expected 0 to R"),
        ("first_row", np.arange(3) * 7, "first_row: expected at most"),
        ("packed", packed[:, 1:].copy(), "packed: expected C-contiguous"),
        ("packed", np.zeros((1, 27, 10), "f")[:, :, ::2], "packed: expected C-contiguous"),
        ("packed", a.reshape(-1, 5)[np.newaxis, : packed.shape[1]], "packed: expected memory"),
    ):
        for zeros in (None, True, False):
            with pytest.raises(ValueError, match=f"^{text}"):
                call(good | {name: bad}, zeros)
    with pytest.raises(ValueError, match=r"^padded: expected a writeable"):
        call(good | {"padded": fixed}, True)
    for bad in (np.array([[None]]), np.zeros((T, N), "c16")):
        with pytest.raises(TypeError, match=r"^padded: expected floats, integers or bool"):
            call(good | {"padded": bad}, None)


def call(arrays, zeros):
    if zeros is None:
        _core.pack_rows(**arrays)
    else:
        _core.unpack_rows(**arrays, zeros=zeros)
