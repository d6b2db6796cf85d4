"""Columns of a table: the kinds of their values, and conversions between text and numbers, booleans and dates.

The kind of a column is determined by the dtype of its array, or by the types of the elements if the dtype is object.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from dataclasses import KW_ONLY, dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import count
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._tables.zones import zone_name
from nnc._utils.checks import short_repr
from nnc._utils.containers import MISSING_TYPES, is_missing, is_real_type

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import ArrayLike, NDArray

# Pattern of a number. Digits with a leading zero do not match, because they are an identifier, such as a postal code.
NUMBER_TEXT = re.compile(r"\s*[+-]?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?\s*", re.ASCII)
DATE_TEXT = re.compile(r"\s*\d{4}-\d\d-\d\d(?:[ T].*)?\s*", re.ASCII)
KINDS = ("number", "boolean", "text", "category", "date")
# Texts that are read as booleans, in lower case. Cells are converted to lower case before the lookup.
BOOLEAN_TEXTS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
# Texts in lower case that count as missing values, except in columns of text, where "unknown" or "-" may be a category.
# Cells are converted to lower case before the comparison.
MISSING_TEXTS = {"?", "-", "--", "---", "\u2013", "\u2014", ".", "na", "n/a", "n.a.", "n.a", "nan", "null", "nil"}
MISSING_TEXTS |= {"none", "<na>", "unknown", "missing", "#n/a", "#value!", "#div/0!", "#ref!", "#name?", "#num!"}
# Missing texts that R, pandas, SQL, spreadsheets and the UCI repository write in place of an empty cell. Therefore they
# count as missing in all columns of a text file. A frame has missing values, so its text columns may contain them.
EMPTY_CELL_TEXTS = ("NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "<NA>", "#N/A", "?")
CELL_REMEDY = "correct it, or leave it empty if the value is missing"
MAX_EXACT_INTEGER = 2**53  # magnitude up to which float64 represents all integers exactly
MAX_MERGED_FRACTION = 0.01  # integers are identifiers if float64 merges more than this fraction of distinct ones


class CellError(ValueError):
    """Error for an invalid cell of a table.

    Parameters
    ----------
    column : str
        Name of the column.
    row : int
        Index of the row, from 0.
    reason : str
        Expected value and value of the cell, as text without the location.
    prefix : str
        Text of the message before the row index.
    suffix : str
        Text of the message after the row index.
    """

    def __init__(self, column: str, row: int, reason: str, prefix: str, suffix: str = "") -> None:
        super().__init__(column, row, reason, prefix, suffix)  # pickle recreates the exception from these arguments
        self.column, self.row, self.reason, self.prefix, self.suffix = column, row, reason, prefix, suffix

    def __str__(self) -> str:
        return f"{self.prefix}{self.row}{self.suffix}"

    def shifted(self, rows: int) -> CellError:
        """Return a copy of the error with `rows`, the number of rows before a block, added to its row index."""
        return CellError(self.column, self.row + rows, self.reason, self.prefix, self.suffix)


@dataclass(eq=False, repr=False)
class Column:
    """Column of a table with n rows.

    Parameters
    ----------
    name : str
        Name of the column.
    kind : str
        One of KINDS. "category" is a categorical type of pandas, or Enum of polars; "text" is any other text.
    values : array (n,)
        Kinds "number" and "boolean": any real dtype, NaN for missing values; time differences and times of day are in
        seconds. The array may share the memory of the caller. Kind "date": float64, seconds since 1970 (UTC), NaN for
        missing values. Kinds "text" and "category": int32 indices into `levels`, -1 for missing values and blank text.
    levels : tuple of str
        Distinct texts in the order of their first rows; () for kinds without text.
    zone : str, optional
        Time zone of the dates, such as "Asia/Tokyo" or "UTC+09:00". Default: the dates have no time zone.
    order : tuple of str, optional
        All categories from lowest to highest. Default: the categories are not ordered.
    is_clock : bool, default False
        Whether the numbers are times of day.
    """

    name: str
    kind: str
    values: NDArray[Any]
    levels: tuple[str, ...] = ()
    _: KW_ONLY
    zone: str | None = None
    order: tuple[str, ...] = ()
    is_clock: bool = False

    def __repr__(self) -> str:
        return f"<Column {self.name!r} of kind {self.kind!r}, {len(self.values)} rows>"

    @property
    def is_text(self) -> bool:
        """Return whether the column is text or categorical, so that `values` are indices into `levels`."""
        return self.kind in ("text", "category")

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Boolean mask (n,) of the missing values."""
        if self.is_text:
            return np.asarray(self.values < 0)
        return np.isnan(self.values) if self.values.dtype.kind == "f" else np.zeros(len(self.values), bool)

    def select_rows(self, rows: ArrayLike | slice) -> Column:
        """Return a column with only the selected rows; `rows` is an array of indices, a mask or a slice."""
        index = rows if isinstance(rows, slice) else np.asarray(rows)
        return replace(self, values=self.values[index])

    def cell(self, row: int) -> str:
        """Return a cell as text for error messages; the cell must not be missing."""
        value = self.values[row].item()
        if self.is_text:
            return short_repr(self.levels[value])
        return str(np.datetime64(round(value), "s")) if self.kind == "date" else repr(value)


