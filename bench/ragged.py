# SPDX-License-Identifier: MIT
"""Batches of unequal lengths beside padded ones, ours and PyTorch's packed sequences, as a table.

Lengths are uniform in 1..T/2, in no order, but for one of T: their mean is about T/4. Each library
in a process of its own; lengths and padding take turns within it.
"""

import argparse
import os
import statistics

from turns import Turns, set_environment, timed, warn_if_busy

SHAPES = ((100, 32, 128), (200, 16, 256), (400, 32, 64), (1000, 8, 128))  # T, N, I = H
CELLS = ("rnn_tanh", "lstm", "gru")
HOWS = ("lengths", "padded")
HEAD = (
    *("cell", "T, N, H", "task", "mean length", "ours, lengths<br>ms", "ours, padded<br>ms"),
    *("lengths /<br>padded", "PyTorch, packed<br>× ours", "PyTorch, padded<br>× ours, padded"),
)


def main():
    args = arguments()
    set_environment(args.threads)
    warn_if_busy()
    import report  # these import NumPy, which reads the environment
    from machine import line

    print(f"{line()}\n")
    print(*report.heading(HEAD, 3), sep="\n")
    for cell in args.cells:
        for shape in SHAPES:
            for task in ("inference", "training"):
                found = measure(task, cell, shape, args.rounds, args.seconds)
                print(report.markdown(row(task, cell, shape, found)), flush=True)


def measure(task, cell, shape, rounds, seconds):
    """{(library, how): seconds}, medians of the rounds."""
    from contestants import installed

    names, found = list(filter(installed, ("kernels", "torch"))), {}
    with Turns(names) as turns:
        for i in range(rounds):
            for name in reversed(names) if i % 2 else names:
                for how in HOWS:
                    taken = turns.call(name, seconds_of, name, how, task, cell, shape, seconds)
                    found.setdefault((name, how), []).append(taken)
    return {key: statistics.median(times) for key, times in found.items()}


def row(task, cell, shape, found):
    """The cells of one line."""
    ours, padded = (found["kernels", how] for how in HOWS)
    mean = lengths_of(*shape[:2]).mean() / shape[0]
    cells = [cell, ", ".join(map(str, shape)), task, f"{mean:.2f} T"]
    cells += [f"{1e3 * ours:.3g}", f"{1e3 * padded:.3g}", f"{ours / padded:.2f}"]
    for how, own in zip(HOWS, (ours, padded), strict=True):
        theirs = found.get(("torch", how))
        cells.append("" if theirs is None else f"{theirs / own:.2f}")
    return cells


def lengths_of(T, N):
    import numpy as np

    lengths = np.random.default_rng(0).integers(1, T // 2, N, endpoint=True)
    lengths[N // 2] = T
    return lengths


def seconds_of(name, how, task, cell, shape, seconds):
    """The median time of at least so many seconds of runs."""
    T, N, H = shape
    return timed(
        {"kernels": our_call, "torch": torch_call}[name](how, task, cell, T, N, H), seconds
    )


def our_call(how, task, cell, T, N, H):
    from contestants import data, layer

    _, x, dy = data(cell, T, N, H, H)
    ours = layer(cell, H, H)
    lengths = lengths_of(T, N) if how == "lengths" else None

    def train():
        _, _, tape = ours.forward(x, lengths=lengths)
        ours.backward(tape, dy, accumulate=False)

    return train if task == "training" else lambda: ours(x, lengths=lengths)


def torch_call(how, task, cell, T, N, H):
    """Packed from a padded batch and padded again, as ours is given and returned."""
    import torch
    from contestants import data
    from peer_torch import layer
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    weights, x, dy = data(cell, T, N, H, H)
    module, lengths = layer(cell, weights), torch.from_numpy(lengths_of(T, N))
    leaf, gradient = torch.from_numpy(x).clone().requires_grad_(), torch.from_numpy(dy)

    def run():
        if how == "padded":
            return module(leaf)[0]
        packed = pack_padded_sequence(leaf, lengths, enforce_sorted=False)
        return pad_packed_sequence(module(packed)[0])[0]

    def train():
        module.zero_grad()
        leaf.grad = None
        run().backward(gradient)

    def infer():
        with torch.inference_mode():
            run()

    return train if task == "training" else infer


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--rounds", type=int, default=3, help="measurements of each contestant (3)")
    add("--seconds", type=float, default=0.1, help="of runs in one measurement, at least (0.1)")
    add("--threads", type=int, default=len(os.sched_getaffinity(0)), help="(all processors)")
    add("--cells", nargs="+", default=CELLS, choices=CELLS, metavar="CELL")
    return parser.parse_args()


if __name__ == "__main__":
    main()
