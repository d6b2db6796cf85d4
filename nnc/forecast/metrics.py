"""Metrics of forecasts: sMAPE, MASE and RMSSE as in the M competitions, quantile loss and coverage."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nnc._utils.arrays import as_real_array
from nnc._utils.checks import check_count

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from nnc.forecast.statistics import Floats


def smape(actual: ArrayLike, forecast: ArrayLike) -> float:
    """Return the symmetric mean absolute percentage error: the mean of 200 |a - f| / (|a| + |f|).

    Parameters
    ----------
    actual, forecast : arrays of the same shape
        NaN in `actual` is a missing value, which does not count. The term of two zeros is 0.

    Returns
    -------
    float
        Error in percent, from 0 to 200 (Makridakis and Hibon, 2000).
    """
    return float(np.nanmean(smape_terms(*_pair(actual, forecast))))


def mase(actual: ArrayLike, forecast: ArrayLike, y_train: ArrayLike, season: int = 1) -> float:
    """Return the mean absolute scaled error (Hyndman and Koehler, 2006) of the forecast of one series.

    Parameters
    ----------
    actual, forecast : arrays (horizon,)
        NaN in `actual` is a missing value, which does not count.
    y_train : array (n,)
        The series before the forecast; NaN for missing values.
    season : int, default 1
        Number of steps in a season.

    Returns
    -------
    float
        Mean absolute error, divided by the mean absolute difference of two training values one season apart. NaN if
        all these differences are 0: there is no scale for the errors of a series that repeats exactly.
    """
    a, f = _pair(actual, forecast)
    scale = seasonal_scale(as_real_array("y_train", y_train).astype(np.float64), check_count("season", season), 1)
    return float(np.nanmean(np.abs(a - f)) / scale)


def _pair(actual: ArrayLike, forecast: ArrayLike) -> tuple[Floats, Floats]:
    """Return actual values and forecasts as float64 arrays; raise ValueError if their shapes differ."""
    a, f = (as_real_array(*pair).astype(np.float64) for pair in (("actual", actual), ("forecast", forecast)))
    if a.shape != f.shape:
        raise ValueError(f"forecast must have the shape of actual, {a.shape}, got {f.shape}")
    return a, f


def smape_terms(actual: Floats, forecast: Floats) -> Floats:
    """Return 200 |a - f| / (|a| + |f|) for each value; 0 if both are 0."""
    total = np.abs(actual) + np.abs(forecast)
    return np.asarray(200 * np.abs(actual - forecast) / np.where(total == 0, 1, total))


def seasonal_scale(y: Floats, season: int, power: int) -> float:
    """Return the mean of |y[t] - y[t - season]| ** power over a series; NaN if the mean is 0 or missing."""
    if len(y) <= season:
        return float("nan")
    terms = np.abs(y[season:] - y[:-season]) ** power
    terms = terms[~np.isnan(terms)]
    scale = float(terms.mean()) if len(terms) else 0.0
    return scale if scale > 0 else float("nan")


def quantile_terms(actual: Floats, forecast: Floats, probability: float) -> Floats:
    """Return the quantile loss of each value: p (a - f) if a >= f, otherwise (1 - p) (f - a)."""
    error = actual - forecast
    return np.maximum(probability * error, (probability - 1) * error)
