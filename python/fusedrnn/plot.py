# SPDX-License-Identifier: MIT
"""The pictures of the command line."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .errors import InputError, load_extra
from .weights import Array

__all__ = ["gradient_flow", "load_matplotlib", "loss_curve"]


def load_matplotlib(module: str = "matplotlib") -> Any:
    """Import Matplotlib, or a module of it, without the backend that a notebook asks for.

    Its import fails where that is not installed, and we only write files.

    Raises
    ------
    InputError
        As `load_extra`.
    """
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        return load_extra(module)
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend


def loss_curve(
    path: Path, losses: Sequence[float], characters_per_step: int, held_out: float, title: str
) -> None:
    """Draw the loss over the characters read, as a PNG.

    Parameters
    ----------
    path : Path
        To write.
    losses : sequence of float
        Of every step, in nats per character.
    characters_per_step : int
    held_out : float
        Loss on the text held out, in nats per character.
    title : str

    Raises
    ------
    InputError
        The file cannot be written.
    """
    bits = np.asarray(losses) / math.log(2)
    read = characters_per_step * np.arange(1, bits.size + 1)
    window = max(1, bits.size // 50)
    sums = np.cumsum(np.concatenate(([0.0], bits)))
    smooth = (sums[window:] - sums[:-window]) / window

    figure = load_matplotlib("matplotlib.figure").Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(read, bits, color="tab:blue", alpha=0.3, linewidth=0.8, label="training, each step")
    axes.plot(read[window - 1 :], smooth, color="tab:blue", label=f"training, mean of {window}")
    axes.axhline(held_out / math.log(2), color="tab:red", linestyle="--", label="held out, at end")
    axes.set(xlabel="characters read", ylabel="bits per character", title=title)
    axes.set_ylim(0, float(np.ceil(bits.max())))
    axes.grid(alpha=0.3)
    axes.legend(loc="upper right")
    _save(figure, path, "png")


def file_kind(path: Path) -> str:
    """Return what kind of file a picture will be; raise as `gradient_flow`."""
    kinds = load_matplotlib("matplotlib.backend_bases").FigureCanvasBase.get_supported_filetypes()
    kinds = [kind for kind in kinds if kind != "pgf"]  # which wants LaTeX
    kind = path.suffix[1:].lower() or "png"
    if kind not in kinds:
        raise InputError(f"{path}: expected a suffix of {', '.join(kinds)}, got {path.suffix}")
    if path.is_dir():
        raise InputError(f"{path}: expected the path of a picture, got a folder")
    if not path.parent.is_dir():
        raise InputError(f"{path}: expected a path in a folder that exists, got {path.parent}")
    return kind


def gradient_flow(
    path: Path, flows: Mapping[str, tuple[Array, Array, Mapping[str, float]]]
) -> None:
    """Draw the gradient's norm by lag and by step, and the saturated gates, as a PNG or SVG.

    Parameters
    ----------
    path : Path
        To write.
    flows : mapping of str to tuple
        By name: norms by lag (T + 1,), by step (T,), and the share of each gate in [0, 1].

    Raises
    ------
    InputError
        A suffix of path that Matplotlib does not write (without one it is a PNG), no folder, or
        the file cannot be written.
    """
    kind = file_kind(path)
    figure = load_matplotlib("matplotlib.figure").Figure(figsize=(15, 4.5), layout="constrained")
    lags, steps, gates = figure.subplots(1, 3)
    for name, (by_lag, by_step, shares) in flows.items():
        label = _label(name)
        (line,) = lags.semilogy(np.where(by_lag > 0, by_lag, np.nan), ".-", label=label)
        steps.semilogy(np.where(by_step > 0, by_step, np.nan), ".-", color=line.get_color())
        for gate, share in shares.items():
            gates.bar(f"{label} {gate}", 100 * share, color=line.get_color())
    lags.set(xlabel="lag (steps back)", ylabel="‖∂L/∂h‖", title="gradient of the last output")
    steps.set(xlabel="step", ylabel="‖∂L/∂W‖", title="what a step adds to the weights' gradients")
    gates.set(ylabel="%", ylim=(0, 100), title="saturated gates")
    gates.tick_params(axis="x", rotation=90)
    for axes in (lags, steps, gates):
        axes.grid(alpha=0.3)
    lags.legend()
    _save(figure, path, kind)


def _label(name: str) -> str:
    r"""Return what Matplotlib draws as the name: `$` begins a formula, `_` hides from a legend."""
    text = os.fsencode(name).decode(errors="replace").replace("$", r"\$")
    return " " + text if text.startswith("_") else text


def _save(figure: Any, path: Path, kind: str) -> None:
    try:
        figure.savefig(path, dpi=120, format=kind)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
