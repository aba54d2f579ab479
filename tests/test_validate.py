# SPDX-License-Identifier: MIT
"""Bad arguments of functional.infer: the type of the error, and what it says; odd ones pass."""

import re

import numpy as np
import pytest
from fusedrnn import functional
from validate_cases import F4, STATE, H, I, N, T, changed, lstm_weights, read_only, strided, zeros


def unaligned(a):
    raw = np.zeros(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
    assert not raw.flags.aligned
    return raw


def run(**changes):
    arguments = {"cell": "lstm", "x": zeros(T, N, I), "state": None, "weights": lstm_weights()}
    return functional.infer(**(arguments | changes))


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
