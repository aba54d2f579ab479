# SPDX-License-Identifier: MIT
"""The probe of a conversion: a small random input that must give the same on both sides."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from .weights import Array

PARITY = {"float32": 1e-3, "float64": 1e-9}
"""What a probe lets pass, relative max-norm: far above rounding, far below a gate out of place."""


def probe_input(layer: Any) -> Array:
    """Return a small random input for this layer."""
    shape = (2, 4) if layer.batch_first else (4, 2)
    x = np.random.default_rng(0).standard_normal((*shape, layer.input_size))
    return x.astype(layer.dtype)


def flat(y: Array, state: Any) -> list[Array]:
    """Return y, h and, for an LSTM, c."""
    return [y, *(state if isinstance(state, tuple) else (state,))]


def check_parity(by: str, actual: Iterable[Array], expected: Iterable[Array]) -> None:
    """Raise RuntimeError if outputs differ by more than rounding."""
    for a, b in zip(actual, expected, strict=True):
        limit = max(PARITY[a.dtype.name], PARITY[b.dtype.name])
        size = np.abs(b[np.isfinite(b)]).max(initial=0)
        if a.shape != b.shape:
            raise RuntimeError(f"{by} computes shape {b.shape} on a probe, got {a.shape}")
        if not np.allclose(a, b, rtol=0, atol=limit * size, equal_nan=True):
            difference = np.abs(a - b).max()
            raise RuntimeError(
                f"{by} computes something else on a probe: a difference of {difference:.3g}, "
                f"expected at most {limit * size:.3g}"
            )
