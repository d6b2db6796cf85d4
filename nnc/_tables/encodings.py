"""Encodings of numbers and dates, and the choice of an encoding for a column.

The extra features of numbers and dates include piecewise-linear features, whose bins have equal numbers of training
rows (Gorishniy, Rubachev and Babenko, 2022). Each cell is encoded separately, so the features of a
row do not depend on the other rows, to the last bit.
"""

from __future__ import annotations

import re
import sys
from functools import cached_property
from itertools import pairwise
from math import pi
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._interop.table import ColumnFormulas
from nnc._tables.categories import Category, OrderedCategory
from nnc._tables.cells import Column, as_dates, as_numbers
from nnc._tables.dates import CALENDAR_RANGES, DAY_SECONDS, PART_FORMULAS, PART_PERIODS, circle_table, date_parts
from nnc._tables.encoding import (
    SMALLEST_NORMAL,
    Encoding,
    LeftOut,
    LevelStatistics,
    Presence,
    WithIndicator,
    edge_list,
    from_members,
    increasing_list,
    knot_list,
    number_list,
    scale_factor,
    text_list,
)
from nnc._tables.words import Words
from nnc._utils import fields
from nnc._utils.checks import check_finite, pluralize, short_repr
from nnc._utils.value import field

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Out = NDArray[np.float32]

MAX_CATEGORY_LEVELS = 10  # a text column with up to this number of levels is always categorical
MAX_SCALED = 1e18  # scaled numbers are clipped to this magnitude, so that their squares are finite
SCORE_INTERVALS = 32  # number of pieces of the normal score, which is piecewise linear between quantiles
TAIL_FRACTION = 0.0005  # normal scores are normal quantiles for probabilities from TAIL_FRACTION to 1 - TAIL_FRACTION


# --------------------------------------------------------------------------------------------- numbers