def read_column(
    name: str,
    array: NDArray[Any],
    is_category: bool = False,
    order: tuple[str, ...] = (),
    zone: str | None = None,
) -> Column:
    """Convert an array (n,) to a Column.

    Parameters
    ----------
    name : str
        Name of the column.
    array : array (n,)
        Cells of the column.
    is_category : bool, default False
        Whether the column has a categorical type in the frame or array from which `array` was read.
    order : tuple of str, optional
        All categories from lowest to highest, see `Column`.
    zone : str, optional
        Time zone of the dates, see `Column`; the array contains the dates in UTC.

    Raises
    ------
    TypeError, ValueError
        A cell has an unsupported value; the message locates the first such cell.
    """
    kind = array.dtype.kind
    if is_category or kind in "OTUS":
        column = _object_column(name, array.tolist(), is_category)
        column.order = order
        return column
    if kind == "b":
        return Column(name, "boolean", array)
    if kind in "iuf":
        return _number_column(name, array)
    if kind == "M":
        return Column(name, "date", _to_seconds(array), zone=zone)
    if kind == "m":
        return _number_column(name, _to_seconds(array))
    if kind == "c":
        raise ValueError(f"Complex data not supported: X must be real numbers, got complex numbers in column {name!r}")
    raise TypeError(f"X must be numbers, text or dates, got elements of type {array.dtype} in column {name!r}")


def _number_column(name: str, values: NDArray[Any]) -> Column:
    """Return a column of numbers, or of text if the numbers are identifiers; raise CellError for infinity."""
    if values.dtype.itemsize > 8:
        values = values.astype(np.float64)
    if values.dtype.kind == "f" and (infinite := np.isinf(values)).any():
        row = int(infinite.argmax())
        raise CellError(
            name,
            row,
            f"expected a finite number, found {values[row]}; leave the cell empty if the value is missing",
            f"X must be finite, got {values[row]} in row ",
            f", column {name!r}; use NaN if the value is missing",
        )
    if values.dtype.itemsize == 8 and values.dtype.kind in "iu" and _are_identifiers(values):
        return _text_column(name, "text", values.tolist(), str)
    return Column(name, "number", values)


def _are_identifiers(values: NDArray[Any]) -> bool:
    """Return whether 64-bit integers are identifiers, that is, whether many of them would be equal as float64."""
    if not len(values) or (values.max() <= MAX_EXACT_INTEGER and values.min() >= -MAX_EXACT_INTEGER):
        return False
    return merges_integers(np.unique(values).tolist())


def merges_integers(items: Iterable[int]) -> bool:
    """Return whether float64 merges more than the fraction MAX_MERGED_FRACTION of the distinct integers."""
    distinct = set(items)
    return len(set(map(float, distinct))) < (1 - MAX_MERGED_FRACTION) * len(distinct)


def _to_seconds(times: NDArray[Any]) -> NDArray[np.float64]:
    """Convert dates (datetime64) to seconds since 1970, or time differences to seconds; NaT becomes NaN."""
    microseconds = times.astype(f"{times.dtype.kind}8[us]")
    seconds: NDArray[np.float64] = microseconds.astype(np.int64) / 1e6
    seconds[np.isnat(microseconds)] = np.nan
    return seconds


# --------------------------------------------------------------------------------------------- objects

TEXT, DATE, DURATION, BOOLEAN, NUMBER = "text", "date", "duration", "boolean", "number"


