# SPDX-License-Identifier: MIT
"""What the tests of device="cuda" share: layers beside their float64 twins on the host."""

import sys
import types

import fusedrnn
import numpy as np
import pytest
from fusedrnn.layers import KINDS
from layer_cases import flat

CELLS = [name for name in KINDS if not name.endswith("_norm")]
DTYPES = ("float32", "bfloat16")
T, N, I, H = 5, 3, 4, 7


def make(cell, dtype="float32", sizes=(I, H), **options):
    """A layer on the device."""
    kind, form = KINDS[cell]
    return kind(*sizes, **form, seed=1, dtype=dtype, device="cuda", **options)


def normal(dtype, *shape, seed=0):
    """Standard normal values that the dtype has exactly, on the device."""
    return fusedrnn.cuda.Array(np.random.default_rng(seed).standard_normal(shape), dtype)


def home(value):
    """Arrays of the device, tuples of them, or None, as float64 on the host."""
    if isinstance(value, tuple):
        return tuple(home(a) for a in value)
    return None if value is None else value.numpy().astype(np.float64)


def step(layer, x, state, lengths, dy, dstate, to=lambda a: a, change=lambda tape: None):
    """All results of a forward and backward pass, by name."""
    y, state_n, tape = layer.forward(to(x), to(state), lengths)
    change(tape)
    dx, dstate_0 = layer.backward(tape, to(dy), to(dstate))
    results = {"y": y, "dx": dx} | layer.grads
    results |= {f"state_n{k}": a for k, a in enumerate(flat(state_n))}
    return results | {f"dstate_0{k}": a for k, a in enumerate(flat(dstate_0))}


def inputs(layer, steps=T, rows=N):
    """x, a state, dy, dstate for a layer on the device."""
    dtype, D = str(layer.dtype), 1 + layer.bidirectional
    lead = (rows, steps) if layer.batch_first else (steps, rows)
    parts = (D * layer.num_layers, rows, layer.hidden_size)

    def state(seed):
        arrays = tuple(normal(dtype, *parts, seed=seed + k) for k in range(len(layer._letters)))
        return arrays if len(arrays) > 1 else arrays[0]

    x = normal(dtype, *lead, layer.input_size)
    return x, state(1), normal(dtype, *lead, D * layer.hidden_size, seed=9), state(3)


def check_parity(layer, assert_close, lengths=None, given=True, steps=T, rows=N):
    """Compare everything with the same layer in float64 on the host."""
    dtype = str(layer.dtype)
    twin = layer.to("cpu", dtype=np.float64)
    x, state, dy, dstate = inputs(layer, steps, rows)
    if not given:
        state = dstate = None
    results = step(layer, x, state, lengths, dy, dstate)
    expected = step(twin, x, state, lengths, dy, dstate, home)
    assert results.keys() == expected.keys()
    for name, a in results.items():
        assert a.dtype == dtype
        kind = "y" if name.startswith(("y", "state_n")) else "grad"
        assert_close(a.numpy(), expected[name], kind, dtype)


def assert_refused(cases):
    """Each is a call, its error, and a pattern that the error's text begins with."""
    for call, error, message in cases:
        with pytest.raises(error, match=f"^{message}"):
            call()


def assert_refused_as_x(cases):
    """Each is an input of a layer, its error, and a pattern that the error's text begins with."""
    layer = make("gru")
    assert_refused((lambda bad=bad: layer(bad), *expected) for bad, *expected in cases)


class Foreign:
    """An array of another library: the memory of one of ours, and the stream it was asked for."""

    def __init__(self, array):
        self.array, self.streams = array, []

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    def __dlpack__(self, *, stream=None):
        self.streams.append(stream)
        return self.array.__dlpack__(stream=stream)

    @property
    def device(self):
        return self.array.device


class Interface:
    """The same by the CUDA array interface, with changes."""

    def __init__(self, array, **changes):
        self.array, self.changes = array, changes

    @property
    def __cuda_array_interface__(self):
        return self.array.__cuda_array_interface__ | self.changes


def library(monkeypatch, name, **more):
    """Let Foreign be of a library of this name, with a from_dlpack."""
    module = types.SimpleNamespace(from_dlpack=Foreign, **more)
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(Foreign, "__module__", f"{name}.tensors")
