# SPDX-License-Identifier: MIT
"""What `plan` and the compiled module refuse, whatever the layers above have checked."""

import fusedrnn
import pytest
from cuda_cases import CELLS, H, I, N, T, assert_refused, inputs, make, normal
from fusedrnn.cuda import library
from layer_cases import flat

pytestmark = pytest.mark.usefixtures("cuda")


def test_plan():
    plan = fusedrnn.cuda.plan
    assert plan("gru", 40, 64, directions=2, dtype="bfloat16").unit_blocks == 8
    for arguments, options, error, message in [
        (("gru", 0, 64), {}, ValueError, "N: expected 1 <= N"),
        (("gru", 1, 1.5), {}, TypeError, "H: expected an integer"),
        (("gru_norm", 1, 1), {}, ValueError, "cell: expected one of rnn_tanh"),
        (
            ("gru", 1, 1),
            {"stage": "all"},
            ValueError,
            "stage: expected one of inference, training, backward",
        ),
        (("gru", 1, 1), {"directions": 3}, ValueError, "directions: expected 1 <= directions <= 2"),
        (("gru", 1, 1), {"dtype": "float64"}, TypeError, "dtype: expected float32 or bfloat16"),
        (
            ("gru", 1, 1),
            {"device": "cpu"},
            ValueError,
            "device: expected cuda or cuda:0, cuda:1, ..., got 'cpu'",
        ),
        (("gru", 1, 2**30), {}, ValueError, "x, weights: expected T"),
    ]:
        with pytest.raises(error, match=f"^{message}"):
            plan(*arguments, **options)


def buffers(value):
    return tuple(a._buffer for a in value) if isinstance(value, tuple) else value._buffer


class Prepared:
    """The compiled module, and the arguments of a good call of its forward."""

    def __init__(self):
        self.core, layer = library.core(), make("lstm")
        self.on = self.core.Stream(0, None)
        self.x, self.state, self.dy, _ = map(buffers, inputs(layer))
        names = layer._slots[0][:5]
        self.weights = (tuple(layer.params[n]._buffer if n else None for n in names),)
        self.h_n, c_n = self.new(1, N, H), self.new(1, N, H)
        sizes = "lstm", "float32", T, N, I, H, 1, 0
        tape = self.new(self.core.tape_bytes(*sizes), dtype="uint8")
        workspace = self.new(self.core.workspace_bytes(*sizes, "training"), dtype="uint8")
        self.unaligned = self.new(2**20, dtype="uint8").rows(4, 2**20 - 4)
        self.good = {
            "cell": "lstm", "x": self.x, "lengths": None, "weights": self.weights,
            "state": self.state, "reverse": False, "y": self.new(T, N, H),
            "state_n": (self.h_n, c_n), "tape": tape, "workspace": workspace, "stream": self.on,
        }  # fmt: skip
        self.core.forward(**self.good)

    def new(self, *shape, dtype="float32"):
        return self.core.Buffer(shape, dtype, 0, self.on)

    def refuses(self, cases):
        """Each is a change of the arguments."""
        for changes, error, message in cases:
            with pytest.raises(error, match=f"^{message}"):
                self.core.forward(**(self.good | changes))


@pytest.fixture
def one(cuda):
    return Prepared()


def test_cells(one):
    assert set(one.core.cells()) == set(CELLS)


