# SPDX-License-Identifier: MIT
"""Lengths and resets of layers: against the reference and PyTorch, their bits, and errors."""

import tracemalloc

import fusedrnn
import numpy as np
import pytest
from fusedrnn import functional, reference
from fusedrnn.ragged import Ragged
from layer_cases import LAYERS, flat, like
from ragged_cases import LENGTHS, H, I, N, T, assert_results, each_form, form_of


@pytest.mark.parametrize("batch_first", [False, True])
@each_form
@pytest.mark.parametrize("name", LAYERS)
def test_layers(name, form, batch_first, assert_close):
    """Deep and both ways; a frozen layer has the same bits."""
    options = {"num_layers": 2, "bidirectional": True, "batch_first": batch_first}
    layer = LAYERS[name](I, H, dtype=np.float64, seed=0, **options)
    rng, arguments = np.random.default_rng(0), form_of(form)
    shape = (N, T) if batch_first else (T, N)
    if batch_first and "resets" in arguments:
        arguments["resets"] = np.ascontiguousarray(arguments["resets"].T)
    x, dy = rng.standard_normal((*shape, I)), rng.standard_normal((*shape, 2 * H))
    results = []
    for engine in (functional, reference):
        layer.engine = engine
        layer.zero_grad()
        state = like(layer.zero_state(N), np.random.default_rng(1))
        y, state_n, tape = layer.forward(x, state, **arguments)
        dx, dstate = layer.backward(tape, dy, state_n)
        states = {f"state{k}": a for k, a in enumerate((*flat(state_n), *flat(dstate)))}
        results.append({"y": y, "dx": dx, **states} | {k: g.copy() for k, g in layer.grads.items()})
        if engine is functional:
            np.testing.assert_array_equal(layer.freeze()(x, state, **arguments)[0], y)
    assert_results(assert_close, *results)


@pytest.mark.parametrize("name", ["rnn_tanh", "lstm", "gru"])
def test_equals_packed_sequences_of_torch(name, assert_close):
    torch = pytest.importorskip("torch")
    lengths = np.array([3, 9, 2, 7, 7, 1])
    layer = LAYERS[name](I, H, num_layers=2, bidirectional=True, dtype=np.float64, seed=0)
    twin = getattr(torch.nn, type(layer).__name__)(
        I, H, num_layers=2, bidirectional=True, dtype=torch.float64
    )
    twin.load_state_dict({k: torch.from_numpy(a) for k, a in layer.state_dict().items()})
    x = np.random.default_rng(0).standard_normal((T, N, I))
    y, state_n = layer(x, lengths=lengths)
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        torch.from_numpy(x), torch.from_numpy(lengths), enforce_sorted=False
    )
    packed_y, theirs = twin(packed)
    padded, _ = torch.nn.utils.rnn.pad_packed_sequence(packed_y, total_length=T)
    wanted = {"y": padded.detach().numpy()}
    wanted |= {f"state{k}": a.detach().numpy() for k, a in enumerate(flat(theirs))}
    got = {"y": y} | {f"state{k}": a for k, a in enumerate(flat(state_n))}
    assert_results(assert_close, got, wanted)


LSTM = fusedrnn.LSTM(3, 4, seed=0)
X = np.zeros((5, 2, 3), np.float32)
WRONG = {
    "lengths of floats": ("lengths", np.ones(2), TypeError, "an ndarray of integers"),
    "lengths as a list": ("lengths", [1, 2], TypeError, "an ndarray of integers"),
    "lengths of another N": ("lengths", np.array([1]), ValueError, r"\(N,\) = \(2,\), got \(1,\)"),
    "lengths beyond T": ("lengths", np.array([1, 6]), ValueError, "0 to T = 5, got 1 to 6"),
    "negative lengths": ("lengths", np.array([-1, 2]), ValueError, "0 to T = 5, got -1 to 2"),
    "no step at all": ("lengths", np.array([0, 0]), ValueError, "one of 1 or more"),
    "resets of integers": ("resets", np.ones((5, 2), int), TypeError, "bool, got int64"),
    "resets of another T": ("resets", np.ones((4, 2), bool), ValueError, r"\(T, N\) = \(5, 2\)"),
}


@pytest.mark.parametrize(("name", "value", "kind", "text"), WRONG.values(), ids=WRONG)
def test_wrong_arguments(name, value, kind, text):
    for call in (LSTM, LSTM.forward, LSTM.freeze()):
        with pytest.raises(kind, match=f"{name}: expected .*{text}"):
            call(X, **{name: value})


