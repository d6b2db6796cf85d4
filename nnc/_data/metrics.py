"""Metrics of predictions, defined as in scikit-learn.

METRICS["f1"](y_true, y_pred)
METRICS["mae"](y_true, y_pred, sample_weight=weights)
net.fit(X, y, epochs=10, metrics=["auc", cohen_kappa_score])  # a name, and a function of scikit-learn
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._utils.arrays import as_real_array
from nnc._utils.checks import allow_none, check_bool, check_choice, short_repr

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from nnc._registry.losses import LossRow

__all__ = [
    "METRICS",
    "Metric",
    "accuracy",
    "as_metric",
    "auc",
    "balanced_accuracy",
    "f1",
    "log_loss",
    "mae",
    "mape",
    "precision",
    "r2",
    "recall",
    "rmse",
]


def accuracy(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Compute the fraction of rows with a correct prediction.

    Parameters
    ----------
    y_true, y_pred : int array (rows,) or (rows, n)
        Class indices, or n labels of 0 and 1 per row. A row with several labels is correct if all of them are.
    sample_weight : array (rows,), optional
        Weight of each row: at least 0, and not all 0. Default: equal weights.

    Returns
    -------
    float
        A number from 0 to 1.

    Raises
    ------
    ValueError, TypeError
        An argument is invalid.
    """
    true, predicted, weights = _classes(y_true, y_pred, sample_weight)
    is_correct = true == predicted
    return float(_mean(is_correct if is_correct.ndim == 1 else is_correct.all(axis=1), weights))


def f1(
    y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None, n_classes: int | None = None
) -> float:
    """Compute the F1 score, the harmonic mean of precision and recall: 2 TP / (2 TP + FP + FN).

    Parameters
    ----------
    y_true, y_pred : int array (rows,), or (rows, n) of 0 and 1
        Class indices, or n labels per row.
    sample_weight : array (rows,), optional
        As in `accuracy`.
    n_classes : int, optional
        Number of classes. Default: the largest index plus 1, at least 2.

    Returns
    -------
    float
        A number from 0 to 1. For two classes it is the F1 score of class 1 (average="binary" in scikit-learn). For more
        classes it is the mean over the classes that occur in `y_true` or `y_pred`, and for (rows, n) the mean over the
        columns (average="macro"). It is 0 if precision or recall would be 0 / 0.

    Raises
    ------
    ValueError, TypeError
        An argument is invalid.
    """
    return _by_class(_f1, y_true, y_pred, sample_weight, n_classes)


def precision(
    y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None, n_classes: int | None = None
) -> float:
    """Compute the precision TP / (TP + FP), with the arguments and the average over classes of `f1`."""
    return _by_class(lambda both, true, predicted: _quotient(both, predicted), y_true, y_pred, sample_weight, n_classes)


def recall(
    y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None, n_classes: int | None = None
) -> float:
    """Compute the recall TP / (TP + FN), with the arguments and the average over classes of `f1`."""
    return _by_class(lambda both, true, predicted: _quotient(both, true), y_true, y_pred, sample_weight, n_classes)


