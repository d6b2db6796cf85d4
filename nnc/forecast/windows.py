"""Windows: statistical forecasts from several origins of each series, and the inputs of the networks.

An origin is the number of observations of a series that come before a forecast. Forecasts, inputs and errors are
seasonally adjusted and divided by a scale of the series, so that one network learns from all series.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnc.forecast import statistics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nnc.forecast.statistics import Bools, Floats, Ints

MAX_WINDOWS_IN_BLOCK = 1024  # windows that are computed together, which limits memory
MIN_RELATIVE_SCALE = 1e-3  # smallest scale of a series, relative to its last value
MIN_SCALE = 1e-200  # smallest scale, which only series of zeros have
MIN_SPREAD = 0.3  # smallest unit of the widths of intervals, relative to the mean change of all observations
# A series with a smaller deviation from a straight line, relative to the slope, is forecast by this line.
MAX_LINE_ERROR = 0.05
MIN_ZERO_FRACTION = 0.3  # series with a larger fraction of zeros are forecast by their smoothed level
MIN_LOOKBACK, MAX_LOOKBACK = 8, 64  # limits for the number of observations that the networks read
# Forecasts of series with fewer seasons, and without a clear season, are averaged with the seasonal naive forecast.
MIN_SEASONS = 3
SQUASH = 3.0  # inputs above about this multiple of `Windows.scale` are compressed by asinh
MEMBERS = "theta", "damped trend", "log theta", "log damped trend"


class Windows(NamedTuple):
    """Forecasts and network inputs for several windows; forecast = (base + correction * scale) * factor + offset.

    Attributes
    ----------
    series, origins : int arrays (windows,)
        Index of the series of each window, and the number of its observations before the forecast.
    base : array (windows, horizon)
        Statistical forecast in seasonally adjusted units.
    naive : array (windows, horizon)
        Seasonal naive forecast in these units, which repeats the last season. It equals `base` for windows that are
        shorter than a season, intermittent or a straight line, for which it is not used.
    scale : array (windows, 1)
        Mean absolute change of the last observations, seasonally adjusted, from step to step.
    spread : array (windows, 1)
        Unit of the widths of intervals: `scale`, but at least the fraction MIN_SPREAD of the mean change of all
        observations, because the last observations of counts may all be 0. The share of the seasonal naive forecast
        has the mean change from season to season as unit.
    factor, offset : arrays (windows, horizon)
        Seasonal indices of the future steps.
    inputs : array (windows, width)
        Inputs of the networks in units of `scale`: changes between the last observations, and differences between
        forecasts.
    nonnegative : bool array (windows,)
        Whether no observation is negative, so that forecasts are not negative either.
    """

    series: Ints
    origins: Ints
    base: Floats
    naive: Floats
    scale: Floats
    spread: Floats
    factor: Floats
    offset: Floats
    inputs: Floats
    nonnegative: Bools

    def is_adjusted(self) -> Bools:
        """Return whether the windows (windows,) are seasonally adjusted."""
        return np.asarray(((self.factor != 1) | (self.offset != 0)).any(axis=1))

    def restore(self, correction: Floats | float) -> Floats:
        """Return forecasts (windows, horizon) in the units of the series, given corrections in units of `scale`."""
        forecast = (self.base + correction * self.scale) * self.factor + self.offset
        return np.where(self.nonnegative[:, None], np.maximum(forecast, 0), forecast)

    def errors(self, actual: Floats) -> Floats:
        """Return actual values (windows, horizon) minus the forecast `base`, in units of `scale`; NaN for scale 0."""
        errors = (actual - self.offset) / self.factor - self.base
        return np.where(self.scale > MIN_SCALE, errors / self.scale, np.nan)


def lookback(season: int) -> int:
    """Return the number of observations that the networks read."""
    return min(max(2 * season, MIN_LOOKBACK), max(MAX_LOOKBACK, season + 1))


def max_history(season: int) -> int:
    """Return the number of observations that a forecast uses; older observations have almost no influence."""
    return max(240, 4 * season)


def build_windows(
    series: Sequence[Floats], index: Ints, origins: Ints, season: int, horizon: int, naive_share: float
) -> Windows:
    """Return the windows whose series and origins are given.

    Parameters
    ----------
    series : sequence of arrays
        Complete series: no value is missing.
    index, origins : int arrays (windows,)
        Series of each window, and the number of its observations that the window uses.
    season, horizon : int
    naive_share : float
        Weight of the seasonal naive forecast in `Windows.base`.
    """
    history = max_history(season)
    blocks = []
    for start in range(0, max(len(index), 1), MAX_WINDOWS_IN_BLOCK):
        part = slice(start, start + MAX_WINDOWS_IN_BLOCK)
        n = np.minimum(origins[part], history)
        Y = np.full((len(n), n.max(initial=1)), np.nan)
        for row, (i, origin, k) in enumerate(zip(index[part], origins[part], n, strict=True)):
            Y[row, :k] = series[i][origin - k : origin]
        blocks.append(_build_block(Y, n, season, horizon, naive_share))
    return Windows(index, origins, *(np.concatenate(parts) for parts in zip(*blocks, strict=True)))


def _build_block(Y: Floats, n: Ints, season: int, horizon: int, naive_share: float) -> tuple[NDArray[Any], ...]:
    """Return the arrays of the windows of a batch, from `Windows.base` on."""
    observed = np.arange(Y.shape[1]) < n[:, None]
    lowest = np.where(observed, Y, np.inf).min(1)
    zeros = np.sum(observed & (Y == 0), 1)
    rows = len(n)
    factor, offset, level = np.ones((rows, horizon)), np.zeros((rows, horizon)), Y.copy()
    forecasts = np.empty((rows, len(MEMBERS), horizon))
    positive = lowest > 0
    for mask, multiply in ((positive, True), (~positive, False)):
        if mask.any():
            Z, m = Y[mask][:, : n[mask].max()], n[mask]
            level[mask, : Z.shape[1]], forecasts[mask], indices = _forecast(Z, m, season, horizon, multiply)
            (factor if multiply else offset)[mask] = indices
    intermittent = zeros > MIN_ZERO_FRACTION * n
    if intermittent.any():
        m = n[intermittent]
        forecasts[intermittent] = statistics.smoothed_level(level[intermittent], m, horizon)[:, None]
    base = np.median(forecasts, axis=1)
    intercept, slope = statistics.fit_lines(level, n)
    line = intercept[:, None] + slope[:, None] * np.arange(level.shape[1] + horizon)
    deviation = np.where(observed, np.abs(level - line[:, : level.shape[1]]), 0).max(1, initial=0)
    straight = (n > 2) & (deviation < MAX_LINE_ERROR * np.abs(slope))
    future = np.take_along_axis(line, n[:, None] + np.arange(horizon), 1)
    base = np.where(straight[:, None], future, base)
    naive = (_repeat(statistics.reverse(Y, n, season), horizon) - offset) / factor
    is_shorter = np.asarray(np.isnan(naive).any(1))
    naive = np.where(is_shorter[:, None], base, naive)
    if season > 1:
        share = np.where(n < MIN_SEASONS * season, np.where(n > 2 * season, 0.25, 0.5), 0.0)
        is_adjusted = ((factor != 1) | (offset != 0)).any(1)
        base = _mix(base, naive, np.where(is_shorter | is_adjusted, 0.0, share)[:, None])
    is_unused = (is_shorter | straight | intermittent)[:, None]
    naive = np.where(is_unused, base, naive)
    base = _mix(base, naive, np.where(is_unused, 0.0, naive_share))
    lags = lookback(season)
    recent = statistics.reverse(level, n, lags)
    last, changes = recent[:, :1], np.abs(np.diff(recent, axis=1))
    # Fill the steps before the start of a series with its first value.
    recent = np.where(np.isnan(recent), level[:, :1], recent)
    count = np.maximum((~np.isnan(changes)).sum(1), 1)
    scale = np.nansum(changes, 1) / count
    min_scale = MIN_RELATIVE_SCALE * np.abs(last[:, 0]) + MIN_SCALE
    scale = np.maximum(scale, min_scale)[:, None]
    all_changes = np.abs(np.diff(level, axis=1))
    mean_change = np.nansum(all_changes, 1) / np.maximum(n - 1, 1)
    spread = np.maximum(scale, MIN_SPREAD * mean_change[:, None])
    if naive_share and season < level.shape[1]:
        seasonal_change = np.nansum(np.abs(level[:, season:] - level[:, :-season]), 1) / np.maximum(n - season, 1)
        share = np.where(n > season + 2, naive_share, 0.0)[:, None]
        spread = _mix(spread, np.maximum(seasonal_change, min_scale)[:, None], share)
    steps = [0, horizon // 2, horizon - 1]  # steps at which the networks read the forecasts of the members
    differences = (forecasts - base[:, None])[:, :, steps].reshape(rows, 3 * len(MEMBERS))
    inputs = np.concatenate([recent[:, 1:] - last, base - last, differences], 1) / scale
    return base, naive, scale, spread, factor, offset, np.arcsinh(inputs / SQUASH) * SQUASH, lowest >= 0


def _forecast(Y: Floats, n: Ints, season: int, horizon: int, positive: bool) -> tuple[Floats, Floats, Floats]:
    """Return the seasonally adjusted batch, its forecasts (rows, members, horizon), and future seasonal indices."""
    adjusted, future = _adjust(Y, n, season, horizon, positive)
    methods = statistics.theta, statistics.damped_trend
    forecasts = [method(adjusted, n, horizon) for method in methods]
    if not positive:
        return adjusted, np.stack([*forecasts, *forecasts], 1), future
    logs, shift = _adjust(np.log(Y), n, season, horizon, False)
    limit = np.nanmax(logs, 1)[:, None] + statistics.MAX_LOG_GROWTH
    forecasts += [np.exp(np.minimum(method(logs, n, horizon), limit) + shift) / future for method in methods]
    return adjusted, np.stack(forecasts, 1), future


def _adjust(Y: Floats, n: Ints, season: int, horizon: int, multiply: bool) -> tuple[Floats, Floats]:
    """Return the seasonally adjusted batch, and the seasonal indices (rows, horizon) of the next steps."""
    if season == 1:
        return Y, np.full((len(n), horizon), float(multiply))
    indices = statistics.seasonal_indices(Y, n, season, multiply)
    pattern = np.take_along_axis(indices, (n[:, None] - 1 - np.arange(Y.shape[1])) % season, 1)
    return Y / pattern if multiply else Y - pattern, _repeat(indices, horizon)


def _mix(base: Floats, naive: Floats, share: Floats) -> Floats:
    """Return the means (rows, horizon) of two forecasts; `share` (rows, 1) is the weight of the second one."""
    return np.where(share > 0, (1 - share) * base + share * naive, base)


def _repeat(last_season: Floats, horizon: int) -> Floats:
    """Return the next `horizon` steps (rows, horizon) if the last season (rows, season) repeats; see `reverse`."""
    return np.asarray(last_season[:, (-1 - np.arange(horizon)) % last_season.shape[1]])


def origins_back(lengths: Ints, back: Sequence[int] | NDArray[np.intp], minimum: int) -> tuple[Ints, Ints]:
    """Return series and origin of all windows that end `back` steps before the end of a series.

    Windows with fewer than `minimum` observations are left out.
    """
    origins = lengths[:, None] - np.asarray(back)
    index, column = np.nonzero(origins >= minimum)
    return index, origins[index, column]
