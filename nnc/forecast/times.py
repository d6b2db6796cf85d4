"""Times in columns of frames: months, quarters and days in texts and numbers."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._tables.cells import Column, as_dates
from nnc.forecast.frequency import DAY_SECONDS, to_dates

if TYPE_CHECKING:
    from nnc.forecast.statistics import Floats

MONTH_TEXT, QUARTER_TEXT = re.compile(r"^\d{4}-\d\d$"), re.compile(r"^(\d{4})-?Q([1-4])$")
DATE_NUMBERS = "month number", "day number"  # types of times such as 202401 and 20240131
MIN_YEAR, MAX_YEAR = 1800, 2200  # range of years in numbers that are months or days


def read_dates(column: Column) -> Column:
    """Convert a column to dates; a month, such as 2024-01, and a quarter, such as 2024-Q1, become their first day."""
    if column.is_text:
        months = [
            QUARTER_TEXT.sub(lambda match: f"{match[1]}-{3 * int(match[2]) - 2:02}", text.strip())
            for text in column.levels
        ]
        column = replace(column, levels=tuple(MONTH_TEXT.sub(r"\g<0>-01", text) for text in months))
    return as_dates(column)


def number_type(numbers: Floats) -> str:
    """Return the type of times that are numbers: "month number", "day number" or "number".

    Times are months or days if all numbers are, such as 202401, or at least half of them in several years. A counter
    that passes such numbers cannot have so many of them in two years.
    """
    for kind in DATE_NUMBERS:
        exists = ~np.isnan(read_date_numbers(numbers, kind))
        years = numbers[exists] // (100 if kind == "month number" else 10000)
        if exists.all() or (exists.mean() >= 0.5 and years.min() < years.max()):
            return kind
    return "number"


def read_date_numbers(numbers: Floats, kind: str) -> Floats:
    """Return months or days such as 202401 or 20240131 in seconds since 1970; NaN for other numbers."""
    digits = np.where(np.abs(numbers) < 1e9, numbers, 0).astype(np.int64)
    years, months, days = digits // 10000, digits // 100 % 100, digits % 100
    if kind == "month number":
        years, months, days = digits // 100, digits % 100, np.ones_like(digits)
    dates = (12 * (years - 1970) + months - 1).astype("M8[M]")
    times = dates.astype("M8[D]") + (days - 1)
    in_range = (years >= MIN_YEAR) & (years < MAX_YEAR) & (months >= 1) & (months <= 12)
    exists = (digits == numbers) & in_range & (times.astype("M8[M]") == dates)
    return np.where(exists, times.astype("M8[s]").astype(np.float64), np.nan)


def date_texts(times: Floats, are_months: bool) -> list[str]:
    """Return dates as text: months, days, or date and time, such as 2024-01, 2024-01-31 and 2024-01-31 12:00:00."""
    days, seconds = not (times % DAY_SECONDS).any(), np.array_equal(times, np.round(times))
    unit: Any = ("M" if are_months else "D") if days else "s" if seconds else "us"
    return [text.replace("T", " ") for text in np.datetime_as_string(to_dates(times), unit).tolist()]
