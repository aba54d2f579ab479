# SPDX-License-Identifier: MIT
"""RNN, GRU and LSTM as operators of onnx's reference evaluator: on our kernels; and in NumPy."""

from __future__ import annotations

from typing import Any

from ..errors import load_extra
from ..weights import Array
from . import nodes, plain
from .nodes import INPUTS

__all__ = ["reference_ops"]


class Operator:
    """A recurrent operator for onnx's reference evaluator, beside its base class `OpRun`."""

    onnx_node: Any
    has_linked_attribute: bool
    attributes_names_: Any

    def _run(self, *inputs: Any, **attributes: Any) -> tuple[Array, ...]:
        """Run the node: called by `OpRun.run`, with its inputs in order and all its attributes."""
        node = self.onnx_node
        # By the node's names: what comes for an input named "" may be another node's lost output
        given = [a if label else None for label, a in zip(node.input, inputs, strict=False)]
        return self._compute(node.op_type, given, attributes)[: len(node.output)]

    _compute = staticmethod(plain.run)


class Fused(Operator):
    """On our kernels, which do not have all that a node can ask for."""

    def __init__(self, onnx_node: Any, run_params: Any) -> None:
        super().__init__(onnx_node, run_params)  # type: ignore[call-arg]
        if not self.has_linked_attribute:  # else they come with the call
            own = {name: getattr(self, name) for name in self.attributes_names_}
            nodes.cells(onnx_node.op_type, own)

    @staticmethod
    def _compute(op: str, inputs: Any, attributes: Any) -> tuple[Array, ...]:
        named = {name: a for name, a in zip(INPUTS, inputs, strict=False) if a is not None}
        return nodes.run(op, named, attributes)


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
    >>> model = fusedrnn.onnx.to_onnx(fusedrnn.LSTM(2, 3, seed=0))
    >>> evaluator = onnx.reference.ReferenceEvaluator(model, new_ops=reference_ops())
    >>> y, h, c = evaluator.run(None, {"x": np.zeros((5, 1, 2), np.float32)})
    >>> y.shape, c.shape
    ((5, 1, 3), (1, 1, 3))
    """
    return _operators(Fused)


def plain_ops() -> list[type]:
    """Return the same in plain NumPy, whatever onnx's own have: for probes."""
    return _operators(Operator)


def _operators(kind: type) -> list[type]:
    base = load_extra("onnx.reference.op_run", "onnx").OpRun
    own = {"op_domain": "", "__module__": __name__}
    return [type(base)(op, (kind, base), own) for op in nodes.GATES]
