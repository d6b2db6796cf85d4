"""Temperature scaling, which calibrates class probabilities, and the expected calibration error.

The source of temperature scaling is Guo, Pleiss, Sun and Weinberger (2017).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._utils import arrays
from nnc._utils.checks import check_count, check_positive

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

TEMPERATURE_RANGE = 0.01, 100.0
MIN_MEAN_RATIO = 0.5  # minimum ratio of the temperature for the mean of two networks to that for single networks
# With fewer rows than MIN_RATIO_ROWS, this ratio is 1. With more than MAX_RATIO_ROWS, a sample of the rows is used.
MIN_RATIO_ROWS, MAX_RATIO_ROWS = 300, 4096
N_RATIO_STEPS = 12  # number of steps of the golden-section search for this ratio
N_UNKNOWN_ROWS = 2  # number of rows of unknown class that are added to prevent a temperature of 0
SMALLEST_NORMAL = np.finfo(np.float64).tiny
MAX_BLOCK_VALUES = 1 << 16  # maximum number of logits in a block of rows, to limit memory


def fit_temperature(logits: ArrayLike, index: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Return the temperature T for which softmax(logits / T) has the smallest cross-entropy on held-out rows.

    Parameters
    ----------
    logits : array (n, classes)
        Net inputs of softmax, or log-probabilities. Adding a constant to a row does not change the result.
    index : int array (n,)
        Class index of each row.
    sample_weight : array (n,), optional
        Sample weights.

    Returns
    -------
    float
        Temperature from 0.01 to 100. If all rows are classified correctly, T = 0 has the smallest cross-entropy. To
        prevent this, two rows of unknown class are added, as Platt (1999) does for two classes.

    Raises
    ------
    ValueError
        The numbers of rows differ, a logit is not finite, or an index is not from 0 to classes - 1.
    """
    z, truth = _check_classified("logits", logits, index)
    n = len(z)
    weights = _weights_or_ones(sample_weight, n)
    unknown = N_UNKNOWN_ROWS / (np.count_nonzero(weights) + N_UNKNOWN_ROWS)
    weights = weights / weights.sum()
    z -= z.max(axis=1, keepdims=True)
    target = weights @ ((1 - unknown) * z[np.arange(n), truth] + unknown * z.mean(axis=1))
    size = max(1, MAX_BLOCK_VALUES // z.shape[1])

    def derivative(beta: float) -> float:
        """Return the derivative of the cross-entropy for beta = 1 / T; the derivative increases with beta."""
        total = 0.0
        for start in range(0, n, size):
            block = z[start : start + size]
            P = np.exp(beta * block)
            total += float(weights[start : start + size] @ ((P * block).sum(axis=1) / P.sum(axis=1)))
        return total - float(target)

    low, high = 1 / TEMPERATURE_RANGE[1], 1 / TEMPERATURE_RANGE[0]
    if derivative(low) >= 0:
        return TEMPERATURE_RANGE[1]
    if derivative(high) <= 0:
        return TEMPERATURE_RANGE[0]
    for _ in range(50):  # find the zero of the derivative by bisection on a logarithmic scale
        beta = float(np.sqrt(low * high))
        low, high = (beta, high) if derivative(beta) < 0 else (low, beta)
    return 1 / float(np.sqrt(low * high))


def fit_mean_ratio(logits: NDArray[np.float64], index: NDArray[Any], weights: NDArray[np.float64] | None) -> float:
    """Return the ratio of the temperature that calibrates the mean of two networks to that for single networks.

    The mean of calibrated probabilities is less certain than it should be (Rahaman and Thiery, 2021). Lower
    temperatures of both networks compensate for this.

    Parameters
    ----------
    logits : array (2, n, classes)
        Log-probabilities of two networks for the same held-out rows.
    index : int array (n,)
        Class index of each row.
    weights : array (n,), optional
        Sample weights.

    Returns
    -------
    float
        Ratio from MIN_MEAN_RATIO to 1, found by golden-section search. 1 if there are fewer than MIN_RATIO_ROWS rows.
    """
    n = len(index)
    if n < MIN_RATIO_ROWS:
        return 1.0
    sample = slice(None, None, -(-n // MAX_RATIO_ROWS))
    logits, index = logits[:, sample], index[sample]
    w = _weights_or_ones(None if weights is None else weights[sample], len(index))
    single = fit_temperature(np.concatenate(logits), np.tile(index, 2), np.tile(w, 2))
    unknown = N_UNKNOWN_ROWS / (np.count_nonzero(w) + N_UNKNOWN_ROWS)

    def cross_entropy(log_ratio: float) -> float:
        """Return the cross-entropy of the mean of both networks, with rows of unknown class as in fit_temperature."""
        P = np.exp(logits - logits.max(axis=2, keepdims=True)) ** (1 / (single * np.exp(log_ratio)))
        logs = np.log(np.maximum((P / P.sum(axis=2, keepdims=True)).mean(axis=0), SMALLEST_NORMAL))
        truth = logs[np.arange(len(index)), index]
        return -float(w @ ((1 - unknown) * truth + unknown * logs.mean(axis=1)))

    low, high, golden = float(np.log(MIN_MEAN_RATIO)), 0.0, (np.sqrt(5) - 1) / 2
    a, b = high - golden * (high - low), low + golden * (high - low)
    value_a, value_b = cross_entropy(a), cross_entropy(b)
    for _ in range(N_RATIO_STEPS):
        if value_a < value_b:
            high, b, value_b = b, a, value_a
            a = high - golden * (high - low)
            value_a = cross_entropy(a)
        else:
            low, a, value_a = a, b, value_b
            b = low + golden * (high - low)
            value_b = cross_entropy(b)
    return float(np.exp((low + high) / 2))


def temperature_power(n_networks: int) -> float:
    """Return the power of the ratio of `fit_mean_ratio` by which the temperature for n networks is multiplied.

    The variance of the mean of n networks is 1 / n of that of a single network. The logarithm of the temperature is
    assumed to be linear in this variance, so the power is 0 for one network, 1 for two, and at most 2.
    """
    return 2 * (1 - 1 / n_networks)


def with_temperature(P: ArrayLike, temperature: float) -> NDArray[np.float64]:
    """Divide the logarithms of probabilities P by a temperature T; return softmax(log(P) / T).

    Parameters
    ----------
    P : array (n, classes)
        Probabilities, which need not be normalized.
    temperature : float
        Temperature T, above 0. If T = 1, rows are only normalized.

    Returns
    -------
    float64 array (n, classes)
        Normalized probabilities.
    """
    logs = np.log(np.maximum(np.asarray(P, np.float64), SMALLEST_NORMAL)) / check_positive("temperature", temperature)
    powers = np.exp(logs - logs.max(axis=-1, keepdims=True))
    scaled: NDArray[np.float64] = powers / powers.sum(axis=-1, keepdims=True)
    return scaled


def expected_calibration_error(
    P: ArrayLike, index: ArrayLike, bins: int = 15, sample_weight: ArrayLike | None = None
) -> float:
    """Return the expected calibration error, the mean difference between accuracy and predicted probability.

    Parameters
    ----------
    P : array (n, classes)
        Predicted probabilities.
    index : int array (n,)
        Index of the true class of each row.
    bins : int, default 15
        Number of equal intervals of the largest probability, from 0 to 1, in which rows are compared.
    sample_weight : array (n,), optional
        Sample weights.

    Returns
    -------
    float
        |accuracy - mean of the largest probability| in each bin, averaged over all rows (Naeini, Cooper and Hauskrecht,
        2015). It is 0 for calibrated probabilities and at most 1.

    Raises
    ------
    ValueError
        The numbers of rows differ, a probability is not finite, or an index is not from 0 to classes - 1.
    """
    probabilities, truth = _check_classified("P", P, index)
    best = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == truth
    bin_index = np.clip(np.ceil(best * check_count("bins", bins)).astype(int) - 1, 0, bins - 1)
    weights = _weights_or_ones(sample_weight, len(best))
    return float(abs(np.bincount(bin_index, weights * (correct - best), bins)).sum() / weights.sum())


def _weights_or_ones(sample_weight: Any, n: int) -> NDArray[np.float64]:
    """Return the sample weights as an array (n,), ones for None; raise ValueError if they are invalid."""
    if sample_weight is None:
        return np.ones(n)
    return arrays.as_weights("sample_weight", sample_weight, n, np.dtype(np.float64))


def _check_classified(name: str, values: Any, index: Any) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Convert logits or probabilities, and class indices, to arrays; raise ValueError for invalid values."""
    array, truth = arrays.as_real_array(name, values).astype(np.float64), arrays.as_real_array("index", index)
    if array.ndim != 2 or len(array) == 0 or array.shape[1] < 2:
        raise ValueError(f"{name} must have shape (rows, classes) with two classes or more, got {array.shape}")
    if truth.shape != (len(array),) or truth.dtype.kind not in "iu":
        raise ValueError(
            f"index must be {len(array)} integers, one for each row, got {truth.dtype} of shape {truth.shape}"
        )
    if truth.min() < 0 or truth.max() >= array.shape[1]:
        raise ValueError(f"index must be from 0 to {array.shape[1] - 1}, got {truth.min()} to {truth.max()}")
    if not np.isfinite(array).all():
        row, column = np.argwhere(~np.isfinite(array))[0].tolist()
        raise ValueError(f"{name} must be finite, got {array[row, column]} in row {row}, column {column}")
    return array, truth
