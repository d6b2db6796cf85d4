"""`nnc draw MODEL -o net.svg`: a drawing of a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnc._cli.models import load, one_network, refuse_old

if TYPE_CHECKING:
    from argparse import Namespace


def run(arguments: Namespace) -> int:
    refuse_old(arguments.output, arguments.force)
    network = one_network(load(arguments.file), arguments.network)
    network.to_svg(arguments.output, neurons=max(arguments.neurons, 2))
    return 0
