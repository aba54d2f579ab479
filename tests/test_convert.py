# SPDX-License-Identifier: MIT
"""Weights from and to PyTorch's names: in dicts, in tensors, in files."""

import re

import fusedrnn
import numpy as np
import pytest
from fusedrnn import convert, from_state_dict, load_safetensors, save_safetensors, to_state_dict
from fusedrnn.layers import KINDS
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_cases import DTYPES, H, I

# What names and shapes do not tell
UNTOLD = ("nonlinearity", "reset_after", "coupled")

forms = st.fixed_dictionaries(
    {
        "num_layers": st.integers(1, 3),
        "bias": st.booleans(),
        "bidirectional": st.booleans(),
        "batch_first": st.booleans(),
        "dtype": st.sampled_from(DTYPES),
        "seed": st.integers(0, 99),
    }
)


def make(name, sizes, form, proj_size=0):
    """A layer of a cell, and what names and shapes do not tell of it."""
    kind, options = KINDS[name]
    projected = {"proj_size": proj_size} if proj_size and name in ("lstm", "lstm_peephole") else {}
    layer = kind(*sizes, **options, **projected, **form)
    untold = {name: value for name, value in options.items() if name in UNTOLD}
    return layer, untold | {"batch_first": form["batch_first"]}


def assert_same(layer, other):
    assert repr(layer) == repr(other)
    for name, a in layer.params.items():
        np.testing.assert_array_equal(a, other.params[name])


@settings(deadline=None, max_examples=15)
@given(form=forms, I=st.integers(1, 4), H=st.integers(2, 5))
@pytest.mark.parametrize("name", KINDS)
def test_layers_come_back_from_names_and_shapes(name, form, I, H):
    for proj_size in (0, 1):
        layer, untold = make(name, (I, H), form, proj_size)
        assert_same(from_state_dict(layer.state_dict(), **untold), layer)


@settings(deadline=None, max_examples=10)
@given(form=forms, I=st.integers(1, 4), H=st.integers(2, 5))
@pytest.mark.parametrize("name", KINDS)
def test_files_say_which_cell_they_hold(name, form, I, H, tmp_path_factory):
    pytest.importorskip("safetensors")
    layer, _ = make(name, (I, H), form, 1)
    path = tmp_path_factory.mktemp("files") / "layer.safetensors"
    save_safetensors(layer, path, "encoder.rnn.")
    assert_same(load_safetensors(path, "encoder.rnn."), layer)


@settings(deadline=None, max_examples=10)
@given(form=forms, I=st.integers(1, 4), H=st.integers(2, 5))
@pytest.mark.parametrize("kind", ["tanh", "relu", "LSTM", "projected", "GRU"])
def test_torch_both_ways(kind, form, I, H):
    """The parity probe inside compares outputs; here are names, sizes and options."""
    torch = pytest.importorskip("torch")
    own = {name: value for name, value in form.items() if name not in ("dtype", "seed")}
    dtype = torch.float32 if form["dtype"] is np.float32 else torch.float64
    untold = {"nonlinearity": kind} if kind in ("tanh", "relu") else {}
    more = untold | ({"proj_size": 1} if kind == "projected" else {})
    name = {"tanh": "RNN", "relu": "RNN", "projected": "LSTM"}.get(kind, kind)
    theirs = getattr(torch.nn, name)(I, H, dtype=dtype, **own, **more)
    model = torch.nn.ModuleDict({"encoder": theirs, "fc": torch.nn.Linear(1, 1)})
    before = torch.random.get_rng_state()
    ours = from_state_dict(
        model.state_dict(), "encoder.", batch_first=form["batch_first"], **untold
    )
    wanted = getattr(fusedrnn, name)(I, H, **own, **more, dtype=form["dtype"])
    assert repr(ours) == repr(wanted)
    again = to_state_dict(ours, "encoder.")
    assert torch.equal(torch.random.get_rng_state(), before)  # no probe drew from it
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(tensor, again[f"encoder.{name}"])


