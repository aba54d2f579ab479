# SPDX-License-Identifier: MIT
"""The assumptions of cuda_times.py with their sources, as a table: the values are the model's own.

(m): from memory of the source, not read again.
"""

from cuda_plan import CHUNK, RESERVED, SIZES
from cuda_times import (
    DEVICES,
    ELEMENTWISE,
    GAP,
    MMA,
    MULTIPLY,
    SHARED,
    SM_90,
    SM_120,
    STAGE,
    SUM,
    SYNC,
    product_blocks,
)
from report import markdown

PAPERS = "NVIDIA's papers on H100 and RTX Blackwell, CUDA programming guide (m)"
SPECIFIED = "published specifications"
# What, its value of a Gpu, its source.
ASSUMPTIONS = (
    ("multiprocessors", lambda g: g.limits.multiprocessors, PAPERS),
    ("shared memory of a multiprocessor, KB", lambda g: g.limits.shared_per_sm / 1024, PAPERS),
    ("shared memory of a block, KB", lambda g: g.limits.shared_optin / 1024, PAPERS),
    ("memory, TB/s", lambda g: g.memory_rate / 1e12, SPECIFIED),
    ("L2, MB", lambda g: g.l2_size / 1024**2, SPECIFIED),
    ("clock, GHz", lambda g: g.clock / 1e9, "boost; with 1.83 an H100 makes its 989 TFLOP/s (m)"),
    (
        "clocks from L2",
        lambda g: g.l2,
        "github.com/markdewing/AI_kernels, latency: GH200 281, RTX 5090 360; H100 260",
    ),
    ("clocks from memory", lambda g: g.memory, "the same: GH200 690, RTX 5090 936; 570"),
    (
        "bytes a clock and multiprocessor from L2, all reading",
        lambda g: g.l2_rate,
        "github.com/te42kyfo/gpu-benches, gpu-l2-cache: H200 9.7 TB/s is 37, L40 5.2 TB/s is 15",
    ),
    ("bytes a clock into one multiprocessor, at most", lambda g: g.l2_port, "(m)"),
    (
        "grid barrier, µs",
        lambda g: g.barrier * 1e6,
        "RTX 3090, 82 blocks of 256 threads: 0.73, github.com/Infatoshi/MegaQwen; "
        "V100: about 1.5, arXiv:2004.05371 (m)",
    ),
    (
        "a launch after another, µs",
        lambda g: g.launch * 1e6,
        "that RTX 3090: 1.54; in a graph 0.83",
    ),
    (
        "clocks of a multiprocessor for an m16n8k16",
        lambda g: g.mma,
        "H100: 62 % of the peak, which only `wgmma` reaches, arXiv:2402.13499 (m); "
        "RTX Blackwell: half rate with float32 sums (m)",
    ),
    (
        "clocks for an instruction of a warp alone on its scheduler",
        lambda g: g.instruction,
        "ours: dependent ones take 4 and more, some are independent",
    ),
    *(
        (
            f"blocks of `product_kernel` on a multiprocessor: {part}, {dtype}",
            lambda g, part=part, dtype=dtype: product_blocks(g, part, dtype),
            "`ptxas -v` of nvcc 13.0: "
            f"{SM_90[part][dtype]} registers for sm_90, {SM_120[part][dtype]} for sm_120",
        )
        for part in SM_90
        for dtype in SIZES
    ),
    (
        "blocks of a loop on a multiprocessor, at most",
        lambda g: g.limits.blocks_per_sm,
        "`__launch_bounds__`; some have 80 registers or less and would fit three times",
    ),
)


def assumptions():
    """The lines of the table."""
    lines = [markdown(["what", *DEVICES, "source"]), markdown(["---", "--:", "--:", "---"])]
    for what, value, source in ASSUMPTIONS:
        lines.append(markdown([what, *(values(gpus, value) for gpus in DEVICES.values()), source]))
    return lines


def values(gpus, value):
    """One value, or the fast, the expected and the slow one."""
    return " / ".join(dict.fromkeys(f"{value(gpu):.4g}" for gpu in gpus))


def instructions():
    """The lines of the table of ELEMENTWISE."""
    lines = [markdown(["cell", "forward", "backward"]), markdown(["---", "--:", "--:"])]
    for cell, counts in ELEMENTWISE.items():
        lines.append(markdown([cell, *(" + ".join(map(str, phases)) for phases in counts)]))
    return lines


def constants():
    """What is the same for all devices, by its name in the prose."""
    return {
        "shared_clocks": SHARED,
        "mma_clocks": MMA,
        "sync_clocks": SYNC,
        "chunk": CHUNK,
        "reserved": RESERVED // 1024,
        "gap": f"{1e6 * GAP:.1f}",
        "stage": STAGE,
        "multiply": MULTIPLY,
        "sum": SUM,
    }
