"""Sections of the page of a report, as HTML: statistics of predictions, importances and images."""

from __future__ import annotations

from html import escape
from math import sqrt
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nnc._drawing import charts, html
from nnc._drawing.svg import shorten
from nnc._report.outcomes import ClassOutcomes, NumberOutcomes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from nnc._drawing.svg import Drawing

MAX_MATRIX_CLASSES = 30  # maximum number of classes for which the confusion matrix is drawn
MAX_CLASS_ROWS = 60  # maximum number of classes in the table of classes
MAX_CONFUSIONS = 8  # maximum number of pairs of classes in the list of the most frequent confusions
MAX_BARS = 20  # maximum number of columns in the chart of importances
MAX_TARGETS = 4  # maximum number of targets for which charts are drawn
WILSON_Z = 1.96  # quantile of the normal distribution for a confidence interval of 95 %
COLUMNS_INTRODUCTION = html.paragraph(
    "How each column of the table became inputs of the networks. A column that is left out has no influence on the "
    "predictions."
)


class Picture(NamedTuple):
    """Image of a report with its caption.

    Attributes
    ----------
    uri : str
        Content of the image as a data URI.
    caption : str
        Text below the image, such as the true and the predicted class.
    """

    uri: str
    caption: str


def section(title: str, content: str) -> str:
    """Return a section of the page; `content` is HTML, and `title` is plain text."""
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def figure(picture: Drawing, caption: str) -> str:
    """Return a drawing with a caption as an HTML figure."""
    return f"<figure>{picture._repr_html_()}<figcaption>{escape(caption)}</figcaption></figure>"


def percent(fraction: float) -> str:
    """Return a fraction as text in percent."""
    return f"{100 * fraction:.1f} %"


def accuracy_interval(accuracy: float, n: int) -> tuple[float, float]:
    """Return the ends of the 95 % confidence interval of an accuracy that was estimated from n rows (Wilson, 1927)."""
    z2 = WILSON_Z**2
    middle = (accuracy + z2 / (2 * n)) / (1 + z2 / n)
    half = WILSON_Z * sqrt(accuracy * (1 - accuracy) / n + z2 / (4 * n**2)) / (1 + z2 / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def accuracy_headline(accuracy: float, outcomes: ClassOutcomes | None, n: int, rows: str) -> str:
    """Return the sentences at the top of the page for a classifier; `rows` names the n rows of the estimate."""
    low, high = accuracy_interval(accuracy, n)
    headline = (
        f"The model predicts the correct class for {percent(accuracy)} of new rows, estimated from {n:,} {rows} "
        f"(95 % confidence interval: {percent(low)} to {percent(high)})."
    )
    if outcomes is not None and outcomes.n:
        most_frequent = int(outcomes.class_rows.max()) / outcomes.n
        headline += f" Always predicting the most frequent class would be correct for {percent(most_frequent)}."
    return headline


def error_headline(score: float, outcomes: Mapping[str, NumberOutcomes], n: int, rows: str) -> str:
    """Return the sentences at the top of the page for a regression model; `rows` names the n rows of the estimate."""
    headline = f"On new rows the model has an R^2 of {score:.3g}, estimated from {n:,} {rows}."
    for name, target in list(outcomes.items())[:1]:
        subject = "the target" if name == "target" else name
        headline += (
            f" The mean absolute error of {subject} is {_format(target.mae)}. The root mean squared error is "
            f"{_format(target.rmse)}, compared with {_format(target.deviation)} for predicting the mean of all rows."
        )
    return headline


def _format(value: float) -> str:
    """Return a number with four digits, or as a whole number if it is large."""
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"


def describe_outcomes(outcomes: ClassOutcomes | Mapping[str, NumberOutcomes], labels: Sequence[str]) -> str:
    """Return the charts and tables of the statistics of predictions as HTML."""
    if isinstance(outcomes, ClassOutcomes):
        return _describe_classes(outcomes, labels)
    return "".join(_describe_numbers(name, target) for name, target in list(outcomes.items())[:MAX_TARGETS])


def _describe_classes(outcomes: ClassOutcomes, labels: Sequence[str]) -> str:
    """Return the confusion matrix, a table of the classes and the calibration as HTML."""
    parts = []
    confusion = outcomes.confusion
    if confusion is not None and len(labels) <= MAX_MATRIX_CLASSES:
        caption = (
            f"Number of rows of each true class and predicted class: {outcomes.n_correct:,} of {outcomes.n:,} rows are "
            "predicted correctly. Blue cells are correct and orange cells are wrong predictions; a stronger color is a "
            "larger fraction of the true class."
        )
        parts.append(figure(charts.draw_confusion(confusion, labels), caption))
    if confusion is not None:
        parts.append(_class_table(confusion, labels))
        parts.append(_confusion_list(confusion, labels))
    if len(outcomes.groups):
        limits = float(outcomes.groups[:, 1:].min()), 1.0
        picture = charts.draw_calibration(outcomes.groups, "predicted probability", "fraction correct", limits)
        caption = (
            "Calibration: rows are grouped by the probability of the predicted class. On the dashed diagonal, a "
            "probability of 80 % means that 80 % of the predictions are correct. Larger points have more rows."
        )
        parts.append(figure(picture, caption))
    return "".join(parts)


def _class_table(confusion: NDArray[np.int64], labels: Sequence[str]) -> str:
    """Return a table with the number of rows, the recall and the precision of each class as HTML."""
    correct, true, predicted = np.diag(confusion).tolist(), confusion.sum(axis=1), confusion.sum(axis=0)
    rows = [
        [shorten(label, 40), f"{n:,}", f"{percent(hits / n)}" if n else "", f"{percent(hits / m)}" if m else ""]
        for label, hits, n, m in zip(labels, correct, true.tolist(), predicted.tolist(), strict=True)
    ]
    head = ["class", "rows", "found (recall)", "correct if predicted (precision)"]
    more = len(rows) - MAX_CLASS_ROWS
    note = html.paragraph(f"and {more:,} more classes") if more > 0 else ""
    return html.table(head, rows[:MAX_CLASS_ROWS], "Classes") + note


def _confusion_list(confusion: NDArray[np.int64], labels: Sequence[str]) -> str:
    """Return a table of the most frequent confusions as HTML; "" if all predictions are correct."""
    wrong = confusion * (1 - np.eye(len(confusion), dtype=np.int64))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MAX_CONFUSIONS]
    pairs = [divmod(int(index), len(confusion)) for index in order if wrong.flat[index]]
    rows = [[shorten(labels[i], 40), shorten(labels[j], 40), f"{wrong[i, j]:,}"] for i, j in pairs]
    return html.table(["true class", "predicted class", "rows"], rows, "Most frequent confusions") if rows else ""


