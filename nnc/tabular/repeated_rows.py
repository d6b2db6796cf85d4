"""Detection of repeated rows, such as copies of rows that a join or oversampling has added to a table.

A model that has learned from a copy of a held-out row knows its target, so its score is too good. Equal rows are
natural in a table of few discrete columns, such as sex, class and age band. Rows that are equal in all columns and in
the target are therefore copies in two cases:

- A column of mostly different values, such as a weight, repeats almost only together with all other columns and the
  target.
- The table has far fewer equal rows if the values of each column are shuffled, so that the columns are independent.
  Besides, pairs of rows that differ in a single column are rare. They are frequent in a natural table.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._utils.notices import warn_user
from nnc._utils.random import mix, mix_array
from nnc.tabular.notices import LeakageWarning

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from nnc.tabular.frames import Table
    from nnc.tabular.schema import Schema

    Hashes = NDArray[np.uint64]

MIN_REPEATED_ROWS, MIN_REPEATED_FRACTION = 10, 0.01  # with fewer rows that equal an earlier one, none is repeated
FIRST_TARGET_KEY = 1 << 32  # key of the first target in hashes; columns have smaller keys
MIN_SHUFFLED_RATIO = 3.0  # minimum ratio of the number of these rows to their number in shuffled columns
# A column shows that equal rows are natural if pairs of rows that differ only in this column are at least
# MIN_DIFFERENT_FRACTION of the equal pairs, and its odds of equal values in these pairs are at most MAX_NATURAL_ODDS
# times those in all pairs.
MIN_DIFFERENT_FRACTION, MAX_NATURAL_ODDS = 0.02, 20.0
# A column shows that rows are copies if at least the fraction MIN_DISTINCT_FRACTION of its values are different, and if
# rows with equal values in this column rarely differ elsewhere: at most MAX_DIFFERENT_RATIO times as often as any two
# rows. There must also be enough rows for this comparison: if the other columns did not depend on this column, at least
# MIN_CHANCE_DIFFERENT of the rows that repeat a value would differ elsewhere.
MIN_DISTINCT_FRACTION, MAX_DIFFERENT_RATIO, MIN_CHANCE_DIFFERENT = 0.1, 0.1, 20


def find_row_groups(schema: Schema, table: Table, y: NDArray[Any], seed: int) -> NDArray[np.intp] | None:
    """Return the number of the group of each row (n,), or None if no row is repeated.

    Repeated rows have the same group, and a warning is given.

    Parameters
    ----------
    schema : Schema
        Schema of the table; columns that the schema leaves out are not compared.
    table : Table
        The training rows.
    y : array (n,) of class indices, or float array (n, targets)
        Targets of the training rows.
    seed : int
        Seed of the shuffled columns.
    """
    n = len(y)
    inputs = np.zeros(n, np.uint64)
    for hashes in _input_hashes(schema, table):
        inputs += hashes
    row_hashes = inputs.copy()
    for hashes in _target_hashes(y):
        row_hashes += hashes
    distinct, groups = np.unique(row_hashes, return_inverse=True)
    n_repeated = n - len(distinct)
    if n_repeated < max(MIN_REPEATED_ROWS, MIN_REPEATED_FRACTION * n):
        return None
    has_copies = any(_shows_copies(hashes, inputs, row_hashes) for hashes in _input_hashes(schema, table))
    if not has_copies and (
        n_repeated < MIN_SHUFFLED_RATIO * _count_shuffled(schema, table, y, seed)
        or any(_is_natural(hashes, row_hashes) for hashes in _column_hashes(schema, table, y))
    ):
        return None
    warn_user(
        f"{n_repeated} of {n} rows equal an earlier row in all columns of X and y; fit does not validate a row on its "
        "copies, so the score is that for new rows; drop the copies, or pass their number as sample_weight",
        LeakageWarning,
    )
    return groups


def _input_hashes(schema: Schema, table: Table) -> Iterator[Hashes]:
    """Yield hashes (n,) of the values of each column; equal values of a column have the same hash."""
    return _hashes((column.values for _, column in schema.read(table)), 0)


def _target_hashes(y: NDArray[Any]) -> Iterator[Hashes]:
    """Yield hashes (n,) of the values of each target."""
    return _hashes(y.reshape(len(y), -1).T, FIRST_TARGET_KEY)


def _column_hashes(schema: Schema, table: Table, y: NDArray[Any]) -> Iterator[Hashes]:
    """Yield hashes (n,) of the values of each column and each target."""
    return chain(_input_hashes(schema, table), _target_hashes(y))


def _hashes(columns: Iterable[NDArray[Any]], first_key: int) -> Iterator[Hashes]:
    """Yield hashes (n,) of the numbers of each column; hashes of other columns have other keys."""
    for key, values in enumerate(columns, first_key):
        numbers = values.astype(np.float64) + 0.0  # the sum of -0.0 and 0.0 is 0.0
        numbers[np.isnan(numbers)] = np.nan  # give all NaN the same bits
        yield mix_array(numbers.view(np.uint64) ^ np.uint64(mix(key)))


def _count_shuffled(schema: Schema, table: Table, y: NDArray[Any], seed: int) -> int:
    """Return the number of rows that equal an earlier row if the values of each column are shuffled."""
    rng, row_hashes = np.random.default_rng([seed, 6]), np.zeros(len(y), np.uint64)
    for hashes in _column_hashes(schema, table, y):
        row_hashes += rng.permutation(hashes)
    return len(y) - len(np.unique(row_hashes))


def _count_equal_pairs(hashes: Hashes) -> float:
    """Return the number of pairs of rows with equal hashes."""
    counts = np.unique(hashes, return_counts=True)[1].astype(np.float64)
    return float(counts @ (counts - 1)) / 2


def _shows_copies(hashes: Hashes, inputs: Hashes, row_hashes: Hashes) -> bool:
    """Return whether equal values of a column of mostly different values come together with equal rows.

    Parameters
    ----------
    hashes, inputs, row_hashes : uint64 arrays (n,)
        Hashes of the column, of all columns, and of all columns and targets.
    """
    n = len(hashes)
    n_distinct = len(np.unique(hashes))
    if n_distinct < MIN_DISTINCT_FRACTION * n or n_distinct == n:
        return False
    different = 1 - _count_equal_pairs(row_hashes) / _count_equal_pairs(hashes)
    # The target is left out, because it may depend on the column alone.
    chance = 1 - _count_equal_pairs(inputs - hashes) / (n * (n - 1) / 2)
    return different <= MAX_DIFFERENT_RATIO * chance and (n - n_distinct) * chance >= MIN_CHANCE_DIFFERENT


def _is_natural(hashes: Hashes, row_hashes: Hashes) -> bool:
    """Return whether rows that are equal in all other columns differ in a column as often as in a natural table."""
    n_pairs = len(hashes) * (len(hashes) - 1) / 2
    equal, equal_in_column = _count_equal_pairs(row_hashes), _count_equal_pairs(hashes)
    different = _count_equal_pairs(row_hashes - hashes) - equal  # pairs of rows that differ only in this column
    is_frequent = different > MIN_DIFFERENT_FRACTION * equal
    return is_frequent and equal * (n_pairs - equal_in_column) <= MAX_NATURAL_ODDS * equal_in_column * different
