# SPDX-License-Identifier: MIT
"""ONNX: its recurrent nodes on our kernels, layers from its models, and models of layers.

    evaluator = onnx.reference.ReferenceEvaluator(model, new_ops=fusedrnn.onnx.reference_ops())

What our cells do not have, as clip and activations other than the defaults (and relu of RNN), is
refused by name. A conversion is probed by onnx's own reference implementation on a small random
input; that has neither relu nor input_forget, which are probed by `reference_ops`, as is all with
an onnx before 1.23, whose own had one direction.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from . import onnx_nodes, validate
from .convert import Layer, check_parity, flat, layer_of, probe_input
from .errors import load_extra
from .layers import KINDS
from .onnx_nodes import INPUTS
from .parameters import pick
from .weights import CELLS, Array

__all__ = ["from_onnx", "reference_ops", "to_onnx"]

OPSET = 14  # what ONNX Runtime 1.8 (2021) and later read
THROUGH = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Cast")
"""What may stand between two nodes of one stack."""


class Operator:
    """A recurrent operator for onnx's reference evaluator, beside its base class `OpRun`."""

    onnx_node: Any
    has_linked_attribute: bool
    attributes_names_: Any

    def __init__(self, onnx_node: Any, run_params: Any) -> None:
        super().__init__(onnx_node, run_params)  # type: ignore[call-arg]
        if not self.has_linked_attribute:  # else they come with the call
            own = {name: getattr(self, name) for name in self.attributes_names_}
            onnx_nodes.cells(onnx_node.op_type, own)

    def _run(self, *inputs: Any, **attributes: Any) -> tuple[Array, ...]:
        """Run the node: called by `OpRun.run`, with its inputs in order and all its attributes."""
        node = self.onnx_node
        # By the node's names: what comes for an input named "" may be another node's lost output
        named = zip(INPUTS, node.input, inputs, strict=False)
        given = {name: a for name, label, a in named if label and a is not None}
        return onnx_nodes.run(node.op_type, given, attributes)[: len(node.output)]


def reference_ops() -> list[type]:
    """Return operators RNN, GRU and LSTM for `ReferenceEvaluator(model, new_ops=...)`.

    float32 and float64; all directions, layouts, peepholes, initial states, sequence_lens,
    linear_before_reset, input_forget.

    Raises
    ------
    InputError
        onnx is not installed.

    Examples
    --------
    >>> import numpy as np, onnx.reference
    >>> import fusedrnn
    >>> model = to_onnx(fusedrnn.LSTM(2, 3, seed=0))
    >>> evaluator = onnx.reference.ReferenceEvaluator(model, new_ops=reference_ops())
    >>> y, h, c = evaluator.run(None, {"x": np.zeros((5, 1, 2), np.float32)})
    >>> y.shape, c.shape
    ((5, 1, 3), (1, 1, 3))
    """
    base = load_extra("onnx.reference.op_run", "onnx").OpRun
    own = {"op_domain": "", "__module__": __name__}
    return [type(base)(op, (Operator, base), own) for op in onnx_nodes.GATES]


