"""`nnc train --forecast N`: training on time series in a table, and `nnc predict` with such a model."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import polars as pl

from nnc._cli import outputs, tables
from nnc._cli.arguments import UsageError
from nnc._cli.formats import EmptyTableError, TextOptions, open_table
from nnc._cli.models import refuse_existing
from nnc._cli.paths import UNFINISHED
from nnc._cli.runs import check_files, provenance, show_report
from nnc._cli.screen import Screen
from nnc.forecast import Forecaster

if TYPE_CHECKING:
    from argparse import Namespace


def train(arguments: Namespace) -> int:
    """Train a Forecaster on a table in long format, save it and print its report; return the exit status."""
    if arguments.data is None or arguments.target is None or arguments.time is None:
        raise UsageError("--forecast requires DATA, --target COLUMN and --time COLUMN")
    screen = Screen(arguments.quiet)
    check_files(arguments, arguments.output + UNFINISHED)
    with open_table(arguments.data, TextOptions.from_arguments(arguments), [arguments.target, arguments.time]) as file:
        frame, _ = tables.read(file)
        screen.print(f"{file.name}: {len(frame):,} rows, {frame.width:,} columns; {file}")
        columns: dict[str, Any] = {
            role: [tables.find_column(name, frame.columns, file, f"--{role}") for name in getattr(arguments, role)]
            for role in ("id", "known", "past", "static")
        }
        for role in ("time", "target"):
            columns[role] = tables.find_column(getattr(arguments, role), frame.columns, file, f"--{role}")
        model = Forecaster(arguments.forecast, arguments.season, n_jobs=arguments.jobs, seed=arguments.seed)
        with tables.locate_errors(file):
            model.fit(frame, **{role: names or None for role, names in columns.items()})
        model.save(arguments.output)
        origin = provenance(arguments, file.name, file.digest)
    show_report(model, arguments, origin)
    return 0


def predict(model: Forecaster, arguments: Namespace) -> None:
    """Write the forecasts of a model as a table; DATA contains the future values of known covariates."""
    if arguments.id is not None or arguments.classes:
        raise UsageError(f"--id and --classes must not be used with {arguments.file}, which is a forecast model")
    output = arguments.output or "-"
    refuse_existing(output, arguments.force)
    forecasts = _predict_rows(model, arguments)
    if not isinstance(forecasts, pl.DataFrame):
        forecasts = _to_frame(forecasts)
    outputs.write(iter([forecasts]), output)
    Screen(arguments.quiet or output == "-").print(f"{len(forecasts):,} forecasts: {output}")


def _predict_rows(model: Forecaster, arguments: Namespace) -> Any:
    """Return the forecasts; read the future values of known covariates from DATA if the model needs them."""
    if not model.needs_future_:
        if arguments.rows != "-":
            raise UsageError(
                f"DATA must not be used with {arguments.file}, which needs no future values, got {arguments.rows}"
            )
        return model.predict(level=arguments.level)
    if arguments.rows != "-" or sys.stdin is None or not sys.stdin.isatty():
        try:
            with open_table(arguments.rows, TextOptions.from_arguments(arguments), []) as file:
                frame, _ = tables.read(file)
                with tables.locate_errors(file):
                    return model.predict(frame, level=arguments.level)
        except EmptyTableError:
            pass
    try:
        return model.predict(level=arguments.level)
    except ValueError as error:  # the message names the columns and the times that the model needs
        message = str(error).replace("X must", "DATA must", 1)
        raise ValueError(f"{arguments.file} needs future values: {message}") from None


def _to_frame(forecasts: Any) -> pl.DataFrame:
    """Return forecasts as a polars frame; a model that was trained in Python may return arrays or another frame."""
    import narwhals as nw
    import numpy as np

    if not isinstance(forecasts, (dict, np.ndarray)):
        return nw.from_native(forecasts, eager_only=True).to_polars()
    arrays = forecasts if isinstance(forecasts, dict) else {"forecast": forecasts}
    n, horizon = np.atleast_2d(arrays["forecast"]).shape
    index = {"series": np.repeat(np.arange(n), horizon), "step": np.tile(np.arange(1, horizon + 1), n)}
    return pl.DataFrame({**index, **{name: np.ravel(values) for name, values in arrays.items()}})
