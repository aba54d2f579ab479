# SPDX-License-Identifier: MIT
"""A layer from the recurrent nodes of an ONNX model."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .. import validate
from ..convert import Layer, layer_of
from ..errors import load_extra
from ..layers import KINDS
from ..probe import check_parity, flat, probe_input
from ..weights import Array
from . import nodes as recurrent
from . import plain
from .constants import Values, check_call
from .nodes import INPUTS

__all__ = ["from_onnx"]


def from_onnx(
    model: Any,
    nodes: Sequence[str] | None = None,
    *,
    batch_first: bool = False,
    dtype: Any = None,
) -> Layer:
    """Return the layer, of as many layers as there are nodes, that recurrent nodes of a model are.

    initial_h, initial_c and sequence_lens are the `state` and `lengths` of a call. Constants are
    refused, but zeros as states: lengths also where all are T, as the layer takes any T. Lengths
    that the model takes from a shape are those of all steps.

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
    >>> from_onnx(fusedrnn.onnx.to_onnx(fusedrnn.GRU(2, 3, num_layers=2, bidirectional=True)))
    GRU(2, 3, num_layers=2, bidirectional=True)
    """
    onnx = load_extra("onnx", "onnx")
    if isinstance(model, (str, os.PathLike)):
        model = onnx.load(model)
    if not isinstance(model, onnx.ModelProto):
        raise TypeError(f"model: expected ModelProto or a path, got {validate.describe(model)}")
    values = Values(onnx, model)
    found = _stack(values, nodes)
    check_call(values, found)
    stack, arrays, forms = [], dict[str, Array](), set[tuple[str, ...]]()
    for k, node in enumerate(found):
        attributes = {a.name: _value(onnx, a) for a in node.attribute}
        inputs = [
            values.of(label, {}, name) if label and name in "WRBP" else None
            for name, label in zip(INPUTS, node.input, strict=False)
        ]
        stack.append((node, attributes, inputs))
        named = {name: a for name, a in zip(INPUTS, inputs, strict=False) if a is not None}
        arrays |= _named(k, node.op_type, attributes, named)
        forms.add(recurrent.cells(node.op_type, attributes, "P" in named))
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
    _probe_nodes(layer, values, stack)
    return layer


def _stack(values: Values, names: Sequence[str] | None) -> list[Any]:
    """Return the nodes of these names, or all, which must be a stack."""
    found = [node for node in values.nodes if node.domain == "" and node.op_type in recurrent.GATES]
    of_nodes = [node.name or next(filter(None, node.output)) for node in found]
    labels, said = dict(zip(of_nodes, found, strict=True)), ", ".join(of_nodes) or "none"
    if names is not None:
        if len(labels) < len(found):
            raise ValueError(f"model: expected nodes with names of their own, got {said}")
        if not (isinstance(names, (list, tuple)) and names and all(n in of_nodes for n in names)):
            raise ValueError(f"nodes: expected a sequence of {said}, got {names!r}")
        found = [labels[name] for name in names]
    if not found:
        raise ValueError("model: expected nodes RNN, GRU or LSTM in its graph, got none")
    for below, above in itertools.pairwise(found):
        if below.output[0] not in values.reach(above.input[0], below.output):
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


def _named(k: int, op: str, attributes: dict[str, Any], a: dict[str, Array]) -> Iterator[Any]:
    """Yield the arrays of layer k by our names."""
    if (direction := recurrent.directions(attributes)) == (True,):
        wanted = "forward (with x and y from the last step to the first) or bidirectional"
        raise ValueError(f"direction: expected {wanted}, got reverse")
    recurrent.check_weights(op, a, len(direction), attributes.get("hidden_size"))
    for d, cell in enumerate(recurrent.cells(op, attributes, "P" in a)):
        B, P = (a[name][d] if name in a else None for name in "BP")
        weights = recurrent.from_node(op, cell, a["W"][d], a["R"][d], B, P)
        for name, array in weights._asdict().items():
            if array is not None:
                yield f"{name}_l{k}" + "_reverse" * d, array


def _probe_nodes(layer: Layer, values: Values, stack: list[Any]) -> None:
    """Run a stack's nodes, and what the model has between them, on the probe; and the layer."""
    x = probe_input(layer)
    y, state = layer(x)
    x, y = (x.swapaxes(0, 1), y.swapaxes(0, 1)) if layer.batch_first else (x, y)
    given, ends = dict[str, Array](), []
    for node, attributes, inputs in stack:
        axes = (1, 0, 2) if (batch_first := attributes.get("layout")) else (0, 1, 2)
        X = values.of(node.input[0], given, "X").transpose(axes) if given else x
        wanted = (*x.shape[:2], inputs[1].shape[2])
        if X.shape != wanted:
            raise ValueError(f"X: expected shape {wanted} in the layer above, got {X.shape}")
        weights = [None if a is None else a.astype(layer.dtype) for a in inputs[1:]]
        Y, *end = plain.run(node.op_type, [X, *weights], attributes | {"layout": 0})
        ends.append(end)
        outputs = [Y.transpose(2, 0, 1, 3) if batch_first else Y]
        outputs += [a.swapaxes(0, 1) if batch_first else a for a in end]
        given |= dict(zip(node.output, outputs, strict=False))
    Y = Y.swapaxes(1, 2).reshape(*y.shape)
    expected = [Y, *(np.concatenate(part) for part in zip(*ends, strict=True))]
    check_parity("ONNX", flat(y, state), expected)
