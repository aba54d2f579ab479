# SPDX-License-Identifier: MIT
"""What the tests of `fusedrnn.onnx` share."""

import pytest
from fusedrnn.onnx import reference_ops

onnx = pytest.importorskip("onnx")
ReferenceEvaluator = pytest.importorskip("onnx.reference").ReferenceEvaluator

I, H, T, N = 3, 4, 5, 3


def run(model, feeds):
    return ReferenceEvaluator(model, new_ops=reference_ops()).run(None, feeds)
