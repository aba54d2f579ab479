# SPDX-License-Identifier: MIT
"""The character model: text into numbers, chunks of it, learning and writing."""

import hashlib
import math
import runpy

import numpy as np
import pytest
from fusedrnn import CELLS, corpus, reference
from fusedrnn.charlm import CharModel
from fusedrnn.corpus import UNKNOWN, Vocabulary, read_corpus
from fusedrnn.errors import InputError
from fusedrnn.training import Settings, Streams, Trainer, evaluate

TEXT = "the quick brown fox jumps over the lazy dog\n" * 40


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT, "utf-8")
    return path


@pytest.fixture(params=CELLS)
def cell(request):
    return request.param


def trainer(files, **settings):
    small = {"hidden": 12, "batch": 4, "chunk": 10, "layers": 2}
    return Trainer(Settings(**(small | settings)), read_corpus(files))


# Vocabulary and corpus


def test_vocabulary_numbers_characters_by_code_point():
    vocabulary = Vocabulary("bca" + UNKNOWN + "é😀")
    assert vocabulary.characters == UNKNOWN + "abcé😀"
    text = "cab😀é"
    assert vocabulary.encode(text).tolist() == [3, 1, 2, 5, 4]
    assert vocabulary.decode(vocabulary.encode(text)) == text


def test_vocabulary_knows_what_it_does_not_know():
    assert Vocabulary("ac").encode("abc\0\ud800" + UNKNOWN).tolist() == [1, 0, 2, 0, 0, 0]
    assert Vocabulary("").encode("ab").tolist() == [0, 0]
    assert Vocabulary("a").encode("").tolist() == []


def test_rare_characters_are_left_out_of_a_long_text_only():
    assert Vocabulary.of("x" * 3_000_000 + "yyz").characters == UNKNOWN + "x"
    assert Vocabulary.of("x" * 3_000_000 + "yyyyz").characters == UNKNOWN + "xy"
    assert Vocabulary.of("xyz").characters == UNKNOWN + "xyz"


def test_one_file_is_cut(text_file):
    read = read_corpus([text_file])
    held_out = len(TEXT) - read.train.size
    assert read.vocabulary.decode(read.train) == TEXT[:-held_out]
    assert read.vocabulary.decode(read.held_out) == TEXT[-held_out:]
    assert 0.05 <= held_out / len(TEXT) < 0.06


def test_of_several_files_the_last_are_held_out(tmp_path):
    names = "abcdefgh"
    for name in names:
        (tmp_path / name).write_text(name * 100, "utf-8")
    read = read_corpus([tmp_path / name for name in names])
    assert read.vocabulary.decode(read.train) == "\n".join(name * 100 for name in "abcdefg")
    assert set(read.held_out.tolist()) == {0}  # h is in the last file alone
    assert read.held_out.size == 100


def test_a_large_last_file_is_cut(tmp_path):
    (tmp_path / "a").write_text("a" * 10, "utf-8")
    (tmp_path / "b").write_text("b" * 1000, "utf-8")
    read = read_corpus([tmp_path / "a", tmp_path / "b"])
    assert 50 <= read.held_out.size <= 52


def test_line_ends_and_byte_order_marks_do_not_matter(tmp_path):
    (tmp_path / "unix").write_bytes(b"one\ntwo\n" * 9)
    (tmp_path / "dos").write_bytes(b"\xef\xbb\xbf" + b"one\r\ntwo\r\n" * 9)
    assert read_corpus([tmp_path / "unix"]).sha256 == read_corpus([tmp_path / "dos"]).sha256


def test_corpora_are_told_apart(tmp_path):
    for i, text in enumerate(("abc" * 20, "abc" * 19 + "abd")):
        (tmp_path / str(i)).write_text(text, "utf-8")
    assert read_corpus([tmp_path / "0"]).sha256 != read_corpus([tmp_path / "1"]).sha256


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "corpus: 0 characters are too few"),
        (b"abc", "corpus: 3 characters are too few"),
        (UNKNOWN.encode() * 100, "corpus: no character is known"),
        (b"abc\xffdef", "text: not UTF-8: byte 0xff at 3"),
        (b"\xff\xfea\0b\0", "text: not UTF-8: byte 0xff at 0"),
    ],
)
def test_files_that_will_not_do(tmp_path, content, message):
    (tmp_path / "text").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_corpus([tmp_path / "text"])


def test_things_that_are_no_files(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_corpus([tmp_path / "nothing"])
    with pytest.raises(InputError, match="a directory, not a text file"):
        read_corpus([tmp_path])
    with pytest.raises(InputError, match="not a regular file"):
        read_corpus(["/dev/null"])
    with pytest.raises(InputError, match="null"):
        read_corpus(["a\0b"])


def test_the_library_is_found_in_an_order_of_its_own(monkeypatch, tmp_path):
    skipped = ("b/test/d.py", "encodings/e.py", "f.txt", "site-packages/g.py", "locale.py")
    for name in ("a.py", "b/c.py", *skipped):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name * 20, "utf-8")
    (tmp_path / "latin.py").write_bytes(b"\xe9" * 20)
    monkeypatch.setattr(corpus.sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    expected = sorted(
        ("a.py", "b/c.py", "latin.py"), key=lambda name: hashlib.sha256(name.encode()).digest()
    )
    found = [path.relative_to(tmp_path).as_posix() for path in corpus.standard_library()]
    assert found == expected
    assert "é" not in read_corpus().vocabulary.characters
    monkeypatch.setattr(corpus, "LIBRARY_CHARACTERS", 10)
    with pytest.raises(InputError, match="no library sources"):
        read_corpus()


# Streams


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


# Model


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


# Training


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


def test_the_smallest_example(capsys):
    runpy.run_module("fusedrnn.examples.hello")
    assert capsys.readouterr().out.endswith(", hello\n")
