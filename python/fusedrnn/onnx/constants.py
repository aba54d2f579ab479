# SPDX-License-Identifier: MIT
"""What a model holds itself: weights, and states that are not given with a call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..errors import load_extra
from ..weights import Array

SHAPES = ("Shape", "Size")
MOVES = ("Cast", "Expand", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Tile", "Unsqueeze")
"""What leaves the numbers of its first input as they are."""


def constant(onnx: Any, model: Any, label: str, producers: dict[str, Any], name: str) -> Array:
    """Return the value of an input that depends on constants alone."""
    for tensor in model.graph.initializer:
        if tensor.name == label:
            return onnx.numpy_helper.to_array(tensor)  # type: ignore[no-any-return]
    if label not in producers:
        raise ValueError(f"{name}: expected a constant, got one that depends on {label}")
    node = producers[label]
    inputs = {k: constant(onnx, model, k, producers, name) for k in node.input if k}
    graph = onnx.GraphProto(node=[node], output=[onnx.ValueInfoProto(name=label)])
    opsets = {one.domain: one.version for one in model.opset_import}
    alone = load_extra("onnx.reference").ReferenceEvaluator(graph, opsets=opsets)
    return alone.run([label], inputs)[0]  # type: ignore[no-any-return]


def check_call(onnx: Any, model: Any, node: Any, producers: dict[str, Any]) -> None:
    """Refuse a node whose state or lengths the model holds: a layer takes them with each call."""
    places = {4: "sequence_lens", 5: "initial_h", 6: "initial_c"}
    for place, name in places.items():
        label = node.input[place] if place < len(node.input) else ""
        if not label:
            continue
        leaves = list(_leaves(onnx, model, label, producers))
        values = [leaf for leaf in leaves if leaf is not None]
        if len(values) < len(leaves):
            continue  # it comes with a call
        if name == "sequence_lens":
            if _is_of_a_shape(label, producers):
                continue  # all steps, whatever T
        elif not any(a.any() for a in values if a.dtype.kind == "f"):
            continue  # zeros, of whatever shape
        wanted = "lengths" if name == "sequence_lens" else "state"
        raise ValueError(
            f"{name}: expected none or an input of the model, got constants in {label}: "
            f"clear it in the node and give it as {wanted} with each call"
        )


def _is_of_a_shape(label: str, producers: dict[str, Any]) -> bool:
    """Return whether the numbers in a value are those of a shape."""
    while (node := producers.get(label)) and node.op_type in MOVES:
        label = node.input[0]
    return node is not None and node.op_type == "Shape"


def _leaves(onnx: Any, model: Any, label: str, producers: dict[str, Any]) -> Iterator[Array | None]:
    """Yield the constants that a value is made of, and None if inputs are, not their shapes."""
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    waiting, seen = [label], set[str]()
    while waiting:
        label = waiting.pop()
        if not label or label in seen:
            continue
        seen.add(label)
        node = producers.get(label)
        if label in held:
            yield onnx.numpy_helper.to_array(held[label])
        elif node is None:
            yield None
        elif node.op_type in SHAPES:
            continue
        elif node.op_type == "Constant":
            yield constant(onnx, model, label, producers, label)
        elif node.op_type == "ConstantOfShape":
            yield from (onnx.numpy_helper.to_array(one.t) for one in node.attribute)
        else:
            waiting += node.input
