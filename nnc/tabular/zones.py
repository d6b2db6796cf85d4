"""Time zones by their names: dates of a column are encoded as the local time of its zone."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import cache
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np

from nnc.tabular.dates import DAY_SECONDS

if TYPE_CHECKING:
    from numpy.typing import NDArray

OFFSET = re.compile(r"(?:UTC|GMT)?([+-])(\d\d):?(\d\d)", re.ASCII)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MIN_DAY, MAX_DAY = -719_000, 2_932_000  # days since 1970 within the years that datetime has


def zone_name(zone: tzinfo | str | None) -> str:
    """Return the name by which `local_time` finds a time zone, "UTC" if the system does not know it."""
    name = zone if isinstance(zone, str) else getattr(zone, "key", None) or getattr(zone, "zone", None) or str(zone)
    return "UTC" if _find(name) is None else name


@cache
def _find(name: str) -> tzinfo | None:
    if name in ("UTC", "Z", "Etc/UTC"):
        return UTC
    if found := OFFSET.fullmatch(name):
        offset = timedelta(hours=int(found[2]), minutes=int(found[3]))
        return timezone(-offset if found[1] == "-" else offset) if offset < timedelta(days=1) else None
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError):  # it is not there, or no name of a zone
        return None


def local_time(seconds: NDArray[Any], name: str) -> NDArray[np.float64]:
    """Return the wall-clock time of a time zone, as seconds since 1970.

    Parameters
    ----------
    seconds : array (n,)
        Seconds since 1970, UTC; NaN where missing.
    name : str
        Such as "Europe/Berlin" or "UTC+02:00".

    Returns
    -------
    float64 array (n,)

    Raises
    ------
    ValueError
        The system does not know the zone.
    """
    zone = _known(name)
    if zone is UTC:
        return np.asarray(seconds, np.float64)
    there = ~np.isnan(seconds)
    days, inverse = np.unique(np.floor(seconds[there] / DAY_SECONDS), return_inverse=True)
    offsets = np.array(
        [(_offset(day * DAY_SECONDS, zone), _offset((day + 1) * DAY_SECONDS, zone)) for day in days.tolist()]
    )
    offsets = offsets.reshape(-1, 2)[inverse]
    changes = np.flatnonzero(offsets[:, 0] != offsets[:, 1])  # the days on which the offset changes
    instants = seconds[there]
    for i in changes.tolist():
        offsets[i, 0] = _offset(float(instants[i]), zone)
    local = np.array(seconds, np.float64)
    local[there] += offsets[:, 0]
    return local


def local_moment(seconds: float, name: str) -> float:
    """Return the wall-clock time of a time zone for a single moment; see `local_time`."""
    return seconds + _offset(seconds, _known(name))


def _known(name: str) -> tzinfo:
    zone = _find(name)
    if zone is None:
        raise ValueError(
            f"dates must have a time zone that this system knows, got {name!r}; install its data: pip install tzdata"
        )
    return zone


def _offset(seconds: float, zone: tzinfo) -> float:
    """Return the seconds by which a zone is ahead of UTC."""
    seconds = min(max(seconds, MIN_DAY * DAY_SECONDS), MAX_DAY * DAY_SECONDS)
    offset = (EPOCH + timedelta(seconds=seconds)).astimezone(zone).utcoffset()
    return 0.0 if offset is None else offset.total_seconds()


def offset_name(seconds: float) -> str:
    """Return the name of the zone that is ahead of UTC by so many seconds, "UTC" if these are no whole minutes."""
    if seconds % 60 or not seconds:
        return "UTC"
    hours, minutes = divmod(abs(int(seconds)) // 60, 60)
    return f"UTC{'+' if seconds > 0 else '-'}{hours:02}:{minutes:02}"
