# SPDX-License-Identifier: MIT
"""Update rules: steps computed by hand, and PyTorch's; gradients clipped by their norm."""

import math

import numpy as np
import pytest
from fusedrnn import optim
from optim_cases import RULES, Module


@pytest.fixture(params=RULES)
def rule(request):
    return request.param


def test_sgd_momentum_by_hand():
    params, grads = {"w": np.array([1.0])}, {"w": np.array([2.0])}
    optimizer = optim.SGD((params, grads), 0.1, momentum=0.5)
    optimizer.step()  # v = 2, w = 1 - 0.2
    assert params["w"] == pytest.approx(0.8, rel=1e-15)
    grads["w"][:] = 4.0
    optimizer.step()  # v = 1 + 4, w = 0.8 - 0.5
    assert params["w"] == pytest.approx(0.3, rel=1e-14)


def test_rmsprop_by_hand():
    params, grads = {"w": np.array([1.0])}, {"w": np.array([2.0])}
    optimizer = optim.RMSprop((params, grads), 0.1, alpha=0.75, eps=0.5)
    optimizer.step()  # s = 0.25 * 4, w = 1 - 0.1 * 2 / (1 + 0.5)
    assert params["w"] == pytest.approx(1 - 0.2 / 1.5, rel=1e-15)


def test_adam_by_hand():
    params, grads = {"w": np.array([1.0])}, {"w": np.array([2.0])}
    optimizer = optim.Adam((params, grads), 0.1, betas=(0.5, 0.75), eps=0.5)
    optimizer.step()  # m̂ = 2, ŝ = 4
    assert params["w"] == pytest.approx(1 - 0.1 * 2 / 2.5, rel=1e-15)
    before = params["w"].copy()
    grads["w"][:] = 1.0
    optimizer.step()  # m = 0.5 * 1 + 0.5 * 1, s = 0.75 * 1 + 0.25 * 1
    expected = before - 0.1 * (1 / 0.75) / (math.sqrt(1 / (1 - 0.75**2)) + 0.5)
    assert params["w"] == pytest.approx(expected, rel=1e-14)


def in_numpy(kind, p, g, m, s, step, *, lr, betas, eps, weight_decay):
    """The rule operation by operation, each in the arrays' dtype."""
    beta1, beta2 = betas
    if kind is optim.AdamW:
        p *= 1 - lr * weight_decay
    elif weight_decay:
        g = g + p * weight_decay
    m[...] = m + (g - m) * (1 - beta1) if beta1 > 0.5 else g - (g - m) * beta1
    s *= beta2
    s += g * (1 - beta2) * g
    p -= m * (lr / (1 - beta1**step)) / (np.sqrt(s) / math.sqrt(1 - beta2**step) + eps)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("beta1", [0.8, 0.25])
@pytest.mark.parametrize("kind", [optim.Adam, optim.AdamW])
def test_adam_has_the_bits_of_numpy(kind, beta1, weight_decay, isa, threads):
    """Of any size and dtype, on any number of threads; the NaN of a gradient too."""
    sizes = (1, 7, 8, 33, 1000, 60_000)
    modules = [Module(dtype, [(n,) for n in sizes], n) for n, dtype in enumerate("fd")]
    wanted = [{k: (p.copy(), 0 * p, 0 * p) for k, p in m.params.items()} for m in modules]
    settings = {"lr": 0.01, "betas": (beta1, 0.99), "eps": 1e-6, "weight_decay": weight_decay}
    optimizer, rng = kind(modules, **settings), np.random.default_rng(0)
    for step in range(1, 6):
        for module in modules:
            module.draw(rng)
            module.grads["p3"][5] = np.nan
        threads(step)
        optimizer.step()
        for place, (module, arrays) in enumerate(zip(modules, wanted, strict=True)):
            for name, (p, m, s) in arrays.items():
                in_numpy(kind, p, module.grads[name], m, s, step, **settings)
                np.testing.assert_array_equal(module.params[name], p)
                for slot, array in (("exp_avg", m), ("exp_avg_sq", s)):
                    got = optimizer.state_dict()[f"{slot}.{place}.{name}"]
                    np.testing.assert_array_equal(got, array)


