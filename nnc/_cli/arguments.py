"""The commands and what they take. It imports none of them, so that help comes at once, and without any package."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any, NoReturn

from nnc._cli.terminal import printable
from nnc._version import __version__

BEGIN = """how to begin, with a table of data that has a column to be predicted:
  nnc train data.csv --target price -o price.json     a model, and a report of it
  nnc predict price.json new.csv -o priced.csv        what it says about other rows
  nnc explain price.json                              which columns it rests on

`nnc COMMAND --help` tells what a command takes; `nnc demo` shows networks at work.
Tables need the extra [cli]: pip install "nnc-cython[cli]"
"""


MAX_NUMBER = 2**31 - 1  # largest size of a layer; other whole numbers have the same limit here
MAX_SEED = 2**32 - 1  # as scikit-learn has it


class UsageError(Exception):
    """The arguments do not go together."""


class Parser(argparse.ArgumentParser):
    """The parser of argparse, whose errors may show what was typed in a terminal."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def _sizes(text: str) -> list[int]:
    try:
        sizes = [int(part) for part in text.replace("-", ",").split(",")]
    except ValueError:
        sizes = []
    if len(sizes) < 2 or min(sizes) < 1 or max(sizes) > MAX_NUMBER:
        raise argparse.ArgumentTypeError(f"expected two or more whole numbers like 3,4,1, found {text!r}")
    return sizes


def _whole(text: str, least: int, most: int) -> int:
    if not text.isdecimal() or len(text) > 10 or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"expected a whole number from {least} to {most}, found {text!r}")
    return int(text)


def _between(text: str, limit: float, expected: str) -> float:
    """Return a number above 0 and below `limit`."""
    try:
        number = float(text)
    except ValueError:
        number = 0
    if not 0 < number < limit:
        raise argparse.ArgumentTypeError(f"expected {expected}, found {text!r}")
    return number


_positive = partial(_whole, least=1, most=MAX_NUMBER)
_seed = partial(_whole, least=0, most=MAX_SEED)
_seconds = partial(_between, limit=float("inf"), expected="seconds above 0")
_share = partial(_between, limit=1.0, expected="a number above 0 and below 1")