def _value_kind(kind: type) -> str | None:
    """Return TEXT, DATE, DURATION, BOOLEAN or NUMBER for the type of a cell; None if the type is not supported."""
    if issubclass(kind, (str, bytes)):
        return TEXT
    if issubclass(kind, (date, np.datetime64)) or _is_period(kind):
        return DATE
    if issubclass(kind, (time, timedelta, np.timedelta64)):
        return DURATION
    if issubclass(kind, (bool, np.bool_)):
        return BOOLEAN
    return NUMBER if is_real_type(kind) else None


def _object_column(name: str, items: list[Any], is_category: bool) -> Column:
    """Convert a list of Python objects to a column; the types of the objects determine its kind."""
    kinds = {kind for kind in set(map(type, items)) if kind is not type(None) and kind.__name__ not in MISSING_TYPES}
    if is_category:
        return _text_column(name, "category", items, str)
    value_kinds = {_value_kind(kind) for kind in kinds}
    if len(value_kinds) > 1:
        items, value_kinds = _without_missing(name, items)
    if None in value_kinds or len(value_kinds) > 1:
        raise _mixed_kinds_error(name, items)
    if value_kinds <= {NUMBER, BOOLEAN}:
        return _real_column(name, items, BOOLEAN if value_kinds == {BOOLEAN} else NUMBER)
    if value_kinds == {TEXT}:
        return _text_column(name, "text", items, _decode)
    if value_kinds == {DATE}:
        times = [None if is_missing(item) else _to_utc(item) for item in items]
        return Column(name, "date", _to_seconds(np.array(times, "M8[us]")), zone=_common_zone(items))
    durations = [None if is_missing(item) else _to_timedelta(item) for item in items]
    column = _number_column(name, _to_seconds(np.array(durations, "m8[us]")))
    column.is_clock = all(isinstance(item, time) for item in items if not is_missing(item))
    return column


def _without_missing(name: str, items: list[Any]) -> tuple[list[Any], set[str | None]]:
    """Return the items and the kinds of a column of several types, without the types of missing values.

    Missing texts, such as "?", become None unless the other values are text. Booleans count as numbers if all numbers
    are 0 or 1.
    """
    present = [item for item in _distinct(name, items) if not is_missing(item)]
    values = [item for item in present if not (isinstance(item, str) and is_missing_text(item))]
    value_kinds = {_value_kind(type(item)) for item in values}
    if value_kinds <= {TEXT}:
        return items, {_value_kind(type(item)) for item in present}
    if value_kinds == {NUMBER, BOOLEAN} and all(item in (0, 1) for item in values):
        value_kinds = {NUMBER}
    return [None if isinstance(item, str) and is_missing_text(item) else item for item in items], value_kinds


def _is_period(kind: type) -> bool:
    """Return whether a type is the Period of pandas, which represents a day, a month or a year."""
    return kind.__name__ == "Period" and hasattr(kind, "to_timestamp")


def _common_zone(items: list[Any]) -> str | None:
    """Return the time zone that all dates have; "UTC" if their time zones differ, None if a date has none."""
    zones = [getattr(item, "tzinfo", None) for item in items if not is_missing(item)]
    if None in zones:
        return None
    names = set(map(zone_name, zones))  # compare names, because time zone objects may not be hashable
    return names.pop() if len(names) == 1 else "UTC"


def _real_column(name: str, items: list[Any], value_kind: str) -> Column:
    """Convert a list of Python numbers or booleans to a column."""
    if value_kind == BOOLEAN and not any(map(is_missing, set(items))):
        return Column(name, "boolean", np.array(items, bool))
    if _has_inexact_integer(items):
        return _text_column(name, "text", items, lambda item: str(int(item)))
    try:
        values = np.array([np.nan if type(item).__name__ in MISSING_TYPES else item for item in items], np.float64)
    except OverflowError:
        row = next(i for i, item in enumerate(items) if not is_missing(item) and abs(item) > sys.float_info.max)
        raise CellError(
            name,
            row,
            f"expected a number in the range of a float, found {short_repr(items[row])}",
            f"X must be numbers in the range of a float, got {short_repr(items[row])} in row ",
            f", column {name!r}",
        ) from None
    return Column(name, "boolean", values) if value_kind == BOOLEAN else _number_column(name, values)


