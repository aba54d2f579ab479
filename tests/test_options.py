# SPDX-License-Identifier: MIT
"""Options of layers and of the whole process: what passes, what is refused, and in which words."""

import fusedrnn
import numpy as np
import pytest
from fusedrnn import validate


@pytest.mark.parametrize("layer", [fusedrnn.RNN, fusedrnn.LSTM, fusedrnn.GRU])
def test_layer_options(layer):
    for name in ("input_size", "hidden_size", "num_layers"):
        sizes = {"input_size": 2, "hidden_size": 3}
        for bad in (0, -1, 2**31, 2**100):
            with pytest.raises(
                ValueError, match=rf"^{name}: expected 1 <= {name} <= (2147483647|65536), got"
            ):
                layer(**(sizes | {name: bad}))
        for bad in (2.0, "2", None, True, [2]):
            with pytest.raises(TypeError, match=rf"^{name}: expected an integer, got"):
                layer(**(sizes | {name: bad}))
    for name in ("bias", "batch_first", "bidirectional"):
        with pytest.raises(TypeError, match=rf"^{name}: expected True or False, got int"):
            layer(2, 3, **{name: 1})
    for bad in (np.float16, "complex64", None, int, ">f4", "nonsense", 3):
        with pytest.raises(TypeError, match=r"^dtype: expected float32 or float64, got"):
            layer(2, 3, dtype=bad)
    with pytest.raises((ValueError, MemoryError)):
        layer(2**31 - 1, 2**31 - 1)


def test_words():
    with pytest.raises(
        ValueError, match=r"^nonlinearity: expected one of tanh, relu, got 'sigmoid'"
    ):
        fusedrnn.RNN(2, 3, nonlinearity="sigmoid")
    with pytest.raises(TypeError, match=r"^nonlinearity: expected str, got NoneType"):
        fusedrnn.RNNCell(2, 3, nonlinearity=None)
    with pytest.raises(TypeError, match=r"^reset_after: expected True or False, got str"):
        fusedrnn.GRU(2, 3, reset_after="yes")
    with pytest.raises(ValueError, match=r"^isa: expected one of .*, got 'mmx'"):
        fusedrnn.set_isa("mmx")
    with pytest.raises(ValueError, match=r"^number: expected 1 <= number"):
        fusedrnn.set_num_threads(0)


def test_sizes_and_flags_of_numpy_pass():
    assert validate.size("n", np.int64(3)) == 3
    assert validate.flag("b", np.True_) is True


def test_settings():
    before, threads = fusedrnn.isa(), fusedrnn.get_num_threads()
    assert before in fusedrnn.isas()
    assert set(fusedrnn.info()) >= {"version", "isa", "isas", "threads", "compiler", "cuda"}
    try:
        for isa in fusedrnn.isas():
            fusedrnn.set_isa(isa)
            assert fusedrnn.isa() == isa
        fusedrnn.set_num_threads(1)
        assert fusedrnn.get_num_threads() == 1
    finally:
        fusedrnn.set_isa(before)
        fusedrnn.set_num_threads(threads)
