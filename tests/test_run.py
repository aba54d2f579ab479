# SPDX-License-Identifier: MIT
"""The folder of a run, read by three commands: damaged, of something else, or not there."""

import math
import os
import shutil
import subprocess

import pytest
from checkpoint_cases import forge
from cli_cases import SMALL, arrays_file, command, refused
from fusedrnn import checkpoint, cli
from fusedrnn.errors import load_extra

COMMANDS = {
    "info": lambda folder: ["info", folder],
    "sample": lambda folder: ["sample", folder],
    "resume": lambda folder: ["train", "--resume", "--out", folder],
}


@pytest.fixture(params=COMMANDS)
def use(request):
    return COMMANDS[request.param]


def test_damaged_checkpoints(copy, use, capsys):
    for path in (copy / checkpoint.JSON, arrays_file(copy)):
        content = path.read_bytes()
        for size in (0, 1, 8, 100, len(content) // 2, len(content) - 2):
            path.write_bytes(content[:size])
            assert str(path) in refused(capsys, *use(copy))
        for position in (0, 7, 9, len(content) // 2, len(content) - 2):
            damaged = bytearray(content)
            damaged[position] ^= 0x10
            path.write_bytes(damaged)
            assert str(path) in refused(capsys, *use(copy))
        path.unlink()
        refused(capsys, *use(copy))
        path.write_bytes(content)
    assert cli.main([str(argument) for argument in use(copy)]) == 0


def test_no_checkpoint_at_all(tmp_path, use, capsys):
    assert "holds no checkpoint" in refused(capsys, *use(tmp_path))
    assert "no such file or folder" in refused(capsys, *use(tmp_path / "nothing"))
    for content in (b"", b"text\n" * 100, b"\x89PNG\r\n\x1a\n", os.urandom(1000)):
        (tmp_path / "foreign").write_bytes(content)
        assert "not a fusedrnn checkpoint" in refused(capsys, *use(tmp_path / "foreign"))


CHANGES = {
    "no settings": lambda r: r.pop("settings"),
    "settings of another type": lambda r: r.update(settings=[1]),
    "a setting of another type": lambda r: r["settings"].update(hidden="8"),
    "a setting too many": lambda r: r["settings"].update(color="red"),
    "another size": lambda r: r["settings"].update(hidden=10**9),
    "more layers": lambda r: r["settings"].update(layers=2),
    "another cell": lambda r: r["settings"].update(cell="gru"),
    "another vocabulary": lambda r: r.update(vocabulary="xyz"),
    "vocabulary of another type": lambda r: r.update(vocabulary=3),
}


@pytest.mark.parametrize("change", CHANGES)
def test_checkpoints_of_something_else(copy, capsys, change):
    """Whole, with their checksums, but not what a character model needs."""
    forge(copy, CHANGES[change])
    for name in ("sample", "resume"):
        assert str(copy) in refused(capsys, *COMMANDS[name](copy))


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r.update(limits={"steps": "1", "minutes": None}),
        lambda r: r.update(limits={"steps": -1, "minutes": None}),
        lambda r: r.update(limits=None),
        lambda r: r.update(seconds="1"),
        lambda r: r.update(seconds=None),
        lambda r: r.update(corpus={}),
        lambda r: r.update(corpus={"files": [3], "sha256": ""}),
        lambda r: r.update(corpus={"files": ["a\0b"], "sha256": ""}),
        lambda r: r["corpus"].pop("sha256"),
        lambda r: r.update(seconds=math.nan),
        lambda r: r.update(seconds=1e308),
        lambda r: r["settings"].update(batch=2),
    ],
)
def test_runs_that_cannot_be_resumed(copy, capsys, change):
    forge(copy, change)
    refused(capsys, "train", "--resume", "--out", copy)


def test_a_run_that_took_no_time(copy, capsys):
    forge(copy, lambda r: r.update(seconds=0.0))
    assert cli.main(["train", "--resume", "--out", str(copy)]) == 0
    assert " 0 s, 0 characters/s" in capsys.readouterr().out


def test_a_file_of_the_checkpoint_is_not_its_folder(copy, capsys):
    """`sample` takes it all the same."""
    for path in (copy / checkpoint.JSON, arrays_file(copy)):
        message = refused(capsys, "train", "--resume", "--out", path)
        assert message == f"fusedrnn: {path}: expected the folder of a run, got a file of it\n"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_parameters_that_are_not_finite(copy, capsys, value):
    """With their checksums: of a model that diverged."""
    path = arrays_file(copy)
    arrays = checkpoint.load(copy)[1]
    arrays["model.rnn.bias_ih_l0"][3] = value
    forge(copy, lambda r: None, load_extra("safetensors.numpy").save(arrays))
    assert path == arrays_file(copy)
    for arguments in (["sample", copy], ["gradflow", copy], COMMANDS["resume"](copy)):
        assert "model.rnn.bias_ih_l0: expected finite numbers" in refused(capsys, *arguments)


def test_names_that_are_not_unicode(text_file, tmp_path, use):
    name = shutil.copy(text_file, tmp_path / os.fsdecode(b"\xff.txt"))
    folder = tmp_path / os.fsdecode(b"\xfe")
    train = command("train", name, *SMALL, "--steps", 2, "--out", folder)
    for arguments in (train, command(*use(folder))):
        done = subprocess.run(arguments, capture_output=True)
        assert done.returncode == 0, done.stderr
