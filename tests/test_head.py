# SPDX-License-Identifier: MIT
"""Linear and softmax_cross_entropy: against NumPy, the reference and PyTorch; bad arguments."""

import math

import numpy as np
import pytest
from fusedrnn import Linear, reference, softmax_cross_entropy

DTYPES = (np.float32, np.float64)
SHAPES = [(1,), (4, 3), (2, 3, 5), (70, 1, 2)]  # what comes before the last size


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("lead", SHAPES, ids=str)
@pytest.mark.parametrize(("I", "O"), [(1, 1), (5, 3), (17, 33)])
def test_linear(I, O, lead, bias, dtype, rng, assert_close):
    layer = Linear(I, O, bias=bias, dtype=dtype, seed=0)
    x, dy = (
        rng.standard_normal((*lead, I)).astype(dtype),
        rng.standard_normal((*lead, O)).astype(dtype),
    )
    weight = layer.params["weight"].astype(float)
    b = layer.params["bias"].astype(float) if bias else 0
    y, tape = layer.forward(x)
    assert y.dtype == dtype
    assert_close(y, x.astype(float) @ weight.T + b, "y")
    np.testing.assert_array_equal(layer(x), y)
    for times in (1, 2):
        dx = layer.backward(tape, dy)
        assert_close(dx, dy.astype(float) @ weight, "grad")
        rows, drows = x.reshape(-1, I).astype(float), dy.reshape(-1, O).astype(float)
        assert_close(layer.grads["weight"], times * drows.T @ rows, "grad")
        if bias:
            assert_close(layer.grads["bias"], times * drows.sum(axis=0), "grad")
    for a in layer.grads.values():
        a.fill(np.nan)
    layer.backward(tape, dy, accumulate=False)
    assert_close(layer.grads["weight"], drows.T @ rows, "grad")
    if bias:
        assert_close(layer.grads["bias"], drows.sum(axis=0), "grad")


def test_linear_is_torch_s(rng, assert_close):
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Linear(4, 3)
    layer = Linear(4, 3)
    layer.load_state_dict(theirs.state_dict())
    assert list(layer.params) == list(theirs.state_dict())
    x = rng.standard_normal((5, 4)).astype(np.float32)
    assert_close(layer(x), theirs(torch.tensor(x)).detach().numpy(), "y")


def test_linear_parameters():
    layer = Linear(4, 3, seed=1)
    assert {name: a.shape for name, a in layer.params.items()} == {"weight": (3, 4), "bias": (3,)}
    assert all(np.abs(a).max() <= 1 / math.sqrt(4) for a in layer.params.values())
    np.testing.assert_array_equal(layer.params["weight"], Linear(4, 3, seed=1).params["weight"])
    assert repr(layer) == "Linear(4, 3)"
    assert (
        repr(Linear(4, 3, bias=False, dtype=np.float64))
        == "Linear(4, 3, bias=False, dtype=float64)"
    )
    assert list(Linear(4, 3, bias=False).params) == ["weight"]


def test_linear_refuses():
    layer, other = Linear(4, 3), Linear(4, 3)
    x = np.ones((2, 4), np.float32)
    for bad, error, message in [
        (x.tolist(), TypeError, "x: expected ndarray of dtype float32, got list"),
        (x.astype(float), TypeError, "x: expected dtype float32, got float64"),
        (x[:, :3], ValueError, r"x: expected shape \(..., I\) with I = 4, got \(2, 3\)"),
        (np.array(1, np.float32), ValueError, r"x: expected shape \(..., I\) with I = 4, got \(\)"),
        (x[:0], ValueError, r"x: expected ..., I >= 1, got shape \(0, 4\)"),
        (np.ones((4, 4), np.float32)[::2], ValueError, "x: expected C-contiguous"),
    ]:
        for call in (layer, layer.forward):
            with pytest.raises(error, match=rf"^{message}"):
                call(bad)
    y, tape = layer.forward(x)
    for arguments, error, message in [
        ((None, y), TypeError, "tape: expected a LinearTape, got NoneType"),
        ((other.forward(x)[1], y), ValueError, "tape: .*another layer"),
        ((tape, y[:1]), ValueError, r"dy: expected shape \(..., O\) = \(2, 3\), got \(1, 3\)"),
        ((tape, y.astype(float)), TypeError, "dy: expected dtype float32, got float64"),
    ]:
        with pytest.raises(error, match=rf"^{message}"):
            layer.backward(*arguments)
    layer.grads["bias"] = np.zeros(4, np.float32)
    with pytest.raises(ValueError, match=r"^grads\['bias'\]: expected shape \(O,\) = \(3,\), got"):
        layer.backward(tape, y)
    assert not layer.grads["weight"].any()
    for sizes, error, message in [
        ((0, 3), ValueError, "in_features"),
        ((4, 2.0), TypeError, "out_f"),
    ]:
        with pytest.raises(error, match=rf"^{message}"):
            Linear(*sizes)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("V", [1, 2, 7, 16, 33])
