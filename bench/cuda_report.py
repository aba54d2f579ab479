# SPDX-License-Identifier: MIT
"""For whoever has a GPU: are the kernels right on it, and how fast are they beside cuDNN's.

One command, one page in Markdown: the machine, parity with the reference, plans, times beside what
the model on paper predicts. Without a GPU, --emulate runs what does not need one, on the emulator
of the tests. It fails if parity does.
"""

import argparse
import contextlib
import datetime
import importlib.util
import pathlib
import subprocess
import sys

import cuda_bench
import cuda_parity
import fusedrnn
from cuda_model import HEADLINE, PUBLISHED, ms, table
from fusedrnn.cuda.library import core
from machine import machine

EMULATED = {"multiprocessors": 1}  # small sizes have both plans


def main():
    args = arguments()
    if args.emulate:
        emulate()
    elif reason := fusedrnn.cuda.why_not():
        sys.exit(f"no device: {reason} (--emulate runs without one)")
    with args.out.open("w") if args.out else contextlib.nullcontext(sys.stdout) as out:
        return report(args, out)


def report(args, out):
    """Write the page, each part as soon as it is known; return whether parity fails."""
    name = "the emulator" if args.emulate else smi("name")
    kernels = "built for the emulator" if args.emulate else fusedrnn.cuda.state()
    emit(out, [*head(name, kernels), "", *plan_lines()])  # a kernel that fails may end all of CUDA
    found = []
    for parity in cuda_parity.parities(args.cells, args.dtypes):
        found.append(parity)
        print(progress(parity), file=sys.stderr, flush=True)
    emit(out, ["", *parity_lines(found)])
    emit(out, ["", *(no_times() if args.emulate else timings(name, args))])
    return any(parity.fails() for parity in found)


def emit(out, lines):
    print(*lines, sep="\n", file=out, flush=True)


def emulate():
    import host_build

    module = host_build.load()
    fusedrnn.cuda.use(module)
    config = module.Config()
    for field, value in EMULATED.items():
        setattr(config, field, value)
    module.configure(config)


def head(name, kernels):
    """What a figure must name."""
    facts, device = machine(), core().device(0)
    major, minor = device["capability"]
    lines = {
        "device": f"{name}, compute capability {major}.{minor}, {device['multiprocessors']} "
        f"multiprocessors, {device['shared_bytes']} bytes of shared memory for a block",
        "driver": smi("driver_version"),
        "kernels": kernels,
        "cuDNN": cudnn(),
        **{key: facts[key] for key in ("fusedrnn", "torch", "numpy", "python", "cpu")},
        "date": str(datetime.date.today()),
    }
    return ["# Report of a device", "", *(f"- {key}: {value}" for key, value in lines.items())]


def smi(field):
    """What nvidia-smi says of the first device."""
    command = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader", "--id=0"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown without nvidia-smi"
    return done.stdout.strip()


def cudnn():
    if importlib.util.find_spec("torch") is None:
        return "none without PyTorch"
    import torch

    if not torch.cuda.is_available():
        return "none: PyTorch sees no device"
    return f"{torch.backends.cudnn.version()}, by PyTorch for CUDA {torch.version.cuda}"


def progress(parity):
    plan = "one launch" if parity.persistent else "a launch a step"
    state = f"FAILS {parity.error}" if parity.fails() else "as the reference"
    return f"{parity.cell} {parity.dtype} {plan}, H = {parity.H}, D = {parity.directions}: {state}"


def parity_lines(found):
    limits = cuda_parity.tolerances()
    rows = [
        [
            *(parity.cell, parity.dtype, "one launch" if parity.persistent else "a launch a step"),
            *(f"{parity.directions}, {parity.H}", f"{parity.results:.1e}"),
            *(f"{parity.gradients:.1e}", "yes" if parity.same_bits else "**no**"),
            f"**FAILS** {parity.error}".rstrip() if parity.fails() else "yes",
        ]
        for parity in found
    ]
    allowed = "; ".join(
        f"{dtype} {limits[dtype]['y']:.0e} and {limits[dtype]['grad']:.0e}"
        for dtype in dict.fromkeys(parity.dtype for parity in found)
    )
    failed = sum(parity.fails() for parity in found)
    heads = ["cell", "type", "plan", "D, H", "results", "gradients", "same bits<br>twice", "right"]
    return [
        "## Parity",
        "",
        f"{len(found) - failed} of {len(found)} right. T = {cuda_parity.T}, N = {cuda_parity.N}, "
        f"I = {cuda_parity.I}; both directions with lengths. Largest difference from the float64 "
        f"reference, relative to the largest value; allowed in results and gradients: {allowed}.",
        "",
        *table(heads, rows, left=4),
    ]


