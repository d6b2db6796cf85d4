"""Detection of target leakage, that is, of columns that determine the target almost exactly.

Such a column is the target itself, a code for it, or a later consequence of it. For each column, the target of each row
is estimated from the other rows: it is the mean target of the rows with the same value in the column. If no other row
has the same number, the estimate is the mean for the next smaller and the next larger number. For the smallest and the
largest number, the estimate is extrapolated. A column leaks if the estimates explain 99.99 % of the variance of a
numeric target, or 99 % of the variance of classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._training.advice import LeakageWarning
from nnc._utils.notices import warn_user

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._tables.cells import Column
    from nnc._tables.frames import Table
    from nnc._tables.schema import Schema

    Floats = NDArray[np.float64]

MIN_ROWS = 30  # tables with fewer rows are not tested: a column may determine the target by chance
# Minimum mean number of rows in the classes other than the most frequent one. With fewer rows, leakage is not tested.
MIN_OTHER_ROWS = 10
MAX_ROWS = 4000  # maximum number of rows on which columns are tested for leakage
# A column leaks if it leaves at most this fraction of the variance of the target unexplained.
MAX_UNEXPLAINED = {"numbers": 1e-4, "classes": 1e-2}
BOUNDARY_COST = 1.0  # additional squared error that a leaking column may have for each class after the first


def warn_of_leakage(schema: Schema, table: Table, y: NDArray[Any], rows: NDArray[np.intp], seed: int) -> None:
    """Warn about each column that determines a target almost exactly.

    Parameters
    ----------
    schema : Schema
        Schema of the table; columns that the schema leaves out are not tested.
    table : Table
        The training rows.
    y : array (n,) of class indices, or float array (n, targets)
        Targets of the training rows.
    rows : int array
        Indices of the rows on which columns are tested. A row and its copy must not both be among them.
    seed : int
        Seed for the random choice of 4,000 rows if there are more.
    """
    if len(rows) > MAX_ROWS:
        rows = rows[np.random.default_rng([seed, 4]).choice(len(rows), MAX_ROWS, replace=False)]
    part, labels = table.select(rows), y[rows]
    targets = [target for column in labels.reshape(len(labels), -1).T for target in _targets(column, y.ndim == 1)]
    if len(labels) < MIN_ROWS or not targets:
        return
    columns = schema.read(part)
    names = [column.name for column, values in columns if any(_explains(values, *target) for target in targets)]
    # Several columns determine the target if rows repeat with other identifiers or times, so that they are not equal.
    remedy = "; if rows repeat with other identifiers or times, drop the repetitions" if len(names) > 1 else ""
    for name in names:
        warn_user(
            f"column {name!r} determines the target almost exactly; if it is the target in other words, or known only "
            f"after the target, drop it from X{remedy}",
            LeakageWarning,
        )


def _targets(column: NDArray[Any], are_classes: bool) -> list[tuple[Floats, float]]:
    """Return the target as arrays (n, k), each with the largest squared error of an estimate that counts as leakage.

    For classes, the only array is their one-hot encoding. For numbers, there are two arrays: the numbers and their
    ranks. The list is empty if nearly all rows have the same target.
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
    # `inverse` contains the ranks of the targets, which reveal a column that is a monotone function of the target.
    for values in (scaled, inverse.astype(np.float64)):
        centred = values - values.mean()
        if total := float((centred**2).sum()):
            targets.append((centred[:, None], MAX_UNEXPLAINED["numbers"] * total))
    return targets


def _explains(column: Column, target: Floats, allowed: float) -> bool:
    """Return whether a column estimates `target` (n, k) with a sum of squared errors of at most `allowed`."""
    cells = column.values
    missing = column.missing
    distinct, group = np.unique(cells[~missing], return_inverse=True)
    n_groups = len(distinct) + 1  # the last group contains the rows with missing values
    groups = np.full(len(cells), n_groups - 1)
    groups[~missing] = group
    counts = np.bincount(groups, minlength=n_groups)[:, None]
    sums = np.stack([np.bincount(groups, t, n_groups) for t in target.T], axis=1)
    # The estimate for each row is the mean target of the other rows with the same value in the column.
    estimates = (sums[groups] - target) / np.maximum(counts[groups] - 1, 1)
    if column.kind == "number" and len(distinct) > 2:
        means = (sums / np.maximum(counts, 1))[:-1]
        first, last = [2 * means[1] - means[2]], [2 * means[-2] - means[-3]]
        neighbours = np.concatenate([first, (means[:-2] + means[2:]) / 2, last])
        is_single = (counts[groups, 0] == 1) & ~missing
        estimates[is_single] = neighbours[groups[is_single]]
    return float(((target - estimates) ** 2).sum()) <= allowed
