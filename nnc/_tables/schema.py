"""Schema of a table: the encodings of its columns, learned from the training rows.

Usage::

    schema = Schema.learn(read_table(frame))
    schema.encode(read_table(other))  # float32 array (n, schema.width())
    schema.describe()
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnc._tables import encodings
from nnc._tables.categories import Category
from nnc._tables.cells import KINDS, Column, as_booleans, as_numbers
from nnc._tables.encoding import Encoding, IgnoresValues, LeftOut
from nnc._tables.encodings import Binary, Date, Number
from nnc._tables.features import PLAIN, FeatureSet
from nnc._tables.format_search import find_format
from nnc._tables.frames import Table
from nnc._tables.notices import ColumnWarning
from nnc._tables.text_values import DateFormat, NumberFormat, TimeFormat, read_format
from nnc._tables.words import Words
from nnc._tables.zones import local_time
from nnc._utils import fields
from nnc._utils.checks import check_count, pluralize, short_repr
from nnc._utils.names import find_similar_name
from nnc._utils.notices import warn_user

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from nnc._interop.table import RawColumn
    from nnc._tables.format_search import FormatSearch
    from nnc._tables.text_values import Format


BLOCK_ROWS = 1 << 13  # number of rows that are encoded at a time, so that temporary arrays fit into the cache
N_BINS = 8  # default maximum number of piecewise-linear features of a column
INTEGER_NAME = re.compile(r"0|[1-9]\d*", re.ASCII)
# Encodings that are valid for a text column with a number format or a date format.
ENCODINGS_BY_KIND = {"number": (Number, Binary, IgnoresValues), "date": (Date, IgnoresValues)}
# Functions that read text in a column that was not text in the training table.
CONVERSIONS = {"number": as_numbers, "boolean": as_booleans}
DEFAULTS_0_1_0 = {"format": None, "zone": "UTC"}  # defaults for keys that files of nnc 0.1.0 lack


class ColumnDescription(NamedTuple):
    """Description of a column for reports.

    Attributes
    ----------
    column : str
        Name of the column.
    kind : str
        Kind of the column, one of nnc._tables.cells.KINDS.
    encoding : str
        Encoding, such as "a number, scaled", "12 categories, 3 % missing" or "left out: all values are equal".
    """

    column: str
    kind: str
    encoding: str


class ColumnSchema(NamedTuple):
    """Schema of a column: its name, its kind in the training table, and its encoding.

    Attributes
    ----------
    name : str
        Name of the column.
    kind : str
        One of nnc._tables.cells.KINDS.
    encoding : Encoding
    format : Format or None
        Format that reads text as numbers or dates. None if the column is not text, or is encoded as text.
    zone : str or None
        Time zone in whose local time dates are encoded. None if the dates of the training rows had no time zone.
    """

    name: str
    kind: str
    encoding: Encoding
    format: Format | None = None
    zone: str | None = None

    def read(self, column: Column) -> Column:
        """Convert a column of a table to the kind that `encoding` needs; raise CellError for an unreadable cell."""
        format = DateFormat() if self.format is None and isinstance(self.encoding, Date) else self.format
        if format is not None:
            column = format.read(column, self.zone)
        elif self.kind in CONVERSIONS and column.is_text:
            column = CONVERSIONS[self.kind](column)
        return _localized(column, self.zone or column.zone)

    def describe(self) -> str:
        """Return a short description of the encoding, for reports."""
        description = self.encoding.describe()
        if isinstance(self.format, TimeFormat):
            return description.removeprefix("days, ")
        if isinstance(self.format, NumberFormat) and not self.format.is_plain:
            return f"{description}, read from text such as {self.format.example}"
        return description


def _localized(column: Column, zone: str | None) -> Column:
    """Convert dates that have a time zone to the local time of `zone`; return other columns unchanged."""
    if column.zone is None or zone is None:
        return column
    try:
        values = local_time(column.values, zone)
    except ValueError as error:
        raise ValueError(f"column {column.name!r}: {error}") from None
    return Column(column.name, column.kind, values)


@dataclass(frozen=True, repr=False)
class Schema:
    """Encodings of all columns of a table, learned from the training rows.

    Attributes
    ----------
    columns : tuple of ColumnSchema
        Schemas of the columns in the order of the training table, including columns that are left out.
    names : tuple of str
        Names of the columns.
    named : bool
        Whether the columns of the training table had names. Columns are matched by position if this table, or the
        table to encode, has no names.
    """

    columns: tuple[ColumnSchema, ...]
    named: bool

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the columns of the training table."""
        return tuple(column.name for column in self.columns)

    @cached_property
    def _slices(self) -> list[slice]:
        """Slices of an encoded row: the plain features of each column, then the extra features of each column."""
        widths = [column.encoding.width for column in self.columns]
        widths += [column.encoding.extra_width for column in self.columns]
        return [slice(*pair) for pair in pairwise(accumulate(widths, initial=0))]

    @classmethod
    def learn(cls, table: Table, n_bins: int = N_BINS, scores: bool = False) -> Schema:
        """Learn the schema of a table from its rows.

        Parameters
        ----------
        table : Table
            The training rows.
        n_bins : int, default 8
            Maximum number of piecewise-linear features of a column of numbers or dates.
        scores : bool, default False
            Whether the features of a number include its normal score, a monotone function of the number that has a
            standard normal distribution over the training rows.

        Returns
        -------
        Schema
        """
        check_count("n_bins", n_bins)
        columns: list[ColumnSchema] = []
        first_names: dict[tuple[Any, ...], str] = {}
        for column in table:
            search = find_format(column)
            format = TimeFormat() if column.is_clock else search.format
            zone = format.zone(column) if isinstance(format, DateFormat) else column.zone
            values = _localized(column if format is None else format.read(column, zone), zone)
            encoding = encodings.learn_encoding(values, n_bins, scores)
            _warn_about_text(column.name, search, encoding)
            if encoding.width:
                first_name = first_names.setdefault(_fingerprint(encoding, values), column.name)
                if first_name != column.name:
                    encoding = LeftOut(f"equal to {first_name!r}")
            kind = "date" if column.is_clock else column.kind
            columns.append(ColumnSchema(column.name, kind, encoding, format, zone))
        return cls(tuple(columns), table.named)

    def width(self, features: FeatureSet = PLAIN) -> int:
        """Return the number of features in an encoded row."""
        return int(self._slices[features.n_blocks * len(self.columns) - 1].stop)

    def groups(self, features: FeatureSet = PLAIN) -> tuple[tuple[slice, ...], ...]:
        """Return for each column the slices of its features in an encoded row; () for a column that is left out."""
        n = len(self.columns)
        slices = self._slices[: features.n_blocks * n]
        return tuple(tuple(part for part in slices[j::n] if part.start < part.stop) for j in range(n))

    def encode(self, table: Table, features: FeatureSet = PLAIN) -> NDArray[np.float32]:
        """Encode a table as input of a network.

        Parameters
        ----------
        table : Table
            If its columns have names, they may be in any order, and additional columns are ignored. Otherwise the table
            must have as many columns as the training table.
        features : FeatureSet
            Features to compute. Default: the plain features.

        Returns
        -------
        float32 array (n, width(features))
            Features of each row. The slices `groups(features)[i]` encode the column `names[i]`.

        Raises
        ------
        ValueError
            A column is missing, or a cell has another kind than in training. The message names the column.
        """
        matrix = np.zeros((len(table), self.width(features)), np.float32)
        groups = self.groups(features)
        parts = [
            (column_schema.encoding, column_schema.encoding.read_cells(column), groups[j])
            for j, column_schema, column in self._match_columns(table)
        ]
        with np.errstate(over="ignore"):  # numbers far from the training rows may overflow before they are clipped
            for start in range(0, len(table), BLOCK_ROWS):
                rows = slice(start, start + BLOCK_ROWS)
                for encoding, cells, group in parts:
                    for write, part in zip((encoding.write, encoding.write_extra), group, strict=False):
                        write(cells[rows], matrix[rows, part])
        return matrix

    def codes(self, table: Table) -> NDArray[np.float64]:
        """Convert a table to the input of exported models.

        Returns
        -------
        float64 array (n, inputs)
            Numbers are unchanged, dates are seconds since 1970, and a text is its index in the levels of the column. A
            column of free text has several inputs, see `Words.read_cells`. Missing values are NaN. Columns that are
            left out are 0.
        """
        ends = list(accumulate((column.encoding.n_codes for column in self.columns), initial=0))
        matrix = np.zeros((len(table), ends[-1]))
        for j, column_schema, column in self._match_columns(table):
            codes = column_schema.encoding.to_codes(column)
            matrix[:, ends[j] : ends[j + 1]] = codes.reshape(len(table), -1)
        return matrix

    def example(self) -> Table:
        """Create a table with one row, whose cells are typical of the training rows."""
        return Table([_example(column_schema) for column_schema in self.columns], self.named)

    def raw(self) -> list[RawColumn]:
        """Describe the inputs of exported models: name of the column, meaning of the numbers, and formulas."""
        return [
            raw_column
            for column in self.columns
            for raw_column in column.encoding.raw_columns(column.name, _code_meaning(column))
        ]

    def unseen(self, table: Table) -> dict[str, dict[str, int]]:
        """Find the texts in a table that did not occur in the training rows.

        Returns
        -------
        dict of str to dict of str to int
            For each column with such texts, the number of rows with each text.
        """
        unseen = {
            column_schema.name: column_schema.encoding.unseen(column)
            for _, column_schema, column in self._match_columns(table)
        }
        return {name: texts for name, texts in unseen.items() if texts}

    def read(self, table: Table) -> Iterator[tuple[ColumnSchema, Column]]:
        """Yield the schema and the values of each column of a table, except columns with the encoding LeftOut.

        Text is converted to numbers or dates if the column has a number or date format.

        Raises
        ------
        ValueError
            A column is missing, or a cell has another kind than in training.
        """
        return ((column_schema, column) for _, column_schema, column in self._match_columns(table))

    def describe(self) -> list[ColumnDescription]:
        """Return a ColumnDescription for each column, in the order of `names`."""
        return [ColumnDescription(column.name, column.kind, column.describe()) for column in self.columns]

    def _match_columns(self, table: Table) -> Iterator[tuple[int, ColumnSchema, Column]]:
        """Yield index, schema and values of each column of a table, except columns with the encoding LeftOut."""
        indices = self._column_indices(table)
        for j, column_schema in enumerate(self.columns):
            if column_schema.encoding.width:
                yield j, column_schema, column_schema.read(table.columns[indices[j]])

    def _column_indices(self, table: Table) -> list[int]:
        """Return for each column of the schema the index of the corresponding column in a table.

        Columns are matched by name if both the schema and the table have names, otherwise by position. If only one of
        them has names and all of these are integers, the default names 0, 1, ... of a frame count as names, too.

        Raises
        ------
        ValueError
            A column is missing, or columns are matched by position and the table has another number of columns.
        """
        default_names = [str(j) for j in range(max(len(self.columns), len(table.columns)))]
        names, schema_names = list(table.names), list(self.names)
        if self.named and not table.named:
            by_name = table.numbered and all(map(INTEGER_NAME.fullmatch, schema_names))
            names = default_names[: len(names)]
        elif table.named and not self.named:
            by_name = all(map(INTEGER_NAME.fullmatch, names))
            schema_names = default_names[: len(schema_names)]
        else:
            by_name = self.named
        if not by_name:
            if len(table.columns) != len(self.columns):
                raise ValueError(
                    f"X must have {pluralize(len(self.columns), 'column')}, as in training, got {len(table.columns)}"
                )
            return list(range(len(self.columns)))
        index = {name: j for j, name in enumerate(names)}
        required = [name for name, column in zip(schema_names, self.columns, strict=True) if column.encoding.width]
        missing = [name for name in required if name not in index]
        if missing and not self.named:
            raise ValueError(
                f"X must have the columns 0 to {len(schema_names) - 1} of training, got no column {missing[0]}; pass "
                "X.to_numpy() if its columns are in the order of training"
            )
        if missing:
            raise self._missing_columns_error(missing, names)
        return [index.get(name, 0) for name in schema_names]

    def _missing_columns_error(self, names: Sequence[str], table_names: Sequence[str]) -> ValueError:
        """Return the error for missing columns; its message suggests columns with similar names."""
        others = [name for name in table_names if name not in self.names]
        similar = [name for name in (find_similar_name(name, others, {}) for name in names) if name]
        hint = f"; did you mean {', '.join(map(repr, similar[:3]))}?" if similar else ""
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        return ValueError(
            f"X must have the columns of training, got no column {', '.join(map(repr, names[:5]))}{more}{hint}"
        )

    # ------------------------------------------------------------------------------------------ JSON documents

    def document(self) -> dict[str, Any]:
        """Return the schema as a JSON object with exact numbers."""
        columns = [
            {
                "name": column_schema.name,
                "kind": column_schema.kind,
                "encoding": column_schema.encoding.document(),
                "format": None if column_schema.format is None else column_schema.format.document(),
                "zone": column_schema.zone,
            }
            for column_schema in self.columns
        ]
        return {"named": self.named, "columns": columns}

    @classmethod
    def from_document(cls, document: Any, where: str = "schema") -> Schema:
        """Create the schema from a JSON object; raise ValueError that locates the first invalid field."""
        fields.check_keys(document, ("named", "columns"), where)
        named = fields.member(document, "named", bool, where=f"{where}.")
        columns = []
        for j, part in enumerate(fields.member(document, "columns", list, where=f"{where}.")):
            location = f"{where}.columns[{j}]"
            part = {**DEFAULTS_0_1_0, **fields.json_object(part, location)}
            fields.check_keys(part, ("name", "kind", "encoding", "format", "zone"), location)
            name = fields.member(part, "name", str, where=f"{location}.")
            kind = fields.choice(part, "kind", KINDS, f"{location}.")
            encoding = encodings.read_encoding(part["encoding"], f"{location}.encoding")
            format = read_format(part["format"], f"{location}.format")
            if format is not None and not isinstance(encoding, ENCODINGS_BY_KIND[format.kind]):
                raise ValueError(
                    f"{location}.format is a {format.kind} format, expected null for the encoding {encoding.type!r}"
                )
            zone = fields.member(part, "zone", str, type(None), where=f"{location}.")
            columns.append(ColumnSchema(name, kind, encoding, format, zone))
        if len({column_schema.name for column_schema in columns}) < len(columns):
            raise ValueError(f"{where}.columns has two columns with the same name, expected different names")
        if not any(column_schema.encoding.width for column_schema in columns):
            raise ValueError(f"{where}.columns has only columns that are left out, expected at least one other column")
        return cls(tuple(columns), named)


