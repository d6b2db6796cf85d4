"""What the cells of a column are: numbers, yes and no, text, dates, and those that are missing.

A container says what a column is by its type, or leaves it to its objects, which are looked at once.
"""

from __future__ import annotations

import re
import sys
from dataclasses import KW_ONLY, dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from numbers import Integral
from reprlib import repr as shown
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._utils.containers import MISSING, is_missing, is_number
from nnc.tabular.zones import zone_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import ArrayLike, NDArray

# Digits that begin with 0, as those of a postal code, are a name.
NUMBER_TEXT = re.compile(r"\s*[+-]?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?\s*", re.ASCII)
DATE_TEXT = re.compile(r"\s*\d{4}-\d\d-\d\d(?:[ T].*)?\s*", re.ASCII)
KINDS = ("number", "boolean", "text", "category", "date")
TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}  # text of booleans, casefolded
MAX_EXACT = 2**53  # float64 holds all integers up to here
MAX_MERGED_SHARE = 0.01  # of different integers that float64 cannot tell apart: more are identifiers


class CellError(ValueError):
    """A cell is not as it has to be.

    Parameters
    ----------
    column : str
    row : int
        Counted from 0.
    why : str
        What was expected and what came, without the place.
    message : str
        The whole of it up to the number of the row.
    rest : str
        What follows it.
    """

    def __init__(self, column: str, row: int, why: str, message: str, rest: str = "") -> None:
        super().__init__(column, row, why, message, rest)  # of which pickle makes it again
        self.column, self.row, self.why, self.message, self.rest = column, row, why, message, rest

    def __str__(self) -> str:
        return f"{self.message}{self.row}{self.rest}"

    def below(self, rows: int) -> CellError:
        """The same of a table in which so many rows come before those that were looked at."""
        return CellError(self.column, self.row + rows, self.why, self.message, self.rest)


@dataclass(eq=False, repr=False)
class Column:
    """A column as it was brought, of n rows.

    Parameters
    ----------
    name : str
    kind : str
        One of KINDS. "category" is what its container calls one (pandas' category, polars' Enum), "text" plain strings.
    values : array (n,)
        Of "number" and "boolean" of any real dtype, the caller's own memory where that is possible, missing ones NaN;
        differences of times, and times of day, are seconds. Of "date" float64, seconds since 1970 (UTC), missing ones
        NaN. Of "text" and "category" int32, places in `levels`, missing ones -1; so is blank text.
    levels : tuple of str
        The different texts, in the order in which rows have them first; () of other kinds.
    zone : str, optional
        The time zone of dates, such as "Asia/Tokyo" or "UTC+09:00". Default: the dates have none.
    order : tuple of str, optional
        All categories of a column whose container orders them, the lowest first.
    is_clock : bool, default False
        Whether numbers are times of day.
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
        """Whether its values are places in `levels`."""
        return self.kind in ("text", "category")

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Which rows have no value."""
        if self.is_text:
            return np.asarray(self.values < 0)
        return np.isnan(self.values) if self.values.dtype.kind == "f" else np.zeros(len(self.values), bool)

    def take(self, rows: ArrayLike | slice) -> Column:
        """The rows of these numbers, or of a mask or slice."""
        at = rows if isinstance(rows, slice) else np.asarray(rows)
        return replace(self, values=self.values[at])

    def cell(self, row: int) -> str:
        """A cell that has a value, as messages show it."""
        value = self.values[row].item()
        if self.is_text:
            return shown(self.levels[value])
        return str(np.datetime64(round(value), "s")) if self.kind == "date" else repr(value)


def read(
    name: str,
    array: NDArray[Any],
    is_category: bool = False,
    order: tuple[str, ...] = (),
    zone: str | None = None,
) -> Column:
    """Return an array (n,) as a column.

    Parameters
    ----------
    name : str
    array : array (n,)
    is_category : bool, default False
        Whether its container calls it a column of categories.
    order : tuple of str, optional
        The ordered categories, see `Column`.
    zone : str, optional
        The time zone of dates, see `Column`; the array has them in UTC.

    Raises
    ------
    TypeError, ValueError
        A cell cannot be in a column; the message names the first one.
    """
    kind = array.dtype.kind
    if is_category or kind in "OTUS":
        column = _of_objects(name, array.tolist(), is_category)
        column.order = order
        return column
    if kind == "b":
        return Column(name, "boolean", array)
    if kind in "iuf":
        return _numbers(name, array)
    if kind == "M":
        return Column(name, "date", _seconds(array), zone=zone)
    if kind == "m":
        return _numbers(name, _seconds(array))
    if kind == "c":
        raise ValueError(f"Complex data not supported: X must hold real numbers, got complex ones in column {name!r}")
    raise TypeError(f"X must hold numbers, text or dates, got elements of type {array.dtype} in column {name!r}")


