# SPDX-License-Identifier: MIT
"""Write down what cuda_times.py predicts of the device kernels, in cuda_model_template.md."""

import argparse
import pathlib

from cuda_assumptions import assumptions, constants, instructions
from cuda_plan import (
    CELLS,
    CHUNK,
    PASSES,
    SIZES,
    THREADS,
    Problem,
    largest,
    plan,
    step_bytes,
    step_operations,
)
from cuda_times import (
    DEVICES,
    PRODUCT_DEPTH,
    SIDE,
    STAGE,
    TASKS,
    Changes,
    loop_seconds,
    parts_seconds,
    range_of,
    seconds,
)
from report import heading, markdown

TEMPLATE = pathlib.Path(__file__).with_name("cuda_model_template.md")
HEADLINE = Problem("lstm", "bfloat16", 1024, 16, 768, 768)  # FlashRNN's published figure
DTYPES = tuple(SIZES)[::-1]
# Milliseconds forward, and forward and backward, on an H100: README of NX-AI/flashrnn, 2024-11.
PUBLISHED = (
    ("cuDNN, float16 (torch.nn.LSTM)", 2.01, 5.19),
    ("FlashRNN fused, bfloat16, without the input part", 4.87, 13.61),
    ("FlashRNN alternating, bfloat16, without the input part", 10.79, 26.49),
    ("haste, float32", 18.41, 43.86),
)
# benchmarks/benchmark_lstm.cc of lmnt-com/haste, of whose I we take one.
HASTE_T, HASTE_N, HASTE_I = 50, (1, 16, 32, 64, 128), 128
HASTE_H = (128, 256, 512, 768, 1024, 2048)
CHANGES = (
    ("products staged 16 bytes at a time, one slab ahead", Changes(pieces=True)),
    ("bias sums by all multiprocessors", Changes(wide_sums=True)),
    ("what a step reads besides h asked for before the barrier", Changes(prefetch=True)),
    ("three pieces of h on their way, not one", Changes(ahead=3)),
    ("all four", Changes(ahead=3, prefetch=True, pieces=True, wide_sums=True)),
)


def published():
    """The headline beside what others published."""
    head = ["LSTM, N = 16, T = 1024, I = H = 768", "forward, ms", "forward and backward, ms"]
    rows = [[name, *(f"{value:.2f}" for value in values)] for name, *values in PUBLISHED]
    for what, function in (("time loops only", loops), ("the whole call", seconds)):
        for device in DEVICES:
            for dtype in DTYPES:
                name = f"**prediction**: {device}, {dtype}, {what}"
                rows.append([name, *(spread(device, function, dtype, task) for task in TASKS)])
    return table(head, rows)


def spread(device, function, dtype, task):
    """The expected milliseconds of the headline, and between which bounds."""
    problem = HEADLINE._replace(dtype=dtype)
    expected, fast, slow = range_of(device, lambda gpu: function(gpu, problem, task))
    return f"{ms(expected)} ({ms(fast)} to {ms(slow)})"


def loops(gpu, problem, task):
    return sum(s for name, s in parts_seconds(gpu, problem, task).items() if "loop" in name)


def parts():
    """Where the time of the headline goes."""
    columns = [(device, dtype) for device in DEVICES for dtype in DTYPES]
    found = [
        parts_seconds(DEVICES[device][1], HEADLINE._replace(dtype=dtype), "training")
        for device, dtype in columns
    ]
    rows = [[name, *(ms(each[name]) for each in found)] for name in found[0]]
    return table(["part, ms", *map("<br>".join, columns)], rows)


def steps():
    """One step of the headline."""
    head = ["device", "type", "step", "plan", "blocks", "shared memory<br>MB", "L2<br>MB"]
    head += ["memory<br>MB", "operations<br>10⁶", "barrier or<br>launch, µs", "product<br>µs"]
    rows = [
        step_row(device, HEADLINE._replace(dtype=dtype), task)
        for device in DEVICES
        for dtype in DTYPES
        for task in PASSES[1:]
    ]
    return table([*head, "elementwise<br>µs", "step<br>µs"], rows, left=5)


def step_row(device, problem, task):
    gpu = DEVICES[device][1]
    how, waits = plan(gpu.limits, problem, task), loop_seconds(gpu, problem, task)[1]
    blocks = how.unit_blocks * how.row_blocks * problem.D
    moved = [f"{value / 1e6:.2f}" for value in step_bytes(gpu, problem, task).values()]
    return [
        *(device, problem.dtype, "backward" if task == "backward" else "forward"),
        *("one launch" if how.persistent else "a launch a step",),
        *(f"{blocks} of {how.shared_bytes / 1024:.0f} KB", *moved),
        *(f"{step_operations(problem, task) / 1e6:.0f}",),
        *(us(value) for value in (*waits.values(), sum(waits.values()))),
    ]


