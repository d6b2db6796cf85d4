"""`nnc config`: version, instruction set, compiler and number of threads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnc import show_config

if TYPE_CHECKING:
    from argparse import Namespace


def run(arguments: Namespace) -> int:
    """Run `nnc config` and return the exit status."""
    show_config()
    return 0
