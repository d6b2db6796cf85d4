"""`nnc export MODEL --onnx|--c|--python|--js [FILE]`: export of a model for use without nnc."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import nnc
from nnc._cli.arguments import UsageError
from nnc._cli.models import Network, load_any, networks_of, refuse_existing, select_network
from nnc._cli.paths import check_distinct
from nnc._cli.terminal import print_text
from nnc.forecast import Forecaster

if TYPE_CHECKING:
    from argparse import Namespace

EXTENSIONS = {"onnx": ".onnx", "c": ".h", "python": ".py", "js": ".js"}


def run(arguments: Namespace) -> int:
    """Run `nnc export` and return the exit status."""
    output = _resolve_paths(arguments)
    check_distinct({"MODEL": arguments.file}, {"--output": output})
    model = load_any(arguments.file)
    refuse_existing(output, arguments.force)
    if isinstance(model, Forecaster):
        raise ValueError(
            "MODEL must be a network, an ensemble or a model of a table, got the forecast model "
            f"{arguments.file}, which cannot be exported; use nnc predict, or nnc.load in Python"
        )
    model = networks_of(model) if isinstance(model, Network) else model
    if arguments.members is not None and isinstance(model, Network):
        raise UsageError(
            f"--members requires a table model, but {arguments.file} is another model; use --network instead"
        )
    if arguments.network is None and not hasattr(model, f"to_{arguments.format}"):
        raise ValueError(
            f"--{arguments.format} cannot export {arguments.file}, a model of a table; use --onnx or --c, or export "
            "one of its networks, whose inputs are encoded columns, with --network N"
        )
    if arguments.network is not None or isinstance(model, nnc.NeuralNetwork):
        model = select_network(model, arguments.network or 1)
    members = {} if arguments.members is None else {"members": arguments.members}
    getattr(model, f"to_{arguments.format}")(output, **members)
    print_text(f"written to {output}")
    return 0


def _resolve_paths(arguments: Namespace) -> str:
    """Set the arguments `file` and `format`, and return the path of the output file."""
    path = arguments.format_path
    if arguments.file is None:
        arguments.file, path = path, None
    if None not in (path, arguments.output):
        raise UsageError(f"expected one output file, got {path} and {arguments.output}")
    output: str | None = arguments.output or path
    if arguments.format is None:
        extension = os.path.splitext(output or "")[1].lower()
        arguments.format = next((key for key, value in EXTENSIONS.items() if value == extension), None)
        if arguments.format is None:
            extensions = ", ".join(EXTENSIONS.values())
            raise UsageError(
                f"expected --onnx, --c, --python or --js, or --output with one of the extensions {extensions}, got "
                f"{'neither' if output is None else output}"
            )
    return output or os.path.splitext(arguments.file)[0] + EXTENSIONS[arguments.format]
