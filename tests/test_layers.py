# SPDX-License-Identifier: MIT
"""RNN, LSTM, GRU: results against the reference, PyTorch, and one another."""

import copy
import pickle
from functools import partial

import fusedrnn
import numpy as np
import pytest
from layer_cases import DTYPES, LAYERS, H, I, N, T, cast, flat, like, step, twin


@pytest.fixture(params=LAYERS)
def make(request):
    return LAYERS[request.param]


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tokens", [False, True], ids=["floats", "tokens"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_layers": 2, "bidirectional": True},
        {"num_layers": 3, "batch_first": True, "bias": False},
        {"bidirectional": True, "batch_first": True},
    ],
    ids=["plain", "deep_both", "deep_batch_first", "both_batch_first"],
)
def test_equals_the_reference(make, options, tokens, dtype, rng, assert_close):
    layer = make(I, H, dtype=dtype, seed=1, **options)
    for name, a in layer.params.items():
        a *= 0.5 if name.startswith("weight_ln") else 1  # rounding would grow from step to step
    reference = twin(layer, fusedrnn.reference, np.float64)
    lead = (N, T) if layer.batch_first else (T, N)
    x = rng.integers(0, I, lead) if tokens else rng.standard_normal((*lead, I)).astype(dtype)
    y, state_n = layer(x)
    state, dy, dstate = like(state_n, rng), like(y, rng), like(state_n, rng)
    for given in ((state, dy, dstate), (None, dy, None), (state, None, dstate)):
        for trained in (layer, reference):
            trained.zero_grad()
        results, grads = step(layer, x, *given)
        expected, expected_grads = step(reference, *cast((x, *given), np.float64))
        assert grads.keys() == expected_grads.keys()
        for name, a in results.items():
            assert a.dtype == dtype
            assert_close(a, expected[name], "y")
        for name, a in grads.items():
            assert a.dtype == dtype
            assert_close(a, expected_grads[name], "grad")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("name", ["rnn_tanh", "rnn_relu", "lstm", "gru"])
def test_equals_torch(name, bias, dtype, rng, assert_close):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    options = {"num_layers": 2, "bidirectional": True, "batch_first": True, "bias": bias}
    extra = {"nonlinearity": "relu"} if name == "rnn_relu" else {}
    theirs = getattr(torch.nn, LAYERS[name](1, 1).__class__.__name__)(I, H, **options, **extra)
    theirs = theirs.double()
    ours = LAYERS[name](I, H, dtype=dtype, **options)
    ours.load_state_dict(theirs.state_dict())

    x = rng.standard_normal((N, T, I)).astype(dtype)
    y, state_n = ours(x)
    state, dy, dstate = like(state_n, rng), like(y, rng), like(state_n, rng)
    results, grads = step(ours, x, state, dy, dstate)

    leaf = partial(torch.tensor, dtype=torch.float64, requires_grad=True)
    xt, state_t = leaf(x), [leaf(a) for a in flat(state)]
    yt, state_nt = theirs(xt, tuple(state_t) if isinstance(state, tuple) else state_t[0])
    outputs = [yt, *flat(state_nt)]
    torch.autograd.backward(outputs, [torch.tensor(a).double() for a in (dy, *flat(dstate))])
    for actual, output in zip(results.values(), outputs, strict=True):
        assert_close(actual, output.detach().numpy(), "y")
    expected = {"dx": xt.grad} | {f"dstate_0{k}": a.grad for k, a in enumerate(state_t)}
    expected |= {key: p.grad for key, p in theirs.named_parameters()}
    assert grads.keys() == expected.keys()
    for key, a in grads.items():
        assert_close(a, expected[key].numpy(), "grad")


@pytest.mark.parametrize("order", ["TN", "NT"])
@pytest.mark.parametrize("integer", [np.int64, np.int32, np.uint8, np.uint64])
def test_tokens_are_one_hot_rows(make, integer, order, rng):
    layer = make(I, H, bidirectional=True, batch_first=order == "NT", seed=2)
    tokens = rng.integers(0, I, (4, 4)).astype(integer)
    y, _, tape = layer.forward(tokens)
    one_hot = np.eye(I, dtype=np.float32)[tokens]
    y_one_hot, _, tape_one_hot = layer.forward(one_hot)
    np.testing.assert_array_equal(y, y_one_hot)
    dy = np.ones_like(y)
    dx, _ = layer.backward(tape, dy)
    grads = {name: a.copy() for name, a in layer.grads.items()}
    layer.zero_grad()
    layer.backward(tape_one_hot, dy)
    assert dx is None
    for name, a in layer.grads.items():
        np.testing.assert_allclose(grads[name], a, rtol=0, atol=1e-5 * np.abs(a).max())


