# SPDX-License-Identifier: MIT
"""ONNX models of layers, there and back; by ONNX Runtime and from PyTorch's exporter as well."""

import itertools
import re
import warnings

import fusedrnn
import numpy as np
import pytest
from fusedrnn.layers import KINDS
from fusedrnn.onnx import from_onnx, nodes, to_onnx
from layer_cases import DTYPES, flat, like
from onnx_cases import H, I, N, T, onnx, run

CELLS = nodes.ONNX_CELLS


def onnx_runtime():
    """The module, None if it is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import onnxruntime
        except ImportError:
            return None
    return onnxruntime


def test_cells_are_refused_by_name():
    with pytest.raises(ValueError, match=r"^cell: expected one of rnn_tanh, .*, got 'lstm_norm'"):
        nodes.attributes_of("lstm_norm", 1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CELLS)
def test_models_of_layers_there_and_back(name, dtype):
    """Also by ONNX Runtime, if it is there: it has no float64."""
    runtime = onnx_runtime() if dtype is np.float32 else None
    kind, options = KINDS[name]
    rng = np.random.default_rng(5)
    lengths = np.array([2, T, 3], np.int32)
    flags = itertools.product((1, 2), *[(False, True)] * 5)
    for L, bidirectional, batch_first, bias, with_state, with_lengths in flags:
        form = {"bidirectional": bidirectional, "batch_first": batch_first, "bias": bias}
        layer = kind(I, H, L, **form, **options, dtype=dtype, seed=1)
        for a in layer.params.values():
            a *= 2
        model = to_onnx(layer, state=with_state, lengths=with_lengths)
        onnx.checker.check_model(model, full_check=True)
        back = from_onnx(model, batch_first=batch_first)
        assert repr(back) == repr(layer)
        for key, a in layer.params.items():
            np.testing.assert_array_equal(back.params[key], a)

        x = rng.standard_normal((N, T, I) if batch_first else (T, N, I)).astype(dtype)
        state = like(layer.zero_state(N), rng) if with_state else None
        feeds = {"x": x} | ({"lengths": lengths} if with_lengths else {})
        if with_state:
            feeds |= dict(zip(("h_0", "c_0"), flat(state), strict=False))
        y, state_n = layer(x, state, lengths if with_lengths else None)
        wanted = [y, *flat(state_n)]
        for result, b in zip(run(model, feeds), wanted, strict=True):
            np.testing.assert_array_equal(result, b)
        if runtime is not None:
            session = runtime.InferenceSession(model.SerializeToString())
            for result, b in zip(session.run(None, feeds), wanted, strict=True):
                np.testing.assert_allclose(result, b, rtol=0, atol=1e-5 * np.abs(b).max())


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN"])
def test_models_that_torch_exports(name, batch_first, tmp_path):
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.nn, name)(I, H, 2, bidirectional=True, batch_first=batch_first).eval()
    x, path = torch.randn(2, T, I), tmp_path / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this exporter is deprecated, the other needs onnxscript
        torch.onnx.export(theirs, (x,), str(path), dynamo=False, input_names=["x"])
    with torch.no_grad():
        y, state = theirs(x)
    wanted = [tensor.numpy() for tensor in (y, *flat(state))]
    for result, b in zip(run(onnx.load(path), {"x": x.numpy()}), wanted, strict=True):
        np.testing.assert_allclose(result, b, atol=1e-6)
    ours = from_onnx(path, batch_first=batch_first)
    assert ours.num_layers == 2
    np.testing.assert_allclose(ours(x.numpy())[0], wanted[0], atol=1e-6)


def test_nodes_by_name():
    model = to_onnx(fusedrnn.GRU(I, H, 2, bias=False, seed=0))
    del model.graph.node[1:3]  # what was between the two
    model.graph.node[1].input[0] = "x"
    said = re.escape("nodes: expected names of a stack, as these are not one: GRU_l0, GRU_l1")
    with pytest.raises(ValueError, match=f"^{said}"):
        from_onnx(model)
    assert (
        repr(from_onnx(model, ["GRU_l1"], dtype=np.float64))
        == "GRU(4, 4, bias=False, dtype=float64)"
    )
    for names in ([], "GRU_l0", ["GRU_l2"]):
        with pytest.raises(ValueError, match=r"^nodes: expected a sequence of GRU_l0, GRU_l1, got"):
            from_onnx(model, names)


def test_one_layer_of_a_stack_may_have_no_bias():
    model = to_onnx(fusedrnn.LSTM(I, H, 2, seed=0))
    del model.graph.node[0].input[3:]
    layer = from_onnx(model)
    assert not layer.params["bias_hh_l0"].any()
    assert layer.params["bias_hh_l1"].any()


def test_models_that_are_no_layer_are_refused():
    def changed(**attributes):
        model = to_onnx(fusedrnn.LSTM(I, H, 2, seed=0))
        node = model.graph.node[0]
        kept = [one for one in node.attribute if one.name not in attributes]
        more = [onnx.helper.make_attribute(*item) for item in attributes.items()]
        del node.attribute[:]
        node.attribute.extend(kept + more)
        return model

    def without_weights():
        model = changed()
        del model.graph.initializer[0]
        return model

    empty = changed()
    del empty.graph.node[:]
    for model, error, message in [
        (None, TypeError, "model: expected ModelProto or a path, got NoneType"),
        (empty, ValueError, "model: expected nodes RNN, GRU or LSTM in its graph, got none"),
        (without_weights(), ValueError, "W: expected a constant, got one that depends on constant"),
        (changed(direction="reverse"), ValueError, "direction: .*bidirectional, got reverse"),
        (changed(direction="bidirectional"), ValueError, r"W: expected shape \(2, 16, 3\), got"),
        (changed(hidden_size=7), ValueError, "hidden_size: expected 4 as in R, got 7"),
        (changed(input_forget=1), ValueError, "nodes: expected one cell .*got lstm; lstm_coupled"),
    ]:
        with pytest.raises(error, match=f"^{message}"):
            from_onnx(model)


@pytest.mark.parametrize(
    ("place", "shape", "message"),
    [
        (1, (1, 15, 4), r"W: expected shape \(1, 16, 4\), got \(1, 15, 4\)"),
        (2, (1, 16, 3), "hidden_size: expected 3 as in R, got 4"),
        (2, (1, 12, 4), r"R: expected shape \(1, 16, 4\), got \(1, 12, 4\)"),
        (2, (16, 4), r"R: expected an array of 3 axes, got \(16, 4\)"),
        (3, (1, 16), r"B: expected shape \(1, 32\), got \(1, 16\)"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(place, shape, message):
    model = to_onnx(fusedrnn.LSTM(I, H, seed=0))
    name = model.graph.node[0].input[place]
    kept = [one for one in model.graph.initializer if one.name != name]
    del model.graph.initializer[:]
    wrong = onnx.numpy_helper.from_array(np.zeros(shape, np.float32), name)
    model.graph.initializer.extend([*kept, wrong])
    with pytest.raises(ValueError, match=f"^{message}"):
        from_onnx(model)


def test_layers_that_onnx_does_not_have_are_refused_by_name():
    for options, message in [
        ({"proj_size": 2}, "proj_size: expected 0, got 2"),
        ({"layer_norm": True}, "layer_norm: expected False, got True"),
        ({"zoneout_c": 0.5}, r"zoneout_c: expected 0.0, got 0.5"),
    ]:
        with pytest.raises(ValueError, match=f"^{message}"):
            to_onnx(fusedrnn.LSTM(I, H, **options))


@pytest.mark.parametrize("convert", [to_onnx, lambda layer: from_onnx(MODEL)])
def test_the_probe_finds_a_gate_out_of_place(convert, monkeypatch):
    if tuple(map(int, onnx.__version__.split(".")[:2])) < (1, 23):
        pytest.skip("onnx probes with our own operators")
    monkeypatch.setitem(nodes.GATES, "GRU", "rzn")
    with pytest.raises(RuntimeError, match=r"^ONNX computes something else on a probe"):
        convert(fusedrnn.GRU(I, H, seed=0))


MODEL = to_onnx(fusedrnn.GRU(I, H, seed=0))