def _example(column_schema: ColumnSchema) -> Column:
    """Create a column with one row, whose cell is typical of the training rows."""
    encoding, format = column_schema.encoding, column_schema.format
    levels, value = encoding.coded_levels, encoding.example
    if isinstance(encoding, Words):
        return Column(column_schema.name, "text", np.zeros(1, np.int32), (" ".join(encoding.words),))
    if isinstance(format, NumberFormat) and format.percent:
        return Column(column_schema.name, "text", np.zeros(1, np.int32), (format.write(value),))
    kind = "category" if levels else "date" if isinstance(encoding, Date) else "number"
    values = np.array([value], np.int32 if levels else np.float64)
    return Column(column_schema.name, kind, values, levels, is_clock=isinstance(format, TimeFormat))


def _code_meaning(column_schema: ColumnSchema) -> str:
    """Return the text for the metadata of an exported model that describes the input numbers of a column."""
    if isinstance(column_schema.format, TimeFormat):
        return "seconds since midnight"
    if isinstance(column_schema.encoding, Date) and column_schema.zone not in (None, "UTC"):
        return f"seconds since 1970 of the local time of {column_schema.zone}"
    if isinstance(column_schema.format, NumberFormat) and column_schema.format.percent:
        return "a number, in percent"
    return column_schema.encoding.code_meaning


def _warn_about_text(name: str, search: FormatSearch, encoding: Encoding) -> None:
    """Warn about unreadable cells, ambiguous texts, and text that looks like numbers but has an unsupported format."""
    if search.warning:
        warn_user(search.warning, ColumnWarning)
    is_lossy = isinstance(encoding, (IgnoresValues, Words)) or (isinstance(encoding, Category) and encoding.rare)
    if search.lookalike and is_lossy:
        warn_user(
            f"column {name!r}: most cells look like numbers or dates, such as {short_repr(search.lookalike)}, but "
            f"their format is not supported (encoding: {encoding.describe()}); convert the column to numbers or dates, "
            "or drop it",
            ColumnWarning,
        )


def _fingerprint(encoding: Encoding, column: Column) -> tuple[Any, ...]:
    """Return a hashable key that is equal for columns whose encoded cells are equal."""
    cells = encoding.read_cells(column)
    if cells.dtype.kind == "f":
        cells = np.where(np.isnan(cells), np.nan, cells) + 0.0  # give the same bits to all NaN, and to 0.0 and -0.0
    digest = blake2b(np.ascontiguousarray(cells).data).digest()
    return type(encoding), getattr(encoding, "levels", ()), digest
