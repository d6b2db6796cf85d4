"""`nnc train DATA --target COLUMN`: training of a model on a table, with a report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from nnc._cli import tables
from nnc._cli.arguments import UsageError, check_pairs
from nnc._cli.formats import TableFileError, TextOptions, open_table
from nnc._cli.paths import UNFINISHED
from nnc._cli.runs import (
    check_files,
    count_trained_networks,
    current_time,
    open_log,
    provenance,
    report_end,
    show_report,
)
from nnc._cli.screen import ProgressBar, Screen, TrainingPlot, format_record
from nnc._registry.capabilities import Pair
from nnc._tables.format_search import find_format
from nnc._tables.text_values import NumberFormat
from nnc._utils.checks import pluralize
from nnc.tabular import TableClassifier, TableRegressor, read_table
from nnc.tabular.recipe import choose_member_count
from nnc.tabular.target import are_classes, find_quantity
from nnc.tabular.training import total_epochs

if TYPE_CHECKING:
    from argparse import Namespace

    from nnc._cli.formats import TableFile
    from nnc.tabular.estimator import TableEstimator

TABLE_OPTIONS = ("--drop", "--task", "--loss", "--quantiles", "--preset", "--members")
LONG_RUN_OPTIONS = ("--max-seconds", "--watch", "--resume", "--log")
IMAGE_OPTIONS = ("--epochs", "--invert", "--labels", "--threads")
FORECAST_OPTIONS = ("--time", "--id", "--known", "--past", "--static", "--season")
# Options that exclude or require the options for forecasts and for images.
PAIRS = (
    *(Pair(name, "--forecast", True, "the number of future values to forecast") for name in FORECAST_OPTIONS),
    *(Pair(name, "--forecast", False) for name in (*TABLE_OPTIONS, *LONG_RUN_OPTIONS, "--images", *IMAGE_OPTIONS)),
    *(Pair(name, "--images", False, "because it is only for tables") for name in (*TABLE_OPTIONS, "--jobs")),
    *(Pair(name, "--images", True) for name in IMAGE_OPTIONS[:-1]),
    Pair("--threads", "--images", True, "", "for a table, --jobs sets the number of networks trained in parallel"),
)


def run(arguments: Namespace) -> int:
    """Run `nnc train` and return the exit status."""
    check_pairs(arguments, PAIRS)
    if arguments.forecast is not None:
        from nnc._cli.forecast import train as train_forecaster

        return train_forecaster(arguments)
    if arguments.images is not None:
        if arguments.data is not None or arguments.target is not None:
            raise UsageError("expected either DATA and --target, or --images, got both")
        from nnc._cli.images import train

        return train(arguments)
    if arguments.data is None or arguments.target is None:
        raise UsageError("expected either DATA and --target COLUMN, or --images FOLDER")
    screen = Screen(arguments.quiet)
    unfinished = arguments.output + UNFINISHED
    check_files(arguments, unfinished)
    with open_table(arguments.data, TextOptions.from_arguments(arguments), [arguments.target]) as file:
        X, y, has_target, is_regression = _read_data(arguments, file, screen)
        if y.dtype.is_numeric():
            y = y.cast(pl.Float64 if is_regression else pl.Int64)
        model = _create_estimator(arguments, is_regression, unfinished)
        origin = provenance(arguments, file.name, file.digest)
        with open_log(arguments.log, arguments.resume) as log:
            facts = {"rows": len(X), "columns": X.width, "target": y.name, "seed": arguments.seed}
            log.write("start", time=current_time(), **origin, **facts)
            n = arguments.members or choose_member_count(arguments.preset, len(X))
            kind = "numbers" if is_regression else "classes"
            epochs = total_epochs(len(X), n - count_trained_networks(unfinished), kind)
            plot = TrainingPlot(screen) if arguments.watch else None
            with ProgressBar(screen, epochs, is_hidden=arguments.watch) as bar:

                def show_epoch(network: int, record: Any) -> None:
                    log.epoch(network, record)
                    text = f"network {network + 1}/{n}  {format_record(record)}"
                    bar.advance(text, 1 + record.get("skipped_epochs", 0))
                    if plot is not None:
                        plot.add(network, record, text)

                model.callback = show_epoch
                with tables.locate_errors(file, 0, has_target):
                    model.fit(X, y)
            if plot is not None:
                plot.show(is_last=True)
            model.callback = model.checkpoint = None
            model.save(arguments.output)
            facts = {"networks": len(model.networks_), "score": model.held_out_.score, "complete": model.complete_}
            seconds = model.model_.facts["seconds"]
            log.write("end", time=current_time(), model=arguments.output, seconds=seconds, **facts)
    show_report(model, arguments, origin, " NEW.csv")
    return report_end(model.complete_, f"{len(model.networks_)} of {n} networks", arguments, unfinished, screen)


# -------------------------------------------------------------- reading the table and its target


def _read_data(
    arguments: Namespace, file: TableFile, screen: Screen
) -> tuple[pl.DataFrame, pl.Series, pl.Series, bool]:
    """Return the rows that have a target, their targets, the mask of these rows, and whether the task is regression."""
    frame, mixed_columns = tables.read(file)
    screen.print(f"{file.name}: {len(frame):,} rows, {frame.width:,} columns; {file}")
    target = tables.find_column(arguments.target, frame.columns, file, "--target")
    y = tables.clear_missing(frame[target])
    numbers = _read_numbers(y)
    if numbers is not None:
        y = tables.clear_missing(y, labels=())
    present = y.drop_nulls()
    if not len(present):
        raise TableFileError(f"the target, column {target!r} of {file.name}, is empty: expected two or more values")
    if len(present) < 2:
        raise TableFileError(
            f"{file.name} has only one row with a value of {target}: expected two or more rows, preferably hundreds"
        )
    if present.n_unique() == 1:
        raise TableFileError(
            f"the target, column {target!r} of {file.name}, has the same value in all rows, {present[0]!r}: expected "
            "two or more values"
        )
    is_regression = _is_regression(y, numbers, arguments.task, screen)
    # Schema.learn warns about the feature columns, so only the target needs a warning here.
    mixed_target = next((column for column in mixed_columns if column.name == target), None)
    if mixed_target is not None and not is_regression:
        screen.warn(
            f"{mixed_target.location}: {mixed_target.example!r} is not a number; the target is read as text because of "
            f"{pluralize(mixed_target.n_text, 'such cell')}; leave a cell empty if its number is missing"
        )
    dropped = [tables.find_column(name, frame.columns, file, "--drop") for name in arguments.drop]
    if target in dropped:
        raise TableFileError(f"--drop must not contain the target, got {target!r}; choose another --target")
    has_target = (numbers if numbers is not None and is_regression else y).is_not_null()
    if not has_target.all():
        n, row = int((~has_target).sum()), int((~has_target).arg_max() or 0)
        cell = f", with {text!r}" if isinstance(text := frame[target][row], str) and text.strip() else ""
        screen.warn(
            f"ignored {pluralize(n, 'row')} without a value of {target}; the first is {file.location(row)}{cell}"
        )
        frame, y = frame.filter(has_target), y.filter(has_target)
    X = frame.drop([target, *dropped])
    if X.width == 0:
        raise TableFileError(f"{file.name} has no column other than the target: expected at least one feature column")
    return X, y, has_target, is_regression


def _read_numbers(y: pl.Series) -> pl.Series | None:
    """Return the target as numbers, also if it is text such as "$1,000"; return None for other text.

    A cell that is missing or cannot be read is null.
    """
    if y.dtype != pl.String:
        return y if y.dtype.is_numeric() else None
    (column,) = read_table(y.to_frame()).columns
    format = find_format(column).format
    return pl.Series(format.read(column).values, nan_to_null=True) if isinstance(format, NumberFormat) else None


def _is_regression(y: pl.Series, numbers: pl.Series | None, task: str | None, screen: Screen) -> bool:
    """Return whether the task is regression; print the choice if it is inferred from the values of the target.

    `numbers` is the result of `_read_numbers`.
    """
    labels, quantity = y.drop_nulls(), None
    if numbers is None or task == "classification":
        quantity = find_quantity(np.array(labels.unique(maintain_order=True).to_list()), len(labels))
    if numbers is None and quantity is not None:
        raise TableFileError(
            f"--target must be a column of numbers or of classes, got numbers such as {quantity!r} in {y.name!r}, but "
            "other text in more than a tenth of its cells; leave cells without a number empty"
        )
    if quantity is not None:
        raise TableFileError(
            f"--task classification requires a target with classes, got {quantity!r} in {y.name!r}; pass --task "
            "regression"
        )
    if numbers is None:
        if task == "regression":
            found = f"got the text {labels[0]!r} in {y.name!r}"
            raise TableFileError(f"--task regression requires a numeric target, {found}")
        return False
    if task is not None:
        return task == "regression"
    values = numbers.drop_nulls()
    n, is_integer = values.n_unique(), bool((values == values.round()).all())
    is_regression = not (is_integer and are_classes(n, len(values)))
    if is_integer:
        n_classes = labels.n_unique()  # texts that are not numbers are classes, too
        choice, other = ("a number", "classification") if is_regression else (f"{n_classes} classes", "regression")
        screen.print(
            f"the target {y.name} has {n:,} different integer values: treated as {choice} (change with --task {other})"
        )
    return is_regression


def _create_estimator(arguments: Namespace, is_regression: bool, unfinished: str) -> TableEstimator:
    options = {
        "preset": arguments.preset,
        "members": arguments.members,
        "max_seconds": arguments.max_seconds,
        "n_jobs": arguments.jobs,
        "random_state": arguments.seed,
        "checkpoint": unfinished,
    }
    if is_regression:
        return TableRegressor(**options, loss=arguments.loss, quantiles=arguments.quantiles)
    if arguments.quantiles is not None:
        raise UsageError("--quantiles is only for regression, but the target has classes; add --task regression")
    return TableClassifier(**options)
