# SPDX-License-Identifier: MIT
"""Memory of a training step: ours and PyTorch's, each in a fresh process; as a Markdown table.

Peak is the resident memory at the highest point of the first step, above what the process held
just before it, with weights, x and dy in place. A tiny step went before, so that what a library
loads and starts on first use does not count. Two runs differ by some tenths of a megabyte.

The tape is what backward needs beyond x, y and the weights. Ours takes 4 bytes (float32) times
VALUES for each step, row and unit, with H rounded up to the vector's width (16 with AVX-512, 8
with AVX2), and the states before the first step; all rounded up to a page.
"""

import argparse
import os
import pathlib

from table import CELLS, shape, shapes
from turns import Turns, set_environment

VALUES = {
    "rnn_tanh": 0,  # h is y
    "lstm": 6,  # i f g o, tanh(c), c
    "gru": 4,  # r z n, the hidden part of n
    "gru_reset_before": 4,  # r z n, r h'
}
TINY = (2, 2, 16, 16)
CALLS = (10, 50)
MB = 1e6
SLACK = {"tape": 4096, "peak": 0.3 * MB, "growth": 1 * MB}  # less is not spoken of

HEAD = (
    *("cell", "T, N, I, H", "tape<br>by the rule", "tape", "PyTorch's"),
    *("tape's bytes a step,<br>row and unit", "PyTorch's"),
    *("peak", "PyTorch's", "held after<br>{} / {} calls", "PyTorch's"),
)


def main():
    args = arguments()
    set_environment(args.threads)
    import report  # these import NumPy, which reads the environment
    from machine import line

    print(f"Megabytes (10⁶ bytes), float32, training. {line()}\n")
    print("\n".join(report.heading(HEAD, 2)).format(*args.calls))
    found = {}
    for cell in args.cells:
        for sizes in shapes(args.shapes):
            found[cell, sizes] = measured = measure(cell, sizes, args.calls)
            print(report.markdown(row(cell, sizes, measured)), flush=True)
    print(f"\n{summary(found)}")


def measure(cell, sizes, calls):
    """By contestant, the bytes: at the peak, held after so many calls, of the tape."""
    from contestants import contestants, installed

    names = contestants(filter(installed, ("kernels", "torch")), "training", cell, *sizes)
    measured = {name: fresh(name, training, name, cell, sizes, calls) for name in names}
    for name in names:
        measured[name]["tape"] = fresh(name, TAPES[name], cell, sizes)
    return measured


def fresh(name, function, *args):
    """The function's result in a new process, where no memory waits to be reused."""
    with Turns((name,)) as turns:
        return turns.call(name, function, *args)


def training(name, cell, sizes, calls):
    """Bytes above the start: at the peak of one step, and held after so many steps."""
    from contestants import make

    make(name, "training", cell, *TINY)[0]()
    call, _ = make(name, "training", cell, *sizes)
    before, held, done = resident(), [], 1
    peak = peak_of(call) - before
    for count in calls:
        for _ in range(count - done):
            call()
        held.append(resident() - before)
        done = count
    return {"peak": peak, "held": held}


def peak_of(call):
    """The resident memory at the highest point of a call."""
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from here
    call()
    return resident("VmHWM")


def resident(field="VmRSS"):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def our_tape(cell, sizes):
    from contestants import data, layer

    _, x, _ = data(cell, *sizes)
    _, _, tape = layer(cell, *sizes[2:]).forward(x)
    return tape.nbytes


def torch_tape(cell, sizes):
    """All that autograd saves, each storage once; but not x, y and the weights."""
    import torch
    from contestants import data
    from peer_torch import layer

    weights, x, _ = data(cell, *sizes)
    module, leaf, saved = layer(cell, weights), torch.from_numpy(x).requires_grad_(), {}

    def save(tensor):
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        y, _ = module(leaf)
    for tensor in (leaf, y, *module.parameters()):
        saved.pop(tensor.untyped_storage().data_ptr(), None)
    return sum(saved.values())


TAPES = {"kernels": our_tape, "torch": torch_tape}


def documented(cell, T, N, I, H):
    """Bytes of our tape by the rule above, before they are rounded up."""
    from machine import width

    states, units = 2 if cell == "lstm" else 1, -(-H // width()) * width()
    return 4 * N * (T * VALUES[cell] * units + states * H)


def row(cell, sizes, measured):
    T, N, _, H = sizes

    def columns(text):
        return [text(measured[name]) if name in measured else "" for name in TAPES]

    return [
        *(cell, ", ".join(map(str, sizes)), megabytes(documented(cell, *sizes))),
        *columns(lambda one: megabytes(one["tape"])),
        *columns(lambda one: f"{one['tape'] / (T * N * H):.1f}"),
        *columns(lambda one: megabytes(one["peak"])),
        *columns(lambda one: " / ".join(map(megabytes, one["held"]))),
    ]


def summary(found):
    """Where PyTorch needs less, and where our memory grew, in words."""
    pairs = [(problem, m["kernels"], m["torch"]) for problem, m in found.items() if "torch" in m]
    lines = []
    for key in ("tape", "peak"):
        above = [
            f"{name(problem)} ({ours[key] / theirs[key]:.2f}×)"
            for problem, ours, theirs in pairs
            if ours[key] > theirs[key] + SLACK[key]
        ]
        where = "; ".join(above) or "none"
        lines.append(f"The {key} is above PyTorch's on {len(above)} of {len(pairs)}: {where}.")
    growth = {problem: ends(m["kernels"]["held"]) for problem, m in found.items()}
    grown = [f"{name(p)} ({megabytes(g)})" for p, g in growth.items() if g > SLACK["growth"]]
    lines.append(f"Memory grew with the calls on {len(grown)}: {'; '.join(grown) or 'none'}.")
    return "\n".join(lines)


def ends(held):
    return held[-1] - held[0]


def name(problem):
    cell, sizes = problem
    return f"{cell} {', '.join(map(str, sizes))}"


def megabytes(count):
    return f"{count / MB:.2f}" if abs(count) < 10 * MB else f"{count / MB:.1f}"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--threads", type=int, default=len(os.sched_getaffinity(0)), help="(all processors)")
    add("--cells", nargs="+", default=CELLS, choices=VALUES, metavar="CELL")
    add("--shapes", nargs="+", type=shape, default=("grid",), help="grid, odd, T,N,I,H or T,N,H")
    add("--calls", nargs=2, type=int, default=CALLS, help="memory held is read after so many")
    return parser.parse_args()


if __name__ == "__main__":
    main()
