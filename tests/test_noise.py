# SPDX-License-Identifier: MIT
"""Dropout, recurrent dropout, zoneout: the draws, their results and gradients, and their bits."""

import fusedrnn
import numpy as np
import pytest
from fusedrnn import Noise, _core, functional, kernels, noise, reference
from fusedrnn.noise import CellNoise
from fusedrnn.ragged import Ragged
from fusedrnn.weights import CELLS
from kernel_cases import make_problem
from layer_cases import LAYERS, cast, flat, step, twin
from reference_cases import GRADIENT_ERROR, complex_step, error, make, split

DTYPES = (np.float32, np.float64)
NOISES = {
    "recurrent_dropout": CellNoise(7, recurrent_dropout=0.3),
    "zoneout": CellNoise(2**64 - 1, zoneout=(0.4, 0.2), first_step=5, first_row=9),
    "both": CellNoise(3, 0.5, (0.1, 0.3)),
    "expected": CellNoise(0, zoneout=(0.4, 0.2), expected=True),
}
SAME_BITS = ["rnn_tanh", "lstm", "gru", "gru_reset_before"]
SAME_BITS += ["lstm_norm", "lstm_peephole_coupled_norm", "gru_norm"]
NOISY = {"dropout": 0.4, "recurrent_dropout": 0.3, "zoneout_h": 0.2}


