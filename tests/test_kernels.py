# SPDX-License-Identifier: MIT
"""The kernels against the reference: every cell, dtype, instruction set, and sizes around a vector.

float64 kernels against the float64 reference, float32 kernels against the same float64 reference.
Outputs are filled with NaN first: what a kernel forgets to write is seen.
"""

import numpy as np
import pytest
from fusedrnn import _core, functional, reference
from fusedrnn.weights import CELLS, Weights
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from kernel_cases import FORMS, Problem, make_problem, run_forward, run_kernel

DTYPES = ["float32", "float64"]
# Units: one, around 4, 8 and 16 lanes, two vectors and some. Rows: around the tiles. T*N: around a
# chunk of 192 rows.
HIDDEN = [1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 35, 130]
BATCHES = [(1, 1), (2, 2), (7, 3), (2, 5), (3, 9), (5, 20), (70, 3), (3, 67), (2, 200), (200, 1)]


def reference_of(p: Problem):
    """Everything the reference computes for p, in float64."""
    x, state, weights, dy, dstate = p.as_float64()
    y, state_n, tape = reference.forward(p.cell, x, state, weights, reverse=p.reverse)
    dx, dstate_0, grads = reference.backward(tape, dy, dstate)
    return p.named(y, state_n, dx, dstate_0, grads)


def check(p: Problem, assert_close) -> None:
    got, wanted = run_kernel(p), reference_of(p)
    assert got.keys() == wanted.keys()
    for name, value in got.items():
        kind = "y" if name in ("y", "h_n", "c_n") else "grad"
        assert_close(value, wanted[name], kind)


@pytest.mark.parametrize("H", HIDDEN)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", FORMS)
def test_every_width(cell, dtype, H, isa, assert_close):
    for reverse in (False, True):
        check(
            make_problem(cell, T=3, N=4, I=H + 2, H=H, dtype=dtype, reverse=reverse), assert_close
        )


@pytest.mark.parametrize("P", [1, 4, 7, 16, 17, 32])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_width_of_a_projection(dtype, P, isa, assert_close):
    for N in (1, 2, 7, 20):
        for reverse in (False, True):
            p = make_problem("lstm", T=5, N=N, I=3, H=33, P=P, dtype=dtype, reverse=reverse)
            check(p, assert_close)


