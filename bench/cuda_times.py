# SPDX-License-Identifier: MIT
"""A model on paper of the device kernels: a prediction, for nobody has run them on hardware.

It follows csrc/cuda as it is: a block owns 8 hidden units and stages all of h in every step, 512
bytes of a row at a time, one piece ahead; 8 warps split the columns; a grid barrier for each phase
of a step; products and sums before and after. Times of parts are added where the code waits, and
the larger is taken where it does not. cuda_model.py writes it down.
"""

from typing import NamedTuple

from cuda_plan import (
    CELLS,
    CHUNK,
    DEPTH,
    ROWS,
    SIZES,
    THREADS,
    UNITS,
    WARPS,
    Limits,
    blocks_per_sm,
    kept_bytes,
    phases,
    plan,
    round_up,
    step_bytes,
)

TASKS = ("inference", "training")
SIDE, PRODUCT_DEPTH = 64, 32  # of csrc/cuda/product.h
SYNC = 25  # clocks of __syncthreads with 8 warps
SHARED, MMA = 29, 33  # clocks from a read of shared memory, an mma.sync, to its result

# Warp instructions from the last barrier of a phase to its last store: counted in sm_90 code.
# bfloat16; float32 is within 5 %.
ELEMENTWISE = {
    "rnn_tanh": ((174,), (220,)),
    "rnn_relu": ((159,), (220,)),
    "lstm": ((448,), (340,)),
    "lstm_peephole": ((457,), (354,)),
    "lstm_coupled": ((389,), (331,)),
    "lstm_peephole_coupled": ((398,), (340,)),
    "gru": ((328,), (285,)),
    "gru_reset_before": ((222, 257), (195, 195)),
}
# Of one warp for 32 columns of a 64 by 64 block: staging, and multiplying. Counted likewise.
STAGE, MULTIPLY = 480, {"bfloat16": 25, "float32": 800}
SUM = 60  # of one warp for a row of the bias sums


class Gpu(NamedTuple):
    """What is published of a device; of what is uncertain, one value: see DEVICES."""

    name: str
    limits: Limits
    registers: dict[str, dict[str, int]]  # of product_kernel, by what it makes and dtype
    mma: float  # clocks of a multiprocessor for m16n8k16, by throughput
    l2_size: int
    memory_rate: float  # bytes a second
    clock: float  # Hz
    l2: float  # clocks from a load to its value, out of L2
    memory: float  # the same out of memory
    l2_rate: float  # bytes a clock and multiprocessor, when all read
    barrier: float  # seconds of a grid barrier
    launch: float  # seconds from one launch to the next, at least
    instruction: float  # clocks for each instruction of one warp that is alone

    @property
    def l2_port(self):
        return 64.0  # bytes a clock into one multiprocessor


# Registers of product_kernel, by `nvcc -Xptxas -v`.
SM_90 = {
    "input part": {"bfloat16": 64, "float32": 72},
    "dx": {"bfloat16": 72, "float32": 72},
    "dW": {"bfloat16": 64, "float32": 64},
}
SM_120 = {
    "input part": {"bfloat16": 78, "float32": 80},
    "dx": {"bfloat16": 80, "float32": 80},
    "dW": {"bfloat16": 90, "float32": 92},
}
H100 = ("H100 SXM", Limits(132, 227 << 10, 228 << 10, 2), SM_90, 1.6, 50 << 20, 3.35e12)
RTX5070 = ("RTX 5070", Limits(48, 99 << 10, 100 << 10, 2), SM_120, 8.0, 48 << 20, 0.672e12)
# Fast, expected and slow.
DEVICES = {
    "H100": tuple(
        Gpu(*H100, *rest)
        for rest in (
            (1.98e9, 260, 570, 40, 0.7e-6, 1.5e-6, 2.0),
            (1.83e9, 281, 690, 30, 1.1e-6, 2.0e-6, 2.5),
            (1.65e9, 330, 800, 20, 1.6e-6, 2.7e-6, 4.0),
        )
    ),
    "RTX 5070": tuple(
        Gpu(*RTX5070, *rest)
        for rest in (
            (2.6e9, 300, 800, 20, 0.6e-6, 1.5e-6, 2.0),
            (2.51e9, 360, 936, 15, 0.8e-6, 2.0e-6, 2.5),
            (2.3e9, 420, 1050, 10, 1.3e-6, 2.7e-6, 4.0),
        )
    ),
}
GAP = 0.8e-6  # between two kernels of a stream, on the device


class Changes(NamedTuple):
    """What could be done otherwise."""

    ahead: int = 1  # chunks that are on their way while one is multiplied
    prefetch: bool = False  # what a step reads besides h: asked for before the barrier
    pieces: bool = False  # products staged by copies of 16 bytes, one slab ahead
    wide_sums: bool = False  # the bias sums by all multiprocessors


AS_IT_IS = Changes()


def pipeline(chunks, latency, transfer, multiply, ahead):
    """Clocks until all chunks are multiplied; copies follow each other on one link."""
    free, arrived = 0.0, []

    def fetch(now):
        nonlocal free
        free = max(now, free) + transfer
        arrived.append(free + latency)

    now = 0.0
    for chunk in range(chunks):
        while len(arrived) < min(chunks, chunk + 1 + ahead):
            fetch(now)
        now = max(now, arrived[chunk]) + multiply + 2 * SYNC
    return now


