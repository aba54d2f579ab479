# SPDX-License-Identifier: MIT
"""fusedrnn bench: its table, and equal work for those it compares."""

import numpy as np
import pytest
from fusedrnn import cli


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