def test_files_of_torch(tmp_path):
    torch, files = pytest.importorskip("torch"), pytest.importorskip("safetensors.torch")
    theirs, path = torch.nn.GRU(I, H, 2, bidirectional=True), tmp_path / "model.safetensors"
    others = {"fc.weight": torch.zeros(2, 2, dtype=torch.bfloat16)}  # not ours to read
    model = {f"rnn.{name}": tensor for name, tensor in theirs.state_dict().items()}
    files.save_file(model | others, path)
    ours = load_safetensors(path, "rnn.", batch_first=True)
    assert repr(ours) == f"GRU({I}, {H}, num_layers=2, batch_first=True, bidirectional=True)"
    save_safetensors(ours, path)
    theirs.load_state_dict(files.load_file(path))


@pytest.mark.parametrize("options", [{"peephole": True}, {"layer_norm": True}, {"proj_size": 2}])
def test_what_only_an_lstm_has_tells_coupled_gates_from_a_gru(options):
    layer = fusedrnn.LSTM(I, H, coupled=True, seed=0, **options)
    assert_same(from_state_dict(layer.state_dict()), layer)


@pytest.mark.parametrize("name", ["rnn_tanh", "lstm", "gru"])
def test_a_later_cell_of_as_many_gates_takes_nothing_over(name, monkeypatch):
    """Names and shapes are PyTorch's: so is the layer, whoever else has the same."""
    kind, _ = KINDS[name]
    monkeypatch.setitem(KINDS, "later", (type("Later", (kind,), {}), {}))
    layer = kind(I, H, seed=0)
    assert_same(convert.layer_of(layer.params), layer)
    assert_same(convert.layer_of(layer.params, cell=name), layer)
    assert type(convert.layer_of(layer.params, cell="later")).__name__ == "Later"


def test_a_cell_by_its_name():
    layer = fusedrnn.GRU(I, H, reset_after=False, seed=0)
    assert_same(from_state_dict(layer.state_dict(), cell="gru_reset_before"), layer)
    with pytest.raises(ValueError, match=r"^cell: expected one of rnn_tanh, .*, got 'elman'$"):
        from_state_dict(layer.state_dict(), cell="elman")


def test_half_precision_needs_a_dtype():
    arrays = fusedrnn.LSTM(I, H, seed=0).state_dict()
    halves = {name: a.astype(np.float16) for name, a in arrays.items()}
    with pytest.raises(TypeError, match=r"^dtype: expected float32 or float64, got .*float16"):
        from_state_dict(halves)
    layer = from_state_dict(halves, dtype=np.float32)
    for name, a in halves.items():
        np.testing.assert_array_equal(layer.params[name], a.astype(np.float32))


def test_bfloat16_needs_a_dtype(tmp_path):
    """NumPy lacks it; the file is read without any library that has it."""
    torch, files = pytest.importorskip("torch"), pytest.importorskip("safetensors.torch")
    halves = {name: a.bfloat16() for name, a in torch.nn.LSTM(I, H).state_dict().items()}
    path = tmp_path / "layer.safetensors"
    files.save_file({f"a.{name}": a for name, a in halves.items()}, path)
    for dtype in DTYPES:
        for layer in (
            from_state_dict(halves, dtype=dtype),
            load_safetensors(path, "a.", dtype=dtype),
        ):
            assert layer.dtype == dtype
            for name, a in halves.items():
                np.testing.assert_array_equal(layer.params[name], a.float().numpy())
    for read in (lambda: from_state_dict(halves), lambda: load_safetensors(path, "a.")):
        with pytest.raises(TypeError, match=r"^dtype: expected float32 or float64, .* in bfloat16"):
            read()
    layer = fusedrnn.LSTM(I, H)
    layer.load_state_dict(halves)
    np.testing.assert_array_equal(layer.params["bias_hh_l0"], halves["bias_hh_l0"].float().numpy())
    extended = pytest.importorskip("ml_dtypes").bfloat16
    arrays = {name: a.float().numpy().astype(extended) for name, a in halves.items()}
    assert_same(from_state_dict(arrays, dtype=np.float32), layer)


