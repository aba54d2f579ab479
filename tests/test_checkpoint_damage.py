# SPDX-License-Identifier: MIT
"""Checkpoints damaged, forged, foreign or missing: no damage goes unnoticed."""

import os
import random
import struct
from pathlib import Path

import pytest
from checkpoint_cases import check, files, forge, refused, save
from fusedrnn import checkpoint

pytest.importorskip("safetensors")


@pytest.fixture
def folder(tmp_path):
    save(tmp_path, 3)
    return tmp_path


def test_every_truncation_is_noticed(folder):
    for name in files(folder):
        path = folder / name
        content = path.read_bytes()
        for size in range(0, len(content) - 1, 7):
            path.write_bytes(content[:size])
            refused(folder)
        path.write_bytes(content + b" ")
        if name != checkpoint.JSON:
            refused(folder)
        path.write_bytes(content)
    check(folder, {3})


def test_every_flipped_bit_is_noticed(folder):
    rng = random.Random(0)
    for name in files(folder):
        path = folder / name
        content = path.read_bytes()
        for position in range(len(content) - 1):  # the last byte of the JSON is a new line
            damaged = bytearray(content)
            damaged[position] ^= 1 << rng.randrange(8)
            path.write_bytes(damaged)
            refused(folder)
        path.write_bytes(content)
    check(folder, {3})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff\xfe\x00",
        b"PK\x03\x04",
        b'{"format": 1}',
        b'{"format": "fusedrnn checkpoint 2"}',
        b'{"format": "fusedrnn checkpoint 1"}',
        b'{"format": "fusedrnn checkpoint 1", "sha256": 3}',
        b'{"a": "\\ud800", "format": "fusedrnn checkpoint 1"}',
        b"[" * 200_000,
        b"1" * 10_000,
    ],
    ids=range(13),
)
def test_foreign_json(folder, content):
    (folder / checkpoint.JSON).write_bytes(content)
    assert "not a fusedrnn checkpoint" in refused(folder) or "damaged" in refused(folder)


def test_json_of_any_depth(folder):
    """Whatever reads it first gives up, before Python does."""
    for depth in range(900, 1010):
        value = "[" * depth + "]" * depth
        text = f'{{"a": {value}, "format": "fusedrnn checkpoint 1", "sha256": ""}}'
        (folder / checkpoint.JSON).write_text(text)
        assert "damaged" in refused(folder)


@pytest.mark.parametrize(
    "arrays",
    [
        None,
        3,
        {},
        {"file": 1, "bytes": 1, "sha256": ""},
        {"file": "step-00000003.safetensors", "bytes": "1", "sha256": ""},
        {"file": "../step-00000003.safetensors", "bytes": 1, "sha256": ""},
        {"file": "/etc/passwd", "bytes": 1, "sha256": ""},
    ],
    ids=range(7),
)
def test_json_with_its_checksum_but_other_types(folder, arrays):
    forge(folder, lambda record: record.update(arrays=arrays))
    assert "arrays: expected file, bytes and sha256" in refused(folder)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 7,
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 2**40) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 2) + b"\xff\xff",
        struct.pack("<Q", 60) + b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}     ',
        struct.pack("<Q", 60) + b'{"a":{"dtype":"X32","shape":[9],"data_offsets":[0,36]}}     ',
    ],
    ids=range(8),
)
def test_arrays_with_their_checksum_but_not_safetensors(folder, content):
    forge(folder, lambda record: None, content)
    assert "not safetensors" in refused(folder)


def test_things_that_are_not_there(folder, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    assert "holds no checkpoint" in refused(empty)
    assert "no such file" in refused(empty / "nothing")
    assert "no such file" in refused(empty / "nothing.safetensors")
    (empty / "checkpoint.json").mkdir()
    assert "not a regular file" in refused(empty)
    (folder / "step-00000003.safetensors").unlink()
    assert "no such file" in refused(folder)


def test_special_files_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "checkpoint.json")
    assert "not a regular file" in refused(tmp_path)
    assert "not a regular file" in refused(Path("/dev/null"))


def test_a_large_file_is_not_read(tmp_path):
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 40)
    assert "bytes are too many" in refused(tmp_path / "large")


def test_arrays_of_another_checkpoint(folder):
    other = folder / "step-00000009.safetensors"
    other.write_bytes((folder / "step-00000003.safetensors").read_bytes())
    assert "belongs to step-00000003.safetensors" in refused(other)
