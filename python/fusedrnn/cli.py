# SPDX-License-Identifier: MIT
"""The command `fusedrnn`: what it can be told, and how it ends.

Exit codes: 0 done; 1 the reader of the output has gone; 2 something to put right, said in one line;
130 interrupted; 143 told to end (SIGTERM) while training, which left a checkpoint.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import __version__, checkpoint, info, isa
from .bench_cmd import bench
from .errors import InputError
from .gradflow_cmd import gradflow
from .run import Limits, load_model
from .train_cmd import train
from .training import Settings
from .weights import CELLS

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line, by default that of the process, and return the exit code."""
    if sys.stderr is None:  # it was closed; what is said there then goes nowhere
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    args = _parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal need not know every character
    try:
        _check_process()
        code: int = args.run(args)
        sys.stdout.flush()
        return code
    except InputError as error:
        return _fail(str(error))
    except BrokenPipeError:  # as in `fusedrnn sample … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        parts = [str(part) for part in (error.filename, error.strerror) if part]
        return _fail(": ".join(parts) or str(error))
    except MemoryError:
        return _fail("not enough memory" + (f"; lower {args.sizes}" if "sizes" in args else ""))
    except KeyboardInterrupt:
        return _fail("interrupted", 130)


def _check_process() -> None:
    """Refuse what the process was started with and no command can work with."""
    if sys.stdout is None:
        raise InputError("standard output is closed")
    try:
        isa()
    except ValueError as error:
        raise InputError(f"FUSEDRNN_ISA: {str(error).removeprefix('isa: ')}") from error


def _fail(message: str, code: int = 2) -> int:
    print("fusedrnn:", " ".join(message.split()), file=sys.stderr)
    return code


def _sample(args: argparse.Namespace) -> int:
    model = load_model(args.model)
    sys.stdout.write(args.prompt)
    text = model.generate(args.prompt, args.length, temperature=args.temperature, seed=args.seed)
    for character in text:
        sys.stdout.write(character)
    sys.stdout.write("\n")
    return 0


def _info(args: argparse.Namespace) -> int:
    if args.model is None:
        _print_table(info())
        return 0
    record, arrays = checkpoint.load(args.model)
    parameters = sum(a.size for name, a in arrays.items() if name.startswith("model."))
    _print_table(record | {"parameters": parameters})
    return 0


