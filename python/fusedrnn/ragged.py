# SPDX-License-Identifier: MIT
"""Sequences of unequal length, and states that begin anew inside a sequence.

The kernels take sequences without their padding, the longest first: step t has the rows of those
that are longer than t. So the cost follows the valid steps.
"""

from __future__ import annotations

import numpy as np

from . import _core
from .weights import Array, State

__all__ = ["Ragged", "valid_steps", "zero_before"]


class Ragged:
    """Where the rows of padded arrays (T, N, ...) stand in arrays (1, R, ...) without padding.

    Parameters
    ----------
    lengths : ndarray (N,) of integers in [0, T], in any order
    T : int
        Steps of the padded arrays.
    order : ndarray (N,), optional
        The rows with the longest first, if it is to be a certain one of several such orders.

    Raises
    ------
    ValueError
        A length outside [0, T]; an order in which a longer row comes later.
    """

    def __init__(self, lengths: Array, T: int, order: Array | None = None) -> None:
        self.shape = T, len(lengths)
        self.lengths = lengths = lengths.astype(np.int64)  # a copy: the caller may reuse it
        stable, self.first_row = _core.longest_first(lengths, T)
        """Where each step begins in R, and the end of the last step of the longest row."""
        if order is None:
            order = stable
        elif (np.diff(lengths[order]) > 0).any():
            got = f"got rows of {lengths[order].tolist()}"
            raise ValueError(f"order: expected the longest row first, {got}")
        self.order = order
        self.rows = order[: np.count_nonzero(lengths)]
        """The batch rows that have a step, the longest first."""
        self.count = int(self.first_row[-1])
        """R."""
        # what is as large as R or T*N is made anew each time: a tape keeps this object

    @staticmethod
    def of(lengths: Array | Ragged, T: int) -> Ragged:
        """Return that of the lengths, which may be one."""
        return lengths if isinstance(lengths, Ragged) else Ragged(lengths, T)

    def check(self, T: int, N: int) -> None:
        """Raise ValueError unless it is that of arrays (T, N, ...)."""
        if self.shape != (T, N):
            raise ValueError(f"lengths: expected those of (T, N) = {(T, N)}, got of {self.shape}")

    def places(self) -> tuple[Array, Array]:
        """Return t and n, (R,) each: the step of each row, and its row of the batch."""
        t: Array = np.arange(len(self.first_row) - 1).repeat(np.diff(self.first_row))
        return t, self.rows[np.arange(self.count) - self.first_row[t]]

    @property
    def valid(self) -> Array:
        """(T, N) bool: the steps before each row's end."""
        return valid_steps(self.lengths, self.shape[0])

    def pack(self, a: Array) -> Array:
        """Return (1, R, ...) of a (T, N, ...): its valid rows, copied."""
        packed = np.empty((1, self.count, *a.shape[2:]), a.dtype)
        _core.pack_rows(a, self.order, self.first_row, packed)
        return packed

    def pack_any(self, a: Array | None) -> Array | None:
        """Return its valid rows, if there is one."""
        return None if a is None else self.pack(a)

    def pack_state(self, state: State | None) -> State | None:
        """Return the rows of (N, H) each that have a step."""
        return None if state is None else tuple([part[self.rows] for part in state])

    def unpack(self, packed: Array, out: Array | None = None) -> Array:
        """Return (T, N, ...) of (1, R, ...), in out if given, with zeros past each length."""
        if out is None:
            out = np.empty((*self.shape, *packed.shape[2:]), packed.dtype)
        _core.unpack_rows(packed, self.order, self.first_row, out, True)
        return out

    def put(self, packed: Array, out: Array) -> Array:
        """Write (1, R, ...) to the valid rows of out (T, N, ...)."""
        _core.unpack_rows(packed, self.order, self.first_row, out, False)
        return out

    def unpack_dx(self, new: Array | None, dx: Array | None) -> Array | None:
        """Return new (1, R, I) as (T, N, I), in dx if that was given: new began with its rows."""
        if new is None:
            return None
        return self.unpack(new) if dx is None else self.put(new, dx)

    def unpack_state(self, packed: State, before: State | None) -> State:
        """Return (N, H) each; rows without a step keep what was before."""
        N, state = self.shape[1], []
        for k, part in enumerate(packed):
            shape = N, part.shape[1]
            whole = np.zeros(shape, part.dtype) if before is None else before[k].copy()
            whole[self.rows] = part
            state.append(whole)
        return tuple(state)


def valid_steps(lengths: Array, T: int) -> Array:
    """Return (T, N) bool: the steps before each row's end."""
    return np.arange(T)[:, np.newaxis] < lengths


def zero_before(resets: Array, ragged: Ragged | None, reverse: bool) -> Array:
    """Return (T, N) bool: the steps of a direction that begin from zero.

    No state passes between t-1 and t where resets[t] is true. So in reverse t-1 begins anew.
    """
    if not reverse:
        return resets
    anew = np.zeros_like(resets)
    anew[:-1] = resets[1:]
    if ragged is not None:  # what follows a sequence's end is not its own
        anew[:-1] &= ragged.valid[1:]
    return anew
