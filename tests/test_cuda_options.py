# SPDX-License-Identifier: MIT
"""device="cuda": the options of a layer there, and which are refused, in which words."""

import pickle

import fusedrnn
import numpy as np
import pytest
from cuda_cases import H, I, make
from fusedrnn.cuda.recurrent import ON_DEVICE
from fusedrnn.layers import KINDS

# Of layers with device="cuda"
REFUSED = [
    (
        fusedrnn.LSTM,
        {"dropout": 0.5, "num_layers": 2},
        ValueError,
        'dropout: expected 0 with device="cuda", got 0.5',
    ),
    (
        fusedrnn.RNN,
        {"recurrent_dropout": 0.5},
        ValueError,
        "recurrent_dropout: expected 0 with",
    ),
    (fusedrnn.GRU, {"zoneout_h": 0.5}, ValueError, "zoneout_h: expected 0 with"),
    (fusedrnn.LSTM, {"zoneout_c": 0.5}, ValueError, "zoneout_c: expected 0 with"),
    (fusedrnn.LSTM, {"proj_size": 2}, ValueError, "proj_size: expected 0 with"),
    (fusedrnn.LSTM, {"layer_norm": True}, ValueError, "layer_norm: expected False with"),
    (fusedrnn.GRU, {"layer_norm": True}, ValueError, "layer_norm: expected False with"),
    (
        fusedrnn.GRU,
        {"dtype": np.float64},
        TypeError,
        "dtype: expected float32 or bfloat16, got",
    ),
    (
        fusedrnn.GRU,
        {"dtype": "float16"},
        TypeError,
        "dtype: expected float32 or bfloat16, got 'float16'",
    ),
    (fusedrnn.GRU, {"dtype": None}, TypeError, "dtype: expected float32 or bfloat16, got None"),
    (
        fusedrnn.GRU,
        {"device": "gpu"},
        ValueError,
        "device: expected cpu, cuda or cuda:0, cuda:1",
    ),
    (fusedrnn.GRU, {"device": "cuda:01"}, ValueError, "device: expected cpu, cuda or cuda:0"),
    (
        fusedrnn.GRU,
        {"device": "cuda:99"},
        ValueError,
        "device: expected cuda:0 to cuda:0, got 'cuda:99'",
    ),
    (fusedrnn.GRU, {"device": 0}, TypeError, "device: expected str, got int"),
    (fusedrnn.GRU, {"device": None}, TypeError, "device: expected str, got NoneType"),
]


@pytest.mark.parametrize(("kind", "options", "error", "message"), REFUSED)
@pytest.mark.usefixtures("cuda")
def test_what_layers_refuse(kind, options, error, message):
    with pytest.raises(error, match=f"^{message}"):
        kind(I, H, **({"device": "cuda"} | options))


@pytest.mark.parametrize(
    "use",
    [
        lambda device: fusedrnn.cuda.plan("gru", 2, 3, device=device),
        lambda device: fusedrnn.cuda.Array([1.0], "float32", device),
        lambda device: fusedrnn.cuda.Stream(device),
    ],
)
@pytest.mark.usefixtures("cuda")
def test_a_device_that_there_is_not(use):
    with pytest.raises(ValueError, match=r"^device: expected cuda:0 to cuda:0, got 'cuda:1'$"):
        use("cuda:1")


def test_an_old_device_beside_new_ones(emulated):
    make("gru")
    emulated(capability_major=7, capability_minor=5)
    with pytest.raises(RuntimeError, match=r"^CUDA is not available on cuda: .* capability 7.5"):
        make("gru")


@pytest.mark.usefixtures("cuda")
def test_options():
    assert make("gru").device == "cuda"
    assert fusedrnn.GRU(I, H, device="cuda:0", dtype="bfloat16").dtype == "bfloat16"

    class Mine(fusedrnn.GRU):
        pass

    assert Mine(I, H).device == "cpu"
    with pytest.raises(TypeError, match=r"^device: expected cpu for a subclass, Mine, got"):
        Mine(I, H, device="cuda")


def test_every_layer_has_its_class_on_a_device():
    """A new cell's constructor as well, whose author knows nothing of devices."""
    assert set(ON_DEVICE) == {kind for kind, _ in KINDS.values()}
    for kind, there in ON_DEVICE.items():
        assert issubclass(there, kind)
        assert pickle.loads(pickle.dumps(there)) is there
