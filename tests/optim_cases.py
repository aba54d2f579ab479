# SPDX-License-Identifier: MIT
"""What the tests of optimisers share: every rule, and a module of random arrays."""

import numpy as np
from fusedrnn import optim

RULES = {
    "sgd": lambda modules, **k: optim.SGD(modules, 0.1, **k),
    "momentum": lambda modules, **k: optim.SGD(modules, 0.1, momentum=0.9, **k),
    "rmsprop": lambda modules, **k: optim.RMSprop(modules, 0.01, alpha=0.9, **k),
    "adam": lambda modules, **k: optim.Adam(modules, 0.01, **k),
    "adamw": lambda modules, **k: optim.AdamW(modules, 0.01, **k),
}


class Module:
    def __init__(self, dtype=np.float64, shapes=((3, 4), (5,)), seed=0):
        rng = np.random.default_rng(seed)
        self.params = {f"p{i}": rng.standard_normal(s).astype(dtype) for i, s in enumerate(shapes)}
        self.grads = {name: np.zeros_like(p) for name, p in self.params.items()}

    def draw(self, rng):
        for grad in self.grads.values():
            grad[...] = rng.standard_normal(grad.shape)


def train(module, optimizer, steps, rng):
    for _ in range(steps):
        module.draw(rng)
        optimizer.step()
