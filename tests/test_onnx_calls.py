# SPDX-License-Identifier: MIT
"""What a model has around its recurrent nodes: states, lengths, and what is between two of them."""

import fusedrnn
import numpy as np
import pytest
from fusedrnn.onnx import from_onnx, nodes, to_onnx
from onnx_cases import H, I, N, T, onnx, run


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


def stacked(between, upper=()):
    """A model of two layers, with nodes (op, inputs, output, attributes) from "Y" to "X"."""
    lstm = fusedrnn.LSTM(I, I, num_layers=2, seed=0)
    model = to_onnx(lstm)
    graph, helper = model.graph, onnx.helper
    first, second = (node for node in graph.node if node.op_type == "LSTM")
    first.output[0] = "Y"
    while len(first.output) < 3:
        first.output.append("")
    first.output[1], first.output[2] = "Y_h", "Y_c"
    second.input[0] = "X"
    while len(second.input) < 8:
        second.input.append("")
    for place, name in upper:
        second.input[place] = name
    for name, value in {"axis": [1], "two": [2], "shape": [1, -1, I]}.items():
        held = onnx.numpy_helper.from_array(np.array(value, np.int64), name)
        graph.initializer.append(held)
    made = [helper.make_node(op, ins, [out], **more) for op, ins, out, more in between]
    kept = [*made, first, second]
    del graph.node[:]
    graph.node.extend(kept)
    return lstm, model


SQUEEZED = ("Squeeze", ["Y", "axis"], "flat", {})


@pytest.mark.parametrize(
    "between",
    [
        [("Squeeze", ["Y", "axis"], "X", {})],
        [SQUEEZED, ("Identity", ["flat"], "X", {})],
        [SQUEEZED, ("Cast", ["flat"], "same", {"to": 11}), ("Cast", ["same"], "X", {"to": 1})],
        [
            ("Transpose", ["Y"], "moved", {"perm": [0, 2, 1, 3]}),
            ("Squeeze", ["moved", "two"], "X", {}),
        ],
    ],
)
def test_what_leaves_the_outputs_as_they_are_may_be_between(between):
    lstm, model = stacked(between)
    assert repr(from_onnx(model)) == repr(lstm)


@pytest.mark.parametrize(
    ("between", "error"),
    [
        ([SQUEEZED, ("Transpose", ["flat"], "X", {"perm": [1, 0, 2]})], ValueError),
        ([SQUEEZED, ("Reshape", ["flat", "shape"], "X", {})], ValueError),
        ([SQUEEZED, ("Neg", ["flat"], "X", {})], RuntimeError),
        (
            [SQUEEZED, ("Cast", ["flat"], "int", {"to": 6}), ("Cast", ["int"], "X", {"to": 1})],
            RuntimeError,
        ),
        ([SQUEEZED, ("Add", ["flat", "x"], "X", {})], ValueError),
        ([("Identity", ["loop"], "X", {}), ("Identity", ["X"], "loop", {})], ValueError),
    ],
)
def test_nodes_that_are_wired_otherwise_are_refused(between, error):
    _, model = stacked(between)
    with pytest.raises(error, match=r"X: expected|something else|nodes: expected names of a stack"):
        from_onnx(model)


@pytest.mark.parametrize(
    ("upper", "name"),
    [([(5, "Y_h"), (6, "Y_c")], "initial_h"), ([(4, "lengths")], "sequence_lens")],
)
def test_an_upper_node_with_what_the_lower_has_not_is_refused(upper, name):
    """The state of the lower one, or lengths alone."""
    _, model = stacked([("Squeeze", ["Y", "axis"], "X", {})], upper)
    model.graph.input.append(onnx.helper.make_tensor_value_info("lengths", 6, [N]))
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        from_onnx(model)


@pytest.mark.parametrize("op", ["Exp", "Cos", "RandomNormalLike"])
def test_states_that_a_model_computes_are_refused(op):
    """Of zeros, which they are not."""
    _, model = with_state("initializer", np.zeros((1, N, H), np.float32))
    node = next(node for node in model.graph.node if node.op_type == "LSTM")
    node.input[5] = "computed"
    model.graph.node.insert(0, onnx.helper.make_node(op, ["own"], ["computed"]))
    with pytest.raises(ValueError, match=r"^initial_h: expected none or an input .* as state"):
        from_onnx(model)


def test_lengths_that_are_the_number_of_rows_are_refused():
    _, model = with_state("initializer", np.zeros(1, np.int32), "sequence_lens")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1]), "one"))
    made = [
        onnx.helper.make_node("Shape", ["x"], ["shape"]),
        onnx.helper.make_node("Gather", ["shape", "one"], ["rows"]),
        onnx.helper.make_node("Expand", ["rows", "rows"], ["wide"]),
        onnx.helper.make_node("Cast", ["wide"], ["lengths"], to=6),
    ]
    for k, one in enumerate(made):
        model.graph.node.insert(k, one)
    next(node for node in model.graph.node if node.op_type == "LSTM").input[4] = "lengths"
    with pytest.raises(ValueError, match=LENGTHS):
        from_onnx(model)


def test_weights_behind_many_nodes():
    lstm = fusedrnn.LSTM(I, H, seed=0)
    model = to_onnx(lstm)
    node = next(node for node in model.graph.node if node.op_type == "LSTM")
    name = node.input[1]
    for k in range(3000):
        model.graph.node.insert(k, onnx.helper.make_node("Identity", [name], [name := f"w{k}"]))
    node.input[1] = name
    assert repr(from_onnx(model)) == repr(lstm)
