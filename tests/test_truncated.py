# SPDX-License-Identifier: MIT
"""Truncated backpropagation per step, against the double loop that says what it means."""

import fusedrnn
import numpy as np
import pytest
from fusedrnn import functional, reference, reference_truncated, truncated
from fusedrnn.names import pick
from fusedrnn.noise import CellNoise
from fusedrnn.weights import CELLS
from kernel_cases import make_problem
from layer_cases import LAYERS, flat, like
from ragged_cases import FORMS as RAGGED
from ragged_cases import H, I, N, T, form_of
from reference_cases import error

FORMS = {
    "plain": {},
    **{name: form_of(name) for name in RAGGED},
    "noise": {"noise": CellNoise(5, 0.3, (0.2, 0.1), first_step=3, first_row=2)},
    "all": {**form_of("lengths_and_resets"), "noise": CellNoise(6, 0.3, (0.2, 0.1))},
}
REACHES = (0, 1, 2, 5, T - 1, T, T + 3)
FEW_REACHES = (1, T)
SAME_SUMS = 1e-12  # the same float64 sums in another order; measured: at most 3e-15
each_cell = pytest.mark.parametrize("cell", CELLS)
each_form = pytest.mark.parametrize("form", FORMS)
both_ways = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])


def named(p, dx, dstate_0, grads):
    return p.named(None, (None,) * len(dstate_0), dx, dstate_0, grads)


def by_definition(p, form, reach):
    x, state, weights, dy, dstate = p.as_float64()
    _, _, tape = reference.forward(p.cell, x, state, weights, reverse=p.reverse, **form)
    return named(p, *reference_truncated.backward(tape, dy, dstate, reach))


def lag_by_lag(engine, p, form, reach, **into):
    _, _, tape = engine.forward(p.cell, p.x, p.state, p.weights, reverse=p.reverse, **form)
    return named(p, *truncated.backward(engine, tape, p.dy, p.dstate, truncate=reach, **into))


@pytest.mark.parametrize("tokens", [False, True], ids=["floats", "tokens"])
@both_ways
@each_form
@each_cell
def test_equals_the_double_loop(cell, form, reverse, tokens, assert_close):
    single = make_problem(cell, T=T, N=N, I=I, H=H, dtype="float32", reverse=reverse, tokens=tokens)
    x, state, weights, dy, dstate = single.as_float64()
    double = single.replace(x=x, state=state, weights=weights, dy=dy, dstate=dstate)
    every = not tokens and form in ("plain", "all")
    for reach in REACHES if every else FEW_REACHES:
        wanted = by_definition(double, FORMS[form], reach)
        for engine, p in ((functional, single), (functional, double), (reference, double)):
            got = lag_by_lag(engine, p, FORMS[form], reach)
            assert got.keys() == wanted.keys()
            for name, value in got.items():
                assert_close(value, wanted[name], "grad")
                if p is double and wanted[name].any():
                    assert error(value, wanted[name]) <= SAME_SUMS, (name, reach)


@each_form
@each_cell
def test_far_enough_is_full(cell, form, isa):
    """T - 1 transitions reach every step, T the state before as well."""
    p = make_problem(cell, T=T, N=N, I=I, H=H, dtype="float64")
    _, _, tape = functional.forward(cell, p.x, p.state, p.weights, **FORMS[form])
    full = named(p, *functional.backward(tape, p.dy, p.dstate))
    for reach in (T - 1, T, 100):
        for name, value in lag_by_lag(functional, p, FORMS[form], reach).items():
            if reach >= T:
                np.testing.assert_array_equal(value, full[name], err_msg=name)
            elif name[-2:] != "_0":
                assert error(value, full[name]) <= SAME_SUMS, name


@each_form
@each_cell
def test_gradients_are_added(cell, form, assert_close):
    p = make_problem(cell, T=T, N=N, I=I, H=H, dtype="float64")
    into = {"dx": np.ones_like(p.x), "grads": p.weights.zeros_like()}
    wanted = lag_by_lag(functional, p, FORMS[form], 3)
    got = lag_by_lag(functional, p, FORMS[form], 3, **into)
    for name, value in got.items():
        assert_close(value - 1 if name == "dx" else value, wanted[name], "grad")
    assert into["dx"] is got["dx"]
    for a in into["grads"]:
        if a is not None:
            a.fill(np.nan)
    again = lag_by_lag(functional, p, FORMS[form], 3, grads=into["grads"], accumulate=False)
    for name, value in again.items():
        np.testing.assert_array_equal(value, wanted[name], err_msg=name)


@each_form
@each_cell
def test_threads(cell, form, threads):
    p = make_problem(cell, T=12, N=40, I=20, H=70, dtype="float32")
    form = {
        name: a if name == "noise" else np.resize(a, (12, 40)[-a.ndim :])
        for name, a in FORMS[form].items()
    }
    threads(1)
    one = lag_by_lag(functional, p, form, 4)
    threads(2)
    for name, value in lag_by_lag(functional, p, form, 4).items():
        np.testing.assert_array_equal(value, one[name], err_msg=name)


