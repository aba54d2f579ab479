# SPDX-License-Identifier: MIT
"""The command: train, info, sample; stopped, killed, resumed; and what it says to bad input."""

import itertools
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from fusedrnn import checkpoint, cli, get_num_threads, set_num_threads, train_cmd
from fusedrnn import run as run_module
from fusedrnn.corpus import read_corpus

for extra in ("safetensors", "tqdm", "matplotlib"):
    pytest.importorskip(extra)

STEPS = 60
ENDLESS = ["--steps", "1000000"]
SMALL = ["--cell", "lstm", "--hidden", "8", "--batch", "4", "--chunk", "8", "--save-every", "0"]


@pytest.fixture(scope="module")
def text_file(tmp_path_factory):
    rng = random.Random(0)
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("".join(rng.choice(["foo(bar)\n", "hello\n"]) for _ in range(135))[:990])
    return str(path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, text_file):
    """Return the folder of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert cli.main(["train", text_file, *SMALL, "--steps", str(STEPS), "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "copy")


@pytest.fixture(autouse=True)
def _same_threads_for_the_next_test():
    threads = get_num_threads()
    yield
    set_num_threads(threads)


def command(*arguments):
    return [sys.executable, "-m", "fusedrnn", *map(str, arguments)]


def refused(capsys, *arguments):
    """Run a command that must fail, and return the one line that it says."""
    assert cli.main([str(argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("fusedrnn: ")
    assert err.count("\n") == 1
    return err


def arrays_file(folder):
    (path,) = folder.glob("step-*.safetensors")
    return path


def facts(folder):
    record, _ = checkpoint.load(folder)
    return {name: record[name] for name in record if name not in ("seconds", "limits")}


# From train to sample


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


def test_info_says_what_is_installed(capsys):
    assert cli.main(["info"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("version", "isa", "threads", "compiler", "cuda"))


def test_a_limit_of_time_is_kept(text_file, tmp_path, monkeypatch):
    """Every look at the clock takes 6 s here, so 1 minute is over after some steps."""
    clock = SimpleNamespace(perf_counter=itertools.count(0.0, 6.0).__next__)
    monkeypatch.setattr(train_cmd, "time", clock)
    run = ["train", text_file, *SMALL, "--minutes", "1", "--out", str(tmp_path)]
    assert cli.main(run) == 0
    record, _ = checkpoint.load(tmp_path)
    assert record["seconds"] == 60
    assert cli.main([*run, "--resume"]) == 0
    assert checkpoint.load(tmp_path)[0]["step"] == record["step"]


# Stopped, killed, resumed


def wait_for_step(folder, process, step):
    """Wait until the checkpoint is of that step or later; every one met on the way must load."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if (folder / checkpoint.JSON).exists() and checkpoint.load(folder)[0]["step"] >= step:
            return
        time.sleep(0.001)
    pytest.fail(f"no checkpoint of step {step}")


def interrupt(folder, arguments, step, number):
    """Start a run, send it a signal at some moment after a step, and return how it ended."""
    with subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            wait_for_step(folder, process, step)
            process.send_signal(number)
            err = process.communicate(timeout=60)[1]
        finally:
            process.kill()
    return process.returncode, err


def resume_and_compare(folder, text_file):
    """Go on for some steps, and compare with a run of as many that nothing disturbed."""
    steps = ["--steps", str(checkpoint.load(folder)[0]["step"] + 20)]
    # another number of threads changes no bits
    assert cli.main(["train", "--resume", "--out", str(folder), *steps, "--threads", "1"]) == 0
    whole = folder / "whole"
    assert cli.main(["train", text_file, *SMALL, *steps, "--out", str(whole)]) == 0
    assert arrays_file(folder).read_bytes() == arrays_file(whole).read_bytes()
    assert facts(folder) == facts(whole)


def test_killed_and_resumed_is_as_if_never_stopped(text_file, tmp_path):
    run = ["train", text_file, *SMALL, *ENDLESS, "--out", tmp_path]
    for step in (0, 13, 50):
        code, _ = interrupt(tmp_path, run, step, signal.SIGKILL)
        assert code == -signal.SIGKILL
        assert checkpoint.load(tmp_path)[0]["step"] >= step
        run = ["train", "--resume", "--out", tmp_path, "--save-every", "0"]
    resume_and_compare(tmp_path, text_file)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_and_resumed_is_as_if_never_stopped(text_file, tmp_path, number):
    run = ["train", text_file, *SMALL, *ENDLESS, "--out", tmp_path, "--save-every", "1e9"]
    code, err = interrupt(tmp_path, run, 0, number)
    assert code == 128 + number
    last = err.splitlines()[-1]
    assert last.startswith("fusedrnn: stopped at step ")
    assert last.endswith(f"fusedrnn train --resume --out {tmp_path}")
    resume_and_compare(tmp_path, text_file)