def _print_table(facts: Mapping[str, Any], prefix: str = "") -> None:
    for name, value in facts.items():
        if isinstance(value, Mapping) and not prefix:
            _print_table(value, f"{name}.")
        else:
            plain = isinstance(value, str) and value.isprintable()
            text = value if plain else json.dumps(value, ensure_ascii=False, default=str)
            line = f"{prefix + name:24} {text}"
            print("".join(c if c.isprintable() else ascii(c)[1:-1] for c in line))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fusedrnn", description="Recurrent networks on fused kernels."
    )
    parser.add_argument("--version", action="version", version=f"fusedrnn {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    _add_train(commands)
    _add_sample(commands)
    add = commands.add_parser("info", help="say what is installed, or what a checkpoint holds")
    add.add_argument("model", nargs="?", type=Path, help="folder of a run")
    add.set_defaults(run=_info)
    add = commands.add_parser("bench", help="time kernels, NumPy reference and PyTorch")
    add.add_argument("--cell", type=_cell, choices=CELLS, metavar=_CELL_NAMES, help="default: all")
    add.add_argument("--threads", type=_integer(1), help="default: all cores")
    add.set_defaults(run=bench)
    _add_gradflow(commands)
    return parser


def _add_train(commands: Any) -> None:
    train_parser = commands.add_parser(
        "train",
        help="train a character model",
        description="Train a character model on text files, by default on the source of Python's "
        "standard library. Leaves a checkpoint and a picture of the loss in a folder.",
    )
    train_parser.set_defaults(run=train, sizes="--hidden, --layers, --batch or --chunk")
    option = train_parser.add_argument

    def setting(name: str, text: str, **kind: Any) -> None:
        option(f"--{name}", help=f"{text}; default: {getattr(Settings, name)}", **kind)

    option("files", nargs="*", help="UTF-8 text; the end, 5 %% or whole files, is held out")
    setting("cell", "recurrent cell", type=_cell, choices=CELLS, metavar=_CELL_NAMES)
    setting("hidden", "units in a layer", type=_integer(1))
    setting("layers", "recurrent layers", type=_integer(1, 1024))
    setting("batch", "streams of text read side by side", type=_integer(1))
    setting("chunk", "characters of a stream in a step", type=_integer(1))
    setting("lr", "learning rate", type=_number(0, above=True))
    setting("clip", "largest norm of the gradient, 0 for none", type=_number(0))
    setting("seed", "of the initial parameters", type=_integer(0, 2**63))
    setting("dtype", "of all arithmetic", choices=("float32", "float64"))
    default = f"default: {Limits.steps}, if no limit is given"
    length = train_parser.add_mutually_exclusive_group().add_argument
    length("--steps", type=_integer(1), help=f"stop after so many; {default}")
    length(
        "--epochs", type=_number(0, 2**24, above=True), help="stop when the text was read so often"
    )
    option(
        "--minutes",
        type=_number(0, above=True),
        help=f"stop after this time in training; default: {Limits.minutes}, if no limit is given",
    )
    option("--threads", type=_integer(1), help="default: all cores")
    option("--out", default="runs/charlm", help="folder of the run; default: %(default)s")
    option("--resume", action="store_true", help=_RESUME)
    option("--save-every", type=_number(0), default=10, help="seconds; default: %(default)s")


def _add_sample(commands: Any) -> None:
    sample = commands.add_parser("sample", help="write text with a trained model")
    sample.set_defaults(run=_sample)
    option = sample.add_argument
    option("model", type=Path, help="folder of a run")
    option("--prompt", default="", help="text to go on from")
    option("--temperature", type=_number(0), default=0.7, help="0 is greedy; default: %(default)s")
    option("--length", type=_integer(0), default=500, help="characters; default: %(default)s")
    option("--seed", type=_integer(0, 2**63), default=0, help="default: %(default)s")


def _add_gradflow(commands: Any) -> None:
    add = commands.add_parser(
        "gradflow",
        help="draw how far the error reaches back",
        description="Follow the gradient of the last output back through time, for fresh layers "
        "side by side, or for a trained model on what it writes itself: the vanishing gradient, "
        "as a table and a picture.",
    )
    add.set_defaults(run=gradflow, sizes="--hidden or --steps")
    option = add.add_argument
    option("model", nargs="?", type=Path, help="folder of a run; default: fresh layers")
    cells = "default: rnn lstm gru"
    option("--cells", nargs="+", type=_cell, choices=CELLS, metavar="CELL", help=cells)
    option("--hidden", type=_integer(1), help="units; default: 64")
    option("--steps", type=_integer(1), default=100, help="default: %(default)s")
    option("--seed", type=_integer(0, 2**63), default=0, help="default: %(default)s")
    option("--out", type=Path, default=Path("gradflow.png"), help="default: %(default)s")


_RESUME = (
    "go on where the run in --out stopped; a limit given takes the place of all that the run had"
)
_CELL_NAMES = "{" + ",".join(("rnn", *CELLS)) + "}"


def _cell(text: str) -> str:
    return "rnn_tanh" if text == "rnn" else text


def _integer(least: int, most: int = 2**24) -> Callable[[str], int]:
    def integer(text: str) -> int:
        with contextlib.suppress(ValueError):
            if least <= int(text) <= most:
                return int(text)
        raise argparse.ArgumentTypeError(f"expected an integer in {least}..{most}, got {text!r}")

    return integer


def _number(least: float, most: float = math.inf, *, above: bool = False) -> Callable[[str], float]:
    rule = f"{'above' if above else 'of at least'} {least}"
    rule += "" if math.isinf(most) else f", at most {most}"

    def number(text: str) -> float:
        with contextlib.suppress(ValueError):
            value = float(text)
            if least <= value <= most and not math.isinf(value) and not (above and value == least):
                return value
        raise argparse.ArgumentTypeError(f"expected a number {rule}, got {text!r}")

    return number


if __name__ == "__main__":
    sys.exit(main())
