# SPDX-License-Identifier: MIT
"""Optimisers and gradient clipping, in place on `params` and `grads`.

The update rules are PyTorch's, Adam's a kernel and the others plain NumPy. What a layer is does not
matter here: anything with two dicts of arrays, `params` and `grads`, can be trained.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from . import _core
from .optimizer import Module, Optimizer, Trainables
from .settings import number
from .validate import FLOATS, WRITE, kind, layout
from .weights import Array

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "RMSprop", "clip_grad_norm"]

Gradients: TypeAlias = Array | Module | Mapping[str, "Gradients"] | Sequence["Gradients"]


class SGD(Optimizer):
    """Stochastic gradient descent: v ← momentum·v + g, p ← p - lr·v.

    The rule of `torch.optim.SGD` (no dampening, no Nesterov). Parameters: see `Optimizer`.

    Examples
    --------
    >>> params, grads = {"w": np.array([1.0, 2.0])}, {"w": np.array([0.5, -0.5])}
    >>> SGD((params, grads), lr=0.1).step()
    >>> params["w"]
    array([0.95, 2.05])
    """

    def __init__(
        self, modules: Trainables, lr: float, *, momentum: float = 0.0, weight_decay: float = 0.0
    ) -> None:
        self.momentum = momentum
        super().__init__(modules, lr, weight_decay, ("momentum_buffer",) if momentum else ())

    def step(self) -> None:
        """Update every parameter in place from its gradient, which is only read."""
        if self.momentum and not self._slots:  # set since
            self._keep(("momentum_buffer",))
        super().step()

    def _update(self, p: Array, g: Array, state: list[Array], scratch: Array) -> None:
        for v in state:
            np.multiply(v, self.momentum, out=v)
            g = np.add(v, g, out=v)
        p -= np.multiply(g, self.lr, out=scratch)


class RMSprop(Optimizer):
    """Divide by a running root mean square: s ← alpha·s + (1 - alpha)·g², p ← p - lr·g/(√s + eps).

    The rule of `torch.optim.RMSprop`, not centered, without momentum (Tieleman and Hinton 2012).
    Parameters: see `Optimizer`.

    Examples
    --------
    >>> params, grads = {"w": np.array([1.0])}, {"w": np.array([4.0])}
    >>> RMSprop((params, grads), lr=0.1, alpha=0.75).step()
    >>> params["w"].round(6)
    array([0.8])
    """

    def __init__(
        self,
        modules: Trainables,
        lr: float = 1e-2,
        *,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        self.alpha, self.eps = alpha, eps
        super().__init__(modules, lr, weight_decay, ("square_avg",))

    def _update(self, p: Array, g: Array, state: list[Array], scratch: Array) -> None:
        (s,) = state
        np.multiply(g, 1 - self.alpha, out=scratch)
        scratch *= g
        s *= self.alpha
        s += scratch
        np.sqrt(s, out=scratch)
        scratch += self.eps
        np.divide(g, scratch, out=scratch)
        scratch *= self.lr
        p -= scratch


class Adam(Optimizer):
    """Adaptive moments: m, s ← running means of g, g²; p ← p - lr·m̂/(√ŝ + eps).

    m̂ = m / (1 - beta₁ᵏ) and ŝ = s / (1 - beta₂ᵏ) at step k. The rule of `torch.optim.Adam`, without
    amsgrad (Kingma and Ba 2015, algorithm 1), in one pass over all. Parameters: see `Optimizer`.

    Examples
    --------
    >>> params, grads = {"w": np.array([1.0])}, {"w": np.array([4.0])}
    >>> Adam((params, grads), lr=0.1).step()
    >>> params["w"].round(6)
    array([0.9])
    """

    _decoupled = False

    def __init__(
        self,
        modules: Trainables,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        self.betas, self.eps = betas, eps
        super().__init__(modules, lr, weight_decay, ("exp_avg", "exp_avg_sq"))

    def _step(self, updates: list[tuple[Array, ...]]) -> None:
        settings = (self.lr, *self.betas, self.eps, self.weight_decay)
        _core.adam(updates, *settings, self._decoupled, self.steps + 1)


class AdamW(Adam):
    """Adam with decoupled weight decay: p ← p - lr·weight_decay·p before the step.

    The rule of `torch.optim.AdamW` (Loshchilov and Hutter 2019, algorithm 2), whose `weight_decay`
    is by default 0.01. Parameters: see `Optimizer`.

    Examples
    --------
    >>> params, grads = {"w": np.array([1.0])}, {"w": np.array([4.0])}
    >>> AdamW((params, grads), lr=0.1, weight_decay=0.5).step()
    >>> params["w"].round(6)
    array([0.85])
    """

    _decoupled = True

    def __init__(
        self,
        modules: Trainables,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(modules, lr, betas=betas, eps=eps, weight_decay=weight_decay)


def clip_grad_norm(grads: Gradients, max_norm: float) -> float:
    """Scale gradients in place so that their joint Euclidean norm is at most `max_norm`.

    As `torch.nn.utils.clip_grad_norm_`: the factor is min(1, max_norm / (norm + 1e-6)).

    Parameters
    ----------
    grads : mapping of arrays, module, array, or a sequence or mapping of these
        Clipped together, as one long vector.
    max_norm : float
        Not negative; infinity clips nothing.

    Returns
    -------
    float
        The norm before clipping, summed in float64 in a fixed order; NaN or infinity if a gradient
        is.

    Raises
    ------
    TypeError
        Something else among the gradients, or an array that is not of float32 or float64.
    ValueError
        `max_norm` out of range; an array not C-contiguous, not writable, or one that comes twice.
        Nothing has changed.

    Examples
    --------
    >>> grads = {"w": np.array([3.0, 4.0])}
    >>> clip_grad_norm(grads, 1.0)
    5.0
    >>> grads["w"].round(3)
    array([0.6, 0.8])
    """
    most = number("max_norm", max_norm)
    if not most >= 0:
        raise ValueError(f"max_norm: expected a number >= 0, got {max_norm}")
    arrays = list(_arrays(grads))
    starts = [array.__array_interface__["data"] for array in arrays if array.size]
    if len(set(starts)) < len(starts):
        raise ValueError("grads: expected each once, got one twice")
    # einsum and not dot: a BLAS may sum in another order with another number of threads
    norm = math.sqrt(sum(float(np.einsum("i,i", a, a, dtype=np.float64)) for a in arrays))
    factor = most / (norm + 1e-6)
    if not (factor >= 1 or most == math.inf):
        for array in arrays:
            array *= factor
    return norm


def _arrays(grads: Gradients) -> Iterator[Array]:
    if isinstance(grads, np.ndarray):
        yield layout("grads", kind("grads", grads, FLOATS), WRITE).reshape(-1)
    elif isinstance(grads, Mapping):
        for value in grads.values():
            yield from _arrays(value)
    elif isinstance(grads, Sequence) and not isinstance(grads, (str, bytes)):
        for value in grads:
            yield from _arrays(value)
    elif hasattr(grads, "grads"):
        yield from _arrays(grads.grads)
    else:
        raise TypeError(f"grads: expected arrays or modules, got {type(grads).__name__}")
