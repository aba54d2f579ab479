# SPDX-License-Identifier: MIT
"""Lengths and resets in the kernels: against the reference, and the rows and pieces run alone."""

import numpy as np
import pytest
from fusedrnn import _core, functional, reference
from fusedrnn.weights import CELLS
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import FORMS as KERNELS
from kernel_cases import make_problem
from ragged_cases import LENGTHS, H, I, N, T, assert_results, each_form, form_of
from reference_cases import FORMS as PROVEN
from reference_cases import GRADIENT_ERROR, complex_step, error, make, split

SMALL = {"T": (6, 250), "N": (2, 60), "H": (16, 60)}
each_cell = pytest.mark.parametrize("cell", KERNELS)
both_ways = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])


def run(engine, problem, form, weights=None):
    """All results by name; padding is NaN where nothing may read it."""
    x, state, own, dy, dstate = problem.as_float64() if engine is reference else fields(problem)
    if "lengths" in form and x.dtype.kind == "f":
        past = np.arange(len(x))[:, None] >= form["lengths"]
        x, dy = x.copy(), dy.copy()
        x[past], dy[past] = np.nan, np.nan
    options = {"reverse": problem.reverse, **form}
    y, state_n, tape = engine.forward(problem.cell, x, state, weights or own, **options)
    dx, dstate_0, grads = engine.backward(tape, dy, dstate)
    inferred, _ = engine.infer(problem.cell, x, state, weights or own, **options)
    np.testing.assert_array_equal(inferred, y)
    return problem.named(y, state_n, dx, dstate_0, grads)


def fields(p):
    return p.x, p.state, p.weights, p.dy, p.dstate


@both_ways
@each_form
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@each_cell
def test_equals_the_reference(cell, dtype, form, reverse, isa, assert_close):
    for tokens in (False, True):
        p = make_problem(cell, T=T, N=N, I=I, H=H, dtype=dtype, reverse=reverse, tokens=tokens)
        got, wanted = (run(engine, p, form_of(form)) for engine in (functional, reference))
        assert_results(assert_close, got, wanted)


@both_ways
@each_form
@pytest.mark.parametrize(("cell", "P"), PROVEN)
def test_gradients_of_the_reference(cell, P, form, reverse):
    """Against complex steps."""
    arrays, dy, dstate = make(cell, P=P)
    options = {"reverse": reverse, **form_of(form, *dy.shape[:2])}

    def loss(values):
        y, state_n = reference.infer(cell, *split(cell, values), **options)
        return (y * dy).sum() + sum((s * ds).sum() for s, ds in zip(state_n, dstate, strict=True))

    _, _, tape = reference.forward(cell, *split(cell, arrays), **options)
    dx, dstate_0, grads = reference.backward(tape, dy, dstate)
    by_state = {f"{s}_0": d for s, d in zip(CELLS[cell].state_letters, dstate_0, strict=True)}
    got = {"x": dx, **by_state, **grads._asdict()}
    for name in arrays:
        assert error(got[name], complex_step(loss, arrays, name)) <= GRADIENT_ERROR, name


@both_ways
@each_cell
def test_a_row_has_the_bits_of_the_row_alone(cell, reverse, isa):
    p = make_problem(cell, T=T, N=N, I=I, H=H, dtype="float32", reverse=reverse)
    together = run(functional, p, form_of("lengths"))
    for n, length in enumerate(LENGTHS):
        if not length:
            assert not together["y"][:, n].any()
            for letter, before, d in zip(
                CELLS[p.cell].state_letters, p.state, p.dstate, strict=True
            ):
                np.testing.assert_array_equal(together[f"{letter}_n"][n], before[n])
                np.testing.assert_array_equal(together[f"d{letter}_0"][n], d[n])
            continue
        rows, steps = slice(n, n + 1), slice(0, length)
        alone = run(functional, cut(p, steps, rows), {})
        for name, value in alone.items():
            if name in ("y", "dx"):
                np.testing.assert_array_equal(together[name][steps, rows], value, err_msg=name)
                assert not together[name][length:, rows].any()
            elif name[-2:] in ("_n", "_0"):
                np.testing.assert_array_equal(together[name][rows], value, err_msg=name)


def cut(p, steps, rows):
    def part(states):
        return tuple(np.ascontiguousarray(s[rows]) for s in states)

    x, dy = (np.ascontiguousarray(a[steps, rows]) for a in (p.x, p.dy))
    return p.replace(x=x, dy=dy, state=part(p.state), dstate=part(p.dstate))


@each_cell
def test_a_reset_begins_anew(cell, isa):
    """The bits of the pieces, each from zero."""
    p = make_problem(cell, T=T, N=1, I=I, H=H, dtype="float32")
    resets = np.zeros((T, 1), bool)
    resets[[4, 5]] = True
    zeros = tuple(np.zeros_like(s) for s in p.state)
    for reverse in (False, True):
        q = p.replace(reverse=reverse)
        whole = run(functional, q, {"resets": resets})
        for first, last in ((0, 4), (4, 5), (5, T)):
            begins = last == T if reverse else first == 0
            piece = q.replace(
                x=q.x[first:last], state=p.state if begins else zeros, dy=q.dy[first:last]
            )
            y, _ = functional.infer(p.cell, piece.x, piece.state, q.weights, reverse=reverse)
            np.testing.assert_array_equal(whole["y"][first:last], y)


@each_form
@each_cell
def test_threads(cell, form, isa, threads):
    p = make_problem(cell, T=12, N=40, I=20, H=70, dtype="float32")
    threads(1)
    one = run(functional, p, form_of(form, 12, 40))
    for n in (2, 3, 7):
        threads(n)
        for name, value in run(functional, p, form_of(form, 12, 40)).items():
            np.testing.assert_array_equal(value, one[name], err_msg=name)


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_threads_that_share_rows_of_any_length(data):
    """Weights are small: threads split the rows, and some may have none."""
    cell, reverse = data.draw(st.sampled_from(list(KERNELS))), data.draw(st.booleans(), "reverse")
    T, N, H = (data.draw(st.integers(*ends), name) for name, ends in SMALL.items())
    p = make_problem(cell, T=T, N=N, I=9, H=H, dtype="float32", tokens=data.draw(st.booleans()))
    lengths = data.draw(st.lists(st.integers(0, T // 3), min_size=N, max_size=N), "lengths")
    lengths[data.draw(st.integers(0, N - 1))] = T
    form, p = {"lengths": np.array(lengths)}, p.replace(reverse=reverse)
    if data.draw(st.booleans()):
        form["resets"] = np.random.default_rng(T).random((T, N)) < 0.1
    before = _core.num_threads()
    try:
        _core.set_num_threads(1)
        one = run(functional, p, form)
        _core.set_num_threads(data.draw(st.integers(2, 5), "threads"), beyond_processors=True)
        for name, value in run(functional, p, form).items():
            np.testing.assert_array_equal(value, one[name], err_msg=name)
    finally:
        _core.set_num_threads(before)