def _numbers(name: str, values: NDArray[Any]) -> Column:
    """A column of numbers, none of which is infinite."""
    if values.dtype.itemsize > 8:
        values = values.astype(np.float64)
    if values.dtype.kind == "f" and (infinite := np.isinf(values)).any():
        row = int(infinite.argmax())
        raise CellError(
            name,
            row,
            f"expected a finite number, found {values[row]}; where it stands for a missing one, leave the cell empty",
            f"X must have no infinite numbers, got {values[row]} in row ",
            f", column {name!r}; where it stands for a missing number, make it NaN",
        )
    if values.dtype.itemsize == 8 and values.dtype.kind in "iu" and _are_identifiers(values):
        return _levels(name, "text", values.tolist(), str)
    return Column(name, "number", values)


def _are_identifiers(values: NDArray[Any]) -> bool:
    if not len(values) or (values.max() <= MAX_EXACT and values.min() >= -MAX_EXACT):
        return False
    return merges_integers(np.unique(values).tolist())


def merges_integers(items: Iterable[int]) -> bool:
    """Return whether float64 cannot tell more than a few different integers apart, which then are identifiers."""
    different = set(items)
    return len(set(map(float, different))) < (1 - MAX_MERGED_SHARE) * len(different)


def _seconds(times: NDArray[Any]) -> NDArray[np.float64]:
    """Dates as seconds since 1970, or differences in seconds; NaT is NaN."""
    fine = times.astype(f"{times.dtype.kind}8[us]")
    seconds: NDArray[np.float64] = fine.astype(np.int64) / 1e6
    seconds[np.isnat(fine)] = np.nan
    return seconds


# --------------------------------------------------------------------------------------------- objects

TEXT, DATE, SPAN, TRUTH, NUMBER = "text", "a date", "a difference of times", "true or false", "a number"


def _group(kind: type) -> str | None:
    """What objects of a type are to a column; None where they cannot be in one."""
    if issubclass(kind, (str, bytes)):
        return TEXT
    if issubclass(kind, (date, np.datetime64)) or _is_period(kind):
        return DATE
    if issubclass(kind, (time, timedelta, np.timedelta64)):
        return SPAN
    if issubclass(kind, (bool, np.bool_)):
        return TRUTH
    return NUMBER if is_number(kind) else None


def _of_objects(name: str, items: list[Any], is_category: bool) -> Column:
    """A column whose objects say what it is."""
    kinds = {kind for kind in set(map(type, items)) if kind is not type(None) and kind.__name__ not in MISSING}
    if is_category:
        return _levels(name, "category", items, str)
    groups = {_group(kind) for kind in kinds}
    if len(groups) > 1 and NUMBER in groups:
        groups = {_group(type(item)) for item in _different(name, items) if not is_missing(item)}  # it may be NaN
    if groups <= {NUMBER, TRUTH}:
        return _real(name, items, TRUTH if groups == {TRUTH} else NUMBER)
    if None in groups or len(groups) > 1:
        raise _no_column(name, items)
    if groups == {TEXT}:
        return _levels(name, "text", items, _decoded)
    if groups == {DATE}:
        times = [None if is_missing(item) else _utc(item) for item in items]
        return Column(name, "date", _seconds(np.array(times, "M8[us]")), zone=_common_zone(items))
    spans = [None if is_missing(item) else _span(item) for item in items]
    column = _numbers(name, _seconds(np.array(spans, "m8[us]")))
    column.is_clock = all(isinstance(item, time) for item in items if not is_missing(item))
    return column


