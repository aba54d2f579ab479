# SPDX-License-Identifier: MIT
"""Checkpoints: whole after a crash at any moment, and no damage goes unnoticed."""

import itertools
import json
import os
import random
import stat
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from fusedrnn import checkpoint
from fusedrnn.errors import InputError

pytest.importorskip("safetensors")


class Crash(BaseException):
    """The moment at which the machine stops."""


def save(folder, step):
    arrays = {"a": np.full((2, 3), step, np.float32), "b": np.arange(step + 1.0)}
    checkpoint.save(folder, step, {"step": step, "note": "é\n"}, arrays)


def check(folder, steps):
    """Load, and find a record and arrays that belong together, of one of these steps."""
    record, arrays = checkpoint.load(folder)
    step = record["step"]
    assert step in steps
    assert record["note"] == "é\n"
    assert set(arrays) == {"a", "b"}
    np.testing.assert_array_equal(arrays["a"], np.full((2, 3), step, np.float32))
    np.testing.assert_array_equal(arrays["b"], np.arange(step + 1.0))
    return step


def files(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def folder(tmp_path):
    save(tmp_path, 3)
    return tmp_path


def refused(path):
    """Return the message with which a path is refused, one line that names a file."""
    with pytest.raises(InputError) as caught:
        checkpoint.load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path.parent if path.is_file() else path) in message
    return message


def forge(folder, change, content=None):
    """Rewrite the JSON as someone would who knows its checksum, and the arrays' file with it."""
    path = folder / checkpoint.JSON
    record = json.loads(path.read_text("utf-8"))
    del record["sha256"]
    if content is not None:
        (folder / record["arrays"]["file"]).write_bytes(content)
        record["arrays"] |= {"bytes": len(content), "sha256": checkpoint._sha256(content)}
    change(record)
    record["sha256"] = checkpoint._sha256(checkpoint._canonical(record))
    path.write_text(json.dumps(record), "utf-8")


def test_either_file_or_the_folder_loads(folder):
    assert files(folder) == ["checkpoint.json", "step-00000003.safetensors"]
    for name in ("", "checkpoint.json", "step-00000003.safetensors"):
        check(folder / name, {3})


def test_a_save_takes_the_place_of_the_one_before(folder):
    save(folder, 4)
    check(folder, {4})
    save(folder, 4)
    check(folder, {4})
    assert files(folder) == ["checkpoint.json", "step-00000004.safetensors"]


def test_equal_arrays_make_equal_files(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    save(other, 3)
    for name in files(folder):
        assert (folder / name).read_bytes() == (other / name).read_bytes()


def test_other_files_are_left_alone(folder):
    kept = ["loss.png", "step-3.safetensors", "my-step-00000001.safetensors"]
    for name in kept:
        (folder / name).touch()
    save(folder, 5)
    assert set(kept) < set(files(folder))


@pytest.mark.parametrize("first", [True, False])
def test_crash_at_any_moment(tmp_path, monkeypatch, first):
    """Stop at the k-th call that touches the disk, for every k: old or new, never a mixture."""
    outcomes = set()
    for k in range(100):
        folder = tmp_path / str(k)
        folder.mkdir()
        if not first:
            save(folder, 3)
        with monkeypatch.context() as patched:
            crash_at(patched, k)
            try:
                save(folder, 4)
                done = True
            except Crash:
                done = False
        if first and not (folder / checkpoint.JSON).exists():
            assert "holds no checkpoint" in refused(folder)
            outcomes.add(None)
        else:
            outcomes.add(check(folder, {4} if first or done else {3, 4}))
        save(folder, 5)
        assert files(folder) == ["checkpoint.json", "step-00000005.safetensors"]
        if done:
            break
    assert done
    assert outcomes == ({None, 4} if first else {3, 4})


def crash_at(patched, k):
    """Let the k-th disk operation from now on not happen; a file not yet synchronised is torn."""
    count = 0

    def wrap(original):
        def operation(*args, **kwargs):
            nonlocal count
            count += 1
            if count <= k:
                return original(*args, **kwargs)
            if original is fsync and stat.S_ISREG(os.fstat(args[0]).st_mode):
                os.ftruncate(args[0], os.fstat(args[0]).st_size // 2)
            raise Crash

        return operation

    fsync = os.fsync
    for owner, name in ((os, "fsync"), (os, "listdir"), (Path, "replace"), (Path, "unlink")):
        patched.setattr(owner, name, wrap(getattr(owner, name)))


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


@pytest.mark.parametrize("moment", ["_read_record", "_read"])
def test_reading_while_others_take_its_place(folder, monkeypatch, moment):
    """Whenever the files just read are replaced, the JSON is read again, as often as needed."""
    original, calls = getattr(checkpoint, moment), []

    def read_and_replace(*args):
        result = original(*args)
        calls.append(args)
        if len(calls) <= 3:
            save(folder, 3 + len(calls))
        return result

    monkeypatch.setattr(checkpoint, moment, read_and_replace)
    check(folder, {4, 5, 6})
    assert len(calls) > 3


def test_reading_while_a_thread_saves(tmp_path):
    """The thread saves at full speed; every checkpoint met loads."""
    save(tmp_path, 0)
    stop = threading.Event()

    def save_on():
        for step in itertools.count(1):
            if stop.is_set():
                return
            save(tmp_path, step)

    with ThreadPoolExecutor() as pool:
        saving = pool.submit(save_on)
        try:
            steps = [check(tmp_path, range(10**6)) for _ in range(200)]
        finally:
            stop.set()
        saving.result()
    assert steps == sorted(steps)


def test_a_name_that_is_not_unicode(tmp_path):
    name = os.fsdecode(b"\xff")
    checkpoint.save(tmp_path, 1, {"file": name}, {"a": np.zeros(1)})
    assert checkpoint.load(tmp_path)[0]["file"] == name
