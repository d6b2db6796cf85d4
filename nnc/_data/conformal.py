"""Conformal prediction with held-out rows: intervals and sets of classes with a guaranteed coverage for any model.

The held-out rows are used for the conformal calibration, which chooses the threshold of the nonconformity scores. The
method is described by Vovk, Gammerman and Shafer (2005) and Lei et al. (2018). The guarantee requires that new rows are
exchangeable with the held-out rows, and that the model was not trained on the held-out rows. The expected fraction of
new rows whose interval or set contains the true value is at least `level`. If no two scores of the n held-out rows are
equal, this fraction is at most `level` + 1 / (n + 1).
"""

from __future__ import annotations

from decimal import Decimal
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._utils.checks import build_check, check_bool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray

    Predicted = tuple[NDArray[Any], NDArray[Any]]

check_level = build_check(lambda x: 0 < x < 1, "above 0 and below 1")


def level_texts(levels: Sequence[float], scale: int = 1) -> list[str]:
    """Return a text for each level times `scale` (100 for percent), such as "0.995" or "99.5", for names and messages.

    Different levels have different texts, and no level has the text of 0 or 1. The texts have up to 15 digits, and
    more only where levels cannot be distinguished otherwise.
    """
    short = [f"{scale * level:.15g}" for level in levels]
    return [
        text
        if text != str(scale) and short.count(text) == levels.count(level)
        else f"{(Decimal(repr(level)) * scale).normalize():f}"
        for text, level in zip(short, levels, strict=True)
    ]


def quantile(scores: NDArray[Any], level: float) -> NDArray[Any]:
    """Return the conformal threshold, which the score of a new row exceeds with a probability of at most 1 - level.

    Parameters
    ----------
    scores : array (n, ...)
        Nonconformity scores of the n held-out rows.
    level : float
        Promised coverage, above 0 and below 1.

    Returns
    -------
    array of shape scores.shape[1:]
        The score of rank ceil((n + 1) * level) in ascending order.

    Raises
    ------
    ValueError
        There are fewer than level / (1 - level) scores.
    """
    n = len(scores)
    rank = ceil(round((n + 1) * level, 9))
    if rank > n:
        min_rows = ceil(round(level / (1 - level), 9))
        raise ValueError(f"level={level_texts([level])[0]} requires {min_rows} held-out rows or more, got {n}")
    score: NDArray[Any] = np.partition(scores, rank - 1, axis=0)[rank - 1]
    return score


def half_width(factor: Any, scale: Any) -> NDArray[np.float64]:
    """Return half-widths of intervals that contain each y whose score |y - center| / scale is at most `factor`.

    The result is four units in the last place larger than factor * scale, so that rounding errors of the score and of
    the product cannot exclude such a y.
    """
    widths: NDArray[np.float64] = np.asarray(factor, np.float64) * scale * (1 + 4 * np.finfo(np.float64).eps)
    return widths


def classes_within(P: NDArray[Any], limit: Any, allow_empty: bool) -> NDArray[np.bool_]:
    """Return a mask of the classes in the prediction set of each row: classes with 1 - P <= limit.

    Parameters
    ----------
    P : array (n, n_classes)
        Probabilities.
    limit : float or array (1,)
        Quantile of the scores 1 - P of the true classes.
    allow_empty : bool
        If false, the most probable class is added to each empty set.

    Returns
    -------
    bool array (n, n_classes)
    """
    inside: NDArray[np.bool_] = np.asarray(1 - P.astype(np.float64) <= limit)
    if not allow_empty:
        empty = np.flatnonzero(~inside.any(axis=1))
        inside[empty, P[empty].argmax(axis=1)] = True
    return inside


class ConformalIntervals:
    """Prediction intervals from center - q * scale to center + q * scale.

    q is the conformal quantile of |y - center| / scale over the held-out rows.

    Parameters
    ----------
    predict : callable
        Returns center and scale, (n, n_out) each, for rows X.
    X : array (n, n_in)
        Held-out rows.
    y : array (n, n_out)
        Targets of the held-out rows.
    level : float
        Promised coverage: fraction of rows whose interval contains y, for each output separately.

    Attributes
    ----------
    level : float
        Promised coverage.
    factor : array (n_out,)
        Quantile q for each output.
    """

    level: float
    factor: NDArray[Any]

    def __init__(self, predict: Callable[[Any], Predicted], X: Any, y: NDArray[Any], level: float) -> None:
        self._predict, self.level = predict, level
        center, scale = self._moments(X)
        self.factor = quantile(np.abs(y - center) / scale, level)

    def _moments(self, X: Any) -> Predicted:
        center, scale = self._predict(X)
        return center.astype(np.float64), scale.astype(np.float64)

    def predict_interval(self, X: ArrayLike) -> Predicted:
        """Return the bounds (lower, upper) of prediction intervals, two float64 arrays (n, n_out), for X (n, n_in)."""
        center, scale = self._moments(X)
        half = half_width(self.factor, scale)
        return center - half, center + half


class ConformalSets:
    """Prediction sets of all classes whose probability p satisfies 1 - p <= q (Sadinle, Lei and Wasserman, 2019).

    q is the conformal quantile of 1 - p over the held-out rows, where p is the probability of the true class.

    Parameters
    ----------
    predict_proba : callable
        Returns the probabilities (n, n_classes) for rows X.
    X : array (n, n_in)
        Held-out rows.
    index : int array (n,)
        Index of the true class of each held-out row.
    level : float
        Promised coverage: fraction of rows whose set contains the true class.

    Attributes
    ----------
    level : float
        Promised coverage.
    threshold : float
        The number 1 - q. A class is in a set if its probability is at least this number, up to rounding.
    """

    level: float
    threshold: float

    def __init__(self, predict_proba: Callable[[Any], NDArray[Any]], X: Any, index: NDArray[Any], level: float) -> None:
        self._predict_proba, self.level = predict_proba, level
        P = predict_proba(X).astype(np.float64)
        self._limit = float(quantile(1 - P[np.arange(len(P)), index], level))
        self.threshold = 1 - self._limit

    def predict_set(self, X: ArrayLike, *, allow_empty: bool = False) -> NDArray[np.bool_]:
        """Return a mask of the classes in the prediction set of each row.

        Parameters
        ----------
        X : array (n, n_in)
            Rows of inputs.
        allow_empty : bool, default False
            Whether sets may be empty. If false, a set without a sufficiently probable class contains the most probable
            class, so that the coverage may exceed `level`.

        Returns
        -------
        bool array (n, n_classes)
            The columns have the order of `predict_proba`.
        """
        return classes_within(self._predict_proba(X), self._limit, check_bool("allow_empty", allow_empty))
