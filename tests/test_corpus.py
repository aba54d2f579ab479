# SPDX-License-Identifier: MIT
"""Text into numbers: the vocabulary, and the files of a corpus."""

import hashlib

import pytest
from fusedrnn import corpus
from fusedrnn.corpus import UNKNOWN, Vocabulary, read_corpus
from fusedrnn.errors import InputError


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


def test_one_file_is_cut(tmp_path):
    text = "the quick brown fox jumps over the lazy dog\n" * 40
    (tmp_path / "text.txt").write_text(text, "utf-8")
    read = read_corpus([tmp_path / "text.txt"])
    held_out = len(text) - read.train.size
    assert read.vocabulary.decode(read.train) == text[:-held_out]
    assert read.vocabulary.decode(read.held_out) == text[-held_out:]
    assert 0.05 <= held_out / len(text) < 0.06


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


def test_where_the_held_out_part_begins_is_told_apart(tmp_path):
    """A null character in the text is not the border."""
    a, b, c = (letter * 20 for letter in "abc")
    hashes = set()
    for i, texts in enumerate(((a, f"{b}\0{c}"), (f"{a}\0{b}", c))):
        files = [tmp_path / f"{i}{j}" for j in range(2)]
        for path, text in zip(files, texts, strict=True):
            path.write_text(text, "utf-8")
        hashes.add(read_corpus(files).sha256)
    assert len(hashes) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "corpus: too few characters to train on, got 0"),
        (b"a", "corpus: too few characters to train on, got 1"),
        (b"abc", "corpus: too few characters to train on, got 3"),
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
    with pytest.raises(InputError, match=r"^corpus: expected paths of files, got ''$"):
        read_corpus([""])


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
