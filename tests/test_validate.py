# SPDX-License-Identifier: MIT
"""Bad arguments of every kind: the type of the error, and what it says. Nothing is half done."""

import re

import numpy as np
import pytest
from fusedrnn import functional
from fusedrnn.weights import Weights

T, N, I, H = 3, 2, 4, 5
F4 = np.float32


def zeros(*shape, dtype=F4):
    return np.zeros(shape, dtype)


def strided(a):
    """The same values, no longer C-contiguous."""
    return np.repeat(a, 2, axis=-1)[..., ::2]


def unaligned(a):
    raw = np.zeros(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
    assert not raw.flags.aligned
    return raw


def read_only(a):
    a.flags.writeable = False
    return a


def lstm_weights(**changes):
    weights = Weights(zeros(4 * H, I), zeros(4 * H, H), zeros(4 * H), zeros(4 * H))
    return weights._replace(**changes)


def run(**changes):
    arguments = {"cell": "lstm", "x": zeros(T, N, I), "state": None, "weights": lstm_weights()}
    return functional.infer(**(arguments | changes))


def changed(value):
    """Short test names: of all parameters, what is changed."""
    return next(iter(value)) if isinstance(value, dict) else ""


STATE = (zeros(N, H), zeros(N, H))
PROJECTED = lstm_weights(weight_hh=zeros(4 * H, 3), weight_hr=zeros(3, H))
HUGE = np.lib.stride_tricks.as_strided(zeros(1), (2**28, 2**28, I), (0, 0, 4))

BAD = [
    # the kind of thing
    ({"cell": "transformer"}, ValueError, "cell: expected one of rnn_tanh, .*, got 'transformer'"),
    ({"cell": 3}, TypeError, "cell: expected str, got int"),
    ({"cell": ["lstm"]}, TypeError, "cell: expected str, got list"),
    ({"x": zeros(T, N, I).tolist()}, TypeError, "x: expected ndarray of dtype float32, got list"),
    ({"x": np.ma.masked_array(zeros(T, N, I))}, TypeError, "x: expected ndarray.*MaskedArray"),
    ({"x": None}, TypeError, "x: expected ndarray of dtype float32, got NoneType"),
    ({"x": zeros(T, N, I, dtype=float)}, TypeError, "x: expected dtype float32, got float64"),
    ({"x": zeros(T, N, dtype=bool)}, TypeError, "x: expected dtype float32, got bool"),
    ({"x": zeros(T, N, I, dtype=">f4")}, TypeError, "x: expected dtype float32, got >f4"),
    ({"x": zeros(T, N, I, dtype=object)}, TypeError, "x: expected dtype float32, got object"),
    ({"weights": [1, 2, 3, 4]}, TypeError, "weights: expected Weights, a tuple of 10, got list"),
    ({"weights": STATE}, TypeError, "weights: expected Weights, a tuple of 10, got tuple of 2"),
    ({"weights": lstm_weights(bias_hh=[0.0] * 20)}, TypeError, "bias_hh: expected ndarray"),
    ({"weights": lstm_weights(weight_ih=None)}, TypeError, "weight_ih: expected ndarray"),
    (
        {"weights": lstm_weights(weight_hh=zeros(4 * H, H, dtype=np.float16))},
        TypeError,
        "weight_hh: expected dtype float32 or float64, got float16",
    ),
    (
        {"weights": lstm_weights(weight_ih=zeros(4 * H, I, dtype=float))},
        TypeError,
        "weight_ih: expected dtype float32, got float64",
    ),
    ({"state": STATE[0]}, TypeError, re.escape("state: expected the tuple (h_0, c_0) or None")),
    ({"state": list(STATE)}, TypeError, r"state: expected the tuple \(h_0, c_0\).*got list"),
    ({"state": STATE[:1]}, TypeError, r"state: expected the tuple \(h_0, c_0\).*tuple of 1"),
    ({"state": (None, None)}, TypeError, "h_0: expected ndarray.*got NoneType"),
    ({"reverse": 1}, TypeError, "reverse: expected True or False, got int"),
    ({"out": "y"}, TypeError, "out: expected ndarray of dtype float32, got str"),
    # shapes and sizes
    (
        {"x": zeros(T, N, 7)},
        ValueError,
        r"x: expected shape \(T, N, I\) with I = 4, got \(3, 2, 7\)",
    ),
    ({"x": zeros(T, I)}, ValueError, r"x: expected shape \(T, N, I\) with I = 4, got \(3, 4\)"),
    ({"x": zeros(T, N, I, dtype=int)}, ValueError, r"x: expected integers \(T, N\), .*\(3, 2, 4\)"),
    ({"x": zeros(0, N, I)}, ValueError, r"x: expected T, N, I >= 1, got shape \(0, 2, 4\)"),
    ({"x": zeros(T, 0, I)}, ValueError, r"x: expected T, N, I >= 1, got shape \(3, 0, 4\)"),
    ({"x": zeros(T, 0, dtype=int)}, ValueError, r"x: expected integers \(T, N\), sizes >= 1"),
    ({"x": np.array(1.0, F4)}, ValueError, r"x: expected shape \(T, N, I\)"),
    ({"x": np.array(1)}, ValueError, r"x: expected integers \(T, N\), sizes >= 1, got shape \(\)"),
    ({"x": HUGE}, ValueError, "x: expected C-contiguous, got strides"),
    (
        {"weights": lstm_weights(weight_hh=zeros(512, 64))},
        ValueError,
        re.escape("weight_hh: expected shape (4*H, H) = (512, 128), got (512, 64)"),
    ),
    (
        {"weights": lstm_weights(weight_ih=zeros(19, I))},
        ValueError,
        re.escape("weight_ih: expected shape (4*H, I) = (20, 4), got (19, 4)"),
    ),
    (
        {"weights": lstm_weights(bias_ih=zeros(H))},
        ValueError,
        re.escape("bias_ih: expected shape (4*H,) = (20,), got (5,)"),
    ),
    (
        {"weights": lstm_weights(weight_hh=zeros(20, 3), weight_hr=zeros(3, 4))},
        ValueError,
        re.escape("weight_hr: expected shape (P, H) = (3, 5), got (3, 4)"),
    ),
    (
        {"weights": lstm_weights(weight_hr=zeros(3, 5))},
        ValueError,
        re.escape("weight_hh: expected shape (4*H, P) = (20, 3), got (20, 5)"),
    ),
    (
        {"weights": lstm_weights(weight_hr=zeros(5, 5))},
        ValueError,
        re.escape("weight_hr: expected shape (P, H) with P < H = 5, got (5, 5)"),
    ),
    ({"weights": lstm_weights(weight_hr=zeros())}, ValueError, r"weight_hr: .* got \(\)"),
    ({"weights": lstm_weights(weight_hr=zeros(0, 5))}, ValueError, r"weight_hr: .* got \(0, 5\)"),
    ({"weights": lstm_weights(weight_hr=[[1.0]])}, TypeError, "weight_hr: expected ndarray"),
    (
        {"weights": lstm_weights(weight_hr=zeros(3, 5, dtype=float))},
        TypeError,
        "weight_hr: expected dtype float32, got float64",
    ),
    (
        {"weights": PROJECTED, "state": STATE},
        ValueError,
        r"h_0: expected shape \(N, P\) = \(2, 3\)",
    ),
    (
        {"weights": PROJECTED, "state": (zeros(N, 3), zeros(N, 3))},
        ValueError,
        r"c_0: expected shape \(N, H\) = \(2, 5\)",
    ),
    (
        {"weights": PROJECTED, "out": zeros(T, N, H)},
        ValueError,
        r"out: expected shape \(T, N, P\) = \(3, 2, 3\)",
    ),
    ({"weights": lstm_weights(weight_hh=zeros(20))}, ValueError, r"weight_hh: .* got \(20,\)"),
    ({"weights": lstm_weights(weight_hh=zeros())}, ValueError, r"weight_hh: .* got \(\)"),
    ({"weights": lstm_weights(weight_ih=zeros())}, ValueError, r"weight_ih: .* got \(\)"),
    ({"weights": lstm_weights(weight_hh=zeros(0, 0))}, ValueError, r"weight_hh: .* got \(0, 0\)"),
    ({"weights": lstm_weights(weight_ih=zeros(20, 0))}, ValueError, r"weight_ih: .* got \(20, 0\)"),
    (
        {"weights": lstm_weights(weight_hh=zeros(3, 1))},
        ValueError,
        r"weight_hh: .* = \(4, 1\), got \(3, 1\)",
    ),
    (
        {"state": (zeros(N, H), zeros(1, H))},
        ValueError,
        re.escape("c_0: expected shape (N, H) = (2, 5), got (1, 5)"),
    ),
    ({"out": zeros(T, N, I)}, ValueError, r"out: expected shape \(T, N, H\) = \(3, 2, 5\)"),
    # layout
    ({"x": strided(zeros(T, N, I))}, ValueError, "x: expected C-contiguous.*use np.ascontiguous"),
    ({"x": strided(zeros(T, N, dtype=int))}, ValueError, "x: expected C-contiguous, got strides"),
    ({"x": np.asfortranarray(zeros(T, N, I))}, ValueError, "x: expected C-contiguous"),
    ({"x": unaligned(zeros(T, N, I))}, ValueError, "x: expected aligned memory"),
    (
        {"weights": lstm_weights(weight_hh=np.asfortranarray(zeros(4 * H, H)))},
        ValueError,
        "weight_hh: expected C-contiguous",
    ),
    ({"state": (STATE[0], strided(STATE[1]))}, ValueError, "c_0: expected C-contiguous"),
    ({"out": strided(zeros(T, N, H))}, ValueError, "out: expected C-contiguous"),
    ({"out": zeros(T, N, H)[::-1]}, ValueError, "out: expected C-contiguous"),
    ({"out": zeros(T, 2 * N, H)[:, ::2]}, None, ""),
    ({"out": zeros(T, 2 * N, H)[:, :N]}, ValueError, "out: expected C-contiguous"),
    ({"out": np.broadcast_to(zeros(H), (T, N, H))}, ValueError, "out: expected C-contiguous"),
    ({"out": read_only(zeros(T, N, H))}, ValueError, "out: expected a writable array"),
    # values, which the kernel's own check reads
    ({"x": np.full((T, N), I)}, ValueError, "x: .*4"),
    ({"x": np.full((T, N), -1, np.int8)}, ValueError, "x: .*-1"),
    ({"x": np.full((T, N), 2**64 - 1, np.uint64)}, ValueError, f"x: .*, got {2**64 - 1}$"),
]


@pytest.mark.parametrize(("changes", "error", "message"), BAD, ids=changed)
def test_forward_refuses(changes, error, message):
    if error is None:
        run(**changes)
        return
    with pytest.raises(error, match=rf"^{message}"):
        run(**changes)


def test_out_is_apart_from_what_is_read():
    memory = zeros(T, N, I + H)
    x = np.ascontiguousarray(memory[:, :, :I])
    run(x=x, out=memory[:, :, I:])
    square = lstm_weights(weight_ih=zeros(4 * H, H))
    x = zeros(T, N, H)
    with pytest.raises(ValueError, match=r"^out: expected memory of its own"):
        run(x=x, weights=square, out=x)
    y = zeros(T, N, H)
    with pytest.raises(ValueError, match=r"^out: expected memory of its own"):
        run(state=(y[-1], zeros(N, H)), out=y)


def trained():
    x, weights = zeros(T, N, I), lstm_weights()
    y, _, tape = functional.forward("lstm", x, None, weights)
    return x, y, weights, tape


def ones_like(weights):
    return Weights(*(np.ones_like(a) for a in weights))


BAD_BACKWARD = [
    ({"tape": None}, TypeError, "tape: expected the Tape of functional.forward, got NoneType"),
    ({"dy": [1.0]}, TypeError, "dy: expected ndarray of dtype float32, got list"),
    ({"dy": zeros(T, N, H, dtype=float)}, TypeError, "dy: expected dtype float32, got float64"),
    ({"dy": zeros(T, N, 1)}, ValueError, r"dy: expected shape \(T, N, H\) = \(3, 2, 5\)"),
    ({"dy": strided(zeros(T, N, H))}, ValueError, "dy: expected C-contiguous"),
    ({"dy": np.broadcast_to(F4(1), (T, N, H))}, ValueError, "dy: expected C-contiguous"),
    ({"dstate": STATE[0]}, TypeError, r"dstate: expected the tuple \(dh_n, dc_n\)"),
    ({"dstate": (STATE[0], zeros(N))}, ValueError, r"dc_n: expected shape \(N, H\) = \(2, 5\)"),
    ({"dx": zeros(T, N, H)}, ValueError, r"dx: expected shape \(T, N, I\) = \(3, 2, 4\)"),
    ({"dx": read_only(zeros(T, N, I))}, ValueError, "dx: expected a writable array"),
    ({"grads": list(lstm_weights())}, TypeError, "grads: expected Weights"),
    ({"grads": lstm_weights(bias_ih=None)}, TypeError, "grads.bias_ih: expected ndarray"),
    (
        {"grads": lstm_weights(weight_hh=zeros(4 * H, I))},
        ValueError,
        re.escape("grads.weight_hh: expected shape (4*H, H) = (20, 5), got (20, 4)"),
    ),
    (
        {"grads": lstm_weights(bias_hh=read_only(zeros(20)))},
        ValueError,
        "grads.bias_hh: .*writable",
    ),
]


@pytest.mark.parametrize(("changes", "error", "message"), BAD_BACKWARD, ids=changed)
def test_backward_refuses_before_adding(changes, error, message):
    _, y, weights, tape = trained()
    grads, dx = ones_like(weights), np.ones((T, N, I), F4)
    arguments = {"tape": tape, "dy": np.ones_like(y), "dx": dx, "grads": grads}
    with pytest.raises(error, match=rf"^{message}"):
        functional.backward(**(arguments | changes))
    assert (dx == 1).all()
    assert all((a == 1).all() for a in grads)


def test_backward_keeps_apart_what_it_reads_and_writes():
    x, y, weights, tape = trained()
    with pytest.raises(ValueError, match=r"^grads.weight_ih: expected memory of its own"):
        functional.backward(tape, np.ones_like(y), grads=weights)
    with pytest.raises(ValueError, match=r"^dx: expected memory of its own"):
        functional.backward(tape, np.ones_like(y), dx=x)


def test_backward_of_tokens_and_of_no_bias():
    weights = lstm_weights(bias_ih=None, bias_hh=None)
    y, _, tape = functional.forward("lstm", zeros(T, N, dtype=np.uint8), None, weights)
    dx, _, grads = functional.backward(tape, np.ones_like(y))
    assert dx is None
    assert grads.bias_ih is None
    assert grads.bias_hh is None
    with pytest.raises(TypeError, match=r"^dx: expected None"):
        functional.backward(tape, np.ones_like(y), dx=zeros(T, N, I))
    with pytest.raises(TypeError, match=r"^grads.bias_ih: expected None"):
        functional.backward(tape, np.ones_like(y), grads=lstm_weights())


def test_memory_maps_and_read_only_inputs_are_arrays(tmp_path):
    x = np.memmap(tmp_path / "x", F4, "w+", shape=(T, N, I))
    x[...] = 1
    y, _ = run(x=x)
    expected, _ = run(x=read_only(np.ones((T, N, I), F4)))
    assert (y == expected).all()


def test_one_time_step_or_sequence_in_a_view():
    """Sizes of 1 make odd strides that are still contiguous."""
    x = np.arange(T * I, dtype=F4).reshape(T, I)
    weights = lstm_weights(weight_ih=np.ones((4 * H, I), F4))
    expected, _ = run(x=x.reshape(T, 1, I).copy(), weights=weights)
    out = np.full((T, H), np.nan, F4)
    y, _, tape = functional.forward("lstm", x[:, None], None, weights, out=out[:, None])
    assert (y == expected).all()
    dx, _, _ = functional.backward(tape, np.ones((T, H), F4)[:, None])
    expected, _, _ = functional.backward(tape, np.ones((T, 1, H), F4))
    assert (dx == expected).all()
