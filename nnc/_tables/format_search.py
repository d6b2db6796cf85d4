"""Search for the number or date format of a text column, based on all cells of the training rows.

Usage::

    search = find_format(column)  # search.format is None if the column remains text
    search.format.read(column)  # the column as numbers or dates
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nnc._tables.cells import Column, is_missing_text, merges_integers
from nnc._tables.text_values import (
    CURRENCY,
    DATE_PATTERNS,
    DATE_TIME_PATTERNS,
    SIGN,
    DateFormat,
    Format,
    NumberFormat,
    TimeFormat,
    is_ambiguous,
)
from nnc._utils.checks import short_repr

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_UNREADABLE_FRACTION = 0.1  # a column remains text if more than this fraction of its cells is unreadable
MIN_DISTINCT_VALUES = 10  # with an unreadable cell and up to this number of distinct values, a column remains text
MIN_LOOKALIKE_FRACTION = 0.5  # warn if at least this fraction of a text column looks like numbers or dates
MAX_LOOKALIKE_LENGTH = 40  # text with more characters does not count as similar to a number or date
# Pairs of decimal mark and thousands separator. The pair that reads the most rows is used, the first pair in a tie.
CONVENTIONS = [(".", ""), (".", ","), (",", ""), (",", "."), (".", " "), (",", " "), (".", "'"), (",", "'")]
DIGIT = re.compile("[0-9]")
LEADING_ZERO = re.compile(r"[+-]?0\d+", re.ASCII)
CURRENCY_BEFORE = re.compile(rf"{SIGN}({CURRENCY})")
UNIT_AFTER = re.compile(rf"(?:{CURRENCY}|%)$")
MAX_UNIT_LENGTH = 4  # maximum number of characters of a currency or percent sign at the end of a cell
LOOKALIKE = re.compile(
    rf"{SIGN}{CURRENCY}?\s?{SIGN}\d[\d.,:/'\s]*(?:[°%‰]?[^\W\d_]{{0,4}}(?:/[^\W\d_]{{1,4}})?\.?)?|\d{{1,4}}([-/.])\d\d?\1\d{{2,4}}\b.*"
)


class FormatSearch(NamedTuple):
    """Result of the search for the format of a column.

    Attributes
    ----------
    format : Format or None
        Format that reads the cells as numbers or dates; None if the column is not text, or has no such format.
    warning : str
        Warning for the user about unreadable cells or ambiguous texts; "" if there is no reason to warn.
    lookalike : str
        Example cell of a column that remains text although most cells look like numbers or dates. Otherwise "".
    """

    format: Format | None = None
    warning: str = ""
    lookalike: str = ""


class _FormatTrial(NamedTuple):
    """Result of parsing the distinct texts of a column in one format.

    Attributes
    ----------
    format : Format
    values : list of float or None
        Value of each text; None for a text that the format cannot read. Empty if there are too many such texts.
    rows : int
        Number of rows whose text the format can read; 0 if there are too many others.
    """

    format: Format
    values: list[float | None]
    rows: int


def find_format(column: Column) -> FormatSearch:
    """Search for the format of a text column.

    A format is accepted if it reads all cells that are not missing, or at least 90 % of them with more than 10 distinct
    values. Digits with a leading zero, such as postal codes, are never numbers.
    """
    if column.kind != "text" or not column.levels:
        return FormatSearch()
    counts = np.bincount(column.values[column.values >= 0], minlength=len(column.levels)).tolist()
    texts: dict[str, int] = {}
    for level, rows in zip(column.levels, counts, strict=True):
        text = level.strip()
        if rows and not is_missing_text(text):
            texts[text] = texts.get(text, 0) + rows
    if not texts:
        return FormatSearch()
    total = sum(texts.values())
    if sum(rows for text, rows in texts.items() if DIGIT.search(text)) < (1 - MAX_UNREADABLE_FRACTION) * total:
        return FormatSearch(lookalike=_find_lookalike(texts))
    if any(LEADING_ZERO.match(text) and not re.search("[:/.-]", text[1:]) for text in texts):
        return FormatSearch()
    for find in (_find_number, _find_date, _find_time):
        trial, note = find(texts)
        if _fits(trial, total):
            return _build_result(column.name, trial, note, texts)
    return FormatSearch(lookalike=_find_lookalike(texts))


def _find_lookalike(texts: Mapping[str, int]) -> str:
    """Return the first text that looks like a number or date; "" if fewer than half of the rows have such a text."""
    if len(texts) <= MIN_DISTINCT_VALUES:  # a column with few distinct texts is categorical and needs no warning
        return ""
    lookalikes = [text for text in texts if len(text) <= MAX_LOOKALIKE_LENGTH and LOOKALIKE.fullmatch(text)]
    if sum(texts[text] for text in lookalikes) < MIN_LOOKALIKE_FRACTION * sum(texts.values()):
        return ""
    return lookalikes[0]


def _try(format: Format, texts: Mapping[str, int]) -> _FormatTrial:
    """Parse the texts of a column in a format; stop if too many of them are unreadable."""
    values: list[float | None] = []
    total = sum(texts.values())
    unreadable = 0
    for text, rows in texts.items():
        values.append(format.parse(text))
        if values[-1] is None:
            unreadable += rows
            if unreadable > MAX_UNREADABLE_FRACTION * total:
                return _FormatTrial(format, [], 0)
    return _FormatTrial(format, values, total - unreadable)


def _fits(trial: _FormatTrial, rows: int) -> bool:
    """Return whether the format of a trial is accepted for a column with `rows` rows that are not missing.

    The format is accepted if it reads all rows. It is also accepted if at most the fraction MAX_UNREADABLE_FRACTION of
    the rows is unreadable and the other rows have more than MIN_DISTINCT_VALUES distinct values.
    """
    if trial.rows == rows:
        return True
    return trial.rows > 0 and len(set(trial.values)) - 1 > MIN_DISTINCT_VALUES


def _build_result(name: str, trial: _FormatTrial, note: str, texts: Mapping[str, int]) -> FormatSearch:
    """Return the FormatSearch for an accepted format, with a warning if texts are unreadable or ambiguous."""
    pairs = list(zip(texts, trial.values, strict=True))
    if isinstance(trial.format, NumberFormat):
        integers = [text for text, value in pairs if value is not None and value == int(value)]
        if merges_integers([int(text) for text in integers if re.fullmatch(r"[+-]?\d+", text, re.ASCII)]):
            return FormatSearch()  # not numbers but identifiers, because many of the integers would be equal in float64
    unreadable = [text for text, value in pairs if value is None]
    format = trial.format.replace(missing=tuple(sorted(unreadable)))
    notes = [note] if note else []
    if unreadable:
        cells = sum(texts[text] for text in unreadable)
        what = {"number": "numbers", "date": "dates", "time": "times of day"}[format.type]
        notes.append(
            f"{cells} of {sum(texts.values())} cells cannot be read as {what}, such as {short_repr(unreadable[0])}, "
            f"and count{'s' * (cells == 1)} as missing; correct such cells or leave them empty"
        )
    return FormatSearch(format, f"column {name!r}: {'; '.join(notes)}" if notes else "")


def _find_number(texts: Mapping[str, int]) -> tuple[_FormatTrial, str]:
    """Find the number format that reads the most rows; return its _FormatTrial, and a note on ambiguous texts or ""."""
    plain = _try(NumberFormat(), texts)
    if plain.rows == sum(texts.values()):
        return _with_three_digits(plain, texts), ""
    currencies: dict[str, int] = {}
    percent = 0
    for text, rows in texts.items():
        before, after = CURRENCY_BEFORE.match(text), UNIT_AFTER.search(text[-MAX_UNIT_LENGTH:])
        percent += rows * (after is not None and after[0] == "%")
        sign = before[1] if before else after[0].replace("%", "") if after else ""
        if sign:
            currencies[sign] = currencies.get(sign, 0) + rows
    is_percent = 2 * percent > sum(texts.values())
    currency = max(sorted(currencies), key=lambda sign: currencies[sign], default="")
    trials = [
        _try(NumberFormat(decimal=decimal, grouping=grouping, percent=is_percent, currency=currency), texts)
        for decimal, grouping in CONVENTIONS
    ]
    best = max(trials, key=lambda trial: trial.rows)  # in a tie, `max` returns the first of the best trials
    if not best.rows:
        return best, ""
    format, other = best.format, next((t for t in trials if t.rows == best.rows and t.values != best.values), None)
    assert isinstance(format, NumberFormat)
    note = ""
    if other is not None and (format.decimal, format.grouping) == (".", ","):
        text, value = next((text, a) for text, a, b in zip(texts, best.values, other.values, strict=True) if a != b)
        note = (
            f"the comma in {text!r} may be a decimal mark or a thousands separator, and no cell decides which; it is "
            f"read as {value:g}; if that is wrong, convert the column to numbers"
        )
    return _with_three_digits(best, texts), note


def _with_three_digits(trial: _FormatTrial, texts: Iterable[str]) -> _FormatTrial:
    """Return a copy of `trial` whose format stores the ambiguous marks of the readable texts in `three_digits`."""
    format = trial.format
    assert isinstance(format, NumberFormat)
    readable = [text for text, value in zip(texts, trial.values, strict=True) if value is not None]
    marks = "".join(mark for mark in ",." if any(is_ambiguous(text, mark) for text in readable))
    return trial._replace(format=format.replace(three_digits=marks))


def _find_date(texts: Mapping[str, int]) -> tuple[_FormatTrial, str]:
    """Find the date format that reads the most rows; return its _FormatTrial, and a note on ambiguous texts or ""."""
    trials = [_try(DateFormat(order=order), texts) for order in DATE_PATTERNS]
    best = max(trials, key=lambda trial: trial.rows)
    other = next((t for t in trials if t.rows == best.rows and t.values != best.values), None)
    if not best.rows or other is None:
        return best, ""
    matches = [match for text in texts if (match := DATE_TIME_PATTERNS["mdy"].fullmatch(text))]
    if len({match[1] for match in matches}) == 1 < len({match[3] for match in matches}):
        best = other  # day first: the dates are the same day of several months, such as 01/02/2024 and 01/03/2024
    assert isinstance(best.format, DateFormat)
    order = {"mdy": "month first", "dmy": "day first"}[best.format.order]
    text = next(text for text, value in zip(texts, best.values, strict=True) if value is not None)
    return best, (
        f"dates such as {text!r} may have the day or the month first, and no cell decides which; they are read with "
        f"the {order}; if that is wrong, convert the column to dates"
    )


def _find_time(texts: Mapping[str, int]) -> tuple[_FormatTrial, str]:
    """Parse the texts as times of day; return the _FormatTrial, and "" because no time of day is ambiguous."""
    return _try(TimeFormat(), texts), ""
