# SPDX-License-Identifier: MIT
"""The table in Markdown, and the paragraph that says how, where and when it was measured."""

import statistics

from contestants import GRID, OURS, TASKS
from results import best, fraction, ratio

TITLES = {
    "inference": ("ms", "frozen ms", "% of bound", "× PyTorch", "× best peer"),
    "training": ("ms", "% of bound", "× PyTorch", "× best peer"),
}
HOW = (
    "Milliseconds a call, float32; × is a peer's time over ours: above 1 we are faster. Frozen is "
    "`layer.freeze()`, whose weights are packed before the call, as ONNX Runtime's and OpenVINO's "
    "are (where T = 1 its `step`): in inference the bound and the best peer stand beside it, "
    "PyTorch beside the layer. The bound is the larger of operations / peak and, step by step, "
    "bytes of W_hh / bandwidth, measured in the same round. One process each, taking turns."
)


def text(problems, results):
    pairs = [[results.find(task, cell, shape) for task in TASKS] for cell, shape in problems]
    return "\n".join([paragraph(results), "", *table([pair for pair in pairs if all(pair)])])


def table(pairs):
    """The lines of the table; each pair is what was measured in inference and in training."""
    titles = [f"{task}<br>{title}" for task in TASKS for title in TITLES[task]]
    head = ["cell", "T, N, I, H", *titles]
    lines = heading(head, 2)
    lines += [markdown(line(pair)) for pair in pairs]
    grid = [pair for pair in pairs if tuple(pair[0]["shape"]) in GRID]
    cells = list(dict.fromkeys(pair[0]["cell"] for pair in grid))
    lines += [mean(cell, [pair for pair in grid if pair[0]["cell"] == cell]) for cell in cells]
    lines += [mean("all", grid)] if len(cells) > 1 else []
    return [*lines, "", ahead([measured for pair in pairs for measured in pair])]


def line(pair):
    fields = [pair[0]["cell"], sizes(pair[0])]
    for measured in pair:
        peer = best(measured)
        seconds = measured["seconds"]
        fields += [milliseconds(seconds[name]) for name in OURS if name in seconds]
        fields.append(f"{100 * fraction(measured):.0f}")
        fields += [bold(ratio(measured, "torch")), f"{bold(peer[0])} {peer[1]}" if peer else ""]
    return fields


def mean(cell, pairs):
    """The geometric means of the ratios."""
    fields = [cell, f"geometric mean of {len(pairs)}"]
    for column in zip(*pairs, strict=True):
        torch = [ratio(measured, "torch") for measured in column]
        peers = [peer[0] for peer in map(best, column) if peer]
        fields += [""] * (len(TITLES[column[0]["task"]]) - 2)
        fields += [*(bold(geometric_mean(ratios)) for ratios in (torch, peers))]
    return markdown(fields)


def geometric_mean(ratios):
    return statistics.geometric_mean(ratios) if ratios and None not in ratios else None


def ahead(measured):
    """Where a peer is faster, in words."""
    found = [
        f"{m['task']} {m['cell']} {sizes(m)} ({peer[1]} {peer[0]:.2f})"
        for m in measured
        if (peer := best(m)) and peer[0] < 1
    ]
    return f"A peer is faster on {len(found)} of {len(measured)}: {'; '.join(found) or 'none'}."


def paragraph(results):
    machine = dict(results.data["machine"])
    head = f"{machine.pop('cpu')}, {machine.pop('threads')} threads, {machine.pop('isa')}"
    versions = ", ".join(f"{name} {version}" for name, version in machine.items())
    curve = ", ".join(f"{size // 1024} KB {1e-9 * r:.0f}" for size, r in results.data["curve"])
    peak, barrier = results.limit("peak"), results.limit("barrier")
    limits = (
        f"Peak {1e-9 * statistics.median(peak):.0f} GFLOP/s, a barrier "
        f"{1e9 * statistics.median(barrier):.0f} ns ({1e9 * barrier[0]:.0f} to "
        f"{1e9 * barrier[-1]:.0f}); GB/s by the size of a core's share: {curve}."
    )
    rounds = min(len(measured["limits"]) for measured in results.data["measured"])
    how = f"Medians of {rounds} rounds: `{results.data['command']}`"
    return f"{HOW} {head}; {versions}; {results.data['date']}. {limits} {how}"


def progress(measured):
    """One measurement, as it is made; the barrier says in which state the machine was."""
    times = ", ".join(f"{name} {milliseconds(s)}" for name, s in measured["seconds"].items())
    barriers = ", ".join(f"{1e9 * limits['barrier']:.0f}" for limits in measured["limits"])
    head = f"{measured['task']} {measured['cell']} {sizes(measured)}"
    return (
        f"{head}: {times} ms; {100 * fraction(measured):.0f} % of the bound; barrier {barriers} ns"
    )


def sizes(measured):
    return ", ".join(map(str, measured["shape"]))


def heading(head, words):
    """The first two lines of a table, of which so many columns on the left are words."""
    return [markdown(head), markdown(["---"] * words + ["--:"] * (len(head) - words))]


def markdown(fields):
    return f"| {' | '.join(fields)} |"


def bold(ratio):
    return "" if ratio is None else f"**{ratio:.2f}**"


def milliseconds(seconds):
    value = 1e3 * statistics.median(seconds)
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}"
