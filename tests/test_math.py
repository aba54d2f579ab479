# SPDX-License-Identifier: MIT
"""exp, tanh and sigmoid as the kernels compute them: error bounds over all 2^32 floats."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fusedrnn import _core

# Units in the last place, as csrc/cpu/math.h states them
BOUNDS = {"exp": 1.1, "tanh": 2.5, "sigmoid": 2.5}
FLOAT64_BOUND = 4.0  # numpy's own error, up to one unit, is in it
SMALLEST = {"float32": 2.0**-149, "float64": 2.0**-1074}
VANISHING = 2.0**-126  # a float32 sigmoid below this may be 0


def kernel(name, x):
    out = np.full_like(x, np.nan)
    _core.activation(name, x, out)
    return out


def exact(name, x):
    if name == "sigmoid":
        e = np.exp(-np.abs(x))
        return np.where(x < 0, e, 1) / (1 + e)
    return getattr(np, name)(x)


def error_in_ulp(got, wanted, dtype):
    """The unit is that of dtype at wanted (float64), at least the smallest subnormal."""
    power_of_two = (wanted.view(np.uint64) & np.uint64(0x7FF0_0000_0000_0000)).view(np.float64)
    unit = np.maximum(power_of_two * 0.5 ** np.finfo(dtype).nmant, SMALLEST[np.dtype(dtype).name])
    return np.abs(got - wanted) / unit


def check_float32(name, bits):
    """The worst error at these floats, which are in order."""
    x = bits.view(np.float32)
    got, nan = kernel(name, x), np.isnan(x)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        ends = exact(name, x[[0, -1]].astype(np.float64)).astype(np.float32)
    if np.signbit(x[0]) == np.signbit(x[-1]) and (got == ends[0]).all() and ends[0] == ends[1]:
        return 0.5  # all functions are monotonic
    if nan.any():
        assert np.isnan(got[nan]).all()
        x, got = x[~nan], got[~nan]
    assert not np.isnan(got).any()
    with np.errstate(over="ignore", under="ignore"):
        wanted = exact(name, x.astype(np.float64))
        counted = np.isfinite(rounded := wanted.astype(np.float32))
    np.testing.assert_array_equal(got[~counted], rounded[~counted])
    if name == "sigmoid":
        vanishing = wanted < VANISHING
        assert ((got[vanishing] >= 0) & (got[vanishing] <= VANISHING)).all()
        counted &= ~vanishing
    if not counted.all():
        got, wanted = got[counted], wanted[counted]
    return float(error_in_ulp(got, wanted, np.float32).max(initial=0))


def worst_error(name, stride):
    """Over every stride-th of all 2^32 floats; NumPy lets go of the GIL, so two threads help."""
    size = 2**16 * stride  # arrays that stay in the cache

    def part(first):
        bits = np.arange(first, min(first + size, 2**32), stride, dtype=np.int64)
        return check_float32(name, bits.astype(np.uint32))

    with ThreadPoolExecutor(2) as pool:
        return max(pool.map(part, range(0, 2**32, size)))


@pytest.mark.parametrize("name", BOUNDS)
def test_a_sample_of_all_floats(name, isa):
    assert worst_error(name, 4999) <= BOUNDS[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", BOUNDS)
def test_all_floats(name):
    """Proves the bounds on the best instruction set; the others: the next test."""
    assert worst_error(name, 1) <= BOUNDS[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", BOUNDS)
def test_all_floats_same_bits_with_fma(name, set_isa):
    fused = [isa for isa in _core.isas() if isa != "baseline"]
    if len(fused) < 2:
        pytest.skip("fewer than two instruction sets with fused multiply-add")
    step = 2**24
    for first in range(0, 2**32, step):
        x = np.arange(first, first + step, dtype=np.int64).astype(np.uint32).view(np.float32)
        results = []
        for isa in fused:
            set_isa(isa)
            results.append(kernel(name, x).view(np.uint32))
        # which NaN comes out of a NaN is not promised
        assert ((results[0] == results[1]) | np.isnan(x)).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", BOUNDS)
def test_all_floats_on_the_baseline(name, set_isa):
    """Without fused multiply-add: one float in 61, a step that divides no power of two."""
    set_isa("baseline")
    assert worst_error(name, 61) <= BOUNDS[name]


@pytest.mark.parametrize("name", BOUNDS)
def test_float64(name, isa):
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-s, s, 200_000) for s in (1e-3, 0.4, 1, 30, 700)])
    with np.errstate(under="ignore", over="ignore"):
        wanted = exact(name, x)
    finite = np.isfinite(wanted)
    error = error_in_ulp(kernel(name, x)[finite], wanted[finite], np.float64)
    assert error.max() <= FLOAT64_BOUND


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_special_values(dtype, isa):
    tiny = SMALLEST[dtype]
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, tiny, -tiny], dtype)
    np.testing.assert_array_equal(
        kernel("tanh", x), np.array([0.0, -0.0, 1, -1, np.nan, tiny, -tiny], dtype)
    )
    assert np.signbit(kernel("tanh", x)[[1, 3, 6]]).all()
    np.testing.assert_array_equal(
        kernel("sigmoid", x), np.array([0.5, 0.5, 1, 0, np.nan, 0.5, 0.5], dtype)
    )
    np.testing.assert_array_equal(
        kernel("exp", x), np.array([1, 1, np.inf, 0, np.nan, 1, 1], dtype)
    )


def test_every_length_and_lane(isa):
    """A value's bits do not depend on where in a vector it stands."""
    x = np.linspace(-8, 8, 40, dtype=np.float32)
    for name in BOUNDS:
        whole = kernel(name, x)
        for n in range(1, 40):
            np.testing.assert_array_equal(kernel(name, x[:n]), whole[:n])
            np.testing.assert_array_equal(kernel(name, x[n:]), whole[n:])
