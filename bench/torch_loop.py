# SPDX-License-Identifier: MIT
"""A training loop of PyTorch with its own recurrent layers and with ours, as a table.

Embedding, two layers, linear, cross-entropy, Adam: one process, both models in turns. The layers'
share is what the recurrent module alone takes, forward and backward.
"""

import argparse
import copy
import os
import statistics

from turns import set_environment, timed

SHAPES = ((64, 1, 64), (256, 1, 128), (64, 16, 128), (64, 32, 256), (35, 20, 650), (32, 64, 1024))
VOCABULARY = 1000


def main():
    args = arguments()
    set_environment(args.threads)
    from machine import line  # imports NumPy, which reads the environment

    print(line(), end="\n\n")
    heads = "cell", "T, N, H", "loop, torch.nn<br>ms", "loop, ours<br>ms", "loop ×", "layers ×"
    print("| " + " | ".join(heads) + " |\n| --- | --- | --: | --: | --: | --: |")
    for cell in args.cells:
        for shape in args.shapes:
            theirs, ours, layers = measure(cell, shape, args.rounds, args.seconds)
            sizes = ", ".join(map(str, shape))
            times = f"{theirs * 1e3:.3g} | {ours * 1e3:.3g}"
            print(
                f"| {cell} | {sizes} | {times} | {theirs / ours:.2f} | {layers:.2f} |", flush=True
            )


def measure(cell, shape, rounds, seconds):
    """Seconds of a step with torch.nn's layers and with ours; the ratio of the layers alone."""
    steps = loops(cell, shape)
    takes = [[] for _ in steps]
    for _ in range(rounds):
        for step, take in zip(steps, takes, strict=True):
            take.append(timed(step, seconds))
    theirs, ours, their_layers, our_layers = map(statistics.median, takes)
    return theirs, ours, their_layers / our_layers


def loops(cell, shape):
    """A step of the whole loop with each model, and of each model's layers alone."""
    import fusedrnn.torch
    import torch

    T, N, H = shape

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = torch.nn.Embedding(VOCABULARY, H)
            self.rnn = getattr(torch.nn, cell)(H, H, num_layers=2)
            self.head = torch.nn.Linear(H, VOCABULARY)

        def forward(self, tokens):
            return self.head(self.rnn(self.embed(tokens))[0])

    torch.manual_seed(0)
    theirs = Model()
    ours = copy.deepcopy(theirs)
    fusedrnn.torch.accelerate(ours)
    tokens = torch.randint(VOCABULARY, (T, N))
    x, dy = torch.randn(T, N, H, requires_grad=True), torch.randn(T, N, H)

    def whole(model):
        optimizer = torch.optim.Adam(model.parameters())

        def step():
            logits = model(tokens)
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens.flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        return step

    def alone(model):
        return lambda: model.rnn(x)[0].backward(dy)

    return [whole(theirs), whole(ours), alone(theirs), alone(ours)]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--rounds", type=int, default=5, help="measurements of each (5)")
    add("--seconds", type=float, default=0.3, help="of steps in one measurement, at least (0.3)")
    add("--threads", type=int, default=len(os.sched_getaffinity(0)), help="(all processors)")
    add("--cells", nargs="+", default=("RNN", "LSTM", "GRU"), choices=("RNN", "LSTM", "GRU"))
    add("--shapes", nargs="+", type=shape, default=SHAPES, help="T,N,H")
    return parser.parse_args()


def shape(text):
    sizes = tuple(int(size) for size in text.split(","))
    if len(sizes) != 3 or min(sizes) < 1:
        raise ValueError(text)
    return sizes


if __name__ == "__main__":
    main()
