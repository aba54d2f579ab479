# SPDX-License-Identifier: MIT
"""What the tests of lengths and resets share: sizes, the forms of both, and a comparison."""

import numpy as np
import pytest

T, N, I, H = 9, 6, 5, 21
LENGTHS = np.array([3, 9, 0, 7, 7, 1])
FORMS = {
    "lengths": (LENGTHS, False),
    "resets": (None, True),
    "lengths_and_resets": (LENGTHS, True),
}
each_form = pytest.mark.parametrize("form", FORMS)


def form_of(name, steps=T, rows=N):
    """The arguments lengths and resets, those that there are."""
    lengths, has_resets = FORMS[name]
    resets = np.random.default_rng(3).random((steps, rows)) < 0.3 if has_resets else None
    if lengths is not None and rows != N:
        lengths = np.random.default_rng(4).integers(0, steps + 1, rows)
    form = {"lengths": lengths, "resets": resets}
    return {name: array for name, array in form.items() if array is not None}


def assert_results(assert_close, got, wanted):
    assert got.keys() == wanted.keys()
    for name, value in got.items():
        assert_close(value, wanted[name], "y" if name == "y" or name[-2:] == "_n" else "grad")
