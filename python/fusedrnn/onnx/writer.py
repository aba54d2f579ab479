# SPDX-License-Identifier: MIT
"""An ONNX model of a layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..convert import Layer, on_host
from ..errors import load_extra
from ..names import pick
from ..probe import check_parity, flat, probe_input
from ..weights import CELLS, Array
from . import nodes
from .operators import plain_ops

__all__ = ["to_onnx"]

OPSET = 14  # what ONNX Runtime 1.8 (2021) and later read


def to_onnx(layer: Layer, *, state: bool = False, lengths: bool = False) -> Any:
    """Return an `onnx.ModelProto` of a layer: one RNN, GRU or LSTM node for each of its layers.

    Its inputs and outputs are those of the layer's call, by the names x, h_0, c_0, lengths (int32)
    and y, h_n, c_n; what drops out or zones out in training is not in it.

    Parameters
    ----------
    layer : RNN, LSTM or GRU
    state : bool
        The model takes h_0 (and c_0); else they are zero.
    lengths : bool
        The model takes lengths.

    Raises
    ------
    ValueError
        What ONNX does not have, by name: projection, layer normalisation, zoneout.
    RuntimeError
        The model computes something else on a small random input.
    InputError
        onnx is not installed.

    Examples
    --------
    >>> import fusedrnn
    >>> model = to_onnx(fusedrnn.RNN(2, 3, num_layers=2), state=True)
    >>> [node.op_type for node in model.graph.node if node.name]
    ['RNN', 'RNN']
    """
    layer = on_host(layer)
    for name in ("proj_size", "layer_norm", "zoneout_h", "zoneout_c"):
        if value := getattr(layer, name, 0):
            raise ValueError(f"{name}: expected {type(value)()}, got {value}")
    onnx = load_extra("onnx", "onnx")
    helper, graph = onnx.helper, _Graph(onnx, layer)
    D, L = len(layer._directions), layer.num_layers
    states = [f"{letter}_0" for letter in layer._letters] if state else []
    top = graph.node("Transpose", ["x"], perm=[1, 0, 2]) if layer.batch_first else "x"
    before = [graph.split(name, [D] * L) for name in states]
    after = []
    for k in range(L):
        given = [part[k] for part in before] + [""] * (2 - len(states))
        y, *last = graph.recurrent(k, top, "lengths" if lengths else "", given)
        after.append(last)
        swap = layer.batch_first and k == L - 1
        top = graph.node("Transpose", [y], perm=[2, 0, 1, 3] if swap else [0, 2, 1, 3])
        shape = graph.constant(np.array([0, 0, D * layer.hidden_size]))
        top = graph.node("Reshape", [top, shape], "y" if k == L - 1 else "")
    ends = [f"{letter}_n" for letter in layer._letters]
    for name, parts in zip(ends, zip(*after, strict=True), strict=True):
        graph.node("Concat", list(parts), name, axis=0)
    lead, width = ("N", "T") if layer.batch_first else ("T", "N"), D * layer.hidden_size
    inputs = [graph.value("x", *lead, layer.input_size)]
    inputs += [graph.value(name, D * L, "N", layer.hidden_size) for name in states]
    if lengths:
        int32 = onnx.TensorProto.INT32
        inputs.append(helper.make_tensor_value_info("lengths", int32, ["N"]))
    outputs = [graph.value("y", *lead, width)]
    outputs += [graph.value(name, D * L, "N", layer.hidden_size) for name in ends]
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "fusedrnn", inputs, outputs, graph.initializers),
        opset_imports=opset,
        ir_version=helper.find_min_ir_version_for(opset),
        producer_name="fusedrnn",
    )
    _probe_model(layer, model)
    return model


class _Graph:
    """The nodes and constants of a model that `to_onnx` makes."""

    def __init__(self, onnx: Any, layer: Layer) -> None:
        self.onnx, self.layer = onnx, layer
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []

    def node(self, op: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        """Add a node of one output and return that."""
        output = output or f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(op, inputs, [output], **attributes))
        return output

    def constant(self, a: Array) -> str:
        """Add an array and return its name."""
        name = f"constant_{len(self.initializers)}"
        self.initializers.append(self.onnx.numpy_helper.from_array(a, name))
        return name

    def split(self, name: str, sizes: list[int]) -> list[str]:
        """Return the parts of an array along axis 0."""
        parts = [f"{name}_l{k}" for k in range(len(sizes))]
        inputs = [name, self.constant(np.array(sizes))]
        self.nodes.append(self.onnx.helper.make_node("Split", inputs, parts, axis=0))
        return parts

    def recurrent(self, k: int, x: str, lengths: str, state: list[str]) -> list[str]:
        """Add the node of layer k and return its outputs."""
        layer, D = self.layer, len(self.layer._directions)
        op, attributes = nodes.attributes_of(layer.cell, D)
        each = [
            nodes.to_node(op, layer.cell, pick(layer.params, names))
            for names in layer._slots[k * D : (k + 1) * D]
        ]
        arrays = [None if part[0] is None else np.stack(part) for part in zip(*each, strict=True)]
        W, R, B, P = ("" if a is None else self.constant(a) for a in arrays)
        inputs = [x, W, R, B, lengths, *state, P]
        while not inputs[-1]:
            inputs.pop()
        outputs = [f"{part}_l{k}" for part in ("Y", "Y_h", "Y_c")[: 1 + CELLS[layer.cell].states]]
        attributes["hidden_size"] = layer.hidden_size
        node = self.onnx.helper.make_node(op, inputs, outputs, name=f"{op}_l{k}", **attributes)
        self.nodes.append(node)
        return outputs

    def value(self, name: str, *shape: str | int) -> Any:
        """Return what an input or output of the model is."""
        helper = self.onnx.helper
        dtype = helper.np_dtype_to_tensor_dtype(self.layer.dtype)
        return helper.make_tensor_value_info(name, dtype, shape)


def _probe_model(layer: Layer, model: Any) -> None:
    """Run a model of a layer on the probe, in plain NumPy, and the layer."""
    x = probe_input(layer)
    T, N = x.shape[:2][:: -1 if layer.batch_first else 1]
    rng, shape = np.random.default_rng(1), (len(layer._slots), N, layer.hidden_size)
    state = [rng.standard_normal(shape).astype(layer.dtype) for _ in layer._letters]
    feeds = {f"{letter}_0": a for letter, a in zip(layer._letters, state, strict=True)}
    feeds |= {"x": x, "lengths": np.array([T - n for n in range(N)], np.int32)}
    wanted = {one.name for one in model.graph.input}
    feeds = {name: a for name, a in feeds.items() if name in wanted}
    evaluator = load_extra("onnx.reference", "onnx").ReferenceEvaluator(model, new_ops=plain_ops())
    given: Any = tuple(state) if len(state) > 1 else state[0]
    ours = layer(x, given if "h_0" in wanted else None, feeds.get("lengths"))
    check_parity("ONNX", flat(*ours), evaluator.run(None, feeds))
