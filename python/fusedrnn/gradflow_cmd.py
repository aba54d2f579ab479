# SPDX-License-Identifier: MIT
"""`fusedrnn gradflow`: how far the error reaches back, as a picture and as a table."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np

from . import plot
from .errors import InputError
from .gradflow import gate_saturation, gradient_flow
from .layers import KINDS
from .run import load_model
from .weights import Array

__all__ = ["gradflow"]

CELLS = ("rnn_tanh", "lstm", "gru")
ROWS, INPUTS, HIDDEN = 16, 16, 64
SHOWN = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500)


def gradflow(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    plot.file_kind(args.out)  # refuses now what would be refused after the work
    flows: dict[str, tuple[Array, Array, dict[str, float]]] = {}
    lags, cases = [lag for lag in SHOWN if lag <= args.steps], list(_cases(args))
    print(f"{'':28}" + "".join(f"{lag:>9}" for lag in lags) + "   saturated gates")
    for name, layer, x in cases:
        flow, gates = gradient_flow(layer, x), gate_saturation(layer, x)[-1]
        by_lag = flow.by_lag[:, -1] / flow.by_lag[0, -1]
        flows[name] = by_lag, flow.by_step, gates
        shares = " ".join(f"{gate} {100 * share:.0f} %" for gate, share in gates.items())
        row = "".join(f"{by_lag[lag]:9.1e}" for lag in lags)
        print(f"{name:28}{row}   {shares}", flush=True)
    plot.gradient_flow(args.out, flows)
    print(args.out)
    return 0


def _cases(args: argparse.Namespace) -> Iterator[tuple[str, Any, Array]]:
    """Yield a name, a layer and an input: fresh layers, or a trained one and what it writes."""
    if args.model is not None:
        if args.cells or args.hidden:
            raise InputError("--cells and --hidden are for fresh layers, a model has its own")
        model = load_model(args.model)
        text = "".join(model.generate("", args.steps * ROWS, seed=args.seed))
        rows = model.vocabulary.encode(text).reshape(ROWS, args.steps)
        yield str(args.model), model.rnn, np.ascontiguousarray(rows.T)
        return
    x = np.random.default_rng(args.seed).standard_normal((args.steps, ROWS, INPUTS), np.float32)
    for cell in dict.fromkeys(args.cells or CELLS):
        layer, options = KINDS[cell]
        yield cell, layer(INPUTS, args.hidden or HIDDEN, seed=args.seed, **options), x
