# SPDX-License-Identifier: MIT
"""What the tests of the command share: a short training, and how to run and be refused."""

import sys

import pytest
from fusedrnn import cli

for extra in ("safetensors", "tqdm", "matplotlib"):
    pytest.importorskip(extra)

STEPS = 60
ENDLESS = ["--steps", "1000000"]
SMALL = ["--cell", "lstm", "--hidden", "8", "--batch", "4", "--chunk", "8", "--save-every", "0"]


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
