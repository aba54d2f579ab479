# SPDX-License-Identifier: MIT
"""One-hot rows, and softmax with cross-entropy, in plain NumPy."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import DTypeLike

from . import validate
from .weights import Array


def one_hot(name: str, index: Array, size: int, dtype: DTypeLike) -> Array:
    """Return rows (..., size) with a one at each index."""
    validate.indices(name, index, size)
    return np.eye(size, dtype=dtype)[index]


def softmax_cross_entropy(
    logits: Array,
    targets: Array,
    *,
    ignore_index: int = -100,
    reduction: Literal["mean", "sum"] = "mean",
) -> tuple[float, Array]:
    """Return the loss -Σ log softmax(logits)[target] and its gradient by the logits.

    Parameters
    ----------
    logits : ndarray (..., V)
    targets : ndarray (...) of integers
        The right class of each row, in [0, V), or `ignore_index` for a row that does not count.
    ignore_index : int
    reduction : "mean" or "sum"
        Over the rows that count. As in PyTorch, the mean of no row at all is NaN.

    Returns
    -------
    loss : float
    dlogits : ndarray (..., V)

    Raises
    ------
    ValueError
        If a target that counts is outside [0, V).

    Examples
    --------
    >>> import numpy as np
    >>> loss, dlogits = softmax_cross_entropy(np.zeros((1, 4)), np.array([2]))
    >>> dlogits.tolist(), round(np.exp(loss).item(), 12)  # four equal chances
    ([[0.25, 0.25, -0.75, 0.25]], 4.0)
    """
    counted = targets != ignore_index
    wanted = one_hot("targets", np.where(counted, targets, 0), logits.shape[-1], bool)
    wanted &= counted[..., None]
    rows = int(counted.sum()) if reduction == "mean" else 1

    log_p = logits - logits.real.max(axis=-1, keepdims=True)  # softmax does not see this shift
    log_p = log_p - np.log(np.exp(log_p).sum(axis=-1, keepdims=True))
    loss = np.where(wanted, -log_p, 0).sum().item() / rows if rows else float("nan")
    dlogits = (np.exp(log_p) * counted[..., None] - wanted) / max(rows, 1)
    return loss, dlogits
