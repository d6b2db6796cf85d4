"""Detection of repeated rows, such as copies of rows that a join or oversampling has added to a table.

A model that has learned from a copy of a held-out row knows its target, so its score is too good. Equal rows are
natural in a table of few discrete columns, such as sex, class and age band. Rows that are equal in all columns and in
the target are therefore copies in two cases:

- A column of mostly different values, such as a weight, repeats almost only together with all other columns and the
  target.
- The table has far fewer equal rows if the values of each column are shuffled, so that the columns are independent.
  Besides, pairs of rows that differ in a single column are rare. They are frequent in a natural table. Without noise,
  the target is a function of the columns. It is then left out, because its values repeat with those of the columns.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._data.sequences import Sequences
from nnc._utils.random import mix, mix_array

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]
    Columns = Callable[[], Iterable[NDArray[Any]]]  # function that reads the columns of a table, one after the other
    Groups = NDArray[np.intp]

MIN_REPEATED_ROWS, MIN_REPEATED_FRACTION = 10, 0.01  # with fewer rows that equal an earlier one, none is repeated
NUMERIC_KINDS = "biuf"  # dtype kinds of real numbers
BLOCK_VALUES = 1 << 16  # number of values that are hashed at once, to save memory
MAX_SCREENED_INPUTS = 64  # rows are first compared in at most this number of inputs
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


def group_copies(read_columns: Columns, y: NDArray[Any], seed: int) -> Groups | None:
    """Return the number of the group of each row (n,), or None if no row is a copy; copies have the same group.

    Parameters
    ----------
    read_columns : callable
        Function without arguments that returns the columns of numbers. It is called several times.
    y : array (n,) or (n, targets)
        Numbers or class indices.
    seed : int
        Seed of the shuffled columns.
    """
    n, n_columns, inputs = len(y), 0, np.zeros(len(y), np.uint64)
    for hashes in _hashes(read_columns(), 0):
        inputs += hashes
        n_columns += 1
    row_hashes = inputs.copy()
    for hashes in _target_hashes(y):
        row_hashes += hashes
    distinct, groups = np.unique(row_hashes, return_inverse=True)
    if not _is_repeated(n - len(distinct), n):
        return None
    if any(_shows_copies(hashes, inputs, row_hashes) for hashes in _hashes(read_columns(), 0)):
        return groups

    # Nothing else repeats with the values of a single column, so the target is not left out then.
    is_function = n_columns > 1 and len(np.unique(inputs)) == len(distinct)

    def compared() -> Iterator[Hashes]:
        return chain(_hashes(read_columns(), 0), () if is_function else _target_hashes(y))

    sums = inputs if is_function else row_hashes
    is_natural = n - len(distinct) < MIN_SHUFFLED_RATIO * _count_shuffled(compared(), n, seed) or any(
        _is_natural(hashes, sums) for hashes in compared()
    )
    return None if is_natural else groups


def find_copies(X: Any, y: NDArray[Any], classes: NDArray[Any] | None = None) -> Groups | None:
    """Return `group_copies` of the rows of a network, which is fast if few rows of X are equal.

    Parameters
    ----------
    X : array (n, ...) or Sequences
        Inputs.
    y : array (n, ...)
        Targets.
    classes : array (n,), optional
        Classes of targets that are not numbers. Without them, no copies of such rows are found.
    """
    n, inputs = len(X), X.array if isinstance(X, Sequences) else X
    target = y if y.dtype.kind in NUMERIC_KINDS else classes
    if n < MIN_REPEATED_ROWS or target is None or inputs.dtype.kind not in NUMERIC_KINDS:
        return None
    if not inputs.size:
        return None  # the check of X then raises an error about its shape
    matrix = inputs.reshape(n, -1)
    # Copies are equal in the first input, in some inputs at equal distances, and in all inputs.
    if not _is_repeated(_count_repeated(matrix[:, 0]), n):
        return None
    for step in (-(-matrix.shape[1] // MAX_SCREENED_INPUTS), 1):
        if not _is_repeated(_count_repeated(_hash_rows(matrix[:, ::step])), n):
            return None
    if target.dtype.kind not in NUMERIC_KINDS:
        target = np.unique(target, return_inverse=True)[1]
    return group_copies(lambda: matrix.T, target, seed=0)


def describe_copies(groups: Groups) -> str:
    """Return the text of the warning about rows of which some are copies of an earlier row."""
    n = len(groups)
    return (
        f"{n - len(np.unique(groups))} of {n} rows equal an earlier row in all columns of X and y; fit does not "
        "validate a row on its copies, so the score is that for new rows; drop the copies, or pass their number as "
        "sample_weight"
    )


def _count_repeated(values: NDArray[Any]) -> int:
    """Return the number of elements that equal an earlier element."""
    values = np.sort(values)
    return int(np.count_nonzero(values[1:] == values[:-1]))


def _is_repeated(n_repeated: int, n: int) -> bool:
    """Return whether the number of rows that equal an earlier one is large enough for copies."""
    return n_repeated >= max(MIN_REPEATED_ROWS, MIN_REPEATED_FRACTION * n)


def _target_hashes(y: NDArray[Any]) -> Iterator[Hashes]:
    """Yield hashes (n,) of the values of each target."""
    return _hashes(y.reshape(len(y), -1).T, FIRST_TARGET_KEY)


def _hash_rows(matrix: NDArray[Any]) -> Hashes:
    """Return hashes (n,) of the rows of a matrix of numbers; equal rows have the same hash."""
    n, k = matrix.shape
    size, keys = max(1, BLOCK_VALUES // k), np.array([mix(key) for key in range(k)], np.uint64)
    blocks = [_hash(matrix[first : first + size], keys).sum(axis=1) for first in range(0, n, size)]
    return np.concatenate(blocks)


def _hashes(columns: Iterable[NDArray[Any]], first_key: int) -> Iterator[Hashes]:
    """Yield hashes (n,) of the numbers of each column; hashes of other columns have other keys."""
    for key, values in enumerate(columns, first_key):
        yield _hash(values, np.uint64(mix(key)))


def _hash(values: NDArray[Any], keys: NDArray[np.uint64] | np.uint64) -> Hashes:
    """Return hashes of numbers; equal numbers with the same key have the same hash."""
    numbers = values.astype(np.float64) + 0.0  # the sum of -0.0 and 0.0 is 0.0
    numbers[np.isnan(numbers)] = np.nan  # give all NaN the same bits
    return mix_array(numbers.view(np.uint64) ^ keys)


def _count_shuffled(columns: Iterable[Hashes], n: int, seed: int) -> int:
    """Return the number of rows that equal an earlier row if the values of each column are shuffled."""
    rng, row_hashes = np.random.default_rng([seed, 6]), np.zeros(n, np.uint64)
    for hashes in columns:
        row_hashes += rng.permutation(hashes)
    return n - len(np.unique(row_hashes))


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
