"""`nnc evaluate MODEL DATA`: how good the model of a table is on rows whose answers are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from nnc._cli import tables
from nnc._cli.arguments import UsageError
from nnc._cli.formats import TableFileError, TextOptions, opened
from nnc._cli.models import table_model
from nnc._cli.predict_table import rows
from nnc._cli.terminal import say, say_json
from nnc._data.metrics import METRICS
from nnc._inspection.text import aligned
from nnc.tabular import TableClassifier
from nnc.tabular.temperature import expected_calibration_error

if TYPE_CHECKING:
    from argparse import Namespace

    from numpy.typing import NDArray

    from nnc.tabular.estimator import TableEstimator

OF_NUMBERS = {"r2": "R^2", "rmse": "root mean squared error", "mae": "mean absolute error"}
OF_CLASSES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "f1": "F1",
    "log_loss": "log loss",
    "calibration_error": "calibration error",
    "auc": "area under the ROC curve",
}
MOST_CLASSES = 12  # of which a table of true and predicted ones fits into 80 columns


def run(arguments: Namespace) -> int:
    model = table_model(arguments.file, "evaluate")
    target = arguments.target or model.target_name_
    if target is None:
        raise UsageError(f"{arguments.file} does not say what its target is called: name it with --target")
    answers, truth = _answers(model, target, arguments)
    if isinstance(model, TableClassifier):
        found = _of_classes(model, answers, truth)
    else:
        numbers = truth.cast(pl.Float64).to_numpy()[:, None]
        found = {name: METRICS[name](numbers, answers.reshape(len(truth), -1), None) for name in OF_NUMBERS}
        found = {"rows": len(truth), **found}
    if arguments.json:
        say_json(found)
    else:
        _print(found, target)
    return 0


def _answers(model: TableEstimator, target: str, arguments: Namespace) -> tuple[NDArray[np.float64], pl.Series]:
    """What the model says of all rows whose answer is known, and these answers."""
    is_classifier = isinstance(model, TableClassifier)
    given, truths = [], []
    with opened(arguments.rows, TextOptions.of(arguments), [target, *model.model_.schema.names]) as file:
        also = {target: "text" if is_classifier else "number"}
        for start, _, X in rows(model, file, arguments.file, also):
            has_truth = X[target].is_not_null()
            known = X.filter(has_truth)
            if len(known):
                with tables.located(file, start, has_truth):
                    given.append(model.predict_proba(known) if is_classifier else model.predict(known))
                truths.append(known[target])
    if not truths:
        raise TableFileError(f"column {target!r} of {arguments.rows} is empty: expected the truth")
    return np.concatenate(given), pl.concat(truths)


def _of_classes(model: TableClassifier, P: NDArray[np.float64], truth: pl.Series) -> dict[str, Any]:
    labels = model.classes_.tolist()
    places = _places(labels, truth)
    known = places >= 0
    found: dict[str, Any] = {"rows": len(truth), "rows_of_unknown_classes": int((~known).sum())}
    guessed = P.argmax(axis=1)
    right = float((guessed == places).mean())
    P, true, guessed = P[known], places[known], guessed[known]
    if len(true):
        found |= {name: METRICS[name](true, guessed, None) for name in ("balanced_accuracy", "f1")}
        found["log_loss"] = METRICS["log_loss"](true, P, None)
        found["calibration_error"] = expected_calibration_error(P, true)
        if len(labels) == 2 and 0 < true.sum() < len(true):
            found["auc"] = METRICS["auc"](true, P[:, 1], None)
    found["accuracy"] = right
    confusion = np.zeros((len(labels), len(labels)), int)
    np.add.at(confusion, (true, guessed), 1)
    found["classes"], found["confusion"] = list(map(str, labels)), confusion.tolist()
    return found


def _places(labels: list[Any], truth: pl.Series) -> NDArray[np.intp]:
    """Which of the labels each truth is, -1 where it is none."""
    if isinstance(labels[0], (str, bool)):
        place = {str(label).lower() if isinstance(label, bool) else label: i for i, label in enumerate(labels)}
        cells = [str(cell).lower() if isinstance(labels[0], bool) else str(cell) for cell in truth.to_list()]
    else:
        place = {float(label): i for i, label in enumerate(labels)}
        cells = truth.cast(pl.Float64, strict=False).to_list()
    return np.array([place.get(cell, -1) for cell in cells], np.intp)


def _print(found: dict[str, Any], target: str) -> None:
    say(f"{target}: {found['rows']:,} rows")
    if found.get("rows_of_unknown_classes"):
        say(f"{found['rows_of_unknown_classes']:,} of them are of classes that training had not, and count as wrong")
    names = {**OF_NUMBERS, **OF_CLASSES}
    say("\n".join(aligned([[f"  {said}", f"{found[name]:.5g}"] for name, said in names.items() if name in found])))
    labels = found.get("classes", [])
    if 0 < len(labels) <= MOST_CLASSES:
        say("\ntrue class, and what the model says\n")
        short = [label[:12] for label in labels]
        fits = sum(len(label) + 2 for label in short) < 60
        head = ["", *(short if fits else map(str, range(1, len(short) + 1)))]
        lines = [[label, *(str(n or ".") for n in row)] for label, row in zip(short, found["confusion"], strict=True)]
        say("\n".join(aligned([head, *lines])))
