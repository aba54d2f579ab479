# SPDX-License-Identifier: MIT
"""Layer normalisation: what the tests of every cell do not ask.

Its equations are in test_reference_cells.py.
"""

import fusedrnn
import numpy as np
import pytest
from fusedrnn import GRU, LSTM, _core, functional, reference
from fusedrnn.noise import CellNoise
from fusedrnn.weights import CELLS, NORMS
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import FORMS, make_problem, run_forward, run_kernel

NORM_CELLS = [form for form, (cell, _) in FORMS.items() if CELLS[cell].layer_norm]
NOISES = (
    None,
    CellNoise(4, 0.4),
    CellNoise(5, 0.0, (0.3, 0.2), first_step=2, first_row=3),
    CellNoise(6, 0.2, (0.1, 0.5)),
    CellNoise(0, 0.0, (0.3, 0.2), expected=True),
)
each_norm = pytest.mark.parametrize("cell", NORM_CELLS)


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_ragged_rows_on_threads(data, assert_close):
    """Threads share rows of unequal lengths: their bits, and the reference's values.

    With a tape and without.
    """
    cell, reverse = data.draw(st.sampled_from(NORM_CELLS)), data.draw(st.booleans())
    N, H = data.draw(st.integers(1, 20)), data.draw(st.sampled_from([1, 7, 33, 64, 100]))
    p = make_problem(cell, T=9, N=N, I=5, H=H, dtype="float64", reverse=reverse)
    cell = p.cell
    rng = np.random.default_rng([N, H])
    lengths, resets = rng.integers(0, 10, N), rng.random((9, N)) < 0.2
    lengths[rng.integers(N)] = 9
    form = {"reverse": reverse, "lengths": lengths, "resets": resets}
    form["noise"] = data.draw(st.sampled_from(NOISES))

    def results(engine):
        y, state_n, tape = engine.forward(cell, p.x, p.state, p.weights, **form)
        free = engine.infer(cell, p.x, p.state, p.weights, **form)
        np.testing.assert_equal(free, (y, state_n))
        return p.named(y, state_n, *engine.backward(tape, p.dy, p.dstate))

    wanted, before = results(reference), (_core.isa(), _core.num_threads())
    try:
        _core.set_isa(data.draw(st.sampled_from(_core.isas())))
        got = []
        for n in (1, 2, 3):
            _core.set_num_threads(n, beyond_processors=True)
            got.append(results(functional))
    finally:
        _core.set_isa(before[0])
        _core.set_num_threads(before[1])
    for name, value in got[0].items():
        assert_close(value, wanted[name], "y" if name in ("y", "h_n", "c_n") else "grad")
        np.testing.assert_array_equal(value, got[1][name], err_msg=name)
        np.testing.assert_array_equal(value, got[2][name], err_msg=name)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@each_norm
def test_one_unit_has_no_variance(cell, dtype, isa):
    """A single unit is its own mean: the norms give 0 and pass nothing back."""
    p = make_problem(cell, T=4, N=3, I=2, H=1, dtype=dtype)
    results = run_kernel(p)
    assert all(np.isfinite(value).all() for value in results.values())
    for name in ("dx", "dweight_ih", "dweight_hh", "dweight_ln_ih", "dweight_ln_hh"):
        assert not results[name].any()
    np.testing.assert_array_equal(results["y"], run_kernel(p.replace(x=-9 * p.x))["y"])


@each_norm
def test_equal_units_have_no_variance(cell, isa):
    """Whatever they are: x and W_ih come out as zeros."""
    p = make_problem(cell, T=4, N=3, I=2, H=40, dtype="float32", tokens=True)
    p.weights.weight_ih[...] = 0.25
    wanted = run_forward(p)
    p.weights.weight_ih[...] = 0
    for a, b in zip(run_forward(p)[1], wanted[1], strict=True):
        np.testing.assert_array_equal(a, b)
    assert all(np.isfinite(value).all() for value in run_kernel(p).values())


@each_norm
def test_the_scale_of_weights_means_little(cell, isa):
    """1e-5 beside the variance is all that knows of it; a power of 2 changes no bit else."""
    p = make_problem(cell, T=4, N=3, I=8, H=40, dtype="float64")
    y, _ = run_forward(p)
    for name in ("weight_ih", "weight_hh"):
        scaled = p.weights._replace(**{name: 1024 * getattr(p.weights, name)})
        error = np.abs(run_forward(p.replace(weights=scaled))[0] - y).max()
        assert 1e-9 < error < 1e-3


