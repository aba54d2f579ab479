# SPDX-License-Identifier: MIT
"""A picture of the table: each peer's time over ours, for every shape."""

import matplotlib
from contestants import PEERS, TASKS
from results import ratio, ready

matplotlib.use("svg")
import matplotlib.pyplot as plt

COLORS = {
    "kernels": "#1f5fbf",
    "torch": "#ee4c2c",
    "onnxruntime": "#555555",
    "openvino": "#7f3fbf",
    "jax": "#2a9d5c",
}
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "fusedrnn", "font.size": 8}


def speed(problems, results, path):
    """One panel for each cell and task, one column for each shape; above the line we are faster."""
    cells = list(dict.fromkeys(cell for cell, _ in problems))
    size = {"figsize": (11, 2.6 * len(cells) + 1), "sharey": True, "squeeze": False}
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(len(cells), 2, layout="constrained", **size)
        for row, cell in zip(axes, cells, strict=True):
            for ax, task in zip(row, TASKS, strict=True):
                found = [results.find(task, c, shape) for c, shape in problems if c == cell]
                _panel(ax, f"{cell}, {task}", [measured for measured in found if measured])
        handles, labels = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)


def _panel(ax, title, measured):
    for peer in PEERS:
        points = [(i, r) for i, m in enumerate(measured) if (r := ratio(m, peer, ready(m)))]
        if points:
            ax.plot(*zip(*points, strict=True), "o", ms=3.5, color=COLORS[peer], label=peer)
    ax.axhline(1, color="black", lw=0.8)
    ax.set(title=title, yscale="log", ylabel="their time / ours")
    ax.set_yticks([0.5, 1, 2, 5, 10, 20, 50], ["0.5", "1", "2", "5", "10", "20", "50"], minor=False)
    ax.minorticks_off()
    labels = [",".join(map(str, m["shape"])) for m in measured]
    ax.set_xticks(range(len(labels)), labels, rotation=60, ha="right", fontsize=6)
    ax.grid(axis="y", lw=0.3)
