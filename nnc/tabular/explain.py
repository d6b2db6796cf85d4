"""Explanations of predictions: permutation importances of columns, and integrated gradients of single predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnc._utils.checks import check_count, check_positive
from nnc._utils.random import Stream, check_seed, mix

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Groups = Sequence[tuple[slice, ...]]  # slices of the features of each column of a table, see Schema.groups
    Function = Callable[[NDArray[Any]], Any]

N_NODES = 8  # number of nodes of Gauss-Legendre quadrature in each section of the integration path
MAX_HALVINGS = 7  # maximum number of successive halvings of a section of the integration path
SMALLEST_NORMAL = np.finfo(np.float64).tiny
MAX_BLOCK_VALUES = 1 << 21  # maximum number of array elements in a block of quadrature points, to limit memory


class Explanations(NamedTuple):
    """Contributions of the columns to predictions.

    Attributes
    ----------
    names : tuple of str
        Names of the columns.
    contributions : array (n, columns)
        Contribution of each column to each prediction. A prediction is the sum of its contributions and its baseline.
    baseline : array (n,)
        Prediction for the mean of the encoded training rows, with which the predictions are compared.
    outputs : int array (n,)
        For each prediction, the index of the class or target that is explained.
    labels : array (n,) or None
        For each prediction of a classifier, the label of the class whose probability is explained; None for regression.
    """

    names: tuple[str, ...]
    contributions: NDArray[np.float64]
    baseline: NDArray[np.float64]
    outputs: NDArray[np.intp]
    labels: NDArray[Any] | None = None

    def quantity(self, row: int) -> str:
        """Return the name of the explained quantity of a row, such as "probability of setosa"."""
        return "prediction" if self.labels is None else f"probability of {self.labels[row]}"

    def __str__(self) -> str:
        lines = []
        for i, (contributions, baseline) in enumerate(zip(self.contributions, self.baseline, strict=True)):
            order = np.argsort(-np.abs(contributions))
            value = contributions.sum() + baseline
            lines.append(f"{self.quantity(i)}: {value:.6g}, from {baseline:.6g} for the mean row")
            lines += [f"  {contributions[j]:+.4g}  {self.names[j]}" for j in order if contributions[j]]
        return "\n".join(lines)


def permutation_importances(
    losses: Callable[[NDArray[np.float32]], NDArray[np.float64]],
    X: NDArray[np.float32],
    groups: Groups,
    repeats: int = 5,
    seed: int = 0,
    weights: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the increase of the mean loss if the values of a column are permuted (Breiman, 2001).

    Parameters
    ----------
    losses : callable
        Function that returns the loss (n,) of encoded rows (n, width). It must not store the rows, because they are
        overwritten after each call.
    X : array (n, width)
        Encoded rows that neither trained nor selected the model.
    groups : sequence of tuples of slices
        For each column of the table, the slices of X with its features. All features of a column are permuted together.
    repeats : int, default 5
        Number of permutations for each column. The permutations are the same for all columns.
    seed : int, default 0
        Seed of the permutations.
    weights : array (n,), optional
        Weights of the rows in the mean loss.

    Returns
    -------
    mean, standard_error : float64 arrays (columns,)
        Mean increase over the rows and permutations, and its standard error. For the standard error, the increase for
        each row is averaged over the permutations. The standard error is the standard deviation of these averages,
        divided by the square root of the number of rows. It is NaN for a single row. For a column without features,
        mean and standard error are 0.
    """
    key, n = mix(check_seed(seed)), len(X)
    orders = [
        np.argsort(Stream(mix(key + i)).uniform((n,)), kind="stable") for i in range(check_count("repeats", repeats))
    ]
    normalized_weights = np.full(n, 1 / n) if weights is None else weights / weights.sum()
    effective_rows = 1 / (normalized_weights**2).sum()  # effective sample size (Kish, 1965)
    base, changed = losses(X), X.copy()
    means, errors = np.zeros(len(groups)), np.zeros(len(groups))
    for j, group in enumerate(groups):
        if not group:
            continue
        increases = np.zeros(n)
        for order in orders:
            for part in group:
                changed[:, part] = X[order, part]
            increases += (losses(changed) - base) / repeats
        for part in group:
            changed[:, part] = X[:, part]
        means[j] = normalized_weights @ increases
        variance = normalized_weights @ (increases - means[j]) ** 2
        errors[j] = np.sqrt(variance / (effective_rows - 1)) if effective_rows > 1 else np.nan
    return means, errors


