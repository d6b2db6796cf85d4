"""The command line: which commands there are, what they take, and what is said where one fails.

Each command is a module of its own, loaded when it is asked for: whoever runs `python -m nnc` in the source folder has
no compiled core there, and should get help, version and one clear line about it instead of a traceback.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

from nnc._version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence


def _sizes(text: str) -> list[int]:
    try:
        sizes = [int(part) for part in text.replace("-", ",").split(",")]
    except ValueError:
        sizes = []
    if len(sizes) < 2 or min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"expected two or more whole numbers like 3,4,1, found {text!r}")
    return sizes


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 up, found {text!r}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nnc",
        description="Train small neural networks at the speed of the processor.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"nnc {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    command = commands.add_parser(
        "demo",
        help="show what nnc does, in a few seconds",
        description="Train the tutorial's network and a recognizer of handwritten digits, compare with plain "
        "Python, save, load. Every statement is checked; the exit status is 1 if one does not hold.",
    )
    command.set_defaults(command="demo")

    command = commands.add_parser(
        "inspect",
        help="print every layer, neuron, weight and bias of a saved network",
        description="Print every layer, neuron, weight and bias of a saved network.",
    )
    command.add_argument("file", metavar="FILE", help="a network saved as JSON")
    command.set_defaults(command="inspect")

    command = commands.add_parser(
        "predict",
        help="what a saved network says about rows of numbers",
        description="Print the outputs of a saved network for rows of numbers, as comma-separated values.",
    )
    command.add_argument("file", metavar="FILE", help="a network saved as JSON")
    command.add_argument(
        "rows",
        metavar="ROWS",
        nargs="?",
        default="-",
        help="a text file with one row a line, numbers separated by commas, semicolons or blanks; a heading "
        "is skipped (default: standard input)",
    )
    command.add_argument("--classes", action="store_true", help="print the class instead of the outputs")
    command.set_defaults(command="predict")

    command = commands.add_parser(
        "compare",
        help="the compiled engine against plain Python: differences and speed-up",
        description="Train one network twice from the same weights, with the compiled engine and in plain "
        "Python, and print the largest differences and the speed-up. Without options: the tutorial.",
    )
    command.add_argument(
        "--sizes",
        metavar="N,N,...",
        type=_sizes,
        default="3,4,1",
        help="inputs, hidden neurons, outputs (default: %(default)s)",
    )
    command.add_argument(
        "--rows",
        metavar="N",
        type=_positive,
        help="rows of random numbers (default: the tutorial's four where they fit, else 32)",
    )
    command.add_argument(
        "--epochs",
        metavar="N",
        type=_positive,
        help="how often to go through the rows (default: 1500, or what takes a few seconds)",
    )
    command.add_argument(
        "--lr",
        metavar="RATE",
        type=float,
        help="learning rate (default: 1 for the tutorial's rows, else 0.01)",
    )
    command.add_argument("--batch-size", metavar="N", type=_positive, help="rows a step (default: all)")
    command.add_argument(
        "--activation", metavar="NAME", default="sigmoid", help="of the hidden layers (default: %(default)s)"
    )
    command.add_argument("--loss", metavar="NAME", default="sse", help="sse, half_sse or mse (default: %(default)s)")
    command.add_argument(
        "--init",
        metavar="NAME",
        help="how the weights begin (default: uniform for the tutorial's rows, else by activation)",
    )
    command.add_argument("--bias", action="store_true", help="with biases")
    command.add_argument(
        "--seed",
        metavar="N",
        type=int,
        default=0,
        help="of the weights and the random rows (default: %(default)s)",
    )
    command.set_defaults(command="compare")

    command = commands.add_parser(
        "config",
        help="version, processor variant, compiler, threads",
        description="Print version, processor variant, compiler, threads: what a report of a problem needs.",
    )
    command.set_defaults(command="config")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; those of the process by default.

    Returns
    -------
    int
        0 if all is well, 1 after an error (one line on standard error says which), 2 if the arguments are
        wrong, 130 after Ctrl-C, 141 if the reader of standard output went away.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    if not hasattr(arguments, "command"):
        parser.print_help(sys.stderr)
        return 2
    try:
        status: int = import_module(f"nnc.cli.{arguments.command}").run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # As with `nnc inspect FILE | head`: the reader has seen enough, which is no error to talk about.
        _discard_output()
        return 141
    except KeyboardInterrupt:
        print("nnc: interrupted", file=sys.stderr)
        status = 130
    except (ImportError, OSError, ValueError, ArithmeticError) as error:
        print(f"nnc: {_message(error)}", file=sys.stderr)
        status = 1
    try:
        sys.stdout.flush()
    except OSError:  # already reported, or of no use now
        _discard_output()
    return status


def _message(error: Exception) -> str:
    """Return what an error says, in one line, without the number that Python puts before it."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror
        if error.filename is not None and str(error.filename) not in text:
            text += f": {error.filename}"
    return " ".join(text.split())


def _discard_output() -> None:
    """Let what standard output still holds go nowhere, or Python would complain about it at its end."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)
