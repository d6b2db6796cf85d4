"""Encodings of text: a column for each level, and the rank of levels that have an order."""

from __future__ import annotations

from reprlib import repr as shown
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._interop.table import Written
from nnc._utils.checks import fraction
from nnc._utils.value import field
from nnc.tabular.cells import Column, as_levels, wrong_kind
from nnc.tabular.encoding import Encoding, some_texts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Out = NDArray[np.float32]

FEW = 30  # levels that have a column each, whatever they are
MOST = 100  # columns for the levels of a column that has more than a few
COMMON = 10  # rows that a level needs for one of them


class Category(Encoding):
    """Text: a column for each level, the more frequent first, one for all rare ones, and one for what is missing where
    training rows had that; -1 and 1 in one column where there are two levels. What no training row had is rare, or 0
    everywhere."""

    type = "category"
    codes = "the place of the text"

    levels: tuple[str, ...] = field(check=some_texts)
    rare: tuple[str, ...] = field(check=some_texts)
    missing: float = field(check=fraction)

    def __post_init__(self) -> None:
        if len(self.levels) < 2 - bool(self.rare) or not set(self.levels).isdisjoint(self.rare):
            raise ValueError("levels must be two or more texts, none of which is rare")

    @classmethod
    def learn(cls, column: Column, counts: NDArray[Any], missing: float) -> Category:
        """Create the encoding of text from the counts of its levels."""
        found = sorted((-count, level) for count, level in zip(counts.tolist(), column.levels, strict=True) if count)
        levels, n = [level for _, level in found], len(found)
        if n > FEW:
            n = min(MOST, max(FEW, sum(-count >= COMMON for count, _ in found)))
        return cls(levels=tuple(levels[:n]), rare=tuple(levels[n:]), missing=missing)

    @property
    def is_binary(self) -> bool:
        return len(self.levels) == 2 and not self.rare

    @property
    def width(self) -> int:
        return (1 if self.is_binary else len(self.levels) + bool(self.rare)) + (self.missing > 0)

    @property
    def listed(self) -> tuple[str, ...]:
        """The texts that `coded` gives places of."""
        return self.levels

    def as_text(self, column: Column) -> Column:
        """Return a column as text; CellError if it has dates, or numbers that are none of the levels."""
        if column.is_text:
            return column
        if column.kind == "date" and not column.missing.all():
            raise wrong_kind(column, "text", int((~column.missing).argmax()))
        return as_levels(column, (*self.levels, *self.rare))

    def taken(self, column: Column) -> NDArray[Any]:
        """The places of levels, behind them that of the rare ones and that of what is missing; -1 has no place."""
        n = len(self.levels)
        other, nothing = (n if self.rare else -1), (n + bool(self.rare) if self.missing else -1)
        column = self.as_text(column)
        known = {level: place for place, level in enumerate(self.levels)}
        places = [known.get(level, other) for level in column.levels]
        found: NDArray[np.int32] = np.array([*places, nothing], np.int32)[column.values]
        return found

    def write(self, cells: NDArray[Any], out: Out) -> None:
        if self.is_binary:
            out[:, 0] = np.array([-1, 1, 0, 0])[cells]
            if self.missing:
                out[:, 1] = cells == 2
            return
        rows = np.flatnonzero(cells >= 0)
        out[rows, cells[rows]] = 1

    def coded(self, column: Column) -> Floats:
        """Places in `levels`; -1 for all that is not there."""
        cells = self.taken(column)
        return np.where(column.missing, np.nan, np.where(cells < len(self.levels), cells, -1))

    def written(self) -> Written:
        missing = ("1 if missing(x) else 0",) if self.missing else ()
        if self.is_binary:
            return Written(("-1 if x == 0 else 1 if x == 1 else 0", *missing))
        n = len(self.levels)
        rare = (f"0 if missing(x) else 1 if x < 0 else 1 if x >= {n} else 0",) if self.rare else ()
        return Written(("1 if x == place else 0", *rare, *missing), vectors={"place": range(n)})

    def unseen(self, column: Column) -> dict[str, int]:
        column = self.as_text(column)
        known = {*self.listed, *self.rare}
        counts = np.bincount(column.values[column.values >= 0], minlength=len(column.levels)).tolist()
        return {level: n for level, n in zip(column.levels, counts, strict=True) if n and level not in known}

    def made(self) -> str:
        if self.is_binary:
            made = f"-1 for {shown(self.levels[0])}, 1 for {shown(self.levels[1])}"
        else:
            rare = f" and {len(self.rare)} rare ones together" if self.rare else ""
            made = f"{len(self.levels)} categories{rare}"
        return made + (f", {100 * self.missing:.2g} % missing" if self.missing else "")


class OrderedCategory(Category):
    """Categories whose container orders them: the columns of `Category`, and one for the rank, from -1 for the lowest
    category to 1 for the highest.

    Parameters
    ----------
    levels, rare, missing
        As in `Category`.
    order : tuple of str
        All categories, the lowest first, including those without a training row. What is missing or unknown has the
        rank 0.
    """

    type = "ordered_category"

    order: tuple[str, ...] = field(check=some_texts)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not {*self.levels, *self.rare} <= set(self.order) or len(self.order) < 2:
            raise ValueError("order must have all levels")

    @property
    def listed(self) -> tuple[str, ...]:
        others = set(self.order).difference(self.levels)
        return (*self.levels, *(level for level in self.order if level in others))

    @property
    def ranks(self) -> list[float]:
        """Return the rank of each of `listed`."""
        rank = {level: 2 * i / (len(self.order) - 1) - 1 for i, level in enumerate(self.order)}
        return [rank[level] for level in self.listed]

    @property
    def width(self) -> int:
        return super().width + 1

    def taken(self, column: Column) -> NDArray[Any]:
        """The places in `listed`; -1 of other text, and -2 of what is missing."""
        known = {level: place for place, level in enumerate(self.listed)}
        column = self.as_text(column)
        places = np.array([*(known.get(level, -1) for level in column.levels), -2], np.int32)
        found: NDArray[np.int32] = places[column.values]
        return found

    def write(self, cells: NDArray[Any], out: Out) -> None:
        n = len(self.levels)
        other, nothing = (n if self.rare else -1), (n + bool(self.rare) if self.missing else -1)
        super().write(np.where(cells == -2, nothing, np.where((cells < 0) | (cells >= n), other, cells)), out[:, :-1])
        out[:, -1] = np.array([*self.ranks, 0, 0])[cells]

    def coded(self, column: Column) -> Floats:
        """Places in `listed`; -1 for all that is not there."""
        cells = self.taken(column)
        return np.where(cells == -2, np.nan, cells)

    def written(self) -> Written:
        plain, bins, steps, vectors = super().written()
        places = {"listed": range(len(self.listed)), "rank": self.ranks}
        return Written((*plain, "sum(rank if x == listed else 0)"), bins, steps, {**vectors, **places})

    def made(self) -> str:
        return f"{super().made()}, in their order"
