# SPDX-License-Identifier: MIT
"""Layers with device="cuda": results against float64 on the host, states, weights, copies."""

import concurrent.futures
import copy
import importlib.util
import itertools
import pickle
import threading

import fusedrnn
import fusedrnn.onnx
import numpy as np
import pytest
from cuda_cases import CELLS, DTYPES, H, I, N, T, check_parity, home, inputs, make, normal, step
from layer_cases import flat

LENGTHS = np.array([2, 5, 0])
OF_PLAN = "cell", "N", "H", "directions", "dtype", "stage"
pytestmark = pytest.mark.usefixtures("cuda")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "lengths"])
@pytest.mark.parametrize("given", [True, False], ids=["state", "zeros"])
@pytest.mark.parametrize(
    "options",
    [{}, {"bidirectional": True}, {"bias": False}],
    ids=["plain", "both", "no_bias"],
)
@pytest.mark.parametrize("cell", CELLS)
def test_parity(cell, options, given, lengths, dtype, assert_close):
    check_parity(make(cell, dtype, **options), assert_close, lengths, given)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", ["lstm", "gru_reset_before"])
def test_parity_of_stacks(cell, dtype, assert_close):
    options = {"num_layers": 3, "bidirectional": True, "batch_first": True}
    check_parity(make(cell, dtype, **options), assert_close, LENGTHS)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "sizes", [(1, 1, 1, 1), (2, 1, 3, 16), (1, 17, 1, 9), (3, 33, 5, 24), (2, 4, 70, 33)]
)
def test_parity_of_sizes(sizes, dtype, assert_close):
    steps, rows, *widths = sizes
    layer = make("gru", dtype, widths, bidirectional=True)
    check_parity(layer, assert_close, steps=steps, rows=rows)


def test_a_device_too_small_for_the_whole_loop(emulated, cuda, assert_close):
    sizes = I, 40
    assert cuda.plan("lstm", N, 40, directions=2).persistent
    emulated(multiprocessors=1)
    for stage in ("inference", "training", "backward"):
        assert not cuda.plan("lstm", N, 40, directions=2, stage=stage).persistent
    check_parity(make("lstm", sizes=sizes, bidirectional=True), assert_close, LENGTHS)


def test_plans_do_not_depend_on_those_before(emulated, cuda):
    kinds = itertools.product(
        ("lstm", "gru_reset_before"), (N, 99), (20, 300), (1, 2), DTYPES, ("training", "backward")
    )
    options = [dict(zip(OF_PLAN, kind, strict=True)) for kind in kinds]

    def plan(kind):
        return cuda.plan(**kind)

    def alone(kind):
        emulated(multiprocessors=20)
        return plan(kind)

    expected = [alone(kind) for kind in options]
    assert len({(kind.persistent, kind.shared_bytes) for kind in expected}) > 12
    emulated(multiprocessors=20)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(plan, options * 3)) == expected * 3


@pytest.mark.parametrize("seed", [1, 2])
def test_any_order_of_threads(emulated, seed, assert_close):
    emulated(seed=seed, check_ldg=True)
    for cell in ("lstm_peephole", "gru_reset_before"):
        check_parity(make(cell, "bfloat16", bidirectional=True), assert_close, LENGTHS)


