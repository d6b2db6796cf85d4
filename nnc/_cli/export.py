"""`nnc export MODEL --onnx|--c|--python|--js`: a network for where there is no nnc."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import nnc
from nnc._cli.arguments import UsageError
from nnc._cli.models import load, one_network, refuse_old
from nnc._cli.paths import check_distinct
from nnc._cli.terminal import say

if TYPE_CHECKING:
    from argparse import Namespace

ENDINGS = {"onnx": ".onnx", "c": ".h", "python": ".py", "js": ".js"}


def run(arguments: Namespace) -> int:
    model = load(arguments.file)
    output = arguments.output or os.path.splitext(arguments.file)[0] + ENDINGS[arguments.to]
    check_distinct({"MODEL": arguments.file}, {"--output": output})
    refuse_old(output, arguments.force)
    if arguments.network is None and not hasattr(model, f"to_{arguments.to}"):
        raise ValueError(
            f"{arguments.file} is the model of a table, which --onnx and --c write whole: --network N writes one of "
            "its networks, which takes the numbers that columns become"
        )
    if arguments.members is not None and isinstance(model, (nnc.NeuralNetwork, nnc.Ensemble)):
        raise UsageError(f"--members needs the model of a table, and {arguments.file} is none: see --network")
    if arguments.network is not None or isinstance(model, nnc.NeuralNetwork):
        model = one_network(model, arguments.network or 1)
    members = {} if arguments.members is None else {"members": arguments.members}
    getattr(model, f"to_{arguments.to}")(output, **members)
    say(f"written to {output}")
    return 0