def test_parameters_that_share_memory(threads):
    """One after the other, on any number of threads."""
    results = []
    for n in (1, 2, 3):
        threads(n)
        buffer = np.linspace(-1, 1, 400_000, dtype=np.float32)
        some = buffer[:300_001]
        adam = optim.Adam([({"w": a}, {"w": np.ones_like(a)}) for a in (buffer, some)], lr=0.1)
        adam.step()
        results.append(buffer)
    for buffer in results[1:]:
        np.testing.assert_array_equal(buffer, results[0])


def test_momentum_may_be_set_later():
    params, grads = {"w": np.array([1.0])}, {"w": np.array([1.0])}
    sgd = optim.SGD((params, grads), lr=0.1)
    sgd.momentum = 0.9
    sgd.step()
    sgd.step()
    assert params["w"] == pytest.approx(0.71, rel=1e-15)


def test_adam_after_a_spike():
    """Rounded as PyTorch's: the running means forget, and hold squares that are below infinity."""
    params, grads = {"w": np.ones(1, np.float32)}, {"w": np.full(1, 1e8, np.float32)}
    adam = optim.Adam((params, grads), betas=(0.0, 0.999))
    adam.step()
    grads["w"][:] = 1
    adam.step()
    assert adam.state_dict()["exp_avg.0.w"] == 1
    grads["w"][:] = 1e20
    for rule in (adam, optim.RMSprop((params, grads))):
        before = params["w"].copy()
        rule.step()
        assert params["w"] < before


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_torch(rule, weight_decay, dtype):
    torch = pytest.importorskip("torch")
    module, rng = Module(dtype, shapes=((40, 500), (7,))), np.random.default_rng(1)
    leaves = [torch.nn.Parameter(torch.from_numpy(p.copy())) for p in module.params.values()]
    rules = {
        "sgd": lambda: torch.optim.SGD(leaves, 0.1, weight_decay=weight_decay),
        "momentum": lambda: torch.optim.SGD(leaves, 0.1, momentum=0.9, weight_decay=weight_decay),
        "rmsprop": lambda: torch.optim.RMSprop(leaves, 0.01, alpha=0.9, weight_decay=weight_decay),
        "adam": lambda: torch.optim.Adam(leaves, 0.01, weight_decay=weight_decay),
        "adamw": lambda: torch.optim.AdamW(leaves, 0.01, weight_decay=weight_decay),
    }
    ours, theirs = RULES[rule](module, weight_decay=weight_decay), rules[rule]()
    for _ in range(20):
        module.draw(rng)
        for leaf, grad in zip(leaves, module.grads.values(), strict=True):
            leaf.grad = torch.from_numpy(grad.copy())
        ours.step()
        theirs.step()
    for leaf, param in zip(leaves, module.params.values(), strict=True):
        expected = leaf.detach().numpy()
        error = np.abs(param - expected).max() / np.abs(expected).max()
        assert error <= 30 * np.finfo(dtype).eps


def test_blocks_do_not_show(rule):
    """An array of several blocks is updated as its elements would be."""
    size = 2 * 16384 + 3
    whole = Module(np.float32, shapes=((size,),))
    pieces = [
        ({"p": whole.params["p0"][part].copy()}, {"p": whole.grads["p0"][part]})
        for part in (slice(0, 5), slice(5, size))
    ]
    train_both = RULES[rule](whole), RULES[rule](pieces)
    rng = np.random.default_rng(2)
    for _ in range(3):
        whole.draw(rng)
        for optimizer in train_both:
            optimizer.step()
    joined = np.concatenate([params["p"] for params, _ in pieces])
    np.testing.assert_array_equal(whole.params["p0"], joined)