def _has_inexact_integer(items: list[Any]) -> bool:
    """Return whether all items are integers or missing, and conversion to float64 would round at least one of them."""
    inexact = False
    for kind, item in zip(map(type, items), items, strict=True):
        if issubclass(kind, (Integral, np.bool_)):
            is_large = abs(item) > MAX_EXACT_INTEGER and abs(item) < sys.float_info.max
            inexact = inexact or (is_large and float(item) != item)
        elif not is_missing(item):
            return False
    return inexact


def _text_column(name: str, kind: str, items: list[Any], text: Callable[[Any], str]) -> Column:
    """Convert a list of Python objects to a text column; `text` is a function that converts an object to a str."""
    index: defaultdict[Any, int] = defaultdict(count().__next__)  # number of each distinct object
    try:
        numbers = np.fromiter(map(index.__getitem__, items), np.intp, len(items))
    except TypeError:  # a cell contains an object that is not hashable
        raise _mixed_kinds_error(name, items) from None
    levels: dict[str, int] = {}
    codes: list[int] = []
    for item in index:
        try:
            level = "" if is_missing(item) else text(item)
        except UnicodeDecodeError as error:
            row = items.index(item)
            prefix = f"X must be text in UTF-8, got {error} in row "
            raise CellError(name, row, f"expected text in UTF-8: {error}", prefix, f", column {name!r}") from None
        codes.append(-1 if not level or level.isspace() else levels.setdefault(level, len(levels)))
    return Column(name, kind, np.array(codes, np.int32)[numbers], tuple(levels))


def _distinct(name: str, items: list[Any]) -> Iterable[Any]:
    """Return the distinct objects in the order of their first occurrence; raise an error if one is not hashable.

    Equal objects of different types, such as 1 and True, are distinct.
    """
    try:
        return [item for _, item in dict.fromkeys(zip(map(type, items), items, strict=True))]
    except TypeError:  # a cell contains an object that is not hashable, such as a list
        raise _mixed_kinds_error(name, items) from None


def is_missing_text(text: str) -> bool:
    """Return whether a text, such as "?" or "n/a", counts as a missing value in a column that is not text."""
    return text.strip().casefold() in MISSING_TEXTS


def _decode(item: str | bytes) -> str:
    """Convert a cell to a str; bytes are decoded as UTF-8."""
    return item.decode() if isinstance(item, bytes) else str(item)


def _to_utc(item: Any) -> Any:
    """Convert a date to UTC and remove its time zone; replace a Period of pandas by its start time."""
    if _is_period(type(item)):
        return item.start_time.to_pydatetime()
    if isinstance(item, datetime) and item.tzinfo is not None:
        return item.astimezone(UTC).replace(tzinfo=None)
    return item


def _to_timedelta(item: Any) -> Any:
    """Convert a time of day to the timedelta since midnight; return a timedelta unchanged."""
    if isinstance(item, time):
        return timedelta(hours=item.hour, minutes=item.minute, seconds=item.second, microseconds=item.microsecond)
    return item


def _mixed_kinds_error(name: str, items: Iterable[Any]) -> TypeError | ValueError:
    """Return the error for a column that contains objects of different kinds, or of an unsupported type."""
    first: dict[str, tuple[int, Any]] = {}
    for row, item in enumerate(items):
        if not is_missing(item):
            value_kind = _value_kind(type(item))
            if value_kind is None:
                # check_estimator of scikit-learn requires the words "argument must be", "string" and "number".
                return TypeError(
                    "X: each cell of this argument must be a string, a number or a date, got "
                    f"{short_repr(item)} of type {type(item).__name__} in row {row}, column {name!r}"
                )
            first.setdefault(value_kind, (row, item))
    (row, one), (other_row, other) = list(first.values())[:2]
    return ValueError(
        f"X must have columns of one kind, got {short_repr(one)} in row {row} and {short_repr(other)} in row "
        f"{other_row}, column {name!r}; convert the whole column to text or to numbers"
    )


# --------------------------------------------------------------------------------------------- conversion of columns


def as_numbers(column: Column) -> Column:
    """Convert a column to numbers; raise CellError if a cell is not a number."""
    return _convert(column, "numbers", "number", _parse_number)


def as_dates(column: Column) -> Column:
    """Convert a column to dates, parsing text in ISO 8601; raise CellError if a cell is not a date."""
    return _convert(column, "dates", "date", _parse_date)


