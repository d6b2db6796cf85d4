"""`nnc train DATA --target COLUMN`: the model of a table, and a report of it."""

from __future__ import annotations

import shlex
from copy import copy
from typing import TYPE_CHECKING, Any

import polars as pl

from nnc._cli import tables
from nnc._cli.arguments import UsageError
from nnc._cli.formats import TableFileError, TextOptions, opened
from nnc._cli.paths import UNFINISHED
from nnc._cli.runs import check_files, ended, logging, networks_in, now, provenance
from nnc._cli.screen import Bar, Screen, figures
from nnc._cli.terminal import say
from nnc._inspection.text import aligned
from nnc.tabular import TableClassifier, TableRegressor, read_table
from nnc.tabular.format_search import find_format
from nnc.tabular.recipe import members_by_rule
from nnc.tabular.text_values import NumberFormat
from nnc.tabular.training import epochs_in_all

if TYPE_CHECKING:
    from argparse import Namespace

    from nnc._cli.formats import TableFile
    from nnc.tabular.estimator import TableEstimator

MOST_CLASSES = 30  # whole numbers: with more different ones they are taken for numbers
ROWS_OF_A_CLASS = 10  # as are those that stand in fewer rows than this, on average
# Training on a table refuses these options; its error message ends with these texts.
IMAGE_OPTIONS = {
    "epochs": "",
    "labels": "",
    "threads": "; for a table --jobs is the number of networks trained at the same time",
}


def run(arguments: Namespace) -> int:
    if arguments.images is not None:
        from nnc._cli.images import train

        return train(arguments)
    if arguments.data is None or arguments.target is None:
        raise UsageError("expected a table and --target COLUMN, or --images FOLDER")
    for name, hint in IMAGE_OPTIONS.items():
        if getattr(arguments, name) is not None:
            raise UsageError(f"--{name} is for --images, and not for a table{hint}")
    screen = Screen(arguments.quiet)
    unfinished = arguments.output + UNFINISHED
    check_files(arguments, unfinished)
    with opened(arguments.data, TextOptions.of(arguments), [arguments.target]) as file:
        X, y, kept = _data(arguments, file, screen)
        numeric = _is_numeric(y, arguments.task, screen)
        y = y.cast(pl.Float64) if numeric else y.cast(pl.Int64) if y.dtype.is_float() else y
        model, known = _model(arguments, numeric, unfinished), provenance(arguments, file.name, file.digest)
        with logging(arguments.log, arguments.resume) as log:
            log.write("start", time=now(), **known, rows=len(X), columns=X.width, target=y.name, seed=arguments.seed)
            n = arguments.members or members_by_rule(arguments.preset, len(X))
            with Bar(screen, epochs_in_all(len(X), n - networks_in(unfinished))) as bar:

                def show_epoch(network: int, record: Any) -> None:
                    log.epoch(network, record)
                    bar.tell(f"network {network + 1}/{n}  {figures(record)}", 1 + record.get("skipped_epochs", 0))

                model.callback = show_epoch
                with tables.located(file, 0, kept):
                    model.fit(X, y)
            model.callback = model.checkpoint = None
            model.save(arguments.output)
            facts = {"networks": len(model.networks_), "score": model.held_out_.score, "complete": model.complete_}
            log.write("end", time=now(), model=arguments.output, seconds=model.model_.facts["seconds"], **facts)
    report = model.report()
    if arguments.report is not None:
        page = copy(report)
        page.facts = {**report.facts, **known}
        page.save(arguments.report)
    if not arguments.quiet:
        say(report)
        say()
        say("\n".join(aligned(list(known.items()))))
        say()
        say(f"saved to {arguments.output}; use it: nnc predict {shlex.quote(arguments.output)} NEW.csv")
    return ended(model.complete_, f"{len(model.networks_)} of {n} networks", arguments, unfinished, screen)


# ------------------------------------------------------------------------------------------ data


def _data(arguments: Namespace, file: TableFile, screen: Screen) -> tuple[pl.DataFrame, pl.Series, pl.Series]:
    """The rows that have a target, their targets, and which rows of the file they are."""
    frame, slips = tables.read(file)
    screen.say(f"{file.name}: {len(frame):,} rows, {frame.width:,} columns; {file}")
    target = tables.column_of(arguments.target, frame.columns, file, "--target")
    slip = next((slip for slip in slips if slip.column == target), None)  # Schema.learn warns of other columns
    if slip is not None:
        screen.warn(
            f"{slip.place}: {slip.first!r} is no number, as all but {slip.cells:,} cells of the target are, which is "
            "taken as text; where it stands for a missing number, leave the cell empty"
        )
    elif (example := _formatted_number(frame.select(target))) is not None:
        screen.warn(
            f"the target {target} has numbers with other signs, such as {example!r}, and is taken as text; write plain "
            "numbers, such as 1234.5, to predict numbers"
        )
    dropped = [tables.column_of(name, frame.columns, file, "--drop") for name in arguments.drop]
    y = frame[target]
    kept = y.is_not_null()
    if y.null_count():
        n, row = y.null_count(), int(y.is_null().arg_max() or 0)
        if n == len(y):
            raise TableFileError(f"column {target!r} of {file.name}, the target, is empty")
        screen.warn(f"{n:,} rows have no {target}, the first {file.place(row)}: they are left out")
        frame = frame.filter(kept)
        y = frame[target]
    if len(frame) < 2:
        raise TableFileError(f"{file.name} has one row with a {target}: expected two or more, better hundreds")
    if y.n_unique() == 1:
        raise TableFileError(
            f"column {target!r} of {file.name}, the target, has one value alone, {y[0]!r}: there is nothing to learn"
        )
    X = frame.drop([target, *dropped])
    if X.width == 0:
        raise TableFileError(f"{file.name} has no column but the target: expected one to learn from")
    return X, y, kept


def _formatted_number(column: pl.DataFrame) -> str | None:
    """Return a cell of a text column that is numbers in some format, None of other columns."""
    if column.dtypes[0] != pl.String:
        return None
    (found,) = read_table(column).columns
    return found.levels[0] if isinstance(find_format(found).format, NumberFormat) else None


def _is_numeric(y: pl.Series, task: str | None, screen: Screen) -> bool:
    """Whether numbers are to be predicted, and not classes; says what was chosen."""
    if task is not None:
        if task == "regression" and not y.dtype.is_numeric():
            raise TableFileError(f"--task regression needs a target of numbers, and {y.name!r} has text: {y[0]!r}")
        return task == "regression"
    if not y.dtype.is_numeric():
        return False
    n = y.n_unique()
    whole = bool((y == y.round()).all()) if y.dtype.is_float() else True
    numeric = not (whole and n <= max(2, min(MOST_CLASSES, len(y) // ROWS_OF_A_CLASS)))
    if whole:
        chosen, other = ("numbers", "classification") if numeric else (f"{n} classes", "regression")
        screen.say(f"the target {y.name} has {n:,} different whole numbers: taken as {chosen} (else: --task {other})")
    return numeric


def _model(arguments: Namespace, numeric: bool, unfinished: str) -> TableEstimator:
    """What is to be fitted."""
    options = {
        "preset": arguments.preset,
        "members": arguments.members,
        "max_seconds": arguments.max_seconds,
        "n_jobs": arguments.jobs,
        "random_state": arguments.seed,
        "checkpoint": unfinished,
    }
    return TableRegressor(**options, loss=arguments.loss) if numeric else TableClassifier(**options)