def test_inference_equals_training_and_leaves_y_writable(make, rng):
    layer = make(I, H, 2, bidirectional=True, seed=0)
    x = rng.standard_normal((T, N, I)).astype(np.float32)
    y, state = layer(x)
    y_training, state_training, _ = layer.forward(x)
    np.testing.assert_array_equal(y, y_training)
    for a, b in zip(flat(state), flat(state_training), strict=True):
        np.testing.assert_array_equal(a, b)
    y[...] = 0


def test_y_of_training_is_read_only(make):
    for batch_first in (False, True):
        y, _, _ = make(I, H, batch_first=batch_first).forward(np.zeros((T, N, I), np.float32))
        with pytest.raises(ValueError, match="read-only"):
            y[...] = 0


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("rnn_tanh", 0),
        ("lstm", 6),
        ("gru", 4),
        ("lstm_norm", 15 + 9 / 64),
        ("lstm_peephole_norm", 15 + 9 / 64),
        ("lstm_coupled_norm", 12 + 7 / 64),
        ("gru_norm", 10 + 6 / 64),
    ],
)
def test_the_tape_takes_what_the_readme_says(name, values):
    """H is a multiple of every vector: nothing is rounded up but the whole, to a page."""
    T, N, H = 50, 8, 64
    layer = LAYERS[name](3, H, num_layers=2, bidirectional=True, seed=0)
    *_, tape = layer.forward(np.ones((T, N, 3), np.float32))
    least = 4 * values * 4 * T * N * H
    assert least < tape.nbytes <= least + 4 * (2 * 4 * N * H + 4096)


@pytest.mark.parametrize("zoneout", [0, 0.5])
def test_an_rnn_keeps_a_copy_of_h_only_where_zoneout_makes_y_another(zoneout):
    T, N, H = 50, 8, 64
    *_, tape = fusedrnn.RNN(3, H, zoneout_h=zoneout, seed=0).forward(np.ones((T, N, 3), "f"))
    copies = 4 * T * N * H if zoneout else 0
    assert copies < tape.tapes[0].core.nbytes <= copies + 4 * N * H + 4096


def test_state_may_change_after_forward(make, rng):
    """Only x, y and the parameters are referred to."""
    layer = make(I, H, seed=0)
    x = rng.standard_normal((T, N, I)).astype(np.float32)
    state = like(layer(x)[1], rng)
    for engine in (fusedrnn.functional, fusedrnn.reference):
        layer.engine = engine
        results = []
        for spoil in (False, True):
            given = cast(state, np.float32) if isinstance(state, tuple) else state.copy()
            y, state_n, tape = layer.forward(x, given)
            if spoil:
                for a in (*flat(given), *flat(state_n)):
                    a.fill(np.nan)
            layer.zero_grad()
            layer.backward(tape, np.ones_like(y))
            results.append({name: a.copy() for name, a in layer.grads.items()})
        for name, a in results[0].items():
            np.testing.assert_array_equal(a, results[1][name])


def test_pieces_with_carried_state_equal_the_whole(make, rng):
    layer = make(I, H, 2, seed=0)
    x = rng.standard_normal((T, N, I)).astype(np.float32)
    whole, last = layer(x)
    state, pieces = None, []
    for t in (slice(0, 1), slice(1, 4), slice(4, T)):
        y, state = layer(x[t], state)
        pieces.append(y)
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
    for a, b in zip(flat(state), flat(last), strict=True):
        np.testing.assert_array_equal(a, b)


def test_layout_of_directions_and_state(make, rng):
    """The reverse half is the forward layer on the flipped sequence; slots are l*D + d."""
    both, one = make(I, H, bidirectional=True, seed=3), make(I, H)
    x = rng.standard_normal((T, N, I)).astype(np.float32)
    y, state = both(x)
    for d, suffix in enumerate(("", "_reverse")):
        one.load_state_dict({name: both.params[name + suffix] for name in one.params})
        time = slice(None, None, -1 if d else 1)
        y_one, state_one = one(np.ascontiguousarray(x[time]))
        np.testing.assert_array_equal(y[:, :, d * H : (d + 1) * H], y_one[time])
        for a, b in zip(flat(state), flat(state_one), strict=True):
            np.testing.assert_array_equal(a[d : d + 1], b)


