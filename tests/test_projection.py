# SPDX-License-Identifier: MIT
"""Layers with proj_size: against the reference and PyTorch, in every form.

The kernels' own tests run projected LSTMs beside all other cells.
"""

import itertools
import pickle
from functools import partial

import fusedrnn
import numpy as np
import pytest
from fusedrnn import LSTM, reference
from fusedrnn.gradflow import gate_saturation, gradient_flow
from kernel_cases import make_problem, run_kernel
from layer_cases import DTYPES, cast, like, step, twin
from projection_cases import CELLS, H, I, N, P, T, arguments, deep
from ragged_cases import FORMS as RAGGED
from ragged_cases import form_of

FORMS = {"plain": {}} | {name: form_of(name) for name in RAGGED}
each_form = pytest.mark.parametrize("form", FORMS)
each_cell = pytest.mark.parametrize("cell", CELLS)


def results(layer, x, state, dy, dstate, **options):
    layer.zero_grad()
    y, (h, c), tape = layer.forward(x, state, **options)
    dx, (dh, dc) = layer.backward(tape, dy, dstate)
    named = {"y": y, "h": h, "c": c, "dx": dx, "dh": dh, "dc": dc}
    named |= {name: grad.copy() for name, grad in layer.grads.items()}
    return {name: a for name, a in named.items() if a is not None}


@pytest.mark.parametrize("tokens", [False, True], ids=["floats", "tokens"])
@pytest.mark.parametrize("dtype", DTYPES)
@each_form
@each_cell
def test_equals_the_reference(cell, form, dtype, tokens, isa, assert_close):
    layer = deep(cell, dtype=dtype)
    exact = twin(layer, reference, np.float64)
    given = arguments(layer, tokens)
    got = results(layer, *given, **FORMS[form])
    wanted = results(exact, *cast(given, np.float64), **FORMS[form])
    assert got.keys() == wanted.keys()
    for name, value in got.items():
        kind = "y" if name in ("y", "h", "c") else "grad"
        assert value.dtype == dtype
        if kind == "y" or dtype == np.float64 or not layer.layer_norm:  # h of the start is small,
            assert_close(value, wanted[name], kind)  # and what its norm passes back is large


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("batch_first", [True, False])
def test_equals_torch(batch_first, bias, dtype, assert_close):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    options = {"num_layers": 2, "bidirectional": True, "bias": bias, "batch_first": batch_first}
    theirs = torch.nn.LSTM(I, H, proj_size=P, **options).double()
    ours = LSTM(I, H, proj_size=P, dtype=dtype, **options)
    assert list(ours.params) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())

    x, state, dy, dstate = arguments(ours)
    if batch_first:
        x, dy = (np.ascontiguousarray(a.swapaxes(0, 1)) for a in (x, dy))
    y_and_state, grads = step(ours, x, state, dy, dstate)
    leaf = partial(torch.tensor, dtype=torch.float64, requires_grad=True)
    xt, state_t = leaf(x), tuple(map(leaf, state))
    yt, state_nt = theirs(xt, state_t)
    outputs = [yt, *state_nt]
    torch.autograd.backward(outputs, [torch.tensor(a).double() for a in (dy, *dstate)])
    for actual, output in zip(y_and_state.values(), outputs, strict=True):
        assert_close(actual, output.detach().numpy(), "y")
    expected = {"dx": xt.grad} | {f"dstate_0{k}": a.grad for k, a in enumerate(state_t)}
    expected |= {key: p.grad for key, p in theirs.named_parameters()}
    assert grads.keys() == expected.keys()
    for key, a in grads.items():
        assert_close(a, expected[key].numpy(), "grad")


def test_parameters_are_those_of_torch():
    layer = deep("peephole")
    names = ["weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_ch", "weight_hr"]
    suffixes = ["_l0", "_l0_reverse", "_l1", "_l1_reverse"]
    assert list(layer.params) == [name + suffix for suffix in suffixes for name in names]
    shapes = {"weight_ih_l1": (4 * H, 2 * P), "weight_hh_l0": (4 * H, P), "weight_hr_l1": (P, H)}
    for name, shape in shapes.items():
        assert layer.params[name].shape == layer.grads[name].shape == shape
    assert all(np.abs(a).max() <= 1 / np.sqrt(H) for a in layer.params.values())
    assert np.abs(layer.params["weight_hr_l0"]).max() > 1 / np.sqrt(2 * H)
    assert "weight_hr_l0" not in LSTM(I, H).params
    state = layer.zero_state(N)
    assert [a.shape for a in state] == [(4, N, P), (4, N, H)]


def test_repr_and_pickle():
    assert repr(LSTM(2, 3, proj_size=1)) == "LSTM(2, 3, proj_size=1)"
    layer = deep()
    x = arguments(layer)[0]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(layer))(x)[0], layer(x)[0])


@pytest.mark.parametrize("n", [2, 3, 7])
@pytest.mark.parametrize(
    ("T", "N", "H", "P"),
    [(5, 2, 130, 70), (30, 1, 200, 5), (4, 20, 65, 64), (40, 64, 33, 7), (9, 50, 40, 20)],
)
def test_threads(T, N, H, P, n, isa, threads):
    """Threads with no block of h of their own, units split, and, in the last two, rows split."""
    p = make_problem("lstm", T=T, N=N, I=20, H=H, P=P, dtype="float32")
    for problem in (p, p.replace(reverse=True)):
        threads(1)
        one = run_kernel(problem)
        threads(n)
        for name, value in run_kernel(problem).items():
            np.testing.assert_array_equal(value, one[name], err_msg=name)