def test_files_say_how_the_layer_was_made(tmp_path):
    pytest.importorskip("safetensors")
    path = tmp_path / "layer.safetensors"
    form = {"batch_first": True, "dropout": 0.25, "recurrent_dropout": 0.5}
    layer = fusedrnn.LSTM(I, H, 2, **form, zoneout_c=0.125)
    save_safetensors(layer, path)
    assert_same(load_safetensors(path), layer)
    assert load_safetensors(path, dropout=0.75, batch_first=False).dropout == 0.75
    save = pytest.importorskip("safetensors.numpy").save_file
    for text in ("[]", '{"seed": 3}', "{"):
        save(layer.params, path, {"options": text})
        with pytest.raises(ValueError, match=r"layer.safetensors: expected options of batch_first"):
            load_safetensors(path)
    save(layer.params, path, {"options": '{"dropout": "much"}'})
    with pytest.raises(TypeError, match=r"^dropout: "):
        load_safetensors(path)


def test_an_rnn_taken_as_tanh_is_said():
    relu = fusedrnn.RNN(I, H, nonlinearity="relu", seed=0)
    with pytest.warns(UserWarning, match=r"^nonlinearity: expected 'tanh' or 'relu', .* as tanh"):
        assert from_state_dict(relu.state_dict()).nonlinearity == "tanh"
    assert_same(from_state_dict(relu.state_dict(), nonlinearity="relu"), relu)


def test_what_is_refused():
    lstm = fusedrnn.LSTM(I, H, 2, seed=0).state_dict()
    gru = fusedrnn.GRU(I, H, seed=0).state_dict()
    model = {f"encoder.{name}": a for name, a in lstm.items()} | {"fc.weight": np.ones((2, 2))}
    names = "weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0"
    more = 7 * (1 + max(cell.gates for cell in fusedrnn.CELLS.values()))  # rows than any cell's
    for mapping, prefix, error, message in [
        ([], "", TypeError, "mapping: expected a mapping by name, got list"),
        (lstm, None, TypeError, "prefix: expected str, got NoneType"),
        (model, "", ValueError, "prefix: expected .*, got '', and layers at 'encoder.'"),
        ({}, "", ValueError, "prefix: expected .*, got '', and layers at no prefix"),
        (lstm | {"extra": gru["bias_ih_l0"]}, "", ValueError, "mapping: .*unknown: extra"),
        (gru | {"weight_ih_l9": 0}, "", ValueError, f"mapping: expected .*, got {names}, weight"),
        (gru | {"weight_hh_l0": np.ones((3, 3, 3))}, "", ValueError, "weight_hh_l0: expected 2"),
        (gru | {"weight_hh_l0": np.ones((more, 7))}, "", ValueError, f"weight_hh.* 7, got {more}"),
        (gru | {"bias_ih_l0": np.ones(3)}, "", ValueError, r"bias_ih_l0: expected shape \(3\*H,\)"),
        (gru | {"bias_ih_l0": np.ones(21, int)}, "", TypeError, "bias_ih_l0: expected a float"),
    ]:
        with pytest.raises(error, match=rf"^{message}"):
            from_state_dict(mapping, prefix)
    with pytest.raises(TypeError, match="'nonlinearity'"):
        from_state_dict(gru, nonlinearity="relu")


def test_what_torch_does_not_have_is_refused_by_name():
    for options, message in [
        ({"peephole": True}, "peephole: expected False, got True"),
        ({"coupled": True}, "coupled: expected False, got True"),
        ({"layer_norm": True}, "layer_norm: expected False, got True"),
        ({"zoneout_c": 0.1}, "zoneout_c: expected 0, got 0.1"),
    ]:
        with pytest.raises(ValueError, match=f"^{message}, which PyTorch does not have"):
            to_state_dict(fusedrnn.LSTM(I, H, **options))
    with pytest.raises(ValueError, match=r"^reset_after: expected True, got False"):
        to_state_dict(fusedrnn.GRU(I, H, reset_after=False))

    class Other(fusedrnn.GRU):
        """Of a cell that may be another."""

    with pytest.raises(ValueError, match=r"^layer: expected RNN, LSTM or GRU, got Other"):
        to_state_dict(Other(I, H))


