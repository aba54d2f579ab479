# SPDX-License-Identifier: MIT
"""The layers on a CUDA device: `fusedrnn.LSTM(..., device="cuda")`, and what belongs to it.

The same cells, weights and results, from kernels that are built where there is nvcc. Arrays are
PyTorch's, CuPy's, or those of any library with DLPack or the CUDA array interface, without a copy;
or `Array`, for those who have none of them. The kernels were verified on an emulator: they have
never run on a GPU, and nothing is known of their speed.

Not on a device: projection, dropout and zoneout, layer normalisation, resets, token input,
`checkpoint`, `memory_budget`, `truncate`, `chunks`, `freeze`, single cells, float64, and
`fusedrnn.optim`: optimisers of PyTorch take `params` and `grads` as `torch.from_dlpack` shows them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .. import _core, validate
from .arrays import Array, dtype_name
from .library import core, cuda_index, is_available, origin, use, why_not
from .streams import Stream

__all__ = ["Array", "Plan", "Stream", "is_available", "plan", "state", "use", "why_not"]


class Plan(NamedTuple):
    """How the time loop runs on a device."""

    persistent: bool
    """One launch for all steps with weight_hh in shared memory; else a launch for each step."""
    unit_blocks: int
    """Blocks of 8 hidden units, for each direction."""
    row_blocks: int
    """How many blocks share the batch rows."""
    shared_bytes: int
    """Shared memory of a block."""


def plan(
    cell: str,
    N: int,
    H: int,
    *,
    directions: int = 1,
    dtype: Any = "float32",
    stage: str = "inference",
    device: str = "cuda",
) -> Plan:
    """Return how the kernels run a layer of N sequences and H hidden units.

    Persistent is what fits: each block's part of weight_hh into shared memory beside its tiles, and
    all blocks on the device at the same time.

    Parameters
    ----------
    cell : str
        A name in `CELLS`, as `layer.cell`.
    N, H : int
    directions : 1 or 2
    dtype : "float32" or "bfloat16"
    stage : "inference", "training" (its forward) or "backward"
    device : "cuda" or "cuda:1", ...

    Raises
    ------
    TypeError, ValueError
        An argument of another kind, or one that there is not.
    RuntimeError
        CUDA is not available.
    """
    names = core().cells()
    sizes = 1, validate.size("N", N), 1, validate.size("H", H)
    validate.integer("directions", directions, 1, 2)
    name, index = dtype_name(dtype, ("float32", "bfloat16")), cuda_index(device)
    stage = validate.choice("stage", stage, ("inference", "training", "backward"))
    cell = validate.choice("cell", cell, names)
    return Plan(*core().plan(cell, name, *sizes, directions, index, stage))


def state() -> str:
    """Return in a line what was built and whether it works here, as `fusedrnn.info()` shows it.

    Examples
    --------
    >>> "nvcc" in state() or "not built" in state()
    True
    """
    reason = why_not()
    if reason == _core.cuda_build:
        return reason
    return f"{origin()}; {reason or 'a device is available'}"