def test_resumed_beyond_its_end_is_as_if_begun_with_that_end(finished, copy, text_file, tmp_path):
    longer = ["--steps", str(STEPS + 10)]
    assert cli.main(["train", "--resume", "--out", str(copy), *longer]) == 0
    other = tmp_path / "other"
    assert cli.main(["train", text_file, *SMALL, *longer, "--out", str(other)]) == 0
    assert arrays_file(copy).read_bytes() == arrays_file(other).read_bytes()


def test_a_finished_run_resumed_reports_again(finished, copy, capsys):
    before = arrays_file(copy).read_bytes()
    assert cli.main(["train", "--resume", "--out", str(copy), "--threads", "1"]) == 0
    assert "held out" in capsys.readouterr().out
    assert arrays_file(copy).read_bytes() == before


def test_resume_takes_no_other_settings_and_no_other_text(copy, text_file, tmp_path, capsys):
    resume = ["train", "--resume", "--out", copy]
    assert "--hidden 9: the run in" in refused(capsys, *resume, "--hidden", 9)
    assert "--cell gru: the run in" in refused(capsys, *resume, "--cell", "gru")
    other = tmp_path / "other.txt"
    other.write_text("something else\n" * 100)
    assert "the text is not the one" in refused(capsys, *resume, other)
    moved = shutil.copy(text_file, tmp_path / "moved.txt")
    assert cli.main([*map(str, resume), str(moved), "--hidden", "8"]) == 0


def test_a_run_is_not_overwritten(copy, text_file, capsys):
    before = arrays_file(copy).read_bytes()
    assert "holds a run; add --resume" in refused(capsys, "train", text_file, "--out", copy)
    assert arrays_file(copy).read_bytes() == before


def test_one_training_at_a_time_in_a_folder(text_file, tmp_path, capsys):
    """The second is refused, and the first goes on; what is killed locks no more."""
    run = ["train", text_file, *SMALL, *ENDLESS, "--out", tmp_path]
    with subprocess.Popen(
        command(*run), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            wait_for_step(tmp_path, process, 1)
            message = refused(capsys, "train", "--resume", "--out", tmp_path)
            assert message == f"fusedrnn: {tmp_path}: another training is at work in it\n"
            assert process.poll() is None
        finally:
            process.kill()
    resume_and_compare(tmp_path, text_file)


def test_two_that_begin_at_once(text_file, tmp_path, monkeypatch, capsys):
    """The first has not stored anything yet."""
    with run_module._locked(tmp_path):
        assert "another training" in refused(capsys, "train", text_file, "--out", tmp_path)

    def read_slowly(files):
        shutil.copytree(tmp_path / "other", tmp_path / "run")
        return read_corpus(files)

    assert cli.main(["train", text_file, *SMALL, "--steps", "1", "--out", f"{tmp_path}/other"]) == 0
    capsys.readouterr()
    monkeypatch.setattr(run_module, "read_corpus", read_slowly)
    assert "holds a run" in refused(capsys, "train", text_file, "--out", tmp_path / "run")


# Bad input


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
    rewrite(copy, CHANGES[change])
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
        lambda r: r["settings"].update(batch=2),
    ],
)
def test_runs_that_cannot_be_resumed(copy, capsys, change):
    rewrite(copy, change)
    refused(capsys, "train", "--resume", "--out", copy)


def rewrite(folder, change):
    """Change the JSON as someone would who knows its checksum."""
    path = folder / checkpoint.JSON
    record = json.loads(path.read_text("utf-8"))
    del record["sha256"]
    change(record)
    record["sha256"] = checkpoint._sha256(checkpoint._canonical(record))
    path.write_text(json.dumps(record), "utf-8")


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


def test_names_that_are_not_unicode(text_file, tmp_path, use):
    name = shutil.copy(text_file, tmp_path / os.fsdecode(b"\xff.txt"))
    folder = tmp_path / os.fsdecode(b"\xfe")
    train = command("train", name, *SMALL, "--steps", 2, "--out", folder)
    for arguments in (train, command(*use(folder))):
        done = subprocess.run(arguments, capture_output=True)
        assert done.returncode == 0, done.stderr


def test_a_huge_learning_rate(text_file, tmp_path):
    for steps in (1, 3):
        run = command("train", text_file, "--lr", "1e30", "--steps", steps, "--hidden", 8)
        done = subprocess.run([*run, "--out", tmp_path / str(steps)], capture_output=True)
        assert done.returncode in (0, 2)
        assert b"Traceback" not in done.stderr


