# SPDX-License-Identifier: MIT
"""What comes after the recurrent layers: `Linear` and `softmax_cross_entropy`.

Any axes may come first, written (...); the kernels see M rows. Sizes: I = in_features,
O = out_features, V classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from . import _core, validate
from .names import Shapes
from .parameters import Parameters
from .weights import Array

__all__ = ["Linear", "LinearTape", "softmax_cross_entropy"]


@dataclass(slots=True, eq=False)
class LinearTape:
    """What `Linear.forward` keeps: references to x and the weight, which must not change."""

    layer: object = field(repr=False)
    x: Array = field(repr=False)
    weight: Array = field(repr=False)


class Linear(Parameters):
    """Linear layer y = x Wᵀ + b, as `torch.nn.Linear`.

    Parameters
    ----------
    in_features, out_features : int
        I and O: the weight is (O, I), the bias (O,).
    bias : bool
    dtype : float32 or float64
    seed : int, optional
        For `numpy.random.default_rng`: the initial parameters are uniform in ±1/sqrt(I).

    Examples
    --------
    >>> import numpy as np
    >>> linear = Linear(4, 2, seed=0)
    >>> y, tape = linear.forward(np.ones((5, 3, 4), np.float32))
    >>> dx = linear.backward(tape, np.ones_like(y))
    >>> dx.shape, linear.grads["bias"].tolist()
    ((5, 3, 4), [15.0, 15.0])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        dtype: Any = np.float32,
        seed: Any = None,
    ) -> None:
        self.in_features = I = validate.size("in_features", in_features)
        self.out_features = O = validate.size("out_features", out_features)
        self.bias = validate.flag("bias", bias)
        shapes: Shapes = {"weight": ((O, I), "(O, I)")}
        if self.bias:
            shapes["bias"] = ((O,), "(O,)")
        super().__init__(shapes, (I, O), 1 / math.sqrt(I), dtype, seed)

    def __call__(self, x: Array) -> Array:
        """Return y (..., O) for x (..., I), and keep nothing."""
        validate.sequence("x", x, self.dtype, self.in_features, ("...", "I"))
        self._weights()
        y = np.empty((*x.shape[:-1], self.out_features), self.dtype)
        bias = self.params["bias"] if self.bias else None
        _core.linear_forward(_rows(x), self.params["weight"], bias, _rows(y))
        return y

    def forward(self, x: Array) -> tuple[Array, LinearTape]:
        """Return y and what `backward` needs.

        Parameters
        ----------
        x : ndarray (..., I) of the layer's dtype

        Returns
        -------
        y : ndarray (..., O)
        tape : LinearTape
            For `backward`. x and the parameters must not change before.

        Raises
        ------
        TypeError
            An argument, or an array put into `params`, of another kind or dtype.
        ValueError
            A shape that does not fit, a size of 0, an array that is not C-contiguous.
        """
        return self(x), LinearTape(self, x, self.params["weight"])

    def backward(self, tape: LinearTape, dy: Array, *, accumulate: bool = True) -> Array:
        """Return dx (..., I) and add the gradients of weight and bias into `grads`.

        Everything is checked before anything is added.

        Parameters
        ----------
        tape : LinearTape
            From `forward` of this layer.
        dy : ndarray (..., O)
            Gradient of y.
        accumulate : bool
            False: `grads` is written over instead, and need not be zero.

        Raises
        ------
        TypeError
            An argument, or an array put into `grads`, of another kind or dtype.
        ValueError
            The tape of another layer; a shape that does not fit; an array that is not C-contiguous.
        """
        self._check_tape(tape, LinearTape)
        x, shape = tape.x, (*tape.x.shape[:-1], self.out_features)
        validate.array("dy", dy, self.dtype, shape, "(..., O)")
        self._dweights()
        accumulate = validate.flag("accumulate", accumulate)
        dx = np.empty(x.shape, self.dtype)
        dweight, dbias = self.grads["weight"], self.grads["bias"] if self.bias else None
        rows = _rows(x), tape.weight, _rows(dy), _rows(dx)
        _core.linear_backward(*rows, dweight, dbias, accumulate)
        return dx


def softmax_cross_entropy(
    logits: Array,
    targets: Array,
    *,
    ignore_index: int = -100,
    reduction: Literal["mean", "sum"] = "mean",
) -> tuple[float, Array]:
    """Return the loss -Σ log softmax(logits)[target] and its gradient, in one fused pass.

    Parameters
    ----------
    logits : ndarray (..., V), float32 or float64
    targets : ndarray (...) of integers
        The right class of each row, in [0, V), or `ignore_index` for a row that does not count.
    ignore_index : int
    reduction : "mean" or "sum"
        Over the rows that count. As in PyTorch, the mean of no row at all is NaN.

    Returns
    -------
    loss : float
    dlogits : ndarray (..., V)
        Ready to be the `dy` of `Linear.backward`; zero in rows that do not count.

    Raises
    ------
    TypeError
        An argument of another kind or dtype.
    ValueError
        A shape that does not fit, a size of 0, an array that is not C-contiguous; a target that
        counts outside [0, V); an unknown reduction.

    Examples
    --------
    >>> import numpy as np
    >>> loss, dlogits = softmax_cross_entropy(np.zeros((1, 4)), np.array([2]))
    >>> dlogits.tolist(), round(np.exp(loss).item(), 12)  # four equal chances
    ([[0.25, 0.25, -0.75, 0.25]], 4.0)
    """
    validate.floats("logits", logits)
    classes = validate.integers("targets", targets, ("...",) * (logits.ndim - 1))
    if classes.shape != logits.shape[:-1]:
        wanted = f"of logits without its last = {logits.shape[:-1]}"
        raise ValueError(f"targets: expected shape {wanted}, got {classes.shape}")
    ignore_index = validate.integer("ignore_index", ignore_index)
    mean = validate.choice("reduction", reduction, ("mean", "sum")) == "mean"
    dlogits = np.empty(logits.shape, logits.dtype)
    loss = _core.softmax_cross_entropy(
        _rows(logits), classes.reshape(-1), ignore_index, mean, _rows(dlogits)
    )
    return loss, dlogits


def _rows(a: Array) -> Array:
    """View (..., K) as (M, K)."""
    return a.reshape(-1, a.shape[-1])
