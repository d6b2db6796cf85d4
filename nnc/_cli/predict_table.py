"""`nnc predict` with a table model: reads a table in batches and adds columns with the predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from nnc._cli import outputs, tables
from nnc._cli.arguments import UsageError
from nnc._cli.formats import TableFileError, TextOptions, open_table
from nnc._cli.models import refuse_existing
from nnc._cli.screen import Screen
from nnc._data.conformal import level_texts
from nnc._utils.names import find_similar_name
from nnc.tabular import TableClassifier, TableRegressor

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from nnc._cli.formats import TableFile
    from nnc.tabular.estimator import TableEstimator


def predict(model: TableEstimator, arguments: Namespace) -> None:
    """Predict for the rows of a table, and write the table with the predictions as further columns."""
    if arguments.level is not None and not isinstance(model, TableRegressor):
        raise UsageError(f"--level is only for regression, but {arguments.file} is a classification model")
    output = arguments.output or "-"
    refuse_existing(output, arguments.force)
    screen = Screen(arguments.quiet or output == "-")
    with open_table(arguments.rows, TextOptions.from_arguments(arguments), model.model_.schema.names) as file:
        n_rows = 0

        def predict_batches() -> Iterator[pl.DataFrame]:
            nonlocal n_rows
            for start, frame, X in read_batches(model, file, arguments.file):
                if start == 0 and arguments.id is not None:
                    arguments.id = [tables.find_column(name, frame.columns, file, "--id") for name in arguments.id]
                copied = frame if arguments.id is None else frame.select(arguments.id)
                with tables.locate_errors(file, start):
                    predictions = _predict_batch(model, X, arguments)
                duplicate = next((name for name in predictions.columns if name in copied.columns), None)
                if duplicate is not None:
                    raise TableFileError(
                        f"{file.name} already has a column {duplicate!r}; select the columns to write with --id"
                    )
                n_rows += len(frame)
                yield copied.hstack(predictions)

        outputs.write(predict_batches(), output)
    screen.print(f"{n_rows:,} rows predicted: {output}")


def read_batches(
    model: TableEstimator, file: TableFile, model_name: str, extra_kinds: Mapping[str, str] | None = None
) -> Iterator[tuple[int, pl.DataFrame, pl.DataFrame]]:
    """Read a table in batches of rows, and convert the columns that a model needs.

    Parameters
    ----------
    model : TableEstimator
        Model whose columns are read.
    file : TableFile
        Table file that is read.
    model_name : str
        Name of the model for error messages.
    extra_kinds : mapping of str to str, optional
        Names and kinds of columns to convert in addition to those of the model, such as the target.

    Yields
    ------
    start : int
        Index of the first row of the batch.
    frame : polars.DataFrame
        All columns of the batch, as read from the file.
    typed : polars.DataFrame
        The columns of the model and the extra columns, converted to their kinds.
    """
    schema = model.model_.schema
    used = [column for column in schema.columns if column.encoding.width]
    kinds = {column.name: column.kind for column in used} | dict(extra_kinds or {})
    if not schema.named:  # the training table had no column names, so columns are matched by position
        kinds = {name: column.kind for name, column in zip(file.names, schema.columns, strict=False)}
    for start, frame, typed in tables.read_batches(file, kinds):
        if schema.named:
            if start == 0:
                _check_columns(list(kinds), frame.columns, file, model_name)
            typed = typed.select(list(kinds))
        yield start, frame, typed


def _check_columns(required: list[str], present: list[str], file: TableFile, model_name: str) -> None:
    """Raise TableFileError if the table does not have all columns that the model requires."""
    missing = [column for column in required if column not in present]
    if not missing:
        return
    others = [column for column in present if column not in required]
    similar = [name for name in (find_similar_name(column, others, {}) for column in missing) if name]
    hint = f"; did you mean {', '.join(map(repr, similar[:3]))}?" if similar else ""
    if len(missing) == len(required):
        hint = f"; is {model_name} the model of another table? The columns of {file.name} are {_format_names(present)}"
        if not file.heading:
            hint = "; its first line was read as a row: see --heading"
    raise TableFileError(f"{file.name} has no column {_format_names(missing)}, which {model_name} requires{hint}")


def _format_names(names: list[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _predict_batch(model: TableEstimator, X: pl.DataFrame, arguments: Namespace) -> pl.DataFrame:
    """Return the predictions for the rows X, and the probabilities or intervals that the arguments request."""
    if isinstance(model, TableClassifier):
        P = model.predict_proba(X)
        columns = {"prediction": model.classes_[P.argmax(axis=1)]}
        if not arguments.classes:
            columns |= {f"probability_{label}": P[:, j] for j, label in enumerate(model.classes_.tolist())}
        return pl.DataFrame(columns)
    assert isinstance(model, TableRegressor)
    columns = _split_targets("prediction", model.predict(X))
    if model.quantiles is not None:
        Q = model.predict_quantiles(X)
        for i, text in enumerate(level_texts(list(model.quantiles))):
            columns |= _split_targets(f"quantile_{text}", Q[:, i])
    if arguments.level is not None:
        low, high = model.predict_interval(X, arguments.level)
        columns |= _split_targets("low", low) | _split_targets("high", high)
    return pl.DataFrame(columns)


def _split_targets(name: str, values: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return a dict with a column for each target: `name` for a single target, name_1, name_2, ... for several."""
    if values.ndim == 1:
        return {name: values}
    return {f"{name}_{j + 1}": values[:, j] for j in range(values.shape[1])}