def _describe_numbers(name: str, outcomes: NumberOutcomes) -> str:
    """Return the charts of the predictions of a target as HTML."""
    label = shorten(name, 30)
    density = charts.draw_density(outcomes.density, outcomes.limits, f"true {label}", f"predicted {label}")
    calibration = charts.draw_calibration(outcomes.groups, f"mean predicted {label}", f"mean true {label}")
    figures = figure(
        density,
        f"Predicted against true {name} for {outcomes.n:,} rows; a stronger color is more rows. On the dashed diagonal "
        "predictions are exact.",
    ) + figure(
        calibration,
        "Calibration: rows are sorted by their prediction and divided into groups. On the dashed diagonal, the mean "
        "prediction of a group equals its mean true value.",
    )
    return f'<div class="charts">{figures}</div>'


def show_importances(importances: Mapping[str, tuple[float, float]], score: str) -> str:
    """Return a bar chart of the first columns of `importances`, which are the most important ones, as HTML."""
    shown = dict(list(importances.items())[:MAX_BARS])
    values, errors = np.array(list(shown.values())).T
    picture = charts.draw_bars(list(shown), values, 2 * errors, f"decrease of the {score}")
    more = f" The other {len(importances) - MAX_BARS:,} columns are less important." * (len(importances) > MAX_BARS)
    return figure(
        picture,
        f"Decrease of the {score} if the values of a column are shuffled. Whiskers extend two standard errors to both "
        f"sides: a column without information has an importance within its whiskers of 0.{more}",
    )


def show_pictures(pictures: Sequence[Picture]) -> str:
    """Return images with captions side by side as HTML."""
    items = "".join(
        f'<figure><img src="{escape(picture.uri)}" alt="{escape(picture.caption)}">'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
        for picture in pictures
    )
    return f'<div class="pictures">{items}</div>'