def test_x_and_weights_that_do_not_fit(one):
    cases = [
        ({"cell": "no"}, ValueError, "cell: expected one of rnn_tanh"),
        ({"x": None}, TypeError, "x: expected a Buffer, got NoneType"),
        ({"x": one.new(T, N)}, ValueError, r"x: expected shape \(T, N, I\), got \(5, 3\)"),
        (
            {"x": one.new(T, N, I + 1)},
            ValueError,
            r"weight_ih: expected shape \(28, 5\), got \(28, 4\)",
        ),
        (
            {"x": one.new(T, N, I, dtype="int32")},
            TypeError,
            "dtype: expected float32 or bfloat16, got int32",
        ),
        (
            {"x": one.new(T, N, I, dtype="bfloat16")},
            TypeError,
            "weight_ih: expected dtype bfloat16, got float32",
        ),
        ({"lengths": one.new(N)}, TypeError, "lengths: expected dtype int32, got float32"),
        (
            {"lengths": one.new(1, dtype="int32")},
            ValueError,
            r"lengths: expected shape \(3,\), got \(1,\)",
        ),
        ({"weights": ()}, ValueError, "weights: expected 1 or 2 directions, got 0"),
        ({"weights": list(one.weights)}, TypeError, "weights: expected a tuple, got list"),
        ({"weights": (one.weights[0][:4],)}, ValueError, "weights: expected 5 of them, got 4"),
        (
            {"weights": ((None, *one.weights[0][1:]),)},
            TypeError,
            "weight_ih: expected a Buffer, got None",
        ),
        (
            {"weights": ((*one.weights[0][:4], one.h_n),)},
            TypeError,
            "weight_ch: expected None, got one",
        ),
        (
            {"weights": one.weights * 2},
            ValueError,
            r"state: expected shape \(2, 3, 7\), got \(1, 3, 7\)",
        ),
    ]
    one.refuses(cases)


def test_states_and_memory_that_do_not_fit(one):
    cases = [
        ({"state": one.state[:1]}, ValueError, "state: expected 2 of them, got 1"),
        (
            {"y": one.new(T, N, 2 * H)},
            ValueError,
            r"y: expected shape \(5, 3, 7\), got \(5, 3, 14\)",
        ),
        (
            {"state_n": (one.h_n, one.h_n)},
            ValueError,
            "state_n: expected memory of its own, got memory shared with state_n",
        ),
        (
            {"state_n": one.state},
            ValueError,
            "state_n: expected memory of its own, got memory shared with an input",
        ),
        (
            {"tape": one.new(8, dtype="uint8")},
            ValueError,
            r"tape: expected aligned memory of \d+ bytes, got 8",
        ),
        ({"workspace": one.good["tape"]}, ValueError, "(tape|workspace): expected"),
        ({"tape": one.unaligned}, ValueError, "tape: expected aligned memory"),
        ({"workspace": one.unaligned}, ValueError, "workspace: expected aligned memory"),
        ({"stream": None}, TypeError, "stream: expected a Stream, got NoneType"),
    ]
    one.refuses(cases)


def test_buffers_that_do_not_fit(one):
    cases = [
        (
            lambda: one.x.rows(3, 3),
            r"rows: expected some of shape \(5, 3, 4\), got 3 and 3 of them",
        ),
        (lambda: one.x.rows(-1, 1), "rows: expected some of"),
        (
            lambda: one.new(0, 3),
            r"shape: expected sizes >= 1 of less than 2\*\*62 bytes, got \(0, 3\)",
        ),
        (lambda: one.new(2**40, 2**40), "shape: expected sizes >= 1 of less than"),
        (
            lambda: one.core.add(one.x, one.dy, one.on),
            r"to: expected shape \(5, 3, 4\), got \(5, 3, 7\)",
        ),
        (lambda: one.core.swap_axes(one.x, one.dy, one.on), r"to: expected shape \(3, 5, 4\), got"),
        (lambda: one.core.add(one.x, one.x, one.on), "to: expected memory of its own"),
    ]
    assert_refused((call, ValueError, message) for call, message in cases)


def test_the_largest_sizes_are_refused_before_memory_is_asked_for():
    with pytest.raises((ValueError, RuntimeError, MemoryError)):
        make("rnn_tanh", sizes=(2**31 - 1, 2**31 - 1))
    x, layer = normal("float32", T, N, I), make("lstm")
    assert [a.shape for a in flat(layer(x)[1])] == [(1, N, H)] * 2


def test_an_error_that_was_told_is_not_left_for_others(emulated):
    emulated()
    with pytest.raises(RuntimeError, match=r"^cudaSetDevice\(7\): "):
        library.core().Buffer((1,), "float32", 7)
    assert library.core().unread_error() == "cudaSuccess"
