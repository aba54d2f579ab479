# SPDX-License-Identifier: MIT
"""The command: from train to sample, and what it says to bad options and surroundings."""

import contextlib
import os
import subprocess
import sys

import pytest
from checkpoint_cases import forge
from cli_cases import SMALL, command, refused
from fusedrnn import cli


def test_train_info_sample(text_file, tmp_path, capsys):
    folder = tmp_path / "a run"
    assert cli.main(["train", text_file, *SMALL, "--steps", "40", "--out", str(folder)]) == 0
    out, err = capsys.readouterr()
    titles = [line.split()[0] for line in out.splitlines() if line.split()]
    for title in ("training", "held", "sample", "picture", "speed", "checkpoint"):
        assert title in titles
    assert "step 40, loss " in err
    assert "bits/char" in err
    assert (folder / "loss.png").read_bytes().startswith(b"\x89PNG")

    assert cli.main(["info", str(folder)]) == 0
    out = capsys.readouterr().out
    for line in ("step 40", "settings.cell lstm", "settings.hidden 8"):
        assert line in " ".join(out.split())

    sample = ["sample", str(folder), "--prompt", "hel", "--length", "50", "--seed", "3"]
    texts = []
    for extra in ([], [], ["--seed", "4"], ["--temperature", "0"]):
        assert cli.main([*sample, *extra]) == 0
        texts.append(capsys.readouterr().out)
    assert all(text.startswith("hel") and len(text) == 3 + 50 + 1 for text in texts)
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize("cell", ["rnn", "rnn_relu", "gru", "gru_reset_before"])
def test_every_cell_trains_and_samples(text_file, tmp_path, capsys, cell):
    options = ["--hidden", "5", "--layers", "2", "--dtype", "float64", "--clip", "0"]
    run = ["train", text_file, "--cell", cell, *options, "--epochs", "0.1", "--out", str(tmp_path)]
    assert cli.main(run) == 0
    assert cli.main(["sample", str(tmp_path), "--length", "5"]) == 0


def test_the_limits_are_told_as_they_are(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["train", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "stop after so many; default: 6000, if no limit is given" in text
    assert "a limit given takes the place of all that the run had" in text


def test_info_prints_no_control_characters(copy, capsys):
    """Of a JSON with its checksum, made by hand."""
    forge(copy, lambda r: r.update({"a\x9b": "é\x9b", "b": ["é\u202e\x1b\udcff"]}))
    assert cli.main(["info", str(copy)]) == 0
    out = capsys.readouterr().out
    assert out.replace("\n", "").isprintable()
    assert "\na\\x9b  " in out
    assert '"é\\x9b"' in out
    assert '["é\\u202e\\u001b\\udcff"]' in out


@pytest.mark.parametrize("nest", [lambda v: [v], lambda v: {"a": v}])
def test_info_of_any_depth(copy, capsys, nest):
    record = {"deep": 0}
    codes = set()
    with contextlib.suppress(RecursionError):  # of forge
        for depth in range(1000):
            record["deep"] = nest(record["deep"])
            if depth > 900:
                forge(copy, lambda r: r.update(record))
                codes.add(cli.main(["info", str(copy)]))
    assert codes <= {0, 2}
    assert 0 in codes


def test_info_says_what_is_installed(capsys):
    assert cli.main(["info"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("version", "isa", "threads", "compiler", "cuda"))


@pytest.mark.parametrize("arguments", [["info"], ["bench"], ["sample", "x"], ["train"]])
def test_an_unknown_instruction_set(arguments):
    done = subprocess.run(
        command(*arguments),
        env=os.environ | {"FUSEDRNN_ISA": "foo"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("fusedrnn: FUSEDRNN_ISA: expected one of ")
    assert done.stderr.count("\n") == 1


def test_standard_output_is_closed(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", None)
    assert cli.main(["info"]) == 2
    monkeypatch.undo()
    assert capsys.readouterr().err == "fusedrnn: standard output is closed\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["tarin"],
        ["train", "--hidden", "0"],
        ["train", "--layers", "100000"],
        ["train", "--epochs", "1e308"],
        ["train", "--epochs", "inf"],
        ["train", "--hidden", "many"],
        ["train", "--lr", "nan"],
        ["train", "--lr", "0"],
        ["train", "--minutes", "-1"],
        ["train", "--cell", "transformer"],
        ["train", "--dtype", "float16"],
        ["sample"],
        ["sample", "x", "--temperature", "-1"],
        ["sample", "x", "--length", "-1"],
    ],
)
def test_bad_options(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize("extra", ["tqdm", "safetensors", "matplotlib"])
def test_a_missing_extra_is_named_before_anything_is_done(
    text_file, tmp_path, monkeypatch, capsys, extra
):
    monkeypatch.setitem(sys.modules, extra, None)
    monkeypatch.setitem(sys.modules, f"{extra}.numpy", None)
    message = refused(capsys, "train", text_file, "--out", tmp_path / "run")
    assert message == f"fusedrnn: {extra} is missing: pip install 'fusedrnn[train]'\n"
    assert not (tmp_path / "run").exists()


def test_a_reader_that_has_gone(finished):
    """`fusedrnn sample … | head -c 1` ends without a word."""
    with subprocess.Popen(
        command("sample", finished, "--length", 100_000),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["gradflow", "--steps", "0"], "--steps: expected an integer in 1..16777216, got '0'"),
        (["gradflow", "--steps", "a"], "--steps: expected an integer in 1..16777216, got 'a'"),
        (["train", "--lr", "0"], "--lr: expected a number above 0, got '0'"),
        (["train", "--clip", "-1"], "--clip: expected a number of at least 0, got '-1'"),
        (["train", "--epochs", "1e9"], "expected a number above 0, at most 16777216, got '1e9'"),
    ],
)
def test_numbers_out_of_range(arguments, text, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(arguments)
    assert text in capsys.readouterr().err
