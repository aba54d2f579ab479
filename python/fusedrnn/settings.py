# SPDX-License-Identifier: MIT
"""What the settings of an optimiser must be: whatever number is given, a float is kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any


def number(name: str, value: float) -> float:
    """Return `value`, a real number, as a float, or say that it is not one."""
    if not isinstance(value, Real):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    try:
        return float(value)
    except OverflowError:  # an integer beyond all floats
        return math.inf


def setting(name: str, value: float) -> float:
    """Return `value`, a finite number not below zero, or say that it is not."""
    if not 0 <= (given := number(name, value)) < math.inf:
        raise ValueError(f"{name}: expected a finite number >= 0, got {value}")
    return given


def decays(name: str, value: tuple[float, float]) -> tuple[float, float]:
    """Return `value`, two numbers in [0, 1), or say that it is not."""
    if not isinstance(value, Sequence) or len(value) != 2:
        raise TypeError(f"{name}: expected two numbers, got {value!r}")
    first, second = (number(name, decay) for decay in value)
    if not (0 <= first < 1 and 0 <= second < 1):
        raise ValueError(f"{name}: expected numbers in [0, 1), got {value}")
    return first, second


CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "betas": decays,
    **dict.fromkeys(("lr", "weight_decay", "momentum", "alpha", "eps"), setting),
}
"""By the name of the attribute that it is."""
