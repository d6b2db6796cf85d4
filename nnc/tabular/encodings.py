"""What becomes of a column: a class for each way, learned from the training rows and applied to all.

A way makes plain columns, and of numbers a piecewise-linear encoding besides, whose bins hold equally many training
rows (Gorishniy, Rubachev and Babenko, 2022). Every cell is encoded by itself, so a row is the same alone and among
others, to the bit.
"""

from __future__ import annotations

import re
import sys
from itertools import pairwise
from math import pi
from reprlib import repr as shown
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._interop.table import Written
from nnc._utils import fields
from nnc._utils.checks import counted, finite, fraction
from nnc._utils.value import field
from nnc.tabular.categories import Category, OrderedCategory
from nnc.tabular.cells import Column, as_dates, as_numbers
from nnc.tabular.dates import DAY, FORMULAS, PARTS, circle, parts_of
from nnc.tabular.encoding import (
    TINY,
    Encoding,
    a_scale,
    a_text,
    from_members,
    some_edges,
    some_knots,
    some_numbers,
    some_texts,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Out = NDArray[np.float32]

NAMES = 10  # levels from which on text may be what the rows are called
FAR = 1e18  # beyond it a scaled number is as good as infinite, and its square still finite
SCORES = 32  # parts of equally many training rows, between the ends of which scores are linear
UTMOST = 0.0005  # the share of the normal distribution that is beyond the scores of the least and the largest number


class Unread(Encoding):
    """Base of encodings that do not read the values of a column, only whether there is one."""

    reason: str = field(check=a_text)

    def taken(self, column: Column) -> NDArray[Any]:
        return column.missing

    def coded(self, column: Column) -> Floats:
        return np.where(column.missing, np.nan, 0.0)


class LeftOut(Unread):
    """A column that carries no information."""

    type = "left_out"
    codes = "anything: it is left out"

    @property
    def width(self) -> int:
        return 0

    def write(self, cells: NDArray[Any], out: Out) -> None:
        """Write nothing."""

    def written(self) -> Written:
        return Written()

    def made(self) -> str:
        return f"left out: {self.reason}"


class Presence(Unread):
    """A column of which only the presence of a value is encoded: 1 if there is one, else -1."""

    type = "presence"
    codes = "anything where there is a value"

    def write(self, cells: NDArray[Any], out: Out) -> None:
        out[:, 0] = np.where(cells, -1, 1)

    def written(self) -> Written:
        return Written(("-1 if missing(x) else 1",))

    def made(self) -> str:
        return f"whether there is a value ({self.reason})"


class Indicated(Encoding):
    """A column with an indicator where training rows had no value: 1 for what is missing, behind what else there is."""

    missing: float = field(check=fraction)  # the share of the training rows

    @property
    def width(self) -> int:
        return 1 + (self.missing > 0)

    def indicate(self, missing: NDArray[np.bool_], out: Out) -> None:
        if self.missing:
            out[:, -1] = missing

    def indicated(self) -> tuple[str, ...]:
        """The formula of the indicator."""
        return ("1 if missing(x) else 0",) if self.missing else ()

    def also(self) -> str:
        """The end of what `made` says."""
        return f", {100 * self.missing:.2g} % missing" if self.missing else ""


# --------------------------------------------------------------------------------------------- numbers


class Number(Indicated):
    """Numbers: z = (x - median) / scale, then z / sqrt(1 + (z / 3)^2), which lies between -3 and 3; and their scores,
    which are distributed as a normal distribution over the training rows. What is missing is the median."""

    type = "number"
    codes = "a number"
    later = {"knots": (), "scores": ()}  # noqa: RUF012 (nobody changes it)

    median: float = field(check=finite)
    scale: float = field(check=a_scale)  # the interquartile range
    edges: tuple[float, ...] = field(check=some_edges)  # of the bins, one more than these
    knots: tuple[float, ...] = field(check=some_knots)  # numbers whose scores are known; () where there are no scores
    scores: tuple[float, ...] = field(check=some_numbers)

    def __post_init__(self) -> None:
        if len(self.scores) != len(self.knots):
            raise ValueError(f"scores must be one for each of {len(self.knots)} knots, got {len(self.scores)}")

    @classmethod
    def learn(cls, values: Floats, missing: float, bins: int, scores: bool = False) -> Number:
        """Of numbers that are there and not all the same. They are halved, so that no difference overflows."""
        shares = np.linspace(0, 1, SCORES + 1) if scores else np.zeros(0)
        found = np.quantile(values / 2, [0, 0.25, 0.5, 0.75, 1, *np.linspace(0, 1, bins + 1), *shares])
        low, first, median, third, high, *edges = found[: 6 + bins].tolist()
        half_scale = third - first if third > first else (high - low) / 2
        edges = [2 * edge for edge in sorted(set(edges))]
        knots, places = np.unique(found[6 + bins :], return_inverse=True)
        normal = np.array([NormalDist().inv_cdf(min(max(share, UTMOST), 1 - UTMOST)) for share in shares])
        # what many rows have is at several of the shares: it gets the mean of their scores
        return cls(
            missing=missing,
            median=2 * median,
            scale=max(2 * min(half_scale, sys.float_info.max / 2), 2 * TINY),
            edges=tuple(edges) if len(edges) > 2 else (),
            knots=tuple((2 * knots).tolist()),
            scores=tuple(float(normal[places == i].mean()) for i in range(len(knots))),
        )

    @property
    def width(self) -> int:
        return super().width + (len(self.knots) > 0)

    @property
    def n_bins(self) -> int:
        return max(0, len(self.edges) - 1)

    def taken(self, column: Column) -> NDArray[Any]:
        return as_numbers(column).values

    def write(self, cells: NDArray[Any], out: Out) -> None:
        x = cells.astype(np.float64)
        missing = np.isnan(x)
        x = np.where(missing, self.median, x)
        out[:, 0] = self.clipped(x)
        if self.knots:
            out[:, 1] = self.scored(x)
        self.indicate(missing, out)

    def scored(self, x: Floats) -> Floats:
        """The scores of numbers, linear between knots."""
        knots, scores = np.array(self.knots), np.array(self.scores)
        part = np.clip(np.searchsorted(knots, x, side="right") - 1, 0, len(knots) - 2)
        return scores[part] + np.diff(scores)[part] * _share(x, knots[part], knots[part + 1])

    def clipped(self, x: Floats) -> Floats:
        """Numbers as they are scaled and smoothly clipped."""
        with np.errstate(over="ignore"):
            z = np.clip((x / 2 - self.median / 2) / (self.scale / 2), -FAR, FAR)
        return z / np.sqrt(1 + (z / 3) ** 2)

    def write_bins(self, cells: NDArray[Any], out: Out) -> None:
        x = cells.astype(np.float64)
        x = np.where(np.isnan(x), self.median, x)[:, None]
        edges = np.array(self.edges)
        out[...] = _share(x, edges[:-1], edges[1:])

    def written(self) -> Written:
        plain = ["z / sqrt(1 + z / 3 * (z / 3))"]
        vectors: dict[str, Sequence[float]] = {}
        if self.knots:
            share = "min(max((value / 2 - lower / 2) / (upper / 2 - lower / 2), 0), 1)"
            plain.append(f"sum(start + rise * {share})")
            vectors |= {"lower": self.knots[:-1], "upper": self.knots[1:]}
            vectors |= {"start": (self.scores[0], *(0.0 for _ in self.knots[2:]))}
            vectors |= {"rise": tuple(high - low for low, high in pairwise(self.scores))}
        if self.edges:
            vectors |= {"low": self.edges[:-1], "high": self.edges[1:]}
        return Written(
            (*plain, *self.indicated()),
            "min(max((value / 2 - low / 2) / (high / 2 - low / 2), 0), 1)" if self.edges else None,
            {"value": f"{self.median!r} if missing(x) else x", **self.scaled("z", "value")},
            vectors,
        )

    def scaled(self, name: str, x: str) -> dict[str, str]:
        """The formula of a number before it is smoothly clipped."""
        return {name: f"min(max(({x} / 2 - {self.median / 2!r}) / {self.scale / 2!r}, {-FAR}), {FAR})"}

    @property
    def example(self) -> float:
        return self.median

    def made(self) -> str:
        return f"a number, scaled{' and ranked' if self.knots else ''}{self.also()}"


def _share(x: Floats, low: Any, high: Any) -> Floats:
    """How far numbers are from low to high: 0 below, 1 above."""
    with np.errstate(over="ignore"):
        share: Floats = np.clip((x / 2 - low / 2) / (high / 2 - low / 2), 0, 1)
    return share


class Binary(Indicated):
    """Numbers of two values: -1 and 1. What lies between them does so, and what is missing is 0."""

    type = "binary"
    codes = "a number"

    low: float = field(check=finite)
    high: float = field(check=finite)

    def __post_init__(self) -> None:
        if not self.low / 2 < self.high / 2:
            raise ValueError(f"low must be below high, got {self.low} and {self.high}")

    def taken(self, column: Column) -> NDArray[Any]:
        return as_numbers(column).values

    def write(self, cells: NDArray[Any], out: Out) -> None:
        x = cells.astype(np.float64)
        missing = np.isnan(x)
        out[:, 0] = np.where(missing, 0, 2 * _share(x, self.low, self.high) - 1)
        self.indicate(missing, out)

    def written(self) -> Written:
        low, high = self.low / 2, self.high / 2
        share = {"share": f"min(max((x / 2 - {low!r}) / {high - low!r}, 0), 1)"}
        return Written(("0 if missing(x) else 2 * share - 1", *self.indicated()), steps=share)

    @property
    def example(self) -> float:
        return self.high

    def made(self) -> str:
        return f"-1 for {self.low:g}, 1 for {self.high:g}{self.also()}"


class Date(Encoding):
    """Dates: days as numbers, and of the parts that differ in the training rows the beginning of the year on the same
    scale, and the places in the year, the week and the day on circles, as sine and cosine."""

    type = "date"
    codes = "seconds since 1970, UTC"

    days: Number
    parts: tuple[str, ...] = field(check=some_texts)

    def __post_init__(self) -> None:
        for part in self.parts:
            if part not in PARTS:
                raise ValueError(f"parts must be some of {', '.join(PARTS)}, got {shown(part)}")

    @classmethod
    def learn(cls, seconds: Floats, missing: float, bins: int, scores: bool = False) -> Date:
        found = parts_of(seconds)
        differ = tuple(part for part in PARTS if found[part].min() < found[part].max())
        return cls(days=Number.learn(seconds / DAY, missing, bins, scores), parts=differ)

    @property
    def width(self) -> int:
        return self.days.width + sum(1 if part == "year" else 2 for part in self.parts)

    @property
    def n_bins(self) -> int:
        return self.days.n_bins

    def taken(self, column: Column) -> NDArray[Any]:
        return as_dates(column).values

    def write(self, cells: NDArray[Any], out: Out) -> None:
        place = self.days.width
        self.days.write(cells / DAY, out[:, :place])
        there = ~np.isnan(cells)
        found = parts_of(np.where(there, cells, 0.0))
        for part in self.parts:
            if part == "year":
                values = self.days.clipped(found[part].astype(np.float64))[:, None]
            else:
                values = circle(PARTS[part])[found[part]]
            out[:, place : place + values.shape[1]] = np.where(there[:, None], values, 0)
            place += values.shape[1]

    def write_bins(self, cells: NDArray[Any], out: Out) -> None:
        self.days.write_bins(cells / DAY, out)

    def written(self) -> Written:
        plain, bins, steps, vectors = self.days.written()
        steps = {"days": f"x / {DAY}"} | {name: re.sub(r"\bx\b", "days", text) for name, text in steps.items()}
        for part in self.parts:
            steps |= {name: text for name, text in FORMULAS[part].items() if name not in steps}
            *_, place = FORMULAS[part]
            if part == "year":
                steps |= self.days.scaled("years", place)
                plain += ("0 if missing(x) else years / sqrt(1 + years / 3 * (years / 3))",)
            else:
                turn = f"{2 * pi / PARTS[part]!r} * {place}"
                plain += (f"0 if missing(x) else sin({turn})", f"0 if missing(x) else sin({turn} + {pi / 2!r})")
        return Written(plain, bins, steps, vectors)

    @property
    def example(self) -> float:
        return round(self.days.median * DAY)

    def made(self) -> str:
        parts = ", ".join(f"the {part}" for part in self.parts)
        return f"days{' and ' if parts else ''}{parts}{self.days.also()}"


# --------------------------------------------------------------------------------------------- which way


def learn(column: Column, bins: int, scores: bool = False) -> Encoding:
    """What is to be made of a column, by its training rows."""
    nothing = column.missing
    missing = float(nothing.mean())
    if missing == 1:
        return LeftOut("no row has a value")
    if column.is_text:
        return _of_text(column, missing, int((~nothing).sum()))
    values = column.values.astype(np.float64)
    values = values[~nothing] if missing else values
    low, high = values.min(), values.max()
    if not low / 2 < high / 2:
        return _same(missing)
    if column.kind == "date":
        return Date.learn(values, missing, bins, scores)
    if np.all((values == low) | (values == high)):
        return Binary(missing=missing, low=low, high=high)
    return Number.learn(values, missing, bins, scores)


def _same(missing: float) -> Encoding:
    return Presence("always the same one") if missing else LeftOut("the same in all rows")


def _of_text(column: Column, missing: float, there: int) -> Encoding:
    counts = np.bincount(column.values[column.values >= 0], minlength=len(column.levels))
    different = int((counts > 0).sum())
    if different == 1:
        return _same(missing)
    if different > NAMES and 2 * different > there:  # most levels have one row
        reason = f"{different} different texts in {counted(there, 'row')}"
        return Presence(reason) if missing else LeftOut(reason)
    found = Category.learn(column, counts, missing)
    if not column.order or found.is_binary:
        return found
    return OrderedCategory(levels=found.levels, rare=found.rare, missing=missing, order=column.order)


# --------------------------------------------------------------------------------------------- documents

WAYS: dict[str, type[Encoding]] = {
    way.type: way for way in (LeftOut, Presence, Number, Binary, Date, Category, OrderedCategory)
}


def read_encoding(document: Any, where: str, ways: Mapping[str, type[Encoding]] = WAYS) -> Any:
    """What `document` gave; ValueError with place and reason where it is none."""
    members = fields.members_of(document, where)
    way = ways[fields.name(members, "type", tuple(ways), f"{where}.")]
    members = {**way.later, **members}
    fields.exactly(members, ("type", *way._fields), where)
    if way is Date:
        members["days"] = read_encoding(members["days"], f"{where}.days", {"number": Number})
    return from_members(way, members, where)