@each_form
def test_checkpoints_have_the_bits_of_the_whole_tape(form):
    layer = deep()
    given = arguments(layer)
    wanted = results(layer, *given, **FORMS[form])
    for every in (1, 4, T):
        for name, value in results(layer, *given, checkpoint=every, **FORMS[form]).items():
            np.testing.assert_array_equal(value, wanted[name], err_msg=name)


def test_pieces_and_chunks_are_the_whole():
    layer = LSTM(I, H, 2, proj_size=P, dtype=np.float64, seed=0)
    x, state, dy, _ = arguments(layer)
    y, last, tape = layer.forward(x, state)
    layer.backward(tape, dy)
    whole = {name: grad.copy() for name, grad in layer.grads.items()}
    layer.zero_grad()
    (chunk,) = fusedrnn.chunks(layer, x, T, state=state)
    chunk.backward(dy)
    for name, grad in layer.grads.items():
        np.testing.assert_array_equal(grad, whole[name])
    for first, end in itertools.pairwise((0, 1, 4, T)):
        part, state = layer(x[first:end], state)
        np.testing.assert_array_equal(part, y[first:end])
    for a, b in zip(state, last, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@each_cell
def test_frozen_steps_are_the_sequence(cell, dtype, in_place, isa, threads):
    for n in (1, 3):
        threads(n)
        layer = deep(cell, bidirectional=False, dtype=dtype)
        x, state, *_ = arguments(layer)
        frozen = layer.freeze()
        y, wanted = layer(x, state)
        np.testing.assert_array_equal(frozen(x, state)[0], y)
        for t, x_t in enumerate(x):
            state = frozen.step(x_t, state, out=state if in_place else None)
            np.testing.assert_array_equal(state[0][-1], y[t])
        for a, b in zip(state, wanted, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_frozen_step_in_place_on_threads(n, threads):
    """The new h is written only when every thread has read the old one."""
    layer = LSTM(64, 400, proj_size=200, seed=0)
    frozen, x = layer.freeze(), np.ones((2, 64), np.float32)
    threads(1)
    state = like(layer.zero_state(2), np.random.default_rng(0))
    wanted = state
    for _ in range(5):
        wanted = frozen.step(x, wanted)
    threads(n)
    for _ in range(5):
        frozen.step(x, state, out=state)
    for a, b in zip(state, wanted, strict=True):
        np.testing.assert_array_equal(a, b)


def test_gradient_flow_and_saturation():
    layer = LSTM(I, H, 2, proj_size=P, seed=0)
    x = arguments(layer)[0]
    flow = gradient_flow(layer, x)
    assert flow.by_lag.shape == (T + 1, 2)
    assert flow.by_lag[0].tolist() == [0, pytest.approx(1)]
    assert (flow.by_lag[1:] > 0).all()
    assert [set(shares) for shares in gate_saturation(layer, x)] == [set("ifgo")] * 2


def test_the_tape_keeps_u_and_a_narrower_h():
    T, N, H, P = 50, 8, 64, 16
    *_, tape = LSTM(3, H, proj_size=P, seed=0).forward(np.ones((T, N, 3), np.float32))
    least = 4 * (6 + 1) * T * N * H
    assert least < tape.nbytes <= least + 4 * N * (H + P) + 4096


@pytest.mark.parametrize("reach", [None, 0, 3])
@each_form
@each_cell
def test_with_noise_and_truncated(cell, form, reach, threads, assert_close):
    """Recurrent dropout and zoneout of the projected h, and errors that reach so far."""
    noisy = {"dropout": 0.2, "recurrent_dropout": 0.3, "zoneout_h": 0.2, "zoneout_c": 0.1}
    layer = deep(cell, dtype=np.float64, **noisy)
    exact = twin(layer, reference, np.float64, proj_size=P, **noisy)
    x, state, dy, dstate = arguments(layer)
    for count in (1, 3):
        threads(count)
        for trained in (layer, exact):
            trained.zero_grad()
            y, _, tape = trained.forward(x, state, noise=fusedrnn.Noise(4), **FORMS[form])
            dx, dstate_0 = trained.backward(tape, dy, dstate, truncate=reach)
            arrays = {"dx": dx, "dh": dstate_0[0], "dc": dstate_0[1], **trained.grads}
            if trained is layer:
                got, got_y = {name: a.copy() for name, a in arrays.items()}, y
        assert_close(got_y, y, "y")
        for name, value in got.items():
            assert_close(value, arrays[name], "grad")
    assert_close(layer(x, state)[0], exact(x, state)[0], "y")
    one_way = LSTM(I, H, 2, proj_size=P, zoneout_h=0.2, seed=0)
    frozen, now = one_way.freeze(), one_way.zero_state(N)
    whole = frozen(np.float32(x), now)[0]
    for x_t in np.float32(x):
        now = frozen.step(np.ascontiguousarray(x_t), now, out=now)
    assert (now[0][-1] == whole[-1]).all()
