# SPDX-License-Identifier: MIT
"""What a model computes before and between its recurrent nodes: weights, states, lengths, wires."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import load_extra
from ..weights import Array
from .operators import plain_ops

CALL = {4: "sequence_lens", 5: "initial_h", 6: "initial_c"}
"""Inputs of a node that a layer takes with each call, by their place."""


class Values:
    """The values of a model's graph, by the reference evaluator of onnx."""

    def __init__(self, onnx: Any, model: Any) -> None:
        self.onnx, self.model, self.nodes = onnx, model, list(model.graph.node)
        self.held = {tensor.name: tensor for tensor in model.graph.initializer}
        self.producers = {
            name: k for k, node in enumerate(self.nodes) for name in node.output if name
        }

    def reach(self, label: str, given: Iterable[str] = (), shapes: bool = False) -> set[str]:
        """Return the names that a value is made of, itself included, back to what is given.

        shapes: also what it has but the shape of.
        """
        waiting, seen = [label], set[str]()
        while waiting:
            if not (label := waiting.pop()) or label in seen:
                continue
            seen.add(label)
            if label in self.producers and label not in given:
                node = self.nodes[self.producers[label]]
                if shapes or node.op_type not in ("Shape", "Size"):
                    waiting += node.input
        return seen

    def unknown(self, made: set[str]) -> list[str]:
        """Return those of these names that are inputs of the graph."""
        return sorted(made - self.producers.keys() - self.held.keys())

    def of(self, label: str, given: Mapping[str, Array], name: str) -> Array:
        """Return a value that depends on these and on constants alone; `name` is who wants it."""
        if label in given:
            return given[label]
        if label in self.held:
            return self.onnx.numpy_helper.to_array(self.held[label])  # type: ignore[no-any-return]
        made = self.reach(label, given, shapes=True)
        if unknown := self.unknown(made - given.keys()):
            raise ValueError(f"{name}: expected a constant, got one that depends on {unknown[0]}")
        places = sorted(
            {self.producers[one] for one in made - given.keys() if one in self.producers}
        )
        info, inputs = self.onnx.ValueInfoProto, {k: a for k, a in given.items() if k in made}
        graph = self.onnx.GraphProto(
            node=[self.nodes[k] for k in places],
            initializer=[self.held[one] for one in made & self.held.keys()],
            input=[info(name=one) for one in inputs],
            output=[info(name=label)],
        )
        opsets = {one.domain: one.version for one in self.model.opset_import}
        evaluator = load_extra("onnx.reference").ReferenceEvaluator
        try:
            run = evaluator(graph, opsets=opsets, new_ops=plain_ops()).run
            return run([label], inputs)[0]  # type: ignore[no-any-return]
        except Exception as error:  # of any operator
            got = f"{label}, of which it says: {error}"
            raise ValueError(
                f"{name}: expected what onnx.reference can compute, got {got}"
            ) from error

    def inputs(self) -> dict[str, Array]:
        """Return ones as the inputs of the graph, with sizes of their own where it has none."""
        sizes: dict[str, int] = {}
        arrays = {}
        for one in self.model.graph.input:
            if one.name in self.held:
                continue
            tensor = one.type.tensor_type
            shape = [
                dim.dim_value
                or sizes.setdefault(dim.dim_param or f"{one.name} {k}", 2 + len(sizes))
                for k, dim in enumerate(tensor.shape.dim)
            ]
            dtype = self.onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type or 1)
            arrays[one.name] = np.ones(shape, dtype)
        return arrays


def check_call(values: Values, nodes: Sequence[Any]) -> None:
    """Refuse nodes whose state or lengths the model holds: a layer takes them with each call."""
    outputs = {name for node in nodes for name in node.output if name}
    lengths = []
    for node in nodes:
        lengths.append("none")
        for place, name in CALL.items():
            label = node.input[place] if place < len(node.input) else ""
            made = values.reach(label) if label else set[str]()
            if made & outputs:
                got = f"{label}, which depends on the nodes themselves"
                raise ValueError(f"{name}: expected none or an input of the model, got {got}")
            if values.unknown(made):  # it comes with a call
                lengths[-1] = label if name == "sequence_lens" else lengths[-1]
            elif label and not _is_default(values, nodes[0], label, name):
                wanted = "lengths" if name == "sequence_lens" else "state"
                raise ValueError(
                    f"{name}: expected none or an input of the model, got constants in {label}: "
                    f"clear it in the node and give it as {wanted} with each call"
                )
    if len(set(lengths)) > 1:
        raise ValueError(
            f"sequence_lens: expected the same for all nodes, got {', '.join(lengths)}"
        )


def _is_default(values: Values, first: Any, label: str, name: str) -> bool:
    """Whether a state is zeros of any shape, or lengths are all steps, whatever T."""
    given = values.inputs()
    if name != "sequence_lens":
        return not values.of(label, given, name).any()
    if values.reach(label) == values.reach(label, shapes=True):
        return False
    T = values.of(first.input[0], given, name).shape[_is_batch_first(first)]
    return bool((values.of(label, given, name) == T).all())


def _is_batch_first(node: Any) -> bool:
    return any(one.name == "layout" and one.i for one in node.attribute)
