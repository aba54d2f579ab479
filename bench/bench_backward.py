# SPDX-License-Identifier: MIT
"""Training: forward and backward through time, with the gradients of x and of every weight."""

import pytest

TASK = "training"


@pytest.mark.benchmark(max_time=0.3, min_rounds=3, warmup=True, warmup_iterations=2)
def test_backward(measure):
    measure()
