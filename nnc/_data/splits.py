"""Validation split: random split of row indices into two parts, optionally stratified by class."""

from __future__ import annotations

import operator
from numbers import Integral
from reprlib import repr as short_repr
from typing import TYPE_CHECKING

import numpy as np

from nnc._utils.checks import check_real
from nnc._utils.containers import as_array
from nnc._utils.random import Stream, mix

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import ArrayLike, NDArray


def split(
    n: int, size: float, seed: int = 0, labels: ArrayLike | None = None, name: str = "size"
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Split the indices 0 to n - 1 at random into a large and a small part.

    Parameters
    ----------
    n : int
        Number of rows.
    size : float or int
        Size of the small part: a fraction of the rows (a float between 0 and 1), or a number of rows (an int).
    seed : int, default 0
        The same seed gives the same split on all systems.
    labels : array (n,), optional
        Class of each row, for a stratified split. Each class keeps its proportion in both parts; numbers of rows are
        rounded by the largest remainder method (Hare and Niemeyer), so that the small part has the requested size. A
        class with two or more rows has at least one row in each part, even if that changes the size. The single row of
        a class is in the large part.
    name : str
        Name of the argument `size` in messages.

    Returns
    -------
    large, small : int arrays
        Indices in random order.

    Raises
    ------
    ValueError
        One of the parts would be empty, `size` is not finite, or `labels` does not have n items.
    TypeError
        `size` is not a number, or `seed` is not an integer.
    """
    fraction = check_real(name, size)
    if not abs(fraction) < 2**63:
        raise ValueError(f"{name} must be a fraction of the rows or a number of rows, got {short_repr(size)}")
    n_small = int(size) if isinstance(size, Integral) else round(fraction * n)
    if not 0 < n_small < n:
        raise ValueError(
            f"{name} must leave rows in both parts of the split, got {size!r}, which selects {n_small} of {n} rows"
        )
    order = _random_order(n, seed)
    if labels is None:
        return order[n_small:], order[:n_small]
    array = as_array("labels", labels)
    if array.shape != (n,):
        raise ValueError(f"labels must have one item for each of the {n} rows, got shape {array.shape}")
    _, classes, counts = np.unique(array, return_inverse=True, return_counts=True)
    quotas = _quotas(counts, n_small)
    if not quotas.any():
        raise ValueError(
            f"{name} must leave rows in both parts of the split, got only classes of a single row; use more rows"
        )
    # The small part of the split consists of the first rows of each class in the shuffled order. After the stable sort
    # by class, the rank of a row within its class is its position minus the first position of the class.
    shuffled = classes[order]
    by_class = np.argsort(shuffled, kind="stable")
    starts = np.cumsum(counts) - counts
    small = np.empty(n, bool)
    small[by_class] = np.arange(n) - np.repeat(starts, counts) < np.repeat(quotas, counts)
    return order[~small], order[small]


def folds(
    n: int, n_folds: int, seed: int, labels: NDArray[np.generic] | None = None
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Return, for each of `n_folds` random folds of n rows, the indices of the rows outside and inside the fold.

    Parameters
    ----------
    n, n_folds : int
        Number of rows and of folds. The sizes of folds differ by at most one row.
    seed : int
        The same seed gives the same folds on all systems.
    labels : array (n,), optional
        Class of each row, for stratified folds: the numbers of rows of a class in two folds differ by at most one.
    """
    order = _random_order(n, seed)
    if labels is not None:
        order = order[np.argsort(labels[order], kind="stable")]
    fold_of = np.arange(n) % n_folds
    return [(order[fold_of != fold], order[fold_of == fold]) for fold in range(n_folds)]


def _random_order(n: int, seed: int) -> NDArray[np.intp]:
    """Return the indices 0 to n - 1 in random order, by sorting one random number per row."""
    return np.argsort(Stream(mix(_as_integer("seed", seed) % 2**64)).uniform((n,)), kind="stable")


def _as_integer(name: str, value: Any) -> int:
    """Return an integer of any type as int; raise TypeError for other values."""
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, got {short_repr(value)}") from None


def _quotas(counts: NDArray[Any], total: int) -> NDArray[np.int64]:
    """Return the number of rows of each class in the small part of a split; `counts` are those in both parts together.

    Each class with two or more rows has at least one row in both parts. If this rule permits, the result adds up to
    `total`.
    """
    exact = counts * (total / counts.sum())
    lower, upper = np.minimum(counts - 1, 1), counts - 1
    quotas: NDArray[np.int64] = np.clip(np.floor(exact).astype(np.int64), lower, upper)
    while quotas.sum() < min(total, upper.sum()):
        quotas[np.argmax(np.where(quotas < upper, exact - quotas, -np.inf))] += 1
    while quotas.sum() > max(total, lower.sum()):
        quotas[np.argmin(np.where(quotas > lower, exact - quotas, np.inf))] -= 1
    return quotas
