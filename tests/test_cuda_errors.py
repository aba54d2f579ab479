# SPDX-License-Identifier: MIT
"""device="cuda": what is refused, in which words, and that a refusal or failure changes nothing."""

import subprocess
import sys

import fusedrnn
import numpy as np
import pytest
from cuda_cases import CELLS, H, I, N, T, inputs, make, normal
from fusedrnn import _core
from fusedrnn.cuda import library
from layer_cases import flat


def test_importing_the_package_does_not_import_the_module():
    code = "import sys, fusedrnn; print([name for name in sys.modules if 'cuda' in name])"
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True).stdout.split() == ["[]"]


def test_why_not(cuda):
    class Fake:
        count, capability = 1, (9, 0)

        def device_count(self):
            if self.count is None:
                raise RuntimeError("cudaGetDeviceCount: no driver (cudaErrorInsufficientDriver)")
            return self.count

        def device(self, index):
            return {"capability": self.capability}

    cuda.use(fake := Fake())
    assert cuda.why_not() is None
    assert cuda.is_available()
    for count, capability, reason in [
        (None, (9, 0), "cudaGetDeviceCount: no driver (cudaErrorInsufficientDriver)"),
        (0, (9, 0), "there is no CUDA device"),
        (1, (7, 5), "the device has compute capability 7.5, 8.0 or newer is needed"),
    ]:
        fake.count, fake.capability = count, capability
        assert cuda.why_not() == reason
        assert not cuda.is_available()
        assert reason in fusedrnn.info()["cuda"]
        with pytest.raises(RuntimeError) as caught:
            fusedrnn.GRU(2, 3, device="cuda")
        assert str(caught.value) == f"CUDA is not available: {reason}"


def test_what_was_not_built(monkeypatch):
    library._imported.cache_clear()
    monkeypatch.setattr(_core, "cuda_build", "not built: no nvcc")
    try:
        assert fusedrnn.cuda.why_not() == fusedrnn.info()["cuda"] == "not built: no nvcc"
        monkeypatch.setattr(_core, "cuda_build", "nvcc 13.0")
        library._imported.cache_clear()
        monkeypatch.setitem(sys.modules, "fusedrnn._cuda", None)
        assert fusedrnn.cuda.why_not().startswith("_cuda cannot be imported: ")
        assert fusedrnn.info()["cuda"].startswith("built by nvcc 13.0; _cuda cannot be imported")
    finally:
        library._imported.cache_clear()


@pytest.mark.usefixtures("cuda")
def test_options():
    for kind, options, error, message in [
        (
            fusedrnn.LSTM,
            {"dropout": 0.5, "num_layers": 2},
            ValueError,
            'dropout: expected 0 with device="cuda", got 0.5',
        ),
        (
            fusedrnn.RNN,
            {"recurrent_dropout": 0.5},
            ValueError,
            "recurrent_dropout: expected 0 with",
        ),
        (fusedrnn.GRU, {"zoneout_h": 0.5}, ValueError, "zoneout_h: expected 0 with"),
        (fusedrnn.LSTM, {"zoneout_c": 0.5}, ValueError, "zoneout_c: expected 0 with"),
        (fusedrnn.LSTM, {"proj_size": 2}, ValueError, "proj_size: expected 0 with"),
        (fusedrnn.LSTM, {"layer_norm": True}, ValueError, "layer_norm: expected False with"),
        (fusedrnn.GRU, {"layer_norm": True}, ValueError, "layer_norm: expected False with"),
        (
            fusedrnn.GRU,
            {"dtype": np.float64},
            TypeError,
            "dtype: expected float32 or bfloat16, got",
        ),
        (
            fusedrnn.GRU,
            {"dtype": "float16"},
            TypeError,
            "dtype: expected float32 or bfloat16, got 'float16'",
        ),
        (fusedrnn.GRU, {"dtype": None}, TypeError, "dtype: expected float32 or bfloat16, got None"),
        (
            fusedrnn.GRU,
            {"device": "gpu"},
            ValueError,
            "device: expected cpu, cuda or cuda:0, cuda:1",
        ),
        (fusedrnn.GRU, {"device": "cuda:01"}, ValueError, "device: expected cpu, cuda or cuda:0"),
        (
            fusedrnn.GRU,
            {"device": "cuda:99"},
            ValueError,
            "device: expected one of 1, got 'cuda:99'",
        ),
        (fusedrnn.GRU, {"device": 0}, TypeError, "device: expected str, got int"),
        (fusedrnn.GRU, {"device": None}, TypeError, "device: expected str, got NoneType"),
    ]:
        with pytest.raises(error, match=f"^{message}"):
            kind(I, H, **({"device": "cuda"} | options))
    assert make("gru").device == "cuda"
    assert fusedrnn.GRU(I, H, device="cuda:0", dtype="bfloat16").dtype == "bfloat16"

    class Mine(fusedrnn.GRU):
        pass

    assert Mine(I, H).device == "cpu"
    with pytest.raises(TypeError, match=r"^device: expected cpu for a subclass, Mine, got"):
        Mine(I, H, device="cuda")


