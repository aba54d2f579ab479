# SPDX-License-Identifier: MIT
"""What ONNX conversions are compared with: ONNX's equations, which share no table with them."""

import fusedrnn
import numpy as np
import pytest
from fusedrnn.layers import KINDS
from fusedrnn.onnx import from_onnx, nodes, plain, to_onnx
from onnx_cases import H, I, N, T, onnx, run

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


def with_state(how, value, name="initial_h"):
    """A model whose node has a state of its own: a constant, or one of a shape from x."""
    lstm = fusedrnn.LSTM(I, H, seed=0)
    model = to_onnx(lstm)
    graph, helper = model.graph, onnx.helper
    node = next(node for node in graph.node if node.op_type == "LSTM")
    place = nodes.INPUTS.index(name)
    node.input.extend([""] * (place - len(node.input)) + ["own"])
    tensor = onnx.numpy_helper.from_array(value, "value")
    if how == "initializer":
        tensor.name = "own"
        graph.initializer.append(tensor)
    elif how == "constant":
        graph.node.insert(0, helper.make_node("Constant", [], ["own"], value=tensor))
    else:  # (1, 1, H), as often as x has rows
        one = onnx.numpy_helper.from_array(np.ones(1, np.int64), "one")
        graph.initializer.extend([tensor, one])
        index = onnx.numpy_helper.from_array(np.ones(1, np.int64), "index")
        width = onnx.numpy_helper.from_array(np.array([H]), "width")
        graph.initializer.extend([index, width])
        made = [
            helper.make_node("Shape", ["x"], ["shape"]),
            helper.make_node("Gather", ["shape", "index"], ["N"]),
            helper.make_node("Concat", ["one", "N", "width"], ["wanted"], axis=0),
            helper.make_node("Expand", ["value", "wanted"], ["own"]),
        ]
        for k, one in enumerate(made):
            graph.node.insert(k, one)
    return lstm, model


@pytest.mark.parametrize("name", ["initial_h", "initial_c"])
@pytest.mark.parametrize("how", ["initializer", "constant", "expanded"])
def test_states_that_a_model_holds_are_refused(how, name):
    shape = (1, 1, H) if how == "expanded" else (1, N, H)
    lstm, model = with_state(how, np.full(shape, 0.5, np.float32), name)
    run(model, {"x": np.zeros((T, N, I), np.float32)})  # it is a model
    with pytest.raises(ValueError, match=rf"^{name}: expected none or an input .* as state"):
        from_onnx(model)
    lstm, model = with_state(how, np.zeros(shape, np.float32), name)
    assert repr(from_onnx(model)) == repr(lstm)


LENGTHS = r"^sequence_lens: expected .* as lengths with each call"


@pytest.mark.parametrize("how", ["initializer", "constant"])
@pytest.mark.parametrize("lengths", [[2, T, 3], [3, 3, 3], [T, T, T]])
def test_lengths_that_a_model_holds_are_refused(lengths, how):
    """Also equal ones: they are all steps of one T, and a layer takes any."""
    _, model = with_state(how, np.array(lengths, np.int32), "sequence_lens")
    run(model, {"x": np.zeros((T, N, I), np.float32)})
    with pytest.raises(ValueError, match=LENGTHS):
        from_onnx(model)


@pytest.mark.parametrize("source", ["steps", "three", "fewer"])
def test_lengths_by_the_shape_of_x(source):
    """All steps, in a node for each row, are what a layer does; others are not."""
    lstm, model = with_state("initializer", np.array([3], np.int64), "sequence_lens")
    model.graph.initializer[-1].name = "three"
    for name, value in (("zero", 0), ("one", 1)):
        tensor = onnx.numpy_helper.from_array(np.array([value]), name)
        model.graph.initializer.append(tensor)
    made = [
        ("Shape", ["x"], "shape"),
        ("Gather", ["shape", "zero"], "steps"),
        ("Gather", ["shape", "one"], "rows"),
        ("Sub", ["steps", "three"], "fewer"),
        ("Expand", [source, "rows"], "wide"),
    ]
    nodes_made = [onnx.helper.make_node(op, ins, [out]) for op, ins, out in made]
    nodes_made.append(onnx.helper.make_node("Cast", ["wide"], ["own"], to=6))  # int32
    for k, node in enumerate(nodes_made):
        model.graph.node.insert(k, node)
    x = np.random.default_rng(0).standard_normal((T, N, I)).astype(np.float32)
    (y, *_), wanted = run(model, {"x": x}), lstm(x)[0]
    if source == "steps":
        np.testing.assert_allclose(y, wanted, atol=1e-6)
        assert repr(from_onnx(model)) == repr(lstm)
    else:
        assert not np.allclose(y, wanted)
        with pytest.raises(ValueError, match=LENGTHS):
            from_onnx(model)


def test_lengths_that_come_with_a_call():
    from_onnx(to_onnx(fusedrnn.GRU(I, H, num_layers=2), state=True, lengths=True))


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
