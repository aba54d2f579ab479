# SPDX-License-Identifier: MIT
"""ONNX's operators on our kernels: its own tests, and every option as its specification has it."""

import itertools
import warnings

import numpy as np
import pytest
from fusedrnn.onnx import from_onnx, nodes, reference_ops
from layer_cases import DTYPES
from onnx_cases import H, I, N, ReferenceEvaluator, T, onnx, run

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def specified(op, x, W, R, B, P, h, c, attributes):
    """One row in one direction, x (T, I), as the operators' documentation writes it."""
    Wb, Rb = np.split(B, 2)
    outputs = []
    for x_t in x:
        if op == "RNN":
            activation = np.tanh if attributes["relu"] == 0 else lambda a: np.maximum(a, 0)
            h = activation(W @ x_t + R @ h + Wb + Rb)
        elif op == "GRU":
            (Wz, Wr, Wh), (Rz, Rr, Rh) = np.split(W, 3), np.split(R, 3)
            (Wbz, Wbr, Wbh), (Rbz, Rbr, Rbh) = np.split(Wb, 3), np.split(Rb, 3)
            z = sigmoid(Wz @ x_t + Rz @ h + Wbz + Rbz)
            r = sigmoid(Wr @ x_t + Rr @ h + Wbr + Rbr)
            if attributes["linear_before_reset"]:
                n = np.tanh(Wh @ x_t + r * (Rh @ h + Rbh) + Wbh)
            else:
                n = np.tanh(Wh @ x_t + Rh @ (r * h) + Rbh + Wbh)
            h = (1 - z) * n + z * h
        else:
            i, o, f, g = np.split(W @ x_t + R @ h + Wb + Rb, 4)
            Pi, Po, Pf = np.split(P, 3)
            i = sigmoid(i + Pi * c)
            f = 1 - i if attributes["input_forget"] else sigmoid(f + Pf * c)
            c = f * c + i * np.tanh(g)
            h = sigmoid(o + Po * c) * np.tanh(c)
        outputs.append(h)
    return np.reshape(outputs, (-1, H)), h, c


def expected(op, a, lengths, directions, attributes):
    """Y, Y_h and Y_c of a node, layout 0, row by row."""
    D = len(directions)
    Y, ends = np.zeros((T, D, N, H)), np.array([a["initial_h"], a["initial_c"]], float)
    for (d, reverse), row in itertools.product(enumerate(directions), range(N)):
        own = slice(0, lengths[row])
        step = slice(None, None, -1 if reverse else 1)
        weights = [a[name][d] for name in "WRBP"]
        h, c = ends[:, d, row]
        x = a["X"][own, row][step]
        y, *ends[:, d, row] = specified(op, x, *weights, h, c, attributes)
        Y[own, d, row] = y[step]
    return Y, *ends[: 1 + (op == "LSTM")]


def recurrent_tests():
    """ONNX's own test cases of the three operators."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tests of other operators overflow while they are made
        from onnx.backend.test.case.node import collect_testcases

        cases = collect_testcases(None)
    return [case for case in cases if case.model.graph.node[0].op_type in GATES]


def test_onnx_s_own_tests():
    cases = recurrent_tests()
    assert {case.model.graph.node[0].op_type for case in cases} == set(GATES)
    assert len(cases) >= 12  # 18 with onnx 1.23
    for case in cases:
        for inputs, outputs in case.data_sets:
            names = [one.name for one in case.model.graph.input]
            results = run(case.model, dict(zip(names, inputs, strict=True)))
            for result, wanted in zip(results, outputs, strict=True):
                assert result.dtype == wanted.dtype, case.name
                np.testing.assert_allclose(result, wanted, rtol=1e-5, atol=1e-6, err_msg=case.name)


def node_model(op, a, outputs=("Y", "Y_h", "Y_c"), **attributes):
    """A model of one node that is fed by `a`, with all names that are not in it empty."""
    labels = [name if name in a else "" for name in nodes.INPUTS]
    while not labels[-1]:
        labels.pop()
    helper = onnx.helper
    node = helper.make_node(op, labels, outputs[: 2 + (op == "LSTM")], hidden_size=H, **attributes)
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for name, v in a.items()
    ]
    kind = helper.np_dtype_to_tensor_dtype(a["X"].dtype)
    given = [helper.make_tensor_value_info(name, kind, None) for name in node.output if name]
    graph = helper.make_graph([node], "one", inputs, given)
    opset = [helper.make_opsetid("", 14)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8)


def arrays(op, D, dtype, rng):
    G = GATES[op]
    shapes = {"X": (T, N, I), "W": (D, G * H, I), "R": (D, G * H, H), "B": (D, 2 * G * H)}
    shapes |= {"initial_h": (D, N, H), "initial_c": (D, N, H), "P": (D, 3 * H)}
    a = {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}
    return a | {"sequence_lens": np.array([3, 0, T], np.int32)}


def leave_out(op, names, a):
    """The inputs of the node, and those that it is computed with."""
    lacks = ({"initial_c", "P"} if op != "LSTM" else set()) | names
    given = {name: v for name, v in a.items() if name not in lacks}
    full = {name: v if name in given else np.zeros_like(v) for name, v in a.items()}
    lengths = a["sequence_lens"] if "sequence_lens" in given else [T] * N
    return given, full, lengths


OPTIONS = {
    "RNN": [{"relu": 0}, {"relu": 1}],
    "GRU": [{"linear_before_reset": 0}, {"linear_before_reset": 1}],
    "LSTM": [{"input_forget": 0}, {"input_forget": 1}],
}
MISSING = [set(), {"B"}, {"P", "sequence_lens"}, {"initial_c"}, {"B", "initial_h", "initial_c"}]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("direction", nodes.DIRECTIONS)
@pytest.mark.parametrize("op", GATES)
def test_nodes_are_what_onnx_specifies(op, direction, layout, dtype, assert_close):
    rng = np.random.default_rng(3)
    directions = nodes.DIRECTIONS[direction]
    for options, missing in itertools.product(OPTIONS[op], MISSING):
        a = arrays(op, len(directions), dtype, rng)
        given, full, lengths = leave_out(op, missing, a)
        wanted = expected(op, full, lengths, directions, options)
        attributes = {name: value for name, value in options.items() if name != "relu"}
        if options.get("relu"):
            attributes["activations"] = ["Relu"] * len(directions)
        model = node_model(op, given, direction=direction, layout=layout, **attributes)
        if layout:
            swapped = ("X", "initial_h", "initial_c")
            given = {k: v.swapaxes(0, 1) if k in swapped else v for k, v in given.items()}
            Y, *ends = wanted
            wanted = Y.transpose(2, 0, 1, 3), *(end.swapaxes(0, 1) for end in ends)
        for result, b in zip(run(model, given), wanted, strict=True):
            assert result.dtype == dtype
            assert_close(result, b, "y")


def test_directions_of_an_rnn_may_differ(assert_close):
    a = arrays("RNN", 2, np.float64, np.random.default_rng(0))
    given, full, lengths = leave_out("RNN", {"sequence_lens"}, a)
    model = node_model("RNN", given, direction="bidirectional", activations=["relu", "Tanh"])
    Y, _ = run(model, given)
    for d, relu in enumerate((1, 0)):
        wanted = expected("RNN", full, lengths, (False, True), {"relu": relu})
        assert_close(Y[:, d], wanted[0][:, d], "y")


def test_lost_outputs_are_not_later_inputs():
    """onnx's evaluator keeps what has no name under the name "", which means a missing input."""
    a = arrays("RNN", 1, np.float32, np.random.default_rng(0))
    given, *_ = leave_out("RNN", {"sequence_lens", "B", "initial_h"}, a)
    model = node_model("RNN", given)
    del model.graph.output[:]
    first, second = model.graph.node[0], onnx.NodeProto()
    second.CopyFrom(first)
    first.output[0] = ""
    del second.input[3:]
    second.input.extend(["", "", "Y_h"])
    second.output[:] = ["Y2", "Y_h2"]
    model.graph.node.append(second)
    model.graph.output.append(onnx.helper.make_tensor_value_info("Y2", 1, None))
    (wanted,) = run(model, given)
    first.output[0] = "Y"
    np.testing.assert_array_equal(wanted, run(model, given)[0])


