"""Metrics: how good predictions are, in numbers that people read; as scikit-learn computes them.

METRICS["f1"](y_true, y_pred)
METRICS["mae"](y_true, y_pred, sample_weight=weights)
net.fit(X, y, epochs=10, metrics=["auc", cohen_kappa_score])  # functions of the user's, too
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from reprlib import repr as shown
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._utils.arrays import as_real_array
from nnc._utils.checks import allow_none, check_bool, check_choice

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
    return _by_class(_f1, y_true, y_pred, sample_weight, n_classes)


def precision(
    y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None, n_classes: int | None = None
) -> float:
    """The share of rows predicted to be of a class that are: TP / (TP + FP), over the classes as `f1` has it."""
    return _by_class(lambda both, true, predicted: _quotient(both, predicted), y_true, y_pred, sample_weight, n_classes)


def recall(
    y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None, n_classes: int | None = None
) -> float:
    """The share of the rows of a class that are predicted to be: TP / (TP + FN), over the classes as `f1` has it."""
    return _by_class(lambda both, true, predicted: _quotient(both, true), y_true, y_pred, sample_weight, n_classes)


def balanced_accuracy(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """The mean of the recall of all classes in `y_true`, where several stand in a row the mean over the columns;
    arguments as in `accuracy`."""
    true, predicted, weights = _classes(y_true, y_pred, sample_weight)
    columns = ((true, predicted),) if true.ndim == 1 else zip(true.T, predicted.T, strict=True)
    means = []
    for t, p in columns:
        both, there, _ = _counts(t, p, weights, max(int(t.max()), int(p.max())) + 1)
        means.append((both[there > 0] / there[there > 0]).mean())
    return float(np.mean(means))


def _f1(both: NDArray[np.float64], true: NDArray[np.float64], predicted: NDArray[np.float64]) -> NDArray[np.float64]:
    return _quotient(2 * both, true + predicted)


def _quotient(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """0 where it would be 0 / 0."""
    quotient: NDArray[np.float64] = a / np.where(b > 0, b, 1)
    return quotient


def _counts(
    true: NDArray[np.intp], predicted: NDArray[np.intp], weights: NDArray[np.float64], n: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Of each class the weight of the rows that are rightly predicted to be of it, that are of it, that are predicted
    to be."""
    right = true == predicted
    both = np.bincount(true[right], weights[right], n)
    return both, np.bincount(true, weights, n), np.bincount(predicted, weights, n)


def _by_class(
    measure: Callable[..., NDArray[np.float64]],
    y_true: ArrayLike,
    y_pred: ArrayLike,
    sample_weight: ArrayLike | None,
    n_classes: int | None,
) -> float:
    """What `measure` makes of the counts of each class, brought to one number as `f1` says."""
    true, predicted, weights = _classes(y_true, y_pred, sample_weight)
    if true.ndim == 2:
        if max(true.max(), predicted.max()) > 1:
            raise ValueError("classes must be 0 or 1 where a row has several of them")
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
    there = np.bincount(true, minlength=n_classes) + np.bincount(predicted, minlength=n_classes) > 0
    return float(by_class[there].mean())


