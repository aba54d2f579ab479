# SPDX-License-Identifier: MIT
"""`Frozen`: the layer's own bits, by sequence and step by step, for any N and any threads."""

import copy
import gc
import pickle
import weakref
from itertools import product

import fusedrnn
import numpy as np
import pytest
from fusedrnn import _core
from fusedrnn.weights import Weights
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import FORMS, make_problem, run_forward
from layer_cases import DTYPES, LAYERS, flat, like


def assert_same(a, b):
    for one, other in zip(flat(a), flat(b), strict=True):
        np.testing.assert_array_equal(one, other)


def random_state(layer, N, seed=0):
    return like(layer.zero_state(N), np.random.default_rng(seed))


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LAYERS)
def test_steps_are_the_sequence(name, dtype, in_place, isa):
    layer = LAYERS[name](5, 37, num_layers=2, dtype=dtype, seed=0)
    frozen, x = layer.freeze(), np.random.default_rng(1).standard_normal((6, 3, 5)).astype(dtype)
    state = random_state(layer, 3)
    y, wanted = layer(x, state)
    for t, x_t in enumerate(x):
        state = frozen.step(x_t, state, out=state if in_place else None)
        np.testing.assert_array_equal(flat(state)[0][-1], y[t])
    assert_same(state, wanted)


@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"batch_first": True}])
@pytest.mark.parametrize("name", LAYERS)
def test_a_sequence_is_the_layer_s(name, options):
    layer = LAYERS[name](5, 37, num_layers=2, seed=0, **options)
    x = np.random.default_rng(1).standard_normal((6, 3, 5), np.float32)
    state = random_state(layer, x.shape[0 if layer.batch_first else 1])
    for given_state in (None, state):
        (y, state_n), (wanted, wanted_n) = layer.freeze()(x, given_state), layer(x, given_state)
        np.testing.assert_array_equal(y, wanted)
        assert_same(state_n, wanted_n)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LAYERS)