@pytest.mark.parametrize(
    ("op", "attributes", "message"),
    [
        ("LSTM", {"clip": 1.0}, "clip: expected none, got 1.0"),
        ("GRU", {"clip": 0.5}, "clip: expected none, got 0.5"),
        ("RNN", {"activations": ["Sigmoid"]}, "activations: expected tanh or relu .*, got sigmoid"),
        ("GRU", {"activations": ["Sigmoid"]}, "activations: expected sigmoid, tanh for each"),
        ("LSTM", {"activations": ["HardSigmoid", "Tanh", "Tanh"]}, "activations: .* hardsigmoid"),
        ("GRU", {"layout": 2}, "layout: expected 0 or 1, got 2"),
        ("RNN", {"direction": "back"}, "direction: expected one of forward, .*, got 'back'"),
    ],
)
def test_what_our_cells_do_not_have_is_refused_by_name(op, attributes, message):
    a = arrays(op, 1, np.float32, np.random.default_rng(0))
    given, *_ = leave_out(op, {"sequence_lens"}, a)
    model = node_model(op, given, **attributes)
    with pytest.raises(ValueError, match=f"^{message}"):
        ReferenceEvaluator(model, new_ops=reference_ops())  # before it runs
    for name in "WRBP":
        if name in given:
            model.graph.initializer.append(onnx.numpy_helper.from_array(given[name], name))
    with pytest.raises(ValueError, match=f"^{message}"):
        from_onnx(model)


def test_what_does_not_fit_is_refused_by_name():
    a = arrays("LSTM", 1, np.float32, np.random.default_rng(0))
    a["sequence_lens"][1] = 2
    for name, value, message in [
        ("X", a["X"][0], r"X: expected an array of 3 axes, got \(3, 3\)"),
        ("X", a["X"].astype(np.float16), "X: expected dtype float32 or float64, got float16"),
        ("W", a["W"][:, 1:], r"W: expected shape \(1, 16, 3\), got \(1, 15, 3\)"),
        ("R", np.repeat(a["R"], 2, 0), r"R: expected shape \(1, 16, 4\), got \(2, 16, 4\)"),
        ("B", a["B"][0], r"B: expected shape \(1, 32\), got \(32,\)"),
        ("P", a["P"].astype(float), "P: expected dtype float32 as of X, got float64"),
        ("initial_c", a["initial_c"][:, 1:], r"initial_c: expected shape \(1, 3, 4\), got"),
        ("sequence_lens", a["sequence_lens"][1:], r"sequence_lens: expected shape \(3,\), got"),
        ("sequence_lens", a["sequence_lens"] + 9, "lengths: expected 0 to T = 5, got 11 to 14"),
    ]:
        with pytest.raises(ValueError, match=f"^{message}"):
            run(node_model("LSTM", a), a | {name: value})
    model = node_model("LSTM", a)
    model.graph.node[0].attribute[0].i = 7
    with pytest.raises(ValueError, match=r"^hidden_size: expected 4 as in R, got 7"):
        run(model, a)
