# SPDX-License-Identifier: MIT
"""The rule of csrc/cuda/plan.cu and the memory layout of csrc/cuda/tile.h, said again in Python.

And the bytes that a step moves. For the model on paper (cuda_times.py), where no device is at hand;
a test compares the rule with the code's. Sizes and names are those of csrc/cuda/args.h, params.h.
"""

from typing import NamedTuple

ROWS, UNITS, DEPTH, WARPS = 16, 8, 16, 8
THREADS = 32 * WARPS
CHUNK = 512  # bytes of a row that are staged at once
SIZES = {"float32": 4, "bfloat16": 2}
RESERVED = 1024  # bytes of shared memory that the system takes for each block
PASSES = ("inference", "training", "backward")


class Cell(NamedTuple):
    gates: int
    states: int
    saved: int
    grads: int
    late: int = 0  # gates that see what the others made: two phases a step
    peepholes: int = 0

    @property
    def first(self):
        return self.gates - self.late

    @property
    def phases(self):
        return 2 if self.late else 1


CELLS = {
    "rnn_tanh": Cell(1, 1, 1, 1),
    "rnn_relu": Cell(1, 1, 1, 1),
    "lstm": Cell(4, 2, 5, 4),
    "lstm_peephole": Cell(4, 2, 5, 4, peepholes=3),
    "lstm_coupled": Cell(3, 2, 4, 3),
    "lstm_peephole_coupled": Cell(3, 2, 4, 3, peepholes=2),
    "gru": Cell(3, 1, 4, 4),
    "gru_reset_before": Cell(3, 1, 3, 3, late=1),
}


class Limits(NamedTuple):
    """Of a device."""

    multiprocessors: int
    shared_optin: int  # bytes a block may have
    shared_per_sm: int
    blocks_per_sm: int  # of THREADS threads, by registers and threads


class Plan(NamedTuple):
    persistent: bool
    unit_blocks: int
    row_blocks: int
    shared_bytes: int


class Problem(NamedTuple):
    cell: str
    dtype: str
    T: int
    N: int
    I: int
    H: int
    D: int = 1

    @property
    def padded(self):
        return round_up(self.H, DEPTH)

    @property
    def tiles(self):
        return -(-self.N // ROWS)


def round_up(n, to):
    return -(-n // to) * to


def tile_bytes(dtype, outs, resident):
    """Shared memory for tiles of `outs` times UNITS rows of weights."""
    row = CHUNK + 16
    staged = 2 * ROWS * row + (0 if resident else 2 * outs * UNITS * row)
    return staged + 4 * WARPS * outs * ROWS * UNITS


def panel_bytes(dtype, rows, K):
    return rows * (K * SIZES[dtype] + 16)


def shared_bytes(problem, backward, resident):
    cell, H = CELLS[problem.cell], problem.padded
    rows, K = (UNITS, H * cell.gates) if backward else (cell.gates * UNITS, H)
    panel = panel_bytes(problem.dtype, rows, K) if resident else 0
    return tile_bytes(problem.dtype, 1 if backward else cell.first, resident) + panel


def blocks_per_sm(limits, shared):
    return min(limits.blocks_per_sm, limits.shared_per_sm // (shared + RESERVED))


def plan(limits, problem, task):
    backward = task == "backward"
    units = problem.padded // UNITS
    owners = units * problem.D
    resident = shared_bytes(problem, backward, True)
    if resident <= limits.shared_optin:
        blocks = blocks_per_sm(limits, resident) * limits.multiprocessors
        if owners <= blocks:
            return Plan(True, units, min(problem.tiles, blocks // owners), resident)
    tiles = min(problem.tiles, 65535)
    return Plan(False, units, tiles, shared_bytes(problem, backward, False))


def largest(limits, cell, dtype, task, D=1):
    """The largest H, a multiple of 16, whose time loop is one persistent launch."""
    found = 0
    for H in range(DEPTH, 8192, DEPTH):
        if plan(limits, Problem(cell, dtype, 1, 1, 1, H, D), task).persistent:
            found = H
    return found


class Phase(NamedTuple):
    """Of a step: each block multiplies (ROWS, K) by (K, UNITS * outs)."""

    K: int
    outs: int


def phases(problem, task):
    cell, H = CELLS[problem.cell], problem.padded
    parts = (cell.first, cell.late) if cell.late else (cell.gates,)
    return [Phase(part * H, 1) if task == "backward" else Phase(H, part) for part in parts]


def kept_bytes(problem, task):
    """What one step reads and writes that no other does: the input part, y, dy, the tape."""
    cell, size = CELLS[problem.cell], SIZES[problem.dtype]
    xg, saved, c = 4 * cell.gates, 4 * cell.saved, 4 * (cell.states - 1)
    each = {
        "inference": xg + size,
        "training": xg + 2 * size + saved + c,
        "backward": saved + c + 2 * size + size * cell.grads,
    }
    return problem.N * problem.padded * problem.D * each[task]


def step_bytes(gpu, problem, task):
    """Bytes of one step, all blocks together: read from shared memory, from L2; from and to memory.

    A warp's read of 16 bytes a lane counts 512, however many lanes read the same.
    """
    how, size = plan(gpu.limits, problem, task), SIZES[problem.dtype]
    blocks = how.unit_blocks * problem.D * problem.tiles
    read = (1, 1) if problem.dtype == "bfloat16" else (8, 4)  # lanes that read the same
    shared = l2 = 0
    for phase in phases(problem, task):
        states, weights = (rows * phase.K * size for rows in (ROWS, UNITS * phase.outs))
        shared += blocks * (states * read[0] + weights * read[1])
        l2 += blocks * (states + (0 if how.persistent else weights))
    memory = kept_bytes(problem, task)
    weights = CELLS[problem.cell].gates * problem.padded**2 * size * problem.D
    if not how.persistent and weights > gpu.l2_size:
        memory += weights
    return {"shared memory": shared, "L2": l2, "memory": memory}


def step_operations(problem, task):
    """Of the product in one step, 2 for a multiply-add, without the padding of rows and columns."""
    return 2 * CELLS[problem.cell].gates * problem.H**2 * problem.N * problem.D
