"""`nnc explain MODEL [DATA]`: which columns the model of a table, or a prediction of it, rests on."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from nnc._cli import outputs, tables
from nnc._cli.arguments import UsageError
from nnc._cli.formats import TextOptions, opened
from nnc._cli.models import refuse_old, table_model
from nnc._cli.predict_table import rows
from nnc._cli.terminal import say, say_json
from nnc._inspection.text import aligned
from nnc.tabular import TableClassifier

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

    from nnc.tabular.estimator import TableEstimator
    from nnc.tabular.explain import Explanations

BAR = 30  # characters
MOST = 12  # columns that are told of


def run(arguments: Namespace) -> int:
    refuse_old(arguments.output, arguments.force)
    model = table_model(arguments.file, "explain")
    if arguments.rows is None:
        _importances(model, arguments)
        return 0
    label = _label(model, arguments.label)
    with opened(arguments.rows, TextOptions.of(arguments), model.model_.schema.names) as file:

        def parts() -> Iterator[tuple[int, Explanations]]:
            left = arguments.first
            for start, _, X in rows(model, file, arguments.file):
                part = X.head(left) if arguments.first else X
                with tables.located(file, start):
                    yield start, model.explain(part, label) if label is not None else model.explain(part)
                left -= len(part)
                if left <= 0:
                    return

        if arguments.output is not None:
            outputs.write((_frame(model, found) for _, found in parts()), arguments.output)
        elif arguments.json:
            frames = pl.concat([_frame(model, found) for _, found in parts()])
            say_json(frames.to_dicts())
        else:
            for start, found in parts():
                _print(model, found, start)
    return 0


def _label(model: TableEstimator, given: str | None) -> Any:
    """The class that is meant; UsageError where there is none."""
    if given is None:
        return None
    if not isinstance(model, TableClassifier):
        raise UsageError("--label is for models of classes, and this one is of numbers")
    labels = model.classes_.tolist()
    for label in labels:
        if str(label) == given:
            return label
    shown = ", ".join(map(str, islice(labels, 10)))
    raise UsageError(f"--label must be a class of the model, {shown}, got {given!r}")


def _importances(model: TableEstimator, arguments: Namespace) -> None:
    """How much the score falls where a column is shuffled."""
    values = dict(zip(model.model_.schema.names, model.find_importances().tolist(), strict=True))
    values = dict(sorted(values.items(), key=lambda pair: -pair[1]))
    if arguments.output is not None:
        frame = pl.DataFrame({"column": list(values), "importance": list(values.values())})
        outputs.write(iter([frame]), arguments.output)
        return
    if arguments.json:
        say_json(values)
        return
    measure = "accuracy" if isinstance(model, TableClassifier) else "R^2"
    say(f"how much lower the {measure} on held-out rows is where a column is shuffled\n")
    most = max(*values.values(), 1e-12)
    bars = [[_short(name), f"{value:.4f}", "#" * round(BAR * max(value, 0) / most)] for name, value in values.items()]
    say("\n".join(aligned(bars)))


def _frame(model: TableEstimator, found: Explanations) -> pl.DataFrame:
    """A row for each row: what is predicted, the baseline, what each column gives."""
    head: dict[str, Any] = {}
    if isinstance(model, TableClassifier):
        head["class"] = model.classes_[found.outputs]
    predicted = found.contributions.sum(axis=1) + found.baseline
    given = {f"from_{name}": found.contributions[:, j] for j, name in enumerate(found.names)}
    return pl.DataFrame({**head, "prediction": predicted, "baseline": found.baseline, **given})


def _print(model: TableEstimator, found: Explanations, start: int) -> None:
    for i, (contributions, baseline) in enumerate(zip(found.contributions, found.baseline, strict=True)):
        label = model.classes_[found.outputs[i]] if isinstance(model, TableClassifier) else None
        what = "predicted" if label is None else f"the probability of {label}"
        total = contributions.sum() + baseline
        say(f"row {start + i + 1}: {what} is {total:.5g}, from {baseline:.5g} for the mean row")
        order = [j for j in np.argsort(-np.abs(contributions)) if contributions[j]]
        most = max(np.abs(contributions).max(), 1e-12)
        bars = [
            [f"  {_short(found.names[j])}", f"{contributions[j]:+.4g}",
             ("-" if contributions[j] < 0 else "+") * max(1, round(BAR * abs(contributions[j]) / most))]
            for j in order[:MOST]
        ]  # fmt: skip
        if bars:
            say("\n".join(aligned(bars)))
        if len(order) > MOST:
            rest = contributions[order[MOST:]].sum()
            say(f"  and {len(order) - MOST} more: {rest:+.4g}")
        say()


def _short(name: str) -> str:
    return name if len(name) <= 28 else name[:27] + "~"
