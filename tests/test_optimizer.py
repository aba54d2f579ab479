# SPDX-License-Identifier: MIT
"""What all optimisers do alike: states taken up again; wrong arguments named, nothing changed."""

import math
from fractions import Fraction

import numpy as np
import pytest
from fusedrnn import optim
from optim_cases import RULES, Module, train


@pytest.fixture(params=RULES)
def rule(request):
    return request.param


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
    pair, other = [({"w": np.zeros(2)}, {"w": np.zeros(2)}) for _ in range(2)]
    assert set(optim.SGD([pair, other], 0.1).state_dict()) == {"step"}
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


def snapshot(module, optimizer):
    arrays = (*module.params.values(), *optimizer.state_dict().values())
    return [array.copy() for array in arrays]


def unaligned(n):
    return np.zeros(8 * n + 1, np.uint8)[1:].view(np.float64)


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
        (lambda m: m.grads.update(p1=np.ones(5, np.float32)), "gradient of 0.p1: .* got float32"),
        (lambda m: m.grads.update(p1=None), "gradient of 0.p1: expected ndarray .* got NoneType"),
        (lambda m: m.params.update(p1=np.ones(5, np.int64)), "0.p1: .* got int64"),
        (misfit_shape, r"0.p1: expected float64 \(5,\)"),
        (misfit_name, "0.p2: has no state"),
        (lambda m: m.params.update(p1=unaligned(5)), "0.p1: expected aligned memory"),
        (lambda m: m.grads.update(p1=np.ma.ones(5)), "gradient of 0.p1: .* got MaskedArray"),
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
    with pytest.raises(TypeError, match=r"0\.w: expected dtype float32 or float64, got int64"):
        optim.SGD((arrays, arrays), 0.1)


def test_arrays_of_another_library_are_refused_by_their_type():
    class Array:
        dtype = np.dtype(np.float32)

    arrays = {"w": Array()}
    with pytest.raises(TypeError, match=r"0\.w: expected ndarray of dtype float32 .*, got Array$"):
        optim.SGD((arrays, arrays), 0.1)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("lr", "1e-3", TypeError),
        ("lr", np.array([0.1, 0.2]), TypeError),
        ("lr", -1.0, ValueError),
        ("lr", math.nan, ValueError),
        ("weight_decay", math.inf, ValueError),
        ("eps", None, TypeError),
        ("betas", (0.9, 1.0), ValueError),
        ("betas", 0.9, TypeError),
        ("betas", (0.9, Fraction(10**20 - 1, 10**20)), ValueError),
        ("lr", 10**400, ValueError),
    ],
)
def test_settings_that_are_changed_are_checked(name, value, error):
    optimizer = optim.Adam(Module())
    before = getattr(optimizer, name)
    with pytest.raises(error, match=f"{name}: expected"):
        setattr(optimizer, name, value)
    assert getattr(optimizer, name) == before


def test_settings_are_floats(rule):
    """Of any type of number, and no list that is the caller's."""
    module, other = Module(np.float32), Module(np.float32)
    optimizer, plain = RULES[rule](module, weight_decay=Fraction(1, 4)), RULES[rule](other)
    optimizer.lr, plain.lr, plain.weight_decay = np.float64(0.1), 0.1, 0.25
    train(module, optimizer, 3, np.random.default_rng(0))
    train(other, plain, 3, np.random.default_rng(0))
    for name, param in module.params.items():
        np.testing.assert_array_equal(param, other.params[name])
    betas = [0.9, 0.99]
    adam = optim.Adam(module, betas=betas)
    betas[1] = 1.0
    assert adam.betas == (0.9, 0.99)


def test_a_module_or_a_parameter_that_comes_twice():
    """It would take two steps."""
    module, other = Module(), Module()
    for modules in ([module, other, module], {"a": module, "b": module}):
        with pytest.raises(ValueError, match="modules: expected each once"):
            optim.SGD(modules, 0.1)
    tied = module.params | {"p2": module.params["p1"]}, module.grads | {"p2": module.grads["p1"]}
    for modules, name in (([module, (module.params, module.grads)], "1.p0"), (tied, "0.p2")):
        with pytest.raises(ValueError, match=f"{name}: expected each array once, got that of 0.p"):
            optim.SGD(modules, 0.1)


def test_names_that_come_twice():
    """They would share their state."""
    pair, other = [({"w": np.zeros(2)}, {"w": np.zeros(2)}) for _ in range(2)]
    with pytest.raises(ValueError, match="modules: expected names of their own, got 1, '1'"):
        optim.Adam({1: pair, "1": other})
    dotted = {"b.w": np.zeros(2)}, {"b.w": np.zeros(2)}
    with pytest.raises(ValueError, match=r"a\.b\.w: expected a name of its own"):
        optim.Adam({"a": dotted, "a.b": pair})


def test_a_step_below_zero():
    optimizer = optim.Adam(Module())
    with pytest.raises(ValueError, match="step: expected at least 0, got -1"):
        optimizer.load_state_dict(optimizer.state_dict() | {"step": np.array(-1)})


def test_gradients_of_any_layout(rule):
    """They are only read."""
    values = np.random.default_rng(0).standard_normal(9)
    bytes_ = np.zeros(8 * 9 + 1, np.uint8)
    bytes_[1:].view(np.float64)[...] = values
    wide = np.repeat(values, 2)
    results = []
    for grad in (values, wide[::2], bytes_[1:].view(np.float64), values[::-1].copy()[::-1]):
        grad.flags.writeable = False
        param = np.ones(9)
        RULES[rule](({"w": param}, {"w": grad})).step()
        results.append(param)
    for param in results[1:]:
        np.testing.assert_array_equal(param, results[0])


def test_what_is_not_finite_is_no_error(rule):
    """Whatever NumPy is set to: a step would end in the middle."""
    module = Module(np.float32)
    for grad in module.grads.values():
        grad[...] = 3e38
        grad.flat[0] = np.nan
    optimizer = RULES[rule](module)
    with np.errstate(all="raise"):
        optimizer.step()
        optimizer.step()
    assert optimizer.steps == 2


def test_any_number_of_steps():
    optimizer = optim.Adam(Module())
    optimizer.steps = 2**63 - 1
    optimizer.step()
    assert optimizer.steps == 2**63
