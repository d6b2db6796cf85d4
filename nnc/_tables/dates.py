"""Calendar parts of dates, such as the day of the week: computed by NumPy, and as formulas for exported models."""

from __future__ import annotations

from functools import cache
from math import cos, pi, sin
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

DAY_SECONDS = 86400.0
# Period of each calendar part: in minutes for the time of day, otherwise in days. It is 0 for parts that are encoded as
# numbers: the year, and the parts in CALENDAR_RANGES.
PART_PERIODS = {
    "year": 0.0,
    "time of year": 365.25,
    "month": 0.0,
    "day of the month": 0.0,
    "day of the week": 7.0,
    "time of day": 1440.0,
}
CALENDAR_RANGES = {"month": 11, "day of the month": 30}  # largest value of each part that is scaled to [-1, 1]


def date_parts(seconds: Floats) -> dict[str, NDArray[np.int64]]:
    """Return the calendar parts of dates (n,), which are in seconds since 1970.

    Returns
    -------
    dict of str to int64 array (n,)
        "year": first day of the year, in days since 1970. "time of year": day of the year, from 0. "day of the week":
        number of days since Monday. "time of day": minute of the day, from 0. "month" and "day of the month": from 0.
    """
    day = np.floor(seconds / DAY_SECONDS).astype(np.int64)
    first = day.view("M8[D]").astype("M8[Y]").astype("M8[D]").astype(np.int64)
    months = day.view("M8[D]").astype("M8[M]")
    minute = ((seconds - day * DAY_SECONDS) // 60).astype(np.int64)
    return {
        "year": first,
        "time of year": day - first,
        "month": months.astype(np.int64) % 12,
        "day of the month": day - months.astype("M8[D]").astype(np.int64),
        "day of the week": (day + 3) % 7,  # day 0, 1 January 1970, was a Thursday
        "time of day": np.clip(minute, 0, 1439),
    }


_DAY_STEPS = {"day": f"floor(x / {DAY_SECONDS})"}
# Formulas for the year of a date, in years since 1970. "about" is an estimate with an error of at most one year.
# "before" and "after" are the first days of the estimated year and of the year after it; they correct the estimate to
# "year". "first" is the first day of "year". Days are counted from 1970.
_YEAR_STEPS = {
    **_DAY_STEPS,
    "about": "floor(day / 365.2425)",
    "before": "365 * about + floor((about + 1) / 4) - floor((about + 69) / 100) + floor((about + 369) / 400)",
    "after": "365 * about + 365 + floor((about + 2) / 4) - floor((about + 70) / 100) + floor((about + 370) / 400)",
    "year": "about - 1 if day < before else about + 1 if day >= after else about",
    "first": "365 * year + floor((year + 1) / 4) - floor((year + 69) / 100) + floor((year + 369) / 400)",
}
# Formulas for the month. "leap" is 1 in a leap year, otherwise 0. "march_day" is the number of days since the last
# 1 March: if months are counted from March, a linear function of the day yields the month.
_MONTH_STEPS = {
    **_YEAR_STEPS,
    "leap": "365 * year + floor((year + 2) / 4) - floor((year + 70) / 100) + floor((year + 370) / 400) - first",
    "march_day": "day - first + 306 if day - first < 59 + leap else day - first - 59 - leap",
    "march_month": "floor((5 * march_day + 2) / 153)",
}
# Formulas for each calendar part of x, a date in seconds since 1970, in exported models. The last formula of a part
# computes the value that `date_parts` returns.
PART_FORMULAS = {
    "year": _YEAR_STEPS,
    "time of year": {**_YEAR_STEPS, "time": "day - first"},
    "month": {**_MONTH_STEPS, "month": "march_month + 2 if march_month < 10 else march_month - 10"},
    "day of the month": {**_MONTH_STEPS, "month_day": "march_day - floor((153 * march_month + 2) / 5)"},
    "day of the week": {**_DAY_STEPS, "weekday": "day + 3 - 7 * floor((day + 3) / 7)"},
    "time of day": {**_DAY_STEPS, "minute": f"min(max(floor((x - day * {DAY_SECONDS}) / 60), 0), 1439)"},
}


@cache
def circle_table(period: float) -> Floats:
    """Return sine and cosine of 2 pi k / period for each integer k from 0 to `period`, array (n, 2).

    With this table, the encoding of a row is independent of the other rows, to the last bit. NumPy's sine of an array
    may differ in the last bits from its sine of a single number.
    """
    return np.array([(sin(2 * pi * k / period), cos(2 * pi * k / period)) for k in range(int(period) + 1)])