def as_booleans(column: Column) -> Column:
    """Convert a column to booleans, parsing text such as "True" and "no".

    Raises
    ------
    CellError
        A cell is not a boolean; the message locates the first such cell.
    """
    return _convert(column, "true or false", "boolean", lambda text: float(BOOLEAN_TEXTS[text.strip().casefold()]))


def as_levels(column: Column, levels: Iterable[str]) -> Column:
    """Convert a column of numbers or booleans to text, in the spelling of the matching level.

    For example, the integer 1 matches the levels "1" and "1.0", and true matches "True", "true", "yes" and "1". If all
    levels are numbers, a value without a matching level has its usual spelling.

    Raises
    ------
    CellError
        A value matches no level, and not all levels are numbers. The message locates the first such value.
    """
    known_levels = set(levels)
    are_numbers = all(map(NUMBER_TEXT.fullmatch, known_levels))
    present = ~column.missing
    distinct, inverse = np.unique(column.values[present], return_inverse=True)
    texts: dict[str, int] = {}
    codes = []
    for i, value in enumerate(distinct):
        spellings = _spellings(value, column.kind == "boolean", known_levels)
        text = next((spelling for spelling in spellings if spelling in known_levels), None)
        if text is None and not are_numbers:
            row = int(np.flatnonzero(present)[(inverse == i).argmax()])
            raise wrong_kind_error(column, "text", row)
        codes.append(texts.setdefault(text or spellings[0], len(texts)))
    values = np.full(len(present), -1, np.int32)
    values[present] = np.array(codes, np.int32)[inverse]
    return Column(column.name, "text", values, tuple(texts))


def _spellings(value: Any, is_boolean: bool, levels: Iterable[str]) -> list[str]:
    """Return the texts that have the same meaning as a value; the first one is the usual spelling."""
    if is_boolean:
        return [str(bool(value)), *(text for text in levels if BOOLEAN_TEXTS.get(text.casefold()) is bool(value))]
    text = str(value)
    if not isinstance(value, np.floating):
        return [text, f"{text}.0"]
    return [str(int(value)), f"{int(value)}.0"] if value == np.floor(value) else [text]


def _convert(column: Column, expected: str, kind: str, parse: Callable[[str], float]) -> Column:
    """Convert a column to `kind`, parsing each distinct text that is not missing.

    Raises
    ------
    CellError
        A cell cannot be converted; the message locates the first such cell.
    """
    if column.kind == kind or (kind == "number" and column.kind == "boolean"):
        return column
    if column.is_text:
        values = np.empty(len(column.levels) + 1)
        values[-1] = np.nan  # missing values have the index -1, which selects this last element
        for code, level in enumerate(column.levels):
            try:
                values[code] = np.nan if is_missing_text(level) else parse(level)
            except (KeyError, ValueError):
                rows = np.flatnonzero(column.values == code)
                if len(rows):  # ignore invalid texts in `levels` that no row has
                    raise wrong_kind_error(column, expected, int(rows[0])) from None
                values[code] = np.nan
        return Column(column.name, kind, values[column.values])
    present = ~column.missing
    if present.any():
        raise wrong_kind_error(column, expected, int(present.argmax()))
    return Column(column.name, kind, np.full(len(present), np.nan))


def wrong_kind_error(column: Column, expected: str, row: int) -> CellError:
    """Return the error for a cell whose kind differs from the kind of the column in the training rows."""
    cell = column.cell(row)
    return CellError(
        column.name,
        row,
        f"expected {expected}, as in training, found {cell}; {CELL_REMEDY}",
        f"X must have {expected} in column {column.name!r}, as the training rows had, got {cell} in row ",
        f"; {CELL_REMEDY}",
    )


def _parse_number(text: str) -> float:
    """Convert text to a finite number; raise ValueError for any other text."""
    if not NUMBER_TEXT.fullmatch(text):
        raise ValueError(text)
    value = float(text)
    if abs(value) == float("inf"):
        raise ValueError(text)
    return value


def _parse_date(text: str) -> float:
    """Convert a date in ISO 8601 to seconds since 1970; raise ValueError for any other text."""
    moment = iso_date(text)
    if moment is None:
        raise ValueError(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def iso_date(text: str) -> datetime | None:
    """Convert a date in ISO 8601, with or without a time of day, to a datetime; return None for any other text."""
    if not DATE_TEXT.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text.strip())
    except ValueError:  # the date does not exist, for example 30 February
        return None
