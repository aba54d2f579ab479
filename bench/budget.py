# SPDX-License-Identifier: MIT
"""A training step within a memory budget beside one that keeps its tape: time and peak, as a table.

Both take turns in one process; each peak is of a fresh one. Peak is the resident memory at the
highest point of the first step above what the process held before it, with weights, gradients, x
and dy in place, and without y and dx, which no budget makes smaller. A tiny step went before. An
RNN has no tape but its y.
"""

import argparse
import os
import statistics

from memory import fresh, megabytes, peak_of, resident
from turns import Turns, set_environment, timed, warn_if_busy

SHAPES = ((4096, 1, 128), (4096, 8, 128), (4096, 32, 128))  # T, N, I = H
CELLS = ("lstm", "gru")
SHARES = (0.1, 0.07, 0.05)  # of the tape
WHOLE = 1
TINY = (2, 2, 16)
HEAD = (
    *("cell", "T, N, H", "whole tape<br>ms", "its peak<br>MB", "budget<br>% of the tape"),
    *("interval<br>steps", "time<br>× whole", "peak<br>MB", "× less"),
)


def main():
    args = arguments()
    set_environment(args.threads)
    warn_if_busy()
    import report  # these import NumPy, which reads the environment
    from machine import line

    print(f"{line()}\n")
    print(*report.heading(HEAD, 2), sep="\n")
    for cell in args.cells:
        for shape in args.shapes:
            found = measure(cell, shape, args.rounds, args.seconds)
            for share in SHARES:
                print(report.markdown(row(cell, shape, share, found)), flush=True)


def measure(cell, shape, rounds, seconds):
    """{share: (seconds, bytes at the peak, steps between two states)}."""
    times = {share: [] for share in (WHOLE, *SHARES)}
    with Turns(("kernels",)) as turns:
        for i in range(rounds):
            for share in reversed(times) if i % 2 else times:
                times[share].append(turns.call("kernels", seconds_of, cell, shape, share, seconds))
    return {
        share: (statistics.median(taken), *fresh("kernels", peak, cell, shape, share))
        for share, taken in times.items()
    }


def seconds_of(cell, shape, share, seconds):
    return timed(make(cell, shape, share)[0], seconds)


def peak(cell, shape, share):
    """Bytes of a step's peak, and the steps between two states that are kept."""
    make(cell, TINY, WHOLE)[0]()
    step, y_and_dx, interval = make(cell, shape, share)
    before = resident()
    return peak_of(step) - before - y_and_dx, interval


def make(cell, shape, share):
    """A training step, the bytes of its y and dx, and its interval."""
    from contestants import data, layer
    from fusedrnn.stretches import interval

    T, N, H = shape
    _, x, dy = data(cell, T, N, H, H)
    ours = layer(cell, H, H)
    ours.zero_grad()  # touches their memory
    call = ours._checked(x, None, None, None)
    budget = None if share == WHOLE else int(share * tape_bytes(ours, x))

    def step():
        y, _, tape = ours.forward(x, memory_budget=budget)
        ours.backward(tape, dy, accumulate=False)
        return y  # as long as a loss would keep it

    return step, dy.nbytes + x.nbytes, T if budget is None else interval(ours, call, budget)


def tape_bytes(layer, x):
    """Those of the whole tape; none is made, which would leave its memory to be reused."""
    from fusedrnn import _core

    T, N, H = x.shape
    return _core.tape_nbytes(layer.cell, False, T, N, H, H, T * N)


def row(cell, shape, share, found):
    """The cells of one line."""
    (whole, whole_peak, _), (taken, least, interval) = found[WHOLE], found[share]
    first = share == SHARES[0]
    return [
        *((cell, ", ".join(map(str, shape))) if first else ("", "")),
        *((f"{1e3 * whole:.3g}", megabytes(whole_peak)) if first else ("", "")),
        *(f"{share:.0%}", str(interval), f"{taken / whole:.2f}", megabytes(least)),
        f"{whole_peak / max(least, 1):.1f}",
    ]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--rounds", type=int, default=5, help="measurements of each budget (5)")
    add("--seconds", type=float, default=0.1, help="of runs in one measurement, at least (0.1)")
    add("--threads", type=int, default=len(os.sched_getaffinity(0)), help="(all processors)")
    add("--cells", nargs="+", default=CELLS, choices=CELLS, metavar="CELL")
    add("--shapes", nargs="+", type=shape, default=SHAPES, metavar="T,N,H")
    return parser.parse_args()


def shape(text):
    T, N, H = map(int, text.split(","))
    return T, N, H


if __name__ == "__main__":
    main()