class Number(LevelStatistics, WithIndicator):
    """Encoding of a column of numbers x.

    The first feature is z / sqrt(1 + (z / 3)^2) with z = (x - median) / scale, which is between -3 and 3. The second
    feature exists only if there are `knots`. It is the normal score: a monotone function of x whose values for the
    training rows have a standard normal distribution. A missing value is encoded like the median.

    Parameters
    ----------
    missing : float
        Fraction of the training rows without a value.
    median : float
        Median of the training rows.
    scale : float
        Interquartile range of the training rows. If it is 0: half of their range.
    edges : tuple of float
        Edges of the bins of the piecewise-linear features; () if there are no such features.
    knots : tuple of float
        Numbers between which the normal score is interpolated linearly; () if there is no normal score.
    scores : tuple of float
        Normal score of each knot.
    levels : tuple of float
        Distinct numbers of the training rows, in increasing order; () for a column without target statistics.
    statistics : tuple of float
        Target statistics of each level, see nnc/tabular/training_rows.py; () for none. Other numbers have 0.
    """

    type = "number"
    code_meaning = "a number"
    added_fields = {"knots": (), "scores": (), "levels": (), "statistics": ()}  # noqa: RUF012 (never modified)

    median: float = field(check=check_finite)
    scale: float = field(check=scale_factor)
    edges: tuple[float, ...] = field(check=edge_list)
    knots: tuple[float, ...] = field(check=knot_list)
    scores: tuple[float, ...] = field(check=number_list)
    levels: tuple[float, ...] = field(check=increasing_list)
    statistics: tuple[float, ...] = field(check=number_list)

    def __post_init__(self) -> None:
        self.check_statistics()
        if len(self.scores) != len(self.knots):
            raise ValueError(f"scores must have one number for each of {len(self.knots)} knots, got {len(self.scores)}")

    @classmethod
    def learn(cls, values: Floats, missing: float, n_bins: int, scores: bool = False) -> Number:
        """Create the encoding from the numbers of the training rows, without missing values; two numbers must differ.

        Quantiles are computed from halves of the numbers, so that differences of quantiles cannot overflow.
        """
        probabilities = np.linspace(0, 1, SCORE_INTERVALS + 1) if scores else np.zeros(0)
        bin_probabilities = np.linspace(0, 1, n_bins + 1)
        quantiles = np.quantile(values / 2, [0, 0.25, 0.5, 0.75, 1, *bin_probabilities, *probabilities])
        low, first, median, third, high, *edges = quantiles[: 6 + n_bins].tolist()
        half_scale = third - first if third > first else (high - low) / 2
        edges = [2 * edge for edge in sorted(set(edges))]
        knots, knot_index = np.unique(quantiles[6 + n_bins :], return_inverse=True)
        tail, normal = TAIL_FRACTION, NormalDist()
        normal_quantiles = np.array([normal.inv_cdf(min(max(p, tail), 1 - tail)) for p in probabilities])
        # A frequent number is the quantile of the training rows for several probabilities. Its normal score is the mean
        # of the normal quantiles of these probabilities.
        return cls(
            missing=missing,
            median=2 * median,
            scale=max(2 * min(half_scale, sys.float_info.max / 2), 2 * SMALLEST_NORMAL),
            edges=tuple(edges) if len(edges) > 2 else (),
            knots=tuple((2 * knots).tolist()),
            scores=tuple(float(normal_quantiles[knot_index == i].mean()) for i in range(len(knots))),
            levels=(),
            statistics=(),
        )

    @property
    def width(self) -> int:
        """Number of features that `write` computes: the scaled number, the normal score and the indicator."""
        return super().width + (len(self.knots) > 0)

    @property
    def extra_width(self) -> int:
        """Number of piecewise-linear features, one for each bin, and of target statistics."""
        return max(0, len(self.edges) - 1) + self.n_statistics

    @property
    def n_levels(self) -> int:
        """Number of distinct numbers with target statistics."""
        return len(self.levels)

    def level_indices(self, cells: NDArray[Any]) -> NDArray[Any]:
        """Return the index of each cell in `levels`; -1 for other numbers and missing values."""
        levels = np.array(self.levels)
        indices = np.minimum(np.searchsorted(levels, cells), len(levels) - 1)
        return np.where(levels[indices] == cells, indices, -1)

    def read_cells(self, column: Column) -> NDArray[Any]:
        """Return the numbers of a column, array (n,), with NaN for missing values."""
        return as_numbers(column).values

    def write(self, cells: NDArray[Any], out: Out) -> None:
        """Write the features of `cells` (rows,) into `out` (rows, width)."""
        x = cells.astype(np.float64)
        missing = np.isnan(x)
        x = np.where(missing, self.median, x)
        out[:, 0] = self.scale_and_clip(x)
        if self.knots:
            out[:, 1] = self.normal_scores(x)
        self.write_indicator(missing, out)

    def normal_scores(self, x: Floats) -> Floats:
        """Return the normal scores of the numbers x, interpolated linearly between the knots."""
        inner_knots, half_low, half_width, start, rise = self._score_intervals
        interval = inner_knots.searchsorted(x, side="right")
        fractions = _clipped_fraction(x / 2 - half_low[interval], half_width[interval])
        return start[interval] + rise[interval] * fractions

    @cached_property
    def _score_intervals(self) -> tuple[Floats, ...]:
        """Inner knots of the normal score, and for each interval half its lower end and width, its start and rise."""
        half, scores = np.array(self.knots) / 2, np.array(self.scores)
        return np.array(self.knots[1:-1]), half[:-1], np.diff(half), scores[:-1], np.diff(scores)

    @cached_property
    def _half_bins(self) -> tuple[Floats, Floats]:
        """Half of the lower edge and half of the width of each bin, arrays (n_bins, 1)."""
        half = np.array(self.edges)[:, None] / 2
        return half[:-1], np.diff(half, axis=0)

    def scale_and_clip(self, x: Floats) -> Floats:
        """Scale the numbers x and compress them smoothly to the range from -3 to 3."""
        z = np.minimum(np.maximum((x / 2 - self.median / 2) / (self.scale / 2), -MAX_SCALED), MAX_SCALED)
        return compress(z)

    def write_extra(self, cells: NDArray[Any], out: Out) -> None:
        """Write the piecewise-linear features and target statistics of `cells` (rows,) into `out`."""
        x = cells.astype(np.float64)
        half_low, half_width = self._half_bins
        n_bins = self.extra_width - self.n_statistics
        # Compute the transposed array, because loops over many rows are faster than loops over few bins.
        out[:, :n_bins].T[...] = _clipped_fraction(np.where(np.isnan(x), self.median, x) / 2 - half_low, half_width)
        if self.statistics:
            self.write_statistics(cells, out[:, n_bins:])

    def formulas(self) -> ColumnFormulas:
        """Return the formulas with which exported models compute the features of a numeric column."""
        plain = ["z / sqrt(1 + z / 3 * (z / 3))"]
        vectors: dict[str, Sequence[float]] = {}
        if self.knots:
            fraction_of_interval = "min(max((value / 2 - lower / 2) / (upper / 2 - lower / 2), 0), 1)"
            plain.append(f"sum(start + rise * {fraction_of_interval})")
            vectors |= {"lower": self.knots[:-1], "upper": self.knots[1:]}
            vectors |= {"start": (self.scores[0], *(0.0 for _ in self.knots[2:]))}
            vectors |= {"rise": tuple(high - low for low, high in pairwise(self.scores))}
        piecewise_linear: tuple[str, ...] = ()
        if self.edges:
            vectors |= {"low": self.edges[:-1], "high": self.edges[1:]}
            piecewise_linear = ("min(max((value / 2 - low / 2) / (high / 2 - low / 2), 0), 1)",)
        statistics, statistics_vectors = self.statistics_formulas(self.levels)
        vectors |= statistics_vectors
        return ColumnFormulas(
            (*plain, *self.indicator_formulas()),
            (*piecewise_linear, *statistics),
            {"value": f"{self.median!r} if missing(x) else x", **self.scaling_steps("z", "value")},
            vectors,
        )

    def scaling_steps(self, name: str, x: str) -> dict[str, str]:
        """Return {`name`: formula} for a variable `x`; the formula is (x - median) / scale, clipped to +-MAX_SCALED."""
        return {name: f"min(max(({x} / 2 - {self.median / 2!r}) / {self.scale / 2!r}, {-MAX_SCALED}), {MAX_SCALED})"}

    @property
    def example(self) -> float:
        """Example of a result of `to_codes`: the median of the training rows."""
        return self.median

    def describe(self) -> str:
        """Return a short description of the encoding, for reports."""
        statistics = ", and target statistics" if self.statistics else ""
        return f"a number, scaled{' and as a normal score' if self.knots else ''}{statistics}{self.missing_note()}"


