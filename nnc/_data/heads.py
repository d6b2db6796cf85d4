"""Targets of a network with several heads: what y has for each of them, checked as its loss asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._data.targets import check_range, labels, probabilities
from nnc._utils.arrays import as_rows, cast, numbers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._registry.heads import Head, Heads


def targets(heads: Heads, y: Any, n: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """y as targets (n, n_out), labels as rows with a 1; NaN where there is no target."""
    given = numbers("y", y)
    values = as_rows(given, n)
    widths = [head.n for head in heads.heads]
    narrow = [1 if head.row.takes == "probabilities" else head.n for head in heads.heads]
    if values.shape == (n, sum(narrow)):
        widths = narrow
    elif values.shape != (n, sum(widths)):
        shapes = " or ".join(f"({n}, {columns})" for columns in dict.fromkeys((sum(widths), sum(narrow))))
        raise ValueError(f"y must have shape {shapes} to fit the heads {heads}, got {given.shape}")
    parts = np.split(cast(values, dtype), np.cumsum(widths)[:-1], axis=1)
    Y = np.full((n, heads.n_out), np.nan, dtype)
    for place, (head, part, columns) in enumerate(zip(heads.heads, parts, heads.slices, strict=True), 1):
        try:
            Y[:, columns] = _of_head(head, part, heads.missing)
        except ValueError as error:
            raise ValueError(f"head {place}, {head}: {error}") from None
    return Y


def _of_head(head: Head, part: NDArray[Any], missing: bool) -> NDArray[Any]:
    there = ~np.isnan(part)
    bad = ~np.isfinite(part) & ~(~there & missing)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        remedy = "; missing=True leaves it out" if not there[row, column] else ""
        raise ValueError(f"y must be finite, got {part[row, column]} in row {row}, column {column}{remedy}")
    if head.row.takes != "probabilities":
        if there.any():
            check_range(part[there], head.row.name)
        return part
    rows = there.all(axis=1)
    Y = np.full((len(part), head.n), np.nan, part.dtype)
    if part.shape[1] < head.n:
        Y[rows] = np.eye(head.n, dtype=part.dtype)[labels(part[rows, 0], head.n)]
    elif rows.any():
        probabilities(part[rows])
        Y[rows] = part[rows]
    return Y
