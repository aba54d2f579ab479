# SPDX-License-Identifier: MIT
"""One process for each contestant; they take turns.

No thread pool disturbs another's, and a machine that changes its speed changes it for all. What a
process needs is imported inside the functions: the contestant's own library must be the first.
"""

import concurrent.futures
import contextlib
import importlib
import multiprocessing
import statistics
import time

WARM_UP, LEAST_RUNS = 0.05, 3  # seconds before a measurement, and runs in it


class Turns:
    """The processes, as a context manager."""

    def __init__(self, contestants, rounds, seconds):
        self.rounds, self.seconds = rounds, seconds
        spawn = multiprocessing.get_context("spawn")  # a fork would lack its parent's threads
        self.pools = {
            name: concurrent.futures.ProcessPoolExecutor(1, spawn, _start, (name,))
            for name in contestants
        }

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for pool in self.pools.values():
            pool.shutdown(cancel_futures=True)

    def measure(self, contestants, *problem):
        """Seconds of each round, by contestant; every other round runs in the opposite order.

        problem is (task, cell, T, N, H). Answers are compared before anything is timed.
        """
        from contestants import assert_same

        answers = {name: self._call(name, _answer, *problem) for name in contestants}
        for answer in answers.values():
            assert_same(problem[0], answers["kernels"], answer)
        times = {name: [] for name in contestants}
        for i in range(self.rounds):
            for name in reversed(contestants) if i % 2 else contestants:
                times[name].append(self._call(name, _median, *problem, self.seconds))
        return times

    def _call(self, name, function, *args):
        return self.pools[name].submit(function, name, *args).result()


def _start(name):
    if name == "torch":
        with contextlib.suppress(ImportError):
            importlib.import_module("torch")


def _answer(name, *problem):
    from contestants import arrays, run

    return arrays(run(name, *problem)())


def _median(name, task, cell, T, N, H, seconds):
    """The median time of at least so many seconds of runs, after a warm-up."""
    from contestants import run

    contestant = run(name, task, cell, T, N, H)
    for least in (WARM_UP, seconds):
        times, began = [], time.perf_counter()
        while len(times) < LEAST_RUNS or time.perf_counter() - began < least:
            start = time.perf_counter()
            contestant()
            times.append(time.perf_counter() - start)
    return statistics.median(times)
