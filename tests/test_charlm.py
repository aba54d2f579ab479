# SPDX-License-Identifier: MIT
"""The character model: gradients and state of it, its seed, and what it writes."""

import runpy
import sys

import numpy as np
import pytest
from fusedrnn import CELLS, reference
from fusedrnn.charlm import CharModel
from fusedrnn.corpus import Vocabulary
from fusedrnn.errors import InputError


@pytest.fixture(params=CELLS)
def cell(request):
    return request.param


def test_gradients_are_those_of_the_reference(cell, assert_close):
    rng = np.random.default_rng(0)
    x, target = rng.integers(0, 5, (2, 7, 3))
    results = []
    for engine in (None, reference):
        model = CharModel(Vocabulary("abcd"), cell, 6, 2, dtype=np.float64, seed=1)
        if engine:
            model.rnn.engine = engine
        _, state = model(x, None)
        loss, _ = model.gradients(x, target, state)
        results.append((loss, {**model.rnn.grads, **model.head.grads}))
    (loss, grads), (expected_loss, expected) = results
    assert loss == pytest.approx(expected_loss, rel=1e-13)
    for name, grad in grads.items():
        assert_close(grad, expected[name], "grad")


def test_the_state_carries_all_that_was_read(cell):
    """Reading whole or in chunks gives the same scores."""
    model = CharModel(Vocabulary("abcd"), cell, 6, 2)
    x = np.random.default_rng(0).integers(0, 5, (8, 3))
    whole, _ = model(x)
    first, state = model(x[:3])
    second, _ = model(x[3:], state)
    np.testing.assert_array_equal(whole, np.concatenate((first, second)))


def test_parameters_and_seed():
    a, b, c = (CharModel(Vocabulary("ab"), hidden_size=4, seed=seed) for seed in (5, 5, 6))
    for name, array in a.state_dict().items():
        np.testing.assert_array_equal(array, b.state_dict()[name])
    assert not np.array_equal(a.head.params["weight"], c.head.params["weight"])
    c.load_state_dict(a.state_dict())
    np.testing.assert_array_equal(a.head.params["weight"], c.head.params["weight"])
    with pytest.raises(ValueError, match="unexpected foot"):
        c.load_state_dict({"foot.weight": np.zeros(1)})
    with pytest.raises(ValueError, match="cell: expected one of"):
        CharModel(Vocabulary("ab"), "grue")


def test_writing_is_repeatable_and_knows_its_letters():
    model = CharModel(Vocabulary("abc"), hidden_size=4)
    model.head.params["bias"][0] = 50.0  # the unknown character would be the likeliest by far
    write = [
        "".join(model.generate("ab", 200, temperature=temperature, seed=seed))
        for temperature, seed in ((1.0, 1), (1.0, 1), (1.0, 2), (0.0, 1), (0.0, 2), (1e-300, 1))
    ]
    assert set(write[0]) == set("abc")
    assert write[0] == write[1] != write[2]
    assert write[3] == write[4] == write[5]
    assert len(list(model.generate("", 3))) == 3
    assert list(model.generate("never seen", 0)) == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_scores_that_are_not_finite(value, temperature):
    model = CharModel(Vocabulary("abc"), hidden_size=4)
    model.head.params["bias"][2] = value
    with pytest.raises(InputError, match=f"^scores: expected finite numbers, got {value}:"):
        list(model.generate("ab", 1, temperature=temperature))


def test_the_smallest_example(capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "fusedrnn.examples.hello", raising=False)  # as if run alone
    runpy.run_module("fusedrnn.examples.hello")
    assert capsys.readouterr().out.endswith(", hello\n")
