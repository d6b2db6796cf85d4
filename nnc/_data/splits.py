"""Validation split: split of row indices into two parts, at random and stratified by class, or by the order of rows."""

from __future__ import annotations

import operator
from functools import partial
from numbers import Integral
from typing import TYPE_CHECKING

import numpy as np

from nnc._data.folds import Folds, rank_groups, stratify
from nnc._utils.checks import allow_none, build_check, check_count, check_fraction, check_real, short_repr
from nnc._utils.containers import as_array
from nnc._utils.random import Stream, mix
from nnc._utils.value import Value, field

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import ArrayLike, NDArray

LAST_FRACTION = 0.2  # default fraction of the rows in `LastRows`


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
    n_small = _count_rows(n, size, name)
    if not 0 < n_small < n:
        raise ValueError(
            f"{name} must leave rows in both parts of the split, got {size!r}, which selects {n_small} of {n} rows"
        )
    order = random_order(n, seed)
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


_check_open_fraction = build_check(lambda number: 0 < number < 1, "a fraction between 0 and 1, or a number of rows")


def _check_part_size(name: str, size: Any) -> float:
    """Return the size of a part of the rows: a fraction (a float between 0 and 1), or a number of rows (an int)."""
    return check_count(name, size) if isinstance(size, Integral) else _check_open_fraction(name, size)


class LastRows(Value):
    """Validation rows at the end of X, for rows in the order of time.

    A random split of a time series is too optimistic: the training rows then include the neighbours of the validation
    rows, also later ones. With `LastRows` all training rows precede all validation rows. `validation="last"` means
    `LastRows()`.

    Parameters
    ----------
    size : float or int, optional
        Size of the validation part: a fraction of the rows (a float between 0 and 1), or a number of rows (an int).
        Default: a fifth of the rows. In `nnc.search` with k folds, it is the size of each fold, by default 1 / (k + 1)
        of the rows.
    gap : int, default 0
        Number of rows before the validation part that are not used. If a row contains the targets of the next h steps,
        one row for each step, the targets of neighbouring rows overlap; use `gap=h - 1`.

    Raises
    ------
    ValueError, TypeError
        A parameter is invalid. If no training row is left, `fit` raises ValueError.

    Examples
    --------
    >>> net.fit(X, y, validation=nnc.LastRows(0.25, gap=23), patience=20)
    """

    size: float | None = field(default=None, check=allow_none(_check_part_size))
    gap: int = field(default=0, check=partial(check_count, minimum=0))


def random_order(
    n: int, seed: int, labels: NDArray[Any] | None = None, group: NDArray[np.intp] | None = None
) -> NDArray[np.intp]:
    """Return the indices 0 to n - 1 in random order, by sorting one random number per row, sorted by `stratify`.

    The same seed gives the same order on all systems.
    """
    order = np.argsort(Stream(mix(_as_integer("seed", seed) % 2**64)).uniform((n,)), kind="stable")
    return stratify(order, labels, group)


def as_split(value: Any) -> float | LastRows | None:
    """Return the split that `validation` or `test` describes: a fraction or LastRows; None for any other value."""
    if isinstance(value, str) and value == "last":
        return LastRows()
    if isinstance(value, np.floating):
        return float(value)
    return value if isinstance(value, (float, int, LastRows)) else None


def split_rows(
    n: int,
    method: float | LastRows,
    seed: int,
    labels: NDArray[Any] | None,
    name: str,
    n_folds: int = 1,
    group: NDArray[np.intp] | None = None,
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Return, for each of `n_folds` splits of n rows, the indices of the large part and of the small part.

    Parameters
    ----------
    n, seed, labels, name
        Parameters of `split`.
    method : float or LastRows
        Result of `as_split`. Several random folds contain all rows, regardless of the fraction.
    n_folds : int, default 1
        Number of splits, whose small parts have no common rows.
    group : int array (n,), optional
        Group of each row, see `Folds`. A random split keeps the rows of a group in one part.
    """
    if isinstance(method, LastRows):
        size = method.size
        if size is None:
            size = LAST_FRACTION if n_folds == 1 else n // (n_folds + 1)
        n_small = _count_rows(n, size, name)
        if n_small < 1 or n - n_folds * n_small - method.gap < 1:
            raise ValueError(
                f"{name} must leave rows in both parts of the split, got {method!r} for {n} rows"
                + (f" and {n_folds} folds" if n_folds > 1 else "")
            )
        return Folds.rolling(np.arange(n)[::-1], n_folds, n_small, method.gap).pairs()
    if n_folds == 1:
        return [split_groups(n, check_fraction(name, method), seed, labels, name, group)]
    if n < n_folds:
        raise ValueError(f"folds must be at most the number of rows, {n}, got {n_folds}")
    return Folds.deal(random_order(n, seed, labels, group), n_folds, group).pairs()


def split_groups(
    n: int, size: float, seed: int, labels: NDArray[Any] | None, name: str, group: NDArray[np.intp] | None
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return `split` of n rows, or a split of groups of rows, which contains about this fraction of the rows."""
    if group is None:
        return split(n, size, seed, labels, name)
    first, rank = np.sort(np.unique(group, return_index=True)[1]), rank_groups(group)
    parts = split(len(first), _count_rows(n, size, name) / n, seed, None if labels is None else labels[first], name)
    large, small = (np.flatnonzero(np.isin(rank, part)) for part in parts)
    return large, small


def _count_rows(n: int, size: float, name: str) -> int:
    """Return the number of rows of a part of n rows, whose size is a fraction or a number of rows."""
    fraction = check_real(name, size)
    if not abs(fraction) < 2**63:
        raise ValueError(f"{name} must be a fraction of the rows or a number of rows, got {short_repr(size)}")
    return int(size) if isinstance(size, Integral) else round(fraction * n)


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
