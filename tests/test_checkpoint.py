# SPDX-License-Identifier: MIT
"""Checkpoints saved and loaded: whole after a crash at any moment, and while others save."""

import errno
import itertools
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from checkpoint_cases import check, files, refused, save
from fusedrnn import checkpoint

pytest.importorskip("safetensors")


class Crash(BaseException):
    """The moment at which the machine stops."""


@pytest.fixture
def folder(tmp_path):
    save(tmp_path, 3)
    return tmp_path


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


def test_a_disk_without_space_names_the_file_and_leaves_no_part_of_it(folder, monkeypatch):
    def fail(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left") as caught:
        save(folder, 4)
    assert caught.value.filename == str(folder / "step-00000004.safetensors")
    assert files(folder) == ["checkpoint.json", "step-00000003.safetensors"]
    check(folder, {3})


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
