"""`nnc config`: version, processor variant, compiler, threads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnc import show_config

if TYPE_CHECKING:
    from argparse import Namespace


def run(arguments: Namespace) -> int:
    show_config()
    return 0
