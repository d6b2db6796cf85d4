"""Commands of the command line and their arguments.

This module imports no command, so help is printed quickly and without the packages that some commands need.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from nnc._cli.terminal import printable
from nnc._version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nnc._registry.capabilities import Pair

GETTING_STARTED = """getting started with a table that has a column to predict:
  nnc train data.csv --target price -o price.json     train a model and print a report
  nnc predict price.json new.csv -o priced.csv        predict the column for other rows
  nnc explain price.json                              show the importance of each column

`nnc COMMAND --help` describes a command; `nnc demo` shows what nnc can do.
"""
MAX_INTEGER = 2**31 - 1  # maximum of all integer options except --seed, such as layer sizes
MAX_SEED = 2**32 - 1  # maximum of --seed: the largest random_state that scikit-learn accepts


class UsageError(Exception):
    """Error for an invalid combination of arguments of the command line."""


class StoreOnce(argparse.Action):
    """Argument that stores its value. An option must not be passed twice, because its first value would be ignored."""

    namespace: argparse.Namespace | None = None  # result in which the option has stored a value

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        """Store the value; raise ArgumentError if the option has already stored another one."""
        if option_string is not None and self.namespace is namespace:
            raise argparse.ArgumentError(self, "expected only once, got it again; remove one of them")
        self.namespace = namespace
        setattr(namespace, self.dest, values)


class Parser(argparse.ArgumentParser):
    """Argument parser of `nnc` and of each command, which escapes control characters in its error messages."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        for name in (None, "store"):
            self.register("action", name, StoreOnce)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse the arguments; report an unknown argument together with the usage of the command that received it."""
        arguments, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return arguments, unknown

    def error(self, message: str) -> NoReturn:
        """Print the usage and the error message, and exit with status 2."""
        super().error(printable(message))


class FormatOption(StoreOnce):
    """Option that selects the format of `nnc export`, such as --onnx, with an optional path.

    The path is the output file. If no model is passed as a positional argument, the path is the model instead, so that
    `nnc export MODEL --onnx FILE` and `nnc export --onnx MODEL` both work.
    """

    def __init__(self, *, model: argparse.Action, **settings: Any) -> None:
        super().__init__(nargs="?", metavar="FILE", **settings)
        self.model = model

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        """Store the format and the path; a path may replace the positional argument of the model."""
        super().__call__(parser, namespace, values, option_string)
        namespace.format, namespace.format_path = str(option_string).lstrip("-"), values
        if values is not None:
            self.model.required = False


class RootParser(Parser):
    """Parser of the arguments before the command."""

    def format_help(self) -> str:
        """Return the help and the command that installs the extra; only the help spends the time to find it."""
        from nnc._utils.packages import install_command

        return f"{super().format_help()}Tables require more packages: {install_command('cli')}\n"


def _parse_sizes(text: str) -> list[int]:
    try:
        sizes = [int(part) for part in text.replace("-", ",").split(",")]
    except ValueError:
        sizes = []
    if len(sizes) < 2 or min(sizes) < 1 or max(sizes) > MAX_INTEGER:
        raise argparse.ArgumentTypeError(f"expected two or more positive integers such as 3,4,1, got {text!r}")
    return sizes


def _parse_integer(text: str, minimum: int, maximum: int) -> int:
    if not text.isdecimal() or len(text) > 10 or not minimum <= int(text) <= maximum:
        raise argparse.ArgumentTypeError(f"expected an integer from {minimum} to {maximum}, got {text!r}")
    return int(text)


def _parse_positive(text: str, limit: float, expected: str) -> float:
    """Convert text to a number above 0 and below `limit`; `expected` describes such a number in error messages."""
    try:
        number = float(text)
    except ValueError:
        number = 0
    if not 0 < number < limit:
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
    return number


_parse_count = partial(_parse_integer, minimum=1, maximum=MAX_INTEGER)
_parse_seed = partial(_parse_integer, minimum=0, maximum=MAX_SEED)
_parse_seconds = partial(_parse_positive, limit=float("inf"), expected="a positive number of seconds")
_parse_fraction = partial(_parse_positive, limit=1.0, expected="a number between 0 and 1")


def _parse_preset(text: str) -> str:
    if text == "best":
        raise argparse.ArgumentTypeError("expected fast or default, got 'best', a removed preset; pass --members 24")
    if text not in ("fast", "default"):
        raise argparse.ArgumentTypeError(f"expected fast or default, got {text!r}")
    return text


def _parse_quantiles(text: str) -> list[float]:
    quantiles = [_parse_fraction(part) for part in text.split(",")]
    if quantiles != sorted(set(quantiles)):
        raise argparse.ArgumentTypeError(f"expected increasing numbers between 0 and 1, got {text!r}")
    return quantiles


def _parse_separator(text: str) -> str:
    separator = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";"}.get(text, text)
    if len(separator) != 1 or not separator.isascii():
        raise argparse.ArgumentTypeError(f"expected one ASCII character or the word tab, got {text!r}")
    return separator


def _parse_names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def check_pairs(arguments: argparse.Namespace, pairs: Iterable[Pair]) -> None:
    """Raise UsageError if an option of a command is passed without or with another one."""
    from nnc._registry.capabilities import check_arguments

    defaults = build_parser().parse_args([arguments.command])
    given, default = (
        {f"--{name.replace('_', '-')}": value for name, value in vars(values).items()}
        for values in (arguments, defaults)
    )
    try:
        check_arguments(pairs, given, default)
    except ValueError as error:
        raise UsageError(str(error)) from None


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; it sets `command` to the name of the module of nnc._cli to run."""
    root = RootParser(
        prog="nnc",
        description="Train small neural networks fast.",
        epilog=GETTING_STARTED,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    root.add_argument("--version", action="version", version=f"nnc {__version__}")
    commands = root.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)
    for name, (add_arguments, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=add_arguments.__doc__, allow_abbrev=False)
        command.set_defaults(command=name)
        add_arguments(command)
    return root


