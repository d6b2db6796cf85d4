"""The command line: `nnc demo`, `nnc inspect FILE`, ...; `nnc --help` lists everything."""

from __future__ import annotations

import argparse
import os
import sys
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

# Rows times weights times epochs that plain Python does in a few seconds at most.
_AFFORDABLE_WORK = 10_000_000

# Imports of nnc stand inside the commands: whoever runs `python -m nnc` in the source folder has no compiled
# core there, and should get help, version and one clear line about it instead of a traceback.


def _demo(arguments: argparse.Namespace) -> int:
    from nnc._demo import demo

    return demo()


def _inspect(arguments: argparse.Namespace) -> int:
    from nnc import NeuralNetwork

    NeuralNetwork.load(arguments.file).inspect()
    return 0


def _predict(arguments: argparse.Namespace) -> int:
    from nnc import NeuralNetwork

    network = NeuralNetwork.load(arguments.file)
    rows = _read_rows(arguments.rows)
    if arguments.classes:
        for number in network.predict_classes(rows).ravel():
            print(number)
    else:
        for row in network.predict(rows):
            print(",".join(map(str, row)))
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    from nnc import compare

    sizes = arguments.sizes
    X, y, tutorial = _problem(sizes, arguments.rows, arguments.seed)
    work = len(X) * sum(n_in * n_out for n_in, n_out in pairwise(sizes))
    epochs = arguments.epochs or max(1, min(1500, _AFFORDABLE_WORK // work))
    lr = arguments.lr if arguments.lr is not None else 1.0 if tutorial else 0.01
    init = arguments.init or ("uniform" if tutorial else None)
    compare(
        sizes,
        X,
        y,
        epochs=epochs,
        lr=lr,
        batch_size=arguments.batch_size,
        activation=arguments.activation,
        loss=arguments.loss,
        bias=arguments.bias,
        init=init,
        seed=arguments.seed,
    )
    return 0


def _config(arguments: argparse.Namespace) -> int:
    import nnc

    nnc.show_config()
    return 0


def _problem(sizes: list[int], rows: int | None, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64], bool]:
    """Return inputs, targets, and whether they are the tutorial's, which are used if they fit."""
    import numpy as np

    from nnc._demo import TUTORIAL_X, TUTORIAL_Y

    if rows is None and (sizes[0], sizes[-1]) == (3, 1):
        return TUTORIAL_X, TUTORIAL_Y, True
    generator = np.random.default_rng(seed)
    n = 32 if rows is None else rows
    return generator.random((n, sizes[0])), generator.random((n, sizes[-1])), False


def _read_rows(path: str) -> list[list[float]]:
    """Read rows of numbers, separated by commas, semicolons or blanks, from a file or ("-") standard input.

    Empty lines, comments (#) and a heading are skipped. ValueError names the line of what is not a number.
    """
    name = "standard input" if path == "-" else path
    rows: list[list[float]] = []
    first = True
    source = 0 if path == "-" else path
    with open(source, encoding="utf-8-sig", errors="replace", closefd=path != "-") as lines:
        for number, line in enumerate(lines, 1):
            text = line.partition("#")[0].strip()
            if not text:
                continue
            separator = next((mark for mark in ";," if mark in text), None)
            fields = [field.strip() for field in text.split(separator)]
            row = [value for value in map(_number, fields) if value is not None]
            heading = first and not row
            first = False
            if heading:
                continue
            if len(row) < len(fields):
                bad = next(field for field in fields if _number(field) is None)
                raise ValueError(f"line {number} of {name}: expected a number, found {bad!r}")
            if rows and len(row) != len(rows[0]):
                raise ValueError(f"line {number} of {name}: expected {len(rows[0])} numbers, found {len(row)}")
            rows.append(row)
    if not rows:
        raise ValueError(f"no rows of numbers in {name}")
    return rows


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


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
    import nnc

    parser = argparse.ArgumentParser(
        prog="nnc",
        description="Train small neural networks at the speed of the processor.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"nnc {nnc.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    command = commands.add_parser(
        "demo",
        help="show what nnc does, in a few seconds",
        description="Train the tutorial's network and a recognizer of handwritten digits, compare with plain "
        "Python, save, load. Every statement is checked; the exit status is 1 if one does not hold.",
    )
    command.set_defaults(run=_demo)

    command = commands.add_parser(
        "inspect",
        help="print every layer, neuron, weight and bias of a saved network",
        description="Print every layer, neuron, weight and bias of a saved network.",
    )
    command.add_argument("file", metavar="FILE", help="a network saved as JSON")
    command.set_defaults(run=_inspect)

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
    command.add_argument("--classes", action="store_true", help="print the number of the class instead of the outputs")
    command.set_defaults(run=_predict)

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
    command.set_defaults(run=_compare)

    command = commands.add_parser(
        "config",
        help="version, processor variant, compiler, threads",
        description="Print version, processor variant, compiler, threads: what a report of a problem needs.",
    )
    command.set_defaults(run=_config)
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
    if not hasattr(arguments, "run"):
        parser.print_help(sys.stderr)
        return 2
    try:
        status: int = arguments.run(arguments)
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


if __name__ == "__main__":
    sys.exit(main())
