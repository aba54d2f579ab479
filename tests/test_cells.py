# SPDX-License-Identifier: MIT
"""RNNCell, LSTMCell, GRUCell: a step is the layer's, forward and back; parameters as PyTorch's."""

from functools import partial

import fusedrnn
import numpy as np
import pytest
from fusedrnn import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
from layer_cases import flat

CELLS = {
    "rnn_tanh": (RNNCell, RNN),
    "rnn_relu": (partial(RNNCell, nonlinearity="relu"), partial(RNN, nonlinearity="relu")),
    "lstm": (LSTMCell, LSTM),
    "gru": (GRUCell, GRU),
    "gru_reset_before": (partial(GRUCell, reset_after=False), partial(GRU, reset_after=False)),
}
DTYPES = (np.float32, np.float64)
T, N, I, H = 5, 3, 4, 6


@pytest.fixture(params=CELLS)
def kind(request):
    return CELLS[request.param]


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def formed(arrays, state):
    """The arrays in the form of a state."""
    return tuple(arrays) if isinstance(state, tuple) else next(iter(arrays))


def pair(kind, **options):
    """A cell and the layer with its parameters."""
    cell, layer = kind[0](I, H, seed=0, **options), kind[1](I, H, **options)
    layer.load_state_dict({f"{name}_l0": a for name, a in cell.params.items()})
    return cell, layer


