# SPDX-License-Identifier: MIT
"""Training of the character model: chunks of text, steps, their mean, and taken up again."""

import math

import numpy as np
import pytest
from fusedrnn import CELLS
from fusedrnn.corpus import read_corpus
from fusedrnn.errors import InputError
from fusedrnn.training import Settings, Streams, Trainer, evaluate

TEXT = "the quick brown fox jumps over the lazy dog\n" * 40


@pytest.fixture(params=CELLS)
def cell(request):
    return request.param


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT, "utf-8")
    return path


def trainer(files, **settings):
    small = {"hidden": 12, "batch": 4, "chunk": 10, "layers": 2}
    return Trainer(Settings(**(small | settings)), read_corpus(files))


def test_streams_read_every_character_in_order():
    codes = np.arange(1, 101)
    streams = Streams(codes, batch=3, chunk=7)
    assert streams.chunks == 4
    whole = [np.concatenate(parts) for parts in zip(*map(streams.read, range(4)), strict=True)]
    for n in range(3):
        np.testing.assert_array_equal(whole[0][:, n], 1 + 28 * n + np.arange(28))
    np.testing.assert_array_equal(whole[1], whole[0] + 1)
    assert whole[0].dtype == np.int64


@pytest.mark.parametrize("size", [2, 3, 10, 11, 12, 50])
def test_streams_shrink_to_a_short_text(size):
    streams = Streams(np.arange(size), batch=8, chunk=10)
    assert streams.chunks >= 1
    x, target = streams.read(streams.chunks - 1)
    assert x.shape == (streams.chunk, streams.batch)
    assert target.max() < size


def test_it_learns(cell, text_file):
    run = trainer([text_file], cell=cell, hidden=24, layers=1, lr=0.02)
    for _ in range(150):
        run.step()
    first, last = np.mean(run.losses[:5]), np.mean(run.losses[-5:])
    assert last < first / 2
    loss, characters = evaluate(run.average, read_corpus([text_file]).held_out, 4, 10)
    assert loss < first / 2
    assert characters == 80


def test_evaluate_is_the_mean_over_the_text(text_file):
    run = trainer([text_file])
    codes = read_corpus([text_file]).held_out
    loss, characters = evaluate(run.model, codes, batch=1, chunk=characters_of(codes))
    logits, _ = run.model(codes[:-1, None].astype(np.int64))
    scores = logits[:, 0].astype(np.float64)
    expected = np.log(np.exp(scores).sum(1)) - scores[np.arange(characters), codes[1:]]
    assert loss == pytest.approx(expected.mean(), rel=1e-5)


def characters_of(codes):
    return codes.size - 1


def test_the_mean_follows_the_parameters(text_file):
    run = trainer([text_file])
    mean = run.model.head.params["weight"].astype(np.float64)
    for step in range(1, 6):
        run.step()
        weight, share = run.model.head.params["weight"].astype(np.float64), 9 / (9 + step)
        mean = mean + share * (weight - mean)
    np.testing.assert_allclose(run.average.head.params["weight"], mean, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stop", [0, 1, 17, 41, 42, 43])
def test_a_trainer_taken_up_again_is_exact(cell, text_file, stop):
    """Parameters, moments, state, place in the text: an epoch here is 41 or 42 steps."""
    whole, first, second = (trainer([text_file], cell=cell) for _ in range(3))
    for _ in range(stop + 3):
        whole.step()
    for _ in range(stop):
        first.step()
    second.load_state_dict(first.state_dict())
    for _ in range(3):
        second.step()
    expected, actual = whole.state_dict(), second.state_dict()
    assert expected.keys() == actual.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(actual[name], array)


def test_an_epoch_begins_without_state(text_file):
    run = trainer([text_file])
    assert run.next_chunk()[2] is None
    for _ in range(run.streams.chunks):
        run.step()
    assert run.next_chunk()[2] is None
    run.step()
    assert run.next_chunk()[2] is run.state


def test_divergence_is_told_before_it_reaches_the_parameters(text_file):
    run = trainer([text_file])
    run.step()
    before = run.model.state_dict()
    run.state[...] = math.nan
    with pytest.raises(InputError, match="diverged in step 2: use a lower --lr"):
        run.step()
    assert run.steps == 1
    for name, array in run.model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_a_step_too_far_is_told(text_file):
    run = trainer([text_file], lr=1e300)
    with pytest.raises(InputError, match="diverged in step 1: use a lower --lr"):
        run.step()
    assert run.steps == 0


@pytest.mark.parametrize(
    "losses", [np.ones((3, 3)), np.ones(3), np.ones(2, np.float32), np.ones(())], ids=str
)
def test_losses_that_are_not_those_of_the_steps(text_file, losses):
    run = trainer([text_file])
    for _ in range(2):
        run.step()
    with pytest.raises(ValueError, match=r"losses: expected float64 \(2,\)"):
        run.load_state_dict(run.state_dict() | {"losses": losses})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cell": "grue"}, "cell: expected one of"),
        ({"hidden": 0}, "hidden: expected at least 1"),
        ({"hidden": 3.0}, "hidden: expected int"),
        ({"batch": True}, "batch: expected int"),
        ({"lr": math.nan}, "lr: expected a finite number >= 0"),
        ({"lr": "1"}, "lr: expected float"),
        ({"clip": -1.0}, "clip: expected"),
        ({"dtype": "float16"}, "dtype: expected float32 or float64"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        Settings(**settings)
