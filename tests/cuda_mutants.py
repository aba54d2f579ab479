# SPDX-License-Identifier: MIT
"""The mutants of the device kernels: what may be wrong in one place of their text."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SYNCHRONISATION = re.compile(r"__syncthreads\(\)|simt::(grid_sync|cp_commit|cp_wait<\d>)\(\)")
COMPARISON = re.compile(r"(?<= )[<>]=?(?= )")
OTHER = {"<": "<=", "<=": "<", ">": ">=", ">=": ">"}
STATE = re.compile(r"\bd\.[hc]\[state\(s\)\]|(?<== )(ds\(k\)|saved\(\)\[[^]]+\])(?=;)")
GUARD = re.compile(r"(?<=[ (])(own|inside|valid\(\)|r < valid)(?= \?|\))")
IF = re.compile(r"\bif \(")
LOGICAL = re.compile(r" (&&|\|\|) ")
DELIMITER = re.compile(r"[?;{},&|]| : |(?<![<>=!])=(?!=)|return ")


class Mutant(NamedTuple):
    file: str
    line: int
    start: int
    end: int
    new: str
    text: str  # the line as it was

    def __str__(self) -> str:
        old = self.text[self.start : self.end]
        return f"{self.file}:{self.line}: `{self.text.strip()}`: `{old}` is `{self.new}`"

    def mutated(self) -> str:
        return self.text[: self.start] + self.new + self.text[self.end :]

    def key(self) -> str:
        """What cuda_survivors.md calls it: lines move."""
        old = self.text[self.start : self.end]
        return f"{self.file}: `{self.text.strip()}`: `{old}` is `{self.new}`"


def operand(line: str, at: int, step: int) -> tuple[int, int]:
    """Where the operand begins and ends that lies before (step -1) or behind position at."""
    depth, i = 0, at
    while 0 <= i - (step < 0) < len(line):
        c = line[i - (step < 0)]
        depth += step * ((c in "([") - (c in ")]"))
        word = step < 0 and (line[i - 7 : i] == "return " or line[i - 3 : i] == " : ")
        if depth < 0 or (depth == 0 and (word or DELIMITER.match(line, i - (step < 0)))):
            break
        i += step
    start, end = sorted((at, i))
    text = line[start:end]
    return start + len(text) - len(text.lstrip()), end - len(text) + len(text.rstrip())


def changes(line: str) -> Iterator[tuple[int, int, str]]:
    """What a mutant has instead of some characters of the line."""
    for match in SYNCHRONISATION.finditer(line):
        yield *match.span(), ""
    for match in COMPARISON.finditer(line):
        yield *match.span(), OTHER[match[0]]
    for match in STATE.finditer(line):  # through the cache that does not see what is written
        yield *match.span(), f"__ldg(&{match[0]})"
    for match in GUARD.finditer(line):
        yield *match.span(), "true"
    for match in IF.finditer(line):
        start, end = operand(line, match.end(), 1)
        leaves = line[end + 1 :].strip().startswith(("continue", "return"))
        if line[end : end + 1] == ")":  # else it is one of several terms, see below
            yield start, end, "false" if leaves else "true"
    for match in LOGICAL.finditer(line):
        for at, step in ((match.start(), -1), (match.end(), 1)):
            yield *operand(line, at, step), "true" if match[1] == "&&" else "false"


# A mutant that is built in with all others, and is one only if the variable MUTANT has its number.
PRELUDE = """
#include <cstdlib>
inline const int active_mutant = std::getenv("MUTANT") ? std::atoi(std::getenv("MUTANT")) : -1;
inline bool mutant(int number) { return number == active_mutant; }
// `a <less(7)> b` is a < b, and a <= b in mutant 7.
template <class A> struct Compared {
  const A& a;
  char how;
  template <class B> friend bool operator>(Compared c, const B& b) {
    return c.how == '<' ? c.a < b : c.how == '>' ? c.a > b : c.how == 'l' ? c.a <= b : c.a >= b;
  }
};
struct Comparison { char how; };
template <class A> Compared<A> operator<(const A& a, Comparison c) { return {a, c.how}; }
inline Comparison less(int n) { return {mutant(n) ? 'l' : '<'}; }
inline Comparison less_equal(int n) { return {mutant(n) ? '<' : 'l'}; }
inline Comparison greater(int n) { return {mutant(n) ? 'g' : '>'}; }
inline Comparison greater_equal(int n) { return {mutant(n) ? '>' : 'g'}; }
"""
NAMES = {"<": "less", "<=": "less_equal", ">": "greater", ">=": "greater_equal"}


def schema(text: str, numbered: list[tuple[int, Mutant]]) -> str:
    """A file with these mutants in it, asleep."""
    lines = text.split("\n")
    for number in {mutant.line for _, mutant in numbered}:
        line = lines[number - 1]
        here = [(n, mutant) for n, mutant in numbered if mutant.line == number]
        lines[number - 1] = asleep(line, here)
    return "\n".join(lines)


def asleep(line: str, here: list[tuple[int, Mutant]]) -> str:
    pieces = dict(enumerate(line))  # what stands at each place instead of its character
    for number, (_, _, start, end, new, _) in sorted(
        here, key=lambda each: each[1].end - each[1].start
    ):
        old = line[start:end]
        if old in NAMES:
            pieces |= dict.fromkeys(range(start, end), "") | {start: f"<{NAMES[old]}({number})>"}
            continue
        before = {
            "true": f"(mutant({number}) || (",
            "false": f"(!mutant({number}) && (",
            "": f"(mutant({number}) ? void() : (",
        }.get(new, f"(mutant({number}) ? {new} : (")
        pieces[start] = before + pieces[start]
        pieces[end - 1] += "))"
    return "".join(pieces.values())


def can_sleep(lines: list[str]) -> list[bool]:
    """Whether what a line says is left to the time of running."""
    result, until = [], ""
    for line in lines:
        indent = line[: len(line) - len(line.lstrip())]
        constant = "constexpr" in line
        if constant and line.endswith("{") and "if constexpr" not in line:
            until = until or indent + "}"
        result.append(not (constant or until))
        if line.startswith(until):
            until = ""
    return result


def kernel_files(csrc: Path) -> list[Path]:
    """Of time loops and products: what elementwise.cu does is the binding's, and tested with it."""
    found = {path for path in csrc.glob("cuda/*.cu") if path.name != "elementwise.cu"}
    todo = list(found)
    while todo:
        for name in re.findall(r'#include "([^"]+)"', todo.pop().read_text()):
            path = csrc / "cuda" / name
            if path.exists() and path not in found:
                found.add(path)
                todo.append(path)
    return sorted(found)


def mutants(csrc: Path) -> list[Mutant]:
    found = {}
    for path in kernel_files(csrc):
        for number, line in enumerate(path.read_text().split("\n"), 1):
            code = line.split("//")[0]
            if ("constexpr" in code and "if constexpr" not in code) or code.startswith("#"):
                continue
            for start, end, new in changes(code):
                mutant = Mutant(f"cuda/{path.name}", number, start, end, new, line)
                found.setdefault((path, number, start, end), mutant)
    return list(found.values())
