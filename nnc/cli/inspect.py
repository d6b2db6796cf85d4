"""`nnc inspect FILE`: every layer, neuron, weight and bias of a saved network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnc.cli.files import load

if TYPE_CHECKING:
    from argparse import Namespace


def run(arguments: Namespace) -> int:
    load(arguments.file).inspect()
    return 0