def auc(y_true: ArrayLike, y_score: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """The area under the receiver operating characteristic: how probable it is that a row of a class has a larger score
    for it than a row of another one, where equal scores count half.

    Parameters
    ----------
    y_true : whole numbers (rows,), or (rows, n) of 0 and 1
        Classes from 0; several in a row are yes or no, each for itself.
    y_score : array (rows,) or (rows, n)
        Scores of class 1, or of every class: probabilities, or anything that grows with them.
    sample_weight : array (rows,), optional
        As in `accuracy`.

    Returns
    -------
    float
        Of two classes that of class 1. Of more the plain mean over the classes, each against all others
        (multi_class="ovr"), and for rows (rows, n) that over the columns. A class that no row has, or all of them, has
        no such area and is left out; NaN where nothing is left.

    Raises
    ------
    ValueError, TypeError
        An argument is not one of these.
    """
    true, score, weights = _scored(y_true, y_score, sample_weight)
    areas = [_area(true[:, j], score[:, j], weights) for j in range(score.shape[1])]
    areas = [area for area in areas if not math.isnan(area)]
    return float(np.mean(areas)) if areas else math.nan


def _area(true: NDArray[np.bool_], score: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Of one class, by the sums of the weights of yes and of no up to each score."""
    _, rank = np.unique(score, return_inverse=True)
    yes, no = np.bincount(rank, weights * true), np.bincount(rank, weights * ~true)
    below = np.cumsum(no) - 0.5 * no
    total = yes.sum() * no.sum()
    return float(yes @ below / total) if total > 0 else math.nan


def log_loss(y_true: ArrayLike, y_prob: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """The mean of -log(probability of the class that a row is of).

    Parameters
    ----------
    y_true : whole numbers (rows,), or (rows, n) of 0 and 1
        As in `auc`.
    y_prob : array (rows,) or (rows, n)
        Probabilities of class 1, or of every class; they count as no nearer to 0 and 1 than rounding in their type.
    sample_weight : array (rows,), optional
        As in `accuracy`.

    Returns
    -------
    float
        Where several classes stand in a row, the mean over the columns, too.

    Raises
    ------
    ValueError, TypeError
        An argument is not one of these.
    """
    true, prob, weights = _scored(y_true, y_prob, sample_weight)
    if prob.min() < 0 or prob.max() > 1:
        raise ValueError(f"y_prob must hold probabilities, from 0 to 1, got {prob.min():g} to {prob.max():g}")
    given = np.asarray(y_prob).dtype
    eps = np.finfo(given if given.kind == "f" else np.float64).eps
    prob = np.clip(prob, eps, 1 - eps)
    alone = prob.shape[1] == 1 or np.ndim(y_true) == 2
    each = np.where(true, np.log(prob), np.log1p(-prob) if alone else 0.0)
    return -float(_mean(each.mean(axis=1) if alone else each.sum(axis=1), weights))


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


def mape(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """The mean of |y_true - y_pred| / |y_true|, over the rows and then over the outputs: a share, no percentage. As in
    scikit-learn a target nearer to 0 than 2.2e-16 counts as that. Arguments as in `r2`."""
    true, predicted, weights = _values(y_true, y_pred, sample_weight)
    return float(_mean(abs(true - predicted) / np.maximum(abs(true), np.finfo(np.float64).eps), weights).mean())


TAKES = ("classes", "scores", "probabilities", "values")


@dataclass(frozen=True)
class Metric:
    """A function of targets and predictions, and what to know about it.

    Parameters
    ----------
    name : str
        What it is called in a History.
    function : callable
        function(y_true, y_pred) gives a number; where rows have weights, it has to take sample_weight=, too.
    takes : str, optional
        What y_pred is. With losses of classes "classes" (the default), as predict_classes gives them; "probabilities",
        as predict_proba does; or "scores", outputs as predict gives them, those of a single one as a vector: y_true
        are classes then. With losses of numbers "values" (the default): y_true (n, n_out) and what predict gives.
    larger_is_better : bool, optional
        Which way is better, which has to be known of what is monitored.
    of_n_classes : bool, default False
        Whether the function takes the number of classes, n_classes=.

    Raises
    ------
    ValueError, TypeError
        An argument is not one of these.
    """

    name: str
    function: Callable[..., float]
    takes: str | None = None
    larger_is_better: bool | None = None
    of_n_classes: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise TypeError(f"name must be a text, got {shown(self.name)}")
        if not callable(self.function):
            raise TypeError(f"function must be one of y_true and y_pred, got {shown(self.function)}")
        allow_none(lambda name, value: check_choice(name, value, TAKES))("takes", self.takes)
        allow_none(check_bool)("larger_is_better", self.larger_is_better)

    def __call__(self, *arguments: Any, **named: Any) -> float:
        """What `function` returns."""
        return self.function(*arguments, **named)

    def is_for(self, loss: LossRow) -> bool:
        """Whether outputs for that loss are what it takes."""
        if self.takes == "probabilities" and loss.target_type == "plus_minus_one":  # whose outputs are margins
            return False
        return self.takes is None or (self.takes == "values") != loss.is_classification

    @property
    def is_custom(self) -> bool:
        """Whether it is the user's, and no row of METRICS."""
        return METRICS.get(self.name) is not self

    @property
    def takes_weights(self) -> bool:
        """Whether its function takes weights of rows."""
        from inspect import Parameter, signature

        try:
            parameters = signature(self.function).parameters
        except (TypeError, ValueError):  # compiled, and says nothing of itself
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
    """A metric by its name, or of a function of the user's, that goes with the loss.

    Raises
    ------
    ValueError, TypeError
        It is none, or does not go with the loss.
    """
    known = [name for name, metric in METRICS.items() if metric.is_for(loss)]
    if isinstance(value, str) and value in METRICS:
        metric = METRICS[value]
    elif isinstance(value, Metric):
        metric = value
    elif callable(value) and not isinstance(value, type):
        metric = Metric(getattr(value, "__name__", type(value).__name__), value)
    else:
        metric = METRICS[check_choice(argument, value, known, ", or a function of y_true and y_pred")]
    if metric.is_for(loss):
        return metric
    if metric.takes == "probabilities" and loss.target_type == "plus_minus_one":
        why = f"takes probabilities, and outputs for {loss.name!r} are margins"
    else:
        kinds = ("numbers", "classes") if loss.is_classification else ("classes", "numbers")
        why = f"is for losses of {kinds[0]}, and {loss.name!r} is one of {kinds[1]}"
    raise ValueError(f"{argument}: {metric.name!r} {why}: choose from {', '.join(known)}")


def _pair(y_true: ArrayLike, y_pred: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """Both as arrays of one shape; a column stands for a vector."""
    true, predicted = as_real_array("y_true", y_true), as_real_array("y_pred", y_pred)
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
    weights = as_real_array("sample_weight", sample_weight).astype(np.float64)
    if weights.shape != (rows,):
        raise ValueError(f"sample_weight must have one number for each of the {rows} rows, got shape {weights.shape}")
    if not (weights.min() >= 0 and 0 < weights.sum() < np.inf):
        raise ValueError("sample_weight must hold finite numbers, none negative and not all 0")
    return weights


def _scale(*arrays: NDArray[np.float64]) -> float:
    """A power of 2, by which no number is rounded, that keeps squares in range; 1 for all but enormous numbers."""
    largest = float(max(abs(array).max() for array in arrays))
    return 2.0 ** (math.frexp(largest)[1] - 1) if 1e150 < largest < math.inf else 1.0


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


def _scored(
    y_true: ArrayLike, y_score: ArrayLike, sample_weight: ArrayLike | None
) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]:
    """Whether each row is of each class that has a column, and its scores; of two classes class 1 alone."""
    true, score = as_real_array("y_true", y_true), as_real_array("y_score", y_score).astype(np.float64)
    score = score[:, None] if score.ndim == 1 else score
    if score.ndim != 2 or score.size == 0 or true.shape not in (score.shape, score.shape[:1], (len(score), 1)):
        raise ValueError(
            "y_true and y_score must have one shape, or y_score a column for each class, and a row at least, got "
            f"{true.shape} and {np.shape(y_score)}"
        )
    true, _, weights = _classes(true, true, sample_weight)
    if true.ndim == 1 and score.shape[1] == 2:
        score = score[:, 1:]
    most = score.shape[1] - 1 if true.ndim == 1 and score.shape[1] > 1 else 1
    if true.max() > most:
        raise ValueError(f"classes must be from 0 to {most}, got {true.max()}")
    if true.ndim == 1:
        true = true[:, None] == (np.arange(score.shape[1]) if score.shape[1] > 1 else 1)
    return true.astype(bool), score, weights


def _values(
    y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Float64, one column for each output."""
    true, predicted = (a[:, None] if a.ndim == 1 else a for a in _pair(y_true, y_pred))
    return true.astype(np.float64), predicted.astype(np.float64), _weights(sample_weight, len(true))