def test_bad_text(tmp_path, capsys):
    train = ["train", "--out", tmp_path / "run"]
    assert "No such file" in refused(capsys, *train, tmp_path / "nothing")
    assert "a directory" in refused(capsys, *train, tmp_path)
    (tmp_path / "short").write_text("ab")
    assert "too few" in refused(capsys, *train, tmp_path / "short")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be(text_file, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert str(tmp_path / "file") in refused(
        capsys, "train", text_file, "--out", tmp_path / "file" / "run"
    )


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


# bench


def test_gradflow_of_fresh_layers(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    out = tmp_path / "flow.svg"
    arguments = ["--steps", "12", "--hidden", "8", "--cells", "rnn", "lstm_peephole"]
    assert cli.main(["gradflow", *arguments, "--out", str(out)]) == 0
    head, *lines, last = capsys.readouterr().out.splitlines()
    assert head.split()[:5] == ["0", "1", "2", "5", "10"]
    assert [line.split()[:2] for line in lines] == [
        ["rnn_tanh", "1.0e+00"],
        ["lstm_peephole", "1.0e+00"],
    ]
    assert last == str(out)
    picture = out.read_text()
    assert picture.startswith("<?xml")
    for drawn in ("lag (steps back)", "<!-- step -->", "<!-- lstm_peephole f -->"):
        assert drawn in picture


def test_gradflow_of_a_trained_model(finished, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    out = tmp_path / "flow.png"
    assert cli.main(["gradflow", str(finished), "--steps", "5", "--out", str(out)]) == 0
    assert str(finished) in capsys.readouterr().out
    assert out.stat().st_size > 1000


def test_gradflow_of_a_trained_model_reads_what_the_model_writes(finished, monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    from fusedrnn import gradflow_cmd

    seen = []
    monkeypatch.setattr(gradflow_cmd, "gate_saturation", lambda layer, x: [seen.append(x) or {}])
    out = str(tmp_path / "flow.png")
    assert cli.main(["gradflow", str(finished), "--steps", "5", "--seed", "3", "--out", out]) == 0
    model = run_module.load_model(finished)
    written = "".join(model.generate("", 5 * gradflow_cmd.ROWS, seed=3))
    assert "".join(model.vocabulary.decode(row) for row in seen[0].T) == written


@pytest.mark.parametrize("option", [("--cells", "gru"), ("--hidden", "8")])
def test_gradflow_of_a_trained_model_takes_no_sizes(finished, option, capsys):
    assert cli.main(["gradflow", str(finished), *option]) == 2
    assert "--cells and --hidden are for fresh layers" in capsys.readouterr().err


def test_gradflow_names_a_picture_it_cannot_draw(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    few = ["gradflow", "--steps", "2", "--hidden", "2", "--cells", "rnn", "--out"]
    for out, why in (
        ("flow.txt", "a suffix of "),
        ("flow.pgf", "a suffix of "),  # Matplotlib needs LaTeX for it
        ("none/flow.png", "a path in a folder that exists, got none"),
        (str(tmp_path), "the path of a picture, got a folder"),
    ):
        assert cli.main([*few, out]) == 2
        printed = capsys.readouterr()
        assert f"{out}: expected {why}" in printed.err
        assert not printed.out  # found before the work
    assert cli.main([*few, "flow"]) == 0
    assert (tmp_path / "flow").read_bytes().startswith(b"\x89PNG")


def test_gradflow_of_no_model_prints_nothing_else(tmp_path, capsys):
    assert cli.main(["gradflow", str(tmp_path / "none"), "--out", str(tmp_path / "flow.png")]) == 2
    printed = capsys.readouterr()
    assert printed.err
    assert not printed.out


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


@pytest.mark.parametrize("cell", ["gru", "gru_reset_before", "rnn"])
def test_bench_prints_a_table(monkeypatch, capsys, cell):
    from fusedrnn import bench_cmd

    monkeypatch.setattr(bench_cmd, "SHAPES", ((3, 2, 4), (2, 1, 5)))
    monkeypatch.setattr(bench_cmd, "SECONDS", 0.0)
    assert cli.main(["bench", "--cell", cell]) == 0
    lines = capsys.readouterr().out.splitlines()[-2:]
    assert [line.split()[1:4] for line in lines] == [["3", "2", "4"], ["2", "1", "5"]]
    for line in lines:
        figures = line.split()[4:]
        assert len(figures) == 6
        assert np.all([float(figure) >= 0 for figure in figures if figure != "-"])


@pytest.mark.parametrize("cell", ["rnn_relu", "lstm", "gru"])
def test_bench_times_equal_work(cell):
    """PyTorch's contestant has the same weights, and so the same answer."""
    pytest.importorskip("torch")
    from fusedrnn import bench_cmd

    torch = bench_cmd._torch()
    inference, _ = bench_cmd.tasks(cell, 3, 2, 4, torch)
    ours, theirs = inference["kernels"]()[0], inference["torch"]()[0].numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