def test_one_layer_is_the_layer_s(name, dtype, threads):
    layer = LAYERS[name](5, 37, dtype=dtype, seed=0)
    for T, N in ((1, 1), (6, 3), (40, 17)):
        x = np.random.default_rng(T).standard_normal((T, N, 5)).astype(dtype)
        full = np.full(N, T)
        ends = np.random.default_rng(T).permutation(np.arange(N) * T // N)
        ends[-1] = T
        for count in (1, 3):
            threads(count)
            for state, lengths in product((None, random_state(layer, N)), (None, ends, full)):
                (y, state_n), (wanted, wanted_n) = (
                    layer.freeze()(x, state, lengths),
                    layer(x, state, lengths),
                )
                assert y.flags.writeable
                np.testing.assert_array_equal(y, wanted)
                assert_same(state_n, wanted_n)
                assert [a.shape for a in flat(state_n)] == [a.shape for a in flat(wanted_n)]


def bad_calls():
    x, h = np.zeros((4, 3, 5), np.float32), np.zeros((1, 3, 7), np.float32)
    yield from ([x.tolist(), None], [x.astype(float), None], [x[:, :, :4], None], [x[:0], None])
    yield [np.zeros((4, 3, 10), np.float32)[:, :, :5], None]
    yield from ([x.transpose(1, 0, 2), None], [x[0], None], [np.ma.array(x), None])
    for bad in (h[:, :2], np.zeros((2, 3, 7), np.float32), h[0], h.astype(float), h.tolist()):
        yield [x, bad]
    yield from ([x, np.zeros((1, 3, 14), np.float32)[:, :, ::2]], [x, (h, h, h)], [x, ()], [x, 3])


@pytest.mark.parametrize("name", ["rnn_tanh", "lstm", "gru"])
@pytest.mark.parametrize("lengths", [None, np.array([1, 4, 0])])
def test_one_layer_in_one_direction_takes_the_short_way(name, lengths, monkeypatch):
    layer, x = LAYERS[name](5, 7, seed=0), np.ones((4, 3, 5), np.float32)
    frozen, state = layer.freeze(), layer.zero_state(3)
    wanted, _ = layer(x, state, lengths)
    monkeypatch.setattr(type(frozen._layer), "_checked", None)
    for before in (None, state):
        np.testing.assert_array_equal(frozen(x, before, lengths)[0], wanted)


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_words_for_what_is_wrong_are_the_layer_s(name):
    layer = LAYERS[name](5, 7, seed=0)
    frozen = layer.freeze()
    for x, h in bad_calls():
        states = [h] if name == "gru" or h is None else [h, [h, h], (h, h), (np.zeros_like(x), h)]
        for state in states:
            for lengths in (None, np.array([1, 4, 0]), np.array([1, 4]), [1, 2, 3]):
                with pytest.raises((TypeError, ValueError)) as wanted:
                    layer(x, state, lengths)
                with pytest.raises(wanted.type) as got:
                    frozen(x, state, lengths)
                assert str(got.value) == str(wanted.value)
    layer(mapped := np.zeros((4, 3, 5), np.float32).view(np.memmap))
    assert_same(frozen(mapped), layer(mapped))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_rows_and_threads_on_panels_for_others(data):
    """Panels packed for one number of rows serve any other, and any cut among threads."""
    cell, isa = data.draw(st.sampled_from(list(FORMS))), data.draw(st.sampled_from(_core.isas()))
    sizes = {"T": (1, 4), "N": (1, 40), "I": (1, 40), "H": (1, 200), "rows": (1, 40), "n": (1, 5)}
    T, N, I, H, rows, n = (data.draw(st.integers(*r), name) for name, r in sizes.items())
    p = make_problem(cell, T=T, N=N, I=I, H=H, dtype="float32", tokens=data.draw(st.booleans()))
    before = _core.isa(), _core.num_threads()
    try:
        _core.set_isa(isa)
        _core.set_num_threads(1)
        wanted = run_forward(p)
        _core.set_num_threads(n, beyond_processors=True)
        packed = _core.pack(p.cell, tuple(p.weights), rows)
        y, state_n = np.empty_like(wanted[0]), tuple(map(np.empty_like, wanted[1]))
        _core.infer(packed, p.x, p.state, False, y, state_n)
    finally:
        _core.set_isa(before[0])
        _core.set_num_threads(before[1])
    np.testing.assert_array_equal(y, wanted[0])
    assert_same(state_n, wanted[1])


@pytest.mark.parametrize("n", [1, 2, 3])
def test_in_place_on_threads(n, threads):
    """The new state is written only when every thread has read the old one."""
    layer = fusedrnn.GRU(64, 500, seed=0)
    frozen, x = layer.freeze(), np.ones((2, 64), np.float32)
    threads(1)
    state = wanted = random_state(layer, 2)
    for _ in range(5):
        wanted = frozen.step(x, wanted)
    threads(n)
    for _ in range(5):
        assert frozen.step(x, state, out=state) is state
    np.testing.assert_array_equal(state, wanted)


def test_tokens_and_streams_that_come_and_go():
    layer = fusedrnn.LSTM(9, 16, seed=0)
    frozen, state = layer.freeze(), random_state(layer, 4)
    one = frozen.step(np.array([1, 2, 3, 4]), state)
    for keep in ([0, 2], [3]):
        rows = tuple(np.ascontiguousarray(a[:, keep]) for a in state)
        part = frozen.step(np.array([1, 2, 3, 4])[keep], rows)
        assert_same(part, tuple(a[:, keep] for a in one))


def test_weights_are_copied():
    layer = fusedrnn.GRU(3, 4, seed=0)
    frozen, x = layer.freeze(), np.ones((2, 1, 3), np.float32)
    before = layer(x)[0]
    layer.params["weight_hh_l0"][...] = 0
    np.testing.assert_array_equal(frozen(x)[0], before)
    assert (layer(x)[0] != before).any()  # while the layer's own call sees the change


def test_settings_of_the_layer_are_copied():
    layer = fusedrnn.GRU(3, 4, seed=0)
    frozen, x = layer.freeze(), np.ones((2, 1, 3), np.float32)
    wanted = frozen(x)[0]
    layer.zoneout_h = 0.5
    np.testing.assert_array_equal(frozen(x)[0], wanted)


def test_only_the_panels_are_kept():
    layer, x = fusedrnn.GRU(3, 4, seed=0), np.ones((2, 1, 3), np.float32)
    layer.backward(layer.forward(x)[2], np.ones((2, 1, 4), np.float32))
    frozen = layer.freeze()
    kept = [weakref.ref(a) for a in (*layer.params.values(), *layer.grads.values())]
    del layer
    gc.collect()
    assert not [ref for ref in kept if ref() is not None]
    frozen(x)


def test_copies_are_itself_and_pickle_refuses():
    frozen = LSTM.freeze()
    assert copy.copy(frozen) is copy.deepcopy(frozen) is frozen
    with pytest.raises(TypeError, match="pickle its layer"):
        pickle.dumps(frozen)


def test_nbytes_is_what_the_panels_take():
    """Even when memory is free that another call has left."""
    layer = fusedrnn.LSTM(64, 320, seed=0)
    layer.forward(np.zeros((38, 12, 64), np.float32))
    least = 4 * 4 * 320 * (64 + 320 + 2)
    assert least <= layer.freeze().nbytes <= least + 4 * 128


def test_more_layers_than_any_array_on_the_stack():
    layer = fusedrnn.RNN(1, 2, num_layers=70, seed=0)
    x = np.ones((1, 1, 1), np.float32)
    assert_same(layer.freeze().step(x[0], layer.zero_state(1)), layer(x)[1])


def test_the_instruction_set_is_kept(set_isa):
    layer, x = fusedrnn.LSTM(3, 20, seed=0), np.ones((2, 1, 3), np.float32)
    frozen = layer.freeze()
    wanted = frozen(x)[0]
    set_isa("baseline")
    np.testing.assert_array_equal(frozen(x)[0], wanted)


LSTM = fusedrnn.LSTM(3, 4, seed=0)
X, STATE = np.zeros((2, 3), np.float32), LSTM.zero_state(2)
WRONG = {
    "x of another width": (ValueError, "x: expected shape", (X[:, :2].copy(), STATE)),
    "x of another dtype": (TypeError, "x: expected float32", (X.astype("f8"), STATE)),
    "x with time": (ValueError, r"\(N, I\) with I = 3, got \(1, 2, 3\)", (X[None], STATE)),
    "tokens with time": (ValueError, r"tokens \(N,\), got \(1, 2\)", (np.ones((1, 2), int), STATE)),
    "x strided": (ValueError, "x: expected C-contiguous", (np.zeros((2, 6), "f")[:, ::2], STATE)),
    "token out of range": (ValueError, "x: expected tokens in 0..2", (np.array([0, 3]), STATE)),
    "state of other N": (ValueError, "state: expected shape", (X, LSTM.zero_state(1))),
    "c of other H": (ValueError, "c of state: expected", (X, (STATE[0], np.zeros((1, 2, 3), "f")))),
    "state not a tuple": (TypeError, "state: expected a tuple", (X, STATE[0])),
    "state of lists": (TypeError, "state: expected numpy", (X, ([0], [1]))),
    "x with a mask": (TypeError, "x: expected an array without a mask", (np.ma.array(X), STATE)),
    "tokens of another dtype": (TypeError, "int64 tokens, got int32", (np.zeros(2, "i4"), STATE)),
    "no state": (TypeError, "state: expected a tuple, got NoneType", (X, None)),
    "out crossed": (ValueError, "out: expected memory", (X, STATE, STATE[::-1])),
    "out twice": (ValueError, "out: expected memory", (X, STATE, (STATE[0], STATE[0]))),
    "out not a tuple": (TypeError, "out: expected a tuple", (X, STATE, STATE[0])),
}  # fmt: skip


@pytest.mark.parametrize(("error", "text", "arguments"), WRONG.values(), ids=WRONG)
def test_wrong_arguments(error, text, arguments):
    with pytest.raises(error, match=text):
        LSTM.freeze().step(*arguments)


def test_out_read_only():
    out = LSTM.zero_state(2)
    out[1].flags.writeable = False
    with pytest.raises(ValueError, match="out: expected a writable"):
        LSTM.freeze().step(X, STATE, out=out)


def test_two_directions_have_no_step():
    layer = fusedrnn.RNN(3, 4, bidirectional=True)
    with pytest.raises(ValueError, match="one direction"):
        layer.freeze().step(X, layer.zero_state(2))


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, "2"])
def test_wrong_batch_size(batch_size):
    with pytest.raises((TypeError, ValueError), match="batch_size"):
        LSTM.freeze(batch_size)


