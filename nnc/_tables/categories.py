"""Encodings of categorical columns: one-hot features of the levels, ranks of ordered levels, and target statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._interop.table import ColumnFormulas
from nnc._tables.cells import Column, as_levels, wrong_kind_error
from nnc._tables.encoding import Encoding, LevelStatistics, number_list, text_list
from nnc._utils.checks import check_fraction, short_repr
from nnc._utils.value import field

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Out = NDArray[np.float32]

MIN_ONE_HOT_LEVELS = 30  # the 30 most frequent levels of a column have one feature each, however rare they are
MAX_ONE_HOT_LEVELS = 100  # maximum number of levels of a column that have one feature each
# Levels beyond the MIN_ONE_HOT_LEVELS most frequent have their own feature only with this many training rows.
MIN_LEVEL_ROWS = 10


class Category(LevelStatistics, Encoding):
    """Encoding of a categorical column as one-hot features.

    Each frequent level has a feature, in the order of decreasing frequency. If there are rare levels, one more feature
    represents all of them. If training rows had missing values, another feature represents these. If a column has two
    levels, a single feature is -1 for the first and 1 for the second. A text that no training row had is encoded as a
    rare level; if there are no rare levels, its features are 0. With `statistics`, the extra features of a level
    are statistics of the target (see nnc/tabular/training_rows.py); for other texts and missing values they are 0.

    Parameters
    ----------
    levels : tuple of str
        Levels that have one feature each, the most frequent level first.
    rare : tuple of str
        Rare levels, which one feature represents.
    missing : float
        Fraction of the training rows without a value.
    statistics : tuple of float
        Target statistics of each text in `coded_levels`, the same number for each text; () for none.
    """

    type = "category"
    code_meaning = "the index of the text"
    added_fields = {"statistics": ()}  # noqa: RUF012 (never modified)

    levels: tuple[str, ...] = field(check=text_list)
    rare: tuple[str, ...] = field(check=text_list)
    missing: float = field(check=check_fraction)
    statistics: tuple[float, ...] = field(check=number_list)

    def __post_init__(self) -> None:
        if len(self.levels) < 2 - bool(self.rare) or not set(self.levels).isdisjoint(self.rare):
            raise ValueError(
                f"levels must be {2 - bool(self.rare)} or more strings, none of them in rare, got "
                f"{short_repr(self.levels)} and rare {short_repr(self.rare)}"
            )
        self.check_statistics()

    @classmethod
    def learn(cls, column: Column, counts: NDArray[Any], missing: float) -> Category:
        """Create the encoding of a text column; `counts` contains the number of training rows of each level."""
        by_count = sorted((-count, level) for count, level in zip(counts.tolist(), column.levels, strict=True) if count)
        levels, n = [level for _, level in by_count], len(by_count)
        if n > MIN_ONE_HOT_LEVELS:
            n_frequent = sum(-count >= MIN_LEVEL_ROWS for count, _ in by_count)
            n = min(MAX_ONE_HOT_LEVELS, max(MIN_ONE_HOT_LEVELS, n_frequent))
        return cls(levels=tuple(levels[:n]), rare=tuple(levels[n:]), missing=missing, statistics=())

    @property
    def is_binary(self) -> bool:
        """Return whether the column has two levels, which a single feature encodes as -1 and 1."""
        return len(self.levels) == 2 and not self.rare

    @property
    def width(self) -> int:
        """Number of features that `write` computes."""
        return (1 if self.is_binary else len(self.levels) + bool(self.rare)) + (self.missing > 0)

    @property
    def extra_width(self) -> int:
        """Number of target statistics of each text."""
        return self.n_statistics

    @property
    def n_levels(self) -> int:
        """Number of texts in `coded_levels`."""
        return len(self.coded_levels)

    def level_indices(self, cells: NDArray[Any]) -> NDArray[Any]:
        """Return the index of each cell in `coded_levels`, which is `cells`."""
        return cells

    @property
    def coded_levels(self) -> tuple[str, ...]:
        """Texts that `to_codes` converts to their index in this tuple; rare levels only if they have statistics."""
        return (*self.levels, *self.rare) if self.statistics else self.levels

    def as_text(self, column: Column) -> Column:
        """Convert a column to text; raise CellError for a date, or for a number that is not a level."""
        if column.is_text:
            return column
        if column.kind == "date" and not column.missing.all():
            raise wrong_kind_error(column, "text", int((~column.missing).argmax()))
        return as_levels(column, (*self.levels, *self.rare))

    def read_cells(self, column: Column) -> NDArray[Any]:
        """Return the index of each cell in `coded_levels`; -1 for other texts, -2 for missing values."""
        column = self.as_text(column)
        index = {level: i for i, level in enumerate(self.coded_levels)}
        indices = np.array([*(index.get(level, -1) for level in column.levels), -2], np.int32)
        cells: NDArray[np.int32] = indices[column.values]
        return cells

    def write(self, cells: NDArray[Any], out: Out) -> None:
        """Write the features of `cells` (rows,) into the array `out` (rows, width) of zeros."""
        if self.is_binary:
            out[:, 0] = np.array([-1, 1, 0, 0])[cells]
            if self.missing:
                out[:, 1] = cells == -2
            return
        n = len(self.levels)
        rare_feature, missing_feature = (n if self.rare else -1), (n + bool(self.rare) if self.missing else -1)
        n_rare = len(self.coded_levels) - n
        features = np.array([*range(n), *[rare_feature] * n_rare, missing_feature, rare_feature])[cells]
        rows = np.flatnonzero(features >= 0)
        out[rows, features[rows]] = 1

    def write_extra(self, cells: NDArray[Any], out: Out) -> None:
        """Write the target statistics of `cells` (rows,) into `out` (rows, extra_width)."""
        self.write_statistics(cells, out)

    def to_codes(self, column: Column) -> Floats:
        """Return the index of each cell in `coded_levels`; -1 for other texts, NaN for missing values."""
        cells = self.read_cells(column)
        return np.where(cells == -2, np.nan, cells)

    def formulas(self) -> ColumnFormulas:
        """Return the formulas with which exported models compute the features from the result of `to_codes`."""
        missing = ("1 if missing(x) else 0",) if self.missing else ()
        if self.is_binary:
            return ColumnFormulas(("-1 if x == 0 else 1 if x == 1 else 0", *missing))
        n = len(self.levels)
        rare = (f"0 if missing(x) else 1 if x < 0 else 1 if x >= {n} else 0",) if self.rare else ()
        statistics, vectors = self.statistics_formulas(range(self.n_levels))
        plain = ("1 if x == place else 0", *rare, *missing)
        return ColumnFormulas(plain, statistics, vectors={"place": range(n), **vectors})

    def unseen(self, column: Column) -> dict[str, int]:
        """Return {text: number of rows} for the texts in `column` that did not occur in the training rows."""
        column = self.as_text(column)
        training_levels = {*self.coded_levels, *self.rare}
        counts = np.bincount(column.values[column.values >= 0], minlength=len(column.levels)).tolist()
        return {level: n for level, n in zip(column.levels, counts, strict=True) if n and level not in training_levels}

    def describe(self) -> str:
        """Return a short description of the encoding, for reports."""
        if self.is_binary:
            description = f"-1 for {short_repr(self.levels[0])}, 1 for {short_repr(self.levels[1])}"
        else:
            rare = f", and {len(self.rare)} rare ones as one" if self.rare else ""
            description = f"{len(self.levels)} categories{rare}"
        description += ", and target statistics" if self.statistics else ""
        return description + (f", {100 * self.missing:.2g} % missing" if self.missing else "")


class OrderedCategory(Category):
    """Encoding of ordered categories: the features of `Category`, and a rank from -1 (lowest) to 1 (highest).

    Parameters
    ----------
    levels, rare, missing, statistics
        See `Category`.
    order : tuple of str
        All categories from lowest to highest, including those without a training row. Missing values and other texts
        have the rank 0.
    """

    type = "ordered_category"

    order: tuple[str, ...] = field(check=text_list)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not {*self.levels, *self.rare} <= set(self.order) or len(self.order) < 2:
            raise ValueError(
                f"order must be two or more strings that include levels and rare, got {short_repr(self.order)}"
            )

    @property
    def coded_levels(self) -> tuple[str, ...]:
        """Texts that `to_codes` converts to their index in this tuple: `levels`, then the other categories."""
        others = set(self.order).difference(self.levels)
        return (*self.levels, *(level for level in self.order if level in others))

    @property
    def ranks(self) -> list[float]:
        """Rank of each text in `coded_levels`, from -1 to 1."""
        rank = {level: 2 * i / (len(self.order) - 1) - 1 for i, level in enumerate(self.order)}
        return [rank[level] for level in self.coded_levels]

    @property
    def width(self) -> int:
        """Number of features: the one-hot features of `Category` and the rank."""
        return super().width + 1

    def write(self, cells: NDArray[Any], out: Out) -> None:
        """Write the features of `cells` (rows,) into the array `out` (rows, width) of zeros."""
        super().write(cells, out[:, :-1])
        out[:, -1] = np.array([*self.ranks, 0, 0])[cells]

    def formulas(self) -> ColumnFormulas:
        """Return the formulas with which exported models compute the features from the result of `to_codes`."""
        plain, extra, steps, vectors = super().formulas()
        rank_vectors = {"listed": range(len(self.coded_levels)), "rank": self.ranks}
        return ColumnFormulas((*plain, "sum(rank if x == listed else 0)"), extra, steps, {**vectors, **rank_vectors})

    def describe(self) -> str:
        """Return a short description of the encoding, for reports."""
        return f"{super().describe()}, and their rank"
