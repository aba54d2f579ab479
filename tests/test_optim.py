# SPDX-License-Identifier: MIT
"""Optimisers: steps computed by hand, PyTorch's, and states stored and taken up again."""

import math

import numpy as np
import pytest
from fusedrnn import optim

RULES = {
    "sgd": lambda modules, **k: optim.SGD(modules, 0.1, **k),
    "momentum": lambda modules, **k: optim.SGD(modules, 0.1, momentum=0.9, **k),
    "rmsprop": lambda modules, **k: optim.RMSprop(modules, 0.01, alpha=0.9, **k),
    "adam": lambda modules, **k: optim.Adam(modules, 0.01, **k),
}


class Module:
    def __init__(self, dtype=np.float64, shapes=((3, 4), (5,)), seed=0):
        rng = np.random.default_rng(seed)
        self.params = {f"p{i}": rng.standard_normal(s).astype(dtype) for i, s in enumerate(shapes)}
        self.grads = {name: np.zeros_like(p) for name, p in self.params.items()}

    def draw(self, rng):
        for grad in self.grads.values():
            grad[...] = rng.standard_normal(grad.shape)


@pytest.fixture(params=RULES)
def rule(request):
    return request.param


def train(module, optimizer, steps, rng):
    for _ in range(steps):
        module.draw(rng)
        optimizer.step()


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


def test_state_taken_up_again_is_exact(rule):
    whole, first = Module(np.float32), Module(np.float32)
    optimizer = RULES[rule]({"m": whole})
    train(whole, optimizer, 7, np.random.default_rng(3))

    rng = np.random.default_rng(3)
    before = RULES[rule]({"m": first})
    train(first, before, 4, rng)
    state, params = before.state_dict(), {name: p.copy() for name, p in first.params.items()}
    train(first, before, 1, np.random.default_rng(9))  # must not reach the copies in `state`

    second = Module(np.float32)
    for name, param in second.params.items():
        param[...] = params[name]
    after = RULES[rule]({"m": second})
    after.load_state_dict(state)
    train(second, after, 3, rng)
    for name, param in whole.params.items():
        np.testing.assert_array_equal(second.params[name], param)
    for name, array in optimizer.state_dict().items():
        np.testing.assert_array_equal(after.state_dict()[name], array)


def test_state_names_are_those_of_the_modules():
    pair = ({"w": np.zeros(2)}, {"w": np.zeros(2)})
    assert set(optim.SGD([pair, pair], 0.1).state_dict()) == {"step"}
    names = optim.SGD({"rnn": pair}, 0.1, momentum=0.9).state_dict()
    assert set(names) == {"step", "momentum_buffer.rnn.w"}
    assert set(optim.Adam([pair]).state_dict()) == {"step", "exp_avg.0.w", "exp_avg_sq.0.w"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("exp_avg.0.p1"), "missing or unexpected: exp_avg.0.p1"),
        (lambda s: s.update(other=np.zeros(1)), "missing or unexpected: other"),
        (lambda s: s.update({"exp_avg.0.p1": np.zeros(4)}), r"expected float64 \(5,\)"),
        (lambda s: s.update({"exp_avg.0.p1": np.zeros(5, np.float32)}), "got float32"),
    ],
)
def test_state_that_does_not_fit_changes_nothing(change, message):
    module = Module()
    optimizer = optim.Adam(module)
    train(module, optimizer, 2, np.random.default_rng(0))
    state = {name: array + 1 for name, array in optimizer.state_dict().items()}
    change(state)
    before = optimizer.state_dict()
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(state)
    for name, array in optimizer.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_arrays_put_in_place_of_others_are_used():
    module = Module()
    optimizer = optim.SGD(module, 0.1)
    module.params["p1"] = np.ones(5)
    module.grads["p1"] = np.ones(5)
    optimizer.step()
    np.testing.assert_allclose(module.params["p1"], 0.9, rtol=1e-15)
    optimizer.zero_grad()
    assert not module.grads["p1"].any()


