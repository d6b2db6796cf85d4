"""Detection of target leakage: of columns that determine the target almost exactly.

Such a column is the target itself, a code for it, or a later consequence of it. The target of each row is estimated
from a single column and the other rows. The estimate is the mean of the rows with the same cell. For a number that no
other row has, it is the mean of the rows with the next smaller and the next larger number. For the smallest and the
largest number, it is an extrapolation. A column leaks if its estimates explain 99.99 % of the variance of a number, or
99 % of the variance of the classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnc.tabular.notices import LeakageWarning, warn_user

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc.tabular.cells import Column
    from nnc.tabular.frames import Table
    from nnc.tabular.schema import Schema

    Floats = NDArray[np.float64]

MIN_ROWS = 30  # minimum number of rows; in smaller tables a column may determine the target by chance
# Minimum number of rows of each class except the most frequent one, on average. A column may fit fewer rows by chance.
MIN_OTHER_ROWS = 10
MAX_ROWS = 4000  # maximum number of rows that are examined
# Maximum fraction of the variance of the target that a leaking column leaves unexplained.
MAX_UNEXPLAINED = {"numbers": 1e-4, "classes": 1e-2}
BOUNDARY_COST = 1.0  # squared error that even a leaking column has at a boundary between two classes


def warn_of_leakage(schema: Schema, table: Table, y: NDArray[Any], seed: int) -> None:
    """Warn about each column that determines a target almost exactly.

    Parameters
    ----------
    schema : Schema
        Schema of this table; columns that it leaves out are not examined.
    table : Table
        The training rows.
    y : array (n,) of class indices, or float array (n, targets)
    seed : int
        Seed that selects the examined rows if there are more than 4,000.
    """
    n = len(table)
    rows: Any = slice(None)
    if n > MAX_ROWS:
        rows = np.random.default_rng([seed, 4]).choice(n, MAX_ROWS, replace=False)
    part, labels = table.select(rows), y[rows]
    targets = [target for column in labels.reshape(len(labels), -1).T for target in _targets(column, y.ndim == 1)]
    if len(labels) < MIN_ROWS or not targets:
        return
    for column_schema, column in schema.read(part):
        if any(_explains(column, *target) for target in targets):
            warn_user(
                f"column {column_schema.name!r} determines the target almost exactly; if it is the target in other "
                "words, or known only after the target, drop it from X",
                LeakageWarning,
            )


def _targets(column: NDArray[Any], are_classes: bool) -> list[tuple[Floats, float]]:
    """Return the arrays (n, k) that columns are tested for, each with the maximum squared error of a leaking column.

    The arrays are one-hot encoded classes, or the number and its rank. The list is empty if nearly all rows have the
    same target.
    """
    distinct, inverse, counts = np.unique(column, return_inverse=True, return_counts=True)
    if len(column) - counts.max() < MIN_OTHER_ROWS * (len(distinct) - 1 if are_classes else 1):
        return []
    if are_classes:
        indicators = np.eye(len(distinct))[inverse]
        total = float(((indicators - indicators.mean(axis=0)) ** 2).sum())
        return [(indicators, MAX_UNEXPLAINED["classes"] * total + BOUNDARY_COST * (len(distinct) - 1))]
    scaled = column / max(np.abs(column).max(), np.finfo(np.float64).tiny)
    targets = []
    # A column that is a monotone function of the target explains the ranks (`inverse`) exactly.
    for values in (scaled, inverse.astype(np.float64)):
        centred = values - values.mean()
        if total := float((centred**2).sum()):
            targets.append((centred[:, None], MAX_UNEXPLAINED["numbers"] * total))
    return targets


def _explains(column: Column, target: Floats, allowed: float) -> bool:
    """Return whether a column estimates a target (n, k) with a squared error of at most `allowed`."""
    cells = column.values
    missing = column.missing
    distinct, group = np.unique(cells[~missing], return_inverse=True)
    n_groups = len(distinct) + 1  # the last group contains the rows with missing values
    groups = np.full(len(cells), n_groups - 1)
    groups[~missing] = group
    counts = np.bincount(groups, minlength=n_groups)[:, None]
    sums = np.stack([np.bincount(groups, t, n_groups) for t in target.T], axis=1)
    # The estimate of a row is the mean of the other rows with the same cell.
    estimates = (sums[groups] - target) / np.maximum(counts[groups] - 1, 1)
    if column.kind == "number" and len(distinct) > 2:
        means = (sums / np.maximum(counts, 1))[:-1]
        first, last = [2 * means[1] - means[2]], [2 * means[-2] - means[-3]]
        neighbours = np.concatenate([first, (means[:-2] + means[2:]) / 2, last])
        is_single = (counts[groups, 0] == 1) & ~missing
        estimates[is_single] = neighbours[groups[is_single]]
    return float(((target - estimates) ** 2).sum()) <= allowed
