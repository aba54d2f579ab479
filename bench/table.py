# SPDX-License-Identifier: MIT
"""Measure the kernels beside PyTorch and the NumPy reference, and print or write the table."""

import argparse
import datetime
import os
import pathlib
import statistics
import sys

from turns import Turns

START, END = "<!-- bench:start -->", "<!-- bench:end -->"
TITLES = {"kernels": "fusedrnn", "torch": "PyTorch", "reference": "NumPy"}
TASKS = ("inference", "training")
CELLS = ("rnn_tanh", "lstm", "gru")


def main():
    args = arguments()
    set_environment(args.threads)
    from contestants import SHAPES, contestants  # imports NumPy, which reads the environment

    if args.write and not has_markers(args.write):
        sys.exit(f"{args.write}: expected the lines {START} and {END}, once and in this order")
    if (load := os.getloadavg()[0]) > 0.5:
        print(f"other programs are running (load {load:.1f}): expect noise", file=sys.stderr)
    rows = []
    with Turns(TITLES, args.rounds, args.seconds) as turns:
        for cell in args.cells:
            for shape in args.shapes or SHAPES:
                names = contestants(cell, *shape)
                times = [turns.measure(names, task, cell, *shape) for task in TASKS]
                rows.append((cell, shape, times))
                print(line(*rows[-1]), file=sys.stderr, flush=True)
    text = table(rows, args)
    if args.write:
        write(args.write, text)
    else:
        print(text)


def table(rows, args):
    """The text between the markers."""
    from machine import machine

    m = machine()
    titles = ("fusedrnn", "PyTorch", "×", "NumPy")
    head = ["cell", "T, N, H", *(f"{task}<br>{title}" for task in TASKS for title in titles)]
    paragraph = (
        f"Milliseconds a call, float32, I = H; × is PyTorch's time over ours. {m['cpu']}, "
        f"{m['threads']} threads, {m['isa']}; fusedrnn {m['fusedrnn']}, PyTorch {m['torch']}, "
        f"NumPy {m['numpy']}, Python {m['python']}; {datetime.date.today()}. One process each, "
        f"taking turns; medians of {args.rounds} rounds. `{command()}`"
    )
    lines = [paragraph, "", markdown(head), markdown(["---"] * 2 + ["--:"] * (len(head) - 2))]
    lines += [line(*row) for row in rows]
    return "\n".join(lines + [line for cell in args.cells for line in mean_line(cell, rows)])


def mean_line(cell, rows):
    """The geometric means of the cell's ratios, or nothing without PyTorch."""
    ratios = [[ratio(by_name) for by_name in times] for c, _, times in rows if c == cell]
    if any(None in pair for pair in ratios):
        return []
    fields = [cell, "geometric mean"]
    for column in zip(*ratios, strict=True):
        fields += ["", "", f"**{statistics.geometric_mean(column):.2f}**", ""]
    return [markdown(fields)]


def line(cell, shape, times):
    """One row of the table; times holds the seconds of each round by contestant, for each task."""
    fields = [cell, ", ".join(map(str, shape))]
    for by_name in times:
        faster = ratio(by_name)
        fields += [milliseconds(by_name.get("kernels")), milliseconds(by_name.get("torch"))]
        fields += ["" if faster is None else f"**{faster:.2f}**"]
        fields += [milliseconds(by_name.get("reference"))]
    return markdown(fields)


def markdown(fields):
    return f"| {' | '.join(fields)} |"


def milliseconds(seconds):
    if seconds is None:
        return ""
    value = 1e3 * statistics.median(seconds)
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}"


def ratio(times):
    """PyTorch's time over ours: the median over the rounds, None without PyTorch."""
    if "torch" not in times:
        return None
    pairs = zip(times["torch"], times["kernels"], strict=True)
    return statistics.median(theirs / ours for theirs, ours in pairs)


def has_markers(path):
    text = path.read_text()
    return text.count(START) == text.count(END) == 1 and text.index(START) < text.index(END)


def write(path, text):
    """Replace what stands between the markers, in one step."""
    before, rest = path.read_text().split(START)
    new = path.with_name(path.name + ".new")
    new.write_text(f"{before}{START}\n{text}\n{END}{rest.split(END)[1]}")
    new.replace(path)


def command():
    return f"python bench/table.py {' '.join(sys.argv[1:])}".rstrip()


def set_environment(threads):
    """As many threads for each contestant, and BLAS kernels for this processor, not another."""
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        os.environ.pop(name, None)
    for name in ("OMP", "MKL", "OPENBLAS", "FUSEDRNN"):
        os.environ[f"{name}_NUM_THREADS"] = str(threads)


def shape(text):
    sizes = tuple(int(size) for size in text.split(","))
    if len(sizes) != 3 or min(sizes) < 1:
        raise ValueError(text)
    return sizes


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--rounds", type=int, default=5, help="measurements of each contestant (5)")
    add("--seconds", type=float, default=0.3, help="of runs in one measurement, at least (0.3)")
    add("--threads", type=int, default=len(os.sched_getaffinity(0)), help="(all processors)")
    add("--cells", nargs="+", default=CELLS, choices=(*CELLS, "gru_reset_before"), metavar="CELL")
    add("--shapes", nargs="+", type=shape, metavar="T,N,H", help="I is H")
    add("--write", type=pathlib.Path, metavar="README.md", help="between its two markers")
    return parser.parse_args()


if __name__ == "__main__":
    main()
