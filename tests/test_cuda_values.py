# SPDX-License-Identifier: MIT
"""`fusedrnn.cuda.Array`: the values it holds, there and back, and those it refuses."""

import fusedrnn
import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("cuda")


@pytest.mark.parametrize("dtype", ["float32", "int32", "int64"])
def test_there_and_back(dtype):
    a = np.arange(24).reshape(2, 3, 4).astype(dtype)
    array = fusedrnn.cuda.Array(a)
    assert (array.shape, array.dtype, array.nbytes) == (a.shape, dtype, a.nbytes)
    assert array.device == "cuda:0"
    np.testing.assert_array_equal(array.numpy(), a)
    array.copy_from(a[::-1])
    np.testing.assert_array_equal(array.numpy(), a[::-1])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int64"])
def test_a_number(dtype):
    array = fusedrnn.cuda.Array(np.array(3, "int64" if dtype == "int64" else "float32"), dtype)
    assert array.shape == array.numpy().shape == ()
    assert array.numpy() == 3


def test_bfloat16_is_rounded_to_nearest_even():
    ties = np.array([1 + 2.0**-8, 1 + 3 * 2.0**-8, 1 + 2.0**-8 + 2.0**-20, -1 - 2.0**-8])
    expected = [1, 1 + 2.0**-6, 1 + 2.0**-7, -1]
    np.testing.assert_array_equal(fusedrnn.cuda.Array(ties, "bfloat16").numpy(), expected)
    odd = np.array([np.inf, -np.inf, np.nan, -np.nan, 3.4e38, 0.0, -0.0], np.float32)
    got = fusedrnn.cuda.Array(odd, "bfloat16").numpy()
    np.testing.assert_array_equal(got, [np.inf, -np.inf, np.nan, np.nan, np.inf, 0, 0])
    assert np.signbit(got[[1, 6]]).all()


def test_numpy_takes_none_by_itself():
    array = fusedrnn.cuda.Array(np.ones(3, np.float32))
    for call in (np.asarray, np.array, np.sum, lambda a: np.ones(3) + a, lambda a: np.float64(a)):
        with pytest.raises(TypeError, match=r"^Array: expected a call of \.numpy\(\)"):
            call(array)


REFUSED = [
    (
        (np.zeros(3),),
        TypeError,
        "dtype: expected one of float32, bfloat16, int32, int64, got float64",
    ),
    (
        (np.zeros(3), "float16"),
        TypeError,
        "dtype: expected float32 or bfloat16 or int32 or int64, got 'float16'",
    ),
    (
        (np.zeros(3), "int32"),
        TypeError,
        "values: expected integers for dtype int32, got dtype float64",
    ),
    (
        (np.zeros((0, 3)), "float32"),
        ValueError,
        r"values: expected sizes >= 1, got shape \(0, 3\)",
    ),
    (
        (np.zeros(3), "float32", "cpu"),
        ValueError,
        "device: expected cuda or cuda:0, cuda:1, ..., got 'cpu'",
    ),
    ((np.zeros(3), "float32", "gpu"), ValueError, "device: expected cpu, cuda or cuda:0"),
    ((np.zeros(3), "float32", "cuda:x"), ValueError, "device: expected cpu, cuda or cuda:0"),
    ((np.zeros(3), "float32", "cuda:"), ValueError, "device: expected cpu, cuda or cuda:0"),
    ((np.zeros(3), "float32", "cuda:9999999999"), ValueError, "device: expected cpu, cuda or"),
    ((np.zeros(3), "float32", 0), TypeError, "device: expected str, got int"),
    ((np.zeros(3), "float32", "cuda:7"), ValueError, "device: expected cuda:0 to cuda:0, got"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), REFUSED)
def test_what_arrays_refuse(arguments, error, message):
    with pytest.raises(error, match=f"^{message}"):
        fusedrnn.cuda.Array(*arguments)


def test_what_is_copied_in():
    with pytest.raises(ValueError, match=r"^values: expected shape \(2,\), got \(3,\)"):
        fusedrnn.cuda.Array(np.zeros(2, np.float32)).copy_from(np.zeros(3))
    for dtype in (np.float16, np.float64, np.longdouble):
        for name in ("float32", "bfloat16"):
            array = fusedrnn.cuda.Array(np.zeros(2, dtype), name)
            array.copy_from(np.array([1.5, -2], dtype))
            np.testing.assert_array_equal(array.numpy(), [1.5, -2])
    for dtype in (np.int8, np.uint64):
        array = fusedrnn.cuda.Array(np.zeros(2, dtype), "int32")
        array.copy_from(np.array([1, 127], dtype))
        np.testing.assert_array_equal(array.numpy(), [1, 127])


OTHERS = [([1j], "complex128"), (["3"], "<U1"), ([True], "bool"), ([2**70], "object")]
OTHER_KINDS = {
    "floats": (("float32", "bfloat16"), [*OTHERS, ([3], "int64")]),
    "integers": (("int32", "int64"), [*OTHERS, ([1.7], "float64"), ([np.nan], "float64")]),
}
NO_CAST = [
    (dtype, values, TypeError, f"expected {wanted} for dtype {dtype}, got dtype {got}")
    for wanted, (dtypes, given) in OTHER_KINDS.items()
    for dtype in dtypes
    for values, got in given
]
NO_CAST += [
    (dtype, [n], ValueError, f"expected integers that {dtype} holds, got {n}")
    for dtype, n in (("int32", 2**31), ("int32", -(2**31) - 1), ("int64", 2**63))
]


@pytest.mark.parametrize(("dtype", "values", "error", "message"), NO_CAST)
def test_values_are_not_cast(dtype, values, error, message):
    kind = np.float32 if "float" in dtype else np.int32
    array = fusedrnn.cuda.Array(np.ones(1, kind), dtype)
    for call in (lambda: fusedrnn.cuda.Array(values, dtype), lambda: array.copy_from(values)):
        with pytest.raises(error, match=f"^values: {message}$"):
            call()
    assert array.numpy() == 1
