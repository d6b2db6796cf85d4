"""Conformal prediction with held-out rows: intervals, and sets of classes, that hold the truth as often as they say,
whatever has made the predictions (Vovk, Gammerman and Shafer, 2005; Lei et al., 2018).

The promise is for rows that come from where the held-out ones came from, none of which was learned from: over all draws
of both, the share of rows whose truth is inside is `level` at least, and at most 1 / (n + 1) more.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc.base.checks import within

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    Predicted = tuple[NDArray[Any], NDArray[Any]]

checked_level = within(lambda x: 0 < x < 1, "above 0 and below 1")


def quantile(scores: NDArray[Any], level: float) -> NDArray[Any]:
    """What a share of `level` of all scores to come is not above, by these, (n, ...): the one of rank
    ceil((n + 1) level).

    Raises
    ------
    ValueError
        There are too few of them.
    """
    n = len(scores)
    rank = ceil(round((n + 1) * level, 9))
    if rank > n:
        least = ceil(round(level / (1 - level), 9))
        raise ValueError(f"a level of {level:g} needs {least} held-out rows or more, got {n}")
    found: NDArray[Any] = np.partition(scores, rank - 1, axis=0)[rank - 1]
    return found


class ConformalIntervals:
    """Intervals for numbers: from center - q scale to center + q scale, where q is the quantile of
    |y - center| / scale over the held-out rows.

    Parameters
    ----------
    predict : callable
        Gives center and scale, (n, n_out) each, for rows X.
    X : array (n, n_in)
        Held-out rows.
    y : array (n, n_out)
    level : float
        The share of rows whose y is to lie inside, each output by itself.

    Attributes
    ----------
    level : float
    factor : array (n_out,)
        The quantile.
    """

    level: float
    factor: NDArray[Any]

    def __init__(self, predict: Callable[[Any], Predicted], X: Any, y: NDArray[Any], level: float) -> None:
        self._predict, self.level = predict, level
        center, scale = predict(X)
        self.factor = quantile(np.abs(y - center) / scale, level)

    def predict_interval(self, X: ArrayLike) -> Predicted:
        """The lower and the upper ends (n, n_out) for rows X (n, n_in)."""
        center, scale = self._predict(X)
        return center - self.factor * scale, center + self.factor * scale


class ConformalSets:
    """Sets of classes: all whose probability is at least 1 - q, where q is the quantile of 1 - that of the true class
    over the held-out rows (Sadinle, Lei and Wasserman, 2019).

    Parameters
    ----------
    predict_proba : callable
        Gives the probabilities (n, n_classes) for rows X.
    X : array (n, n_in)
        Held-out rows.
    index : int array (n,)
        The number of the class of each.
    level : float
        The share of rows whose class is to be in the set.

    Attributes
    ----------
    level : float
    threshold : float
        The smallest probability of a class in a set.
    """

    level: float
    threshold: float

    def __init__(self, predict_proba: Callable[[Any], NDArray[Any]], X: Any, index: NDArray[Any], level: float) -> None:
        self._predict_proba, self.level = predict_proba, level
        P = predict_proba(X)
        self.threshold = 1 - float(quantile(1 - P[np.arange(len(P)), index], level))

    def predict_set(self, X: ArrayLike) -> NDArray[np.bool_]:
        """Which classes are in the set, (n, n_classes) in the order of `predict_proba`, for rows X (n, n_in). A set may
        be empty, where no class is probable."""
        return np.asarray(self._predict_proba(X) >= self.threshold)