# ------------------------------------------------------------------------- options shared by several commands


def _add_text_options(command: argparse.ArgumentParser) -> None:
    """Add the options for reading text files to the parser of a command."""
    group = command.add_argument_group("reading text files (default: detected from the content)")
    group.add_argument(
        "--separator", metavar="MARK", type=_parse_separator, help="cell separator: one character, or tab"
    )
    group.add_argument(
        "--heading", action=argparse.BooleanOptionalAction, help="whether the first line contains the column names"
    )
    group.add_argument("--encoding", metavar="NAME", help="text encoding, such as utf-8, cp1252 or gb18030")


def _add_count(command: argparse._ActionsContainer, name: str, description: str, **settings: Any) -> None:
    command.add_argument(name, metavar="N", type=_parse_count, help=description, **settings)


def _add_quiet(command: argparse._ActionsContainer) -> None:
    command.add_argument("-q", "--quiet", action="store_true", help="print only errors")


def _add_invert(command: argparse._ActionsContainer) -> None:
    command.add_argument("--invert", action="store_true", help="invert images: exchange dark and light")


def _add_output(command: argparse._ActionsContainer, description: str, **settings: Any) -> None:
    command.add_argument("-o", "--output", metavar="FILE", help=description, **settings)
    command.add_argument("-f", "--force", action="store_true", help="overwrite existing files")


def _add_table_options(tables: argparse._ActionsContainer) -> None:
    """Add the options that are only for tables to the arguments of `nnc train`."""
    tables.add_argument("--drop", metavar="COLUMN,...", type=_parse_names, default=[], help="columns to ignore")
    tables.add_argument(
        "--task",
        choices=("classification", "regression"),
        help="type of the task (default: inferred from the values of the target)",
    )
    tables.add_argument(
        "--loss",
        choices=("squared_error", "absolute_error", "poisson"),
        help="loss for regression: squared_error and poisson predict the mean, absolute_error predicts the median "
        "(default: poisson if the target is never negative and its skewness exceeds 0.5, else squared_error)",
    )
    tables.add_argument(
        "--quantiles",
        metavar="Q,...",
        type=_parse_quantiles,
        help="for regression: quantiles to predict instead of the mean, such as 0.1,0.5,0.9",
    )
    tables.add_argument(
        "--preset",
        type=_parse_preset,
        metavar="{fast,default}",
        default="default",
        help="training effort (default: %(default)s)",
    )
    _add_count(tables, "--members", "number of networks (default: depends on the preset and the number of rows)")


def _add_series_options(series: argparse._ActionsContainer) -> None:
    """Add the options that are only for time series to the arguments of `nnc train`."""
    _add_count(series, "--forecast", "forecast the next N values of the target")
    series.add_argument("--time", metavar="COLUMN", help="column with the dates, or numbers, of the rows")
    for role, description in (
        ("id", "identify the series, if there are several"),
        ("known", "are also known for future times"),
        ("past", "are known only for past times"),
        ("static", "are constant in each series"),
    ):
        series.add_argument(
            f"--{role}", metavar="COLUMN,...", type=_parse_names, default=[], help=f"columns that {description}"
        )
    _add_count(series, "--season", "number of times in a season (default: determined by the dates)")


# ----------------------------------------------------- commands and their arguments
# Each of the following functions adds the arguments of one command to its parser. Its docstring describes the command
# in the help.