def test_inference_is_forward_without_a_tape():
    for cell in CELLS:
        layer = make(cell, num_layers=2, bidirectional=True)
        x, state, *_ = inputs(layer)
        y, state_n = layer(x, state, LENGTHS)
        expected, expected_n, tape = layer.forward(x, state, LENGTHS)
        assert tape.nbytes > 0
        for a, b in zip((y, *flat(state_n)), (expected, *flat(expected_n)), strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_gradients_are_added_and_a_tape_serves_again():
    layer = make("lstm", num_layers=2)
    x, state, dy, dstate = inputs(layer)
    _, _, tape = layer.forward(x, state)
    dx, _ = layer.backward(tape, dy, dstate)
    once = {name: a.numpy() for name, a in layer.grads.items()}
    again, _ = layer.backward(tape, dy, dstate)
    np.testing.assert_array_equal(dx.numpy(), again.numpy())
    for name, a in layer.grads.items():
        np.testing.assert_array_equal(a.numpy(), 2 * once[name])
    layer.backward(tape, dy, dstate, accumulate=False)
    for name, a in layer.grads.items():
        np.testing.assert_array_equal(a.numpy(), once[name])
    layer.zero_grad()
    assert not any(a.numpy().any() for a in layer.grads.values())


@pytest.mark.parametrize("cell", ["lstm", "gru_reset_before"])
def test_the_state_of_a_row_without_steps_is_not_read(cell):
    layer = make(cell, bidirectional=True)
    x, state, dy, dstate = inputs(layer)
    parts = [np.where(LENGTHS[:, np.newaxis] == 0, np.nan, part.numpy()) for part in flat(state)]
    given = tuple([fusedrnn.cuda.Array(part, "float32") for part in parts])
    _, _, tape = layer.forward(x, given if len(given) > 1 else given[0], LENGTHS)
    layer.backward(tape, dy, dstate)
    for name, a in layer.grads.items():
        assert np.isfinite(a.numpy()).all(), name


def test_no_gradient_of_y_is_zeros():
    layer = make("gru")
    x, _, dy, dstate = inputs(layer)
    results = [layer.backward(layer.forward(x)[2], g, dstate) for g in (None, _zeros(dy))]
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def _zeros(a):
    return fusedrnn.cuda.Array(np.zeros(a.shape, np.float32))


def test_changed_weights_are_seen():
    layer = make("rnn_tanh")
    x = normal("float32", T, N, I)
    before = layer(x)[0].numpy()
    layer.params["weight_hh_l0"].copy_from(np.zeros((H, H)))
    assert np.abs(layer(x)[0].numpy() - before).max() > 0.01
    layer.params["weight_hh_l0"] = fusedrnn.cuda.Array(layer.to("cpu").params["weight_hh_l0"])
    assert layer(x)[0].shape == (T, N, H)


@pytest.mark.parametrize("dtype", DTYPES)
def test_from_device_to_device(dtype):
    host = fusedrnn.LSTM(I, H, 2, bidirectional=True, peephole=True, batch_first=True, seed=3)
    layer = host.to("cuda", dtype)
    assert isinstance(layer, fusedrnn.LSTM)
    assert repr(layer) == repr(host)[:-1] + f"{', dtype=bfloat16' * (dtype != 'float32')}" + (
        ", device='cuda')"
    )
    back = layer.to("cpu")  # float32, which the host has for bfloat16
    for name, a in host.params.items():
        limit = 0 if dtype == "float32" else 2.0**-8
        np.testing.assert_allclose(back.params[name], a, rtol=limit, atol=0)
        np.testing.assert_array_equal(layer.state_dict()[name], back.params[name])


def test_state_dicts():
    a, b = make("gru"), make("gru")
    values = {name: value * 2 for name, value in a.state_dict().items()}
    arrays = dict(b.params)
    b.load_state_dict(values | {"bias_hh_l0": fusedrnn.cuda.Array(values["bias_hh_l0"])})
    for name, value in b.state_dict().items():
        np.testing.assert_array_equal(value, values[name])
        assert b.params[name] is arrays[name]
    with pytest.raises(ValueError, match=r"^weight_ih_l0: expected shape \(3\*H, I\) = "):
        b.load_state_dict(values | {"weight_ih_l0": np.zeros((2, 2))})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_conversions(cell, dtype, tmp_path):
    """Onto a device, and from one to what other libraries read."""
    layer = make(cell, dtype)
    values = layer.state_dict()
    made = [fusedrnn.from_state_dict(values, device="cuda", dtype=dtype)]
    if importlib.util.find_spec("safetensors"):
        path = tmp_path / "layer.safetensors"
        fusedrnn.save_safetensors(layer, path)
        made.append(fusedrnn.load_safetensors(path, device="cuda", dtype=dtype))
    for one in made:
        assert (one.device, str(one.dtype)) == ("cuda", dtype)
        for name, value in one.state_dict().items():
            np.testing.assert_array_equal(value, values[name])
    assert str(fusedrnn.from_state_dict(values, device="cuda").dtype) == "float32"
    if importlib.util.find_spec("onnx"):
        initializers = fusedrnn.onnx.to_onnx(layer).graph.initializer
        assert len(initializers) == len(fusedrnn.onnx.to_onnx(layer.to("cpu")).graph.initializer)
    if importlib.util.find_spec("torch"):
        for name, value in fusedrnn.convert.to_state_dict(layer).items():
            np.testing.assert_array_equal(value.numpy(), values[name])


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))])
@pytest.mark.parametrize("dtype", DTYPES)
def test_copies(duplicate, dtype):
    layer = make("lstm", dtype)
    other = duplicate(layer)
    x = normal(dtype, T, N, I)
    np.testing.assert_array_equal(layer(x)[0].numpy(), other(x)[0].numpy())
    other.params["bias_ih_l0"].copy_from(np.ones(4 * H))
    assert (layer.params["bias_ih_l0"].numpy() != 1).all()


def test_files(tmp_path):
    pytest.importorskip("safetensors")
    layer = fusedrnn.LSTM(I, H, device="cuda", dtype="bfloat16")
    fusedrnn.save_safetensors(layer, tmp_path / "layer.safetensors")
    loaded = fusedrnn.load_safetensors(tmp_path / "layer.safetensors")
    for name, value in layer.state_dict().items():
        np.testing.assert_array_equal(loaded.params[name], value)


def test_zero_state():
    for cell in ("lstm", "gru"):
        layer = make(cell, num_layers=2)
        x = normal("float32", T, N, I)
        y, _ = layer(x, layer.zero_state(N))
        np.testing.assert_array_equal(y.numpy(), layer(x)[0].numpy())


def test_pieces_of_a_sequence_are_the_sequence():
    layer = make("lstm", num_layers=2)
    x = normal("float32", 6, N, I)
    whole, state_n = layer(x)
    state, parts = None, []
    for first in (0, 2):
        stretch = fusedrnn.cuda.Array(x.numpy()[first : first + 2 + first])
        y, state = layer(stretch, state)
        parts.append(y.numpy())
    np.testing.assert_array_equal(np.concatenate(parts), whole.numpy())
    for a, b in zip(state, state_n, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_layers_take_turns():
    first, second = make("lstm"), make("gru", "bfloat16", bidirectional=True)
    expected = [{name: home(a) for name, a in _step(one).items()} for one in (first, second)]
    for layer, wanted in ((first, expected[0]), (second, expected[1])) * 2:
        layer.zero_grad()
        for name, a in _step(layer).items():
            np.testing.assert_array_equal(home(a), wanted[name])


def _step(layer):
    x, state, dy, dstate = inputs(layer)
    return step(layer, x, state, LENGTHS, dy, dstate)


def test_threads_of_the_host():
    layer, x = make("lstm", bidirectional=True), normal("float32", T, N, I)
    expected, got = layer(x)[0].numpy(), []
    workers = [
        threading.Thread(target=lambda: got.extend(layer(x)[0].numpy() for _ in range(5)))
        for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(got) == 15
    for y in got:
        np.testing.assert_array_equal(y, expected)
