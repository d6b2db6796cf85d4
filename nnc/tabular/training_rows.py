"""Preparation of the training rows: schema, encoded rows, and target statistics of categories and repeated numbers.

A target statistic of a level is the sum of the standardized target over its rows, divided by their number plus a
smoothing number of rows (Micci-Barreca, 2001), and compressed to the range from -3 to 3. The smoothing is the ratio of
the variances of the target within and between levels, which makes the quotient the best linear predictor of the mean of
the level. For classes there is one statistic for each class. Levels are the texts of a column, or its distinct numbers
if the target does not change gradually from one number to the next.

The schema contains the statistics of all training rows. The encoded training rows contain out-of-fold statistics
instead: those of a row are computed without the rows of its fold of the cross-validation. So no feature of a row
depends on its own target, and no feature of a held-out row depends on the targets of the rows held out with it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._data.folds import Folds, stratify
from nnc._data.repeated_rows import describe_copies, group_copies
from nnc._data.scaling import Standardize
from nnc._tables.categories import Category
from nnc._tables.encodings import Number, compress
from nnc._tables.features import EXTENDED, PLAIN
from nnc._tables.schema import N_BINS, Schema
from nnc._training.advice import LeakageWarning
from nnc._utils.checks import pluralize
from nnc._utils.notices import warn_user
from nnc.tabular.recipe import N_FOLDS
from nnc.tabular.snapshots import N_PARTS
from nnc.tabular.training import MAX_EXTENDED_VALUES, Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._tables.encoding import Encoding
    from nnc._tables.frames import Table

    Floats = NDArray[np.float64]

MIN_STATISTICS_LEVELS = 10  # a text column has target statistics if it has at least this number of different texts
MAX_NUMBER_LEVELS = 200  # a column of numbers has target statistics if it has at most this number of distinct numbers
MIN_NUMBER_ROWS = 5  # minimum number of rows per distinct number, on average, for target statistics of numbers
MIN_ROUGHNESS = 4.0  # numbers have target statistics if `_roughness`, which is 1 for noise, returns at least this
MAX_STATISTICS = 16  # maximum number of target statistics of a level, which limits the number of classes or targets
MAX_NUMBER_STATISTICS = 64  # maximum number of target statistics of all columns of numbers
MIN_SMOOTHING_ROWS = 1.0  # minimum number of rows with the mean target that are added to the rows of each level
MIN_VARIANCE = 1e-9  # lower limit of variances, to avoid divisions by 0


def learn_schema(table: Table) -> Schema:
    """Learn the schema of the training rows; numeric columns have normal scores unless the table is large.

    Raises
    ------
    ValueError
        No column carries information: in each column, all values are equal, or nearly all texts are different.
    """
    schema = Schema.learn(table, scores=len(table) * len(table.columns) * (N_BINS + 2) <= MAX_EXTENDED_VALUES)
    if schema.width() == 0:
        reasons = "; ".join(f"{column.column!r} is {column.encoding}" for column in schema.describe()[:3])
        rows = pluralize(len(table), "row")
        raise ValueError(f"X must have a column that carries information, got none in {rows}: {reasons}")
    return schema


def find_row_groups(schema: Schema, table: Table, y: NDArray[Any], seed: int) -> NDArray[np.intp] | None:
    """Return the number of the group of each row (n,), or None if no row is a copy; `group_copies` describes them.

    Columns that the schema leaves out are not compared. If rows are copies, a warning is given.
    """
    groups = group_copies(lambda: (column.values for _, column in schema.read(table)), y, seed)
    if groups is not None:
        warn_user(describe_copies(groups), LeakageWarning)
    return groups


def split_into_folds(y: NDArray[Any], seed: int, group: NDArray[np.intp] | None = None) -> Folds:
    """Divide training rows into folds at random; y are class indices (n,), or numbers (n, targets)."""
    order = stratify(np.random.default_rng([seed, 1]).permutation(len(y)), y if y.ndim == 1 else None, group)
    return Folds.deal(order, N_FOLDS, group, N_PARTS)


def encode_rows(
    schema: Schema, table: Table, y: NDArray[Any], weights: Floats | None, folds: Folds
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
    folds : Folds
        Fold of each training row.

    Returns
    -------
    schema : Schema
        Schema with target statistics, unless the table is large.
    rows : Rows
        Encoded rows, with the inputs EXTENDED unless the table is large.
    """
    n_statistics = y.shape[1] if y.ndim == 2 else int(y.max()) + 1
    n_statistics = 1 if y.ndim == 1 and n_statistics == 2 else n_statistics
    columns, n_values = list(schema.columns), len(table) * schema.width(EXTENDED)
    fitted = []
    if n_statistics <= MAX_STATISTICS and n_values <= MAX_EXTENDED_VALUES:
        fitted = _fit_statistics(schema, table, _standardized_targets(y), weights, folds.fold)
    for j, encoding, _ in fitted:
        columns[j] = columns[j]._replace(encoding=encoding)
    larger = replace(schema, columns=tuple(columns))
    width = larger.width(EXTENDED)
    if width == larger.width() or len(table) * width > MAX_EXTENDED_VALUES:
        return schema, Rows({PLAIN: schema.encode(table)}, y, weights)
    extended, groups = larger.encode(table, EXTENDED), larger.groups(EXTENDED)
    for j, _, out_of_fold in fitted:
        end = groups[j][-1].stop
        extended[:, end - n_statistics : end] = out_of_fold
    plain = np.ascontiguousarray(extended[:, : larger.width()])
    return larger, Rows({PLAIN: plain, EXTENDED: extended}, y, weights)


