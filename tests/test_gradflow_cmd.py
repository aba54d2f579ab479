# SPDX-License-Identifier: MIT
"""fusedrnn gradflow: its table and picture, of fresh layers and of a trained model."""

import re

import numpy as np
import pytest
from fusedrnn import cli, gradflow_cmd, plot
from fusedrnn import run as run_module


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


def test_gradflow_shows_every_cell_the_same_input_and_each_cell_once(monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    seen = {}

    def look(layer, x):
        assert layer.cell not in seen
        seen[layer.cell] = x
        return [{}]

    monkeypatch.setattr(gradflow_cmd, "gate_saturation", look)
    few = ["gradflow", "--steps", "3", "--hidden", "2", "--out", str(tmp_path / "flow.png")]
    assert cli.main([*few, "--cells", "gru"]) == 0
    alone = seen.pop("gru")
    assert cli.main([*few, "--cells", "lstm", "gru", "lstm", "rnn"]) == 0
    assert list(seen) == ["lstm", "gru", "rnn_tanh"]
    for x in seen.values():
        np.testing.assert_array_equal(x, alone)


def test_gradflow_of_a_trained_model(finished, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    out = tmp_path / "flow.png"
    assert cli.main(["gradflow", str(finished), "--steps", "5", "--out", str(out)]) == 0
    assert str(finished) in capsys.readouterr().out
    assert out.stat().st_size > 1000


def test_gradflow_of_a_trained_model_reads_what_the_model_writes(finished, monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
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


def test_not_enough_memory_names_options_of_the_command(monkeypatch, capsys):
    def fail(args):
        raise MemoryError

    monkeypatch.setattr(cli, "gradflow", fail)
    assert cli.main(["gradflow"]) == 2
    assert capsys.readouterr().err.rstrip().endswith("lower --hidden or --steps")
    monkeypatch.setattr(cli, "_info", fail)
    assert cli.main(["info"]) == 2
    assert capsys.readouterr().err.rstrip().endswith("not enough memory")


def test_a_single_value_is_seen(tmp_path):
    pytest.importorskip("matplotlib")
    out = tmp_path / "flow.svg"
    one = np.array([1.0, 0])
    plot.gradient_flow(out, {"rnn_tanh": (one, one[:1], {})})
    points = re.findall(r'<g clip-path="[^"]*">\s*<use ', out.read_text())  # ticks are not clipped
    assert len(points) == 2