def test_changing_a_weight_in_place_counts_at_once(make, rng):
    """No packed copy inside may go stale, and a replaced array is taken as well."""
    layer = make(I, H, seed=0)
    x = rng.standard_normal((T, N, I)).astype(np.float32)
    before, _ = layer(x)
    layer.params["weight_hh_l0"][...] *= 0.5
    changed, _ = layer(x)
    assert (before != changed).any()
    fresh = twin(layer, layer.engine, np.float32)
    np.testing.assert_array_equal(changed, fresh(x)[0])
    layer.params["weight_hh_l0"] = np.zeros_like(layer.params["weight_hh_l0"])
    assert (layer(x)[0] != changed).any()


@pytest.mark.parametrize("engine", [fusedrnn.functional, fusedrnn.reference])
def test_gradients_add_up_and_a_tape_runs_twice(make, engine, rng):
    layer = make(I, H, 2, bidirectional=True, seed=0)
    layer.engine = engine
    x = rng.standard_normal((T, N, I)).astype(np.float32)
    y, _, tape = layer.forward(x)
    dy = like(y, rng)
    dx, _ = layer.backward(tape, dy)
    once = {name: a.copy() for name, a in layer.grads.items()}
    dx_again, _ = layer.backward(tape, dy)
    np.testing.assert_array_equal(dx, dx_again)
    for name, a in layer.grads.items():
        np.testing.assert_allclose(a, 2 * once[name], rtol=0, atol=1e-5 * np.abs(a).max())
    arrays = list(layer.grads.values())
    for a in arrays:
        a.fill(np.nan)
    layer.backward(tape, dy, accumulate=False)
    for name, a in layer.grads.items():
        np.testing.assert_array_equal(a, once[name])
    layer.zero_grad()
    assert all(a is b for a, b in zip(arrays, layer.grads.values(), strict=True))
    assert not any(a.any() for a in arrays)


@pytest.mark.parametrize("shape", [(1, 5), (5, 1), (1, 1)])
@pytest.mark.parametrize("batch_first", [False, True])
def test_axes_of_size_one(make, shape, batch_first, rng, assert_close):
    """Their strides mean nothing, whichever way an array came to them."""
    layer = make(I, H, bidirectional=True, batch_first=batch_first, dtype=np.float64, seed=1)
    reference = twin(layer, fusedrnn.reference, np.float64)
    x, dy = (rng.standard_normal((*shape[::-1], n)).swapaxes(0, 1) for n in (I, 2 * H))
    results, grads = step(layer, x.copy(), None, dy, None)
    expected, expected_grads = step(reference, x.copy(), None, dy, None)
    for name, a in results.items():
        assert_close(a, expected[name], "y")
    for name, a in grads.items():
        assert_close(a, expected_grads[name], "grad")


@pytest.mark.parametrize("cell", [False, True], ids=["layer", "cell"])
@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))]
)
def test_copies_keep_their_engine(cell, copied):
    layer = fusedrnn.GRUCell(I, H, seed=0) if cell else fusedrnn.GRU(I, H, seed=0)
    assert copied(layer).engine is fusedrnn.functional
    layer.engine = fusedrnn.reference
    other = copied(layer)
    assert other.engine is fusedrnn.reference
    assert (
        other.params["weight_hh" if cell else "weight_hh_l0"]
        == layer.params["weight_hh" if cell else "weight_hh_l0"]
    ).all()


def test_an_engine_stays_with_a_layer_of_another_dtype():
    layer = fusedrnn.LSTM(I, H)
    layer.engine = fusedrnn.reference
    assert layer.to("cpu", "float64").engine is fusedrnn.reference


@pytest.mark.parametrize("engine", ["reference", None, np])
def test_what_is_no_engine(engine):
    for layer in (fusedrnn.GRU(I, H), fusedrnn.GRUCell(I, H)):
        with pytest.raises(
            TypeError, match=r"engine: expected fusedrnn.functional or fusedrnn.ref"
        ):
            layer.engine = engine
        assert layer.engine is fusedrnn.functional


@pytest.mark.parametrize(("seed", "error"), [("a", TypeError), (-1, ValueError)])
def test_seeds_that_are_none(seed, error):
    with pytest.raises(error, match="seed: "):
        fusedrnn.GRU(I, H, seed=seed)
