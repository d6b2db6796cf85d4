"""Which columns predictions rest on, whatever makes them of encoded rows: by shuffling columns among many rows, and by
the gradient on the way to a single one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnc._utils.checks import check_count, check_positive
from nnc._utils.random import Stream, checked_seed, mix

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Groups = Sequence[tuple[slice, ...]]  # as Schema.groups gives them
    Function = Callable[[NDArray[Any]], Any]

NODES = 8  # of a stretch of the way
HALVINGS = 7  # of stretches, at most
TINY = np.finfo(np.float64).tiny
NUMBERS = 1 << 21  # that are computed at a time


class Explanations(NamedTuple):
    """Contributions of the columns to predictions.

    Attributes
    ----------
    names : tuple of str
        The columns.
    contributions : array (n, columns)
        They add up, with the baseline, to what is predicted: `contributions.sum(axis=1) + baseline`.
    baseline : array (n,)
        What is predicted for the mean row of the training.
    outputs : int array (n,)
        Which class, or target, is explained.
    """

    names: tuple[str, ...]
    contributions: NDArray[np.float64]
    baseline: NDArray[np.float64]
    outputs: NDArray[np.intp]

    def __str__(self) -> str:
        lines = []
        for contributions, baseline in zip(self.contributions, self.baseline, strict=True):
            order = np.argsort(-np.abs(contributions))
            lines.append(f"{contributions.sum() + baseline:.6g}, from {baseline:.6g} for the mean row")
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
    """Return by how much the mean loss of rows rises if a column is permuted among them (Breiman, 2001).

    Parameters
    ----------
    losses : callable
        Returns the loss (n,) of each encoded row (n, width). It must not keep its argument.
    X : array (n, width)
        Encoded rows that the model has neither learned from nor been selected by.
    groups : sequence of tuples of slices
        The encoded columns of each original column, which are permuted together.
    repeats : int, default 5
        Number of permutations, the same ones for all columns.
    seed : int, default 0
        Seed of the permutations.
    weights : array (n,), optional
        Weights of the rows in the means.

    Returns
    -------
    mean, standard_error : float64 arrays (columns,)
        The mean rise over the rows and permutations, and its standard error: the standard deviation over the rows of
        the rise of a row's loss, averaged over the permutations, divided by the square root of the number of rows. Both
        are 0 for a column without encoded columns; the standard error is NaN for a single row.
    """
    key, n = mix(checked_seed(seed)), len(X)
    orders = [
        np.argsort(Stream(mix(key + i)).uniform((n,)), kind="stable") for i in range(check_count("repeats", repeats))
    ]
    share = np.full(n, 1 / n) if weights is None else weights / weights.sum()
    effective = 1 / (share**2).sum()  # number of rows, if weights differ (Kish, 1965)
    base, changed = losses(X), X.copy()
    means, errors = np.zeros(len(groups)), np.zeros(len(groups))
    for j, group in enumerate(groups):
        if not group:
            continue
        rises = np.zeros(n)
        for order in orders:
            for part in group:
                changed[:, part] = X[order, part]
            rises += (losses(changed) - base) / repeats
        for part in group:
            changed[:, part] = X[:, part]
        means[j] = share @ rises
        variance = share @ (rises - means[j]) ** 2
        errors[j] = np.sqrt(variance / (effective - 1)) if effective > 1 else np.nan
    return means, errors


def integrated_gradients(
    value: Function,
    gradient: Function,
    X: NDArray[Any],
    baseline: NDArray[Any],
    groups: Groups,
    tolerance: float = 1e-6,
) -> NDArray[np.float64]:
    """What each column gives to predictions: its gradient on the straight way from the baseline to the row, integrated
    (Sundararajan, Taly and Yan, 2017).

    The way is cut into stretches. On each, the contributions have to add up to the difference of the values at its
    ends; where they do not, it is halved. What is left, at most `tolerance` unless the function has a jump, is given to
    the columns in proportion, so that they add up.

    Parameters
    ----------
    value : callable
        Gives predictions (m,) for rows (m, width).
    gradient : callable
        Gives their derivatives (m, width).
    X : array (n, width)
        Encoded rows.
    baseline : array (width,)
        Encoded, too: that of which predictions are told apart, such as a mean row.
    groups : sequence of tuples of slices
        What belongs to each original column.
    tolerance : float, default 1e-6
        Of the sums, in parts of the absolute contributions of a row.

    Returns
    -------
    float64 array (n, columns)
        Rows add up to value(X) - value(baseline).

    Raises
    ------
    ValueError
        The gradients do not add up to the values, by one percent or more: they are not those of `value`.
    """
    check_positive("tolerance", tolerance)
    X = np.asarray(X, np.float64)
    n, width = X.shape
    ways = X - baseline
    start, end = float(value(np.asarray(baseline, np.float64)[None])[0]), np.asarray(value(X), np.float64)
    total, scale = np.zeros((n, width)), np.abs(end - start)
    rows, low, high = np.arange(n), np.zeros(n), np.ones(n)
    v_low, v_high = np.full(n, start), end
    size = max(1, NUMBERS // (NODES * width))
    for halving in range(HALVINGS + 1):
        left: list[tuple[NDArray[Any], ...]] = []
        for first in range(0, len(rows), size):
            part = slice(first, first + size)
            row, a, b, v_a, v_b = rows[part], low[part], high[part], v_low[part], v_high[part]
            given = _stretch(gradient, baseline, ways[row], a, b)
            if halving == 0:
                scale[row] = np.maximum(scale[row], np.abs(given).sum(axis=1))
            error = np.abs(v_b - v_a - given.sum(axis=1))
            done = (error <= tolerance * scale[row] * (b - a)) | (halving == HALVINGS)
            np.add.at(total, row[done], given[done])
            row, a, b, v_a, v_b = row[~done], a[~done], b[~done], v_a[~done], v_b[~done]
            if len(row):
                middle = (a + b) / 2
                v_middle = np.asarray(value(baseline + middle[:, None] * ways[row]), np.float64)
                left += [(row, a, middle, v_a, v_middle), (row, middle, b, v_middle, v_b)]
        if not left:
            break
        rows, low, high, v_low, v_high = map(np.concatenate, zip(*left, strict=True))
    remainder, shares = end - start - total.sum(axis=1), np.abs(total)
    wrong = np.abs(remainder) > 0.01 * scale
    if wrong.any():
        first = int(wrong.argmax())
        raise ValueError(
            f"gradient must be that of value, got one whose integral is {total[first].sum():g} where the values of row "
            f"{first} differ by {end[first] - start:g}"
        )
    total += (remainder / np.maximum(shares.sum(axis=1), TINY))[:, None] * shares
    columns = np.zeros((n, len(groups)))
    for j, group in enumerate(groups):
        for part in group:
            columns[:, j] += total[:, part].sum(axis=1)
    return columns


def _stretch(
    gradient: Function, baseline: NDArray[Any], ways: NDArray[Any], a: NDArray[Any], b: NDArray[Any]
) -> NDArray[np.float64]:
    """The contributions (m, width) between two points of each way, by Gauss's and Legendre's rule."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    shares = a[:, None] + (b - a)[:, None] * (nodes + 1) / 2
    points = (baseline + shares[:, :, None] * ways[:, None]).reshape(-1, ways.shape[1])
    slopes = np.asarray(gradient(points), np.float64).reshape(len(ways), NODES, -1)
    given: NDArray[np.float64] = ways * np.einsum("mkw,k->mw", slopes, weights / 2) * (b - a)[:, None]
    return given
