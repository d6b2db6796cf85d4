"""`nnc evaluate MODEL DATA`: metrics of a table model on rows whose true values are in the table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from nnc._cli import tables
from nnc._cli.arguments import UsageError
from nnc._cli.formats import TableFileError, TextOptions, open_table
from nnc._cli.models import Network, load, load_table_model, select_network
from nnc._cli.predict_table import read_batches
from nnc._cli.terminal import print_json, print_text
from nnc._data.conformal import level_texts
from nnc._data.metrics import METRICS
from nnc._tables.format_search import MAX_UNREADABLE_FRACTION
from nnc._utils.checks import pluralize
from nnc._utils.text_table import aligned
from nnc.tabular import TableClassifier, TableRegressor, read_table
from nnc.tabular.temperature import expected_calibration_error

if TYPE_CHECKING:
    from argparse import Namespace

    from numpy.typing import NDArray

    from nnc._cli.formats import TableFile
    from nnc._tables.text_values import NumberFormat
    from nnc.tabular.estimator import TableEstimator

REGRESSION_METRICS = {"r2": "R^2", "rmse": "root mean squared error", "mae": "mean absolute error"}
CLASSIFICATION_METRICS = {
    "accuracy": "accuracy",
    "constant_accuracy": "accuracy of the most frequent class",
    "balanced_accuracy": "balanced accuracy",
    "f1": "F1",
    "log_loss": "log loss",
    "calibration_error": "calibration error",
    "auc": "area under the ROC curve",
}
MAX_CONFUSION_CLASSES = 12  # with more classes, the confusion matrix would not fit into 80 columns


def run(arguments: Namespace) -> int:
    """Run `nnc evaluate` and return the exit status."""
    model = load(arguments.file)
    if isinstance(model, Network):
        return _evaluate_images(model, arguments)
    target = arguments.target or model.target_name_
    if target is None:
        raise UsageError(f"the model {arguments.file} does not contain the name of the target; pass --target")
    predictions, y, n_ignored = _predict(model, target, arguments)
    if isinstance(model, TableClassifier):
        results = _evaluate_classifier(model, predictions, y)
    else:
        results = _evaluate_regressor(model, predictions, y)
    results["rows_without_target"] = n_ignored
    if arguments.json:
        print_json(results)
    else:
        _print_results(results, target)
    return 0


def _evaluate_images(model: Network, arguments: Namespace) -> int:
    """Print the metrics of a classifier of images; raise ValueError for other networks."""
    network = select_network(model, 1)
    if len(network.model.stack.input_shape) != 3:
        load_table_model(arguments.file, "evaluate")  # always raises ValueError, because the model is not a table model
    from nnc._cli.image_models import check_classifier, read_test_images

    labels = check_classifier(model, arguments.file)
    results = _measure(labels, *read_test_images(model, arguments))
    if arguments.json:
        print_json(results)
    else:
        _print_results(results, arguments.rows)
    return 0


def _predict(model: TableEstimator, target: str, arguments: Namespace) -> tuple[NDArray[np.float64], pl.Series, int]:
    """Return the predictions and the true values of all rows that have a true value, and the number of other rows.

    As in training, a row whose target is not a number in the format of the model has no true value.
    """
    is_classifier = isinstance(model, TableClassifier)
    has_quantiles = isinstance(model, TableRegressor) and model.quantiles is not None
    predict = model.predict_proba if is_classifier else model.predict_quantiles if has_quantiles else model.predict
    labels = list(map(str, model.classes_.tolist())) if is_classifier else []
    predictions, targets = [], []
    n_rows = n_unreadable = 0
    unreadable_cell = ""
    with open_table(
        arguments.rows, TextOptions.from_arguments(arguments), [target, *model.model_.schema.names]
    ) as file:
        format = model.model_.target.format
        for start, _, X in read_batches(model, file, arguments.file, {target: "text"}):
            n_rows += len(X)
            y = tables.clear_missing(X[target], labels)
            if not is_classifier:
                y, unreadable = _read_numbers(y, format, file, start)
                if unreadable.any() and not unreadable_cell:
                    row = int(unreadable.arg_max() or 0)
                    unreadable_cell = f"{X[target][row]!r} in {file.location(start + row)}"
                n_unreadable += int(unreadable.sum())
            has_target = y.is_not_null()
            labelled = X.with_columns(y.alias(target)).filter(has_target)
            if len(labelled):
                with tables.locate_errors(file, start, has_target):
                    predictions.append(predict(labelled))
                targets.append(labelled[target])
    if n_unreadable > MAX_UNREADABLE_FRACTION * n_rows:
        expected = "numbers" if format is None else format.expected
        raise TableFileError(
            f"column {target!r} of {arguments.rows} must contain {expected}, as in training, but {n_unreadable:,} of "
            f"{n_rows:,} cells are something else, such as {unreadable_cell}; leave cells without a number empty"
        )
    if not targets:
        raise TableFileError(f"column {target!r} of {arguments.rows} is empty: expected the true values")
    y = pl.concat(targets)
    return np.concatenate(predictions), y, n_rows - len(y)


def _read_numbers(
    y: pl.Series, format: NumberFormat | None, file: TableFile, start: int
) -> tuple[pl.Series, pl.Series]:
    """Convert the targets of a batch to numbers; other cells become null.

    Parameters
    ----------
    y : Series
        Targets without texts that count as missing.
    format : NumberFormat or None
        Format of the targets in training; None if they were plain numbers.
    file : TableFile
        Table file with the targets.
    start : int
        Index of the first row of the batch.

    Returns
    -------
    numbers : Series
    unreadable : Series
        Mask of the cells that are neither numbers nor missing.
    """
    if y.dtype != pl.String:
        if not y.dtype.is_numeric():
            raise TableFileError(f"column {y.name!r} of {file.name} must contain numbers, got the type {y.dtype}")
        return y, pl.repeat(False, len(y), eager=True)
    if format is None:
        numbers = tables.clear_missing(pl.select(tables.to_numbers(pl.lit(y), file)).to_series())
    else:
        with tables.locate_errors(file, start):
            (column,) = read_table(y.to_frame()).columns
            unreadable = {text for level in column.levels if format.parse(text := level.strip()) is None}
            readable = format.replace(missing=tuple(sorted(unreadable)))
            numbers = pl.Series(readable.read(column).values, nan_to_null=True)
    return numbers, numbers.is_null() & y.is_not_null()


def _evaluate_regressor(model: TableEstimator, predictions: NDArray[np.float64], y: pl.Series) -> dict[str, Any]:
    """Return the metrics of predictions (rows,) or predicted quantiles (rows, quantiles) for the true numbers y."""
    Y, P = y.cast(pl.Float64).to_numpy()[:, None], predictions.reshape(len(y), -1)
    point = P[:, [model.model_.median_index]]
    results: dict[str, Any] = {"rows": len(y), **{name: METRICS[name](Y, point, None) for name in REGRESSION_METRICS}}
    quantiles = model.model_.task.quantiles
    if quantiles:
        # The mean of the indicator is the fraction of rows whose true value is at most the predicted quantile.
        results["quantiles"] = dict(zip(level_texts(list(quantiles)), (Y <= P).mean(axis=0).tolist(), strict=True))
    return results


def _evaluate_classifier(model: TableClassifier, P: NDArray[np.float64], y: pl.Series) -> dict[str, Any]:
    """Return the metrics of predicted probabilities P (rows, classes) for the true labels y."""
    labels = model.classes_.tolist()
    return _measure(labels, P, _class_indices(labels, y))


def _measure(labels: list[Any], P: NDArray[np.float64], true: NDArray[np.intp]) -> dict[str, Any]:
    """Return the metrics of probabilities P (rows, classes) for class indices; the index of an unknown class is -1."""
    in_training = true >= 0
    results: dict[str, Any] = {"rows": len(true), "rows_of_unknown_classes": int((~in_training).sum())}
    predicted = P.argmax(axis=1)
    accuracy, n = float((predicted == true).mean()), len(true)
    P, true, predicted = P[in_training], true[in_training], predicted[in_training]
    if len(true):
        results["constant_accuracy"] = float(np.bincount(true).max() / n)
        results["log_loss"] = METRICS["log_loss"](true, P, None)
        results["calibration_error"] = expected_calibration_error(P, true)
        if (true != true[0]).any():  # the other metrics are meaningless if all rows have the same class
            results |= {name: METRICS[name](true, predicted, None) for name in ("balanced_accuracy", "f1")}
            if len(labels) == 2:
                results["auc"] = METRICS["auc"](true, P[:, 1], None)
    results["accuracy"] = accuracy
    confusion = np.zeros((len(labels), len(labels)), int)
    np.add.at(confusion, (true, predicted), 1)
    results["classes"], results["confusion"] = list(map(str, labels)), confusion.tolist()
    return results


def _class_indices(labels: list[Any], y: pl.Series) -> NDArray[np.intp]:
    """Return the index of each cell of y in `labels`, or -1 for a class that did not occur in training."""
    if isinstance(labels[0], (str, bool)):
        index = {str(label).lower() if isinstance(label, bool) else label: i for i, label in enumerate(labels)}
        cells = [str(cell).lower() if isinstance(labels[0], bool) else str(cell) for cell in y.to_list()]
    else:
        index = {float(label): i for i, label in enumerate(labels)}
        cells = y.cast(pl.Float64, strict=False).to_list()
    return np.array([index.get(cell, -1) for cell in cells], np.intp)


def _print_results(results: dict[str, Any], target: str) -> None:
    print_text(f"{target}: {results['rows']:,} rows")
    if results.get("rows_without_target"):
        print_text(f"ignored {pluralize(results['rows_without_target'], 'row')} without a value of {target}")
    if results.get("rows_of_unknown_classes"):
        print_text(
            f"{results['rows_of_unknown_classes']:,} of these rows have a class that did not occur in training; they "
            "count as wrong"
        )
    metrics = {**REGRESSION_METRICS, **CLASSIFICATION_METRICS}
    lines = [[f"  {label}", f"{results[name]:.5g}"] for name, label in metrics.items() if name in results]
    lines += [[f"  rows up to quantile {q}", f"{share:.5g}"] for q, share in results.get("quantiles", {}).items()]
    print_text("\n".join(aligned(lines)))
    labels = results.get("classes", [])
    if "constant_accuracy" in results and "balanced_accuracy" not in results:
        print_text("the balanced accuracy, F1 and the area under the ROC curve require rows of several classes")
    if 0 < len(labels) <= MAX_CONFUSION_CLASSES:
        print_text("\ntrue class (rows) and predicted class (columns)\n")
        names = [label[:12] for label in labels]
        fits = sum(len(name) + 2 for name in names) < 60
        heading = ["", *(names if fits else map(str, range(1, len(names) + 1)))]
        lines = [[name, *(str(n or ".") for n in row)] for name, row in zip(names, results["confusion"], strict=True)]
        print_text("\n".join(aligned([heading, *lines])))
