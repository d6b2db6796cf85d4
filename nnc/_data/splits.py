"""A seeded split of row numbers into two parts, also one that keeps the share of every class."""

from __future__ import annotations

import operator
from numbers import Integral
from reprlib import repr as shown
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
    """Divide the numbers 0 to n - 1 into a large and a small part, in an order that only the seed decides.

    Parameters
    ----------
    n : int
        How many rows there are.
    size : float or int
        The small part: a fraction of the rows (a float between 0 and 1), or a number of rows (an int).
    seed : int, default 0
        The same seed gives the same split everywhere and always.
    labels : array (n,), optional
        The class of every row. Then every class has its share in both parts, rounded by the method of the largest
        remainder (Hare and Niemeyer) so that the whole has the size that was asked for. A class of two or more rows has
        one at least in each part, even if that changes the size; the only row of a class is in the large part.
    name : str
        What messages call `size`.

    Returns
    -------
    large, small : int arrays
        Shuffled.

    Raises
    ------
    ValueError
        One of the two parts would be empty, size is not finite, or there are not n labels.
    TypeError
        size is no number, or seed no whole number.
    """
    share = check_real(name, size)
    if not abs(share) < 2**63:
        raise ValueError(f"{name} must be a fraction of the rows or a number of rows, got {shown(size)}")
    n_small = int(size) if isinstance(size, Integral) else round(share * n)
    if not 0 < n_small < n:
        raise ValueError(f"{name} must leave rows on both sides: {size!r} of {n} rows makes {n_small}")
    # A random number per row, from the generator that the networks use; sorting by them is the shuffle.
    order = np.argsort(Stream(mix(_whole("seed", seed) % 2**64)).uniform((n,)), kind="stable")
    if labels is None:
        return order[n_small:], order[:n_small]
    array = as_array("labels", labels)
    if array.shape != (n,):
        raise ValueError(f"labels must be one for each of the {n} rows, got shape {array.shape}")
    _, classes, counts = np.unique(array, return_inverse=True, return_counts=True)
    quotas = _quotas(counts, n_small)
    if not quotas.any():
        raise ValueError(f"{name} must leave rows on both sides: every class has one row, so none can be taken out")
    # The first rows of each class in the shuffled order: sorted by class, a row's place in its class is its distance
    # from where the class begins.
    shuffled = classes[order]
    by_class = np.argsort(shuffled, kind="stable")
    starts = np.cumsum(counts) - counts
    small = np.empty(n, bool)
    small[by_class] = np.arange(n) - np.repeat(starts, counts) < np.repeat(quotas, counts)
    return order[~small], order[small]


def _whole(name: str, value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, got {shown(value)}") from None


def _quotas(counts: NDArray[Any], total: int) -> NDArray[np.int64]:
    """How many rows of each class make `total` rows, as near as one row on each side allows."""
    exact = counts * (total / counts.sum())
    least, most = np.minimum(counts - 1, 1), counts - 1
    quotas: NDArray[np.int64] = np.clip(np.floor(exact).astype(np.int64), least, most)
    while quotas.sum() < min(total, most.sum()):
        quotas[np.argmax(np.where(quotas < most, exact - quotas, -np.inf))] += 1
    while quotas.sum() > max(total, least.sum()):
        quotas[np.argmin(np.where(quotas > least, exact - quotas, np.inf))] -= 1
    return quotas
