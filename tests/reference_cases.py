# SPDX-License-Identifier: MIT
"""What the tests of the reference share: an error, a derivative, a random layer of every cell."""

import numpy as np
from fusedrnn.weights import CELLS, Weights

COMPLEX_STEP = 1e-50  # its square vanishes beside 1: what is left is the derivative
GRADIENT_ERROR = 1e-13  # relative max-norm, float64; measured: at most 2e-15
SAME_SUMS = 1e-14  # the same float64 sums in another order; measured: at most 4e-16
FLOAT32_ERROR = 2e-6  # float32 against float64; measured: at most 5e-7
NORM_FLOAT32_ERROR = 3e-5  # with norms, of 6 units; measured, over 200 seeds: at most 2.4e-5

T, N, I, H = 5, 3, 4, 6

# Every cell with the width P of its h, which is H but for a projection.
FORMS = [(cell, H) for cell in CELLS] + [(cell, 2) for cell in CELLS if CELLS[cell].projects]


def error(got, wanted):
    """Relative error in the max-norm; another shape or a NaN never passes."""
    got, wanted = np.asarray(got), np.asarray(wanted)
    assert got.shape == wanted.shape
    assert np.isfinite(got).all()
    return np.abs(got - wanted).max() / np.abs(wanted).max()


def complex_step(f, arrays, name):
    """The derivative of the number f(arrays) by each element of arrays[name]."""
    arrays = {k: a.astype(complex) for k, a in arrays.items()}
    derivative = np.empty(arrays[name].shape)
    for index in np.ndindex(derivative.shape):
        before = arrays[name][index]
        arrays[name][index] += 1j * COMPLEX_STEP
        derivative[index] = f(arrays).imag / COMPLEX_STEP
        arrays[name][index] = before
    return derivative


def make(cell, *, P=H, bias=True, dtype=np.float64):
    """All that a layer's output depends on, by name, and the gradients of a loss by y, state_n."""
    rng = np.random.default_rng(list(CELLS).index(cell))
    rows = CELLS[cell].gates * H
    shapes = {"x": (T, N, I), "weight_ih": (rows, I), "weight_hh": (rows, P)}
    widths = dict(zip(CELLS[cell].state_letters, (P, H), strict=False))
    shapes |= {f"{letter}_0": (N, width) for letter, width in widths.items()}
    shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)} if bias else {}
    shapes |= {"weight_ch": (CELLS[cell].peepholes * H,)} if CELLS[cell].peepholes else {}
    shapes |= {"weight_hr": (P, H)} if P < H else {}
    if CELLS[cell].layer_norm:
        shapes |= {"weight_ln_ih": (rows,), "weight_ln_hh": (rows,)}
        shapes |= (
            {"weight_ln_ch": (H,), "bias_ln_ch": (H,)} if "c" in CELLS[cell].state_letters else {}
        )
    arrays = {k: (0.7 * rng.standard_normal(shape)).astype(dtype) for k, shape in shapes.items()}
    dy = rng.standard_normal((T, N, P)).astype(dtype)
    dstate = tuple(rng.standard_normal((N, width)).astype(dtype) for width in widths.values())
    return arrays, dy, dstate


def split(cell, arrays):
    """The arguments x, state, weights of a layer."""
    state = tuple(arrays[f"{letter}_0"] for letter in CELLS[cell].state_letters)
    return arrays["x"], state, Weights(*(arrays.get(name) for name in Weights._fields))
