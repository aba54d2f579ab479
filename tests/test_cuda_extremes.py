# SPDX-License-Identifier: MIT
"""The device at extremes: more elements than a launch has threads, gates far from 0, NaN."""

import fusedrnn
import numpy as np
import pytest
from cuda_cases import CELLS, DTYPES, I, N, T, check_parity, home, inputs, make, normal, step
from layer_cases import flat

THREADS = 1024 * 256
"""Of the largest launch that goes through an array: each then takes more than one element."""

pytestmark = pytest.mark.usefixtures("cuda")


@pytest.mark.parametrize("dtype", DTYPES)
def test_long_sums(dtype, cuda):
    core, shape = cuda.library.core(), (THREADS + 77,)
    a = np.random.default_rng(0).integers(-9, 9, (2, *shape)).astype(np.float32)
    arrays = [cuda.Array(each, dtype) for each in a]
    core.add(arrays[0]._buffer, arrays[1]._buffer, core.Stream(0, None))
    np.testing.assert_array_equal(arrays[1].numpy(), a[0] + a[1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_arrays_with_axes_swapped(dtype, cuda):
    core, shape = cuda.library.core(), (3, 5, THREADS // 15 + 7)
    a, to = normal(dtype, *shape), core.Buffer((5, 3, shape[2]), dtype, 0)
    core.swap_axes(a._buffer, to, core.Stream(0, None))
    np.testing.assert_array_equal(cuda.Array.of(to).numpy(), a.numpy().swapaxes(0, 1))


def check_results(layer, assert_close, steps, rows):
    x, state, *_ = inputs(layer, steps, rows)
    y, state_n = layer(x, state)
    expected, expected_n = layer.to("cpu", dtype=np.float64)(home(x), home(state))
    for a, b in zip((y, *flat(state_n)), (expected, *flat(expected_n)), strict=True):
        assert_close(a.numpy(), b, "y", str(layer.dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_large_state(dtype, assert_close):
    padded = 16
    check_results(make("lstm", dtype, (1, 1)), assert_close, 1, THREADS // padded + 5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_weights(dtype, assert_close):
    width = 264  # 4 gates of 272 by 272
    check_parity(make("lstm", dtype, (1, width)), assert_close, steps=2, rows=1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_gates_far_from_0(cell, dtype, assert_close):
    layer = make(cell, dtype)
    bias = layer.params["bias_ih_l0"]
    bias.copy_from(np.random.default_rng(0).choice([-100.0, 0.0, 100.0], bias.shape))
    check_results(layer, assert_close, T, N)


@pytest.mark.parametrize(("cell", "biases"), [("lstm", [-5.5, 20, 1, 20]), ("gru", [0, 20, 1])])
def test_what_grows_over_many_steps_is_float32(cell, biases):
    """c, and the gradients of a state: in bfloat16 a sum of 256 stays so when 1 is added."""
    layer, steps = make(cell, "bfloat16", (1, 1)), 400
    for name, a in layer.params.items():
        a.copy_from(np.array(biases, float) if name == "bias_ih_l0" else np.zeros(a.shape))
    x, dy = (fusedrnn.cuda.Array(np.full((steps, 1, 1), v), "bfloat16") for v in (0.0, 1.0))
    results = step(layer, x, None, None, dy, None)
    expected = step(layer.to("cpu", dtype=np.float64), x, None, None, dy, None, home)
    for name in [name for name in results if "state" in name]:
        a, b = results[name].numpy(), expected[name]
        np.testing.assert_allclose(a, b, rtol=0.01, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_nan_stays_nan_in_its_row(cell, dtype):
    layer, x = make(cell, dtype), normal(dtype, T, N, I)
    values = x.numpy()
    values[1, 2] = np.nan
    expected, (y, state_n) = layer(x)[0].numpy(), layer(fusedrnn.cuda.Array(values, dtype))
    expected[1:, 2] = np.nan
    np.testing.assert_array_equal(y.numpy(), expected)
    for part in flat(state_n):
        assert (np.isnan(part.numpy()) == (np.arange(N) == 2)[:, np.newaxis]).all()