def _standardized_targets(y: NDArray[Any]) -> Floats:
    """Return standardized targets (n, k): numbers, indicators of the classes, or the indicator of the second class."""
    if y.ndim == 1:
        y = np.eye(int(y.max()) + 1)[y]
        y = y[:, 1:] if y.shape[1] == 2 else y
    return Standardize().fit(y).apply(y)


def _fit_statistics(
    schema: Schema, table: Table, targets: Floats, weights: Floats | None, folds: NDArray[Any]
) -> list[tuple[int, Any, Floats]]:
    """Return index, encoding with statistics and out-of-fold statistics of each column that has target statistics.

    If the columns of numbers have more than MAX_NUMBER_STATISTICS, the columns with the largest roughness are chosen.
    """
    w = np.ones(len(targets)) if weights is None else weights / weights.mean()
    index = {name: j for j, name in enumerate(schema.names)}
    n_statistics, fitted = targets.shape[1], []
    for column_schema, column in schema.read(table):
        cells = column_schema.encoding.read_cells(column)
        encoding = _with_levels(column_schema.encoding, cells, n_statistics)
        if encoding is None:
            continue
        levels = encoding.level_indices(encoding.read_cells(column))
        roughness = _roughness(levels, targets, w) if isinstance(encoding, Number) else np.inf
        if roughness >= MIN_ROUGHNESS:
            statistics, out_of_fold = _target_statistics(levels, targets, w, folds, encoding.n_levels)
            encoding = encoding.replace(statistics=tuple(statistics.ravel().tolist()))
            fitted.append((roughness, index[column_schema.name], encoding, out_of_fold))
    numbers = sorted((part[:2] for part in fitted if np.isfinite(part[0])), reverse=True)
    dropped = {j for _, j in numbers[MAX_NUMBER_STATISTICS // n_statistics :]}
    return [(j, encoding, out_of_fold) for _, j, encoding, out_of_fold in fitted if j not in dropped]


def _with_levels(encoding: Encoding, cells: NDArray[Any], n_statistics: int) -> Any:
    """Return an encoding with target statistics of 0, or None if the column has no target statistics."""
    if type(encoding) is Category:
        n_levels = len(encoding.levels) + len(encoding.rare)
        is_repeated = n_levels >= MIN_STATISTICS_LEVELS
        return encoding.replace(statistics=(0.0,) * (n_levels * n_statistics)) if is_repeated else None
    if not isinstance(encoding, Number):
        return None
    cells = cells[~np.isnan(cells)]
    # Some rows are enough to recognize most columns with too many distinct numbers, without sorting all rows.
    if len(np.unique(cells[: 10 * MAX_NUMBER_LEVELS])) > MAX_NUMBER_LEVELS:
        return None
    distinct = np.unique(cells)
    is_repeated = len(distinct) <= min(MAX_NUMBER_LEVELS, len(cells) / MIN_NUMBER_ROWS)
    if not is_repeated or (np.diff(distinct / 2) <= 0).any():  # halves of denormal numbers may be equal
        return None
    return encoding.replace(levels=tuple(distinct.tolist()), statistics=(0.0,) * (len(distinct) * n_statistics))


def _level_sums(levels: NDArray[Any], targets: Floats, w: Floats) -> tuple[Floats, Floats, Floats]:
    """Return weights (m,) and sums of targets (m, k) of the m levels with rows, and the variance (k,) within levels."""
    has_level = levels >= 0
    levels, targets, w = levels[has_level], targets[has_level], w[has_level]
    counts = np.bincount(levels, w).astype(np.float64)
    sums = np.stack([np.bincount(levels, w * target) for target in targets.T], axis=1).astype(np.float64)[counts > 0]
    counts = counts[counts > 0]
    within = w @ targets**2 - (sums**2 / counts[:, None]).sum(axis=0)
    return counts, sums, np.maximum(within / max(counts.sum() - len(counts), 1), MIN_VARIANCE)


def _roughness(levels: NDArray[Any], targets: Floats, w: Floats) -> float:
    """Return how much the mean target of a level differs from the mean of its two neighbours, 1 for noise only.

    The squared difference is divided by its variance and averaged over the levels. The result is the maximum over the
    targets.
    """
    counts, sums, variance = _level_sums(levels, targets, w)
    means, inverse = sums / counts[:, None], 1 / counts[:, None]
    difference = means[1:-1] - (means[:-2] + means[2:]) / 2
    expected = variance * (inverse[1:-1] + (inverse[:-2] + inverse[2:]) / 4)
    return float((difference**2 / expected).mean(axis=0).max())


def _smoothing_rows(levels: NDArray[Any], targets: Floats, w: Floats) -> Floats:
    """Return the ratio (k,) of the variances of each target within and between levels, in rows.

    The variance between levels is estimated by an analysis of variance with random effects.
    """
    counts, sums, within = _level_sums(levels, targets, w)
    n, freedom = counts.sum(), max(len(counts) - 1, 1)
    squares = (sums**2 / counts[:, None]).sum(axis=0) - sums.sum(axis=0) ** 2 / n
    rows_per_level = max((n - (counts**2).sum() / n) / freedom, MIN_VARIANCE)
    between = (squares / freedom - within) / rows_per_level
    smoothing: Floats = np.maximum(within / np.maximum(between, MIN_VARIANCE), MIN_SMOOTHING_ROWS)
    return smoothing


def _target_statistics(
    levels: NDArray[Any], targets: Floats, w: Floats, folds: NDArray[Any], n_levels: int
) -> tuple[Floats, Floats]:
    """Return the target statistics of each level, and the out-of-fold statistics of each row.

    Parameters
    ----------
    levels : int array (n,)
        Index of the level of each row; negative for rows without a level, whose statistics are 0.
    targets : array (n, k)
        Standardized targets.
    w : array (n,)
        Sample weights with mean 1.
    folds : int array (n,)
        Fold of each row.
    n_levels : int

    Returns
    -------
    statistics : array (n_levels, k)
    out_of_fold : array (n, k)
    """
    has_level = levels >= 0
    groups = (folds.astype(np.intp) * n_levels + levels)[has_level]
    terms = np.column_stack([w, w[:, None] * targets])[has_level]
    sums = np.stack([np.bincount(groups, term, N_FOLDS * n_levels) for term in terms.T], axis=1)
    sums = sums.reshape(N_FOLDS, n_levels, -1)
    total, smoothing = sums.sum(axis=0), _smoothing_rows(levels, targets, w)
    others = total - sums  # for each fold, the sums over the rows of all other folds
    statistics, by_fold = (compress(part[..., 1:] / (part[..., :1] + smoothing)) for part in (total, others))
    return statistics, np.where(has_level[:, None], by_fold[folds, levels], 0)
