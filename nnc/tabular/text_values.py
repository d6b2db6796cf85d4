"""Formats of text columns whose cells are numbers, dates or times of day.

The format of a column is found once, from the training rows (format_search.py), and is saved with the model. Later
tables are read by the same format, so a text never changes its value from one table to the next.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nnc._utils import fields
from nnc._utils.value import Value, field
from nnc.tabular.cells import Column, iso_date, wrong_kind_error
from nnc.tabular.encoding import from_members, text_list
from nnc.tabular.notices import ColumnWarning, warn_user
from nnc.tabular.zones import local_moment, offset_name

if TYPE_CHECKING:
    from collections.abc import Callable

MISSING_SIGNS = {"?", "-", "--", "---", "\u2013", "\u2014", ".", "na", "n/a", "n.a.", "n.a", "nan", "null", "nil"}
MISSING_SIGNS |= {"none", "<na>", "unknown", "missing", "#n/a", "#value!", "#div/0!", "#ref!", "#name?", "#num!"}

SPACES = " \u00a0\u2009\u202f"
SIGN = "[+\\-\u2212]?"
CODES = "USD EUR GBP CHF JPY CNY INR CAD AUD NZD SEK NOK DKK PLN CZK HUF BRL MXN ZAR KRW TRY RUB"
CURRENCY = rf"(?:[$\u00a2-\u00a5\u20a0-\u20c0]|{CODES.replace(' ', '|')})"
GROUPINGS = {"": "", ",": ",", ".": r"\.", " ": f"[{SPACES}]", "'": "['\u2019]"}
THOUSAND = re.compile(r"[1-9]\d{0,2}([.,])\d{3}")  # read either as a decimal or as a whole number
TIME = r"(?P<hour>[01]?\d|2[0-3]):(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d)(?P<part>[.,]\d+)?)?"
TIME += r"(?:\s?(?P<half>[APap])[Mm])?"
DAY_FIELDS = {"ymd": r"(\d{4})([-/.])(\d\d?)\2(\d\d?)", "mdy": r"(\d\d?)([-/])(\d\d?)\2(\d{4})",
              "dmy": r"(\d\d?)([-/.])(\d\d?)\2(\d{4})"}  # fmt: skip
DATES = {order: re.compile(rf"{day}(?:(?:T|,?\s+){TIME})?", re.ASCII) for order, day in DAY_FIELDS.items()}
CLOCK = re.compile(TIME, re.ASCII)


class Format(Value):
    """How the text of a column is read.

    Parameters
    ----------
    missing : tuple of str
        Texts of the training rows that could not be read and count as missing, next to `MISSING_SIGNS`.
    """

    type: ClassVar[str]  # in documents
    kind: ClassVar[str]  # of the columns that `read` returns

    missing: tuple[str, ...] = field(default=(), check=text_list)

    def parse(self, text: str) -> float | None:
        """Return the number, or the seconds, that a text without blanks at its ends stands for; None if it cannot be
        read."""
        raise NotImplementedError

    @property
    def expected(self) -> str:
        """Valid cells, as error messages describe them."""
        raise NotImplementedError

    def parse_in(self, text: str, zone: str | None) -> float | None:
        """Return what `parse` does, of dates with an offset from UTC as the local time of a zone."""
        return self.parse(text)

    def read(self, column: Column, zone: str | None = None) -> Column:
        """Return a column as numbers or dates.

        Parameters
        ----------
        column : Column
        zone : str, optional
            The time zone whose local time dates with an offset from UTC become. Default: their own local time.

        Raises
        ------
        CellError
            A cell cannot be read; the message names the first one.
        """
        if not column.is_text:
            return self.accept(column)
        used, unreadable = np.unique(column.values), frozenset(self.missing)
        values = np.full(len(column.levels) + 1, np.nan)  # the last one is for code -1
        bad = []
        for place in used[used >= 0].tolist():
            text = column.levels[place].strip()
            if text.casefold() in MISSING_SIGNS or text in unreadable:
                continue
            value = self.parse_in(text, zone)
            if value is None:
                bad.append(place)
            else:
                values[place] = value
        if bad:
            raise wrong_kind_error(column, self.expected, int(np.isin(column.values, bad).argmax()))
        return Column(column.name, self.kind, values[column.values])

    def accept(self, column: Column) -> Column:
        """Return a column that is not text, if its values mean the same."""
        return column

    def document(self) -> dict[str, Any]:
        """Return the format as JSON holds it."""
        values = {name: getattr(self, name) for name in self._fields}
        return {"type": self.type, **values, "missing": list(self.missing)}


def _refuse_values(column: Column, expected: str) -> None:
    there = ~column.missing
    if there.any():
        raise wrong_kind_error(column, expected, int(there.argmax()))


# --------------------------------------------------------------------------------------------- numbers


def _one_of(*values: Any) -> Callable[[str, Any], Any]:
    def check(name: str, value: Any) -> Any:
        if value not in values or type(value) is not type(values[0]):
            raise ValueError(f"{name} must be one of {', '.join(map(repr, values))}, got {value!r}")
        return value

    return check


def _currency(name: str, value: Any) -> str:
    if type(value) is not str or (value and not re.fullmatch(CURRENCY, value)):
        raise ValueError(f"{name} must be the sign of a currency, got {value!r}")
    return value


class NumberFormat(Format):
    """Numbers with a decimal mark, which may group thousands and have the sign of a currency or of percent.

    Parameters
    ----------
    missing : tuple of str
    decimal : {".", ","}
    grouping : {"", ",", ".", " ", "'"}
        Between thousands; "" if no training row groups them.
    percent : bool
        Whether each cell ends in %; the value is the number before it.
    currency : str
        The sign that cells may begin or end with; "" for none.
    three_digits : {"", ",", ".", ",."}
        Marks for which a training row has a cell such as "1,234": that mark alone, and three digits behind it. Such a
        cell has another value in another convention.
    """

    type = "number"
    kind = "number"

    decimal: str = field(default=".", check=_one_of(".", ","))
    grouping: str = field(default="", check=_one_of(*GROUPINGS))
    percent: bool = field(default=False, check=_one_of(False, True))
    currency: str = field(default="", check=_currency)
    three_digits: str = field(default="", check=_one_of("", ",", ".", ",."))

    def __post_init__(self) -> None:
        if self.decimal == self.grouping:
            raise ValueError(f"grouping must differ from decimal, got {self.grouping!r} for both")

    def parse(self, text: str) -> float | None:
        found = _number_pattern(self.decimal, self.grouping, self.percent, self.currency).fullmatch(text)
        if found is None or (found["sign"] and found["inner"]):
            return None
        digits = found["digits"]
        for mark in SPACES if self.grouping == " " else "'\u2019" if self.grouping == "'" else self.grouping:
            digits = digits.replace(mark, "")
        value = float(digits.replace(self.decimal, "."))
        if value == float("inf"):
            return None
        return value if (found["sign"] or found["inner"] or "+") == "+" else -value

    def write(self, value: float) -> str:
        """Return the text of a number."""
        return f"{np.format_float_positional(value, trim='-').replace('.', self.decimal)}{'%' * self.percent}"

    @property
    def is_plain(self) -> bool:
        """Whether cells are written as Python writes numbers."""
        return (self.decimal, self.grouping, self.percent, self.currency) == (".", "", False, "")

    @property
    def example(self) -> str:
        """A number in this format."""
        thousand = f"1{self.grouping}234" if self.grouping else "12"
        return f"{self.currency}{thousand}{self.decimal}5{'%' * self.percent}"

    @property
    def expected(self) -> str:
        return "numbers" if self.is_plain else f"numbers such as {self.example}"

    def read(self, column: Column, zone: str | None = None) -> Column:
        read = super().read(column, zone)
        if column.is_text:
            self._warn_of_three_digits(column)
        return read

    def _warn_of_three_digits(self, column: Column) -> None:
        """Warn where all cells with a mark may have another value in another convention, and no training row is so."""
        marks = set(",.").difference(self.three_digits)
        doubtful = ""
        for place in np.unique(column.values[column.values >= 0]):
            text = column.levels[place].strip()
            if ("." in text or "," in text) and self.parse(text) is not None:
                if not any(is_thousand(text, mark) for mark in marks):
                    return
                doubtful = doubtful or text
        if doubtful:
            warn_user(
                f"column {column.name!r}: {doubtful!r} may have decimals or separated thousands, and no training row "
                f"has such a cell; it is read as {self.parse(doubtful):g}, by the format of training; if that is not "
                "meant, convert the column to numbers",
                ColumnWarning,
            )

    def accept(self, column: Column) -> Column:
        if self.percent:  # 3 % may be 3 or 0.03
            _refuse_values(column, "text such as '3%'")
        return column


@cache
def _number_pattern(decimal: str, grouping: str, percent: bool, currency: str) -> re.Pattern[str]:
    mark, group = re.escape(decimal), GROUPINGS[grouping]
    whole = r"(?:0|[1-9]\d*)"
    if grouping:
        whole = rf"(?:0|[1-9]\d{{0,2}}(?:{group}\d{{3}})+|[1-9]\d*)"
    digits = rf"(?:{whole}(?:{mark}\d*)?|{mark}\d+)" + ("" if grouping else r"(?:[eE][+-]?\d+)?")
    before, after = "", f"[{SPACES}]?%" if percent else ""
    if currency:
        before = rf"(?:{re.escape(currency)}[{SPACES}]?)?"
        after += rf"(?:[{SPACES}]?{re.escape(currency)})?"
    inner = SIGN if currency else ""
    return re.compile(rf"(?P<sign>{SIGN}){before}(?P<inner>{inner})(?P<digits>{digits}){after}", re.ASCII)


def is_thousand(text: str, mark: str) -> bool:
    """Return whether a number is written as "1.234" with this mark, which may be a decimal or a whole number."""
    found = THOUSAND.fullmatch(re.sub(r"[^\d.,]", "", text))
    return found is not None and found[1] == mark


# --------------------------------------------------------------------------------------------- dates


class DateFormat(Format):
    """Dates, with or without a time of day.

    Parameters
    ----------
    missing : tuple of str
    order : {"ymd", "mdy", "dmy"}
        "ymd" is ISO 8601, also with / or a point. "mdy" has / or -, "dmy" a point as well.
    """

    type = "date"
    kind = "date"

    order: str = field(default="ymd", check=_one_of(*DAY_FIELDS))

    def parse(self, text: str) -> float | None:
        return self.parse_with_offset(text)[0]

    def parse_with_offset(self, text: str) -> tuple[float | None, float | None]:
        """Return the seconds since 1970 and the offset from UTC in seconds, None if the text has none; an offset is
        subtracted from the seconds."""
        if self.order == "ymd" and (moment := iso_date(text)) is not None:
            offset = moment.utcoffset()
            utc = moment if offset is not None else moment.replace(tzinfo=UTC)
            return utc.timestamp(), None if offset is None else offset.total_seconds()
        found = DATES[self.order].fullmatch(text)
        if found is None:
            return None, None
        numbers = dict(zip(self.order, map(int, found.group(1, 3, 4)), strict=True))
        try:
            day = datetime(numbers["y"], numbers["m"], numbers["d"], tzinfo=UTC)
        except ValueError:  # the 30th of February
            return None, None
        seconds = _seconds_of_day(found) if found["hour"] else 0.0
        return None if seconds is None else (day + timedelta(seconds=seconds)).timestamp(), None

    @property
    def expected(self) -> str:
        return {"ymd": "dates", "mdy": "dates such as 12/31/2024", "dmy": "dates such as 31.12.2024"}[self.order]

    def parse_in(self, text: str, zone: str | None) -> float | None:
        seconds, offset = self.parse_with_offset(text)
        if seconds is None or offset is None:
            return seconds
        return seconds + offset if zone is None else local_moment(seconds, zone)

    def zone(self, column: Column) -> str | None:
        """Return the time zone of text: the offset from UTC that all dates have, "UTC" if it is not the same for all,
        None if no date has one."""
        offsets = set()
        for place in np.unique(column.values[column.values >= 0]):
            seconds, offset = self.parse_with_offset(column.levels[place].strip())
            if seconds is not None:
                offsets.add(offset)
        if offsets <= {None}:
            return None
        (offset, *others) = offsets
        return "UTC" if others or offset is None else offset_name(offset)


class TimeFormat(Format):
    """Times of day, such as 08:15, 8:15:30 or 8:15 pm: seconds since midnight."""

    type = "time"
    kind = "date"  # whose encoding has the time of day on a circle

    def parse(self, text: str) -> float | None:
        found = CLOCK.fullmatch(text)
        return None if found is None else _seconds_of_day(found)

    @property
    def expected(self) -> str:
        return "times of day such as 08:15"

    def accept(self, column: Column) -> Column:
        if not column.is_clock:
            _refuse_values(column, self.expected)
        return Column(column.name, self.kind, column.values)


def _seconds_of_day(found: re.Match[str]) -> float | None:
    hour = int(found["hour"])
    if found["half"]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + 12 * (found["half"] in "pP")
    part = float(f"0{found['part'].replace(',', '.')}") if found["part"] else 0.0
    return 3600.0 * hour + 60 * int(found["minute"]) + int(found["second"] or 0) + part


# --------------------------------------------------------------------------------------------- documents

FORMATS: dict[str, type[Format]] = {format.type: format for format in (NumberFormat, DateFormat, TimeFormat)}


def read_format(document: Any, where: str) -> Format | None:
    """Return the format of a document, None of null; ValueError with place and reason if it is invalid."""
    if document is None:
        return None
    members = fields.members_of(document, where)
    format = FORMATS[fields.name(members, "type", tuple(FORMATS), f"{where}.")]
    fields.exactly(members, ("type", *format._fields), where)
    return from_members(format, members, where)
