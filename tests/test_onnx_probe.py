# SPDX-License-Identifier: MIT
"""What ONNX conversions are compared with: ONNX's equations, which share no table with them."""

import fusedrnn
import numpy as np
import pytest
from fusedrnn.layers import KINDS
from fusedrnn.onnx import from_onnx, nodes, plain, to_onnx
from onnx_cases import H, I, N, T, onnx

CELLS = nodes.ONNX_CELLS
PERMUTED = {
    "GATES": {"RNN": "h", "GRU": "rzn", "LSTM": "ifog"},
    "PEEPHOLES": "ifo",
}


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("table", ["GATES", "PEEPHOLES"])
def test_a_wrong_table_is_found(table, name, bidirectional, monkeypatch):
    """Also where our own operators, which read the same tables, would agree."""
    kind, options = KINDS[name]
    layer = kind(I, H, bidirectional=bidirectional, **options, seed=0)
    model = to_onnx(layer)
    if name.startswith("rnn") or (table == "PEEPHOLES" and "peephole" not in name):
        return
    monkeypatch.setattr(nodes, table, PERMUTED[table])
    with pytest.raises(RuntimeError, match=r"^ONNX computes something else on a probe"):
        from_onnx(model)
    with pytest.raises(RuntimeError, match=r"^ONNX computes something else on a probe"):
        to_onnx(layer)


@pytest.mark.parametrize("name", CELLS)
def test_states_and_lengths_in_the_wrong_place_are_found(name, monkeypatch):
    kind, options = KINDS[name]
    layer = kind(I, H, num_layers=2, bidirectional=True, **options, seed=0)
    join = onnx.helper.make_node

    def wrong(op, inputs, *a, **more):
        if op in ("RNN", "GRU", "LSTM") and len(inputs) > 5:
            inputs = [*inputs[:5], inputs[5][:-1] + "0", *inputs[6:]]  # the lowest layer's h
        return join(op, inputs, *a, **more)

    monkeypatch.setattr(onnx.helper, "make_node", wrong)
    with pytest.raises(RuntimeError, match=r"^ONNX computes something else on a probe"):
        to_onnx(layer, state=True)


@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
def test_equations_beside_onnx_s_own(op, layout):
    """Both directions, from onnx 1.23 on: before, its own had one."""
    if tuple(map(int, onnx.__version__.split(".")[:2])) < (1, 23):
        pytest.skip("one direction")
    rng, G = np.random.default_rng(0), {"RNN": 1, "GRU": 3, "LSTM": 4}[op]
    shapes = [(T, N, I), (2, G * H, I), (2, G * H, H), (2, 2 * G * H), None, (2, N, H)]
    shapes += [(2, N, H), (2, 3 * H)] if op == "LSTM" else []
    inputs = [None if s is None else rng.standard_normal(s).astype(np.float32) for s in shapes]
    if layout:
        inputs[0] = inputs[0].swapaxes(0, 1)
        for k in (5, 6)[: 1 + (op == "LSTM")]:
            inputs[k] = inputs[k].swapaxes(0, 1)
    names = [name if a is not None else "" for name, a in zip(nodes.INPUTS, inputs, strict=False)]
    outputs = ["Y", "Y_h", "Y_c"][: 2 + (op == "LSTM")]
    for lbr in (0, 1) if op == "GRU" else (None,):
        more = {} if lbr is None else {"linear_before_reset": lbr}
        attributes = {"direction": "bidirectional", "layout": layout, "hidden_size": H} | more
        node = onnx.helper.make_node(op, names, outputs, **attributes)
        feeds = {name: a for name, a in zip(names, inputs, strict=True) if name}
        wanted = onnx.reference.ReferenceEvaluator(node).run(None, feeds)
        for a, b in zip(plain.run(op, inputs, attributes), wanted, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_of_half_precision_need_a_dtype(dtype):
    dtype = pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else np.float16
    model = to_onnx(fusedrnn.LSTM(I, H, coupled=True, seed=0))
    for tensor in model.graph.initializer:
        a = onnx.numpy_helper.to_array(tensor)
        if a.dtype == np.float32:
            tensor.CopyFrom(onnx.numpy_helper.from_array(a.astype(dtype), tensor.name))
    with pytest.raises(TypeError, match=r"^dtype: expected float32 or float64, got .*float16"):
        from_onnx(model)
    assert from_onnx(model, dtype=np.float64).dtype == np.float64