def _train(command: argparse.ArgumentParser) -> None:
    """Train a model that predicts a column of a table from the others, the class of an image, or time series.

    Ctrl-C ends the training early and saves the best model so far.
    """
    command.add_argument(
        "data",
        metavar="DATA",
        nargs="?",
        help="CSV, TSV, JSON lines, Parquet or Feather file, optionally compressed by gzip; - reads standard input",
    )
    command.add_argument("--target", metavar="COLUMN", help="column to predict")
    _add_quiet(command)
    _add_table_options(command.add_argument_group("tables"))
    images = command.add_argument_group("images")
    images.add_argument(
        "--images",
        metavar="FOLDER",
        help="train on images instead of a table: a folder with one subfolder for each class, or an IDX file",
    )
    images.add_argument("--labels", metavar="FILE", help="IDX file with the labels of --images")
    _add_invert(images)
    _add_count(images, "--epochs", "number of passes over the images")
    _add_count(images, "--threads", "maximum number of threads (default: all cores)")
    _add_series_options(command.add_argument_group("time series (a row of DATA is one time of one series)"))
    training = command.add_argument_group("training")
    training.add_argument(
        "--seed",
        metavar="N",
        type=_parse_seed,
        default=0,
        help="random seed; the same seed gives the same model (default: %(default)s)",
    )
    _add_count(training, "--jobs", "number of networks trained in parallel; not for images (default: all cores)")
    training.add_argument(
        "--max-seconds",
        metavar="S",
        type=_parse_seconds,
        help="stop after this time and save the best model so far; not for time series",
    )
    for name, description in (
        ("--watch", "plot losses and scores in the terminal while training"),
        ("--resume", "continue an interrupted run"),
    ):
        training.add_argument(name, action="store_true", help=f"{description}; not for time series")
    files = command.add_argument_group("files")
    _add_output(files, "model file to write (default: %(default)s)", default="model.json")
    files.add_argument("--report", metavar="FILE", help="write the training report to this file, as HTML")
    files.add_argument(
        "--log", metavar="FILE", help="write the numbers of each epoch to this file, as JSON lines; not for time series"
    )
    _add_text_options(command)


def _predict(command: argparse.ArgumentParser) -> None:
    """Predict with a saved model.

    A table model reads a table of any size with the columns of the training table and adds its predictions. An image
    classifier reads a folder or a file of images. A network reads rows of numbers. A forecast model needs DATA only for
    the future values of known columns.
    """
    command.add_argument("file", metavar="MODEL", help="saved model or network")
    command.add_argument(
        "rows",
        metavar="DATA",
        nargs="?",
        default="-",
        help="table, rows of numbers, or images (default: standard input)",
    )
    _add_output(
        command,
        "file to write; its extension selects the format: .csv, .tsv, .jsonl (each optionally followed by .gz), "
        ".parquet or .feather (default: CSV to standard output)",
    )
    command.add_argument(
        "--id", metavar="COLUMN,...", type=_parse_names, help="copy only these columns of the table to the output"
    )
    command.add_argument("--classes", action="store_true", help="write only the most probable class, no probabilities")
    command.add_argument(
        "--level",
        metavar="LEVEL",
        type=_parse_fraction,
        help="for regression and forecasts: add the bounds of a prediction interval with this coverage, such as 0.9",
    )
    _add_invert(command)
    _add_quiet(command)
    _add_text_options(command)


def _evaluate(command: argparse.ArgumentParser) -> None:
    """Compare the predictions of a model with the true values in a column of a table, or with the classes of images."""
    command.add_argument("file", metavar="MODEL", help="model from `nnc train`")
    command.add_argument(
        "rows",
        metavar="DATA",
        help="table with the target column (- reads standard input), folder with one subfolder of images for each "
        "class, or IDX file",
    )
    command.add_argument("--labels", metavar="FILE", help="IDX file with the true classes of the images")
    _add_invert(command)
    command.add_argument(
        "--target", metavar="COLUMN", help="column with the true values (default: the target of the training)"
    )
    command.add_argument("--json", action="store_true", help="print JSON")
    _add_text_options(command)


def _explain(command: argparse.ArgumentParser) -> None:
    """Print the importance of each column, or the contribution of each column to the predictions of some rows.

    Without a table, the command prints how much the score decreases if a column is shuffled. With a table, it prints
    contributions that add up to the prediction of each row. For images, it prints which pixels change the probability
    of the class most.
    """
    command.add_argument("file", metavar="MODEL", help="model from `nnc train`")
    command.add_argument("rows", metavar="DATA", nargs="?", help="table with the rows to explain, or images")
    _add_invert(command)
    _add_count(command, "--first", "number of rows to explain, from the first (default: %(default)s)", default=5)
    command.add_argument("--label", metavar="CLASS", help="class to explain (default: the predicted class)")
    _add_output(command, "file to write instead of printing text: a table of contributions, or an HTML page for images")
    command.add_argument("--json", action="store_true", help="print JSON")
    _add_text_options(command)