@pytest.mark.usefixtures("cuda")
def test_what_a_call_refuses():
    layer = make("lstm", bidirectional=True)
    x, (h, _), dy, dstate = inputs(layer)
    y, _, tape = layer.forward(x)
    host = np.zeros((T, N, I), np.float32)
    tokens = fusedrnn.cuda.Array(np.zeros((T, N), np.int64))
    bad = normal("float32", 2, N, H + 1)
    for call, error, message in [
        (lambda: layer(tokens), TypeError, "x: expected dtype float32, got int64"),
        (
            lambda: layer(x, None, None, np.zeros((T, N), bool)),
            ValueError,
            'resets: expected None with device="cuda", got ndarray',
        ),
        (
            lambda: layer.forward(x, checkpoint=2),
            ValueError,
            'checkpoint: expected None with device="cuda", got int',
        ),
        (
            lambda: layer.forward(x, memory_budget=2),
            ValueError,
            "memory_budget: expected None with",
        ),
        (
            lambda: layer.forward(x, noise=fusedrnn.Noise(1)),
            ValueError,
            "noise: expected None with",
        ),
        (lambda: layer.backward(tape, dy, truncate=2), ValueError, "truncate: expected None with"),
        (layer.freeze, ValueError, "freeze: expected a layer on the host"),
        (
            lambda: layer(x, h),
            TypeError,
            r"state: expected the tuple \(h_0, c_0\) or None, got Array",
        ),
        (
            lambda: layer(x, (h,)),
            TypeError,
            r"state: expected the tuple \(h_0, c_0\) or None, got tuple of 1",
        ),
        (
            lambda: layer(x, (h, bad)),
            ValueError,
            r"c_0: expected shape \(L\*D, N, H\) = \(2, 3, 7\), got \(2, 3, 8\)",
        ),
        (
            lambda: layer(x, (h, host)),
            TypeError,
            "c_0: expected an array on a CUDA device, got numpy.ndarray",
        ),
        (
            lambda: layer(x, None, [1, 2, 3]),
            TypeError,
            "lengths: expected an ndarray of integers, got list",
        ),
        (
            lambda: layer(x, None, np.array([1, 2])),
            ValueError,
            r"lengths: expected shape \(N,\) = \(3,\), got \(2,\)",
        ),
        (
            lambda: layer(x, None, np.array([1, 2, T + 1])),
            ValueError,
            "lengths: expected 0 to T = 5, got 1 to 6",
        ),
        (lambda: layer(x, None, x), TypeError, "lengths: expected an ndarray of integers"),
        (
            lambda: layer.backward(tape, x),
            ValueError,
            r"dy: expected shape \(T, N, D\*H\) = \(5, 3, 14\), got",
        ),
        (lambda: layer.backward(tape, host), TypeError, "dy: expected an array on a CUDA device"),
        (lambda: layer.backward(tape, dy, (h, bad)), ValueError, r"dc_n: expected shape"),
        (lambda: layer.backward(None, dy), TypeError, "tape: expected a DeviceTape, got NoneType"),
        (
            lambda: make("lstm").backward(tape, dy),
            ValueError,
            "tape: expected one made by this layer",
        ),
        (
            lambda: layer.load_state_dict([]),
            TypeError,
            "mapping: expected a mapping by name, got list",
        ),
        (lambda: layer.zero_state(0), ValueError, "N: expected 1 <= N"),
    ]:
        with pytest.raises(error, match=f"^{message}"):
            call()
    assert not any(a.numpy().any() for a in layer.grads.values())
    layer.backward(tape, y, dstate)


