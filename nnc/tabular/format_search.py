"""The format of a text column, found from all cells of the training rows::

found = find_format(column)  # found.format is None where the column stays text
found.format.read(column)  # the column as numbers or dates
"""

from __future__ import annotations

import re
from reprlib import repr as shown
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nnc.tabular.cells import Column, merges_integers
from nnc.tabular.text_values import (
    CURRENCY,
    DATES,
    DAY_FIELDS,
    MISSING_SIGNS,
    SIGN,
    DateFormat,
    Format,
    NumberFormat,
    TimeFormat,
    is_thousand,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_BAD_SHARE = 0.1  # of the cells: a column with more unreadable ones stays text
MIN_NUMBERS = 10  # different values from which on a few unreadable cells are slips; fewer values are categories
MIN_LOOKALIKE_SHARE = 0.5  # of the cells that look like numbers or dates, from which on lost text is warned of
MAX_LOOKALIKE_LENGTH = 40  # characters: longer text is prose
CONVENTIONS = [(".", ""), (".", ","), (",", ""), (",", "."), (".", " "), (",", " "), (".", "'"), (",", "'")]
DIGIT = re.compile("[0-9]")
LEADING_ZERO = re.compile(r"[+-]?0\d+", re.ASCII)
CURRENCY_BEFORE = re.compile(rf"{SIGN}({CURRENCY})")
SIGN_AFTER = re.compile(rf"(?:{CURRENCY}|%)$")
MAX_SIGN_LENGTH = 4  # characters of the longest currency, and one more
LOOKALIKE = re.compile(
    rf"{SIGN}{CURRENCY}?\s?{SIGN}\d[\d.,:/'\s]*(?:[^\W\d_]{{1,4}}\.?|%)?|\d{{1,4}}([-/.])\d\d?\1\d{{2,4}}\b.*"
)


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
    """Values of the different texts of a column in one format."""

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
    for find in (_find_number, _find_date, _find_time):
        trial, remark = find(texts)
        if _fits(trial, sum(texts.values())):
            return _finished(column.name, trial, remark, texts)
    return Found(lookalike=_lookalike(texts))


def _lookalike(texts: Mapping[str, int]) -> str:
    """Return a text that looks like a number or a date, if most of many different ones do, else ""."""
    if len(texts) <= MIN_NUMBERS:  # all of them are categories
        return ""
    alike = [text for text in texts if len(text) <= MAX_LOOKALIKE_LENGTH and LOOKALIKE.fullmatch(text)]
    if sum(texts[text] for text in alike) < MIN_LOOKALIKE_SHARE * sum(texts.values()):
        return ""
    return alike[0]


def _try(format: Format, texts: Mapping[str, int]) -> _Trial:
    """Return what a format makes of texts, or an empty trial as soon as there are too many that it cannot read."""
    values: list[float | None] = []
    total = sum(texts.values())
    unreadable = 0
    for text, rows in texts.items():
        values.append(format.parse(text))
        if values[-1] is None:
            unreadable += rows
            if unreadable > MAX_BAD_SHARE * total:
                return _Trial(format, [], 0)
    return _Trial(format, values, total - unreadable)


def _fits(trial: _Trial, rows: int) -> bool:
    if trial.rows == rows:
        return True
    return trial.rows > 0 and len(set(trial.values)) - 1 > MIN_NUMBERS


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


def _find_number(texts: Mapping[str, int]) -> tuple[_Trial, str]:
    """Return the best trial of all conventions of numbers, and a remark if another one fits as well."""
    plain = _try(NumberFormat(), texts)
    if plain.rows == sum(texts.values()):
        return _with_three_digits(plain, texts), ""
    currencies: dict[str, int] = {}
    percent = 0
    for text, rows in texts.items():
        before, after = CURRENCY_BEFORE.match(text), SIGN_AFTER.search(text[-MAX_SIGN_LENGTH:])
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
    best = max(trials, key=lambda trial: trial.rows)  # the first of several
    if not best.rows:
        return best, ""
    format, other = best.format, next((t for t in trials if t.rows == best.rows and t.values != best.values), None)
    assert isinstance(format, NumberFormat)
    remark = ""
    if other is not None and (format.decimal, format.grouping) == (".", ","):
        text, value = next((text, a) for text, a, b in zip(texts, best.values, other.values, strict=True) if a != b)
        remark = (
            f"the comma in {text!r} may separate thousands or decimals, and no cell decides which; it is read as "
            f"{value:g}; if that is not meant, convert the column to numbers"
        )
    return _with_three_digits(best, texts), remark


def _with_three_digits(trial: _Trial, texts: Iterable[str]) -> _Trial:
    """Record the marks with three digits behind them, which later tables may then have without a warning."""
    format = trial.format
    assert isinstance(format, NumberFormat)
    read = [text for text, value in zip(texts, trial.values, strict=True) if value is not None]
    marks = "".join(mark for mark in ",." if any(is_thousand(text, mark) for text in read))
    return trial._replace(format=format.replace(three_digits=marks))


def _find_date(texts: Mapping[str, int]) -> tuple[_Trial, str]:
    """Return the best trial of all orders of day, month and year, and a remark if another one fits as well."""
    trials = [_try(DateFormat(order=order), texts) for order in DAY_FIELDS]
    best = max(trials, key=lambda trial: trial.rows)
    other = next((t for t in trials if t.rows == best.rows and t.values != best.values), None)
    if not best.rows or other is None:
        return best, ""
    parts = [found for text in texts if (found := DATES["mdy"].fullmatch(text))]
    if len({found[1] for found in parts}) == 1 < len({found[3] for found in parts}):
        best = other  # such as the first day of each month
    assert isinstance(best.format, DateFormat)
    order = {"mdy": "month first", "dmy": "day first"}[best.format.order]
    text = next(text for text, value in zip(texts, best.values, strict=True) if value is not None)
    return best, (
        f"dates such as {text!r} may have the day or the month first, and no cell decides which; they are read with "
        f"the {order}; if that is not meant, convert the column to dates"
    )


def _find_time(texts: Mapping[str, int]) -> tuple[_Trial, str]:
    return _try(TimeFormat(), texts), ""
