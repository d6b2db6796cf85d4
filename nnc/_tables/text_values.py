"""Formats of text columns whose cells are numbers, dates or times of day.

The format of a column is determined from the training rows (see format_search.py) and saved with the model. It is used
for all tables that the model reads, so that a text has the same value in each table.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nnc._tables.cells import Column, is_missing_text, iso_date, wrong_kind_error
from nnc._tables.encoding import from_members, text_list
from nnc._tables.notices import ColumnWarning
from nnc._tables.zones import local_moment, offset_name
from nnc._utils import fields
from nnc._utils.notices import warn_user
from nnc._utils.value import Value, field

if TYPE_CHECKING:
    from collections.abc import Callable

SPACES = " \u00a0\u2009\u202f"
SIGN = "[+\\-\u2212]?"
CURRENCY_CODES = "USD EUR GBP CHF JPY CNY INR CAD AUD NZD SEK NOK DKK PLN CZK HUF BRL MXN ZAR KRW TRY RUB"
CURRENCY = rf"(?:[$\u00a2-\u00a5\u20a0-\u20c0]|{CURRENCY_CODES.replace(' ', '|')})"
GROUPING_PATTERNS = {"": "", ",": ",", ".": r"\.", " ": f"[{SPACES}]", "'": "['\u2019]"}
AMBIGUOUS_NUMBER = re.compile(r"[1-9]\d{0,2}([.,])\d{3}")  # this pattern matches "1.234", which may mean 1234
TIME_PATTERN = r"(?P<hour>[01]?\d|2[0-3]):(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d)(?P<part>[.,]\d+)?)?"
TIME_PATTERN += r"(?:\s?(?P<half>[APap])[Mm])?"
DATE_PATTERNS = {"ymd": r"(\d{4})([-/.])(\d\d?)\2(\d\d?)", "mdy": r"(\d\d?)([-/])(\d\d?)\2(\d{4})",
                 "dmy": r"(\d\d?)([-/.])(\d\d?)\2(\d{4})"}  # fmt: skip
DATE_TIME_PATTERNS = {
    order: re.compile(rf"{day}(?:(?:T|,?\s+){TIME_PATTERN})?", re.ASCII) for order, day in DATE_PATTERNS.items()
}
TIME_OF_DAY = re.compile(TIME_PATTERN, re.ASCII)


class Format(Value):
    """Base class of formats, which convert the text of a column to numbers or dates.

    Parameters
    ----------
    missing : tuple of str
        Unreadable texts of the training rows. They count as missing, like the texts in nnc._tables.cells.MISSING_TEXTS.

    Attributes
    ----------
    type : str
        Name of the format in model files.
    kind : {"number", "date"}
        Kind of the columns that `read` returns.
    """

    type: ClassVar[str]
    kind: ClassVar[str]

    missing: tuple[str, ...] = field(default=(), check=text_list)

    def parse(self, text: str) -> float | None:
        """Convert text without surrounding blanks to a number or to seconds; return None if it has another format."""
        raise NotImplementedError

    @property
    def expected(self) -> str:
        """Description of the cells that the format reads, for error messages."""
        raise NotImplementedError

    def parse_in_zone(self, text: str, zone: str | None) -> float | None:
        """Convert text as `parse` does, and a date with an offset from UTC to the local time of `zone`."""
        return self.parse(text)

    def read(self, column: Column, zone: str | None = None) -> Column:
        """Convert a column to numbers or dates.

        Parameters
        ----------
        column : Column
        zone : str, optional
            Time zone to which dates with an offset from UTC are converted. Default: dates are not converted.

        Raises
        ------
        CellError
            The format does not match a cell; the message locates the first such cell.
        """
        if not column.is_text:
            return self.convert_values(column)
        used, unreadable = np.unique(column.values), frozenset(self.missing)
        values = np.full(len(column.levels) + 1, np.nan)  # missing cells have index -1, which selects the last element
        invalid = []
        for code in used[used >= 0].tolist():
            text = column.levels[code].strip()
            if is_missing_text(text) or text in unreadable:
                continue
            value = self.parse_in_zone(text, zone)
            if value is None:
                invalid.append(code)
            else:
                values[code] = value
        if invalid:
            raise wrong_kind_error(column, self.expected, int(np.isin(column.values, invalid).argmax()))
        return Column(column.name, self.kind, values[column.values])

    def convert_values(self, column: Column) -> Column:
        """Convert a column that is not text to `self.kind`; raise CellError if its values are ambiguous."""
        return column

    def document(self) -> dict[str, Any]:
        """Return the parameters of the format as a JSON object."""
        values = {name: getattr(self, name) for name in self._fields}
        return {"type": self.type, **values, "missing": list(self.missing)}


def _require_text(column: Column, expected: str) -> None:
    """Raise CellError for the first cell that is not missing, because the column must be text."""
    present = ~column.missing
    if present.any():
        raise wrong_kind_error(column, expected, int(present.argmax()))


# --------------------------------------------------------------------------------------------- numbers


def _choice(*values: Any) -> Callable[[str, Any], Any]:
    """Return a function that checks a field of a format: it raises ValueError unless the field is one of `values`."""

    def check(name: str, value: Any) -> Any:
        if value not in values or type(value) is not type(values[0]):
            raise ValueError(f"{name} must be one of {', '.join(map(repr, values))}, got {value!r}")
        return value

    return check


def _currency(name: str, value: Any) -> str:
    """Return `value` if it is "" or the symbol or code of a currency; otherwise raise ValueError."""
    if type(value) is not str or (value and not re.fullmatch(CURRENCY, value)):
        raise ValueError(f"{name} must be the symbol or code of a currency, got {value!r}")
    return value


class NumberFormat(Format):
    """Format of decimal numbers, optionally with thousands separators, a percent sign or a currency.

    Parameters
    ----------
    missing : tuple of str
        Unreadable texts of the training rows, which count as missing.
    decimal : {".", ","}
        Decimal mark.
    grouping : {"", ",", ".", " ", "'"}
        Thousands separator; "" if no training row has one.
    percent : bool
        Whether each cell ends with %. The value of a cell is the number before the sign.
    currency : str
        Symbol or code with which a cell may begin or end; "" if there is none.
    three_digits : {"", ",", ".", ",."}
        Marks that are ambiguous in a text of the training rows. A mark is ambiguous if it is the only one and precedes
        the last three digits, as in "1,234": it is either a decimal mark or a thousands separator.
    """

    type = "number"
    kind = "number"

    decimal: str = field(default=".", check=_choice(".", ","))
    grouping: str = field(default="", check=_choice(*GROUPING_PATTERNS))
    percent: bool = field(default=False, check=_choice(False, True))
    currency: str = field(default="", check=_currency)
    three_digits: str = field(default="", check=_choice("", ",", ".", ",."))

    def __post_init__(self) -> None:
        if self.decimal == self.grouping:
            raise ValueError(f"grouping must differ from decimal, got {self.grouping!r} for both")

    def parse(self, text: str) -> float | None:
        """Convert text without surrounding blanks to a number; return None if it has another format."""
        match = _number_pattern(self.decimal, self.grouping, self.percent, self.currency).fullmatch(text)
        if match is None or (match["sign"] and match["inner"]):
            return None
        digits = match["digits"]
        for mark in SPACES if self.grouping == " " else "'\u2019" if self.grouping == "'" else self.grouping:
            digits = digits.replace(mark, "")
        value = float(digits.replace(self.decimal, "."))
        if value == float("inf"):
            return None
        return value if (match["sign"] or match["inner"] or "+") == "+" else -value

    def write(self, value: float) -> str:
        """Convert a number to text in this format, without thousands separators and currency."""
        return f"{np.format_float_positional(value, trim='-').replace('.', self.decimal)}{'%' * self.percent}"

    @property
    def is_plain(self) -> bool:
        """Return whether numbers have a decimal point, and no thousands separator, percent sign or currency."""
        return (self.decimal, self.grouping, self.percent, self.currency) == (".", "", False, "")

    @property
    def example(self) -> str:
        """Example of a number in this format, such as "$1,234.5", for messages."""
        thousand = f"1{self.grouping}234" if self.grouping else "12"
        return f"{self.currency}{thousand}{self.decimal}5{'%' * self.percent}"

    @property
    def expected(self) -> str:
        """Description of the cells that the format reads, for error messages."""
        return "numbers" if self.is_plain else f"numbers such as {self.example}"

    def read(self, column: Column, zone: str | None = None) -> Column:
        """Convert a column to numbers, and warn if its texts are ambiguous."""
        numbers = super().read(column, zone)
        if column.is_text:
            self._warn_if_ambiguous(column)
        return numbers

    def _warn_if_ambiguous(self, column: Column) -> None:
        """Warn if all cells with a point or comma are ambiguous, like "1.234", although no cell in training was."""
        marks = set(",.").difference(self.three_digits)
        ambiguous = ""
        for code in np.unique(column.values[column.values >= 0]):
            text = column.levels[code].strip()
            if ("." in text or "," in text) and self.parse(text) is not None:
                if not any(is_ambiguous(text, mark) for mark in marks):
                    return
                ambiguous = ambiguous or text
        if ambiguous:
            warn_user(
                f"column {column.name!r}: the mark in {ambiguous!r} may be a decimal mark or a thousands separator, "
                f"and no training row has such a cell; it is read as {self.parse(ambiguous):g}, in the format of the "
                "training rows; if that is wrong, convert the column to numbers",
                ColumnWarning,
            )

    def convert_values(self, column: Column) -> Column:
        """Return a column that is not text unchanged; raise CellError if the format requires percent signs."""
        if self.percent:  # require text, because 3 % may be stored as the number 3 or 0.03
            _require_text(column, "text such as '3%'")
        return column


@cache
def _number_pattern(decimal: str, grouping: str, percent: bool, currency: str) -> re.Pattern[str]:
    """Return the regular expression for numbers in the format with these parameters, see `NumberFormat`."""
    mark, group = re.escape(decimal), GROUPING_PATTERNS[grouping]
    integer = r"(?:0|[1-9]\d*)"
    if grouping:
        integer = rf"(?:0|[1-9]\d{{0,2}}(?:{group}\d{{3}})+|[1-9]\d*)"
    digits = rf"(?:{integer}(?:{mark}\d*)?|{mark}\d+)" + ("" if grouping else r"(?:[eE][+-]?\d+)?")
    before, after = "", f"[{SPACES}]?%" if percent else ""
    if currency:
        before = rf"(?:{re.escape(currency)}[{SPACES}]?)?"
        after += rf"(?:[{SPACES}]?{re.escape(currency)})?"
    inner = SIGN if currency else ""
    return re.compile(rf"(?P<sign>{SIGN}){before}(?P<inner>{inner})(?P<digits>{digits}){after}", re.ASCII)


def is_ambiguous(text: str, mark: str) -> bool:
    """Return whether `mark` may be a decimal mark or a thousands separator in a text, as in "1.234"."""
    match = AMBIGUOUS_NUMBER.fullmatch(re.sub(r"[^\d.,]", "", text))
    return match is not None and match[1] == mark


# --------------------------------------------------------------------------------------------- dates


class DateFormat(Format):
    """Format of dates with or without a time of day.

    Parameters
    ----------
    missing : tuple of str
        Unreadable texts of the training rows, which count as missing.
    order : {"ymd", "mdy", "dmy"}
        Order of year, month and day. "ymd" is ISO 8601, but the separator may also be / or a point. For "mdy", the
        separator is / or -. For "dmy", it is /, - or a point.
    """

    type = "date"
    kind = "date"

    order: str = field(default="ymd", check=_choice(*DATE_PATTERNS))

    def parse(self, text: str) -> float | None:
        """Convert text without surrounding blanks to seconds since 1970; return None if it has another format."""
        return self.parse_with_offset(text)[0]

    def parse_with_offset(self, text: str) -> tuple[float | None, float | None]:
        """Convert a date to seconds since 1970 (UTC); return the seconds, and the date's offset from UTC in seconds.

        The offset is None if the text has no time zone. Both numbers are None if the text has another format.
        """
        if self.order == "ymd" and (moment := iso_date(text)) is not None:
            offset = moment.utcoffset()
            utc = moment if offset is not None else moment.replace(tzinfo=UTC)
            return utc.timestamp(), None if offset is None else offset.total_seconds()
        match = DATE_TIME_PATTERNS[self.order].fullmatch(text)
        if match is None:
            return None, None
        numbers = dict(zip(self.order, map(int, match.group(1, 3, 4)), strict=True))
        try:
            day = datetime(numbers["y"], numbers["m"], numbers["d"], tzinfo=UTC)
        except ValueError:  # the date does not exist, for example 30 February
            return None, None
        seconds = _seconds_of_day(match) if match["hour"] else 0.0
        return None if seconds is None else (day + timedelta(seconds=seconds)).timestamp(), None

    @property
    def expected(self) -> str:
        """Description of the cells that the format reads, for error messages."""
        return {"ymd": "dates", "mdy": "dates such as 12/31/2024", "dmy": "dates such as 31.12.2024"}[self.order]

    def parse_in_zone(self, text: str, zone: str | None) -> float | None:
        """Convert text to seconds since 1970, in local time of `zone`, or of the zone in the text if `zone` is None."""
        seconds, offset = self.parse_with_offset(text)
        if seconds is None or offset is None:
            return seconds
        return seconds + offset if zone is None else local_moment(seconds, zone)

    def zone(self, column: Column) -> str | None:
        """Return the name of the time zone with the offset from UTC that all dates of a column have.

        The result is "UTC" if the offsets differ, and None if no date has an offset.
        """
        offsets = set()
        for code in np.unique(column.values[column.values >= 0]):
            seconds, offset = self.parse_with_offset(column.levels[code].strip())
            if seconds is not None:
                offsets.add(offset)
        if offsets <= {None}:
            return None
        (offset, *others) = offsets
        return "UTC" if others or offset is None else offset_name(offset)


class TimeFormat(Format):
    """Format of times of day, such as 08:15, 8:15:30 or 8:15 pm, which are read as seconds since midnight."""

    type = "time"
    kind = "date"  # columns of this kind are encoded by `Date`, with features for the time of day

    def parse(self, text: str) -> float | None:
        """Convert text without surrounding blanks to seconds since midnight; return None if it has another format."""
        match = TIME_OF_DAY.fullmatch(text)
        return None if match is None else _seconds_of_day(match)

    @property
    def expected(self) -> str:
        """Description of the cells that the format reads, for error messages."""
        return "times of day such as 08:15"

    def convert_values(self, column: Column) -> Column:
        """Convert a column of times of day to the kind "date"; raise CellError if its values are not times of day."""
        if not column.is_clock:
            _require_text(column, self.expected)
        return Column(column.name, self.kind, column.values)


def _seconds_of_day(match: re.Match[str]) -> float | None:
    """Convert a match of TIME_PATTERN to seconds since midnight; return None for an invalid hour, as in "13 pm"."""
    hour = int(match["hour"])
    if match["half"]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + 12 * (match["half"] in "pP")
    fraction = float(f"0{match['part'].replace(',', '.')}") if match["part"] else 0.0
    return 3600.0 * hour + 60 * int(match["minute"]) + int(match["second"] or 0) + fraction


# --------------------------------------------------------------------------------------------- JSON documents

FORMATS: dict[str, type[Format]] = {format.type: format for format in (NumberFormat, DateFormat, TimeFormat)}


def read_format(document: Any, where: str) -> Format | None:
    """Create a format from a JSON object; return None for null, raise ValueError that locates an invalid field."""
    if document is None:
        return None
    members = fields.json_object(document, where)
    format = FORMATS[fields.choice(members, "type", tuple(FORMATS), f"{where}.")]
    fields.check_keys(members, ("type", *format._fields), where)
    return from_members(format, members, where)