def balanced_accuracy(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Compute the mean recall of all classes in `y_true`.

    For targets (rows, n), return the mean of the n results. The arguments are those of `accuracy`.
    """
    true, predicted, weights = _classes(y_true, y_pred, sample_weight)
    columns = ((true, predicted),) if true.ndim == 1 else zip(true.T, predicted.T, strict=True)
    means = []
    for t, p in columns:
        both, counts, _ = _counts(t, p, weights, max(int(t.max()), int(p.max())) + 1)
        means.append((both[counts > 0] / counts[counts > 0]).mean())
    return float(np.mean(means))


def _f1(both: NDArray[np.float64], true: NDArray[np.float64], predicted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the F1 score of each class, given the sums of weights TP, TP + FN and TP + FP."""
    return _quotient(2 * both, true + predicted)


def _quotient(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a / b, and 0 for 0 / 0."""
    quotient: NDArray[np.float64] = a / np.where(b > 0, b, 1)
    return quotient


def _counts(
    true: NDArray[np.intp], predicted: NDArray[np.intp], weights: NDArray[np.float64], n: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return three sums of row weights for each class: TP, TP + FN and TP + FP.

    TP belongs to the correctly predicted rows of the class, TP + FN to all its rows, and TP + FP to all rows for which
    it is predicted.
    """
    is_correct = true == predicted
    both = np.bincount(true[is_correct], weights[is_correct], n)
    return both, np.bincount(true, weights, n), np.bincount(predicted, weights, n)


def _by_class(
    measure: Callable[..., NDArray[np.float64]],
    y_true: ArrayLike,
    y_pred: ArrayLike,
    sample_weight: ArrayLike | None,
    n_classes: int | None,
) -> float:
    """Return the average of a measure over the classes, as described in `f1`.

    `measure` computes one number per class from the sums of row weights TP, TP + FN and TP + FP.
    """
    true, predicted, weights = _classes(y_true, y_pred, sample_weight)
    if true.ndim == 2:
        if max(true.max(), predicted.max()) > 1:
            raise ValueError(f"labels must be 0 or 1 if y has several columns, got {max(true.max(), predicted.max())}")
        columns = zip(true.T, predicted.T, strict=True)
        return float(np.mean([measure(*_counts(t, p, weights, 2))[1] for t, p in columns]))
    n = max(int(true.max()), int(predicted.max())) + 1
    if n_classes is None:
        n_classes = max(2, n)
    elif n > n_classes:
        raise ValueError(f"classes must be from 0 to {n_classes - 1}, got {n - 1}")
    by_class = measure(*_counts(true, predicted, weights, n_classes))
    if n_classes == 2:
        return float(by_class[1])
    occurs = np.bincount(true, minlength=n_classes) + np.bincount(predicted, minlength=n_classes) > 0
    return float(by_class[occurs].mean())


def auc(y_true: ArrayLike, y_score: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Compute the area under the receiver operating characteristic (ROC) curve.

    It is the probability that a row of the class has a larger score than a row of another class; equal scores count
    1/2.

    Parameters
    ----------
    y_true : int array (rows,), or (rows, n) of 0 and 1
        Class indices, or n labels per row.
    y_score : array (rows,) or (rows, n)
        Scores of class 1, or of each class: probabilities, or any increasing function of them.
    sample_weight : array (rows,), optional
        As in `accuracy`.

    Returns
    -------
    float
        The area of class 1 for two classes. For more classes it is the mean over the classes, each against all others
        (multi_class="ovr" in scikit-learn), and for (rows, n) the mean over the columns. A class to which no row or
        every row belongs has no area and is omitted; the result is NaN if all classes are omitted.

    Raises
    ------
    ValueError, TypeError
        An argument is invalid.
    """
    true, score, weights = _scored(y_true, y_score, sample_weight)
    areas = [_area(true[:, j], score[:, j], weights) for j in range(score.shape[1])]
    areas = [area for area in areas if not math.isnan(area)]
    return float(np.mean(areas)) if areas else math.nan


def _area(true: NDArray[np.bool_], score: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Return the area under the ROC curve of one class, or NaN if all rows or no rows belong to the class."""
    _, rank = np.unique(score, return_inverse=True)
    positive, negative = np.bincount(rank, weights * true), np.bincount(rank, weights * ~true)
    negative_below = np.cumsum(negative) - 0.5 * negative
    total = positive.sum() * negative.sum()
    return float(positive @ negative_below / total) if total > 0 else math.nan


def log_loss(y_true: ArrayLike, y_prob: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Compute the mean of -log(predicted probability of the true class).

    Parameters
    ----------
    y_true : int array (rows,), or (rows, n) of 0 and 1
        Class indices, or n labels per row.
    y_prob : array (rows,) or (rows, n)
        Probabilities of class 1, or of each class. They are clipped to [eps, 1 - eps] for the eps of their dtype.
    sample_weight : array (rows,), optional
        As in `accuracy`.

    Returns
    -------
    float
        The mean over the rows. For n labels per row, it is the mean over rows and labels.

    Raises
    ------
    ValueError, TypeError
        An argument is invalid.
    """
    true, prob, weights = _scored(y_true, y_prob, sample_weight)
    if prob.min() < 0 or prob.max() > 1:
        raise ValueError(f"y_prob must contain probabilities from 0 to 1, got {prob.min():g} to {prob.max():g}")
    given = np.asarray(y_prob).dtype
    eps = np.finfo(given if given.kind == "f" else np.float64).eps
    prob = np.clip(prob, eps, 1 - eps)
    is_binary = prob.shape[1] == 1 or np.ndim(y_true) == 2
    log_likelihood = np.where(true, np.log(prob), np.log1p(-prob) if is_binary else 0.0)
    return -float(_mean(log_likelihood.mean(axis=1) if is_binary else log_likelihood.sum(axis=1), weights))


def r2(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Compute the coefficient of determination R^2, 1 - sum (y_true - y_pred)^2 / sum (y_true - mean)^2.

    Parameters
    ----------
    y_true, y_pred : array (rows,) or (rows, n)
        Finite numbers.
    sample_weight : array (rows,), optional
        Weight of each row, also in the mean: at least 0, and not all 0. Default: equal weights.

    Returns
    -------
    float
        The mean over the outputs. It is at most 1, and negative if the mean of `y_true` is a better prediction. For an
        output with constant targets it is 1 if all predictions are exact, else 0.

    Raises
    ------
    ValueError, TypeError
        An argument is invalid.
    """
    true, predicted, weights = _values(y_true, y_pred, sample_weight)
    scale, true_scale = _scale(true, predicted), _scale(true)
    errors = _mean((true / scale - predicted / scale) ** 2, weights)
    true = true / true_scale
    variance = _mean((true - _mean(true, weights)) ** 2, weights)
    constant = (true == true[0]).all(axis=0) | (variance == 0)
    with np.errstate(over="ignore"):  # if squared errors overflow, R^2 is -inf
        explained = 1 - errors / np.where(constant, 1, variance) * np.float64(scale / true_scale) ** 2
    return float(np.where(constant, errors == 0, explained).mean())


def mae(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Compute the mean absolute error over rows and outputs; the arguments are those of `r2`."""
    true, predicted, weights = _values(y_true, y_pred, sample_weight)
    return float(_mean(abs(true - predicted), weights).mean())


def rmse(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Compute the root mean squared error of each output, and return its mean; the arguments are those of `r2`."""
    true, predicted, weights = _values(y_true, y_pred, sample_weight)
    scale = _scale(true, predicted)
    return float((scale * np.sqrt(_mean((true / scale - predicted / scale) ** 2, weights))).mean())


def mape(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Compute the mean of |y_true - y_pred| / |y_true| over rows and outputs, as a fraction, not a percentage.

    As in scikit-learn, a denominator |y_true| below 2.2e-16 is replaced by 2.2e-16. The arguments are those of `r2`.
    """
    true, predicted, weights = _values(y_true, y_pred, sample_weight)
    return float(_mean(abs(true - predicted) / np.maximum(abs(true), np.finfo(np.float64).eps), weights).mean())


TAKES = ("classes", "scores", "probabilities", "values")


@dataclass(frozen=True)
class Metric:
    """Metric: a function of targets and predictions, with its name and properties.

    Parameters
    ----------
    name : str
        Name of the column in a History.
    function : callable
        function(y_true, y_pred) returns a number. If rows have weights, it must accept sample_weight as keyword.
    takes : {"classes", "probabilities", "scores", "values"}, optional
        Form of y_pred. For classification, y_true are classes, and y_pred is the result of predict_classes ("classes",
        the default), of predict_proba ("probabilities"), or of predict ("scores"; a vector if there is one output). For
        regression, y_true (n, n_out) are targets, and y_pred is the result of predict ("values", the default).
    larger_is_better : bool, optional
        Whether larger values are better. It is required if the metric is used for `monitor`.
    of_n_classes : bool, default False
        Whether the function accepts the number of classes as keyword n_classes.

    Raises
    ------
    ValueError, TypeError
        An argument is invalid.
    """

    name: str
    function: Callable[..., float]
    takes: str | None = None
    larger_is_better: bool | None = None
    of_n_classes: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise TypeError(f"name must be a string, got {short_repr(self.name)}")
        if not callable(self.function):
            raise TypeError(f"function must be a function of y_true and y_pred, got {short_repr(self.function)}")
        allow_none(lambda name, value: check_choice(name, value, TAKES))("takes", self.takes)
        allow_none(check_bool)("larger_is_better", self.larger_is_better)

    def __call__(self, *arguments: Any, **named: Any) -> float:
        """Compute the metric by calling its function with these arguments."""
        return self.function(*arguments, **named)

    def is_for(self, loss: LossRow) -> bool:
        """Return whether the metric can be computed for networks with this loss."""
        if self.takes == "probabilities" and loss.target_type == "plus_minus_one":  # outputs for hinge loss are margins
            return False
        return self.takes is None or (self.takes == "values") != loss.is_classification

    @property
    def is_custom(self) -> bool:
        """Return whether the metric is custom, that is, not one of METRICS."""
        return METRICS.get(self.name) is not self

    @property
    def takes_weights(self) -> bool:
        """Return whether the function accepts sample_weight."""
        from inspect import Parameter, signature

        try:
            parameters = signature(self.function).parameters
        except (TypeError, ValueError):  # some compiled functions do not have a signature
            return False
        return "sample_weight" in parameters or any(p.kind is Parameter.VAR_KEYWORD for p in parameters.values())


METRICS = {
    metric.name: metric
    for metric in (
        Metric("accuracy", accuracy, "classes", larger_is_better=True),
        Metric("f1", f1, "classes", larger_is_better=True, of_n_classes=True),
        Metric("precision", precision, "classes", larger_is_better=True, of_n_classes=True),
        Metric("recall", recall, "classes", larger_is_better=True, of_n_classes=True),
        Metric("balanced_accuracy", balanced_accuracy, "classes", larger_is_better=True),
        Metric("auc", auc, "scores", larger_is_better=True),
        Metric("log_loss", log_loss, "probabilities", larger_is_better=False),
        Metric("r2", r2, "values", larger_is_better=True),
        Metric("mae", mae, "values", larger_is_better=False),
        Metric("rmse", rmse, "values", larger_is_better=False),
        Metric("mape", mape, "values", larger_is_better=False),
    )
}


def as_metric(argument: str, value: Any, loss: LossRow) -> Metric:
    """Return a metric for a name, a function or a Metric, after checking that it supports the loss.

    Raises
    ------
    ValueError, TypeError
        `value` is not a metric, or does not support the loss.
    """
    choices = [name for name, metric in METRICS.items() if metric.is_for(loss)]
    if isinstance(value, str) and value in METRICS:
        metric = METRICS[value]
    elif isinstance(value, Metric):
        metric = value
    elif callable(value) and not isinstance(value, type):
        metric = Metric(getattr(value, "__name__", type(value).__name__), value)
    else:
        metric = METRICS[check_choice(argument, value, choices, ", or a function of y_true and y_pred")]
    if metric.is_for(loss):
        return metric
    if metric.takes == "probabilities" and loss.target_type == "plus_minus_one":
        why = f"takes probabilities, and outputs for {loss.name!r} are margins"
    else:
        kinds = ("numbers", "classes") if loss.is_classification else ("classes", "numbers")
        why = f"is for losses of {kinds[0]}, and {loss.name!r} is one of {kinds[1]}"
    raise ValueError(f"{argument}: {metric.name!r} {why}: choose from {', '.join(choices)}")


def _pair(y_true: ArrayLike, y_pred: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return y_true and y_pred as arrays of the same shape; shape (rows, 1) becomes (rows,)."""
    true, predicted = as_real_array("y_true", y_true), as_real_array("y_pred", y_pred)
    shapes = true.shape, predicted.shape
    true, predicted = (a[:, 0] if a.ndim == 2 and a.shape[1] == 1 else a for a in (true, predicted))
    if true.shape != predicted.shape or true.ndim not in (1, 2) or true.size == 0:
        raise ValueError(
            f"y_true and y_pred must have the same shape (rows,) or (rows, n), with at least one row, got {shapes[0]} "
            f"and {shapes[1]}"
        )
    return true, predicted


def _weights(sample_weight: ArrayLike | None, rows: int) -> NDArray[np.float64]:
    """Return validated row weights as float64."""
    if sample_weight is None:
        return np.ones(rows)
    weights = as_real_array("sample_weight", sample_weight).astype(np.float64)
    if weights.shape != (rows,):
        raise ValueError(f"sample_weight must have one number for each of the {rows} rows, got shape {weights.shape}")
    if not (weights.min() >= 0 and 0 < weights.sum() < np.inf):
        raise ValueError(
            "sample_weight must contain finite numbers of at least 0, and not all 0, "
            f"got values from {weights.min():g} to {weights.max():g}"
        )
    return weights


def _scale(*arrays: NDArray[np.float64]) -> float:
    """Return a power of 2; numbers divided by it have finite squares. It is 1 if all numbers are at most 1e150."""
    largest = float(max(abs(array).max() for array in arrays))
    return 2.0 ** (math.frexp(largest)[1] - 1) if 1e150 < largest < math.inf else 1.0


def _mean(values: NDArray[Any], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weighted mean over the rows."""
    mean: NDArray[np.float64] = weights @ values / weights.sum()
    return mean


def _classes(
    y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Return the validated class indices of `y_true` and of `y_pred`, and the row weights."""
    pair = _pair(y_true, y_pred)
    for name, array in zip(("y_true", "y_pred"), pair, strict=True):
        if array.dtype.kind == "f":
            raise TypeError(f"{name} must contain class indices, which are integers, got dtype {array.dtype}")
        if array.min() < 0:
            raise ValueError(f"{name} must contain class indices of at least 0, got {array.min()}")
    true, predicted = (array.astype(np.intp, copy=False) for array in pair)
    return true, predicted, _weights(sample_weight, len(true))


def _scored(
    y_true: ArrayLike, y_score: ArrayLike, sample_weight: ArrayLike | None
) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]:
    """Return a mask (rows, columns) of the true classes, the scores (rows, columns), and the row weights.

    There is one column per class; two classes have only the column of class 1.
    """
    true, score = as_real_array("y_true", y_true), as_real_array("y_score", y_score).astype(np.float64)
    score = score[:, None] if score.ndim == 1 else score
    if score.ndim != 2 or score.size == 0 or true.shape not in (score.shape, score.shape[:1], (len(score), 1)):
        raise ValueError(
            "y_true and y_score must have the same shape, or y_score one column for each class, and at least one row, "
            f"got {true.shape} and {np.shape(y_score)}"
        )
    true, _, weights = _classes(true, true, sample_weight)
    if true.ndim == 1 and score.shape[1] == 2:
        score = score[:, 1:]
    max_index = score.shape[1] - 1 if true.ndim == 1 and score.shape[1] > 1 else 1
    if true.max() > max_index:
        raise ValueError(f"classes must be from 0 to {max_index}, got {true.max()}")
    if true.ndim == 1:
        true = true[:, None] == (np.arange(score.shape[1]) if score.shape[1] > 1 else 1)
    return true.astype(bool), score, weights


def _values(
    y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return targets and predictions as float64 with one column for each output, and row weights."""
    true, predicted = (a[:, None] if a.ndim == 1 else a for a in _pair(y_true, y_pred))
    return true.astype(np.float64), predicted.astype(np.float64), _weights(sample_weight, len(true))
