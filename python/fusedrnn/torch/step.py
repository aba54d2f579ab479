# SPDX-License-Identifier: MIT
"""One step of a cell to the kernels and back: `bridge` for this case alone, in the least time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import _core
from .bridge import NONES, all_plain, plain
from .layer import Layer


def forward(
    layer: Layer,
    x: Tensor,
    _: None,
    state: Sequence[Tensor],
    weights: Sequence[Tensor],
    tapes: Sequence[Any],
) -> tuple[list[Tensor], list[Tensor]]:
    """Do as `bridge.forward`; a tape is new or none."""
    if state:
        outputs = [torch.empty_like(part) for part in state]
    else:
        outputs = layer.new_outputs(x, state, weights)
    tape = _core.forward(
        layer.cell, x, (*weights, *NONES[len(weights) :]), tuple(state) or None, False, None,
        tuple(outputs), tapes[0], None, None, None, torch.get_num_threads(),
    )  # fmt: skip
    return outputs, [] if tape is None else [torch.from_numpy(tape)]


def backward(
    tape: Tensor,
    x: Tensor,
    state: Sequence[Tensor],
    weights: Sequence[Tensor],
    douts: Sequence[Tensor | None],
    wants: Sequence[bool],
) -> list[Tensor | None]:
    """Do as `bridge.backward`; return all gradients in the order of x, state and weights."""
    x, *weights = all_plain((x, *weights))
    dx = torch.empty_like(x) if wants[0] else None
    dstate = [torch.empty_like(part) for part in state] if wants[1] else []
    dweights = [torch.empty_like(weight) for weight in weights] if wants[2] else []
    after = tuple([None if dout is None else plain(dout) for dout in douts])
    nones = NONES[len(weights) :]
    _core.backward(
        tape.contiguous(), x, None, (*weights, *nones), None, after, dx, False,
        (*dweights, *nones) if dweights else None, False, tuple(dstate) or None,
        torch.get_num_threads(),
    )  # fmt: skip
    return [dx, *(dstate or NONES[: len(state)]), *(dweights or NONES[: len(weights)])]
