# SPDX-License-Identifier: MIT
"""Modules changed after construction, and batches packed by hand, beside what they should be."""

import pytest

torch = pytest.importorskip("torch")

import fusedrnn.torch  # noqa: E402
from torch.nn.utils.rnn import PackedSequence  # noqa: E402
from torch_cases import H, I, N, T, agree  # noqa: E402


@pytest.mark.parametrize(
    ("options", "name", "value"),
    [
        ({"num_layers": 2}, "num_layers", 1),
        ({"num_layers": 4}, "num_layers", 2),
        ({"num_layers": 4}, "num_layers", 3),
        ({}, "num_layers", 0),
        ({}, "num_layers", 2),
        ({}, "bias", False),
        ({"bias": False}, "bias", True),
        ({"bidirectional": True}, "bidirectional", False),
        ({}, "bidirectional", True),
        ({}, "hidden_size", H + 1),
    ],
)
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_a_layer_that_lacks_or_has_too_many_weights(kind, options, name, value):
    module = getattr(fusedrnn.torch, kind)(I, H, **options)
    wanted, before = module(torch.ones(T, N, I))[0], getattr(module, name)
    setattr(module, name, value)
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"^weight(s|_ih_l0): expected "):
            module(torch.ones(T, N, I))
    setattr(module, name, before)
    assert torch.equal(module(torch.ones(T, N, I))[0], wanted)


@pytest.mark.parametrize("name", ["weight_ih", "weight_hh", "bias_ih", "bias_hh"])
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"])
def test_a_weight_of_another_shape(kind, name):
    module = getattr(fusedrnn.torch, kind)(I, H)
    is_cell = kind.endswith("Cell")
    name = name if is_cell else f"{name}_l0"
    wrong = torch.cat([getattr(module, name).detach()] * 2)
    setattr(module, name, torch.nn.Parameter(wrong))
    with pytest.raises(RuntimeError):
        module(torch.ones(N, I) if is_cell else torch.ones(T, N, I))


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize(("name", "value"), [("bidirectional", None), ("bidirectional", 2)])
def test_an_attribute_that_means_nothing_has_the_words_of_torch(kind, name, value):
    for owner in (fusedrnn.torch, torch.nn):
        module = getattr(owner, kind)(I, H)
        setattr(module, name, value)
        with pytest.raises(TypeError):
            module(torch.ones(T, N, I))


def test_a_projected_layer_of_another_hidden_size():
    module = fusedrnn.torch.LSTM(I, H, proj_size=2)
    module.hidden_size = H + 1
    with pytest.raises(RuntimeError, match=rf"^weight_ih_l0: expected shape \(28, {I}\), got"):
        module(torch.ones(T, N, I))


@pytest.mark.parametrize("kind", ["RNNCell", "LSTMCell", "GRUCell"])
def test_a_cell_uses_the_biases_that_it_has(kind):
    results = []
    for owner in (fusedrnn.torch, torch.nn):
        torch.manual_seed(0)
        cell = getattr(owner, kind)(I, H)
        cell.bias = False
        out = cell(torch.ones(N, I))
        results.append(out if isinstance(out, tuple) else (out,))
        one = getattr(owner, kind)(I, H)
        one.bias, one.bias_ih = False, None
        out = one(torch.ones(N, I))
        results[-1] += out if isinstance(out, tuple) else (out,)
        bare = getattr(owner, kind)(I, H, bias=False)
        bare.bias = True
        out = bare(torch.ones(N, I))
        results[-1] += out if isinstance(out, tuple) else (out,)
    agree(*results, limit=3e-5)


@pytest.mark.parametrize("kind", ["RNNCell", "LSTMCell", "GRUCell"])
def test_a_cell_of_another_hidden_size(kind):
    cell = getattr(fusedrnn.torch, kind)(I, H)
    cell.hidden_size = H + 1
    with pytest.raises(RuntimeError):
        cell(torch.ones(N, I))


@pytest.mark.parametrize(
    "batch_sizes", [[4, 3, 2], [4, 4, 2, 0], [3, 4, 3], [4, 4, 4], [5, 5, 0], [12, -2]]
)
@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_a_batch_packed_by_hand_wrongly(kind, batch_sizes):
    module = getattr(fusedrnn.torch, kind)(I, H)
    packed = PackedSequence(torch.ones(10, I), torch.tensor(batch_sizes))
    with pytest.raises(RuntimeError, match=r"^batch_sizes: expected .* got "):
        module(packed)