@pytest.mark.usefixtures("cuda")
def test_parameters_are_checked():
    layer = make("lstm")
    x, _, dy, _ = inputs(layer)
    tape = layer.forward(x)[2]
    for arrays, owner in ((layer.params, ""), (layer.grads, "grads")):
        label = r"grads\['bias_hh_l0'\]" if owner else "bias_hh_l0"
        before = arrays.pop("bias_hh_l0")
        for value, error, message in [
            (
                None,
                ValueError,
                f"{owner or 'params'}: expected an array named bias_hh_l0, got none",
            ),
            (before.numpy(), TypeError, f"{label}: expected an array on a CUDA device"),
            (
                normal("bfloat16", 4 * H),
                TypeError,
                f"{label}: expected dtype float32, got bfloat16",
            ),
            (
                normal("float32", H),
                ValueError,
                rf"{label}: expected shape \(4\*H,\) = \(28,\), got",
            ),
        ]:
            if value is not None:
                arrays["bias_hh_l0"] = value
            with pytest.raises(error, match=f"^{message}"):
                layer.backward(tape, dy) if owner else layer(x)
        arrays["bias_hh_l0"] = before
    assert not any(a.numpy().any() for a in layer.grads.values())


@pytest.mark.usefixtures("cuda")
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


@pytest.mark.usefixtures("cuda")
def test_sizes_that_the_kernels_can_count():
    core, rows, columns = library.core(), 2**30 - 1, 65535 * 64
    largest = (rows, 1, 1, 1), (1, rows, 1, 1), (3, rows // 3, columns, columns // 3 - 15)
    functions = core.plan, core.workspace_bytes, core.tape_bytes
    for sizes in largest:
        for ask in functions:
            stage = ("backward",) * (ask != core.tape_bytes)
            ask("gru", "bfloat16", *sizes, 2, 0, *stage)
            for i, size in enumerate(sizes):
                larger = *sizes[:i], size + 1, *sizes[i + 1 :]
                if size > 3:
                    rule = r"x, weights: expected T\*N of at most 1073741823, I and G\*\(H \+ 15\)"
                    with pytest.raises(ValueError, match=f"^{rule} of at most 4194240, got T, N"):
                        ask("gru", "bfloat16", *larger, 2, 0, *stage)


@pytest.mark.usefixtures("cuda")
def test_the_module_itself_takes_nothing_that_does_not_fit():
    core = library.core()
    assert set(core.cells()) == set(CELLS)
    on, layer = core.Stream(0, None), make("lstm")
    x, state, dy, _ = (
        tuple(part._buffer for part in value) if isinstance(value, tuple) else value._buffer
        for value in inputs(layer)
    )
    weights = (tuple(layer.params[n]._buffer if n else None for n in layer._slots[0][:5]),)
    sizes = "lstm", "float32", T, N, I, H, 1, 0

    def new(*shape, dtype="float32"):
        return core.Buffer(shape, dtype, 0, on)

    def arguments():
        return {
            "cell": "lstm", "x": x, "lengths": None, "weights": weights, "state": state,
            "reverse": False, "y": new(T, N, H), "state_n": (new(1, N, H), new(1, N, H)),
            "tape": new(core.tape_bytes(*sizes), dtype="uint8"),
            "workspace": new(core.workspace_bytes(*sizes, "training"), dtype="uint8"), "stream": on,
        }  # fmt: skip

    good = arguments()
    core.forward(**good)
    h_n = good["state_n"][0]
    for changes, error, message in [
        ({"cell": "no"}, ValueError, "cell: expected one of rnn_tanh"),
        ({"x": None}, TypeError, "x: expected a Buffer, got NoneType"),
        ({"x": new(T, N)}, ValueError, r"x: expected shape \(T, N, I\), got \(5, 3\)"),
        (
            {"x": new(T, N, I + 1)},
            ValueError,
            r"weight_ih: expected shape \(28, 5\), got \(28, 4\)",
        ),
        (
            {"x": new(T, N, I, dtype="int32")},
            TypeError,
            "dtype: expected float32 or bfloat16, got int32",
        ),
        (
            {"x": new(T, N, I, dtype="bfloat16")},
            TypeError,
            "weight_ih: expected dtype bfloat16, got float32",
        ),
        ({"lengths": new(N)}, TypeError, "lengths: expected dtype int32, got float32"),
        (
            {"lengths": new(1, dtype="int32")},
            ValueError,
            r"lengths: expected shape \(3,\), got \(1,\)",
        ),
        ({"weights": ()}, ValueError, "weights: expected 1 or 2 directions, got 0"),
        ({"weights": list(weights)}, TypeError, "weights: expected a tuple, got list"),
        ({"weights": (weights[0][:4],)}, ValueError, "weights: expected 5 of them, got 4"),
        (
            {"weights": ((None, *weights[0][1:]),)},
            TypeError,
            "weight_ih: expected a Buffer, got None",
        ),
        ({"weights": ((*weights[0][:4], h_n),)}, TypeError, "weight_ch: expected None, got one"),
        (
            {"weights": weights * 2},
            ValueError,
            r"state: expected shape \(2, 3, 7\), got \(1, 3, 7\)",
        ),
        ({"state": state[:1]}, ValueError, "state: expected 2 of them, got 1"),
        ({"y": new(T, N, 2 * H)}, ValueError, r"y: expected shape \(5, 3, 7\), got \(5, 3, 14\)"),
        (
            {"state_n": (h_n, h_n)},
            ValueError,
            "state_n: expected memory of its own, got memory shared with state_n",
        ),
        (
            {"state_n": state},
            ValueError,
            "state_n: expected memory of its own, got memory shared with an input",
        ),
        (
            {"tape": new(8, dtype="uint8")},
            ValueError,
            r"tape: expected aligned memory of \d+ bytes, got 8",
        ),
        ({"workspace": good["tape"]}, ValueError, "(tape|workspace): expected"),
        ({"stream": None}, TypeError, "stream: expected a Stream, got NoneType"),
    ]:
        with pytest.raises(error, match=f"^{message}"):
            core.forward(**(good | changes))
    for call, message in [
        (lambda: x.rows(3, 3), r"rows: expected some of shape \(5, 3, 4\), got 3 and 3 of them"),
        (lambda: x.rows(-1, 1), "rows: expected some of"),
        (lambda: new(0, 3), r"shape: expected sizes >= 1 of less than 2\*\*62 bytes, got \(0, 3\)"),
        (lambda: new(2**40, 2**40), "shape: expected sizes >= 1 of less than"),
        (lambda: core.add(x, dy, on), r"to: expected shape \(5, 3, 4\), got \(5, 3, 7\)"),
        (lambda: core.swap_axes(x, dy, on), r"to: expected shape \(3, 5, 4\), got"),
        (lambda: core.add(x, x, on), "to: expected memory of its own"),
    ]:
        with pytest.raises(ValueError, match=f"^{message}"):
            call()


@pytest.mark.usefixtures("cuda")
def test_the_largest_sizes_are_refused_before_memory_is_asked_for():
    with pytest.raises((ValueError, RuntimeError, MemoryError)):
        make("rnn_tanh", sizes=(2**31 - 1, 2**31 - 1))
    x, layer = normal("float32", T, N, I), make("lstm")
    assert [a.shape for a in flat(layer(x)[1])] == [(1, N, H)] * 2
