# SPDX-License-Identifier: MIT
"""What a layer remembers of the arrays it has checked, so that each is checked once."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import Any

from .weights import Array, Weights

__all__ = ["Seen"]


class Seen:
    """Arrays as they were found right, and the `Weights` they are of every slot.

    Until one is replaced they need no check: `_core` looks at them again in any case.
    """

    __slots__ = ("arrays", "weights")

    def __init__(self, arrays: tuple[Array, ...] = (), weights: Sequence[Weights] = ()) -> None:
        self.arrays, self.weights = arrays, weights

    def __reduce__(self) -> Any:
        """Return an empty one: the copy of a layer has arrays of its own."""
        return Seen, ()

    def are(self, arrays: Iterator[Array | None], count: int) -> bool:
        """Whether these are the arrays found right."""
        return len(self.arrays) == count and all(map(operator.is_, arrays, self.arrays))
