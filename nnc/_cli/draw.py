"""`nnc draw MODEL -o net.svg`: drawing of a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnc._cli.models import load, refuse_existing, select_network

if TYPE_CHECKING:
    from argparse import Namespace


def run(arguments: Namespace) -> int:
    """Run `nnc draw` and return the exit status."""
    refuse_existing(arguments.output, arguments.force)
    network = select_network(load(arguments.file), arguments.network)
    network.to_svg(arguments.output, neurons=max(arguments.neurons, 2))
    return 0