def compress(z: Floats) -> Floats:
    """Compress numbers smoothly to the range from -3 to 3."""
    compressed: Floats = z / np.sqrt(1 + (z / 3) ** 2)
    return compressed


def _clipped_fraction(distances: Floats, widths: Any) -> Floats:
    """Overwrite `distances` with distances / widths, clipped to the range from 0 to 1, and return this array."""
    distances /= widths
    np.maximum(distances, 0, out=distances)
    return np.minimum(distances, 1, out=distances)


class Binary(WithIndicator):
    """Encoding of a column of numbers with two distinct values, as -1 and 1.

    If a table to predict contains a number between the two values, the feature is interpolated linearly. For a missing
    value, the feature is 0.

    Parameters
    ----------
    missing : float
        Fraction of the training rows without a value.
    low, high : float
        The two values of the training rows.
    """

    type = "binary"
    code_meaning = "a number"

    low: float = field(check=check_finite)
    high: float = field(check=check_finite)

    def __post_init__(self) -> None:
        if not self.low / 2 < self.high / 2:
            raise ValueError(f"low must be below high, got low {self.low} and high {self.high}")

    def read_cells(self, column: Column) -> NDArray[Any]:
        """Return the numbers of a column, array (n,), with NaN for missing values."""
        return as_numbers(column).values

    def write(self, cells: NDArray[Any], out: Out) -> None:
        """Write the features of `cells` (rows,) into `out` (rows, width)."""
        x = cells.astype(np.float64)
        missing = np.isnan(x)
        out[:, 0] = np.where(missing, 0, 2 * _clipped_fraction(x / 2 - self.low / 2, self.high / 2 - self.low / 2) - 1)
        self.write_indicator(missing, out)

    def formulas(self) -> ColumnFormulas:
        """Return the formulas with which exported models compute the features of a numeric column."""
        low, high = self.low / 2, self.high / 2
        steps = {"share": f"min(max((x / 2 - {low!r}) / {high - low!r}, 0), 1)"}
        return ColumnFormulas(("0 if missing(x) else 2 * share - 1", *self.indicator_formulas()), variables=steps)

    @property
    def example(self) -> float:
        """Example of a result of `to_codes`: `high`, the larger of the two values in the training rows."""
        return self.high

    def describe(self) -> str:
        """Return a short description of the encoding, for reports."""
        return f"-1 for {self.low:g}, 1 for {self.high:g}{self.missing_note()}"