@pytest.mark.parametrize("lead", SHAPES, ids=str)
def test_loss_equals_the_reference(lead, V, reduction, dtype, rng, assert_close, tol):
    logits = (5 * rng.standard_normal((*lead, V))).astype(dtype)
    targets = rng.integers(0, V, lead)
    if targets.size > 1:
        targets.flat[::3] = -1
    options = {"ignore_index": -1, "reduction": reduction}
    loss, dlogits = softmax_cross_entropy(logits, targets, **options)
    expected, dexpected = reference.softmax_cross_entropy(logits.astype(float), targets, **options)
    assert type(loss) is float
    assert loss == pytest.approx(expected, rel=tol[np.dtype(dtype).name]["y"], abs=1e-30)
    assert dlogits.dtype == dtype
    if V > 1:  # the gradient of one class is 0
        assert_close(dlogits, dexpected, "grad")
    else:
        assert not dlogits.any()


def test_loss_equals_torch(rng, assert_close, tol):
    torch = pytest.importorskip("torch")
    logits, targets = rng.standard_normal((6, 9)), rng.integers(0, 9, 6)
    targets[2] = -100
    loss, dlogits = softmax_cross_entropy(logits, targets)
    leaf = torch.tensor(logits, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(leaf, torch.tensor(targets))
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=tol["float64"]["y"])
    assert_close(dlogits, leaf.grad.numpy(), "grad")


@pytest.mark.parametrize("dtype", DTYPES)
def test_loss_is_stable(dtype):
    big = np.array([[1e4, 0, -1e4], [-1e4, -1e4, -1e4]], dtype)
    loss, dlogits = softmax_cross_entropy(big, np.array([0, 1]), reduction="sum")
    assert loss == pytest.approx(math.log(3), rel=1e-6)
    np.testing.assert_allclose(dlogits, [[0, 0, 0], [1 / 3, -2 / 3, 1 / 3]], rtol=1e-6)
    loss, _ = softmax_cross_entropy(big, np.array([2, 1]), reduction="sum")
    assert loss == pytest.approx(2e4 + math.log(3), rel=1e-6)


def test_loss_of_no_row_that_counts():
    loss, dlogits = softmax_cross_entropy(np.ones((2, 3)), np.array([-100, -100]))
    assert math.isnan(loss)
    assert not dlogits.any()
    assert softmax_cross_entropy(np.ones((2, 3)), np.full(2, -100), reduction="sum")[0] == 0


@pytest.mark.parametrize("integer", [np.int32, np.uint8, np.int64])
def test_targets_of_any_integer_dtype(integer):
    logits = np.eye(3)
    expected = softmax_cross_entropy(logits, np.arange(3))
    loss, dlogits = softmax_cross_entropy(logits, np.arange(3, dtype=integer))
    assert loss == expected[0]
    np.testing.assert_array_equal(dlogits, expected[1])


def test_loss_refuses():
    logits, targets = np.zeros((2, 3, 4), np.float32), np.zeros((2, 3), int)
    for arguments, options, error, message in [
        (
            (logits.tolist(), targets),
            {},
            TypeError,
            "logits: expected ndarray of dtype float32 or f",
        ),
        ((logits.astype(int), targets), {}, TypeError, "logits: expected dtype float32 or float64"),
        ((logits[0, 0, 0], targets), {}, TypeError, "logits: expected ndarray.*got float32"),
        ((logits[:0], targets[:0]), {}, ValueError, "logits: expected 1 or more sizes >= 1"),
        ((logits[:, :, ::2], targets), {}, ValueError, "logits: expected C-contiguous"),
        ((logits, targets.tolist()), {}, TypeError, "targets: expected an ndarray of integers"),
        ((logits, targets.astype(float)), {}, TypeError, "targets: expected .* dtype float64"),
        ((logits, targets > 0), {}, TypeError, "targets: expected .* dtype bool"),
        ((logits, targets[0]), {}, ValueError, r"targets: expected integers \(..., ...\), sizes"),
        (
            (logits, targets.T.copy()),
            {},
            ValueError,
            r"targets: expected shape of logits .*\(2, 3\)",
        ),
        ((logits, np.asfortranarray(targets)), {}, ValueError, "targets: expected C-contiguous"),
        ((logits, targets + 4), {}, ValueError, "targets: .*4"),
        ((logits, targets - 1), {}, ValueError, "targets: .*-1"),
        ((logits, targets), {"ignore_index": 0.5}, TypeError, "ignore_index: expected an integer"),
        ((logits, targets), {"ignore_index": 2**70}, ValueError, "ignore_index: expected -9"),
        (
            (logits, targets),
            {"reduction": "none"},
            ValueError,
            "reduction: expected one of mean, sum",
        ),
        (
            (logits, targets),
            {"reduction": None},
            TypeError,
            "reduction: expected str, got NoneType",
        ),
    ]:
        with pytest.raises(error, match=rf"^{message}"):
            softmax_cross_entropy(*arguments, **options)