def test_works_in_place_and_leaves_gradients(rule):
    module = Module()
    arrays = dict(module.params)
    module.draw(np.random.default_rng(0))
    grads = {name: grad.copy() for name, grad in module.grads.items()}
    RULES[rule](module, weight_decay=0.1).step()
    for name, array in arrays.items():
        assert module.params[name] is array
        np.testing.assert_array_equal(module.grads[name], grads[name])


@pytest.mark.parametrize("max_norm", [0.5, 5.0, 1e9, math.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_clip_grad_norm_equals_torch(max_norm, dtype):
    torch = pytest.importorskip("torch")
    module = Module(dtype, shapes=((300, 200), (17,)))
    module.draw(np.random.default_rng(0))
    leaves = [torch.nn.Parameter(torch.from_numpy(p)) for p in module.params.values()]
    for leaf, grad in zip(leaves, module.grads.values(), strict=True):
        leaf.grad = torch.from_numpy(grad.copy())
    expected = float(torch.nn.utils.clip_grad_norm_(leaves, max_norm))
    assert optim.clip_grad_norm(module, max_norm) == pytest.approx(expected, rel=1e-5)
    for leaf, grad in zip(leaves, module.grads.values(), strict=True):
        np.testing.assert_allclose(grad, leaf.grad.numpy(), rtol=1e-5)


@pytest.mark.parametrize(
    "form",
    [
        lambda module: module,
        lambda module: module.grads,
        lambda module: [module],
        lambda module: {"m": module},
        lambda module: list(module.grads.values()),
        lambda module: [module.grads["a"], {"b": module.grads["b"]}],
    ],
)
def test_clip_grad_norm_takes_all_forms_together(form):
    module = Module()
    module.grads = {"a": np.array([3.0]), "b": np.array([[4.0, 12.0]])}
    assert optim.clip_grad_norm(form(module), 6.5) == 13.0
    np.testing.assert_allclose(module.grads["a"], [1.5], rtol=1e-6)
    np.testing.assert_allclose(module.grads["b"], [[2.0, 6.0]], rtol=1e-6)


def test_clip_grad_norm_leaves_short_gradients_alone():
    grads = {"a": np.array([3.0, 4.0], np.float32)}
    assert optim.clip_grad_norm(grads, 5.1) == 5.0
    assert grads["a"].tolist() == [3.0, 4.0]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_clip_grad_norm_tells_of_non_finite_gradients(value):
    assert not math.isfinite(optim.clip_grad_norm(np.array([1.0, value]), math.inf))


def test_clip_grad_norm_by_infinity():
    grad = np.array([1e200, 1.0])
    assert optim.clip_grad_norm(grad, math.inf) == math.inf
    assert grad.tolist() == [1e200, 1.0]


def test_clip_grad_norm_sees_each_once():
    module, grad = Module(), np.ones(3)
    for twice in ([module, module], {"a": grad, "b": grad}, [grad, {"b": grad}], [grad, grad[:]]):
        with pytest.raises(ValueError, match="grads: expected each once"):
            optim.clip_grad_norm(twice, 1.0)


def test_clip_grad_norm_refuses():
    with pytest.raises(ValueError, match="max_norm: expected a number >= 0"):
        optim.clip_grad_norm(np.ones(2), -1.0)
    with pytest.raises(ValueError, match="grads: expected C-contiguous"):
        optim.clip_grad_norm(np.ones((2, 3)).T, 1.0)


def read_only():
    array = np.ones(2)
    array.setflags(write=False)
    return array


@pytest.mark.parametrize(
    "bad", ["abc", b"abc", 1.0, None, np.ones(2, np.int64), np.ones((2, 3)).T, read_only()], ids=str
)
def test_clip_grad_norm_checks_all_before_it_changes_any(bad):
    good = np.array([3.0, 4.0])
    for grads in (bad, [good, bad], {"a": good, "b": bad}):
        with pytest.raises((TypeError, ValueError), match="grads: expected"):
            optim.clip_grad_norm(grads, 1.0)
    assert good.tolist() == [3.0, 4.0]
    with pytest.raises(TypeError, match="max_norm: expected a number, got str"):
        optim.clip_grad_norm(good, "1")
