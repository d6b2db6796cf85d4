"""Conversion of arrays to a panel: one series or several, missing values, detection of the season."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._data.conformal import check_level, level_texts
from nnc._utils.arrays import as_real_array
from nnc._utils.checks import short_repr
from nnc._utils.notices import warn_user
from nnc.forecast.indexes import check_index
from nnc.forecast.panel import Panel

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from nnc.forecast.statistics import Floats, Ints

MAX_MAGNITUDE = 1e100  # largest magnitude of values, so that sums of squares are finite
MIN_OBSERVATIONS = 3  # smallest number of observations of a series; shorter series raise ValueError


class ForecastWarning(UserWarning):
    """Warning about series that are too short for a method, or that have irregular values."""


def read_arrays(
    y: Any, X: Any, minimum: int = MIN_OBSERVATIONS, name: str = "y"
) -> tuple[list[Hashable] | None, Panel]:
    """Return the names of the series, and the panel; the names are None for a single series.

    Parameters
    ----------
    y : array (n,), list of arrays or dict of arrays
    X : array (n, covariates) or None
        Known covariates of a single series.
    minimum : int
        Smallest number of observations of a series.
    name : str
        Name of `y` in messages.
    """
    if isinstance(y, Mapping):
        names: list[Hashable] | None = list(y)
        arrays = list(y.values())
    elif _is_single(y):
        names, arrays = None, [y]
    else:
        arrays = list(y)
        names = list(range(len(arrays)))
    if getattr(getattr(y, "index", None), "nlevels", 1) > 1:
        raise TypeError(
            f"{name} must have a single index, got {y.index.nlevels} levels; pass {name}.reset_index() with id"
        )
    if getattr(y, "ndim", 1) == 2 and np.shape(y)[1] == 1 < minimum:
        raise ValueError(f"{name} must be a series (n,) or (series, n), got shape {np.shape(y)}; pass {name}.ravel()")
    if not arrays:
        raise ValueError(f"{name} must contain at least one series, got none")
    labels = [name] if names is None else [f"{name}[{key!r}]" for key in names]
    values = [read_values(label, array) for label, array in zip(labels, arrays, strict=True)]
    covariates = [np.zeros((len(series), 0)) for series in values]
    if X is not None and names is not None:
        raise ValueError(
            f"X must be None if {name} contains several series, got covariates; pass a frame in long format instead"
        )
    if hasattr(X, "set_axis") and hasattr(y, "set_axis") and not X.index.equals(y.index):
        raise ValueError(f"X must have the index of {name}, got another one; call X.reindex({name}.index)")
    if X is not None:
        covariates = [read_covariates(X, len(values[0]))]
        constant = np.flatnonzero(np.ptp(covariates[0], axis=0) == 0) if minimum > 1 else ()
        warn_of_ignored_columns([(f"column {j} of X", "all values are equal") for j in constant])
    starts, no_past = np.zeros(len(values), np.intp), [table[:, :0] for table in covariates]
    return names, Panel(values, starts, covariates, no_past, np.zeros((len(values), 0))).trim(labels, minimum)


def _is_single(y: Any) -> bool:
    """Return whether `y` is one series instead of a list of series."""
    if isinstance(y, (list, tuple)):
        try:
            return not len(y) or np.ndim(y[0]) == 0
        except ValueError:  # the rows of y[0] have different lengths
            return False
    return getattr(y, "ndim", 1) == 1


def read_values(name: str, values: Any) -> Floats:
    """Return a series (n,) as float64; None and NaN are missing values, and infinity raises ValueError."""
    check_index(name, values)
    if isinstance(values, (list, tuple)) or getattr(values, "dtype", None) == np.dtype(object):
        values = [np.nan if value is None else value for value in values]
    series = as_real_array(name, values).astype(np.float64)
    if series.ndim != 1:
        raise ValueError(f"{name} must be a series (n,), got shape {series.shape}; pass several series as a list")
    if np.isinf(series).any():
        i = int(np.isinf(series).argmax())
        raise ValueError(f"{name} must be finite, got {series[i]} at position {i}; use NaN if the value is missing")
    check_magnitude(name, series)
    return series


def check_magnitude(name: str, series: Floats) -> None:
    """Raise ValueError if the square of a value may overflow."""
    largest = float(np.nanmax(np.abs(series), initial=0))
    if largest > MAX_MAGNITUDE:
        raise ValueError(f"{name} must be at most {MAX_MAGNITUDE:g} in magnitude, got {largest:g}; scale the values")


def read_covariates(X: Any, n: int) -> Floats:
    """Return covariates as a finite float64 array (n, covariates)."""
    table = as_real_array("X", X).astype(np.float64)
    table = table[:, None] if table.ndim == 1 else table
    if table.ndim != 2 or len(table) != n:
        raise ValueError(f"X must have shape ({n}, covariates), got {table.shape}; pass one row for each step")
    if not np.isfinite(table).all():
        raise ValueError("X must be finite, got NaN or infinity; fill missing values of covariates")
    return table


def warn_of_ignored_columns(columns: Sequence[tuple[str, str]], verb: str = "cannot") -> None:
    """Warn of covariates that cannot affect forecasts, or can hardly affect them.

    Parameters
    ----------
    columns : sequence of (str, str)
        Description of each column, and the reason.
    verb : {"cannot", "can hardly"}, default "cannot"
    """
    if columns:
        texts = [f"{column} {verb} affect the forecasts ({reason})" for column, reason in columns]
        warn_user("; ".join(texts), ForecastWarning)


def warn_of_ranges(columns: Sequence[tuple[str, Floats, Floats, Ints]]) -> None:
    """Warn of known covariates with values that are farther outside the range of the past than this range is wide.

    Parameters
    ----------
    columns : sequence of (str, array, array, int array)
        Description of each column, its past values (only the extremes matter), its new values, and their row numbers.
    """
    texts = []
    for label, past, new, rows in columns:
        low, high = past.min(), past.max()
        distances = np.maximum(new - high, low - new)
        i = int(distances.argmax())
        if low < high and distances[i] > high - low:
            texts.append(f"{label} has {new[i]:g} in row {rows[i]} (in fit: from {low:g} to {high:g})")
    if texts:
        warn_user(
            f"{'; '.join(texts)}; the effect of values far outside the range of the past is unknown; correct them, or "
            "fit the model to series that contain such values",
            ForecastWarning,
        )


def refuse_columns(columns: Mapping[str, Any]) -> None:
    """Raise TypeError if `fit` got the names of columns for data without columns."""
    for name, value in columns.items():
        if value is not None:
            raise TypeError(
                f"{name} must be None for arrays or series, got {short_repr(value)}; pass a frame to name its columns"
            )


def describe_names(names: Sequence[object]) -> str:
    """Return the first names as text, such as "'a', 'b' and 3 more"."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(repr(name) for name in names[:3]) + more


