"""Probabilities that mean what they say: how far they are from it, and a temperature that brings them there (Guo,
Pleiss, Sun and Weinberger, 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._utils import arrays
from nnc._utils.checks import check_count, check_positive

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

RANGE = 0.01, 100.0  # of temperatures
UNKNOWN = 2  # rows of which nothing is known, which stand among the others
TINY = np.finfo(np.float64).tiny
NUMBERS = 1 << 16  # that are computed at a time


def fit_temperature(logits: ArrayLike, index: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """The temperature T for which softmax(logits / T) has the least cross-entropy on rows that were not learned from.

    Parameters
    ----------
    logits : array (n, classes)
        Net inputs of softmax, or logarithms of probabilities: what is added to a row does not count.
    index : int array (n,)
        The class of each row.
    sample_weight : array (n,), optional
        How much each row counts.

    Returns
    -------
    float
        From 0.01 to 100. Where all rows are right, the cross-entropy would want it ever lower; so two rows whose class
        nobody knows are added, as Platt (1999) does for two classes.

    Raises
    ------
    ValueError
        Shapes do not fit each other, a logit is not finite, or an index is that of no class.
    """
    z, truth = _checked("logits", logits, index)
    n = len(z)
    weights = _weights(sample_weight, n)
    unknown = UNKNOWN / (np.count_nonzero(weights) + UNKNOWN)
    weights = weights / weights.sum()
    z -= z.max(axis=1, keepdims=True)
    target = weights @ ((1 - unknown) * z[np.arange(n), truth] + unknown * z.mean(axis=1))
    size = max(1, NUMBERS // z.shape[1])

    def slope(beta: float) -> float:
        """Of the cross-entropy by 1 / T, which rises with it."""
        total = 0.0
        for start in range(0, n, size):
            part = z[start : start + size]
            P = np.exp(beta * part)
            total += float(weights[start : start + size] @ ((P * part).sum(axis=1) / P.sum(axis=1)))
        return total - float(target)

    low, high = 1 / RANGE[1], 1 / RANGE[0]
    if slope(low) >= 0:
        return RANGE[1]
    if slope(high) <= 0:
        return RANGE[0]
    for _ in range(50):  # in halves of the logarithm, until the last bits
        beta = float(np.sqrt(low * high))
        low, high = (beta, high) if slope(beta) < 0 else (low, beta)
    return 1 / float(np.sqrt(low * high))


def with_temperature(P: ArrayLike, temperature: float) -> NDArray[np.float64]:
    """Probabilities as they are at a temperature: softmax(log(P) / T).

    Parameters
    ----------
    P : array (n, classes)
        0 or more; what a row is multiplied by does not count.
    temperature : float
        Above 0. At 1 rows are divided by their sums, and that is all.

    Returns
    -------
    float64 array (n, classes)
        Rows add up to 1.
    """
    logs = np.log(np.maximum(np.asarray(P, np.float64), TINY)) / check_positive("temperature", temperature)
    powers = np.exp(logs - logs.max(axis=-1, keepdims=True))
    scaled: NDArray[np.float64] = powers / powers.sum(axis=-1, keepdims=True)
    return scaled


def expected_calibration_error(
    P: ArrayLike, index: ArrayLike, bins: int = 15, sample_weight: ArrayLike | None = None
) -> float:
    """How far the largest probabilities are from the shares of rows in which they are right.

    Parameters
    ----------
    P : array (n, classes)
        Probabilities.
    index : int array (n,)
        The class of each row.
    bins : int, default 15
        The range from 0 to 1 is cut into so many equal parts.
    sample_weight : array (n,), optional
        How much each row counts.

    Returns
    -------
    float
        The mean over the rows of |share of right ones - mean probability| of the part that a row is in (Naeini, Cooper
        and Hauskrecht, 2015): 0 is best, at most 1.

    Raises
    ------
    ValueError
        As `fit_temperature`.
    """
    probabilities, truth = _checked("P", P, index)
    best = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    part = np.clip(np.ceil(best * check_count("bins", bins)).astype(int) - 1, 0, bins - 1)
    weights = _weights(sample_weight, len(best))
    return float(abs(np.bincount(part, weights * (right - best), bins)).sum() / weights.sum())


def _weights(sample_weight: Any, n: int) -> NDArray[np.float64]:
    if sample_weight is None:
        return np.ones(n)
    weights: NDArray[np.float64] = arrays.as_finite_array("sample_weight", sample_weight, (n,), np.dtype(np.float64))
    if weights.min() < 0 or not weights.any():
        raise ValueError(f"sample_weight must be 0 or more, and not 0 for all rows, got {weights.min():g} at least")
    return weights


def _checked(name: str, values: Any, index: Any) -> tuple[NDArray[np.float64], NDArray[Any]]:
    array, truth = arrays.as_real_array(name, values).astype(np.float64), arrays.as_real_array("index", index)
    if array.ndim != 2 or len(array) == 0 or array.shape[1] < 2:
        raise ValueError(f"{name} must have shape (rows, classes), two classes or more, got {array.shape}")
    if truth.shape != (len(array),) or truth.dtype.kind not in "iu":
        raise ValueError(f"index must be {len(array)} whole numbers, one a row, got {truth.dtype} of {truth.shape}")
    if truth.min() < 0 or truth.max() >= array.shape[1]:
        raise ValueError(f"index must lie from 0 to {array.shape[1] - 1}, got {truth.min()} to {truth.max()}")
    if not np.isfinite(array).all():
        row, column = np.argwhere(~np.isfinite(array))[0].tolist()
        raise ValueError(f"{name} must be finite, got {array[row, column]} in row {row}, column {column}")
    return array, truth
