# SPDX-License-Identifier: MIT
"""Threads: more than there are processors, two callers at once, and a model of more cores.

The model, for P cores that split the units, so that each reads its own share of W_hh:

    seconds of a step = input operations / (P peak)
                      + max(hidden operations / (P peak), share / bandwidth(share)) + barrier(P)
    share = bytes of W_hh / P

and in training the same again for the scan back, with its barrier, and the rest of the products
at the peak (`bound` in limits.py). peak and bandwidth are of one core, measured here with all of
them at work. barrier(P) = (P - 1) barrier(2): each thread reads one flag of each other, and the
model has those reads follow one another; where they overlap it is less, across sockets more. No
more cores than vectors of units take part. Left out: clocks that drop, caches and memory that
more cores share, and that few units with many rows are split by rows, without barriers.
"""

import argparse
import concurrent.futures
import os
import statistics
import time

from table import shape, shapes
from turns import LIMITS, Turns, curve, median_seconds, set_environment, warn_if_busy

CORES = (16, 64)  # of the model
LATE = ("gru_reset_before",)  # cells whose step has a second product, and a second barrier


def main():
    args = arguments()
    set_environment(args.threads)
    warn_if_busy()
    import report  # these import NumPy, which reads the environment
    from contestants import TASKS
    from machine import line

    problems = [(t, c, *s) for c in args.cells for s in shapes(args.shapes) for t in TASKS]
    print(f"{line()}\n\nMeasured: milliseconds with {args.threads} threads; times as long with")
    print(f"{args.asked} asked for; two Python threads at once, over one after the other.\n")
    print_head(f"{args.threads} threads", f"{args.asked} asked for", "two at once")
    measured = {}
    with Turns(("kernels",)) as turns:
        figures = turns.call(LIMITS, measure_figures, args.threads)
        for problem in problems:
            measured[problem] = seconds, *ratios = measure(turns, args, problem)
            print_row(problem, report.milliseconds([seconds]), *(f"{r:.2f}×" for r in ratios))
    print(f"\nA model, not a measurement: {describe(figures)}\n")
    counts = (args.threads, *CORES)
    print_head("measured", *(f"model, {P} cores" for P in counts), "fastest on")
    for problem, (seconds, *_) in measured.items():
        times = [seconds, *(model(figures, P, *problem) for P in counts)]
        best = min(range(1, CORES[-1] + 1), key=lambda P, p=problem: model(figures, P, *p))
        print_row(problem, *(f"{1e3 * t:#.3g}" for t in times), str(best))


def measure(turns, args, problem):
    """Seconds with a thread for each processor, and the ratios of more threads and two callers."""
    pairs, both = [], []
    for _ in range(args.rounds):
        counts = (args.threads, args.asked)
        pairs.append([turns.call("kernels", timed, n, *problem, args.seconds) for n in counts])
        both.append(turns.call("kernels", at_once, args.threads, *problem, args.seconds))
    more = statistics.median(asked / every for every, asked in pairs)
    return statistics.median(every for every, _ in pairs), more, statistics.median(both)


def timed(threads, *problem_and_seconds):
    import fusedrnn

    fusedrnn.set_num_threads(threads)
    return median_seconds("kernels", *problem_and_seconds)


def at_once(threads, task, cell, T, N, I, H, seconds):
    """The time of two Python threads, with a layer each, over that of one after the other."""
    import fusedrnn
    import ours
    from contestants import data

    calls = [ours.make("kernels", task, cell, *data(cell, T, N, I, H))[0] for _ in range(2)]
    fusedrnn.set_num_threads(threads)
    count = max(3, int(seconds / 2 / timed(threads, task, cell, T, N, I, H, 0)))

    def repeat(call):
        for _ in range(count):
            call()

    def elapsed(run):
        start = time.perf_counter()
        list(run(repeat, calls))
        return time.perf_counter() - start

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        elapsed(pool.map)  # each thread starts its team
        return elapsed(pool.map) / elapsed(map)


def measure_figures(threads):
    """What the model needs, of one core; in the process of the limits."""
    import limits

    per_core = [(share, rate / threads) for share, rate in curve()]
    figures = {"peak": limits.peak(threads) / threads, "curve": per_core}
    return figures | {"barrier": limits.barrier(2)}


def model(figures, cores, task, cell, T, N, I, H):
    """Seconds of a call by the model above."""
    import numpy as np
    from fusedrnn.weights import CELLS
    from limits import bound
    from machine import width

    cores = min(cores, -(-H // width()))
    sizes, rates = zip(*figures["curve"], strict=True)
    share = 4 * CELLS[cell].gates * H * H / cores
    bandwidth = cores * np.interp(np.log(share), np.log(sizes), rates)
    limits = {"peak": cores * figures["peak"], "bandwidth": bandwidth}
    barriers = T * (2 if cell in LATE else 1) * (1 if task == "inference" else 2)
    return bound(limits, task, cell, T, N, I, H) + barriers * (cores - 1) * figures["barrier"]


def describe(figures):
    curve = ", ".join(f"{size // 1024} KB {1e-9 * rate:.0f}" for size, rate in figures["curve"])
    barriers = [f"{1e9 * (P - 1) * figures['barrier']:.0f} ns on {P}" for P in (2, *CORES)]
    return (
        f"milliseconds, from one core's peak, {1e-9 * figures['peak']:.0f} GFLOP/s, its bandwidth "
        f"in GB/s by the size of its share, {curve}, and a barrier of {', '.join(barriers)}."
    )


def print_head(*columns):
    import report

    print(*report.heading(["task", "cell", "T, N, I, H", *columns], 3), sep="\n")


def print_row(problem, *columns):
    import report

    task, cell, *sizes = problem
    fields = [task, cell, ", ".join(map(str, sizes)), *columns]
    print(report.markdown(fields), flush=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--threads", type=int, default=len(os.sched_getaffinity(0)), help="(all processors)")
    add("--asked", type=int, default=8, help="threads asked for in vain (8)")
    add("--cells", nargs="+", default=("lstm",), metavar="CELL", help="(lstm)")
    add("--shapes", nargs="+", type=shape, default=("grid",), help="grid, odd, T,N,I,H or T,N,H")
    add("--rounds", type=int, default=3, help="(3)")
    add("--seconds", type=float, default=0.2, help="of runs in one measurement, at least (0.2)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
