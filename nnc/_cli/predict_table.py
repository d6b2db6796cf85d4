"""`nnc predict` with the model of a table: a table in, its columns and the predictions out, some rows at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from nnc._cli import outputs, tables
from nnc._cli.arguments import UsageError
from nnc._cli.formats import TableFileError, TextOptions, opened
from nnc._cli.models import refuse_old
from nnc._cli.screen import Screen
from nnc._utils.names import meant
from nnc.tabular import TableClassifier, TableRegressor

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from nnc._cli.formats import TableFile
    from nnc.tabular.estimator import TableEstimator


def predict(model: TableEstimator, arguments: Namespace) -> None:
    """Writes what a model says of the rows of a table."""
    if arguments.interval is not None and not isinstance(model, TableRegressor):
        raise UsageError(f"--interval needs a model of numbers, and {arguments.file} has classes")
    output = arguments.output or "-"
    refuse_old(output, arguments.force)
    screen = Screen(arguments.quiet or output == "-")
    with opened(arguments.rows, TextOptions.of(arguments), model.model_.schema.names) as file:
        written = 0

        def parts() -> Iterator[pl.DataFrame]:
            nonlocal written
            for start, frame, X in rows(model, file, arguments.file):
                if start == 0 and arguments.id is not None:
                    arguments.id = [tables.column_of(name, frame.columns, file, "--id") for name in arguments.id]
                kept = frame if arguments.id is None else frame.select(arguments.id)
                with tables.located(file, start):
                    answers = _answers(model, X, arguments)
                taken = next((name for name in answers.columns if name in kept.columns), None)
                if taken is not None:
                    raise TableFileError(f"{file.name} has a column {taken!r} already: choose others with --id")
                written += len(frame)
                yield kept.hstack(answers)

        outputs.write(parts(), output)
    screen.say(f"{written:,} rows predicted: {output}")


def rows(
    model: TableEstimator, file: TableFile, name: str, also: Mapping[str, str] | None = None
) -> Iterator[tuple[int, pl.DataFrame, pl.DataFrame]]:
    """Some rows at a time: the number of the first, they as they are, and with the columns of the model alone; `also`
    has the kinds of others."""
    schema = model.model_.schema
    used = [column for column in schema.columns if column.encoding.width]
    kinds = {column.name: column.kind for column in used} | dict(also or {})
    if not schema.named:  # then columns are known by their places
        kinds = {there: column.kind for there, column in zip(file.names, schema.columns, strict=False)}
    for start, frame, typed in tables.batches(file, kinds):
        if schema.named:
            if start == 0:
                _check_columns(list(kinds), frame.columns, file, name)
            typed = typed.select(list(kinds))
        yield start, frame, typed


def _check_columns(wanted: list[str], there: list[str], file: TableFile, name: str) -> None:
    missing = [column for column in wanted if column not in there]
    if not missing:
        return
    others = [column for column in there if column not in wanted]
    similar = [found for found in (meant(column, others, {}) for column in missing) if found]
    hint = f"; did you mean {', '.join(map(repr, similar[:3]))}?" if similar else ""
    if len(missing) == len(wanted):
        hint = f"; is {name} the model of another table? This one has {_listed(there)}"
        if not file.heading:
            hint = "; the first line was taken for a row: see --heading"
    raise TableFileError(f"{file.name} has no column {_listed(missing)}, which {name} was trained with{hint}")


def _listed(names: list[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _answers(model: TableEstimator, X: pl.DataFrame, arguments: Namespace) -> pl.DataFrame:
    """The predictions, and what they are sure of."""
    if isinstance(model, TableClassifier):
        P = model.predict_proba(X)
        answers = {"prediction": model.classes_[P.argmax(axis=1)]}
        if not arguments.classes:
            answers |= {f"probability_{label}": P[:, j] for j, label in enumerate(model.classes_.tolist())}
        return pl.DataFrame(answers)
    assert isinstance(model, TableRegressor)
    answers = _by_target("prediction", model.predict(X))
    if arguments.interval is not None:
        low, high = model.predict_interval(X, arguments.interval)
        answers |= _by_target("low", low) | _by_target("high", high)
    return pl.DataFrame(answers)


def _by_target(name: str, values: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """A column, or one for each target."""
    if values.ndim == 1:
        return {name: values}
    return {f"{name}_{j + 1}": values[:, j] for j in range(values.shape[1])}
