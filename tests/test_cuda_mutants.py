# SPDX-License-Identifier: MIT
"""How mutants of the device kernels are made; mutate_cuda.py runs them."""

from cuda_mutants import Mutant, asleep, can_sleep, changes, mutants
from host_build import CSRC, TESTS


def mutated(line):
    found = [Mutant("", 1, *change, line) for change in changes(line)]
    return found, [mutant.mutated().strip() for mutant in found]


def test_changes():
    assert mutated("  if (a < b && own) __syncthreads();")[1] == [
        "if (a < b && own) ;",
        "if (a <= b && own) __syncthreads();",
        "if (a < b && true) __syncthreads();",
        "if (true && own) __syncthreads();",
        "if (a < b && true) __syncthreads();",
    ]
    assert mutated("return x ? 1 : s == T || !late ? s : 0;")[1] == [
        "return x ? 1 : false || !late ? s : 0;",
        "return x ? 1 : s == T || false ? s : 0;",
    ]


def test_asleep():
    line = "  if (a < b || x[i >= 2]) __syncthreads();"
    found, _ = mutated(line)
    assert asleep(line, list(enumerate(found))) == (
        "  if ((!mutant(3) && (a <less(1)> b)) || (!mutant(4) && (x[i <greater_equal(2)> 2]))) "
        "(mutant(0) ? void() : (__syncthreads()));"
    )


def test_what_the_compiler_knows_cannot_sleep():
    lines = ["constexpr int f(int i) {", "  return i < 2;", "}", "if constexpr (a > 0) {", "b < c;"]
    assert can_sleep(lines) == [False] * 4 + [True]


def test_explained_survivors_are_mutants_of_the_kernels_as_they_are():
    keys = {mutant.key() for mutant in mutants(CSRC)}
    lines = (TESTS / "cuda_survivors.md").read_text().splitlines()
    explained = {line.removeprefix("- ") for line in lines if line.startswith("- ")}
    assert explained
    assert explained <= keys
