# SPDX-License-Identifier: MIT
"""Truncated backpropagation through time by chunks (Williams and Peng 1990): `chunks`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, Generic

import numpy as np

from . import validate
from .noise import Noise
from .recurrent import LayerState, LayerTape, Recurrent
from .structure import check_plain
from .weights import Array

__all__ = ["Chunk", "chunks"]


class Chunk(Generic[LayerState]):
    """The steps that are new, and how to send their error back."""

    def __init__(
        self,
        layer: Recurrent[LayerState],
        steps: slice,
        y: Array,
        state: LayerState,
        tape: LayerTape,
    ) -> None:
        self.steps = steps
        """Of x: those that are new."""
        self.y = y
        """(steps, N, H), or P with projection: the output of the new steps."""
        self.state = state
        """The state after them: a copy of what is carried on."""
        self._layer, self._tape = layer, tape

    def backward(self, dy: Array, *, accumulate: bool = True) -> None:
        """Add the weights' gradients of dy, the gradient of y, over the last k2 steps.

        With accumulate=False `layer.grads` is written over instead.
        """
        rule = "(k1, N, P)" if self._layer.proj_size else "(k1, N, H)"
        validate.array("dy", dy, self.y.dtype, self.y.shape, rule)
        older = self._tape.shape[0] - len(dy)
        if older:
            dy = np.concatenate((np.zeros((older, *dy.shape[1:]), dy.dtype), dy))
        self._layer.backward(self._tape, dy, accumulate=accumulate)


def chunks(
    layer: Recurrent[LayerState],
    x: Array,
    k1: int,
    k2: int | None = None,
    state: LayerState | None = None,
    lengths: Array | None = None,
    resets: Array | None = None,
    *,
    noise: Noise | None = None,
) -> Iterator[Chunk[LayerState]]:
    """Yield a long sequence chunk by chunk, the state carried from each to the next.

    Every k1 steps the errors of those steps go back over the last k2, and no further. The weights
    may be updated between chunks: the window of a chunk is run with the weights of its time, from
    the state that was carried to its begin. Memory is that of k2 steps.

    Parameters
    ----------
    layer : RNN, LSTM or GRU
        Of one direction, batch_first=False.
    x : ndarray (T, N, I), or (T, N) of integers
        As for `forward`, no part may change before its chunk's `backward`. The other arrays are
        copied.
    k1 : int
        New steps of a chunk; the last chunk may have fewer.
    k2 : int, optional
        A multiple of k1, by default k1 itself.
    state : as for the layer, optional
        Before the first step.
    lengths, resets : as for the layer, optional
        Of the whole sequence. The chunks end with the longest row.
    noise : Noise, optional
        As for the layer's `forward`: one for the whole sequence.

    Yields
    ------
    Chunk
        `y`, the output of the new steps; `state` after them; `steps`, which of x they are;
        `backward(dy)`.

    Raises
    ------
    TypeError, ValueError
        As the layer's `forward`, a token outside [0, I) when its chunk comes; a layer that runs
        both ways or has the batch first; k2 not a multiple of k1.

    Examples
    --------
    >>> import numpy as np, fusedrnn
    >>> lstm, total = fusedrnn.LSTM(2, 3, seed=0), 0
    >>> for chunk in fusedrnn.chunks(lstm, np.zeros((10, 1, 2), np.float32), k1=4):
    ...     chunk.backward(np.ones_like(chunk.y))
    ...     total += len(chunk.y)
    >>> total
    10
    """
    check_plain(layer)
    k1 = validate.size("k1", k1)
    k2 = k1 if k2 is None else validate.size("k2", k2)
    if k2 % k1:
        raise ValueError(f"k2: expected a multiple of k1 = {k1}, got {k2}")
    tokens = isinstance(x, np.ndarray) and x.dtype.kind in "iu" and x.ndim == 2 and x.size
    layer._checked(x[:k2] if tokens else x, state, None, None)  # which converts tokens
    T, N = x.shape[:2]
    lengths = validate.lengths(lengths, T, N)
    if lengths is not None:
        T = int(lengths.max())
    if resets is not None:
        validate.array("resets", resets, validate.BOOL, x.shape[:2], "(T, N)")
    drawn = layer._drawn(noise, x, lengths)
    noise = noise if drawn is None else drawn.noise
    state, lengths, resets = (_copied(a) for a in (state, lengths, resets))
    return _chunks(layer, x[:T], k1, k2, state, lengths, resets, noise)


def _copied(a: Any) -> Any:
    if isinstance(a, tuple):
        return tuple(map(np.copy, a))
    return None if a is None else a.copy()


def _chunks(
    layer: Recurrent[LayerState],
    x: Array,
    k1: int,
    k2: int,
    state: LayerState | None,
    lengths: Array | None,
    resets: Array | None,
    noise: Noise | None,
) -> Iterator[Chunk[LayerState]]:
    """Yield from what `chunks` has checked; x ends with the longest row."""
    T = len(x)
    before: deque[Any] = deque([state], maxlen=k2 // k1)  # the state k2 steps ago is the first
    for end in range(k1, T + k1, k1):
        first, steps = max(end - k2, 0), slice(end - k1, min(end, T))
        window, drawn = slice(first, steps.stop), noise
        if noise is not None:
            drawn = noise.from_step(first)
        y, after, tape = layer.forward(
            x[window],
            before[0],
            None if lengths is None else np.clip(lengths - first, 0, steps.stop - first),
            None if resets is None else resets[window],
            noise=drawn,
        )
        before.append(_copied(after))
        yield Chunk(layer, steps, y[steps.start - first :], after, tape)