def plan_lines():
    """How the time loops run at FlashRNN's N."""
    rows = []
    for cell in cuda_bench.CELLS:
        for dtype in cuda_parity.DTYPES:
            row = [cell, dtype]
            for H in (256, 768, 1024, 2048):
                for stage in cuda_parity.STAGES[1:]:
                    how = fusedrnn.cuda.plan(cell, HEADLINE.N, H, dtype=dtype, stage=stage)
                    blocks = f"{how.unit_blocks} × {how.row_blocks}"
                    row.append(blocks if how.persistent else "a launch a step")
            rows.append(row)
    heads = [f"H = {H}<br>{way}" for H in (256, 768, 1024, 2048) for way in ("forward", "backward")]
    return [
        "## Plans",
        "",
        f"N = {HEADLINE.N}, one direction. Blocks of the one launch, for units and for rows.",
        "",
        *table(["cell", "type", *heads], rows, left=2),
    ]


def no_times():
    return ["## Times", "", "No device: these are results of the emulator, which has no times."]


def timings(name, args):
    """Measured now, beside the model's prediction."""
    who, ours = cuda_bench.contestants(), cuda_bench.OURS
    rivals = [pair for pair in cuda_bench.RIVALS if pair[1] in who]
    heads = [f"{each}, ms" for each in who] + [f"{each}<br>predicted, ms" for each in ours]
    heads += [f"{theirs}<br>over ours" for _, theirs in rivals]
    rows = []
    for origin, *problem in cuda_bench.problems(args.cells):
        times = cuda_bench.measure(who, *problem, args.rounds, args.seconds)
        cell, shape, task = problem
        row = [origin, cell, ", ".join(map(str, shape)), task, *(time(times[each]) for each in who)]
        row += [time(cuda_bench.predicted(name, each, *problem)) for each in ours]
        row += [ratio(times[theirs], times[own]) for own, theirs in rivals]
        rows.append(row)
        print(", ".join(row), file=sys.stderr, flush=True)
    others = "; ".join(f"{name} {values[0]:.2f} and {values[1]:.2f}" for name, *values in PUBLISHED)
    return [
        "## Times",
        "",
        f"Medians of {args.rounds} rounds of {args.seconds} s, contestants in turns; over 1, ours "
        "is faster. Training is forward and backward. Predicted by `bench/cuda_model.py`. "
        "Published for LSTM, T = 1024, N = 16, I = H = 768 on an H100, ms forward and with "
        f"backward: {others}.",
        "",
        *table(["table", "cell", "T, N, I, H", "task", *heads], rows, left=4),
    ]


def time(value):
    """Milliseconds, why there are none, or nothing for a NaN."""
    if isinstance(value, str):
        return value
    return "" if value != value else ms(value)


def ratio(theirs, ours):
    known = not isinstance(theirs, str) and not isinstance(ours, str)
    return f"**{theirs / ours:.2f}**" if known else ""


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    cells, dtypes = cuda_parity.CELLS, cuda_parity.DTYPES
    add("--out", type=pathlib.Path, metavar="report.md", help="(standard output)")
    add("--emulate", action="store_true", help="without a device, as far as that goes")
    add("--cells", nargs="+", default=cells, choices=cells, metavar="CELL", help="(all)")
    add("--dtypes", nargs="+", default=dtypes, choices=dtypes, metavar="DTYPE", help="(both)")
    add("--rounds", type=int, default=3, help="measurements of each contestant (3)")
    add("--seconds", type=float, default=0.1, help="of one, at least (0.1)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