@pytest.mark.parametrize("tokens", [False, True], ids=["floats", "tokens"])
def test_steps_equal_the_layer_bit_for_bit(kind, tokens, rng):
    cell, layer = pair(kind)
    x = rng.integers(0, I, (T, N)) if tokens else rng.standard_normal((T, N, I)).astype(np.float32)
    y, last = layer(x)
    state = None
    for t in range(T):
        state = cell(x[t], state)
        np.testing.assert_array_equal(flat(state)[0], y[t])
        assert all(a.shape == (N, H) for a in flat(state))
    for a, b in zip(flat(state), flat(last), strict=True):
        np.testing.assert_array_equal(a, b[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tokens", [False, True], ids=["floats", "tokens"])
def test_bptt_by_hand_equals_the_layer(kind, tokens, dtype, rng, assert_close):
    cell, layer = pair(kind, dtype=dtype)
    x = rng.integers(0, I, (T, N)) if tokens else rng.standard_normal((T, N, I)).astype(dtype)
    state, tapes = None, []
    for t in range(T):
        state, tape = cell.forward(x[t], state)
        tapes.append(tape)
    dstate = formed([rng.standard_normal((N, H)).astype(dtype) for _ in flat(state)], state)
    for a in cell.grads.values():
        a.fill(np.nan)
    dxs, dstate_t = [], dstate
    for tape in reversed(tapes):
        dx, dstate_t = cell.backward(tape, dstate_t, accumulate=tape is not tapes[-1])
        dxs.append(dx)

    y, state_n, layer_tape = layer.forward(x)
    dstate_n = formed([a[None] for a in flat(dstate)], state_n)
    dx, dstate_0 = layer.backward(layer_tape, np.zeros_like(y), dstate_n)
    if tokens:
        assert dx is None
        assert dxs == [None] * T
    else:
        assert_close(np.stack(dxs[::-1]), dx, "grad")
    for a, b in zip(flat(dstate_t), flat(dstate_0), strict=True):
        assert_close(a, b[0], "grad")
    for name, a in cell.grads.items():
        assert_close(a, layer.grads[f"{name}_l0"], "grad")


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["rnn_tanh", "rnn_relu", "lstm", "gru"])
def test_equals_torch(name, dtype, bias, rng, assert_close):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    cell = CELLS[name][0](I, H, dtype=dtype, bias=bias)
    extra = {"nonlinearity": "relu"} if name == "rnn_relu" else {}
    theirs = getattr(torch.nn, type(cell).__name__)(I, H, bias=bias, **extra).double()
    cell.load_state_dict(theirs.state_dict())
    assert list(cell.params) == list(theirs.state_dict())

    x = rng.standard_normal((N, I)).astype(dtype)
    zero = cell(x)
    state = formed([rng.standard_normal((N, H)).astype(dtype) for _ in flat(zero)], zero)
    dstate = formed([rng.standard_normal((N, H)).astype(dtype) for _ in flat(zero)], zero)
    state_n, tape = cell.forward(x, state)
    dx, dstate_0 = cell.backward(tape, dstate)

    leaf = partial(torch.tensor, dtype=torch.float64, requires_grad=True)
    xt, state_t = leaf(x), [leaf(a) for a in flat(state)]
    outputs = flat(theirs(xt, formed(state_t, zero)))
    torch.autograd.backward(outputs, [torch.tensor(a).double() for a in flat(dstate)])
    for a, b in zip(flat(state_n), outputs, strict=True):
        assert_close(a, b.detach().numpy(), "y")
    assert_close(dx, xt.grad.numpy(), "grad")
    for a, b in zip(flat(dstate_0), state_t, strict=True):
        assert_close(a, b.grad.numpy(), "grad")
    for key, p in theirs.named_parameters():
        assert_close(cell.grads[key], p.grad.numpy(), "grad")


def test_equals_the_reference(kind, rng, assert_close):
    cell = kind[0](I, H, seed=0)
    reference = kind[0](I, H, dtype=np.float64)
    reference.load_state_dict(cell.state_dict())
    reference.engine = fusedrnn.reference
    x = rng.standard_normal((N, I)).astype(np.float32)
    state, tape = cell.forward(x)
    expected, tape_r = reference.forward(x.astype(float))
    dstate = formed([rng.standard_normal((N, H)).astype(np.float32) for _ in flat(state)], state)
    dx, _ = cell.backward(tape, dstate)
    dx_r, _ = reference.backward(tape_r, formed([a.astype(float) for a in flat(dstate)], state))
    for a, b in zip(flat(state), flat(expected), strict=True):
        assert_close(a, b, "y")
    assert_close(dx, dx_r, "grad")
    for name, a in cell.grads.items():
        assert_close(a, reference.grads[name], "grad")


def test_state_is_the_user_s(kind):
    """It is a new array, and changing it does not change the step that made it."""
    cell, x = kind[0](I, H, seed=0), np.ones((N, I), np.float32)
    state, tape = cell.forward(x)
    ones = formed([np.ones((N, H), np.float32) for _ in flat(state)], state)
    cell.backward(tape, ones)
    grads = {name: a.copy() for name, a in cell.grads.items()}
    for a in flat(state):
        a.fill(np.nan)
    cell.zero_grad()
    cell.backward(tape, ones)
    for name, a in cell.grads.items():
        np.testing.assert_array_equal(a, grads[name])


def test_repr():
    assert repr(LSTMCell(2, 3)) == "LSTMCell(2, 3)"
    assert repr(RNNCell(2, 3, nonlinearity="relu")) == "RNNCell(2, 3, nonlinearity='relu')"
    assert repr(GRUCell(2, 3, reset_after=False, bias=False, dtype="float64")) == (
        "GRUCell(2, 3, reset_after=False, bias=False, dtype=float64)"
    )


def test_forward_refuses(kind):
    cell, x = kind[0](I, H), np.zeros((N, I), np.float32)
    h = np.zeros((N, H), np.float32)
    state = formed([h, h], cell(x))
    short = formed([h[:1], h[:1]], cell(x))
    for call in (cell, cell.forward):
        for arguments, error, message in [
            ((x.tolist(),), TypeError, "x: expected ndarray of dtype float32, got list"),
            ((x.astype(float),), TypeError, "x: expected dtype float32, got float64"),
            ((x[None],), ValueError, r"x: expected shape \(N, I\) with I = 4, got \(1, 3, 4\)"),
            ((x[:, :-1],), ValueError, r"x: expected shape \(N, I\) with I = 4, got \(3, 3\)"),
            ((x[:0],), ValueError, r"x: expected N, I >= 1, got shape \(0, 4\)"),
            ((np.zeros((N, 1), int),), ValueError, r"x: expected integers \(N,\), sizes >= 1"),
            ((np.full(N, I),), ValueError, "x: .*4"),
            ((x, short), ValueError, r"h_0: expected shape \(N, H\) = \(3, 6\), got \(1, 6\)"),
            ((x, [h, h]), TypeError, r"(state: expected the tuple|h_0: expected ndarray)"),
        ]:
            with pytest.raises(error, match=rf"^{message}"):
                call(*arguments)
        call(x, state)
    cell.params["bias_hh"] = np.zeros(2, np.float32)
    with pytest.raises(
        ValueError, match=r"^bias_hh: expected shape \((\d\*)?H,\) = .*, got \(2,\)"
    ):
        cell(x)


def test_errors_leave_gradients_as_they_were(kind):
    cell, other = kind[0](I, H), kind[0](I, H)
    x, one = np.ones((N, I), np.float32), np.ones((N, H), np.float32)
    state, tape = cell.forward(x)
    good, bad = formed([one, one], state), formed([one[:1], one], state)
    for arguments, error, message in [
        ((None, good), TypeError, "tape: expected a CellTape, got NoneType"),
        ((other.forward(x)[1], good), ValueError, "tape: .*another cell"),
        ((tape, bad), ValueError, r"dh_n: expected shape \(N, H\) = \(3, 6\), got \(1, 6\)"),
        ((tape, None), TypeError, r"(dstate: expected the tuple|dh_n: expected ndarray)"),
    ]:
        with pytest.raises(error, match=rf"^{message}"):
            cell.backward(*arguments)
    cell.grads["bias_hh"] = cell.grads["bias_hh"].astype(float)
    with pytest.raises(
        TypeError, match=r"^grads\['bias_hh'\]: expected dtype float32, got float64"
    ):
        cell.backward(tape, good)
    assert not any(a.any() for a in cell.grads.values())