def _separator(text: str) -> str:
    mark = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";"}.get(text, text)
    if len(mark) != 1 or not mark.isascii():
        raise argparse.ArgumentTypeError(f"expected one character, or tab, found {text!r}")
    return mark


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line, whose result names the module of nnc._cli to run as `command`."""
    whole = Parser(
        prog="nnc",
        description="Train small neural networks at the speed of the processor.",
        epilog=BEGIN,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    whole.add_argument("--version", action="version", version=f"nnc {__version__}")
    commands = whole.add_subparsers(title="commands", metavar="COMMAND")
    for name, (add_arguments, brief) in COMMANDS.items():
        command = commands.add_parser(name, help=brief, description=add_arguments.__doc__, allow_abbrev=False)
        command.set_defaults(command=name)
        add_arguments(command)
    return whole


# ------------------------------------------------------------------------------------------ what several have


def _table(command: argparse.ArgumentParser) -> None:
    """Add the options for reading text."""
    group = command.add_argument_group("how text is read (default: as a look at it says)")
    group.add_argument("--separator", metavar="MARK", type=_separator, help="between cells: a character, or tab")
    group.add_argument(
        "--heading", action=argparse.BooleanOptionalAction, help="whether the first line names the columns"
    )
    group.add_argument("--encoding", metavar="NAME", help="such as utf-8, cp1252, gb18030")


def _count(command: argparse._ActionsContainer, name: str, brief: str, **settings: Any) -> None:
    command.add_argument(name, metavar="N", type=_positive, help=brief, **settings)


def _quiet(command: argparse.ArgumentParser) -> None:
    command.add_argument("-q", "--quiet", action="store_true", help="say nothing but errors")


def _output(command: argparse.ArgumentParser, brief: str, **settings: Any) -> None:
    command.add_argument("-o", "--output", metavar="FILE", help=brief, **settings)
    command.add_argument("-f", "--force", action="store_true", help="write over files that are there")


# ------------------------------------------------------------------------- commands, described by their docstrings


def _train(command: argparse.ArgumentParser) -> None:
    """Train a model: of a table one that predicts a column from the others, of images one that tells folders apart.
    Ctrl-C keeps the best so far."""
    command.add_argument(
        "data",
        metavar="DATA",
        nargs="?",
        help="CSV, TSV, JSON lines, Parquet or Feather, compressed by gzip or not; - is standard input",
    )
    command.add_argument("--target", metavar="COLUMN", help="the column that is to be predicted")
    command.add_argument(
        "--images", metavar="FOLDER", help="images in place of a table: a folder for each class, or an IDX file"
    )
    command.add_argument("--labels", metavar="FILE", help="the labels of --images in an IDX file")
    _output(command, "the model (default: %(default)s)", default="model.json")
    command.add_argument("--drop", metavar="COLUMN,...", type=_names, default=[], help="columns to leave out")
    command.add_argument(
        "--task",
        choices=("classification", "regression"),
        help="what the target is (default: as its values say)",
    )
    command.add_argument(
        "--loss",
        choices=("squared_error", "absolute_error", "poisson"),
        help="of numbers: predict the mean, the median, or counts (default: the mean, as prices if they look so)",
    )
    command.add_argument(
        "--preset",
        choices=("fast", "default", "best"),
        default="default",
        help="how much is done (default: %(default)s)",
    )
    _count(command, "--members", "how many networks (default: by preset and rows)")
    _count(command, "--epochs", "of --images: how often to go through them")
    command.add_argument("--max-seconds", metavar="S", type=_seconds, help="end after this time, with what there is")
    _count(command, "--jobs", "of tables: networks trained at the same time (default: all cores)")
    _count(command, "--threads", "of --images: threads of the training (default: up to all cores)")
    command.add_argument(
        "--seed", metavar="N", type=_seed, default=0, help="the same one makes the same model (default: %(default)s)"
    )
    command.add_argument("--resume", action="store_true", help="go on with a run that was interrupted")
    command.add_argument("--log", metavar="FILE", help="every epoch as a line of JSON")
    command.add_argument("--report", metavar="FILE", help="the report as a page of HTML")
    _quiet(command)
    _table(command)


def _predict(command: argparse.ArgumentParser) -> None:
    """Predict. A model of a table takes a table with the columns of its training, of any size, and adds its
    predictions; one of images takes a folder or files; a network takes rows of numbers."""
    command.add_argument("file", metavar="MODEL", help="a saved model or network")
    command.add_argument(
        "rows",
        metavar="DATA",
        nargs="?",
        default="-",
        help="a table, rows of numbers, or images (default: standard input)",
    )
    _output(
        command,
        "its ending says how: .csv, .tsv, .jsonl (these with .gz, too), .parquet or .feather (default: CSV to standard "
        "output)",
    )
    command.add_argument(
        "--id", metavar="COLUMN,...", type=_names, help="write these columns alone beside the predictions"
    )
    command.add_argument("--classes", action="store_true", help="the most probable class alone, no probabilities")
    command.add_argument(
        "--interval", metavar="SHARE", type=_share, help="of numbers: ends that hold so many, such as 0.9"
    )
    _quiet(command)
    _table(command)


def _evaluate(command: argparse.ArgumentParser) -> None:
    """Compare what a model of a table predicts with the column that holds the truth."""
    command.add_argument("file", metavar="MODEL", help="a model that `nnc train` has made")
    command.add_argument("rows", metavar="DATA", help="a table with the target; - is standard input")
    command.add_argument("--target", metavar="COLUMN", help="the column with the truth (default: as in training)")
    command.add_argument("--json", action="store_true", help="as JSON")
    _table(command)


def _explain(command: argparse.ArgumentParser) -> None:
    """Without a table: how much worse a model gets where a column is shuffled. With one: what each column gives to the
    prediction of each row; they add up to it."""
    command.add_argument("file", metavar="MODEL", help="a model that `nnc train` has made")
    command.add_argument("rows", metavar="DATA", nargs="?", help="a table whose rows are to be explained")
    _count(command, "--first", "so many rows of it (default: %(default)s)", default=5)
    command.add_argument("--label", metavar="CLASS", help="the class that is explained (default: the predicted one)")
    _output(command, "a row for each row and a column for each column, in place of text")
    command.add_argument("--json", action="store_true", help="as JSON")
    _table(command)


def _inspect(command: argparse.ArgumentParser) -> None:
    """Print every layer, neuron, weight and bias of a saved network, or the report of the model of a table."""
    command.add_argument("file", metavar="FILE", help="a saved model or network")
    command.add_argument("--json", action="store_true", help="what it is, as JSON, without weights")


def _draw(command: argparse.ArgumentParser) -> None:
    """Draw a network as SVG: its layers, neurons and weights."""
    command.add_argument("file", metavar="MODEL", help="a saved model or network")
    _output(command, "the drawing", required=True)
    _count(command, "--neurons", "of a layer, at most (default: %(default)s)", default=10)
    _count(command, "--network", "which one of several (default: %(default)s)", default=1)


def _export(command: argparse.ArgumentParser) -> None:
    """Write a network as ONNX, or as a source file that needs nothing else."""
    command.add_argument("file", metavar="MODEL", help="a saved network")
    to = command.add_mutually_exclusive_group(required=True)
    to.add_argument("--onnx", dest="to", action="store_const", const="onnx", help="ONNX")
    to.add_argument("--c", dest="to", action="store_const", const="c", help="a C header")
    to.add_argument("--python", dest="to", action="store_const", const="python", help="Python, without NumPy")
    to.add_argument("--js", dest="to", action="store_const", const="js", help="JavaScript")
    _output(command, "the file (default: the model's name with another ending)")
    which = command.add_mutually_exclusive_group()
    _count(which, "--network", "which one of several")
    _count(which, "--members", "the N best networks of the model of a table (default: all)")


def _demo(command: argparse.ArgumentParser) -> None:
    """Train the tutorial's network and a recognizer of handwritten digits, compare with plain Python, save, load. Every
    statement is checked; the exit status is 1 if one does not hold."""


def _compare(command: argparse.ArgumentParser) -> None:
    """Train one network twice from the same weights, with the compiled engine and in plain Python, and print the
    largest differences and the speed-up. Without options: the tutorial."""
    command.add_argument(
        "--sizes",
        metavar="N,N,...",
        type=_sizes,
        default="3,4,1",
        help="inputs, hidden neurons, outputs (default: %(default)s)",
    )
    _count(command, "--rows", "rows of random numbers (default: the tutorial's four where they fit, else 32)")
    _count(command, "--epochs", "how often to go through the rows (default: 1500, or what takes a few seconds)")
    command.add_argument(
        "--lr",
        metavar="RATE",
        type=float,
        help="learning rate (default: 1 for the tutorial's rows, else 0.01)",
    )
    _count(command, "--batch-size", "rows a step (default: all)")
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
        type=_seed,
        default=0,
        help="of the weights and the random rows (default: %(default)s)",
    )


def _config(command: argparse.ArgumentParser) -> None:
    """Print version, processor variant, compiler, threads: what a report of a problem needs."""


COMMANDS = {
    "train": (_train, "a model from a table, or from images"),
    "predict": (_predict, "what a model says about rows of a table, or images"),
    "evaluate": (_evaluate, "how good a model is on rows whose answers are known"),
    "explain": (_explain, "which columns a model, or a prediction, rests on"),
    "inspect": (_inspect, "what is in a saved model"),
    "draw": (_draw, "a drawing of a network"),
    "export": (_export, "a network for where there is no nnc: ONNX, C, Python, JavaScript"),
    "demo": (_demo, "show what nnc does, in a few seconds"),
    "compare": (_compare, "the compiled engine against plain Python: differences and speed-up"),
    "config": (_config, "version, processor variant, compiler, threads"),
}