@pytest.mark.parametrize("options", [{}, {"checkpoint": 3}])
@pytest.mark.parametrize("reach", [None, 2])
@pytest.mark.parametrize("engine", [functional, reference])
def test_lengths_and_resets_may_be_overwritten_after_forward(engine, reach, options):
    if reach is not None and options:
        return
    layer, dy = fusedrnn.GRU(I, H, seed=0), np.ones((T, N, H), np.float32)
    layer.engine = engine
    x = np.random.default_rng(0).standard_normal((T, N, I)).astype(np.float32)
    results = []
    for overwritten in (False, True):
        lengths, resets = LENGTHS.copy(), np.random.default_rng(3).random((T, N)) < 0.3
        _, _, tape = layer.forward(x, None, lengths, resets, **options)
        if overwritten:
            lengths[:], resets[:] = T, True
        layer.zero_grad()
        dx, _ = layer.backward(tape, dy, truncate=reach)
        results.append((dx, *(grad.copy() for grad in layer.grads.values())))
    for wanted, got in zip(*results, strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("reach", [None, 1])
@pytest.mark.parametrize("name", ["rnn_tanh", "lstm", "gru"])
def test_bits_of_both_directions_do_not_know_of_padding(name, reach, dtype):
    """The second direction adds to the dx of the first: the same way with padding and without."""
    layer = LAYERS[name](18, 4, num_layers=2, bidirectional=True, dtype=dtype, seed=0)
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal((3, 2, width)).astype(dtype) for width in (18, 8))

    def dx_of(rows, lengths, **options):
        layer.zero_grad()
        _, _, tape = layer.forward(x[:, :rows].copy(), lengths=np.array(lengths), **options)
        return layer.backward(tape, dy[:, :rows].copy(), truncate=reach)[0]

    alone = dx_of(1, [3])
    np.testing.assert_array_equal(dx_of(2, [3, 2])[:, :1], alone)
    np.testing.assert_array_equal(dx_of(2, [3, 3], checkpoint=1)[:, :1], alone)


@pytest.mark.parametrize("name", LAYERS)
def test_lengths_of_all_steps_are_none(name):
    layer, rng = LAYERS[name](I, H, bidirectional=True, seed=0), np.random.default_rng(0)
    x = rng.standard_normal((T, N, I)).astype(np.float32)
    resets = rng.random((T, N)) < 0.3
    results = []
    for lengths in (None, np.full(N, T)):
        layer.zero_grad()
        y, _, tape = layer.forward(x, None, lengths, resets)
        dx, _ = layer.backward(tape, np.ones_like(y))
        results.append((y, dx, *(grad.copy() for grad in layer.grads.values())))
    for wanted, got in zip(*results, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_rows_of_unequal_length_on_threads_that_share_units_or_rows(isa, threads):
    """Many rows, few units, more than one chunk; those with layer norm share the rows."""
    rng = np.random.default_rng(0)
    x, lengths = rng.standard_normal((20, 65, 5)).astype(np.float32), rng.integers(1, 21, 65)
    for kind in ("rnn_tanh", "lstm", "gru_reset_before", "lstm_norm", "gru_norm"):
        layer = LAYERS[kind](5, 48, seed=0)
        threads(1)
        wanted = layer(x, lengths=lengths)[0]
        for n in (2, 3):
            threads(n)
            for _ in range(20):
                np.testing.assert_array_equal(layer(x, lengths=lengths)[0], wanted)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_padding_is_taken_off_once_for_all_layers(bidirectional, dropout, monkeypatch):
    """So x is copied once, and what a layer reads is what the one below it wrote."""
    shapes, pack = [], Ragged.pack
    monkeypatch.setattr(Ragged, "pack", lambda self, a: shapes.append(a.shape) or pack(self, a))
    layer = fusedrnn.LSTM(I, H, 3, bidirectional=bidirectional, dropout=dropout, seed=0)
    D, R = 1 + bidirectional, LENGTHS.sum()
    y, _, tape = layer.forward(np.ones((T, N, I), np.float32), lengths=LENGTHS)
    values = 4 * R * (I + 3 * D * H + (2 * D * H if dropout else 0))
    assert tape.nbytes == values + sum(one.core.nbytes for one in tape.tapes)
    layer.backward(tape, y)
    assert shapes == [(T, N, I), (T, N, D * H)]
    assert all(np.size(kept) <= T + 1 for kept in vars(tape.ragged).values())
    resets = form_of("resets")["resets"]
    more = layer.forward(np.ones((T, N, I), np.float32), lengths=LENGTHS, resets=resets)[2]
    assert more.nbytes == tape.nbytes + 3 * D * resets.nbytes


def test_memory_is_that_of_the_valid_steps():
    lengths = np.ones(1000, int)
    lengths[5] = 20000
    tracemalloc.start()
    ragged = Ragged(lengths, 20000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert ragged.count == 20999
    assert peak < 8 * 8 * 20999


def test_tokens_of_the_padding_are_not_looked_at():
    tokens, lengths = np.array([[0, 1], [1, -1], [2, 9]]), np.array([3, 1])
    for noise in ({}, {"recurrent_dropout": 0.3}):
        layer = fusedrnn.GRU(4, 5, seed=0, **noise)
        layer.forward(tokens, lengths=lengths)
        assert len(list(fusedrnn.chunks(layer, tokens, 2, lengths=lengths))) == 2
        with pytest.raises(ValueError, match=r"^x: expected (tokens|indices) in .* got -1"):
            layer.forward(tokens, lengths=np.array([2, 3]))


def test_the_reference_takes_lengths_of_zero():
    weights, x = fusedrnn.GRU(2, 3, seed=0)._weights()[0], np.zeros((4, 2, 2), np.float32)
    y, (h,), _ = fusedrnn.reference.forward("gru", x, None, weights, lengths=np.zeros(2, int))
    assert not y.any()
    assert not h.any()


@pytest.mark.parametrize("engine", [functional, reference])
def test_tokens_past_the_lengths_are_not_read(engine):
    layer = fusedrnn.LSTM(I, H, seed=0)
    layer.engine = engine
    tokens = np.full((T, N), 1)
    wanted = layer(tokens, lengths=LENGTHS)[0]
    tokens[np.arange(T)[:, np.newaxis] >= LENGTHS] = -1
    np.testing.assert_array_equal(layer(tokens, lengths=LENGTHS)[0], wanted)