@pytest.mark.parametrize("dtype", DTYPES)
def test_draws_are_those_of_numpy(isa, dtype):
    x = np.ones((3, 4, 1003), dtype)
    given = Noise(2**64 - 1, first_step=2**40, first_row=17)
    wanted = reference.dropout(x, 0.3, given)
    np.testing.assert_array_equal(functional.dropout(x, 0.3, given), wanted)
    assert abs((wanted == 0).mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / x.size)
    np.testing.assert_allclose(wanted[wanted != 0], 1 / 0.7, rtol=1e-6)
    assert functional.dropout(x, 0.3, given, out=x) is x
    np.testing.assert_array_equal(x, wanted)
    assert (functional.dropout(x, 0.0, given) == x).all()
    assert (functional.dropout(x, 1.0, given) == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_draws_without_padding_are_those_with_it(isa, dtype):
    rows = Ragged(np.array([2, 5, 0, 3]), 6)
    x, given = np.ones((6, 4, 37), dtype), Noise(5, first_step=2**33, first_row=17)
    packed = kernels.dropout(rows.pack(x), 0.3, given, ragged=rows)
    np.testing.assert_array_equal(packed, rows.pack(reference.dropout(x, 0.3, given)))
    names = np.arange(4), np.arange(4)
    with pytest.raises(ValueError, match="steps: expected None for T = 6"):
        _core.dropout(x, x, 0.3, *given, *names)
    with pytest.raises(ValueError, match=r"steps: expected shape \(5,\), got \(4,\)"):
        _core.dropout(np.ones((1, 5, 2)), np.ones((1, 5, 2)), 0.3, *given, None, names[1])


def test_draws_of_other_seeds_kinds_steps_rows_and_units_are_independent():
    def draw(seed=1, kind=1, step=1, row=1):
        return noise.drawn(seed, kind, step, np.arange(row, row + 16), 1000, 0.5)

    base = draw()
    changes = ({"seed": 0, "kind": 0}, {"seed": 2}, {"kind": 2}, {"step": 2}, {"row": 17})
    for other in (*(draw(**change) for change in changes), np.roll(base, 1, axis=1)):
        assert abs((base == other).mean() - 0.5) < 4 * np.sqrt(0.25 / base.size)
    assert abs((base[0] == base[1]).mean() - 0.5) < 4 * np.sqrt(0.25 / 1000)


@pytest.mark.parametrize("name", NOISES)
@pytest.mark.parametrize("cell", CELLS)
def test_reference_by_complex_step(cell, name):
    arrays, dy, dstate = make(cell)
    if cell == "rnn_relu":
        arrays = {k: a + 0.05 for k, a in arrays.items()}

    def loss(arrays):
        y, state_n, _ = reference.forward(cell, *split(cell, arrays), noise=NOISES[name])
        return (dy * y).sum() + sum((d * s).sum() for d, s in zip(dstate, state_n, strict=True))

    _, _, tape = reference.forward(cell, *split(cell, arrays), noise=NOISES[name])
    dx, dstate_0, grads = reference.backward(tape, dy, dstate)
    named = {"x": dx, "weight_hh": grads.weight_hh, "h_0": dstate_0[0]}
    for key, gradient in named.items():
        assert error(gradient, complex_step(loss, arrays, key)) < GRADIENT_ERROR


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", [(4, 3, 2, 5), (5, 20, 3, 33), (6, 1, 2, 40)])
@pytest.mark.parametrize("name", NOISES)
@pytest.mark.parametrize("cell", CELLS)
def test_kernels_equal_the_reference(cell, name, sizes, dtype, isa, threads, assert_close):
    T, N, I, H = sizes
    H = max(H, 21) if CELLS[cell].layer_norm else H  # that of a few units is mostly rounding
    rng = np.random.default_rng(sizes)
    p = make_problem(cell, T=T, N=N, I=I, H=H, dtype=dtype, reverse=N == 3)
    form = {"reverse": p.reverse, "noise": NOISES[name], "resets": rng.random((T, N)) < 0.2}
    if N > 1:
        form["lengths"] = rng.integers(0, T + 1, N) * (np.arange(N) > 0) + (np.arange(N) == 0) * T
    x, state, weights, dy, dstate = p.as_float64()
    wanted = run(reference, cell, x, state, weights, dy, dstate, form)
    for count in (1, 3):
        threads(count)
        got = run(functional, cell, p.x, p.state, p.weights, p.dy, p.dstate, form)
        for kind in got:
            for a, b in zip(got[kind], wanted[kind], strict=True):
                if a is not None:
                    assert_close(a, b, kind)


def run(engine, cell, x, state, weights, dy, dstate, form):
    y, state_n, tape = engine.forward(cell, x, state, weights, **form)
    dx, dstate_0, grads = engine.backward(tape, dy, dstate)
    return {"y": (y, *state_n), "grad": (dx, *dstate_0, *grads)}


@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_equals_the_reference(kind, assert_close):
    extra, H = {"zoneout_c": 0.1} if kind.startswith("lstm") else {}, 7 + 33 * ("norm" in kind)
    layer = LAYERS[kind](5, H, num_layers=3, bidirectional=True, seed=1, **NOISY, **extra)
    other = twin(layer, reference, np.float64, **NOISY, **extra)
    rng = np.random.default_rng(2)
    x, given = rng.standard_normal((6, 3, 5)).astype(np.float32), Noise(11, 2, 4)
    y, _, tape = layer.forward(x, noise=given)
    assert tape.noise == given
    wanted, _, other_tape = other.forward(cast(x, np.float64), noise=given)
    assert_close(y, wanted, "y")
    dy = rng.standard_normal(y.shape).astype(np.float32)
    dx, _ = layer.backward(tape, dy)
    other_dx, _ = other.backward(other_tape, cast(dy, np.float64))
    assert_close(dx, other_dx, "grad")
    for name, grad in layer.grads.items():
        assert_close(grad, other.grads[name], "grad")
    assert_close(layer(x)[0], other(cast(x, np.float64))[0], "y")  # zoneout by its mean


@pytest.mark.parametrize("kind", SAME_BITS)
def test_same_bits_for_rows_threads_pieces_and_checkpoints(kind, threads, set_isa):
    extra = {"zoneout_c": 0.1} if kind.startswith("lstm") else {}
    layer = LAYERS[kind](5, 40, num_layers=2, seed=1, **NOISY, **extra)
    rng = np.random.default_rng(3)
    x = rng.standard_normal((8, 12, 5)).astype(np.float32)
    dy = rng.standard_normal((8, 12, 40)).astype(np.float32)
    given = Noise(5)

    def both(x, dy, noise, **options):
        layer.zero_grad()
        y, state, tape = layer.forward(x, noise=noise, **options)
        return y, state, layer.backward(tape, dy)[0], {k: g.copy() for k, g in layer.grads.items()}

    threads(1)
    y, _, dx, grads = both(x, dy, given)
    for count, options in ((2, {}), (3, {}), (2, {"checkpoint": 3})):
        threads(count)
        again = both(x, dy, given, **options)
        assert (again[0] == y).all()
        assert (again[2] == dx).all()
        assert all((again[3][name] == grad).all() for name, grad in grads.items())
    if "avx2" in _core.isas():
        set_isa("avx2")
        again = both(x, dy, given)
        assert (again[0] == y).all()
        assert (again[2] == dx).all()
        assert all((again[3][name] == grad).all() for name, grad in grads.items())
    rows = slice(5, 9)
    part = both(x[:, rows].copy(), dy[:, rows].copy(), given._replace(first_row=5))
    assert (part[0] == y[:, rows]).all()
    assert (part[2] == dx[:, rows]).all()
    first, state, _ = layer.forward(x[:3], noise=given)
    second, _, _ = layer.forward(x[3:], state, noise=given._replace(first_step=3))
    assert (np.concatenate((first, second)) == y).all()
    pieces = [chunk.y for chunk in fusedrnn.chunks(layer, x, 2, 4, noise=given)]
    assert (np.concatenate(pieces) == y).all()


@pytest.mark.parametrize("kind", LAYERS)
def test_inference_has_no_dropout_and_the_mean_of_zoneout(kind):
    layer = LAYERS[kind](3, 20, num_layers=2, seed=0, dropout=0.5, recurrent_dropout=0.5)
    x = np.random.default_rng(0).standard_normal((5, 2, 3)).astype(np.float32)
    plain = twin(layer, functional, np.float32)
    assert (layer(x)[0] == plain(x)[0]).all()
    zoned = twin(layer, functional, np.float32, zoneout_h=0.3)
    y, state = zoned(x)
    assert (y != plain(x)[0]).any()
    frozen, now = zoned.freeze(), zoned.zero_state(2)
    assert (frozen(x)[0] == y).all()
    for x_t in x:
        now = frozen.step(x_t, now, out=now)
    assert all((a == b).all() for a, b in zip(flat(now), flat(state), strict=True))


def test_dropout_is_between_the_layers_as_in_torch():
    torch = pytest.importorskip("torch")
    theirs = torch.nn.GRU(3, 4, 2, dropout=1.0)
    ours = fusedrnn.GRU(3, 4, 2, dropout=1.0)
    ours.load_state_dict(theirs.state_dict())
    x = np.random.default_rng(0).standard_normal((5, 2, 3)).astype(np.float32)
    with torch.no_grad():
        wanted = theirs.train()(torch.from_numpy(x))[0].numpy()
    np.testing.assert_allclose(ours.forward(x)[0], wanted, atol=1e-6)


def test_every_forward_draws_anew_and_a_seed_repeats_a_layer():
    x = np.ones((4, 2, 3), np.float32)
    a, b = (fusedrnn.LSTM(3, 8, recurrent_dropout=0.5, seed=4) for _ in range(2))
    first, second = a.forward(x)[0], a.forward(x)[0]
    assert (first != second).any()
    assert (b.forward(x)[0] == first).all()
    assert a.forward(x)[2].noise is not None
    assert fusedrnn.LSTM(3, 8).forward(x, noise=Noise(1))[2].noise is None


def test_a_refused_call_takes_no_draw():
    x = np.ones((4, 2, 3), np.float32)
    layer, other = (fusedrnn.LSTM(3, 8, zoneout_h=0.5, seed=0) for _ in range(2))
    for bad, options in (
        (x[:0], {}),
        (x, {"lengths": np.array([9, 1])}),
        (x, {"memory_budget": 1}),
        (np.full((4, 2), 3), {}),  # tokens, which the kernel looks at
    ):
        with pytest.raises(ValueError, match=r"^(x|lengths|memory_budget): expected"):
            layer.forward(bad, **options)
        with pytest.raises(ValueError, match=r"^(x|lengths|memory_budget): expected"):
            layer.forward(bad, noise=Noise(7), **options)
    for _ in range(2):
        assert (layer.forward(x)[0] == other.forward(x)[0]).all()


def test_results_of_a_step():
    """As `test_layers` checks all others: one helper of theirs, with noise."""
    layer = fusedrnn.LSTM(3, 8, zoneout_h=1.0, zoneout_c=1.0, seed=0)
    x = np.ones((4, 2, 3), np.float32)
    results, grads = step(layer, x, None, np.ones((4, 2, 8), np.float32), None)
    assert not results["y"].any()  # nothing ever changes
    assert (grads["dstate_00"] == 4).all()
    assert not grads["weight_hh_l0"].any()


def test_errors():
    for name in ("dropout", "recurrent_dropout", "zoneout_h"):
        for bad in (-0.1, 1.5, float("nan")):
            with pytest.raises(ValueError, match=f"^{name}: expected 0 to 1, got"):
                fusedrnn.GRU(2, 3, 2, **{name: bad})
        with pytest.raises(TypeError, match=f"^{name}: expected a number, got str"):
            fusedrnn.GRU(2, 3, 2, **{name: "0.5"})
    with pytest.warns(UserWarning, match="between layers"):
        fusedrnn.GRU(2, 3, dropout=0.5)
    p = make_problem("gru", T=2, N=1, I=2, H=3, dtype="float32")
    for bad, error_type, text in (
        (5, TypeError, "noise: expected CellNoise, got int"),
        (CellNoise(-1, 0.5), ValueError, "noise.seed: expected"),
        (CellNoise(1, 1.5), ValueError, "recurrent_dropout: expected 0 to 1"),
        (CellNoise(1, zoneout=(0.0, 2.0)), ValueError, "zoneout_c: expected 0 to 1"),
    ):
        with pytest.raises(error_type, match=text):
            functional.forward("gru", p.x, p.state, p.weights, noise=bad)
    layer, x = fusedrnn.GRU(2, 3, recurrent_dropout=0.5), np.ones((1, 1, 2), np.float32)
    with pytest.raises(TypeError, match=r"^noise: expected fusedrnn.Noise, got int"):
        layer.forward(x, noise=3)
    for bad in (Noise(-1), Noise(2**64), Noise(0, -1), Noise(0, 0, 2**63)):
        with pytest.raises(ValueError, match=r"^noise\.\w+: expected"):
            layer.forward(x, noise=bad)
    with pytest.raises(TypeError, match=r"^noise.seed: expected an integer"):
        layer.forward(x, noise=Noise(1.5))
