"""`nnc predict MODEL DATA`: predictions for the rows of a table, for rows of numbers, or for images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nnc
from nnc._cli import numbers
from nnc._cli.models import load

if TYPE_CHECKING:
    from argparse import Namespace


def run(arguments: Namespace) -> int:
    """Run `nnc predict` and return the exit status."""
    model = load(arguments.file)
    if not isinstance(model, (nnc.NeuralNetwork, nnc.Ensemble)):
        from nnc._cli.predict_table import predict

        predict(model, arguments)
    elif numbers.is_text(arguments.rows):
        numbers.predict(model, arguments)
    else:
        from nnc._cli.images import predict as predict_images

        predict_images(model, arguments)
    return 0