@pytest.mark.parametrize(
    ("params", "grads", "message"),
    [
        ({"w": np.zeros(2)}, {}, "0.w: has no gradient"),
        ({"w": np.zeros(2)}, {"w": np.zeros(3)}, r"gradient of 0.w: expected float64 \(2,\)"),
        ({"w": np.zeros(2)}, {"w": np.zeros(2, np.float32)}, "got float32"),
        ({"w": np.zeros((2, 3)).T}, {"w": np.zeros((3, 2))}, "0.w: expected C-contiguous"),
    ],
)
def test_modules_that_do_not_fit(params, grads, message):
    with pytest.raises(ValueError, match=message):
        optim.SGD((params, grads), 0.1)


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
@pytest.mark.parametrize("name", ["lr", "weight_decay", "eps"])
def test_settings_out_of_range(name, value):
    with pytest.raises(ValueError, match=f"{name}: expected a finite number >= 0"):
        optim.Adam(Module(), **{name: value})


def test_betas_out_of_range():
    with pytest.raises(ValueError, match="betas: expected numbers in"):
        optim.Adam(Module(), betas=(0.9, 1.0))


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


def test_clip_grad_norm_refuses():
    with pytest.raises(ValueError, match="max_norm: expected a number >= 0"):
        optim.clip_grad_norm(np.ones(2), -1.0)
    with pytest.raises(ValueError, match="grads: expected C-contiguous"):
        optim.clip_grad_norm(np.ones((2, 3)).T, 1.0)


# Wrong arguments are named, and change nothing


def snapshot(module, optimizer):
    arrays = (*module.params.values(), *optimizer.state_dict().values())
    return [array.copy() for array in arrays]


def misfit_shape(module):
    module.params["p1"], module.grads["p1"] = np.ones(4), np.ones(4)


def misfit_name(module):
    module.params["p2"], module.grads["p2"] = np.ones(4), np.ones(4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.params["p1"].setflags(write=False), "0.p1: expected a writable array"),
        (lambda m: m.grads.pop("p1"), "0.p1: has no gradient"),
        (lambda m: m.grads.update(p1=np.ones(5, np.int64)), "gradient of 0.p1: .* got int64"),
        (lambda m: m.grads.update(p1=None), "gradient of 0.p1: expected an array, got NoneType"),
        (lambda m: m.params.update(p1=np.ones(5, np.int64)), "0.p1: .* got int64"),
        (misfit_shape, r"0.p1: expected float64 \(5,\)"),
        (misfit_name, "0.p2: has no state"),
    ],
)
def test_a_step_that_raises_changes_nothing(change, message):
    module = Module()
    optimizer = optim.Adam(module)
    train(module, optimizer, 2, np.random.default_rng(0))
    change(module)
    before = snapshot(module, optimizer)
    with pytest.raises((TypeError, ValueError), match=message):
        optimizer.step()
    for old, new in zip(before, snapshot(module, optimizer), strict=True):
        np.testing.assert_array_equal(new, old)


def test_zero_grad_that_raises_changes_nothing():
    module = Module()
    optimizer = optim.SGD(module, 0.1)
    module.draw(np.random.default_rng(0))
    module.grads["p1"].setflags(write=False)
    before = module.grads["p0"].copy()
    with pytest.raises(ValueError, match=r"gradient of 0\.p1: expected a writable array"):
        optimizer.zero_grad()
    np.testing.assert_array_equal(module.grads["p0"], before)


@pytest.mark.parametrize("modules", [[], {}])
def test_no_modules(modules):
    with pytest.raises(ValueError, match="modules: expected at least one"):
        optim.Adam(modules)


@pytest.mark.parametrize("modules", [None, 3, "abc", [None], {"a": 1}, ({},), [np.ones(2)]])
def test_things_that_are_no_modules(modules):
    with pytest.raises(TypeError, match="modules: expected params and grads"):
        optim.Adam(modules)


@pytest.mark.parametrize(
    "settings",
    [{"lr": "x"}, {"lr": None}, {"eps": [1]}, {"betas": 0.9}, {"betas": (0.9,)}, {"betas": "ab"}],
)
def test_settings_of_another_type(settings):
    (name,) = settings
    with pytest.raises(TypeError, match=f"{name}: expected .*number"):
        optim.Adam(Module(), **settings)


def test_integer_parameters_are_refused():
    arrays = {"w": np.ones(2, np.int64)}
    with pytest.raises(TypeError, match=r"0\.w: expected an ndarray of float32 .* got int64"):
        optim.SGD((arrays, arrays), 0.1)


def test_arrays_of_another_library_are_refused_by_their_type():
    class Array:
        dtype = np.dtype(np.float32)

    arrays = {"w": Array()}
    with pytest.raises(TypeError, match=r"0\.w: expected an ndarray of float32 .*, got Array$"):
        optim.SGD((arrays, arrays), 0.1)


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