def _is_period(kind: type) -> bool:
    """Return whether a type is pandas' Period, a date that stands for its day, month or year."""
    return kind.__name__ == "Period" and hasattr(kind, "to_timestamp")


def _common_zone(items: list[Any]) -> str | None:
    """Return the time zone of dates, "UTC" if they have several, None if a date has none."""
    zones = [getattr(item, "tzinfo", None) for item in items if not is_missing(item)]
    if None in zones:
        return None
    names = set(map(zone_name, zones))  # the zones themselves may have no hash
    return names.pop() if len(names) == 1 else "UTC"


def _real(name: str, items: list[Any], group: str) -> Column:
    """A column of numbers, or of True and False, as objects."""
    if group == TRUTH and not any(map(is_missing, set(items))):
        return Column(name, "boolean", np.array(items, bool))
    if _has_inexact_integer(items):
        return _levels(name, "text", items, lambda item: str(int(item)))
    try:
        values = np.array([np.nan if type(item).__name__ in MISSING else item for item in items], np.float64)
    except OverflowError:
        row = next(i for i, item in enumerate(items) if not is_missing(item) and abs(item) > sys.float_info.max)
        raise CellError(
            name,
            row,
            f"expected a number in the range of a float, found {shown(items[row])}",
            f"X must hold numbers in the range of a float, got {shown(items[row])} in row ",
            f", column {name!r}",
        ) from None
    return Column(name, "boolean", values) if group == TRUTH else _numbers(name, values)


def _has_inexact_integer(items: list[Any]) -> bool:
    """Return whether all numbers are integers and float64 does not hold one of them."""
    inexact = False
    for kind, item in zip(map(type, items), items, strict=True):
        if issubclass(kind, (Integral, np.bool_)):
            inexact = inexact or (abs(item) > MAX_EXACT and abs(item) < sys.float_info.max and float(item) != item)
        elif not is_missing(item):
            return False
    return inexact


def _levels(name: str, kind: str, items: list[Any], text: Callable[[Any], str]) -> Column:
    """A column of text: each different one is looked at once."""
    levels: dict[str, int] = {}
    places: dict[Any, int] = {}
    for item in _different(name, items):
        try:
            level = "" if is_missing(item) else text(item)
        except UnicodeDecodeError as error:
            row = items.index(item)
            said = f"X must hold text in UTF-8, got {error} in row "
            raise CellError(name, row, f"expected text in UTF-8: {error}", said, f", column {name!r}") from None
        places[item] = -1 if not level or level.isspace() else levels.setdefault(level, len(levels))
    codes = np.fromiter(map(places.__getitem__, items), np.int32, len(items))
    return Column(name, kind, codes, tuple(levels))


def _different(name: str, items: list[Any]) -> Iterable[Any]:
    """Each object once, in their order."""
    try:
        return dict.fromkeys(items)
    except TypeError:  # a list, say, has no hash
        raise _no_column(name, items) from None


def _decoded(item: str | bytes) -> str:
    return item.decode() if isinstance(item, bytes) else str(item)


def _utc(item: Any) -> Any:
    """A date or time without a time zone; of a period its start."""
    if _is_period(type(item)):
        return item.start_time.to_pydatetime()
    if isinstance(item, datetime) and item.tzinfo is not None:
        return item.astimezone(UTC).replace(tzinfo=None)
    return item


def _span(item: Any) -> Any:
    """A difference of times; a time of day since midnight."""
    if isinstance(item, time):
        return timedelta(hours=item.hour, minutes=item.minute, seconds=item.second, microseconds=item.microsecond)
    return item


def _no_column(name: str, items: Iterable[Any]) -> TypeError | ValueError:
    """What to raise for objects that do not go together, or into no column."""
    first: dict[str, tuple[int, Any]] = {}
    for row, item in enumerate(items):
        if not is_missing(item):
            group = _group(type(item))
            if group is None:
                return TypeError(
                    "X: the argument must be a string, a number or a date in every cell, got "
                    f"{shown(item)} of type {type(item).__name__} in row {row}, column {name!r}"
                )
            first.setdefault(NUMBER if group == TRUTH else group, (row, item))
    (row, one), (other_row, other) = list(first.values())[:2]
    return ValueError(
        f"X must have columns of one kind, got {shown(other)} in row {other_row}, column {name!r}, "
        f"beside {shown(one)} in row {row}; make text of all of it, or numbers"
    )


