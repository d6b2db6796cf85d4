"""Formats of text columns whose cells are numbers, dates or times of day.

The format of a column is found once, from all cells of the training rows, and is saved with the model. Later tables are
read by the same format, so a text never changes its value from one table to the next::

    found = find_format(column)  # found.format is None where the column stays text
    found.format.read(column)  # the column as numbers or dates
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import cache
from reprlib import repr as shown
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from nnc.base import fields
from nnc.base.value import Value, field
from nnc.tabular.cells import Column, iso_date, merges_integers, wrong_kind
from nnc.tabular.encoding import some_texts
from nnc.tabular.notices import ColumnWarning, warn_user
from nnc.tabular.zones import local_moment, offset_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

MAX_BAD_SHARE = 0.1  # of the cells: a column with more unreadable ones stays text
MIN_NUMBERS = 10  # different values from which on a few unreadable cells are slips; fewer values are categories
MIN_LOOKALIKE_SHARE = 0.5  # of the cells that look like numbers or dates, from which on lost text is warned of
MAX_LOOKALIKE_LENGTH = 40  # characters: longer text is prose
MISSING_SIGNS = {"?", "-", "--", "---", "\u2013", "\u2014", ".", "na", "n/a", "n.a.", "n.a", "nan", "null", "nil"}
MISSING_SIGNS |= {
    "none",
    "<na>",
    "unknown",
    "missing",
    "#n/a",
    "#value!",
    "#div/0!",
    "#ref!",
    "#name?",
    "#num!",
    "#null!",
}

SPACES = " \u00a0\u2009\u202f"
SIGN = "[+\\-\u2212]?"
CODES = "USD EUR GBP CHF JPY CNY INR CAD AUD NZD SEK NOK DKK PLN CZK HUF BRL MXN ZAR KRW TRY RUB"
CURRENCY = rf"(?:[$\u00a2-\u00a5\u20a0-\u20c0]|{CODES.replace(' ', '|')})"
GROUPINGS = {"": "", ",": ",", ".": r"\.", " ": f"[{SPACES}]", "'": "['\u2019]"}
CONVENTIONS = [(".", ""), (".", ","), (",", ""), (",", "."), (".", " "), (",", " "), (".", "'"), (",", "'")]
DIGIT = re.compile("[0-9]")
LEADING_ZERO = re.compile(r"[+-]?0\d+", re.ASCII)
CURRENCY_BEFORE = re.compile(rf"{SIGN}({CURRENCY})")
SIGN_AFTER = re.compile(rf"(?:{CURRENCY}|%)$")
MAX_SIGN_LENGTH = 4  # characters of the longest currency, and one more
THOUSAND = re.compile(r"[1-9]\d{0,2}([.,])\d{3}")  # read either as a decimal or as a whole number
TIME = r"(?P<hour>[01]?\d|2[0-3]):(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d)(?P<part>[.,]\d+)?)?"
TIME += r"(?:\s?(?P<half>[APap])[Mm])?"
DAY_FIELDS = {"ymd": r"(\d{4})([-/.])(\d\d?)\2(\d\d?)", "mdy": r"(\d\d?)([-/])(\d\d?)\2(\d{4})",
              "dmy": r"(\d\d?)([-/.])(\d\d?)\2(\d{4})"}  # fmt: skip
DATES = {order: re.compile(rf"{day}(?:(?:T|,?\s+){TIME})?", re.ASCII) for order, day in DAY_FIELDS.items()}
CLOCK = re.compile(TIME, re.ASCII)
LOOKALIKE = re.compile(
    rf"{SIGN}{CURRENCY}?\s?{SIGN}\d[\d.,:/'\s]*(?:[^\W\d_]{{1,4}}\.?|%)?|\d{{1,4}}([-/.])\d\d?\1\d{{2,4}}\b.*"
)


class Format(Value):
    """How the text of a column is read.

    Parameters
    ----------
    missing : tuple of str
        Texts of the training rows that could not be read and count as missing, next to `MISSING_SIGNS`.
    """

    type: ClassVar[str]  # in documents
    kind: ClassVar[str]  # of the columns that `read` returns

    missing: tuple[str, ...] = field(default=(), check=some_texts)

    def parse(self, text: str) -> float | None:
        """Return the number, or the seconds, that a text without blanks at its ends stands for; None if it cannot be
        read."""
        raise NotImplementedError

    @property
    def expected(self) -> str:
        """What error messages expect."""
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
        used = np.unique(column.values)
        values = np.full(len(column.levels) + 1, np.nan)  # the last one is for code -1
        bad = []
        for place in used[used >= 0].tolist():
            text = column.levels[place].strip()
            if text.casefold() in MISSING_SIGNS or text in self.missing:
                continue
            value = self.parse_in(text, zone)
            if value is None:
                bad.append(place)
            else:
                values[place] = value
        if bad:
            raise wrong_kind(column, self.expected, int(np.isin(column.values, bad).argmax()))
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
        raise wrong_kind(column, expected, int(there.argmax()))


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
    thousandths : bool
        Whether a training row has a cell such as "1.234", which another convention reads as 1234.
    """

    type = "number"
    kind = "number"

    decimal: str = field(default=".", check=_one_of(".", ","))
    grouping: str = field(default="", check=_one_of(*GROUPINGS))
    percent: bool = field(default=False, check=_one_of(False, True))
    currency: str = field(default="", check=_currency)
    thousandths: bool = field(default=False, check=_one_of(False, True))

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
        if column.is_text and not self.thousandths:
            self._warn_of_thousandths(column)
        return read

    def _warn_of_thousandths(self, column: Column) -> None:
        """Warn where all cells of a later table with a decimal mark might be whole numbers of another convention."""
        texts = [column.levels[place].strip() for place in np.unique(column.values[column.values >= 0])]
        marked = [text for text in texts if self.decimal in text]
        if marked and all(_is_thousand(text, self.decimal) for text in marked):
            warn_user(
                f"column {column.name!r} has {marked[0]!r}, where the training rows had no numbers with three decimals;"
                f" it is read with {self.decimal!r} as the decimal mark, as in training; if that is not meant, convert "
                "the column to numbers",
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


def _is_thousand(text: str, mark: str) -> bool:
    found = THOUSAND.search(re.sub(r"[^\d.,]", "", text))
    return found is not None and found[1] == mark and len(found[0]) == len(re.sub(r"[^\d.,]", "", text))


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
        return column


def _seconds_of_day(found: re.Match[str]) -> float | None:
    hour = int(found["hour"])
    if found["half"]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + 12 * (found["half"] in "pP")
    part = float(f"0{found['part'].replace(',', '.')}") if found["part"] else 0.0
    return 3600.0 * hour + 60 * int(found["minute"]) + int(found["second"] or 0) + part


# --------------------------------------------------------------------------------------------- finding a format


class Found(NamedTuple):
    """The format of a column.

    Attributes
    ----------
    format : Format or None
        None if the column is not text, or stays text.
    warning : str
        What the user should know about it; "" for nothing.
    lookalike : str
        A cell of a column that stays text although most of its cells look like numbers or dates; "" if it does not.
    """

    format: Format | None = None
    warning: str = ""
    lookalike: str = ""


class _Trial(NamedTuple):
    """What a format makes of the different texts of a column."""

    format: Format
    values: list[float | None]
    rows: int  # whose text it can read


def find_format(column: Column) -> Found:
    """Return the format that fits all cells of a text column, or all but a few.

    A format is used if it reads all cells that are not missing, or at least 90 % of them and more than 10 different
    values. Texts of digits that begin with 0, such as postal codes, are never numbers.
    """
    if column.kind != "text" or not column.levels:
        return Found()
    counts = np.bincount(column.values[column.values >= 0], minlength=len(column.levels)).tolist()
    texts: dict[str, int] = {}
    for level, rows in zip(column.levels, counts, strict=True):
        text = level.strip()
        if rows and text.casefold() not in MISSING_SIGNS:
            texts[text] = texts.get(text, 0) + rows
    if not texts:
        return Found()
    if sum(rows for text, rows in texts.items() if DIGIT.search(text)) < (1 - MAX_BAD_SHARE) * sum(texts.values()):
        return Found(lookalike=_lookalike(texts))
    if any(LEADING_ZERO.match(text) and not re.search("[:/.-]", text[1:]) for text in texts):
        return Found()
    names = list(texts)
    for find in (_find_number, _find_date, _find_time):
        trial, remark = find(names, texts)
        if trial is not None and _fits(trial, sum(texts.values())):
            return _finished(column.name, trial, remark, texts)
    return Found(lookalike=_lookalike(texts))


def _lookalike(texts: Mapping[str, int]) -> str:
    alike = [text for text in texts if len(text) <= MAX_LOOKALIKE_LENGTH and LOOKALIKE.fullmatch(text)]
    if sum(texts[text] for text in alike) < MIN_LOOKALIKE_SHARE * sum(texts.values()):
        return ""
    return alike[0]


def _try(format: Format, names: list[str], texts: Mapping[str, int]) -> _Trial:
    values = [format.parse(name) for name in names]
    readable = [name for name, value in zip(names, values, strict=True) if value is not None]
    return _Trial(format, values, sum(texts[name] for name in readable))


def _fits(trial: _Trial, rows: int) -> bool:
    if trial.rows == rows:
        return True
    return trial.rows >= (1 - MAX_BAD_SHARE) * rows and len(set(trial.values)) - 1 > MIN_NUMBERS


def _finished(name: str, trial: _Trial, remark: str, texts: Mapping[str, int]) -> Found:
    """Return the format of a trial with the texts that it cannot read, and a warning of them."""
    pairs = list(zip(texts, trial.values, strict=True))
    if isinstance(trial.format, NumberFormat):
        whole = [text for text, value in pairs if value is not None and value == int(value)]
        if merges_integers([int(text) for text in whole if re.fullmatch(r"[+-]?\d+", text, re.ASCII)]):
            return Found()  # identifiers that float64 cannot tell apart
    bad = [text for text, value in pairs if value is None]
    format = trial.format.replace(missing=tuple(sorted(bad)))
    remarks = [remark] if remark else []
    if bad:
        cells = sum(texts[text] for text in bad)
        what = {"number": "numbers", "date": "dates", "time": "times of day"}[format.type]
        remarks.append(
            f"{cells} of {sum(texts.values())} cells cannot be read as {what}, such as {shown(bad[0])}, and "
            f"count{'s' * (cells == 1)} as missing; correct such cells or leave them empty"
        )
    return Found(format, f"column {name!r}: {'; '.join(remarks)}" if remarks else "")


def _find_number(names: list[str], texts: Mapping[str, int]) -> tuple[_Trial | None, str]:
    plain = _try(NumberFormat(), names, texts)
    if plain.rows == sum(texts.values()):
        return _with_thousandths(plain, names), ""
    currencies: dict[str, int] = {}
    percent = 0
    for name in names:
        before, after = CURRENCY_BEFORE.match(name), SIGN_AFTER.search(name[-MAX_SIGN_LENGTH:])
        percent += texts[name] * (after is not None and after[0] == "%")
        sign = before[1] if before else after[0].replace("%", "") if after else ""
        if sign:
            currencies[sign] = currencies.get(sign, 0) + texts[name]
    is_percent = 2 * percent > sum(texts.values())
    currency = max(sorted(currencies), key=lambda sign: currencies[sign], default="")
    trials = [
        _try(NumberFormat(decimal=decimal, grouping=grouping, percent=is_percent, currency=currency), names, texts)
        for decimal, grouping in CONVENTIONS
    ]
    best = max(trials, key=lambda trial: trial.rows)  # the first of several
    format, other = best.format, next((t for t in trials if t.rows == best.rows and t.values != best.values), None)
    assert isinstance(format, NumberFormat)
    remark = ""
    if other is not None and (format.decimal, format.grouping) == (".", ","):
        text = next(name for name, a, b in zip(names, best.values, other.values, strict=True) if a != b)
        remark = (
            f"the comma in {text!r} may separate thousands or decimals, and no cell decides which; it is read as "
            f"{best.values[names.index(text)]:g}; if that is not meant, convert the column to numbers"
        )
    return _with_thousandths(best, names), remark


def _with_thousandths(trial: _Trial, names: Iterable[str]) -> _Trial:
    """Record whether cells have three decimals, which later tables may then have without a warning."""
    format = trial.format
    assert isinstance(format, NumberFormat)
    pairs = zip(names, trial.values, strict=True)
    found = any(value is not None and _is_thousand(name, format.decimal) for name, value in pairs)
    return trial._replace(format=format.replace(thousandths=found))


def _find_date(names: list[str], texts: Mapping[str, int]) -> tuple[_Trial | None, str]:
    trials = [_try(DateFormat(order=order), names, texts) for order in DAY_FIELDS]
    best = max(trials, key=lambda trial: trial.rows)
    other = next((t for t in trials if t.rows == best.rows and t.values != best.values), None)
    if best.rows == 0 or other is None:
        return best, ""
    parts = [found for name in names if (found := DATES["mdy"].fullmatch(name))]
    if len({found[1] for found in parts}) == 1 < len({found[3] for found in parts}):
        best = other  # such as the first day of each month
    assert isinstance(best.format, DateFormat)
    order = {"mdy": "month first", "dmy": "day first"}[best.format.order]
    text = next(name for name, value in zip(names, best.values, strict=True) if value is not None)
    return best, (
        f"dates such as {text!r} may have the day or the month first, and no cell decides which; they are read with "
        f"the {order}; if that is not meant, convert the column to dates"
    )


def _find_time(names: list[str], texts: Mapping[str, int]) -> tuple[_Trial | None, str]:
    return _try(TimeFormat(), names, texts), ""


# --------------------------------------------------------------------------------------------- documents

FORMATS: dict[str, type[Format]] = {format.type: format for format in (NumberFormat, DateFormat, TimeFormat)}


def read_format(document: Any, where: str) -> Format | None:
    """Return the format of a document, None of null; ValueError with place and reason if it is invalid."""
    if document is None:
        return None
    members = fields.members_of(document, where)
    format = FORMATS[fields.name(members, "type", tuple(FORMATS), f"{where}.")]
    fields.exactly(members, ("type", *format._fields), where)
    try:
        return format(**{name: members[name] for name in format._fields})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}.{error}") from None