def stack_by_definition(layer, x, dy, dstate, reach, form):
    """The double loop in every layer and direction, each on the dx of the layer above."""
    tapes, dstate_0, grads = {}, {}, {}
    weights = [pick(layer.params, names) for names in layer._slots]
    for k in (0, 2):
        halves = []
        for d in (0, 1):
            y, _, tapes[k + d] = reference.forward(
                layer.cell, x, None, weights[k + d], reverse=d == 1, **form
            )
            halves.append(y)
        x = np.concatenate(halves, axis=2)
    for k in (2, 0):
        dx = []
        for d, half in enumerate(np.split(dy, 2, axis=2)):
            own = tuple(a[k + d] for a in flat(dstate))
            part, dstate_0[k + d], g = reference_truncated.backward(tapes[k + d], half, own, reach)
            dx.append(part)
            grads |= dict(zip(layer._slots[k + d], g, strict=True))
        dy = None if dx[0] is None else dx[0] + dx[1]
    by_slot = zip(*[dstate_0[k] for k in range(4)], strict=True)
    return {"dx": dy} | {f"dstate{i}": np.array(parts) for i, parts in enumerate(by_slot)} | grads


@pytest.mark.parametrize("tokens", [False, True], ids=["floats", "tokens"])
@pytest.mark.parametrize("form", [name for name in FORMS if "noise" not in FORMS[name]])
@pytest.mark.parametrize("name", LAYERS)
def test_layers(name, form, tokens, assert_close):
    """Deep and both ways, on both engines: each layer truncates its own recurrence."""
    layer = LAYERS[name](I, H, num_layers=2, bidirectional=True, dtype=np.float64, seed=0)
    rng, form = np.random.default_rng(0), FORMS[form]
    x = rng.integers(0, I, (T, N)) if tokens else rng.standard_normal((T, N, I))
    dy, dstate = rng.standard_normal((T, N, 2 * H)), like(layer.zero_state(N), rng)
    wanted = stack_by_definition(layer, x, dy, dstate, 3, form)
    for engine in (functional, reference):
        layer.engine = engine
        layer.zero_grad()
        _, _, tape = layer.forward(x, **form)
        dx, dstate_0 = layer.backward(tape, dy, dstate, truncate=3)
        got = {"dx": dx} | {f"dstate{i}": a for i, a in enumerate(flat(dstate_0))} | layer.grads
        for key, value in got.items():
            if value is None:
                assert wanted[key] is None
            else:
                assert_close(value, wanted[key], "grad")


def test_of_the_state_alone():
    layer, x = fusedrnn.LSTM(I, H, dtype=np.float64, seed=0), np.ones((T, N, I))
    _, state, tape = layer.forward(x)
    dx, dstate = layer.backward(tape, None, state, truncate=2)
    assert dx[-3:].any()
    assert not dx[:-3].any()
    assert not any(a.any() for a in dstate)


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (-1, ValueError, "expected 0 <= truncate"),
        (1.5, TypeError, "expected an integer, got float"),
        ("2", TypeError, "expected an integer, got str"),
        (True, TypeError, "expected an integer, got bool"),
    ],
)
def test_wrong_reach(value, kind, text):
    layer = fusedrnn.RNN(I, H)
    y, _, tape = layer.forward(np.zeros((T, N, I), np.float32))
    with pytest.raises(kind, match=f"truncate: {text}"):
        layer.backward(tape, y, truncate=value)


@pytest.mark.parametrize("form", [name for name in FORMS if "noise" not in FORMS[name]])
@pytest.mark.parametrize("name", LAYERS)
def test_after_checkpoints_the_bits_of_the_whole_tape(name, form):
    layer = LAYERS[name](I, H, num_layers=2, bidirectional=True, recurrent_dropout=0.2, seed=0)
    rng = np.random.default_rng(0)
    x, state = rng.standard_normal((T, N, I), np.float32), like(layer.zero_state(N), rng)
    dy, noise = rng.standard_normal((T, N, 2 * H), np.float32), fusedrnn.Noise(3)
    for reach in REACHES:
        wanted = None
        for every in (None, 1, 4, T):
            layer.zero_grad()
            tape = layer.forward(x, state, checkpoint=every, noise=noise, **FORMS[form])[2]
            dx, dstate = layer.backward(tape, dy, state, truncate=reach)
            got = [dx, *flat(dstate), *(grad.copy() for grad in layer.grads.values())]
            wanted = wanted or got
            for a, b in zip(got, wanted, strict=True):
                np.testing.assert_array_equal(a, b, err_msg=f"{reach}, {every}")


def test_below_a_memory_budget():
    layer, x = fusedrnn.GRU(I, H, seed=0), np.ones((400, N, I), np.float32)
    y, _, tape = layer.forward(x)
    wanted, _ = layer.backward(tape, y, truncate=5)
    less = layer.forward(x, memory_budget=tape.nbytes - 1)[2]
    assert less.nbytes < tape.nbytes
    np.testing.assert_array_equal(layer.backward(less, y, truncate=5)[0], wanted)
