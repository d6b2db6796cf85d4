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
# Period of each calendar part: in minutes for the time of day, otherwise in days; 0 for the year (not periodic).
PART_PERIODS = {"year": 0.0, "time of year": 365.25, "day of the week": 7.0, "time of day": 1440.0}


def date_parts(seconds: Floats) -> dict[str, NDArray[np.int64]]:
    """Return the calendar parts of dates (n,), which are in seconds since 1970.

    Returns
    -------
    dict of str to int64 array (n,)
        "year": first day of the year, in days since 1970. "time of year": day of the year, from 0. "day of the week":
        number of days since Monday. "time of day": minute of the day, from 0.
    """
    day = np.floor(seconds / DAY_SECONDS).astype(np.int64)
    first = day.view("M8[D]").astype("M8[Y]").astype("M8[D]").astype(np.int64)
    minute = ((seconds - day * DAY_SECONDS) // 60).astype(np.int64)
    return {
        "year": first,
        "time of year": day - first,
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
# Formulas for each calendar part of x, a date in seconds since 1970, in exported models. The last formula of a part
# computes the value that `date_parts` returns.
PART_FORMULAS = {
    "year": _YEAR_STEPS,
    "time of year": {**_YEAR_STEPS, "time": "day - first"},
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
