"""Report of a network: score, confusion matrix, calibration and images for given rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._data.metrics import METRICS
from nnc._drawing.svg import image_data_uri, shorten
from nnc._report.outcomes import ClassOutcomes, ClassScores, NumberOutcomes
from nnc._report.page import Report
from nnc._report.sections import Picture, accuracy_headline, error_headline
from nnc._training.history import settings_lines
from nnc._utils.containers import as_array
from nnc.plot.axes import check_network, class_names, predict_indices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

MAX_PICTURES = 24  # maximum number of images of a group
MAX_PICTURE_SIDE = 64  # maximum width and height in pixels; larger images are reduced by leaving out rows and columns
MAX_CONSTRUCTOR_LENGTH = 2000  # maximum number of characters of the constructor call in a report
VALIDATION = (
    "All figures of this section are computed from the rows that were passed to the report. They hold for new rows "
    "only if neither the training nor the choice of its settings has used these rows."
)


def report(net: Any, X: ArrayLike, y: Any) -> Report:
    """Report how well a network predicts given rows, as text and as an HTML page.

    The page contains the score with its confidence interval, the confusion matrix, the calibration of the
    probabilities, the training curves and the call that repeats the training. For images it also shows the wrong
    predictions with the highest probabilities, and an example of each class. For regression it compares predicted with
    true values. Table models have a method `report` of their own.

    Parameters
    ----------
    net : NeuralNetwork
        Trained network: a classifier with one class for each row or step, or a regression network. If sequences have
        outputs at each step, each step counts as a row.
    X : array (n, n_in) or (n, height, width, channels)
        Rows as in `predict`, which the training has not used.
    y : array (n,) or (n, n_out)
        Targets as in `evaluate_loss`.

    Returns
    -------
    Report
        `print(report)` prints text, notebooks show the page, and `report.save("report.html")` writes it.

    Raises
    ------
    ValueError, TypeError
        X or y does not fit the network, or the network predicts several classes for each row.

    Examples
    --------
    >>> page = nnc.report(net, X_test, y_test)
    >>> print(page)
    >>> page.save("report.html", title="Digits on order forms")
    """
    is_classifier = check_network(net).converter.loss.is_classification
    facts = {
        "network": _describe_layers(net),
        "parameters": f"{net.n_params:,}, {net.dtype.name}",
        "loss": str(net.loss_name),
    }
    result = (_classifier_report if is_classifier else _regression_report)(net, X, y, facts)
    result.facts = {**result.facts, **_training_facts(net)}
    if net.history is not None and net.history.epochs:
        columns = dict(net.history)
        result.curves = {name: columns[name] for name in columns if name not in ("lr", "epoch_seconds")}
    return result


def _classifier_report(net: Any, X: Any, y: Any, facts: dict[str, str]) -> Report:
    """Return the report of a classifier, without the facts about its training."""
    labels = [str(label) for label in class_names(net, "a report")]
    true, predicted, outputs = predict_indices(net, X, y)
    P = _probabilities(net, outputs, predicted, len(labels))
    outcomes, scores = ClassOutcomes.compute(P, true), ClassScores.compute(P, true)
    if net.converter.loss.target_type == "plus_minus_one":  # margins have no calibration
        outcomes, scores = outcomes._replace(groups=np.empty((0, 3))), scores._replace(auc=np.nan)
    accuracy = outcomes.n_correct / outcomes.n
    text, constant = scores.describe(accuracy)
    counts = ", ".join(f"{shorten(label)} {n:,}" for label, n in zip(labels, outcomes.class_rows.tolist(), strict=True))
    return Report(
        type(net).__name__,
        {
            "rows": f"{outcomes.n:,} of {len(labels)} classes: {text}",
            "baseline": constant,
            "rows of each class": shorten(counts, 300),
            **facts,
        },
        [],
        heading="Report of a classifier",
        headline=accuracy_headline(accuracy, outcomes, outcomes.n, "rows"),
        validation=[VALIDATION],
        labels=labels,
        outcomes=outcomes,
        pictures=_pictures(net, X, true, predicted, P, labels),
    )


def _regression_report(net: Any, X: Any, y: Any, facts: dict[str, str]) -> Report:
    """Return the report of a regression network, without the facts about its training."""
    n_targets, P = int(net.model.stack.output_shape[-1]), net.predict(X)
    if isinstance(P, list):  # join the outputs of sequences of different lengths, which have outputs at each step
        y = np.concatenate([np.asarray(targets)[: len(p)] for targets, p in zip(y, P, strict=True)])
        P = np.concatenate(P)
    predicted: NDArray[np.float64] = np.asarray(P, np.float64).reshape(-1, n_targets)
    true: NDArray[np.float64] = np.asarray(as_array("y", y), np.float64).reshape(predicted.shape)
    score = METRICS["r2"](true, predicted, None)
    names = ["target"] if n_targets == 1 else [f"target {j + 1}" for j in range(n_targets)]
    outcomes = {name: NumberOutcomes.compute(predicted[:, j], true[:, j]) for j, name in enumerate(names)}
    return Report(
        type(net).__name__,
        {"rows": f"{len(true):,}: R^2 {score:.4g}", **facts},
        [],
        heading="Report of a regression network",
        headline=error_headline(score, outcomes, len(true), "rows"),
        validation=[VALIDATION],
        outcomes=outcomes,
    )


def _probabilities(net: Any, outputs: NDArray[Any], predicted: NDArray[Any], n_classes: int) -> NDArray[Any]:
    """Return the probabilities (n, classes) of a classifier; without probabilities, 1 for the predicted class."""
    if net.converter.loss.target_type == "plus_minus_one":
        indicators: NDArray[Any] = np.eye(n_classes)[predicted]
        return indicators
    return np.column_stack([1 - outputs, outputs]) if outputs.shape[1] == 1 else outputs


def _describe_layers(net: Any) -> str:
    """Return the input shape and the sizes of the layers as text."""
    stack = net.model.stack
    shapes = [layer.output_shape for layer in stack.parametric_layers]
    return f"inputs {stack.shape_text(stack.input_shape)}; layers {', '.join(map(stack.shape_text, shapes))}"


def _training_facts(net: Any) -> dict[str, str]:
    """Return epochs, settings and constructor call of a trained network, by name."""
    facts, history = {}, net.history
    if history is not None and history.epochs:
        facts["training"] = f"{history.epochs:,} epochs, {history.seconds:.1f} s, stopped by {history.stop_reason}"
        settings = settings_lines(history.settings)
        if settings:
            facts["settings"] = "; ".join(settings)
    return {**facts, "reproduce with": shorten(repr(net), MAX_CONSTRUCTOR_LENGTH)}


# --------------------------------------------------------------------------------------------- images


def _pictures(
    net: Any, X: Any, true: NDArray[Any], predicted: NDArray[Any], P: NDArray[Any], labels: Sequence[str]
) -> dict[str, list[Picture]]:
    """Return images of wrong predictions and of each class; {} if the inputs of the network are not images."""
    shape = net.model.stack.input_shape
    if len(shape) != 3 or shape[2] not in (1, 3):
        return {}
    images = np.asarray(as_array("X", X)).reshape(-1, *shape)
    wrong = np.flatnonzero(predicted != true)
    wrong = wrong[np.argsort(-P[wrong, predicted[wrong]], kind="stable")][:MAX_PICTURES]
    n_classes = min(len(labels), MAX_PICTURES)
    right = [np.flatnonzero((true == label) & (predicted == label))[:1] for label in range(n_classes)]
    errors = [
        (i, f"{labels[true[i]]}, predicted {labels[predicted[i]]} ({100 * P[i, predicted[i]]:.0f} %)")
        for i in wrong.tolist()
    ]
    groups = {
        "Wrong predictions with the highest probabilities": errors,
        "Examples of correct predictions": [(i, labels[true[i]]) for i in np.concatenate(right).tolist()],
    }
    return {title: _encode(images, items) for title, items in groups.items() if items}


def _encode(images: NDArray[Any], items: Sequence[tuple[int, str]]) -> list[Picture]:
    """Return images, given by index and caption, as `Picture` objects; numbers are scaled to the range of a byte."""
    selected = images[[index for index, _ in items]]
    step = -(-max(selected.shape[1:3]) // MAX_PICTURE_SIDE)
    selected = selected[:, ::step, ::step]
    if selected.dtype != np.uint8:
        low, high = float(images.min()), float(images.max())
        scaled = (selected.astype(np.float64) - low) * (255 / ((high - low) or 1))
        selected = np.rint(scaled).astype(np.uint8)
    return [Picture(image_data_uri(image), caption) for image, (_, caption) in zip(selected, items, strict=True)]