class Date(Encoding):
    """Encoding of dates as the number of days since 1970 and as calendar parts.

    Only parts that differ between training rows are encoded. The year is encoded as its first day, scaled like the
    number of days. The month and the day of the month are scaled to [-1, 1]. The time of the year, the day of the week
    and the time of day are periodic: each of them has two features, a sine and a cosine.

    Parameters
    ----------
    days : Number
        Encoding of the number of days since 1970.
    parts : tuple of str
        Calendar parts that are encoded; keys of `PART_PERIODS`.
    """

    type = "date"
    code_meaning = "seconds since 1970, UTC"

    days: Number
    parts: tuple[str, ...] = field(check=text_list)

    def __post_init__(self) -> None:
        for part in self.parts:
            if part not in PART_PERIODS:
                raise ValueError(f"parts must contain only {', '.join(PART_PERIODS)}, got {short_repr(part)}")

    @classmethod
    def learn(cls, seconds: Floats, missing: float, n_bins: int, scores: bool = False) -> Date:
        """Create the encoding from the dates of the training rows, in seconds since 1970, without missing values."""
        values = date_parts(seconds)
        differing = tuple(part for part in PART_PERIODS if values[part].min() < values[part].max())
        return cls(days=Number.learn(seconds / DAY_SECONDS, missing, n_bins, scores), parts=differing)

    @property
    def width(self) -> int:
        """Number of features that `write` computes.

        There are the features of the date as a number, one feature for each part without a period, and two for each
        periodic part.
        """
        return self.days.width + sum(2 if PART_PERIODS[part] else 1 for part in self.parts)

    @property
    def accepts_missing(self) -> bool:
        """Return whether training rows had missing values."""
        return self.days.accepts_missing

    @property
    def extra_width(self) -> int:
        """Number of extra features, which are those of the number of days."""
        return self.days.extra_width

    def read_cells(self, column: Column) -> NDArray[Any]:
        """Return the dates of a column (n,) in seconds since 1970; NaN for missing values."""
        return as_dates(column).values

    def write(self, cells: NDArray[Any], out: Out) -> None:
        """Write the features of `cells` (rows,) into `out` (rows, width)."""
        start = self.days.width
        self.days.write(cells / DAY_SECONDS, out[:, :start])
        present = ~np.isnan(cells)
        parts = date_parts(np.where(present, cells, 0.0))
        values: NDArray[Any]
        for part in self.parts:
            if part == "year":
                values = self.days.scale_and_clip(parts[part].astype(np.float64))[:, None]
            elif part in CALENDAR_RANGES:
                values = (parts[part] * (2 / CALENDAR_RANGES[part]) - 1)[:, None]
            else:
                values = circle_table(PART_PERIODS[part])[parts[part]]
            out[:, start : start + values.shape[1]] = np.where(present[:, None], values, 0)
            start += values.shape[1]

    def write_extra(self, cells: NDArray[Any], out: Out) -> None:
        """Write the extra features of `cells` (rows,) into `out` (rows, extra_width)."""
        self.days.write_extra(cells / DAY_SECONDS, out)

    def formulas(self) -> ColumnFormulas:
        """Return the formulas with which exported models compute the features of a date in seconds since 1970."""
        plain, extra, steps, vectors = self.days.formulas()
        steps = {"days": f"x / {DAY_SECONDS}"} | {name: re.sub(r"\bx\b", "days", text) for name, text in steps.items()}
        for part in self.parts:
            steps |= {name: text for name, text in PART_FORMULAS[part].items() if name not in steps}
            *_, step = PART_FORMULAS[part]
            if part == "year":
                steps |= self.days.scaling_steps("years", step)
                plain += ("0 if missing(x) else years / sqrt(1 + years / 3 * (years / 3))",)
            elif part in CALENDAR_RANGES:
                plain += (f"0 if missing(x) else {step} * {2 / CALENDAR_RANGES[part]!r} - 1",)
            else:
                angle = f"{2 * pi / PART_PERIODS[part]!r} * {step}"
                plain += (f"0 if missing(x) else sin({angle})", f"0 if missing(x) else sin({angle} + {pi / 2!r})")
        return ColumnFormulas(plain, extra, steps, vectors)

    @property
    def example(self) -> float:
        """Example of a result of `to_codes`: the median of the training rows."""
        return round(self.days.median * DAY_SECONDS)

    def describe(self) -> str:
        """Return a short description of the encoding, for reports."""
        return f"{', '.join(('days', *self.parts))}{self.days.missing_note()}"