def _inspect(command: argparse.ArgumentParser) -> None:
    """Print every layer, neuron, weight and bias of a saved network, or the report of a table model."""
    command.add_argument("file", metavar="FILE", help="saved model or network")
    command.add_argument("--json", action="store_true", help="print a description without the weights, as JSON")


def _draw(command: argparse.ArgumentParser) -> None:
    """Draw the layers, neurons and weights of a network as SVG."""
    command.add_argument("file", metavar="MODEL", help="saved model or network")
    _add_output(command, "SVG file to write", required=True)
    _add_count(
        command, "--neurons", "maximum number of neurons to draw for each layer (default: %(default)s)", default=10
    )
    _add_count(command, "--network", "number of the network, in a model with several (default: %(default)s)", default=1)


def _export(command: argparse.ArgumentParser) -> None:
    """Export a model as ONNX, or as a source file without dependencies.

    Without one of the options --onnx, --c, --python and --js, the extension of --output selects the format.
    """
    model = command.add_argument("file", metavar="MODEL", help="saved model or network")
    format_options = command.add_mutually_exclusive_group()
    for name, description in (
        ("onnx", "ONNX"),
        ("c", "C header"),
        ("python", "Python module that does not need NumPy"),
        ("js", "JavaScript module"),
    ):
        format_options.add_argument(f"--{name}", dest="format", action=FormatOption, model=model, help=description)
    command.set_defaults(format_path=None)
    _add_output(command, "file to write (default: name of the model with the extension of the format)")
    network_options = command.add_mutually_exclusive_group()
    _add_count(network_options, "--network", "number of the network to export, in a model with several")
    _add_count(
        network_options, "--members", "export only the N best networks of a model of a table (default: all networks)"
    )


def _demo(command: argparse.ArgumentParser) -> None:
    """Train two example networks, compare the engine with plain Python, and save and load the networks.

    The demo checks its results; the exit status is 1 if a check fails. With --browser, a page on this computer trains
    the network of the tutorial and explains each number of a step; it requires the extra [browser].
    """
    command.add_argument("--browser", action="store_true", help="serve a page at 127.0.0.1 until Ctrl-C")
    command.add_argument(
        "--port",
        metavar="N",
        type=partial(_parse_integer, minimum=1, maximum=65535),
        help="with --browser: number of the port (default: a free one)",
    )
    command.add_argument("--no-open", action="store_true", help="with --browser: only print the address of the page")


def _compare(command: argparse.ArgumentParser) -> None:
    """Train a network with the compiled engine and in plain Python, from the same weights.

    The command prints the largest differences and the speed-up. By default it trains the network of the tutorial.
    """
    command.add_argument(
        "--sizes",
        metavar="N,N,...",
        type=_parse_sizes,
        default="3,4,1",
        help="number of inputs, hidden neurons and outputs (default: %(default)s)",
    )
    _add_count(
        command, "--rows", "number of random rows (default: the tutorial's four rows if the sizes fit, else 32 rows)"
    )
    _add_count(command, "--epochs", "number of epochs (default: 1500, or fewer to finish within a few seconds)")
    command.add_argument(
        "--lr",
        metavar="RATE",
        type=float,
        help="learning rate (default: 1 for the tutorial's rows, else 0.01)",
    )
    _add_count(command, "--batch-size", "number of rows in a mini-batch (default: all rows)")
    command.add_argument(
        "--activation", metavar="NAME", default="sigmoid", help="activation of the hidden layers (default: %(default)s)"
    )
    command.add_argument("--loss", metavar="NAME", default="sse", help="sse, half_sse or mse (default: %(default)s)")
    command.add_argument(
        "--init",
        metavar="NAME",
        help="weight initialization (default: uniform for the tutorial's rows, else chosen by the activation)",
    )
    command.add_argument("--bias", action="store_true", help="use biases")
    command.add_argument(
        "--seed",
        metavar="N",
        type=_parse_seed,
        default=0,
        help="seed of the weights and the random rows (default: %(default)s)",
    )


def _config(command: argparse.ArgumentParser) -> None:
    """Print the version, instruction set, compiler and number of threads, for bug reports."""


COMMANDS = {
    "train": (_train, "train a model on a table or on images"),
    "predict": (_predict, "predict for the rows of a table, for rows of numbers, or for images"),
    "evaluate": (_evaluate, "measure the accuracy of a model on rows with known target"),
    "explain": (_explain, "show the importance of columns, or explain predictions"),
    "inspect": (_inspect, "print the content of a saved model"),
    "draw": (_draw, "draw a network"),
    "export": (_export, "export a model as ONNX, C, Python or JavaScript"),
    "demo": (_demo, "show what nnc does, in a few seconds"),
    "compare": (_compare, "compare the compiled engine with plain Python: differences and speed-up"),
    "config": (_config, "print version, instruction set, compiler and number of threads"),
}
