"""Preparation of the training rows: schema, encoded rows, and target statistics of categories with many levels.

A target statistic of a level is the sum of the standardized target over its rows, divided by their number plus
SMOOTHING_ROWS (Micci-Barreca, 2001). For classes there is one statistic for each class. The schema contains the
statistics of all training rows. The encoded training rows contain out-of-fold statistics instead: those of a row are
computed without the rows of its fold of the cross-validation. So no feature of a row depends on its own target, and no
held-out row of a network has features that depend on the targets of the held-out rows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._data.scaling import Standardize
from nnc.tabular.categories import Category
from nnc.tabular.schema import N_BINS, Schema
from nnc.tabular.training import FOLDS, MAX_BINNED_VALUES, Rows, fold_numbers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc.tabular.frames import Table
    from nnc.tabular.schema import ColumnSchema

    Floats = NDArray[np.float64]

MIN_STATISTICS_LEVELS = 10  # a column has target statistics if it has at least this number of levels
MAX_STATISTICS = 16  # maximum number of target statistics of a level, which limits the number of classes or targets
SMOOTHING_ROWS = 10  # number of rows with the mean target that are added to the rows of each level


def learn_schema(table: Table) -> Schema:
    """Learn the schema of the training rows; numeric columns have normal scores unless the table is large."""
    return Schema.learn(table, scores=len(table) * len(table.columns) * (N_BINS + 2) <= MAX_BINNED_VALUES)


def encode_rows(
    schema: Schema, table: Table, y: NDArray[Any], weights: Floats | None, seed: int
) -> tuple[Schema, Rows]:
    """Encode the training rows, and add target statistics to the schema.

    Parameters
    ----------
    schema : Schema
        Schema of the table without target statistics.
    table : Table
        The training rows.
    y : array (n,) of class indices, or float array (n, targets)
        Targets of the training rows.
    weights : array (n,), optional
        Sample weights.
    seed : int
        Seed of the fit, which determines the folds of the cross-validation.

    Returns
    -------
    schema : Schema
        Schema with target statistics, unless the table is large.
    rows : Rows
        Encoded rows. Unless the table is large, they also have the additional features: bins and target statistics.
    """
    n_statistics = y.shape[1] if y.ndim == 2 else int(y.max()) + 1
    n_statistics = 1 if y.ndim == 1 and n_statistics == 2 else n_statistics
    columns = [_with_zero_statistics(column, n_statistics) for column in schema.columns]
    larger = replace(schema, columns=tuple(columns))
    width = larger.width(bins=True)
    if width == larger.width() or len(table) * width > MAX_BINNED_VALUES:
        return schema, Rows(schema.encode(table), None, y, weights)
    bins, folds = larger.encode(table, bins=True), fold_numbers(y, seed)
    for column_schema, column in larger.read(table):
        encoding = column_schema.encoding
        if isinstance(encoding, Category) and encoding.statistics:
            j, levels = larger.names.index(column_schema.name), encoding.read_cells(column)
            statistics, out_of_fold = _target_statistics(
                levels, _standardized_targets(y), weights, folds, len(encoding.coded_levels)
            )
            encoding = encoding.replace(statistics=tuple(statistics.ravel().tolist()))
            columns[j] = column_schema._replace(encoding=encoding)
            bins[:, larger.groups(bins=True)[j][-1]] = out_of_fold
    plain = np.ascontiguousarray(bins[:, : larger.width()])
    return replace(schema, columns=tuple(columns)), Rows(plain, bins, y, weights)


def _standardized_targets(y: NDArray[Any]) -> Floats:
    """Return standardized targets (n, k): numbers, indicators of the classes, or the indicator of the second class."""
    if y.ndim == 1:
        y = np.eye(int(y.max()) + 1)[y]
        y = y[:, 1:] if y.shape[1] == 2 else y
    return Standardize().fit(y).apply(y)


def _with_zero_statistics(column: ColumnSchema, n_statistics: int) -> ColumnSchema:
    """Return the schema of a column, with target statistics of 0 if it has many levels without an order."""
    encoding = column.encoding
    if type(encoding) is not Category or n_statistics > MAX_STATISTICS:
        return column
    n_levels = len(encoding.levels) + len(encoding.rare)
    if n_levels < MIN_STATISTICS_LEVELS:
        return column
    return column._replace(encoding=encoding.replace(statistics=(0.0,) * (n_levels * n_statistics)))


def _target_statistics(
    levels: NDArray[np.int32], targets: Floats, weights: Floats | None, folds: NDArray[np.int8], n_levels: int
) -> tuple[Floats, Floats]:
    """Return the target statistics of each level, and the out-of-fold statistics of each row.

    Parameters
    ----------
    levels : int array (n,)
        Index of the level of each row; negative for rows without a level, whose statistics are 0.
    targets : array (n, k)
        Standardized targets.
    weights : array (n,), optional
        Sample weights.
    folds : int array (n,)
        Fold of each row.
    n_levels : int

    Returns
    -------
    statistics : array (n_levels, k)
    out_of_fold : array (n, k)
    """
    w = np.ones(len(levels)) if weights is None else weights
    has_level = levels >= 0
    groups = (folds.astype(np.intp) * n_levels + levels)[has_level]
    terms = np.column_stack([w, w[:, None] * targets])[has_level]
    sums = np.stack([np.bincount(groups, term, FOLDS * n_levels) for term in terms.T], axis=1)
    sums = sums.reshape(FOLDS, n_levels, -1)
    total = sums.sum(axis=0)
    smoothing = SMOOTHING_ROWS * w.mean()
    others = total - sums
    others = others[..., 1:] / (others[..., :1] + smoothing)
    out_of_fold = np.where(has_level[:, None], others[folds, levels], 0)
    return total[:, 1:] / (total[:, :1] + smoothing), out_of_fold
