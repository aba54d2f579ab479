# SPDX-License-Identifier: MIT
"""How time grows with H, N, T and the number of threads: ours, PyTorch's and the bound, a picture.

Each panel changes one size and keeps the others at BASE, with I = H. Prints the exponents: the
slopes in the picture, where 1 is linear, over all sizes and over the larger half of them.
"""

import argparse
import os
import pathlib
import statistics

from turns import Turns, set_environment, warn_if_busy

AXES = {
    "T": (16, 32, 64, 128, 256, 512, 1024),
    "N": (1, 2, 4, 8, 16, 32, 64, 128),
    "H": (32, 64, 128, 256, 512, 1024),
}
BASE = {"T": 64, "N": 16, "H": 256}
CONTESTANTS = ("kernels", "torch")


def main():
    args = arguments()
    set_environment(max(args.threads))
    warn_if_busy()
    import report  # these import NumPy, which reads the environment
    from machine import line

    times = {}
    for threads in args.threads:
        times[threads] = measure(args.cell, threads, AXES, BASE, args.rounds, args.seconds)
    draw(args.out, args.cell, times, AXES, BASE, line())
    print(f"{args.cell}, time ~ size^exponent, over all sizes (the larger half). {line()}\n")
    print("\n".join(map(report.markdown, exponents(times, AXES, BASE))))


def shapes(axis, sizes, base):
    """The problems of one panel."""
    some = [base | {axis: size} for size in sizes]
    return [(at["T"], at["N"], at["H"], at["H"]) for at in some]


def measure(cell, threads, axes, base, rounds, seconds):
    """{(task, shape): seconds by line}, medians of the rounds."""
    set_environment(threads)  # for the new processes
    from contestants import TASKS, contestants, installed
    from limits import bound

    found, able = {}, list(filter(installed, CONTESTANTS))
    with Turns(able) as turns:
        for axis, sizes in axes.items():
            for problem in [(task, shape) for task in TASKS for shape in shapes(axis, sizes, base)]:
                if problem in found:
                    continue
                task, shape = problem
                names = contestants(able, task, cell, *shape)
                measured, limits = turns.measure(names, rounds, seconds, task, cell, *shape)
                measured["bound"] = [bound(each, task, cell, *shape) for each in limits]
                found[problem] = {n: statistics.median(s) for n, s in measured.items()}
    return found


def exponents(times, axes, base):
    """The rows of a table."""
    tasks = dict.fromkeys(task for found in times.values() for task, _ in found)
    yield ["task", "threads", "", *axes]
    yield ["---", "--:", "---", *["--:"] * len(axes)]
    for task in tasks:
        for threads, found in times.items():
            for name in next(iter(found.values())):
                fits = []
                for axis, sizes in axes.items():
                    some = [found[task, shape][name] for shape in shapes(axis, sizes, base)]
                    fits.append(f"{slope(sizes, some):.2f} ({slope(sizes, some, 2):.2f})")
                yield [task, str(threads), name, *fits]


def slope(sizes, seconds, part=1):
    """Of a straight line through the logarithms, over the last 1/part of the sizes."""
    import numpy as np

    first = len(sizes) - max(2, len(sizes) // part)
    return np.polyfit(np.log(sizes[first:]), np.log(seconds[first:]), 1)[0]


def draw(path, cell, times, axes, base, title):
    """A row for each task, a column for each axis; fewer threads in thinner, broken lines."""
    from contestants import TASKS
    from picture import STYLE, plt

    with plt.rc_context(STYLE):
        size = {"figsize": (11, 6.5), "sharey": "row", "squeeze": False}
        figure, panels = plt.subplots(len(TASKS), len(axes), layout="constrained", **size)
        for row, task in zip(panels, TASKS, strict=True):
            for ax, (axis, sizes) in zip(row, axes.items(), strict=True):
                others = ", ".join(f"{name}={base[name]}" for name in base if name != axis)
                ax.set_title(f"{cell} {task}: {axis}, at {others}")
                _lines(ax, task, times, sizes, shapes(axis, sizes, base))
            row[0].set_ylabel("milliseconds")
        handles, labels = panels[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=6, frameon=False)
        figure.supxlabel(title, fontsize=5)
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)


def _lines(ax, task, times, sizes, problems):
    from picture import COLORS

    titles = {"kernels": "fusedrnn", "torch": "PyTorch", "bound": "bound"}
    colors = COLORS | {"bound": "#999999"}
    for name, title in titles.items():
        for threads, found in times.items():
            if any(name not in found[task, shape] for shape in problems):
                continue
            style = {"ls": "-", "lw": 1.6} if threads == max(times) else {"ls": "--", "lw": 0.9}
            style |= {"color": colors[name], "label": f"{title}, threads: {threads}"}
            milliseconds = [1e3 * found[task, shape][name] for shape in problems]
            ax.plot(sizes, milliseconds, marker="o", ms=2.5, **style)
    ax.set(xscale="log", yscale="log")
    ax.set_xticks(sizes, list(map(str, sizes)), minor=False)
    ax.minorticks_off()
    ax.grid(lw=0.3)


def arguments():
    every = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--out", type=pathlib.Path, required=True, metavar="SVG", help="the picture")
    add("--cell", default="lstm", choices=("rnn_tanh", "lstm", "gru", "gru_reset_before"))
    add("--threads", type=int, nargs="+", default=sorted({1, every}), help="(1 and all processors)")
    add("--rounds", type=int, default=3, help="measurements of each contestant (3)")
    add("--seconds", type=float, default=0.2, help="of runs in one measurement, at least (0.2)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