def persistent():
    """The largest hidden sizes of the persistent plan."""
    ways = [(device, D) for device in DEVICES for D in (1, 2)]
    same = ("rnn_relu", "lstm_peephole", "lstm_peephole_coupled")  # as tanh, as without peepholes
    rows = []
    for cell in filter(lambda name: name not in same, CELLS):
        for dtype in DTYPES:
            found = [
                [largest(DEVICES[device][1].limits, cell, dtype, task, D) for task in PASSES[1:]]
                for device, D in ways
            ]
            rows.append([cell, dtype, *(" / ".join(map(str, each)) for each in found)])
    directions = {1: "one direction", 2: "both directions"}
    head = [f"{device}<br>{directions[D]}" for device, D in ways]
    return table(["cell", "type", *head], rows, left=2)


def changes():
    """What each change would make of the headline, by the same model."""
    gpu = DEVICES["H100"][1]
    rows = [
        [name, *(ms(seconds(gpu, HEADLINE, task, change)) for task in TASKS)]
        for name, change in (("as it is", Changes()), *CHANGES)
    ]
    rows.append(["cuDNN, float16, published", *(f"{value:.2f}" for value in PUBLISHED[0][1:])])
    return table(["H100, bfloat16", "forward, ms", "forward and backward, ms"], rows)


def haste(device):
    """The shapes of haste's table."""
    gpu, rows = DEVICES[device][1], []
    for task in TASKS:
        for N in HASTE_N:
            problems = [Problem("lstm", "float32", HASTE_T, N, HASTE_I, H) for H in HASTE_H]
            rows.append([task, str(N), *(ms(seconds(gpu, problem, task)) for problem in problems)])
    return table([f"{device}, ms", "N", *(f"H = {H}" for H in HASTE_H)], rows)


def facts():
    """The figures in the prose."""
    gpu = DEVICES["H100"][1]
    found = parts_seconds(gpu, HEADLINE, "training")
    calls = [seconds(gpu, HEADLINE, task) for task in TASKS]
    slower = [1e3 * ours / theirs for ours, theirs in zip(calls, PUBLISHED[0][1:], strict=True)]
    step, back_step = (loop_seconds(gpu, HEADLINE, task)[1] for task in PASSES[1:])
    operations = HEADLINE.T * step_operations(HEADLINE, "training")  # I = H
    blocks, sms = plan(gpu.limits, HEADLINE, "training").unit_blocks, gpu.limits.multiprocessors
    gates = CELLS[HEADLINE.cell].gates
    return {
        "slower_forward": f"{slower[0]:.1f}×",
        "slower_both": f"{slower[1]:.1f}×",
        "both": ms(calls[1]),
        "products": ms(sum(found[name] for name in ("input part", "dx", "dW_ih", "dW_hh"))),
        "each": STAGE * THREADS // (2 * SIDE * PRODUCT_DEPTH),
        "rate": f"{operations / found['input part'] / 1e12:.0f}",
        "back_step": us(sum(back_step.values())),
        "back_l2": f"{step_bytes(gpu, HEADLINE, 'backward')['L2'] / 1e6:.1f}",
        "pieces": gates * HEADLINE.padded * SIZES[HEADLINE.dtype] // CHUNK,
        "step": us(sum(step.values())),
        "elementwise": us(step["elementwise"]),
        "sum_blocks": -(-HEADLINE.H // 32),
        "multiprocessors": sms,
        "sums": ms(found["bias sums"]),
        "blocks": blocks,
        "idle": sms - blocks,
        "alternating": f"{1e3 * PUBLISHED[2][1] / HEADLINE.T:.1f}",
        "T": HASTE_T,
        "I": HASTE_I,
    }


def text():
    tables = (published, parts, changes, steps, persistent, assumptions, instructions)
    filled = {made.__name__: "\n".join(made()) for made in tables}
    filled["haste"] = "\n\n".join("\n".join(haste(device)) for device in DEVICES)
    return TEMPLATE.read_text().format(**filled, **facts(), **constants())


def table(head, rows, left=1):
    """The lines of a table whose first columns are words."""
    return [*heading(head, left), *map(markdown, rows)]


def ms(value):
    return f"{1e3 * value:.3g}"


def us(value):
    return f"{1e6 * value:.2f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", type=pathlib.Path, metavar="cuda_model.md")
    path = parser.parse_args().write
    if path:
        path.write_text(text())
    else:
        print(text(), end="")


if __name__ == "__main__":
    main()