def integrated_gradients(
    value: Function,
    gradient: Function,
    X: NDArray[Any],
    baseline: NDArray[Any],
    groups: Groups,
    tolerance: float = 1e-6,
) -> NDArray[np.float64]:
    """Return the contribution of each column to predictions by integrated gradients (Sundararajan, Taly and Yan, 2017).

    The gradient of a prediction is integrated on the straight path from the baseline to the row. The path is divided
    into sections. In each section, the contributions must add up to the difference between the predictions at its ends;
    otherwise the section is halved. Finally, the remaining difference is distributed in proportion to the magnitudes of
    the contributions, so that their sum is exact. This difference is at most `tolerance`, unless `value` has a jump.

    Parameters
    ----------
    value : callable
        Function that returns the predictions (m,) for encoded rows (m, width).
    gradient : callable
        Function that returns the derivatives (m, width) of these predictions with respect to the rows.
    X : array (n, width)
        Encoded rows.
    baseline : array (width,)
        Encoded row with which predictions are compared, such as the mean row.
    groups : sequence of tuples of slices
        For each column of the table, the slices of X with its features.
    tolerance : float, default 1e-6
        Maximum difference that is distributed, relative to the sum of the absolute contributions of the row.

    Returns
    -------
    float64 array (n, columns)
        Contributions. Their sum for a row is the difference between its prediction and that of the baseline.

    Raises
    ------
    ValueError
        The remaining difference of a row is more than one percent, so `gradient` is not the gradient of `value`.
    """
    check_positive("tolerance", tolerance)
    X = np.asarray(X, np.float64)
    n, width = X.shape
    paths = X - baseline
    start, end = float(value(np.asarray(baseline, np.float64)[None])[0]), np.asarray(value(X), np.float64)
    total, scale = np.zeros((n, width)), np.abs(end - start)
    rows, low, high = np.arange(n), np.zeros(n), np.ones(n)
    v_low, v_high = np.full(n, start), end
    size = max(1, MAX_BLOCK_VALUES // (N_NODES * width))
    for halving in range(MAX_HALVINGS + 1):
        unfinished: list[tuple[NDArray[Any], ...]] = []
        for first in range(0, len(rows), size):
            block = slice(first, first + size)
            row, a, b, v_a, v_b = rows[block], low[block], high[block], v_low[block], v_high[block]
            contributions = _integrate_section(gradient, baseline, paths[row], a, b)
            if halving == 0:
                scale[row] = np.maximum(scale[row], np.abs(contributions).sum(axis=1))
            error = np.abs(v_b - v_a - contributions.sum(axis=1))
            done = (error <= tolerance * scale[row] * (b - a)) | (halving == MAX_HALVINGS)
            np.add.at(total, row[done], contributions[done])
            row, a, b, v_a, v_b = row[~done], a[~done], b[~done], v_a[~done], v_b[~done]
            if len(row):
                middle = (a + b) / 2
                v_middle = np.asarray(value(baseline + middle[:, None] * paths[row]), np.float64)
                unfinished += [(row, a, middle, v_a, v_middle), (row, middle, b, v_middle, v_b)]
        if not unfinished:
            break
        rows, low, high, v_low, v_high = map(np.concatenate, zip(*unfinished, strict=True))
    remainder, magnitudes = end - start - total.sum(axis=1), np.abs(total)
    is_wrong = np.abs(remainder) > 0.01 * scale
    if is_wrong.any():
        first = int(is_wrong.argmax())
        raise ValueError(
            f"gradient must return the derivatives of value, but on the path to row {first}, value changes by "
            f"{end[first] - start:g}, and the integral of gradient is {total[first].sum():g}"
        )
    total += (remainder / np.maximum(magnitudes.sum(axis=1), SMALLEST_NORMAL))[:, None] * magnitudes
    columns = np.zeros((n, len(groups)))
    for j, group in enumerate(groups):
        for part in group:
            columns[:, j] += total[:, part].sum(axis=1)
    return columns


def _integrate_section(
    gradient: Function, baseline: NDArray[Any], paths: NDArray[Any], a: NDArray[Any], b: NDArray[Any]
) -> NDArray[np.float64]:
    """Integrate the gradient over a section of the straight path of each row, by Gauss-Legendre quadrature.

    A path goes from the baseline to baseline + paths[i]. Its section is from the fraction a[i] to the fraction b[i].
    The result (m, width) contains the contribution of each feature in the section.
    """
    nodes, weights = np.polynomial.legendre.leggauss(N_NODES)
    fractions = a[:, None] + (b - a)[:, None] * (nodes + 1) / 2
    points = (baseline + fractions[:, :, None] * paths[:, None]).reshape(-1, paths.shape[1])
    derivatives = np.asarray(gradient(points), np.float64).reshape(len(paths), N_NODES, -1)
    contributions: NDArray[np.float64] = paths * np.einsum("mkw,k->mw", derivatives, weights / 2) * (b - a)[:, None]
    return contributions
