# SPDX-License-Identifier: MIT
"""Threads of the caller's making, processes by fork, and settings."""

import os
import signal
import subprocess
import sys
import threading

import fusedrnn
import numpy as np
import pytest
from fusedrnn import _core
from kernel_cases import make_problem, run_kernel


def problem():
    """Large enough for several threads, in both ways of sharing the work."""
    return make_problem("lstm", T=20, N=3, I=30, H=130, dtype="float32")


def test_calls_at_the_same_time(threads):
    threads(2)
    p = problem()
    wanted, results = run_kernel(p), []

    def work():
        results.extend(run_kernel(p) for _ in range(20))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) == 80
    assert _core.threads_at_work() == 0
    for result in results:
        for name, value in wanted.items():
            np.testing.assert_array_equal(result[name], value)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_computes(threads):
    """OpenMP's threads do not survive a fork; the child must not wait for them."""
    threads(2)
    p = problem()
    wanted = run_kernel(p)
    child = os.fork()
    if child == 0:
        same = all((run_kernel(p)[name] == value).all() for name, value in wanted.items())
        os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_forked_during_a_call_computes():
    """Another thread may hold a mutex: it does so for long when a tape goes back to the system."""
    layer, stop = fusedrnn.RNN(1, 64, seed=0), threading.Event()
    small, large = (np.ones((T, 1, 1), np.float32) for T in (1, 20_000))

    def work():
        while not stop.is_set():
            layer.forward(small)
            layer.forward(large)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for _ in range(100):
            child = os.fork()
            if child == 0:
                signal.alarm(20)  # ends a child that waits for ever
                layer.forward(small)
                os._exit(_core.threads_at_work())
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        stop.set()
        worker.join()


def test_more_threads_than_cores(threads):
    p = problem()
    threads(1)
    wanted = run_kernel(p)
    threads(16)
    for name, value in run_kernel(p).items():
        np.testing.assert_array_equal(value, wanted[name])


@pytest.mark.parametrize(
    ("most", "step", "meeting", "wanted"),
    [
        (2, 25e3, 62, 2),  # measured: as fast as one thread from here on
        (2, 20e3, 62, 1),
        (2, 25e3, 350, 1),
        (2, 120e3, 350, 1),
        (2, 140e3, 350, 2),
        (1, 1e9, 62, 1),
        (16, 1e9, 62, 16),
        (16, 160e3, 62, 10),
        (16, 0, 1, 1),
    ],
)
def test_threads_by_what_a_barrier_takes(most, step, meeting, wanted):
    assert _core.threads_of_units(most, step, meeting) == wanted


@pytest.mark.parametrize(
    ("cell", "shape", "meeting", "wanted"),
    [
        ("rnn", (64, 16, 128), 72, 2),  # measured: 0.92 of the time by units
        ("rnn", (64, 32, 256), 72, 2),
        ("lstm", (256, 128, 64), 72, 2),
        ("lstm", (64, 16, 128), 72, 1),  # 1.2
        ("gru", (64, 32, 128), 72, 1),
        ("lstm", (30, 7, 33), 190, 2),  # three blocks of units: 0.62
        ("lstm", (40, 4, 128), 190, 1),
        ("rnn", (40, 4, 128), 190, 2),
        ("gru", (40, 4, 16), 190, 1),  # too little in all
        ("lstm", (64, 64, 512), 350, 1),  # weights that no cache holds twice
        ("lstm", (1000, 1, 64), 350, 1),
        ("lstm", (64, 16, 64), 190, 2),
        ("lstm", (64, 16, 64, 1024), 190, 1),  # W_ih is large
    ],
)
def test_threads_by_what_weights_take(cell, shape, meeting, wanted):
    T, N, H, I = (*shape, shape[2])[:4]
    gates = {"rnn": 1, "gru": 3, "lstm": 4}[cell]
    step = 2 * N * gates * H * (H + I)
    of_units = _core.threads_of_units(2, step, meeting)
    assert _core.threads_of_rows(2, of_units, T, N, I, H, gates, 16, meeting) == wanted


def test_number_of_threads(threads):
    fusedrnn.set_num_threads(3)
    assert fusedrnn.get_num_threads() == 3
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="at least 1"):
            _core.set_num_threads(wrong)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"OMP_NUM_THREADS": "3"}, "3"),
        ({"OMP_NUM_THREADS": "5,2"}, "5"),
        ({"FUSEDRNN_NUM_THREADS": "2", "OMP_NUM_THREADS": "3"}, "2"),
        ({"FUSEDRNN_NUM_THREADS": "", "OMP_NUM_THREADS": "3"}, "3"),
    ],
)
def test_number_of_threads_from_the_environment(environment, expected):
    kept = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    code = "import fusedrnn; print(fusedrnn.get_num_threads())"
    done = subprocess.run(
        [sys.executable, "-c", code], env=kept | environment, capture_output=True, text=True
    )
    assert done.stdout.strip() == expected, done.stderr


@pytest.mark.parametrize("wrong", ["many", "0", "-1", "4x", "1e3"])
def test_no_number_of_threads_in_the_environment(wrong):
    env = os.environ | {"FUSEDRNN_NUM_THREADS": wrong}
    command = [sys.executable, "-c", "import fusedrnn"]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    said = f"ImportError: FUSEDRNN_NUM_THREADS: expected a number of at least 1, got '{wrong}'"
    assert done.stderr.strip().endswith(said)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no processor affinity")
def test_number_of_threads_is_that_of_the_processors_allowed():
    kept = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    all_ = os.sched_getaffinity(0)
    for allowed, bind in (({min(all_)}, "false"), (all_, "false"), (all_, "true")):
        code = f"import os; os.sched_setaffinity(0, {allowed}); import fusedrnn; "
        code += "print(fusedrnn.get_num_threads())"
        env = kept | {"OMP_PROC_BIND": bind}  # true: OpenMP binds the first thread to one of them
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
        assert done.stdout.strip() == str(len(allowed)), done.stderr


ENDS = """
import threading, time, fusedrnn, numpy as np
layer, x = fusedrnn.GRU(32, 64), np.ones((60, 8, 32), np.float32)
def compute():
    while True:
        layer(x)
for _ in range(3):
    threading.Thread(target=compute, daemon=True).start()
time.sleep(0.2)
"""


def test_a_process_ends_while_daemon_threads_compute():
    done = subprocess.run([sys.executable, "-c", ENDS], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("name", _core.isas())
def test_instruction_set_from_the_environment(name):
    code = "import fusedrnn; print(fusedrnn.isa())"
    env = os.environ | {"FUSEDRNN_ISA": name}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.stdout.strip() == name, done.stderr


def test_unknown_instruction_set():
    with pytest.raises(ValueError, match="expected one of baseline"):
        _core.set_isa("neon512")
    code = "import fusedrnn; fusedrnn.isa()"
    env = os.environ | {"FUSEDRNN_ISA": "neon512"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert "isa: expected one of baseline" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tapes_are_reused(dtype):
    """The memory of one step serves the next: resident memory does not grow."""
    import resource

    p = make_problem("lstm", T=50, N=20, I=64, H=64, dtype=dtype)
    for _ in range(5):
        run_kernel(p)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(50):
        run_kernel(p)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4096  # KiB