def from_onnx(
    model: Any,
    nodes: Sequence[str] | None = None,
    *,
    batch_first: bool = False,
    dtype: Any = None,
) -> Layer:
    """Return the layer, of as many layers as there are nodes, that recurrent nodes of a model are.

    initial_h, initial_c and sequence_lens are the `state` and `lengths` of a call.

    Parameters
    ----------
    model : onnx.ModelProto, or the path of a file
    nodes : sequence of str, optional
        Names of nodes (or of their first outputs), each the layer above the one before. By default
        all recurrent nodes of the graph, if they are one stack.
    batch_first : bool
        What the layer shall take, whatever the nodes' layout.
    dtype : float32 or float64, optional
        By default that of the weights.

    Raises
    ------
    TypeError
        Not a model; weights of another dtype without `dtype`.
    ValueError
        No such node, or no stack; weights that are not constant; a node that is reverse alone; what
        our cells do not have, by name.
    RuntimeError
        The nodes compute something else on a small random input.
    InputError
        onnx is not installed.

    Examples
    --------
    >>> import fusedrnn
    >>> from_onnx(to_onnx(fusedrnn.GRU(2, 3, num_layers=2, bidirectional=True)))
    GRU(2, 3, num_layers=2, bidirectional=True)
    """
    onnx = load_extra("onnx", "onnx")
    if isinstance(model, (str, os.PathLike)):
        model = onnx.load(model)
    if not isinstance(model, onnx.ModelProto):
        raise TypeError(f"model: expected ModelProto or a path, got {validate.describe(model)}")
    producers = {name: node for node in model.graph.node for name in node.output if name}
    stack, arrays = [], dict[str, Array]()
    for k, node in enumerate(_stack(model.graph, nodes, producers)):
        attributes = {a.name: _value(onnx, a) for a in node.attribute}
        inputs = {
            name: _constant(onnx, model, label, producers, name)
            for name, label in zip(INPUTS, node.input, strict=False)
            if label and name in ("W", "R", "B", "P")
        }
        stack.append((node.op_type, attributes, inputs))
        arrays |= _named(k, *stack[-1])
    forms = {onnx_nodes.cells(op, attributes, "P" in a) for op, attributes, a in stack}
    if len(forms) > 1 or len(set(*forms)) > 1:
        got = "; ".join(", ".join(form) for form in sorted(forms))
        raise ValueError(f"nodes: expected one cell in all layers and directions, got {got}")
    if any("bias_ih_l" in name for name in arrays):  # the layer has it everywhere, or nowhere
        for name in [name for name in arrays if "weight_hh" in name]:
            for bias in ("bias_ih", "bias_hh"):
                zeros = np.zeros_like(arrays[name][:, 0])
                arrays.setdefault(name.replace("weight_hh", bias), zeros)
    options = KINDS[next(iter(forms))[0]][1] | ({} if dtype is None else {"dtype": dtype})
    layer = layer_of(arrays, batch_first=batch_first, **options)
    _probe_nodes(onnx, layer, stack)
    return layer


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
    _probe_model(onnx, layer, model)
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
        op, attributes = onnx_nodes.attributes_of(layer.cell, D)
        each = [
            onnx_nodes.to_node(op, layer.cell, pick(layer.params, names))
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


def _stack(graph: Any, names: Sequence[str] | None, producers: dict[str, Any]) -> list[Any]:
    """Return the nodes of these names, or all, which must be a stack."""
    found = [node for node in graph.node if node.domain == "" and node.op_type in onnx_nodes.GATES]
    labels = {node.name or next(filter(None, node.output)): node for node in found}
    said = ", ".join(labels) or "none"
    if names is not None:
        if isinstance(names, str) or not names or any(name not in labels for name in names):
            raise ValueError(f"nodes: expected a sequence of {said}, got {names!r}")
        return [labels[name] for name in names]
    if not found:
        raise ValueError("model: expected nodes RNN, GRU or LSTM in its graph, got none")
    for below, above in itertools.pairwise(found):
        name = above.input[0]
        while name in producers and producers[name].op_type in THROUGH:
            name = producers[name].input[0]
        if name != below.output[0]:
            raise ValueError(f"nodes: expected names of a stack, as these are not one: {said}")
    return found


def _value(onnx: Any, attribute: Any) -> Any:
    """Return an attribute's value, text as str."""
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode()
    if attribute.type == onnx.AttributeProto.STRINGS:
        return [text.decode() for text in value]
    return value


def _constant(onnx: Any, model: Any, label: str, producers: dict[str, Any], name: str) -> Array:
    """Return the value of an input that depends on constants alone."""
    for tensor in model.graph.initializer:
        if tensor.name == label:
            return onnx.numpy_helper.to_array(tensor)  # type: ignore[no-any-return]
    if label not in producers:
        raise ValueError(f"{name}: expected a constant, got one that depends on {label}")
    node = producers[label]
    inputs = {k: _constant(onnx, model, k, producers, name) for k in node.input if k}
    graph = onnx.GraphProto(node=[node], output=[onnx.ValueInfoProto(name=label)])
    opsets = {one.domain: one.version for one in model.opset_import}
    evaluator = onnx.reference.ReferenceEvaluator(graph, opsets=opsets)
    return evaluator.run([label], inputs)[0]  # type: ignore[no-any-return]


def _named(k: int, op: str, attributes: dict[str, Any], a: dict[str, Array]) -> Iterator[Any]:
    """Yield the arrays of layer k by our names."""
    if (direction := onnx_nodes.directions(attributes)) == (True,):
        raise ValueError("direction: expected forward or bidirectional, got reverse")
    for d, cell in enumerate(onnx_nodes.cells(op, attributes, "P" in a)):
        if len(a["W"]) != len(direction):
            raise ValueError(f"W: expected {len(direction)} directions, got {len(a['W'])}")
        B, P = (a[name][d] if name in a else None for name in "BP")
        weights = onnx_nodes.from_node(op, cell, a["W"][d], a["R"][d], B, P)
        for name, array in weights._asdict().items():
            if array is not None:
                yield f"{name}_l{k}" + "_reverse" * d, array


def _evaluator(onnx: Any, proto: Any, attributes: dict[str, Any]) -> Any:
    """Return onnx's own evaluator, with our operators for what it does not have."""
    activations = "".join(attributes.get("activations") or ()).lower()
    older = tuple(map(int, onnx.__version__.split(".")[:2])) < (1, 23)
    lacks = older or "relu" in activations or attributes.get("input_forget")
    return load_extra("onnx.reference", "onnx").ReferenceEvaluator(
        proto, new_ops=reference_ops() if lacks else None
    )


def _probe_nodes(onnx: Any, layer: Layer, stack: list[Any]) -> None:
    """Run nodes of a layer's stack one after the other on the probe, and the layer."""
    x = probe_input(layer)
    y, state = layer(x)
    X, Y = (x.swapaxes(0, 1), y.swapaxes(0, 1)) if layer.batch_first else (x, y)
    ends = []
    for op, attributes, arrays in stack:
        kept = ("activations", "direction", "hidden_size", "input_forget", "linear_before_reset")
        own = {name: value for name, value in attributes.items() if name in kept}
        labels = [name if name in ("X", *arrays) else "" for name in INPUTS]
        labels = labels[: 1 + max(k for k, label in enumerate(labels) if label)]
        outputs = ["Y", "Y_h", "Y_c"][: 1 + CELLS[layer.cell].states]
        node = onnx.helper.make_node(op, labels, outputs, **own)
        feeds = {name: a.astype(layer.dtype) for name, a in arrays.items()}
        X, *end = _evaluator(onnx, node, own).run(None, {"X": X} | feeds)
        X = X.swapaxes(1, 2).reshape(*X.shape[:1], X.shape[2], -1)
        ends.append(end)
    expected = [X, *(np.concatenate(part) for part in zip(*ends, strict=True))]
    check_parity("ONNX", flat(Y, state), expected)


def _probe_model(onnx: Any, layer: Layer, model: Any) -> None:
    """Run a model of a layer on the probe, and the layer."""
    x = probe_input(layer)
    N = x.shape[not layer.batch_first]
    shape = len(layer._slots), N, layer.hidden_size
    state = [np.full(shape, 0.5, layer.dtype) for _ in layer._letters]
    feeds = {f"{letter}_0": a for letter, a in zip(layer._letters, state, strict=True)}
    feeds |= {"x": x, "lengths": np.full(N, x.size // N // layer.input_size, np.int32)}
    wanted = {one.name for one in model.graph.input}
    attributes = onnx_nodes.attributes_of(layer.cell, len(layer._directions))[1]
    evaluator = _evaluator(onnx, model, attributes)
    got = evaluator.run(None, {name: a for name, a in feeds.items() if name in wanted})
    given: Any = tuple(state) if len(state) > 1 else state[0]
    check_parity("ONNX", flat(*layer(x, given if "h_0" in wanted else None)), got)
