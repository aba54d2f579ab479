# SPDX-License-Identifier: MIT
"""`Frozen`: a layer's weights packed once, for inference and for streaming step by step.

A layer packs its weights in every call, because they are the user's to change. Where they stay,
that is time lost: most of a single step, little of a long sequence.
"""

from __future__ import annotations

import contextlib
import copy
from typing import Any, Generic

import numpy as np

from . import _core, padded, validate
from .recurrent import LayerState, Recurrent
from .seen import Seen
from .weights import CELLS, Array

__all__ = ["Frozen"]


class Frozen(Generic[LayerState]):
    """A layer for inference alone, as `layer.freeze()` makes it.

    It holds a copy of the weights, packed in the order in which the kernels read them; later
    changes of `layer.params` are not seen. Its results have the bits of the layer's own. It holds
    no state: the caller does, for as many streams as there are rows, which may join and leave
    between calls.

    Examples
    --------
    >>> import numpy as np, fusedrnn
    >>> lstm = fusedrnn.LSTM(3, 4, seed=0)
    >>> frozen, state = lstm.freeze(), lstm.zero_state(2)
    >>> x = np.ones((5, 2, 3), np.float32)
    >>> for x_t in x:
    ...     state = frozen.step(x_t, state, out=state)
    >>> y, wanted = lstm(x)
    >>> all((a == b).all() for a, b in zip(state, wanted))
    True

    The first stream ends, and another begins:

    >>> state = tuple(np.concatenate((a[:, 1:], 0 * a[:, :1]), axis=1) for a in state)
    >>> state = frozen.step(x_t, state, out=state)
    """

    def __init__(self, layer: Recurrent[LayerState], batch_size: int) -> None:
        if not isinstance(layer, Recurrent):
            raise TypeError(f"layer: expected RNN, LSTM or GRU, got {validate.describe(layer)}")
        rows = validate.size("batch_size", batch_size)
        zoneout = layer.zoneout_h, layer.zoneout_c
        self._packed = tuple(
            [_core.pack(layer.cell, weights, rows, *zoneout) for weights in layer._weights()]
        )
        self._layer = copy.copy(layer)  # for its sizes; later settings of the layer are not seen
        self._layer.params, self._layer.grads = {}, {}
        self._layer._seen_params = self._layer._seen_grads = Seen()
        self._is_tuple = CELLS[layer.cell].states > 1
        self._is_alone = len(self._packed) == 1 and not layer.batch_first
        self._widths = self._packed[0].state_widths

    def __repr__(self) -> str:
        return f"Frozen({self._layer!r})"

    def __copy__(self) -> Frozen[LayerState]:
        """Return itself: nothing in it can change."""
        return self

    def __deepcopy__(self, memo: object) -> Frozen[LayerState]:
        """Return itself: nothing in it can change."""
        return self

    def __reduce__(self) -> Any:
        """Refuse: another machine may pack in another order."""
        raise TypeError("a Frozen cannot be pickled: pickle its layer, and freeze that again")

    @property
    def nbytes(self) -> int:
        """Bytes of the packed weights."""
        return sum(packed.nbytes for packed in self._packed)

    def __call__(
        self,
        x: Array,
        state: LayerState | None = None,
        lengths: Array | None = None,
        resets: Array | None = None,
    ) -> tuple[Array, LayerState]:
        """Run over a sequence: the layer's own call, with the same arguments, result and bits."""
        if self._is_alone and resets is None:
            with contextlib.suppress(AttributeError, TypeError, ValueError):
                return self._run_alone(x, state, lengths)
        layer = self._layer
        return layer._forward(layer._checked(x, state, lengths, resets, self._packed))

    def _run_alone(self, x: Array, state: Any, lengths: Array | None) -> tuple[Array, LayerState]:
        """Run one layer in one direction, time first: the general way, without what others need.

        What can be left to `_core` to check is. AttributeError, TypeError, ValueError: not for this
        way, and the general one has the words.
        """
        (T, N, _), widths, dtype = x.shape, self._widths, self._layer.dtype
        before = None
        if state is not None:
            parts = state if self._is_tuple else (state,)
            shapes = [(1, N, width) for width in widths]
            if type(parts) is not tuple or [part.shape for part in parts] != shapes:
                raise ValueError
            before = tuple([part[0] for part in parts])
        if {*map(type, (x, *(before or ())))} != {np.ndarray}:
            raise TypeError
        lengths = validate.lengths(lengths, T, N)
        if lengths is not None:
            for a in (x, *(before or ())):  # what takes the padding off takes rows that lie apart
                validate.layout("", a, validate.READ)
            y, after = padded.infer(self._layer.cell, x, before, self._packed[0], lengths=lengths)
        else:
            y = np.empty((T, N, widths[0]), dtype)
            after = tuple([np.empty((N, width), dtype) for width in widths])
            _core.infer(self._packed[0], x, before, False, y, after, None, None)
        state_n: Any = tuple([part[np.newaxis] for part in after])
        return y, state_n if self._is_tuple else state_n[0]

    def step(self, x: Array, state: LayerState, out: LayerState | None = None) -> LayerState:
        """Take one step: the state after it; the output of the step is the last layer's h.

        Nothing is allocated if `out` is given.

        Parameters
        ----------
        x : ndarray (N, I) of the layer's dtype, or int64 (N,)
            The input, or token indices in [0, I).
        state : ndarray h (L, N, H), for LSTM the tuple (h, c); h is (L, N, P) with projection
            The state before; `layer.zero_state(N)` makes the first.
        out : as state, optional
            Where the state after is written: `state` itself, or arrays of their own.

        Returns
        -------
        state : as the argument
            `out`, or new arrays.

        Raises
        ------
        TypeError
            An argument of another kind or dtype.
        ValueError
            A bidirectional layer; a shape that does not fit; an array that is not C-contiguous;
            `out` read-only or sharing memory otherwise than above; a token outside [0, I).
        """
        if self._layer.bidirectional:
            raise ValueError("step: expected a layer of one direction, got bidirectional=True")
        given: Any = state
        new: Any = out
        if self._is_tuple:
            if new is None and isinstance(given, tuple):
                new = tuple(map(np.empty_like, given))
            _core.step(self._packed, x, given, new)
        else:
            if new is None:
                new = np.empty_like(given)
            _core.step(self._packed, x, (given,), (new,))
        return new  # type: ignore[no-any-return]
