"""Conversion of dates to the local time of a time zone, in which the dates of a column are encoded."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import cache
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np

from nnc._tables.dates import DAY_SECONDS

if TYPE_CHECKING:
    from numpy.typing import NDArray

OFFSET_NAME = re.compile(r"(?:UTC|GMT)?([+-])(\d\d):?(\d\d)", re.ASCII)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MIN_DAY, MAX_DAY = -719_000, 2_932_000  # range of dates that datetime can represent, in days since 1970


def zone_name(zone: tzinfo | str | None) -> str:
    """Return the name with which `local_time` finds a time zone; "UTC" if the system has no data for it."""
    name = zone if isinstance(zone, str) else getattr(zone, "key", None) or getattr(zone, "zone", None) or str(zone)
    return "UTC" if _find_zone(name) is None else name


@cache
def _find_zone(name: str) -> tzinfo | None:
    """Return the time zone with this name; None if the system has no data for the time zone."""
    if name in ("UTC", "Z", "Etc/UTC"):
        return UTC
    if match := OFFSET_NAME.fullmatch(name):
        offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
        return timezone(-offset if match[1] == "-" else offset) if offset < timedelta(days=1) else None
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError):  # the name is invalid, or the system has no data for the time zone
        return None


def local_time(seconds: NDArray[Any], name: str) -> NDArray[np.float64]:
    """Convert Unix timestamps to the local time of a time zone, in seconds since 1970.

    Parameters
    ----------
    seconds : array (n,)
        Unix timestamps: seconds since 1970, UTC. NaN for missing values.
    name : str
        Name of the time zone, such as "Europe/Berlin" or "UTC+02:00".

    Returns
    -------
    float64 array (n,)
        Local times in seconds since 1970; NaN for missing values.

    Raises
    ------
    ValueError
        The system has no data for the time zone.
    """
    zone = _require_zone(name)
    if zone is UTC:
        return np.asarray(seconds, np.float64)
    present = ~np.isnan(seconds)
    days, inverse = np.unique(np.floor(seconds[present] / DAY_SECONDS), return_inverse=True)
    offsets = np.array(
        [(_offset(day * DAY_SECONDS, zone), _offset((day + 1) * DAY_SECONDS, zone)) for day in days.tolist()]
    )
    offsets = offsets.reshape(-1, 2)[inverse]
    changes = np.flatnonzero(offsets[:, 0] != offsets[:, 1])  # timestamps on days when the UTC offset changes
    instants = seconds[present]
    for i in changes.tolist():
        offsets[i, 0] = _offset(float(instants[i]), zone)
    local = np.array(seconds, np.float64)
    local[present] += offsets[:, 0]
    return local


def utc_time(seconds: NDArray[Any], name: str) -> NDArray[np.float64]:
    """Convert local times of a time zone, in seconds since 1970, to Unix timestamps; the inverse of `local_time`.

    A time that occurs twice, because clocks are set back, is its first occurrence. A time that is skipped becomes the
    moment at which clocks are set forward.
    """
    first, last = (seconds - (local_time(near, name) - near) for near in (seconds - DAY_SECONDS, seconds + DAY_SECONDS))
    fits = np.abs([local_time(first, name) - seconds, local_time(last, name) - seconds]) < 1
    return np.where(fits[1] & ~fits[0], last, first)


def local_moment(seconds: float, name: str) -> float:
    """Convert one Unix timestamp to the local time of a time zone; `local_time` does so for arrays."""
    return seconds + _offset(seconds, _require_zone(name))


def _require_zone(name: str) -> tzinfo:
    """Return the time zone with this name; raise ValueError if the system has no data for the time zone."""
    zone = _find_zone(name)
    if zone is None:
        raise ValueError(
            f"dates must have a time zone for which the system has data, got {name!r}; install time zone data: "
            "pip install tzdata"
        )
    return zone


def _offset(seconds: float, zone: tzinfo) -> float:
    """Return the offset of a time zone from UTC, in seconds, at the Unix timestamp `seconds`."""
    seconds = min(max(seconds, MIN_DAY * DAY_SECONDS), MAX_DAY * DAY_SECONDS)
    offset = (EPOCH + timedelta(seconds=seconds)).astimezone(zone).utcoffset()
    return 0.0 if offset is None else offset.total_seconds()


def offset_name(seconds: float) -> str:
    """Return a name such as "UTC+02:00" for an offset from UTC; "UTC" if the offset is 0 or not in whole minutes."""
    if seconds % 60 or not seconds:
        return "UTC"
    hours, minutes = divmod(abs(int(seconds)) // 60, 60)
    return f"UTC{'+' if seconds > 0 else '-'}{hours:02}:{minutes:02}"
