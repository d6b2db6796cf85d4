"""Columns that determine the target almost exactly: the target itself, a code for it, or what was known only after it.

The target of each row is estimated from a single column without the row itself: by the mean of the other rows with the
same cell, or, of a number that no other row has, by the mean of the rows with the next lower and the next higher number
(at both ends by extrapolation). A column leaks if this explains all but a ten-thousandth of the variance of a number,
or all but a hundredth of the variance of the classes.
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

MIN_ROWS = 30  # fewer rows may be separated by chance
MIN_OTHER_ROWS = 10  # rows that do not have the most frequent target, for the same reason
MAX_ROWS = 4000  # that are looked at
MAX_UNEXPLAINED = {"numbers": 1e-4, "classes": 1e-2}  # shares of the variance
BOUNDARY_COST = 1.0  # squared error of the two rows at a boundary between two classes, which is unavoidable


def warn_of_leakage(schema: Schema, table: Table, y: NDArray[Any], seed: int) -> None:
    """Warn of each column that determines a target almost exactly.

    Parameters
    ----------
    schema : Schema
        Of this table; columns that it leaves out are not looked at.
    table : Table
        The training rows.
    y : array (n,) of class indices, or float array (n, targets)
    seed : int
        Chooses the rows that are looked at if there are more than 4,000.
    """
    n = len(table)
    rows: Any = slice(None)
    if n > MAX_ROWS:
        rows = np.random.default_rng([seed, 4]).choice(n, MAX_ROWS, replace=False)
    part, labels = table.take(rows), y[rows]
    targets = [target for column in labels.reshape(len(labels), -1).T for target in _targets(column, y.ndim == 1)]
    if len(labels) < MIN_ROWS or not targets:
        return
    for known, column in schema.read(part):
        if any(_explains(column, *target) for target in targets):
            warn_user(
                f"column {known.name!r} determines the target almost exactly; if it is the target in other words, or "
                "known only after the target, drop it from X",
                LeakageWarning,
            )


def _targets(column: NDArray[Any], are_classes: bool) -> list[tuple[Floats, float]]:
    """Return what is to be explained, as arrays (n, k), and the squared error that is allowed; nothing if nearly all
    rows have the same target."""
    different, places, counts = np.unique(column, return_inverse=True, return_counts=True)
    if len(column) - counts.max() < MIN_OTHER_ROWS * (len(different) - 1 if are_classes else 1):
        return []
    if are_classes:
        indicators = np.eye(len(different))[places]
        total = float(((indicators - indicators.mean(axis=0)) ** 2).sum())
        return [(indicators, MAX_UNEXPLAINED["classes"] * total + BOUNDARY_COST * (len(different) - 1))]
    scaled = column / max(np.abs(column).max(), np.finfo(np.float64).tiny)
    found = []
    for values in (scaled, places.astype(np.float64)):  # ranks, too: of a monotone function they are explained exactly
        centred = values - values.mean()
        if total := float((centred**2).sum()):
            found.append((centred[:, None], MAX_UNEXPLAINED["numbers"] * total))
    return found


def _explains(column: Column, target: Floats, allowed: float) -> bool:
    """Return whether a column leaves at most the allowed squared error of a target (n, k)."""
    cells = column.values
    missing = column.missing
    different, group = np.unique(cells[~missing], return_inverse=True)
    n_groups = len(different) + 1  # the last one of the missing
    groups = np.full(len(cells), n_groups - 1)
    groups[~missing] = group
    counts = np.bincount(groups, minlength=n_groups)[:, None]
    sums = np.stack([np.bincount(groups, t, n_groups) for t in target.T], axis=1)
    alone = counts[groups, 0] == 1
    others = (sums[groups] - target) / np.maximum(counts[groups] - 1, 1)
    if column.kind == "number" and len(different) > 2:
        means = (sums / np.maximum(counts, 1))[:-1]
        between = np.concatenate([[2 * means[1] - means[2]], (means[:-2] + means[2:]) / 2, [2 * means[-2] - means[-3]]])
        others[alone & ~missing] = between[groups[alone & ~missing]]
    return float(((target - others) ** 2).sum()) <= allowed