# --------------------------------------------------------------------------------------------- what text says


def as_numbers(column: Column) -> Column:
    """A column of numbers, or of text that is; ValueError with the first cell that is none."""
    return _said(column, "numbers", "number", _number)


def as_dates(column: Column) -> Column:
    """A column of dates, or of text that is, as ISO 8601 has it; ValueError with the first cell that is none."""
    return _said(column, "dates", "date", _date)


def as_truths(column: Column) -> Column:
    """Return text such as "True" and "no" as booleans; a number that is text is left to `as_numbers`.

    Raises
    ------
    CellError
        A cell is neither; the message names the first one.
    """
    return _said(column, "true or false", "boolean", lambda text: float(TRUTHS[text.strip().casefold()]))


def as_levels(column: Column, levels: Iterable[str]) -> Column:
    """Return numbers or booleans as text, written as those of these levels that mean the same.

    The integer 1 is "1" or "1.0", and true is "True", "true", "yes" or "1". A value that no level means keeps its usual
    text if all levels are numbers.

    Raises
    ------
    CellError
        A value cannot be one of the levels; the message names the first one.
    """
    known = set(levels)
    numeric = all(map(NUMBER_TEXT.fullmatch, known))
    there = ~column.missing
    different, places = np.unique(column.values[there], return_inverse=True)
    texts: dict[str, int] = {}
    codes = []
    for place, value in enumerate(different):
        forms = _forms(value, column.kind == "boolean", known)
        text = next((form for form in forms if form in known), None)
        if text is None and not numeric:
            row = int(np.flatnonzero(there)[(places == place).argmax()])
            raise wrong_kind(column, "text", row)
        codes.append(texts.setdefault(text or forms[0], len(texts)))
    values = np.full(len(there), -1, np.int32)
    values[there] = np.array(codes, np.int32)[places]
    return Column(column.name, "text", values, tuple(texts))


def _forms(value: Any, is_truth: bool, known: Iterable[str]) -> list[str]:
    """Return the texts that mean a value, the usual one first."""
    if is_truth:
        return [str(bool(value)), *(text for text in known if TRUTHS.get(text.casefold()) is bool(value))]
    text = str(value)
    if not isinstance(value, np.floating):
        return [text, f"{text}.0"]
    return [str(int(value)), f"{int(value)}.0"] if value == np.floor(value) else [text]


def _said(column: Column, what: str, kind: str, parse: Callable[[str], float]) -> Column:
    if column.kind == kind or (kind == "number" and column.kind == "boolean"):
        return column
    if column.is_text:
        values = np.empty(len(column.levels) + 1)
        values[-1] = np.nan  # where places -1 lead
        for place, level in enumerate(column.levels):
            try:
                values[place] = parse(level)
            except (KeyError, ValueError):
                rows = np.flatnonzero(column.values == place)
                if len(rows):  # else other rows of its table have it
                    raise wrong_kind(column, what, int(rows[0])) from None
                values[place] = np.nan
        return Column(column.name, kind, values[column.values])
    there = ~column.missing
    if there.any():
        raise wrong_kind(column, what, int(there.argmax()))
    return Column(column.name, kind, np.full(len(there), np.nan))


def wrong_kind(column: Column, what: str, row: int) -> CellError:
    """What to raise where a later table has something else in a column than the training rows."""
    found = column.cell(row)
    return CellError(
        column.name,
        row,
        f"expected {what}, as in training, found {found}",
        f"X must have {what} in column {column.name!r}, as the training rows had, got {found} in row ",
    )


def _number(text: str) -> float:
    if not NUMBER_TEXT.fullmatch(text):
        raise ValueError(text)
    value = float(text)
    if abs(value) == float("inf"):
        raise ValueError(text)
    return value


def _date(text: str) -> float:
    moment = iso_date(text)
    if moment is None:
        raise ValueError(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def iso_date(text: str) -> datetime | None:
    """Return a date of ISO 8601 with or without a time, None of other text."""
    if not DATE_TEXT.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text.strip())
    except ValueError:  # the 30th of February
        return None
