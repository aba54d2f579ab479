# SPDX-License-Identifier: MIT
"""How far the error reaches back: gradients of the last output by lag, and saturated gates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import reference, stack, validate
from .names import pick
from .noise import Noise
from .recurrent import LayerState, Recurrent
from .reference_cells import GATES
from .structure import check_plain
from .weights import Array, State

__all__ = ["GradientFlow", "gate_saturation", "gradient_flow"]


@dataclass(frozen=True, slots=True)
class GradientFlow:
    """Norms of ∂L/∂h by lag, for a loss L of the last output alone."""

    by_lag: Array
    """(T + 1, L): mean over rows of ‖∂L/∂h_{T-lag}‖ in every layer; lag T is the state before.

    h is meant as the state that the next step begins with: what reaches it from the layer above at
    its own step, or goes past it through c, is not in it. At lag 0 only the last layer has any.
    """
    by_step: Array
    """(T,): norm of what step t adds to the gradients of all weights."""


def gradient_flow(
    layer: Recurrent[LayerState], x: Array, state: LayerState | None = None, seed: int = 0
) -> GradientFlow:
    """Send a random gradient of norm 1 into every row's last output, and follow it back.

    A norm that falls like q^lag with q < 1 is the vanishing gradient of Hochreiter (1991) and
    Bengio et al. (1994): what is q^lag long ago is not learned from.

    Parameters
    ----------
    layer : RNN, LSTM or GRU
        Of one direction, batch_first=False. Its `grads` stay as they are.
    x : ndarray (T, N, I), or (T, N) of integers
    state : as for the layer, optional
        Before the first step.
    seed : int
        Of the gradient.

    Returns
    -------
    GradientFlow

    Raises
    ------
    TypeError, ValueError
        As the layer's call; a layer that runs both ways or has the batch first.

    Examples
    --------
    >>> import numpy as np, fusedrnn
    >>> flow = gradient_flow(fusedrnn.RNN(2, 8, seed=0), np.zeros((20, 4, 2), np.float32))
    >>> flow.by_lag.shape, bool(flow.by_lag[20, 0] < 0.01 * flow.by_lag[0, 0])
    ((21, 1), True)
    """
    check_plain(layer)
    seed = validate.integer("seed", seed, 0, 2**64 - 1)
    x = layer._checked(x, state, None, None).x
    tapes: list[Any] = []
    now: Any = state
    for t in range(len(x)):
        y, now, tape = layer.forward(x[t : t + 1], now, noise=Noise(seed, first_step=t))
        tapes.append(tape)
    dy = np.random.default_rng(seed).standard_normal(y.shape).astype(layer.dtype)
    dy /= np.linalg.norm(dy, axis=2, keepdims=True)

    zeros: Any = layer.zero_state(x.shape[1])
    parts = zeros if isinstance(zeros, tuple) else (zeros,)
    parts[0][-1] = dy[0]  # h of the last layer
    gradient: Sequence[State | None] = [tuple(part) for part in zip(*parts, strict=True)]
    grads = [weights.empty_like() for weights in layer._weights()]
    by_lag, by_step = [_norms(parts[0])], []
    for tape in reversed(tapes):
        _, states = stack.backward(layer, tape, None, gradient, grads, None, False)
        by_lag.append(_norms([h for h, *_ in states]))
        gradient = states
        wide = (g.astype(np.float64) for own in grads for g in own if g is not None)  # as in _norms
        by_step.append(np.sqrt(sum(float(np.vdot(g, g)) for g in wide)))
    return GradientFlow(np.array(by_lag), np.array(by_step[::-1]))


def _norms(dh: Array | Sequence[Array]) -> Array:
    """Return, layer by layer, the mean over rows of the norm of h's gradient."""
    wide = np.asarray(dh, np.float64)  # squares of small float32 values would be 0
    norms: Array = np.linalg.norm(wide, axis=2).mean(axis=1)
    return norms


def gate_saturation(
    layer: Recurrent[LayerState], x: Array, state: LayerState | None = None, near: float = 0.05
) -> list[dict[str, float]]:
    """Return, layer by layer, which share of each gate's values is within `near` of its limits.

    The limits are 0 and 1 of a σ, and ±1 of a tanh; a gate that is there passes no gradient on.
    The steps are those of the layer's call, with zoneout at its mean, as `fusedrnn.reference` takes
    them. A rectifier has no limits, and no share.

    Parameters
    ----------
    layer : RNN, LSTM or GRU
        Of one direction, batch_first=False.
    x, state : as for the layer
    near : float
        In [0, 1].

    Raises
    ------
    TypeError, ValueError
        As the layer's call; a layer that runs both ways or has the batch first.

    Examples
    --------
    >>> import numpy as np, fusedrnn
    >>> gate_saturation(fusedrnn.GRU(2, 8, seed=0), np.zeros((20, 4, 2), np.float32))
    [{'r': 0.0, 'z': 0.0, 'n': 0.0}]
    """
    check_plain(layer)
    near = validate.probability("near", near)
    x = validate.inputs(x, layer.dtype, layer.input_size)
    states, shares = stack.split_state(layer, state, x.shape[1], validate.STATE_NAMES), []
    for k, names in enumerate(layer._slots):
        weights, noise = pick(layer.params, names), stack.mean_zoneout(layer)
        x, _, tape = reference.forward(layer.cell, x, states[k], weights, noise=noise)
        gates: dict[str, list[Array]] = {}
        for _, saved in tape.saved:
            for letter, index in GATES[layer.cell].items():
                gates.setdefault(letter, []).append(saved[index])
        shares.append({g: _share(g, np.array(values), near) for g, values in gates.items()})
    return shares


def _share(letter: str, values: Array, near: float) -> float:
    low = -1 if letter in "gnh" else 0  # of tanh, of σ
    return float(((values < low + near) | (values > 1 - near)).mean())
