# SPDX-License-Identifier: MIT
"""Inference: one layer over a whole sequence, keeping nothing for backward."""

import pytest

TASK = "inference"


@pytest.mark.benchmark(max_time=0.3, min_rounds=3, warmup=True, warmup_iterations=2)
def test_forward(measure):
    measure()
