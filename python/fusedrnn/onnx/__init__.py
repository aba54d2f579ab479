# SPDX-License-Identifier: MIT
"""ONNX: its recurrent nodes on our kernels, layers from its models, and models of layers.

    evaluator = onnx.reference.ReferenceEvaluator(model, new_ops=fusedrnn.onnx.reference_ops())

What our cells do not have, as clip and activations other than the defaults (and relu of RNN), is
refused by name. A conversion is compared on a small random input with ONNX's equations in plain
NumPy, which share nothing with the conversion.
"""

from .operators import reference_ops
from .reader import from_onnx
from .writer import to_onnx

__all__ = ["from_onnx", "reference_ops", "to_onnx"]