@each_norm
def test_nan_and_infinity_stay_in_their_row(cell, isa):
    p = make_problem(cell, T=3, N=4, I=5, H=18, dtype="float32")
    clean = run_kernel(p)["y"]
    for value in (np.nan, np.inf):
        p.x[1, 2] = value
        y = run_kernel(p)["y"]
        assert np.isnan(y[1:, 2]).all()
        y[1:, 2] = clean[1:, 2]
        np.testing.assert_array_equal(y, clean)


def test_the_other_parameters_are_those_without_a_norm():
    for layer in (LSTM, GRU):
        plain, normed = (layer(3, 4, 2, layer_norm=norm, seed=5) for norm in (False, True))
        assert "layer_norm=True" in repr(normed)
        for name, value in plain.params.items():
            np.testing.assert_array_equal(value, normed.params[name])


def test_a_norm_is_of_the_units_not_of_a_projection():
    layer = LSTM(3, 6, layer_norm=True, proj_size=2)
    shapes = [layer.params[f"{name}_l0"].shape for name in ("weight_hh", *NORMS)]
    assert shapes == [(24, 2), (24,), (24,), (6,), (6,)]


@pytest.mark.parametrize("kind", [GRU, LSTM, fusedrnn.GRUCell, fusedrnn.LSTMCell])
def test_what_is_not_a_flag(kind):
    with pytest.raises(TypeError, match=r"layer_norm: expected True or False, got int"):
        kind(2, 3, layer_norm=1)


@pytest.mark.parametrize(
    ("cell", "changes", "error", "text"),
    [
        ("lstm_peephole_norm", {"weight_ch": None}, TypeError, "weight_ch: expected "),
        ("lstm_norm", {"weight_ch": np.ones(15, "f")}, TypeError, "weight_ch: expected None"),
        (
            "lstm_coupled_norm",
            {"weight_ln_hh": np.ones(20, "f")},
            ValueError,
            r"weight_ln_hh: .*\(15,\)",
        ),
        ("lstm_norm", {"weight_ln_ih": None}, TypeError, "weight_ln_ih: expected "),
        ("lstm_norm", {"bias_ln_ch": None}, TypeError, "bias_ln_ch: expected "),
        ("lstm_norm", {"weight_ln_hh": np.zeros(5, "f")}, ValueError, r"weight_ln_hh: .*\(20,\)"),
        ("lstm_norm", {"weight_ln_ch": np.zeros(20, "f")}, ValueError, r"weight_ln_ch: .*\(5,\)"),
        ("lstm_norm", {"bias_ln_ch": np.zeros(5)}, TypeError, "bias_ln_ch: .*float32"),
        ("gru_norm", {"weight_ln_ch": np.ones(5, "f")}, TypeError, "weight_ln_ch: expected None"),
        ("lstm", {"weight_ln_hh": np.ones(20, "f")}, TypeError, "weight_ln_hh: expected None"),
        ("gru", {"bias_ln_ch": np.ones(5, "f")}, TypeError, "bias_ln_ch: expected None"),
    ],
)
def test_wrong_weights(cell, changes, error, text):
    p = make_problem(cell, T=2, N=3, I=4, H=5, dtype="float32")
    p.weights = p.weights._replace(**changes)
    with pytest.raises(error, match=text):
        functional.infer(cell, p.x, None, p.weights)
    with pytest.raises(error, match=text):
        run_forward(p)
    with pytest.raises(error, match=text):
        _core.pack(cell, p.weights, 1)


def test_gradients_have_memory_of_their_own():
    p = make_problem("lstm_norm", T=2, N=3, I=4, H=5, dtype="float32")
    y, state_n = run_forward(p, tape := _core.Tape())
    own = p.weights.zeros_like()
    for name in NORMS:
        shared = own._replace(**{name: getattr(p.weights, name)})
        with pytest.raises(ValueError, match=f"d{name}: expected memory of its own"):
            _core.backward(tape, p.x, y, p.weights, p.dy, None, None, False, shared, True, state_n)
