# SPDX-License-Identifier: MIT
"""The pictures: whatever a notebook asks of Matplotlib, whatever a folder is called."""

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from cli_cases import SMALL, command
from fusedrnn import plot
from fusedrnn.errors import InputError

FLOW = {"rnn_tanh": (np.ones(3), np.ones(2), {"z": 0.5})}


def test_the_backend_of_a_notebook_does_not_matter(text_file, tmp_path):
    """It may name a module that is not installed here."""
    train = ["train", text_file, *SMALL, "--steps", "1", "--out", tmp_path]
    for arguments in (train, ["gradflow", "--steps", "2", "--out", tmp_path / "flow.png"]):
        done = subprocess.run(
            command(*arguments), env=os.environ | {"MPLBACKEND": "foo"}, capture_output=True
        )
        assert done.returncode == 0, done.stderr


def test_the_environment_is_as_before(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "foo")
    plot.load_matplotlib()
    assert os.environ["MPLBACKEND"] == "foo"


@pytest.mark.parametrize("name", ["x$^$y", r"$\frac{$", "$a$ b $", "_under", "\udcff", r"a\$b"])
def test_names_are_drawn_as_they_are(name, tmp_path):
    plot.gradient_flow(tmp_path / "flow.svg", {name: FLOW["rnn_tanh"]})
    drawn = (tmp_path / "flow.svg").read_text("utf-8")
    shown = name.replace("\udcff", "\N{REPLACEMENT CHARACTER}")
    for text in (shown, f"{shown} z"):  # in the legend, and under a bar
        assert re.search(f"<!--  ?{re.escape(text)} -->", drawn)


def test_a_disk_without_space_names_the_picture():
    full = Path("/dev/full")
    with pytest.raises(InputError, match=r"^/dev/full: No space left on device$"):
        plot.gradient_flow(full, FLOW)
    with pytest.raises(InputError, match=r"^/dev/full: No space left on device$"):
        plot.loss_curve(full, [1.0, 0.5], 8, 0.7, "title")