def test_files_that_are_none_are_refused(tmp_path):
    pytest.importorskip("safetensors")
    path = tmp_path / "layer.safetensors"
    with pytest.raises(FileNotFoundError):
        load_safetensors(path)
    path.write_bytes(b"no safetensors")
    with pytest.raises(ValueError, match=r"layer.safetensors: not safetensors that NumPy can read"):
        load_safetensors(path)
    save_safetensors(fusedrnn.RNN(I, H), path, "a.")
    with pytest.raises(ValueError, match=r"^prefix: .*got 'b.', and layers at 'a.'"):
        load_safetensors(path, "b.")


def test_a_probe_finds_a_gate_out_of_place(monkeypatch):
    """Each kind of conversion ends in this comparison."""
    y = np.array([0.5, -0.25], np.float32)
    convert.check_parity("Theirs", [y], [y * np.float32(1 + 1e-6)])
    for other, message in [
        (y[::-1], "Theirs computes something else on a probe: a difference of 0.75, expected"),
        (y * np.nan, "Theirs computes something else on a probe"),
        (y[:1], re.escape("Theirs computes shape (1,) on a probe, got (2,)")),
    ]:
        with pytest.raises(RuntimeError, match=f"^{message}"):
            convert.check_parity("Theirs", [y], [other])
    infer = fusedrnn.reference.infer
    wrong = lambda cell, x, *a, **form: infer(cell, -x, *a, **form)  # noqa: E731
    monkeypatch.setattr(fusedrnn.reference, "infer", wrong)
    layer = fusedrnn.GRU(I, H, reset_after=False, seed=0)  # a cell that PyTorch does not have
    with pytest.raises(RuntimeError, match=r"^fusedrnn.reference computes something else"):
        from_state_dict(layer.state_dict(), reset_after=False)


@pytest.mark.parametrize(
    "value", [fusedrnn.Linear(2, 3), fusedrnn.GRUCell(2, 3), {}, "layer.safetensors"]
)
def test_what_is_no_layer(value, tmp_path):
    for write in (
        to_state_dict,
        lambda layer: save_safetensors(layer, tmp_path / "x"),
        fusedrnn.keras.to_keras,
        fusedrnn.onnx.to_onnx,
    ):
        with pytest.raises(TypeError, match="layer: expected RNN, LSTM or GRU, got "):
            write(value)
    assert not list(tmp_path.iterdir())


def test_sizes_that_disagree_are_refused_before_a_layer_is_made(monkeypatch):
    """A small file must not ask for all memory."""
    layer = fusedrnn.LSTM(I, H, num_layers=2, seed=0)
    monkeypatch.setitem(convert.BY_GATES, 4, None)
    for name in ("weight_ih_l0", "weight_ih_l1", "weight_hh_l1"):
        arrays = layer.state_dict() | {name: np.ones((1, 10**6), np.float32)}
        with pytest.raises(ValueError, match=f"{name}: expected {4 * H} rows, as weight_hh_l0 has"):
            convert.layer_of(arrays)


def test_a_damaged_layer_leaves_its_file_alone(tmp_path):
    pytest.importorskip("safetensors")
    layer, path = fusedrnn.GRU(I, H, seed=0), tmp_path / "gru.safetensors"
    save_safetensors(layer, path)
    before = path.read_bytes()
    del layer.params["weight_ih_l0"]
    with pytest.raises(ValueError, match="weight_ih_l0"):
        save_safetensors(layer, path)
    assert path.read_bytes() == before


def test_what_is_set_in_pytorch_does_not_matter():
    """Autocast and a default device; arrays that it cannot read."""
    torch = pytest.importorskip("torch")
    layer = fusedrnn.GRU(I, H, seed=0)
    for setting in (torch.autocast("cpu", torch.bfloat16), torch.device("meta")):
        with setting:
            assert_same(from_state_dict(layer.state_dict()), layer)
            to_state_dict(layer)
    arrays = layer.state_dict()
    arrays = {k: np.ascontiguousarray(a[::-1])[::-1].astype(">f4") for k, a in arrays.items()}
    assert_same(from_state_dict(arrays, dtype=np.float32), layer)