@pytest.mark.parametrize(("T", "N"), BATCHES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", FORMS)
def test_every_tile_and_chunk(cell, dtype, T, N, isa, assert_close):
    p = make_problem(cell, T=T, N=N, I=5, H=21, dtype=dtype)
    check(p, assert_close)
    check(p.replace(reverse=True), assert_close)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_random_problems(data, assert_close):
    sizes = {name: data.draw(st.integers(1, 40), name) for name in "TNIH"}
    flags = {
        name: data.draw(st.booleans(), name) for name in ("reverse", "tokens", "bias", "state")
    }
    cell, dtype = data.draw(st.sampled_from(list(FORMS))), data.draw(st.sampled_from(DTYPES))
    # The norm of a few units knows little but signs: all else it has is rounding.
    norm = CELLS[FORMS[cell][0]].layer_norm
    assume(not norm or sizes["H"] == 1 or (sizes["H"] >= 8 and dtype == "float64"))
    _core.set_isa(data.draw(st.sampled_from(_core.isas())))
    try:
        check(make_problem(cell, dtype=dtype, **sizes, **flags), assert_close)
    finally:
        _core.set_isa(_core.isas()[-1])


@pytest.mark.parametrize("cell", FORMS)
def test_without_bias_state_or_output_gradient(cell, isa, assert_close):
    p = make_problem(cell, T=4, N=2, I=3, H=6, dtype="float64", bias=False, state=False)
    check(p, assert_close)
    check(p.replace(dstate=None), assert_close)
    check(p.replace(dy=None), assert_close)


@pytest.mark.parametrize("cell", FORMS)
def test_gradients_are_added_when_asked(cell, isa, assert_close):
    for tokens in (False, True):
        p = make_problem(cell, T=4, N=3, I=5, H=18, dtype="float64", tokens=tokens)
        fresh, added = run_kernel(p), run_kernel(p, add=0.5)
        for name, value in fresh.items():
            grown = name.startswith(("dweight", "dbias", "dx"))
            assert_close(added[name], value + 0.5 if grown else value, "grad")


@pytest.mark.parametrize("cell", FORMS)
def test_strided_rows(cell, isa):
    p = make_problem(cell, T=4, N=3, I=5, H=18, dtype="float32")
    plain, strided = run_kernel(p), run_kernel(p, strided=True)
    for name, value in plain.items():
        np.testing.assert_array_equal(strided[name], value, err_msg=name)


def test_nan_in_one_row_stays_there(isa):
    p = make_problem("lstm", T=3, N=4, I=5, H=18, dtype="float32")
    clean = run_kernel(p)["y"]
    p.x[1, 2] = np.nan
    y = run_kernel(p)["y"]
    assert np.isnan(y[1:, 2]).all()
    y[1:, 2] = clean[1:, 2]
    np.testing.assert_array_equal(y, clean)


@pytest.mark.parametrize("engine", [functional, reference])
def test_nothing_passes_a_rectifier_that_was_off(engine, isa):
    weights = Weights(np.ones((1, 1), np.float32), np.ones((1, 1), np.float32), None, None)
    *_, tape = engine.forward("rnn_relu", -np.ones((1, 1, 1), np.float32), None, weights)
    dx, (dh,), grads = engine.backward(tape, np.full((1, 1, 1), np.inf, np.float32))
    assert not dx.any()
    assert not dh.any()
    assert not grads.weight_ih.any()


def test_saturated_gates_give_the_limits(isa):
    """Sums overflow to ±inf, gates become 0 and 1, and nothing becomes NaN."""
    p = make_problem("lstm", T=1, N=1, I=1, H=4, dtype="float32", state=False)
    for w in p.weights[:4]:
        w[...] = 0
    p.x[...] = 1e30
    p.weights[0][:4] = 1e30  # i = 1
    p.weights[0][8:12] = -1e30  # g = -1
    y = run_kernel(p)["y"]
    np.testing.assert_allclose(y, 0.5 * np.tanh(-1.0), rtol=1e-6)


def test_outputs_have_memory_of_their_own():
    """_core itself refuses what would let a kernel read what it has just written."""
    p = make_problem("rnn_tanh", T=6, N=4, I=3, H=5, dtype="float64", tokens=True)
    memory = np.zeros(6 * 4 * 5)
    tokens = memory[: 6 * 4].view(np.int64).reshape(6, 4)
    tokens[...] = p.x
    state_n, w = (np.empty((4, 5)),), tuple(p.weights)
    args = ("rnn_tanh", tokens, w, None, False)
    with pytest.raises(ValueError, match="y: expected memory of its own"):
        _core.forward(*args, memory.reshape(6, 4, 5), state_n, None)
    with pytest.raises(ValueError, match="state_n: expected memory of its own"):
        _core.forward(*args, memory.reshape(6, 4, 5) * 0, (w[1][:4],), None)
    y, tape = np.empty((6, 4, 5)), _core.Tape()
    _core.forward(*args, y, state_n, tape)
    d_ih, d_hh, db_ih, db_hh = (np.zeros_like(a) for a in w[:4])
    for name, bad in (
        ("dweight_hh", Weights(d_ih, w[1][:], db_ih, db_hh)),
        ("dbias_ih", Weights(d_ih, d_hh, db_ih, db_ih)),
    ):
        with pytest.raises(ValueError, match=f"{name}: expected memory of its own"):
            _core.backward(tape, tokens, y, w, y * 0, None, None, False, bad, True, state_n)


@pytest.mark.parametrize("cell", CELLS)
def test_one_step_needs_no_y(cell):
    """It is h_n, and backward does without: the caller may have changed it."""
    p = make_problem(cell, T=1, N=3, I=2, H=5, dtype="float32")
    (y, state_n), weights = run_forward(p, tape := _core.Tape()), tuple(p.weights)
    once = tuple(np.full_like(part, np.nan) for part in state_n)
    _core.forward(cell, p.x, weights, p.state, False, None, once, alone := _core.Tape())
    found = []
    for kept, of_y in ((tape, y), (alone, None)):
        grads = tuple(None if w is None else np.full_like(w, np.nan) for w in weights)
        _core.backward(kept, p.x, of_y, weights, None, p.dstate, None, False, grads, False, None)
        found.append(grads)
    for got, wanted in zip((*once, *found[1]), (*state_n, *found[0]), strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_a_tape_without_contents():
    p = make_problem("rnn_tanh", T=2, N=1, I=3, H=5, dtype="float64")
    y, w = np.zeros((2, 1, 5)), tuple(p.weights)
    for tape in (_core.Tape(), _core.Tape.__new__(_core.Tape)):
        with pytest.raises((TypeError, ValueError), match="tape: expected"):
            _core.backward(tape, p.x, y, w, y, None, None, False, w, False, (y[0],))
        with pytest.raises((TypeError, ValueError), match="tape: expected"):
            _core.one_step(tape, y)


def test_loss_targets_in_the_gradient():
    memory = np.zeros(20)
    targets, dlogits = memory[:4].view(np.int64), memory.reshape(4, 5)
    with pytest.raises(ValueError, match="dlogits: expected memory of its own"):
        _core.softmax_cross_entropy(np.ones((4, 5)), targets, -100, True, dlogits)
