"""Metrics: how good predictions are, in numbers that people read; as scikit-learn computes them.

METRICS["f1"](y_true, y_pred)
METRICS["mae"](y_true, y_pred, sample_weight=weights)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc.base.arrays import numbers

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["METRICS", "Metric", "accuracy", "f1", "mae", "r2", "rmse"]


def accuracy(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """The share of rows that are predicted rightly.

    Parameters
    ----------
    y_true, y_pred : whole numbers (rows,), or (rows, n)
        Classes. With several in a row all of them have to be right.
    sample_weight : array (rows,), optional
        How much each row counts: not negative, not all 0. Default: all the same.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    ValueError, TypeError
        An argument is not one of these.
    """
    true, predicted, weights = _classes(y_true, y_pred, sample_weight)
    right = true == predicted
    return float(_mean(right if right.ndim == 1 else right.all(axis=1), weights))


def f1(
    y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None, n_classes: int | None = None
) -> float:
    """The harmonic mean of precision and recall: 2 TP / (2 TP + FP + FN).

    Parameters
    ----------
    y_true, y_pred : whole numbers (rows,), or (rows, n) of 0 and 1
        Classes from 0. Several in a row are yes or no, each for itself.
    sample_weight : array (rows,), optional
        As in `accuracy`.
    n_classes : int, optional
        How many classes there are. Default: as many as the largest number says, at least 2.

    Returns
    -------
    float
        From 0 to 1. For two classes the F1 of class 1 (scikit-learn's average="binary"). For more the plain mean over
        the classes that are in `y_true` or `y_pred`, and for rows (rows, n) that over the columns (average="macro").
        Where precision or recall would be 0 / 0, because a class was not there or was never predicted, F1 is 0.

    Raises
    ------
    ValueError, TypeError
        An argument is not one of these.
    """
    true, predicted, weights = _classes(y_true, y_pred, sample_weight)
    if true.ndim == 2:
        if max(true.max(), predicted.max()) > 1:
            raise ValueError("classes must be 0 or 1 where a row has several of them")
        columns = zip(true.T, predicted.T, strict=True)
        return float(np.mean([_f1_by_class(t, p, weights, 2)[1] for t, p in columns]))
    n = max(int(true.max()), int(predicted.max())) + 1
    if n_classes is None:
        n_classes = max(2, n)
    elif n > n_classes:
        raise ValueError(f"classes must be from 0 to {n_classes - 1}, got {n - 1}")
    by_class = _f1_by_class(true, predicted, weights, n_classes)
    if n_classes == 2:
        return float(by_class[1])
    there = np.bincount(true, minlength=n_classes) + np.bincount(predicted, minlength=n_classes) > 0
    return float(by_class[there].mean())


def _f1_by_class(
    true: NDArray[np.intp], predicted: NDArray[np.intp], weights: NDArray[np.float64], n: int
) -> NDArray[np.float64]:
    right = true == predicted
    both = np.bincount(true[right], weights[right], n)
    sums = np.bincount(true, weights, n) + np.bincount(predicted, weights, n)
    return 2 * both / np.where(sums > 0, sums, 1)


def r2(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """R^2, the share of the variance that is explained: 1 - sum (y_true - y_pred)^2 / sum (y_true - mean)^2.

    Parameters
    ----------
    y_true, y_pred : array (rows,), or (rows, n)
        Finite numbers.
    sample_weight : array (rows,), optional
        How much each row counts, in the mean too: not negative, not all 0. Default: all the same.

    Returns
    -------
    float
        The plain mean over the outputs; at most 1, and below 0 where the mean of `y_true` would predict better. An
        output whose targets are all the same counts 1 if they are predicted exactly, else 0.

    Raises
    ------
    ValueError, TypeError
        An argument is not one of these.
    """
    true, predicted, weights = _values(y_true, y_pred, sample_weight)
    scale, own = _scale(true, predicted), _scale(true)
    errors = _mean((true / scale - predicted / scale) ** 2, weights)
    true = true / own
    spread = _mean((true - _mean(true, weights)) ** 2, weights)
    constant = (true == true[0]).all(axis=0) | (spread == 0)
    with np.errstate(over="ignore"):  # predictions that are far enough off have no R^2 but -inf
        explained = 1 - errors / np.where(constant, 1, spread) * np.float64(scale / own) ** 2
    return float(np.where(constant, errors == 0, explained).mean())


def mae(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """The mean of |y_true - y_pred|, over the rows and then over the outputs; arguments as in `r2`."""
    true, predicted, weights = _values(y_true, y_pred, sample_weight)
    return float(_mean(abs(true - predicted), weights).mean())


def rmse(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """The root of the mean of (y_true - y_pred)^2 over the rows, then the mean over outputs; arguments as in `r2`."""
    true, predicted, weights = _values(y_true, y_pred, sample_weight)
    scale = _scale(true, predicted)
    return float((scale * np.sqrt(_mean((true / scale - predicted / scale) ** 2, weights))).mean())


@dataclass(frozen=True)
class Metric:
    """A function of targets and predictions, and what to know about it.

    Attributes
    ----------
    name : str
        What it is called in a History.
    function : callable
        function(y_true, y_pred, sample_weight=None) -> float.
    takes : str
        "classes" (what predict_classes returns) or "values" (what predict returns).
    larger_is_better : bool
        Which way is better.
    """

    name: str
    function: Callable[..., float]
    takes: str
    larger_is_better: bool

    def __call__(self, *arguments: Any, **named: Any) -> float:
        """What `function` returns."""
        return self.function(*arguments, **named)


METRICS = {
    metric.name: metric
    for metric in (
        Metric("accuracy", accuracy, "classes", larger_is_better=True),
        Metric("f1", f1, "classes", larger_is_better=True),
        Metric("r2", r2, "values", larger_is_better=True),
        Metric("mae", mae, "values", larger_is_better=False),
        Metric("rmse", rmse, "values", larger_is_better=False),
    )
}


def _pair(y_true: ArrayLike, y_pred: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """Both as arrays of one shape; a column stands for a vector."""
    true, predicted = numbers("y_true", y_true), numbers("y_pred", y_pred)
    shapes = true.shape, predicted.shape
    true, predicted = (a[:, 0] if a.ndim == 2 and a.shape[1] == 1 else a for a in (true, predicted))
    if true.shape != predicted.shape or true.ndim not in (1, 2) or true.size == 0:
        raise ValueError(
            f"y_true and y_pred must have one shape, (rows,) or (rows, n), and a row at least, got {shapes[0]} and "
            f"{shapes[1]}"
        )
    return true, predicted


def _weights(sample_weight: ArrayLike | None, rows: int) -> NDArray[np.float64]:
    if sample_weight is None:
        return np.ones(rows)
    weights = numbers("sample_weight", sample_weight).astype(np.float64)
    if weights.shape != (rows,):
        raise ValueError(f"sample_weight must have one number for each of the {rows} rows, got shape {weights.shape}")
    if not (weights.min() >= 0 and 0 < weights.sum() < np.inf):
        raise ValueError("sample_weight must hold finite numbers, none negative and not all 0")
    return weights


def _scale(*arrays: NDArray[np.float64]) -> float:
    """A power of 2, by which no number is rounded, that keeps squares in range; 1 for all but enormous numbers."""
    largest = float(max(abs(array).max() for array in arrays))
    return 2.0 ** math.frexp(largest)[1] if 1e150 < largest < math.inf else 1.0


def _mean(values: NDArray[Any], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over the rows."""
    mean: NDArray[np.float64] = weights @ values / weights.sum()
    return mean


def _classes(
    y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    pair = _pair(y_true, y_pred)
    for name, array in zip(("y_true", "y_pred"), pair, strict=True):
        if array.dtype.kind == "f":
            raise TypeError(f"{name} must hold classes, which are whole numbers, got elements of type {array.dtype}")
        if array.min() < 0:
            raise ValueError(f"{name} must hold classes from 0, got {array.min()}")
    true, predicted = (array.astype(np.intp, copy=False) for array in pair)
    return true, predicted, _weights(sample_weight, len(true))


def _values(
    y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Float64, one column for each output."""
    true, predicted = (a[:, None] if a.ndim == 1 else a for a in _pair(y_true, y_pred))
    return true.astype(np.float64), predicted.astype(np.float64), _weights(sample_weight, len(true))