def test_packed_by_hand():
    packed, two = _core.pack("lstm", Weights(*LSTM.params.values()), 1), np.zeros((2, 2, 4), "f")
    for run in (fusedrnn.functional.infer, fusedrnn.functional.forward):
        with pytest.raises(TypeError, match="weights: expected Weights, a tuple of 10, got Packed"):
            run("lstm", X[None], None, packed)
    with pytest.raises(TypeError, match="packed"):
        _core.step((_core.Packed.__new__(_core.Packed),), X, STATE, STATE)
    with pytest.raises(TypeError, match="packed"):
        _ = _core.Packed.__new__(_core.Packed).nbytes
    with pytest.raises(ValueError, match="rows"):
        _core.pack("lstm", Weights(*LSTM.params.values()), 2**62)
    with pytest.raises(ValueError, match="stack"):
        _core.step((), X, STATE, STATE)
    with pytest.raises(ValueError, match="stack"):
        _core.step((packed, packed), X, (two, two.copy()), (two.copy(), two.copy()))


@pytest.mark.parametrize("layer", [None, fusedrnn.Linear(3, 3), fusedrnn.LSTMCell(3, 3)])
def test_what_is_no_layer(layer):
    with pytest.raises(TypeError, match=r"^layer: expected RNN, LSTM or GRU, got"):
        fusedrnn.frozen.Frozen(layer, 1)
