"""Parts of dates: as numbers, and as formulas for other formats."""

from __future__ import annotations

from functools import cache
from math import cos, pi, sin
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

DAY = 86400.0  # seconds
PARTS = {"year": 0.0, "time of year": 365.25, "day of the week": 7.0, "time of day": 1440.0}  # how many there are


def parts_of(seconds: Floats) -> dict[str, NDArray[np.int64]]:
    """The parts of dates as whole numbers: the first day of the year since 1970, the day in it, the day since Monday,
    the minute of the day."""
    day = np.floor(seconds / DAY).astype(np.int64)
    first = day.view("M8[D]").astype("M8[Y]").astype("M8[D]").astype(np.int64)
    minute = ((seconds - day * DAY) // 60).astype(np.int64)
    return {
        "year": first,
        "time of year": day - first,
        "day of the week": (day + 3) % 7,  # the first day of 1970 was a Thursday
        "time of day": np.clip(minute, 0, 1439),
    }


_DAY = {"day": f"floor(x / {DAY})"}
_YEAR = {  # about which year since 1970 it is, the days before it and before the next, and from these the right one
    **_DAY,
    "about": "floor(day / 365.2425)",
    "before": "365 * about + floor((about + 1) / 4) - floor((about + 69) / 100) + floor((about + 369) / 400)",
    "after": "365 * about + 365 + floor((about + 2) / 4) - floor((about + 70) / 100) + floor((about + 370) / 400)",
    "year": "about - 1 if day < before else about + 1 if day >= after else about",
    "first": "365 * year + floor((year + 1) / 4) - floor((year + 69) / 100) + floor((year + 369) / 400)",
}
FORMULAS = {  # as `parts_of`; the last one of each is what it is
    "year": _YEAR,
    "time of year": {**_YEAR, "time": "day - first"},
    "day of the week": {**_DAY, "weekday": "day + 3 - 7 * floor((day + 3) / 7)"},
    "time of day": {**_DAY, "minute": f"min(max(floor((x - day * {DAY}) / 60), 0), 1439)"},
}


@cache
def circle(period: float) -> Floats:
    """Sine and cosine of places on a circle, from a table: of a number alone they may have other bits than of many."""
    return np.array([(sin(2 * pi * k / period), cos(2 * pi * k / period)) for k in range(int(period) + 1)])