def multiply_clocks(gpu, dtype, columns, outs, together):
    """Of one chunk: `together` blocks share a multiprocessor, each warp has a share of columns."""
    steps = -(-columns // (DEPTH * WARPS))
    if dtype == "bfloat16":
        busy = max(4 + 2 * outs, outs * gpu.mma)  # ldmatrix: 128 bytes a clock
        return max(steps * (SHARED + MMA), steps * together * WARPS * busy)
    busy = 4 * max(4 * (4 + outs), 4 * outs)  # a 16-byte read of a warp takes 4 clocks
    return max(steps * 4 * (SHARED + 16), steps * together * WARPS * busy)


def phase_clocks(gpu, problem, how, phase, instructions, far, changes):
    """(product, elementwise) of one tile of rows in one block."""
    dtype, blocks = problem.dtype, how.unit_blocks * how.row_blocks * problem.D
    sms = gpu.limits.multiprocessors
    together = min(-(-blocks // sms), blocks_per_sm(gpu.limits, how.shared_bytes))
    rows = ROWS + (0 if how.persistent else phase.outs * UNITS)
    rate = min(gpu.l2_port, gpu.l2_rate * sms / min(blocks, sms))
    columns = CHUNK // SIZES[dtype]
    chunks = -(-phase.K // columns)
    multiply = multiply_clocks(gpu, dtype, min(columns, phase.K), phase.outs, together)
    width = min(CHUNK, phase.K * SIZES[dtype])
    transfer = rows * width * together / rate
    product = pipeline(chunks, gpu.l2, transfer, multiply, changes.ahead)
    conflicts = 2 if dtype == "bfloat16" else 1
    partial = WARPS * phase.outs * 4 * conflicts * together + SYNC
    add = ROWS * UNITS // 32 * phase.outs * WARPS * together + SHARED
    read = 0 if changes.prefetch else far
    return product, partial + add + read + instructions * gpu.instruction + gpu.l2


def loop_seconds(gpu, problem, task, changes=AS_IT_IS):
    """(seconds of all steps, those of its parts by name)."""
    how = plan(gpu.limits, problem, task)
    beyond_l2 = problem.T * kept_bytes(problem, task) > gpu.l2_size
    far = gpu.memory if beyond_l2 else gpu.l2
    tiles = -(-problem.tiles // how.row_blocks)
    blocks = how.unit_blocks * how.row_blocks * problem.D
    fit = blocks_per_sm(gpu.limits, how.shared_bytes) * gpu.limits.multiprocessors
    waves = 1 if how.persistent else -(-blocks // fit)
    parts = {"barrier": 0.0, "product": 0.0, "elementwise": 0.0}
    counts = ELEMENTWISE[problem.cell][task == "backward"]
    for phase, count in zip(phases(problem, task), counts, strict=True):
        product, rest = phase_clocks(gpu, problem, how, phase, count, far, changes)
        work = [tiles * waves * clocks / gpu.clock for clocks in (product, rest)]
        wait = gpu.barrier if how.persistent else max(GAP, gpu.launch - sum(work))
        for name, seconds in zip(parts, (wait, *work), strict=True):
            parts[name] += seconds
    least = step_bytes(gpu, problem, task)["memory"] / gpu.memory_rate
    return problem.T * max(sum(parts.values()), least), parts


def product_blocks(gpu, part, dtype):
    """Of product_kernel on a multiprocessor: 65,536 registers, given to threads by eights."""
    return 2**16 // (THREADS * round_up(gpu.registers[part][dtype], 8))


def product_seconds(gpu, part, dtype, M, N, K, outputs=1, terms=1, changes=AS_IT_IS):
    """Of product_kernel: `outputs` times (M, K) by (K, N), sums of `terms`."""
    each = -(-M // SIDE) * -(-N // SIDE) * outputs
    load = -(-each // gpu.limits.multiprocessors)
    together = min(product_blocks(gpu, part, dtype), load)
    if dtype == "bfloat16":
        busy = WARPS * 2 * max(4 + 4 * 2, 4 * gpu.mma)
    else:
        busy = max(WARPS * PRODUCT_DEPTH * 8, WARPS * PRODUCT_DEPTH * 16 / 4)
    if changes.pieces:
        slab = max(busy, WARPS * (60 + MULTIPLY[dtype]) / 4, gpu.l2 / together)
    else:
        issue = max(busy, WARPS * (STAGE + MULTIPLY[dtype]) / 4)
        slab = max(issue, (4 * gpu.l2 + issue) / together)  # four batches of loads, waited for
    return load * slab * terms * -(-K // PRODUCT_DEPTH) / gpu.clock


def parts_seconds(gpu, problem, task, changes=AS_IT_IS):
    """Seconds of each part of a call, by name. task: inference or training (both directions)."""
    dtype, T, N, I, H, D = problem[1:]
    gates, rows = CELLS[problem.cell].gates, T * N

    def product(part, *sizes, **more):
        return product_seconds(gpu, part, dtype, *sizes, **more, changes=changes)

    parts = {"input part": product("input part", rows, gates * H, I, outputs=D)}
    parts["forward loop"] = loop_seconds(gpu, problem, task, changes)[0]
    if task == "inference":
        return parts
    parts["backward loop"] = loop_seconds(gpu, problem, "backward", changes)[0]
    parts["dx"] = product("dx", rows, I, H, terms=D * gates)
    parts["dW_ih"] = product("dW", H, I, rows, outputs=D * gates)
    parts["dW_hh"] = product("dW", H, H, rows, outputs=D * gates)
    share = 1
    if changes.wide_sums:
        share = max(1, 2 * gpu.limits.multiprocessors // (-(-H // 32) * D))
    parts["bias sums"] = rows / WARPS / share * (gpu.memory + SUM) / gpu.clock
    return parts


def seconds(gpu, problem, task, changes=AS_IT_IS):
    return sum(parts_seconds(gpu, problem, task, changes).values())


def range_of(device, function):
    """The expected value, and the two bounds, of a function of a Gpu."""
    fast, expected, slow = map(function, DEVICES[device])
    return expected, fast, slow