def number_list(name: str, value: Any) -> list[float]:
    """Return a number or a sequence of numbers as a list; [] for None."""
    array = as_real_array(name, [] if value is None else value)
    if array.ndim > 1:
        raise ValueError(f"{name} must be a number or a list of numbers, got shape {array.shape}")
    # The text of a float32, such as 0.8, is the decimal number that the user wrote.
    return [float(text) for text in np.atleast_1d(array).astype(str)]


def percents(levels: Sequence[float]) -> list[str]:
    """Return the levels of intervals in percent, for names of columns and metrics, such as "80" or "99.5"."""
    return level_texts(levels, 100)


def quantile_shifts(level: Any, quantiles: Any) -> dict[str, float]:
    """Return {column name: probability} for levels of intervals and for quantiles.

    Raises
    ------
    ValueError
        A level or a quantile is not between 0 and 1.
    """
    shifts = {}
    levels, probabilities = number_list("level", level), number_list("quantiles", quantiles)
    for value in levels:
        if not 0 < value < 1:
            raise ValueError(f"level must be a fraction above 0 and below 1, such as 0.8, got {value:.15g}")
    for value, text in zip(levels, percents(levels), strict=True):
        shifts[f"lower_{text}"], shifts[f"upper_{text}"] = 0.5 - value / 2, 0.5 + value / 2
    for value in probabilities:
        check_level("quantiles", value)
    for value, text in zip(probabilities, level_texts(probabilities), strict=True):
        shifts[f"quantile_{text}"] = value
    return shifts
