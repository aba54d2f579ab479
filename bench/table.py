# SPDX-License-Identifier: MIT
"""Measure the kernels beside their peers and the machine's limits; print or write the table.

With --json every measurement is kept: the same command goes on where it was stopped, and
--rounds 0 makes the table anew from what the file holds.
"""

import argparse
import os
import pathlib
import sys

from turns import LIMITS, Turns, curve, set_environment, warn_if_busy

START, END = "<!-- bench:start -->", "<!-- bench:end -->"
CELLS = ("rnn_tanh", "lstm", "gru")
CHOICES = ("torch", "onnxruntime", "openvino", "jax", "reference")


def main():
    args = arguments()
    set_environment(args.threads)
    import report  # these import NumPy, which reads the environment
    from machine import machine
    from results import Results

    if args.write and not has_markers(args.write):
        sys.exit(f"{args.write}: expected the lines {START} and {END}, once and in this order")
    try:
        results = Results(machine(), command(), args.json, remake=not args.rounds)
    except ValueError as error:
        sys.exit(str(error))
    problems = [(cell, shape) for cell in args.cells for shape in shapes(args.shapes)]
    if args.rounds:
        measure(problems, results, args)
    if not results.data["measured"]:
        sys.exit("nothing is measured")
    text = report.text(problems, results)
    if args.picture:
        from picture import speed

        speed(problems, results, args.picture)
    if args.write:
        write(args.write, text)
    else:
        print(text)


def shapes(chosen):
    """(T, N, I, H) of each; grid and odd are those of contestants.py."""
    from contestants import GRID, ODD

    named = {"grid": GRID, "odd": ODD}
    return [shape for some in chosen for shape in named.get(some, (some,))]


def measure(problems, results, args):
    """Measure what the results do not hold yet."""
    import report
    from contestants import OURS, PEERS, TASKS, contestants, installed

    peers = args.peers or list(filter(installed, PEERS))
    if missing := [name for name in peers if not installed(name)]:
        sys.exit(f"not installed: {', '.join(missing)}")
    warn_if_busy()
    with Turns((*OURS, *peers)) as turns:
        results.set_curve(turns.call(LIMITS, curve))
        for cell, shape in problems:
            for task in TASKS:
                if results.find(task, cell, shape):
                    continue
                names = contestants((*OURS, *peers), task, cell, *shape)
                how = names, args.rounds, args.seconds
                new = results.add(task, cell, shape, *turns.measure(*how, task, cell, *shape))
                print(report.progress(new), file=sys.stderr, flush=True)


def command():
    """What measures the same again: this command without its files."""
    isa, words, kept = os.environ.get("FUSEDRNN_ISA"), iter(sys.argv[1:]), []
    for word in words:
        if word in ("--json", "--picture", "--write"):
            next(words, None)
        else:
            kept.append(word)
    return " ".join([*([f"FUSEDRNN_ISA={isa}"] if isa else []), "python bench/table.py", *kept])


def has_markers(path):
    text = path.read_text()
    return text.count(START) == text.count(END) == 1 and text.index(START) < text.index(END)


def write(path, text):
    """Replace what stands between the markers, in one step."""
    before, rest = path.read_text().split(START)
    new = path.with_name(path.name + ".new")
    new.write_text(f"{before}{START}\n{text}\n{END}{rest.split(END)[1]}")
    new.replace(path)


def shape(text):
    if text in ("grid", "odd"):
        return text
    sizes = tuple(int(size) for size in text.split(","))
    if len(sizes) not in (3, 4) or min(sizes) < 1:
        raise ValueError(text)
    return sizes if len(sizes) == 4 else (*sizes, sizes[-1])


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--rounds", type=int, default=5, help="measurements of each contestant (5)")
    add("--seconds", type=float, default=0.3, help="of runs in one measurement, at least (0.3)")
    add("--threads", type=int, default=len(os.sched_getaffinity(0)), help="(all processors)")
    add("--cells", nargs="+", default=CELLS, choices=(*CELLS, "gru_reset_before"), metavar="CELL")
    add("--shapes", nargs="+", type=shape, default=("grid", "odd"), help="T,N,I,H or T,N,H")
    add("--peers", nargs="+", choices=CHOICES, metavar="PEER", help=f"of {', '.join(CHOICES)}")
    add("--json", type=pathlib.Path, help="keep all measurements here, and go on from them")
    add("--picture", type=pathlib.Path, metavar="SVG", help="of the ratios")
    add("--write", type=pathlib.Path, metavar="README.md", help="between its two markers")
    return parser.parse_args()


if __name__ == "__main__":
    main()
