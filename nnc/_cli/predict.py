"""`nnc predict MODEL DATA`: predictions for the rows of a table, for rows of numbers, for images, or forecasts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnc._cli import numbers
from nnc._cli.models import Network, load_any, networks_of
from nnc.forecast import Forecaster

if TYPE_CHECKING:
    from argparse import Namespace


def run(arguments: Namespace) -> int:
    """Run `nnc predict` and return the exit status."""
    model = load_any(arguments.file)
    if isinstance(model, Forecaster):
        from nnc._cli.forecast import predict as predict_series

        predict_series(model, arguments)
    elif not isinstance(model, Network):
        from nnc._cli.predict_table import predict

        predict(model, arguments)
    elif numbers.is_text(arguments.rows):
        numbers.predict(networks_of(model), arguments)
    else:
        from nnc._cli.images import predict as predict_images

        predict_images(model, arguments)
    return 0
