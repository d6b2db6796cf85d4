"""Series of pandas: dates in the index become a column of times, and an index of numbers must be in order."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from datetime import date
from typing import Any

import numpy as np

from nnc._utils.containers import column_names

DATE_TEXT = re.compile(r"\s*\d{4}-?(\d\d|Q[1-4])")  # beginning of a text that is a date, a month or a quarter


def is_frame(y: Any) -> bool:
    """Return whether `y` is a frame, or consists of one or several series of pandas with dates in the index."""
    if isinstance(y, np.ndarray):
        return False
    if isinstance(y, (list, tuple, Mapping)):
        return any(map(_has_dates, y.values() if isinstance(y, Mapping) else y))
    # Count a lazy frame as a frame, so that read_frame raises an error for it.
    return hasattr(y, "collect") or column_names(y) is not None or _has_dates(y)


def _is_series(y: Any) -> bool:
    """Return whether `y` is a series of pandas."""
    return hasattr(y, "rename_axis") and not hasattr(y, "columns")


def _has_dates(y: Any) -> bool:
    """Return whether `y` is a series of pandas with dates in the index."""
    if not _is_series(y) or not len(y):
        return False
    label = y.index[0]
    is_date = isinstance(label, date) or hasattr(y.index, "to_timestamp")
    return is_date or (isinstance(label, str) and DATE_TEXT.match(label) is not None)


def as_frame(y: Any, time: str | None = None, target: str | None = None) -> tuple[Any, bool]:
    """Return a frame, and whether it was created from series with dates.

    The last two columns of such a frame are time and target. Several series have an additional first column "id".

    Parameters
    ----------
    y : frame, or one or several series of pandas
    time, target : str, optional
        Names of the columns of a single series. Default: the names of its index and of the series.
    """
    if isinstance(y, (list, tuple, Mapping)):
        items = y.items() if isinstance(y, Mapping) else enumerate(y)
        frames = []
        for key, series in items:
            if not _has_dates(series):
                found = type(series).__name__
                raise TypeError(f"y must contain only series with dates as index, got {found} for series {key!r}")
            frame = as_frame(series, "time", "y")[0]
            frame.insert(0, "id", key)
            frames.append(frame)
        return sys.modules["pandas"].concat(frames, ignore_index=True), True
    if not _is_series(y):
        return y, False
    if hasattr(y.index, "to_timestamp"):
        y = y.to_timestamp()
    time = time or str("time" if y.index.name is None else y.index.name)
    target = target or str("y" if y.name is None else y.name)
    target = f"{target} values" if target == time else target
    return y.rename(target).rename_axis(time).reset_index(), True


def check_index(name: str, y: Any) -> None:
    """Raise ValueError if `y` is a series of pandas with an index of numbers that do not increase by equal steps."""
    if not _is_series(y) or getattr(y.index, "dtype", np.dtype(object)).kind not in "iuf" or len(y) < 2:
        return
    labels = np.asarray(y.index, np.float64)
    steps = np.diff(labels)
    wrong = (steps <= 0) | ~np.isclose(steps, np.median(steps))
    if wrong.any():
        i = int(wrong.argmax())
        raise ValueError(
            f"{name} must have an index that increases by equal steps, got {labels[i + 1]:g} after {labels[i]:g}; "
            "sort and reindex the series, or call reset_index(drop=True) if its values are in order and none is missing"
        )