# --------------------------------------------------------------------------------------------- choice of an encoding


def learn_encoding(column: Column, n_bins: int, scores: bool = False) -> Encoding:
    """Choose and create the encoding of a column from its training rows.

    Parameters
    ----------
    column : Column
    n_bins : int
        Maximum number of piecewise-linear features.
    scores : bool
        Whether the features of numbers and dates include their normal score.
    """
    is_missing = column.missing
    missing = float(is_missing.mean())
    if missing == 1:
        return LeftOut("all values are missing")
    if column.is_text:
        return _text_encoding(column, missing, int((~is_missing).sum()))
    values = column.values.astype(np.float64)
    values = values[~is_missing] if missing else values
    low, high = values.min(), values.max()
    if not low / 2 < high / 2:
        return _constant_encoding(missing)
    if column.kind == "date":
        return Date.learn(values, missing, n_bins, scores)
    if np.all((values == low) | (values == high)):
        return Binary(missing=missing, low=low, high=high)
    return Number.learn(values, missing, n_bins, scores)


def _constant_encoding(missing: float) -> Encoding:
    """Return the encoding of a column whose values are equal: Presence if cells are missing, otherwise LeftOut."""
    reason = "all values are equal"
    return Presence(reason) if missing else LeftOut(reason)


def _text_encoding(column: Column, missing: float, n_present: int) -> Encoding:
    """Choose and create the encoding of a text column; `n_present` cells of the column are not missing."""
    counts = np.bincount(column.values[column.values >= 0], minlength=len(column.levels))
    n_levels = int((counts > 0).sum())
    if n_levels == 1:
        return _constant_encoding(missing)
    # A column in which each text occurs in fewer than two rows on average is not encoded as categories.
    if n_levels > MAX_CATEGORY_LEVELS and 2 * n_levels > n_present:
        if words := Words.learn(column, counts, missing):
            return words
        reason = f"{n_levels} different texts in {pluralize(n_present, 'row')}"
        return Presence(reason) if missing else LeftOut(reason)
    category = Category.learn(column, counts, missing)
    if not column.order or category.is_binary:
        return category
    return OrderedCategory(
        levels=category.levels, rare=category.rare, missing=missing, statistics=(), order=column.order
    )


# --------------------------------------------------------------------------------------------- JSON documents

ENCODINGS: dict[str, type[Encoding]] = {
    kind.type: kind for kind in (LeftOut, Presence, Number, Binary, Date, Category, OrderedCategory, Words)
}


def read_encoding(document: Any, where: str, kinds: Mapping[str, type[Encoding]] = ENCODINGS) -> Any:
    """Create an encoding from a JSON object; raise ValueError that locates the first invalid field."""
    members = fields.json_object(document, where)
    kind = kinds[fields.choice(members, "type", tuple(kinds), f"{where}.")]
    members = {**kind.added_fields, **members}
    fields.check_keys(members, ("type", *kind._fields), where)
    if kind is Date:
        members["days"] = read_encoding(members["days"], f"{where}.days", {"number": Number})
    return from_members(kind, members, where)
