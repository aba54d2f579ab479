# SPDX-License-Identifier: MIT
"""One process for each contestant; they take turns.

No thread pool disturbs another's, and a machine that changes its speed changes it for all. What a
process needs is imported inside the functions: the contestant's own library must be the first.
"""

import concurrent.futures
import importlib
import multiprocessing
import os
import statistics
import sys
import time

WARM_UP, LEAST_RUNS = 0.05, 3  # seconds before a measurement, and runs in it
LIMITS = "limits"  # the process that measures the machine


class Turns:
    """The processes, as a context manager."""

    def __init__(self, contestants):
        spawn = multiprocessing.get_context("spawn")  # a fork would lack its parent's threads
        self.pools = {
            name: concurrent.futures.ProcessPoolExecutor(1, spawn, _start, (name,))
            for name in (*contestants, LIMITS)
        }

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for pool in self.pools.values():
            pool.shutdown(cancel_futures=True)

    def measure(self, contestants, rounds, seconds, *problem):
        """Seconds of each round by contestant, and the machine's limits in each round.

        seconds: of runs in one measurement. problem is (task, cell, T, N, I, H). Answers are
        compared before anything is timed; every other round runs in the opposite order.
        """
        from contestants import assert_same

        answers = {name: self.call(name, _answer, name, *problem) for name in contestants}
        for name, answer in answers.items():
            try:
                assert_same(*problem[:2], answers["kernels"], answer)
            except AssertionError as error:
                raise AssertionError(f"{name}, {problem}: {error}") from None
        times, limits = {name: [] for name in contestants}, []
        for i in range(rounds):
            limits.append(self.call(LIMITS, _limits, *problem[1:]))
            for name in reversed(contestants) if i % 2 else contestants:
                times[name].append(self.call(name, median_seconds, name, *problem, seconds))
        return times, limits

    def call(self, name, function, *args):
        return self.pools[name].submit(function, *args).result()


def set_environment(threads):
    """As many threads and the same instruction set for all; before any is imported.

    ONNX Runtime has no setting that holds it to AVX2.
    """
    if threads > (most := len(os.sched_getaffinity(0))):  # we would not use them, and peers suffer
        sys.exit(f"--threads: expected at most {most}, the processors allowed, got {threads}")
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        os.environ.pop(name, None)  # BLAS kernels for this processor, not another
    for name in ("OMP", "MKL", "OPENBLAS", "FUSEDRNN"):
        os.environ[f"{name}_NUM_THREADS"] = str(threads)
    os.environ["NPROC"] = str(threads)  # JAX has no other setting
    if os.environ.get("FUSEDRNN_ISA") == "avx2":
        os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX2"  # in PyTorch and OpenVINO
        os.environ["ATEN_CPU_CAPABILITY"] = "avx2"
        os.environ["XLA_FLAGS"] = "--xla_cpu_max_isa=AVX2"


def warn_if_busy():
    """Threads that meet at a barrier wait for a time slice where another program has a core."""
    if (load := os.getloadavg()[0]) > 0.5:
        print(f"other programs are running (load {load:.1f}): expect noise", file=sys.stderr)


def _start(name):
    ours = name in ("kernels", "frozen", "reference", LIMITS)
    importlib.import_module("fusedrnn" if ours else name)


def _answer(*problem):
    from contestants import make

    call, arrays = make(*problem)
    return arrays(call())


def curve():
    """(bytes, bytes a second) of each share; to be called in the process of the limits."""
    import fusedrnn
    from limits import SHARES, bandwidth

    return [(share, bandwidth(fusedrnn.get_num_threads(), share)) for share in SHARES]


def _limits(*problem):
    import fusedrnn
    from limits import limits

    return limits(fusedrnn.get_num_threads(), *problem)


def median_seconds(name, task, cell, T, N, I, H, seconds):
    """The median time of at least so many seconds of runs, after a warm-up."""
    from contestants import make

    call, _ = make(name, task, cell, T, N, I, H)
    return timed(call, seconds)


def timed(call, seconds):
    """The median time of a call's runs, of so many seconds at least, after a warm-up."""
    for least in (WARM_UP, seconds):
        times, began = [], time.perf_counter()
        while len(times) < LEAST_RUNS or time.perf_counter() - began < least:
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
    return statistics.median(times)
