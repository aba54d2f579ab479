# SPDX-License-Identifier: MIT
"""A step of Adam on the parameters of an LSTM and its head: ours, PyTorch's default, its fused."""

import fusedrnn
import numpy as np
import pytest
from contestants import installed

SIZES = {  # I, H, outputs, layers
    "1_425": (4, 16, 1, 1),
    "19_009": (8, 64, 1, 1),
    "387_168": (96, 256, 96, 1),
    "4_465_152": (512, 512, 512, 2),
}


def ours(modules):
    return fusedrnn.optim.Adam(modules).step


def of_torch(modules, **how):
    import torch

    leaves = []
    for module in modules:
        for name, param in module.params.items():
            leaf = torch.nn.Parameter(torch.from_numpy(param))
            leaf.grad = torch.from_numpy(module.grads[name])
            leaves.append(leaf)
    return torch.optim.Adam(leaves, **how).step


LIBRARIES = {
    "fusedrnn": ours,
    "torch": of_torch,
    "torch_fused": lambda modules: of_torch(modules, fused=True),
}


def made(size):
    """An LSTM and its head with gradients."""
    I, H, outputs, layers = SIZES[size]
    modules = [fusedrnn.LSTM(I, H, layers, seed=0), fusedrnn.Linear(H, outputs, seed=1)]
    rng = np.random.default_rng(0)
    for module in modules:
        for grad in module.grads.values():
            grad[...] = rng.standard_normal(grad.shape)
    return modules


@pytest.mark.benchmark(max_time=0.3, min_rounds=3, warmup=True, warmup_iterations=2)
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("size", SIZES)
def test_adam(benchmark, size, library):
    """One step of each gives the same; then the steps are timed."""
    if library != "fusedrnn" and not installed("torch"):
        pytest.skip("needs PyTorch")
    benchmark.group = f"Adam, {size} parameters"
    modules, wanted = made(size), made(size)
    step = LIBRARIES[library](modules)
    step()
    ours(wanted)()
    for module, other in zip(modules, wanted, strict=True):
        for name, param in module.params.items():
            np.testing.assert_allclose(param, other.params[name], rtol=1e-5, atol=1e-7)
    benchmark(step)
