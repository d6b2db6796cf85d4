"""Frequencies of time series: regular grids of dates or numbers, and the default length of a season."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from numpy.typing import NDArray

    from nnc.forecast.statistics import Floats, Ints

DAY_SECONDS = 86400
MICROSECOND = 1e-6  # resolution of dates in seconds
MIN_DATE_STEP = 1e-5  # smallest step of dates in seconds, whose rounding to microseconds does not matter
MAX_RELATIVE_DEVIATION = 1e-6  # largest distance of a time from its grid point, relative to a step
MIN_BUSINESS_DAYS = 10  # smallest number of dates without a weekend that are recognized as business days
NAMES: dict[tuple[str, float], str] = {
    ("month", 1): "monthly",
    ("month", 3): "quarterly",
    ("month", 12): "yearly",
    ("second", DAY_SECONDS): "daily",
    ("second", 7 * DAY_SECONDS): "weekly",
    ("second", 3600): "hourly",
    ("business day", 1): "business days",
}
# Numbers of steps in the seasons for steps of a day or longer, except for months.
SEASONS: dict[tuple[str, float], tuple[int, ...]] = {
    ("second", DAY_SECONDS): (7, 365),
    ("second", 7 * DAY_SECONDS): (52,),
    ("business day", 1): (5, 261),
}


class Frequency(NamedTuple):
    """Regular grid of times.

    Attributes
    ----------
    unit : {"month", "second", "business day", "number"}
        Unit of the steps. Times are numbers for "number", otherwise seconds since 1970.
    step : float
        Number of units in a step.
    anchor : float
        Time of the grid point 0; for months, the offset from the beginning of a month in seconds, or -DAY_SECONDS for
        the last days of months.
    phase : int
        For months, the number of months from January 1970 to the grid point 0.
    """

    unit: str
    step: float
    anchor: float
    phase: int = 0

    @property
    def name(self) -> str:
        """Name such as "monthly", or a description such as "every 900 seconds"."""
        return NAMES.get((self.unit, self.step), f"every {self.step:g} {self.unit}s")

    @property
    def has_whole_days(self) -> bool:
        """Return whether a step is a number of days, business days or months."""
        return self.unit in ("month", "business day") or (self.unit == "second" and self.step % DAY_SECONDS == 0)

    @property
    def seasons(self) -> tuple[int, ...]:
        """Usual numbers of steps in a season, in increasing order: a day and a week, or a week and a year."""
        if self.unit == "month":
            return (int(12 // self.step),) if self.step < 12 else ()
        if self.unit == "second" and self.step < DAY_SECONDS and DAY_SECONDS % self.step == 0:
            return int(DAY_SECONDS // self.step), int(7 * DAY_SECONDS // self.step)
        return SEASONS.get((self.unit, self.step), ())

    def to_index(self, times: Floats) -> Floats:
        """Return the grid indices of times, which are not whole numbers for times between grid points."""
        if self.unit == "month":
            return np.asarray((_months(times - self.anchor) - self.phase) / self.step)
        if self.unit == "business day":
            return np.busday_count(np.datetime64(0, "D"), _days(times)).astype(np.float64)
        return np.asarray((times - self.anchor) / self.step)

    def is_off_grid(self, times: Floats) -> NDArray[np.bool_]:
        """Return whether each time is between grid points."""
        index = self.to_index(times)
        tolerance = max(MAX_RELATIVE_DEVIATION, MICROSECOND / 2 / self.step if self.unit == "second" else 0)
        return np.abs(index - np.round(index)) > tolerance

    def to_times(self, index: Ints) -> Floats:
        """Return the times of grid points."""
        if self.unit == "month":
            months = (index * int(self.step) + self.phase).astype("M8[M]")
            return months.astype("M8[s]").astype(np.float64) + self.anchor
        if self.unit == "business day":
            days = np.busday_offset(np.datetime64(0, "D"), index, roll="forward")
            return days.astype("M8[s]").astype(np.float64) + self.anchor
        return np.asarray(index * self.step + self.anchor)


def _days(times: Floats) -> NDArray[np.datetime64]:
    """Return the days of times in seconds since 1970."""
    return np.floor(times / DAY_SECONDS).astype(np.int64).view("M8[D]")


def _months(times: Floats) -> Floats:
    """Return the number of months since 1970, with a fraction for times that are not the beginning of a month."""
    months = _days(times).astype("M8[M]")
    begin = months.astype("M8[s]").astype(np.float64)
    return np.where(times == begin, months.astype(np.int64), months.astype(np.int64) + 0.5)


def infer_frequency(times: Sequence[Floats], names: Sequence[Hashable], are_dates: bool) -> Frequency:
    """Return the frequency of several series.

    Parameters
    ----------
    times : sequence of arrays
        Increasing times of each series: seconds since 1970, or numbers.
    names : sequence
        Names of the series in messages.
    are_dates : bool
        Whether the times are dates.

    Raises
    ------
    ValueError
        The times of a series are not on a regular grid, two series have different frequencies, or steps of dates are
        too short.
    """
    longest = max(times, key=len)
    if len(longest) < 2:
        raise ValueError("time must have at least two different values in a series, got one in each series")
    every = np.concatenate(times)
    differences = np.concatenate([np.diff(t) for t in times])
    candidates = []
    if are_dates:
        begin = _days(every[:1]).astype("M8[M]").astype("M8[s]").astype(np.float64)[0]
        candidates += [Frequency("month", 1, anchor) for anchor in (float(every[0] - begin), -DAY_SECONDS)]
        is_daily = differences.min() >= DAY_SECONDS and differences.max() < 7 * DAY_SECONDS
        if is_daily and len(every) >= MIN_BUSINESS_DAYS and np.is_busday(_days(every)).all():
            candidates.append(Frequency("business day", 1, float(every[0] % DAY_SECONDS)))
    step = float(differences.min())
    if are_dates and step < MIN_DATE_STEP - MICROSECOND / 2:
        raise ValueError(
            f"time must have steps of at least {MIN_DATE_STEP / MICROSECOND:g} microseconds if it has dates, whose "
            f"resolution is a microsecond, got {step / MICROSECOND:.3g} microseconds; pass times as numbers"
        )
    if are_dates:
        step = max(round(step, 6), MICROSECOND)
    candidates.append(Frequency("second" if are_dates else "number", step, float(every.min())))
    for frequency in candidates:
        found = _with_step(frequency, times, names)
        if found is not None:
            return found
    candidates[-1] = candidates[-1]._replace(step=float(np.median(differences)))
    closest = min(reversed(candidates), key=lambda frequency: sum(frequency.is_off_grid(t).sum() for t in times))
    i, wrong = next((i, wrong) for i, t in enumerate(times) if (wrong := closest.is_off_grid(t)).any())
    time = show_time(times[i][int(wrong.argmax())], are_dates)
    raise ValueError(
        f"time must have a regular frequency, got {time}{of_series(names[i])} among times that are {closest.name}; "
        "remove the row, or aggregate the series to a regular frequency"
    )


def _with_step(frequency: Frequency, times: Sequence[Floats], names: Sequence[Hashable]) -> Frequency | None:
    """Return the frequency with the smallest step between two times, or None if the times are not on its grid."""
    positions = [np.round(frequency.to_index(t)).astype(np.intp) for t in times]
    # For each series with at least two times, the smallest number of grid steps from one time to the next.
    steps = {name: int(np.diff(p).min()) for name, p in zip(names, positions, strict=True) if len(p) > 1}
    step = min(steps.values())
    if step < 1 or any(frequency.is_off_grid(t).any() for t in times):
        return None
    fastest = min(steps, key=steps.__getitem__)
    if frequency.unit == "month" and step * (12 // step if step < 12 else 1) % 12:
        step = 1
    if frequency.unit != "month" or step == 1:
        for name, other in steps.items():
            if other >= 3 * step:
                raise ValueError(
                    f"time must have one frequency in all series, got {frequency.name!r} in series {fastest!r} and at "
                    f"least {other} times as long steps in series {name!r}; fit one model for each frequency"
                )
    remainders = {int(p[0]) % step for p in positions}
    if frequency.unit != "month" or len(remainders) > 1:
        return frequency
    return frequency._replace(step=float(step), phase=remainders.pop())


def of_series(name: object) -> str:
    """Return the name of a series for messages; an empty text for a single series without a name."""
    return "" if name == () else f" of series {name!r}"


def show_time(time: float, are_dates: bool) -> str:
    """Return a time as text for messages."""
    if not are_dates:
        return f"{time:g}"
    return str(to_dates(np.array(time))).removesuffix(".000000").removesuffix("T00:00:00")


def to_dates(times: Floats) -> NDArray[np.datetime64]:
    """Return times in seconds since 1970 as dates with a resolution of microseconds."""
    seconds = np.floor(times)
    microseconds = np.round((times - seconds) / MICROSECOND).astype("m8[us]")
    return np.asarray(seconds.astype("M8[s]") + microseconds)
