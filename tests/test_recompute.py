# SPDX-License-Identifier: MIT
"""A checkpoint interval: the bits of the whole tape, in less memory."""

import tracemalloc

import fusedrnn
import numpy as np
import pytest
from fusedrnn import recompute
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_cases import DTYPES, LAYERS, flat, like

T, N, I, H = 10, 5, 4, 19
LENGTHS = np.array([3, 10, 6, 0, 6])
RESETS = np.random.default_rng(1).random((T, N)) < 0.3
FORMS = {
    "plain": {},
    "lengths": {"lengths": LENGTHS},
    "resets": {"resets": RESETS},
    "lengths_and_resets": {"lengths": LENGTHS, "resets": RESETS},
}


def results(layer, x, dy, state, truncate=None, **options):
    layer.zero_grad()
    y, state_n, tape = layer.forward(x, state, **options)
    dstate_n = like(state_n, np.random.default_rng(2))
    dx, dstate = layer.backward(tape, dy, dstate_n, truncate=truncate)
    arrays = {"y": y, "dx": dx, **{k: g.copy() for k, g in layer.grads.items()}}
    return arrays | {f"state{k}": a for k, a in enumerate((*flat(state_n), *flat(dstate)))}


@pytest.mark.parametrize("tokens", [False, True], ids=["floats", "tokens"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", LAYERS)
def test_the_bits_of_the_whole_tape(name, form, tokens):
    layer = LAYERS[name](I, H, num_layers=2, bidirectional=True, seed=0)
    rng = np.random.default_rng(0)
    x = rng.integers(0, I, (T, N)) if tokens else rng.standard_normal((T, N, I), np.float32)
    dy = rng.standard_normal((T, N, 2 * H), np.float32)
    for state in (None, like(layer.zero_state(N), rng)):
        wanted = results(layer, x, dy, state, **FORMS[form])
        for every in (1, 3, 5, T, 100):
            got = results(layer, x, dy, state, checkpoint=every, **FORMS[form])
            for key, value in wanted.items():
                np.testing.assert_array_equal(got[key], value, err_msg=f"{key}, {every}")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", LAYERS)
def test_one_way_the_layers_run_a_stretch_together(name, form):
    options = {"dropout": 0.3, "recurrent_dropout": 0.2, "zoneout_h": 0.1}
    layer = LAYERS[name](I, H, num_layers=3, seed=0, **options)
    rng, form = np.random.default_rng(0), {**FORMS[form], "noise": fusedrnn.Noise(3, 7, 2)}
    dy = rng.standard_normal((T, N, H), np.float32)
    for x in (rng.standard_normal((T, N, I), np.float32), rng.integers(0, I, (T, N))):
        for state in (None, like(layer.zero_state(N), rng)):
            for truncate in (None, 2, T):
                wanted = results(layer, x, dy, state, truncate, **form)
                for every in (3, T):
                    got = results(layer, x, dy, state, truncate, checkpoint=every, **form)
                    for key, value in wanted.items():
                        np.testing.assert_array_equal(got[key], value, err_msg=f"{key}, {every}")


@pytest.mark.parametrize("name", LAYERS)
def test_one_way_no_layer_below_is_held_whole(name):
    """Three layers take hardly more than one: not the y of each, and its gradient."""
    layer, x = LAYERS[name](2, 16, num_layers=3, seed=0), np.zeros((4096, 1, 2), np.float32)
    dy = np.ones((4096, 1, 16), np.float32)
    layer.forward(x, checkpoint=64)  # what is allocated once
    tracemalloc.start()
    y, _, tape = layer.forward(x, checkpoint=64)
    layer.backward(tape, dy)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * y.nbytes


@pytest.mark.parametrize("reverse", [False, True])
def test_no_stretch_is_longer_than_one_that_ran_after_it(reverse):
    """Backward takes them from the last: each tape fits where that of the one before was."""
    for T, every in [(10, 4), (8, 4), (3, 4), (1, 1), (4096, 410)]:
        stretches = list(recompute.stretches(T, every, reverse))
        sizes = [steps.stop - steps.start for steps in stretches]
        assert sizes == [*([T % every] if T % every else []), *[every] * (T // every)]
        in_time = sorted(stretches, key=lambda steps: steps.start, reverse=reverse)
        assert stretches == in_time
        assert {t for steps in stretches for t in range(T)[steps]} == set(range(T))


def test_gradients_add_up():
    layer, x = fusedrnn.GRU(3, 4, seed=0), np.ones((7, 2, 3), np.float32)
    y, _, tape = layer.forward(x, checkpoint=3)
    layer.backward(tape, np.ones_like(y))
    once = {name: grad.copy() for name, grad in layer.grads.items()}
    layer.backward(tape, np.ones_like(y))
    for name, grad in layer.grads.items():
        np.testing.assert_allclose(grad, 2 * once[name], rtol=1e-5)
        grad.fill(np.nan)
    layer.backward(tape, np.ones_like(y), accumulate=False)
    for name, grad in layer.grads.items():
        np.testing.assert_array_equal(grad, once[name])


@pytest.mark.parametrize("name", [name for name in LAYERS if not name.startswith("rnn")])
def test_less_memory(name):
    layer, x = LAYERS[name](2, 16, seed=0), np.zeros((4096, 1, 2), np.float32)
    whole = layer.forward(x)[2].nbytes
    y_of_stretch = 64 * 16 * 4
    assert 10 * (layer.forward(x, checkpoint=64)[2].nbytes + y_of_stretch) <= whole


def test_the_last_stretch_is_run_once():
    """Backward begins with its tape, which forward kept; the next one has to make it again."""
    layer, x = fusedrnn.LSTM(2, 16, num_layers=2, bidirectional=True), np.zeros((9, 1, 2), "f")
    y, _, tape = layer.forward(x, checkpoint=4)
    parts = tape.tapes
    assert [part.last is not None for part in parts] == [False, False, True, False]
    kept = parts[2].last
    assert kept.shape[0] == 4
    assert tape.nbytes == sum(sum(a.nbytes for _, s in p.before for a in s) for p in parts) + (
        kept.nbytes
    )
    layer.backward(tape, np.ones_like(y))
    assert parts[2].last is None


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "8"])
def test_wrong_interval(wrong):
    with pytest.raises((TypeError, ValueError), match="checkpoint: expected"):
        fusedrnn.RNN(2, 3).forward(np.zeros((4, 1, 2), np.float32), checkpoint=wrong)


def least_budget(layer, x, **options):
    """What the error of a budget far too small says would do."""
    with pytest.raises(ValueError, match="memory_budget: expected at least") as caught:
        layer.forward(x, memory_budget=1, **options)
    return int(str(caught.value).split()[4])


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", LAYERS)
def test_budget_has_the_bits_of_the_whole_tape(name, form, bidirectional):
    steps, form = 12 * T, dict(FORMS[form])
    if "lengths" in form:
        form["lengths"] = 12 * LENGTHS
    if "resets" in form:
        form["resets"] = np.tile(RESETS, (12, 1))
    layer = LAYERS[name](I, H, num_layers=2, bidirectional=bidirectional, seed=0)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((steps, N, I), np.float32)
    dy = rng.standard_normal((steps, N, (1 + bidirectional) * H), np.float32)
    wanted = results(layer, x, dy, None, **form)
    whole, least = layer.forward(x, **form)[2].nbytes, least_budget(layer, x, **form)
    budgets = {least, (least + whole) // 2, max(least, whole - 1), whole, 10 * whole}
    for budget in budgets:
        for key, value in results(layer, x, dy, None, memory_budget=budget, **form).items():
            np.testing.assert_array_equal(value, wanted[key], err_msg=f"{key}, {budget}")
        tape = layer.forward(x, memory_budget=budget, **form)[2]
        assert used(tape) <= budget
        assert isinstance(tape.tapes[0], recompute.Tape) == (budget < whole)
    with pytest.raises(ValueError, match=f"at least {least} bytes for this x, got {least - 1}$"):
        layer.forward(x, memory_budget=least - 1, **form)


@settings(deadline=None)
@given(
    name=st.sampled_from(list(LAYERS)),
    layers=st.integers(1, 3),
    form=st.fixed_dictionaries(
        {
            "bidirectional": st.booleans(),
            "dropout": st.sampled_from([0, 0.5]),
            "recurrent_dropout": st.sampled_from([0, 0.5]),
            "dtype": st.sampled_from(DTYPES),
        }
    ),
    lengths=st.just([T] * N) | st.lists(st.integers(0, T), min_size=N, max_size=N).filter(any),
    tokens=st.booleans(),
)
def test_budget_of_the_whole_tape_keeps_it(name, layers, form, lengths, tokens):
    """Rows without a step take nothing, and without padding there are no copies."""
    form["dropout"] *= layers > 1
    layer = LAYERS[name](I, H, layers, **form)
    x = np.zeros((T, N), np.int64) if tokens else np.zeros((T, N, I), form["dtype"])
    call = {"lengths": np.array(lengths)}
    whole = layer.forward(x, **call)[2].nbytes
    tape = layer.forward(x, memory_budget=whole, **call)[2]
    assert not isinstance(tape.tapes[0], recompute.Tape)
    assert tape.nbytes == whole
    if least_budget(layer, x, **call) < whole:
        assert used(layer.forward(x, memory_budget=whole - 1, **call)[2]) < whole


def used(tape):
    """What a layer's tape keeps, and the tape and y of its longest stretch."""
    if not isinstance(tape.tapes[0], recompute.Tape):
        return tape.nbytes
    runs = [part.run(*stretch) for part in tape.tapes for stretch in part.before]
    last = sum(part.last.nbytes for part in tape.tapes if part.last)
    return tape.nbytes - last + max(map(used_by_a_stretch, runs))


def used_by_a_stretch(run):
    """Its tapes, and its y; of layers that run together, what is between them is in their tape."""
    first = getattr(run, "tapes", [run])[0]
    return run.nbytes + first.y.itemsize * int(np.prod(run.shape))


def test_budget_has_room_for_what_dropout_leaves():
    """Between layers that run together the tape of a stretch holds a y, and what was dropped."""
    layer, x = fusedrnn.GRU(16, 32, num_layers=3, dropout=0.5, seed=0), np.ones((400, 4, 16), "f")
    budget = least_budget(layer, x)
    part = layer.forward(x, memory_budget=budget)[2].tapes[0]
    part.last = None
    for stretch in part.before:
        runs = part.run(*stretch).tapes
        held = {id(a): a.nbytes for run in runs for a in (run.x, run.y)} | {id(runs[0].x): 0}
        assert part.nbytes + sum(run.nbytes for run in runs) + sum(held.values()) <= budget


def test_an_rnn_of_one_layer_keeps_its_y_and_nothing_else():
    """So stretches would only add to it; of two layers the lower one's y can be saved."""
    x = np.ones((400, 4, 16), np.float32)
    for layers in (1, 2):
        layer = fusedrnn.RNN(16, 32, num_layers=layers, seed=0)
        y, _, tape = layer.forward(x)
        assert tape.nbytes - (layers - 1) * y.nbytes <= layers * 4096
        tape = layer.forward(x, memory_budget=y.nbytes // 4)[2]
        assert isinstance(tape.tapes[0], recompute.Tape) == (layers == 2)


@pytest.mark.parametrize("form", [{"num_layers": 3, "dropout": 0.2}, {"recurrent_dropout": 0.2}])
def test_a_stretch_of_one_step_fits_the_budget(form):
    """That which is left over, and keeps an RNN's h, which a longer one has from y."""
    layer, x = fusedrnn.RNN(2, 1, seed=0, **form), np.ones((13, 64, 2), "f")
    least, whole = least_budget(layer, x), layer.forward(x)[2].nbytes
    for budget in range(least, whole, 100):
        assert used(layer.forward(x, memory_budget=budget)[2]) <= budget


def test_budget_on_the_reference():
    x = np.ones((50, 2, 3), np.float32)
    kept = []
    for engine in (fusedrnn.functional, fusedrnn.reference):
        layer = fusedrnn.LSTM(3, 4, seed=0)
        layer.engine = engine
        tape = layer.forward(x, memory_budget=8000)[2].tapes[0]
        kept.append([steps for steps, _ in tape.before])
    assert kept[0] == kept[1]


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"memory_budget": 0}, ValueError, "expected 1 <= memory_budget"),
        ({"memory_budget": 1e6}, TypeError, "expected an integer, got float"),
        (
            {"memory_budget": 9999, "checkpoint": 8},
            ValueError,
            "expected None with checkpoint = 8, got 9999",
        ),
    ],
)
def test_wrong_budget(options, kind, text):
    with pytest.raises(kind, match=f"memory_budget: {text}"):
        fusedrnn.RNN(2, 3).forward(np.zeros((4, 1, 2), np.float32), **options)
