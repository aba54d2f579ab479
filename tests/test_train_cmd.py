# SPDX-License-Identifier: MIT
"""fusedrnn train: stopped, killed, resumed; one at a time in a folder; bad text."""

import itertools
import shutil
import signal
import subprocess
import time
from types import SimpleNamespace

import pytest
from cli_cases import ENDLESS, SMALL, STEPS, arrays_file, command, refused
from fusedrnn import checkpoint, cli, get_num_threads, set_num_threads, train_cmd
from fusedrnn import run as run_module
from fusedrnn.corpus import read_corpus


@pytest.fixture(autouse=True)
def _same_threads_for_the_next_test():
    threads = get_num_threads()
    yield
    set_num_threads(threads)


def facts(folder):
    record, _ = checkpoint.load(folder)
    return {name: record[name] for name in record if name not in ("seconds", "limits")}


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


@pytest.mark.parametrize(
    "name",
    [
        "step-00001000.safetensors",
        "step-00001000.safetensors.partial",
        "checkpoint.json.partial",
        "loss.png",
    ],
)
def test_a_new_run_costs_nobody_a_file(text_file, tmp_path, capsys, name):
    (tmp_path / name).write_text("precious")
    (tmp_path / "step-1.safetensors").write_text("in nobody's way")
    message = refused(capsys, "train", text_file, "--out", tmp_path)
    assert message.startswith(f"fusedrnn: {tmp_path / name}: would be lost")
    assert (tmp_path / name).read_text() == "precious"
    (tmp_path / name).unlink()
    assert cli.main(["train", text_file, *SMALL, "--steps", "1", "--out", str(tmp_path)]) == 0


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


def test_one_is_said_as_one(text_file, tmp_path, capsys):
    small = ["--hidden", "2", "--batch", "1", "--chunk", "1", "--steps", "1", "--threads", "1"]
    assert cli.main(["train", text_file, *small, "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    for text in ("1 file:", "1 stream of 1 character\n", "1 step, 1 character,", "(1 thread,"):
        assert text in out


def test_a_huge_learning_rate(text_file, tmp_path):
    for lr, steps in (("1e30", 1), ("1e30", 3), ("1e39", 1), ("1e300", 1)):
        run = command("train", text_file, "--lr", lr, "--steps", steps, "--hidden", 8)
        done = subprocess.run([*run, "--out", tmp_path / f"{lr} {steps}"], capture_output=True)
        assert done.returncode in (0, 2)
        assert b"Traceback" not in done.stderr
    assert b"Warning" not in done.stderr
    assert b"fusedrnn: diverged in step 1: use a lower --lr" in done.stderr
    assert checkpoint.load(tmp_path / "1e300 1")[0]["step"] == 0


def test_standard_error_is_closed(text_file, tmp_path):
    train = command("train", text_file, *SMALL, "--steps", 2, "--out", tmp_path)
    subprocess.run(["sh", "-c", 'exec "$@" 2>&-', "sh", *train], capture_output=True, check=True)
    assert checkpoint.load(tmp_path)[0]["step"] == 2


def test_bad_text(tmp_path, capsys):
    train = ["train", "--out", tmp_path / "run"]
    assert "No such file" in refused(capsys, *train, tmp_path / "nothing")
    assert "a directory" in refused(capsys, *train, tmp_path)
    (tmp_path / "short").write_text("ab")
    assert "too few" in refused(capsys, *train, tmp_path / "short")
    assert "corpus: expected paths of files, got ''" in refused(capsys, *train, "")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be(text_file, tmp_path, capsys):
    (tmp_path / "file").touch()
    message = refused(capsys, "train", text_file, "--out", tmp_path / "file")
    assert message == f"fusedrnn: {tmp_path / 'file'}: expected a folder, got a file\n"
    assert str(tmp_path / "file") in refused(
        capsys, "train", text_file, "--out", tmp_path / "file" / "run"
    )
