"""From the columns of a table to the numbers that a network takes, as the training rows have said.

schema = Schema.learn(read_table(frame))
schema.encode(read_table(other))  # (n, schema.width()), float32
schema.describe()
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from itertools import accumulate, pairwise
from reprlib import repr as shown
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnc._interop.table import RawColumn
from nnc._utils import fields
from nnc._utils.checks import count, counted
from nnc._utils.names import meant
from nnc.tabular import encodings
from nnc.tabular.categories import Category
from nnc.tabular.cells import KINDS, Column, as_booleans
from nnc.tabular.encoding import Encoding
from nnc.tabular.encodings import Binary, Date, IgnoresValues, LeftOut, Number
from nnc.tabular.format_search import find_format
from nnc.tabular.frames import Table
from nnc.tabular.notices import ColumnWarning, warn_user
from nnc.tabular.text_values import DateFormat, NumberFormat, TimeFormat, read_format
from nnc.tabular.zones import local_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from nnc.tabular.format_search import Found
    from nnc.tabular.text_values import Format


ROWS = 1 << 13  # that are encoded at a time: what a column takes for it stays in the cache
BINS = 8
INDEX = re.compile(r"0|[1-9]\d*", re.ASCII)  # the name of a column that is a number
ENCODINGS_OF = {"number": (Number, Binary, IgnoresValues), "date": (Date, IgnoresValues)}  # by kind of format
BEFORE_FORMATS = {"format": None, "zone": "UTC"}  # of columns in files of nnc 0.1.0


class Made(NamedTuple):
    """What was made of a column, a line of `Schema.describe`."""

    column: str
    kind: str  # of nnc.tabular.cells.KINDS
    made: str  # "a number, scaled", "12 categories, 3 % missing", "left out: the same in all rows"


class Known(NamedTuple):
    """A column as the training rows had it.

    Attributes
    ----------
    name : str
    kind : str
        Of nnc.tabular.cells.KINDS.
    encoding : Encoding
    format : Format or None
        How its text is read as numbers or dates; None if the column is not text, or stays text.
    zone : str or None
        The time zone whose local time dates are encoded in; None if the training rows had none.
    """

    name: str
    kind: str
    encoding: Encoding
    format: Format | None = None
    zone: str | None = None

    def read(self, column: Column) -> Column:
        """Return a column of a later table as the encoding takes it; CellError if a cell cannot be read."""
        format = DateFormat() if self.format is None and isinstance(self.encoding, Date) else self.format
        if format is not None:
            column = format.read(column, self.zone)
        elif self.kind == "boolean" and column.is_text:
            column = as_booleans(column)
        return _localized(column, self.zone or column.zone)

    def made(self) -> str:
        """Return what was made of the column, in words."""
        made = self.encoding.describe()
        if isinstance(self.format, TimeFormat):
            return made.removeprefix("days, ")
        if isinstance(self.format, NumberFormat) and not self.format.is_plain:
            return f"{made}, read from text such as {self.format.example}"
        return made


def _localized(column: Column, zone: str | None) -> Column:
    """Return dates that have a time zone as the local time of `zone`."""
    if column.zone is None or zone is None:
        return column
    try:
        values = local_time(column.values, zone)
    except ValueError as error:
        raise ValueError(f"column {column.name!r}: {error}") from None
    return Column(column.name, column.kind, values)


@dataclass(frozen=True, repr=False)
class Schema:
    """What the training rows said of their columns.

    Attributes
    ----------
    columns : tuple of Known
        Those of the training table, in their order, with those that are left out.
    names : tuple of str
        What they are called.
    named : bool
        Whether the names are the user's; where not, or where a later table has none, columns are known by their places.
    """

    columns: tuple[Known, ...]
    named: bool

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(column.name for column in self.columns)

    @cached_property
    def _slices(self) -> list[slice]:
        """The slices of the matrix: of the plain columns, then of the bins, of each column."""
        ends = list(accumulate((column.encoding.width for column in self.columns), initial=0))
        ends += list(accumulate((column.encoding.n_bins for column in self.columns), initial=ends[-1]))[1:]
        return [slice(*pair) for pair in pairwise(ends)]

    @classmethod
    def learn(cls, table: Table, bins: int = BINS, scores: bool = False) -> Schema:
        """The schema of training rows.

        Parameters
        ----------
        table : Table
        bins : int, default 8
            How many bins the piecewise-linear encoding of a number has at most.
        scores : bool, default False
            Whether each number has a second plain column, its score: numbers by their rank among the training rows,
            spread as a normal distribution is.

        Returns
        -------
        Schema

        Raises
        ------
        ValueError
            No column is left: all are the same in all rows, or names of the rows.
        """
        count("bins", bins)
        columns: list[Known] = []
        first: dict[tuple[Any, ...], str] = {}
        for column in table:
            found = find_format(column)
            format = TimeFormat() if column.is_clock else found.format
            zone = format.zone(column) if isinstance(format, DateFormat) else column.zone
            read = _localized(column if format is None else format.read(column, zone), zone)
            encoding = encodings.learn_encoding(read, bins, scores)
            _warn(column.name, found, encoding)
            if encoding.width:
                before = first.setdefault(_fingerprint(encoding, read), column.name)
                if before != column.name:
                    encoding = LeftOut(f"the same as {before!r}")
            kind = "date" if column.is_clock else column.kind
            columns.append(Known(column.name, kind, encoding, format, zone))
        schema = cls(tuple(columns), table.named)
        if schema.width() == 0:
            why = "; ".join(f"{made.column!r} is {made.made}" for made in schema.describe()[:3])
            rows = counted(len(table), "row")
            raise ValueError(f"X must have a column from which something can be learned, got none in {rows}: {why}")
        return schema

    def width(self, bins: bool = False) -> int:
        """How many columns the matrix has."""
        return int(self._slices[-1 if bins else len(self.columns) - 1].stop)

    def groups(self, bins: bool = False) -> tuple[tuple[slice, ...], ...]:
        """For each of `names` the slices of the matrix that it has become: () where it is left out."""
        n = len(self.columns)
        pairs = zip(self._slices[:n], self._slices[n:], strict=True)
        return tuple(tuple(part for part in pair[: 1 + bins] if part.start < part.stop) for pair in pairs)

    def encode(self, table: Table, bins: bool = False) -> NDArray[np.float32]:
        """A table as the matrix that a network takes.

        Parameters
        ----------
        table : Table
            With names, its columns may have any order and others may stand among them. Without, they are as many as in
            training.
        bins : bool, default False
            Whether the piecewise-linear encoding of numbers follows the plain columns.

        Returns
        -------
        float32 array (n, width(bins))
            Where the i-th of `names` has gone, `groups(bins)[i]` says.

        Raises
        ------
        ValueError
            A column is not there, or a cell is of another kind than in training; the message says which.
        """
        matrix = np.zeros((len(table), self.width(bins)), np.float32)
        n = len(self.columns)
        taken = [
            (known.encoding, known.encoding.read_cells(column), self._slices[j], self._slices[n + j])
            for j, known, column in self._matched(table)
        ]
        for start in range(0, len(table), ROWS):
            rows = slice(start, start + ROWS)
            for encoding, cells, plain, of_bins in taken:
                encoding.write(cells[rows], matrix[rows, plain])
                if bins and encoding.n_bins:
                    encoding.write_bins(cells[rows], matrix[rows, of_bins])
        return matrix

    def codes(self, table: Table) -> NDArray[np.float64]:
        """A table as the matrix (n, columns) that models in other formats take: numbers; seconds since 1970; of text
        its places among the levels of the column; NaN where nothing is, and 0 in columns that are left out."""
        matrix = np.zeros((len(table), len(self.columns)))
        for j, known, column in self._matched(table):
            matrix[:, j] = known.encoding.to_codes(column)
        return matrix

    def example(self) -> Table:
        """A row of what the training rows had."""
        return Table([_example(known) for known in self.columns], self.named)

    def raw(self) -> list[RawColumn]:
        """The columns of what `codes` gives, for other formats."""
        return [
            RawColumn(known.name, _codes(known), _levels(known.encoding), known.encoding.formulas())
            for known in self.columns
        ]

    def unseen(self, table: Table) -> dict[str, dict[str, int]]:
        """By column, the texts that no training row had and how many rows have each; columns without any are not
        there."""
        found = {known.name: known.encoding.unseen(column) for _, known, column in self._matched(table)}
        return {name: texts for name, texts in found.items() if texts}

    def read(self, table: Table) -> Iterator[tuple[Known, Column]]:
        """Yield the columns that are not left out, with those of a table as their encodings take them: text that is
        numbers or dates has been read.

        Raises
        ------
        ValueError
            A column is not there, or a cell is of another kind than in training.
        """
        return ((known, column) for _, known, column in self._matched(table))

    def describe(self) -> list[Made]:
        """What was made of every column, in the order of `names`."""
        return [Made(known.name, known.kind, known.made()) for known in self.columns]

    def _matched(self, table: Table) -> Iterator[tuple[int, Known, Column]]:
        """The columns that are not left out, with their numbers and those of a table."""
        places = self._places(table)
        for j, known in enumerate(self.columns):
            if known.encoding.width:
                yield j, known, known.read(table.columns[places[j]])

    def _places(self, table: Table) -> list[int]:
        """Return the index in a table of each of `columns`: by name if both have names, else by position. The default
        names 0, 1, ... of a frame count as names if those of the other side are numbers.

        Raises
        ------
        ValueError
            A column is not there, or their number is another.
        """
        by_number = [str(j) for j in range(max(len(self.columns), len(table.columns)))]
        names, wanted = list(table.names), list(self.names)
        if self.named and not table.named:
            by_name = table.numbered and all(map(INDEX.fullmatch, wanted))
            names = by_number[: len(names)]
        elif table.named and not self.named:
            by_name = all(map(INDEX.fullmatch, names))
            wanted = by_number[: len(wanted)]
        else:
            by_name = self.named
        if not by_name:
            if len(table.columns) != len(self.columns):
                raise ValueError(
                    f"X must have {counted(len(self.columns), 'column')}, as in training, got {len(table.columns)}"
                )
            return list(range(len(self.columns)))
        there = {name: j for j, name in enumerate(names)}
        missing = [name for name, known in zip(wanted, self.columns, strict=True) if known.encoding.width]
        missing = [name for name in missing if name not in there]
        if missing and not self.named:
            raise ValueError(
                f"X must have the columns 0 to {len(wanted) - 1} of training, got none called {missing[0]}; pass "
                "X.to_numpy() if its columns are in the order of training"
            )
        if missing:
            raise self._not_there(missing, names)
        return [there.get(name, 0) for name in wanted]

    def _not_there(self, names: Sequence[str], there: Sequence[str]) -> ValueError:
        others = [name for name in there if name not in self.names]
        similar = [name for name in (meant(name, others, {}) for name in names) if name]
        hint = f"; did you mean {', '.join(map(repr, similar[:3]))}?" if similar else ""
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        return ValueError(
            f"X must have the columns of training, got none called {', '.join(map(repr, names[:5]))}{more}{hint}"
        )

    # ------------------------------------------------------------------------------------------ documents

    def document(self) -> dict[str, Any]:
        """As JSON holds it, exactly."""
        columns = [
            {
                "name": known.name,
                "kind": known.kind,
                "encoding": known.encoding.document(),
                "format": None if known.format is None else known.format.document(),
                "zone": known.zone,
            }
            for known in self.columns
        ]
        return {"named": self.named, "columns": columns}

    @classmethod
    def from_document(cls, document: Any, where: str = "schema") -> Schema:
        """What `document` gave; ValueError with place and reason where it is none."""
        fields.exactly(document, ("named", "columns"), where)
        named = fields.member(document, "named", bool, where=f"{where}.")
        columns = []
        for j, part in enumerate(fields.member(document, "columns", list, where=f"{where}.")):
            place = f"{where}.columns[{j}]"
            part = {**BEFORE_FORMATS, **fields.members_of(part, place)}
            fields.exactly(part, ("name", "kind", "encoding", "format", "zone"), place)
            name = fields.member(part, "name", str, where=f"{place}.")
            kind = fields.name(part, "kind", KINDS, f"{place}.")
            encoding = encodings.read_encoding(part["encoding"], f"{place}.encoding")
            format = read_format(part["format"], f"{place}.format")
            if format is not None and not isinstance(encoding, ENCODINGS_OF[format.kind]):
                raise ValueError(f"{place}.format is one of {format.kind}s, which encoding ({encoding.type}) is not")
            zone = fields.member(part, "zone", str, type(None), where=f"{place}.")
            columns.append(Known(name, kind, encoding, format, zone))
        if len({known.name for known in columns}) < len(columns):
            raise ValueError(f"{where}.columns have one name twice, expected different ones")
        if not any(known.encoding.width for known in columns):
            raise ValueError(f"{where}.columns are all left out, expected one that is not")
        return cls(tuple(columns), named)


def _levels(encoding: Encoding) -> tuple[str, ...]:
    return encoding.coded_levels if isinstance(encoding, Category) else ()


def _example(known: Known) -> Column:
    """Return a column with a cell that some training row has."""
    levels, value, format = _levels(known.encoding), known.encoding.example, known.format
    if isinstance(format, NumberFormat) and format.percent:
        return Column(known.name, "text", np.zeros(1, np.int32), (format.write(value),))
    kind = "category" if levels else "date" if isinstance(known.encoding, Date) else "number"
    values = np.array([value], np.int32 if levels else np.float64)
    return Column(known.name, kind, values, levels, is_clock=isinstance(format, TimeFormat))


def _codes(known: Known) -> str:
    """Return what the numbers of a raw column mean."""
    if isinstance(known.format, TimeFormat):
        return "seconds since midnight"
    if isinstance(known.encoding, Date) and known.zone not in (None, "UTC"):
        return f"seconds since 1970 of the local time of {known.zone}"
    if isinstance(known.format, NumberFormat) and known.format.percent:
        return "a number, in percent"
    return known.encoding.code_meaning


def _warn(name: str, found: Found, encoding: Encoding) -> None:
    """Warn of cells that could not be read, of a text with two meanings, and of numbers or dates that are lost."""
    if found.warning:
        warn_user(found.warning, ColumnWarning)
    lost = isinstance(encoding, IgnoresValues) or (isinstance(encoding, Category) and encoding.rare)
    if found.lookalike and lost:
        warn_user(
            f"column {name!r}: most cells look like numbers or dates, such as {shown(found.lookalike)}, but have no "
            f"format that can be read ({encoding.describe()}); convert the column to numbers or dates, or drop it",
            ColumnWarning,
        )


def _fingerprint(encoding: Encoding, column: Column) -> tuple[Any, ...]:
    """What two columns share that have the same cells."""
    cells = encoding.read_cells(column)
    if cells.dtype.kind == "f":
        cells = np.where(np.isnan(cells), np.nan, cells) + 0.0  # one NaN, one zero
    digest = blake2b(np.ascontiguousarray(cells).data).digest()
    return type(encoding), getattr(encoding, "levels", ()), digest
