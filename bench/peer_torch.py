# SPDX-License-Identifier: MIT
"""PyTorch's layer."""

import fusedrnn
import numpy as np
import torch
from ours import states


def layer(cell, weights):
    """PyTorch's layer with the weights given, on as many threads as ours."""
    torch.set_num_threads(fusedrnn.get_num_threads())
    kind, _, nonlinearity = cell.partition("_")
    options = {"nonlinearity": nonlinearity} if nonlinearity else {}
    I, H = (weights[name].shape[-1] for name in ("weight_ih_l0", "weight_hh_l0"))
    module = getattr(torch.nn, kind.upper())(I, H, **options)
    module.load_state_dict({name: torch.from_numpy(a) for name, a in weights.items()})
    return module


def make(name, task, cell, weights, x, dy):
    module = layer(cell, weights)
    data, gradient = torch.from_numpy(x), torch.from_numpy(dy)
    leaf = data.clone().requires_grad_()

    def infer():
        with torch.inference_mode():
            return module(data)

    def train():
        module.zero_grad()
        leaf.grad = None
        y = module(leaf)[0]
        y.backward(gradient)
        return {"y": y, "dx": leaf.grad, **{n: p.grad for n, p in module.named_parameters()}}

    return (train, _arrays) if task == "training" else (infer, states)


def _arrays(result):
    return {name: np.asarray(tensor.detach()) for name, tensor in result.items()}
