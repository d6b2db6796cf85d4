"""Choice of the season: peaks of the autocorrelations, compared by the errors of forecasts of later observations."""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nnc.forecast.effects import learn_effects
from nnc.forecast.model import actual_values, complete, thin, windows_of
from nnc.forecast.statistics import SEASONALITY_Z, autocorrelations, fill_gaps, fit_lines
from nnc.forecast.windows import MIN_SCALE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nnc.forecast.panel import Panel
    from nnc.forecast.statistics import Floats

# Usual numbers of steps in a season of series without dates. They are preferred to neighboring numbers.
USUAL_SEASONS = 4, 5, 7, 12, 24, 30, 48, 52, 60, 96, 168, 336, 365
DAYS_PER_WEEK = 7
MAX_SEASON = 1000  # largest number of steps in a detected season
MAX_DEFAULT_SEASON = 96  # largest number of steps in a season that needs no validation
MIN_CYCLES = 3  # smallest number of seasons in the median series; 2 for the seasons of a frequency
MAX_SERIES, MAX_VALUES = 200, 5000  # largest number of series, and of last values of each series, that are examined
MAX_VALIDATION_SERIES = 50  # largest number of series for validation
VALIDATION_WINDOWS, MIN_ORIGINS = 100, 4  # number of windows for validation, and smallest number for each series
VALIDATION_FRACTION = 1 / 3  # fraction of the last observations of each series for validation
MIN_GAIN = 0.03  # smallest relative reduction of the error by a season, compared with none
MIN_REPLACEMENT_GAIN = 0.1  # smallest relative reduction of the error by a season that replaces another one
MIN_AUTOCORRELATION = 0.3  # smallest autocorrelation at the lag of a season
MIN_RISE = 0.3  # smallest amount by which the autocorrelation of a season exceeds that of a smaller lag
MIN_LONGER_GAIN = 0.05  # smallest amount by which the autocorrelation of a longer season is larger
MAX_USUAL_LOSS = 0.03  # a usual season replaces a close peak if its autocorrelation is lower by at most this
SIGNIFICANCE = 0.05  # probability that white noise has, at some lag, an autocorrelation that counts as a season


class Seasons(NamedTuple):
    """Seasons of a panel.

    Attributes
    ----------
    season : int
        Number of steps in the season that forecasts use; 1 for none.
    others : tuple of int
        Other seasons, which forecasts do not represent: a default that was replaced, and seasons of the remainders.
    """

    season: int
    others: tuple[int, ...] = ()

    def message(self) -> str | None:
        """Return the text of the warning about seasons that forecasts do not use, or None if there are none."""
        if not self.others:
            return None
        every = " and ".join(map(str, sorted([self.season, *self.others])))
        return (
            f"y has seasons of {every} steps, and forecasts use only that of {self.season} steps, which has the lowest "
            "validation error; pass season= to use another one, or known covariates for the others"
        )


def choose_season(panel: Panel, horizon: int, calendar: Sequence[int] = (), n_calendar: int = 0) -> Seasons:
    """Choose the season of series by validation.

    Parameters
    ----------
    panel : Panel
    horizon : int
    calendar : sequence of int
        Seasons of the frequency of dates, in increasing order. The first one is the default, which other seasons
        replace if their error is lower.
    n_calendar : int
        Number of calendar features at the end of the known covariates.
    """
    length = int(np.median(panel.lengths))
    calendar = [season for season in calendar if season <= MAX_SEASON]
    default = calendar[0] if calendar and 2 * calendar[0] <= length and calendar[0] <= MAX_DEFAULT_SEASON else 1
    values = [panel.values[i] for i in thin(len(panel), MAX_SERIES)]
    series = [_without_line(fill_gaps(y, 1)[-MAX_VALUES:]) for y in values]
    found = find_seasons(series, calendar)
    of_changes = find_seasons([np.diff(y) for y in series], calendar)
    found += [season for season in of_changes if all(abs(season - other) > season // 20 for other in found)]
    # In two weeks of hourly values, the lag of a week has no clear peak, so validation alone decides about the week.
    weeks = {DAYS_PER_WEEK * season for season in found} & {*(calendar or USUAL_SEASONS)}
    found += [week for week in weeks if 2 * week <= length < MIN_CYCLES * week]
    candidates = sorted({*found} - {default, 1})
    if not candidates:
        return Seasons(default)
    errors = {season: _validation_error(panel, season, horizon, n_calendar) for season in {1, default, *candidates}}
    chosen = default
    for season in candidates:
        if errors[season] < errors[chosen] * (1 - (MIN_GAIN if chosen == 1 else MIN_REPLACEMENT_GAIN)):
            chosen = season
    confirmed = {season for season in candidates if errors[season] < errors[1] * (1 - MIN_GAIN)}
    rest = find_seasons([_without_season(y, chosen) for y in series], calendar)
    others = [season for season in rest if season in confirmed - {chosen}]
    replaced = [default] if 1 < default != chosen else []
    return Seasons(chosen, (*replaced, *others))


def find_seasons(series: Sequence[Floats], calendar: Sequence[int] = ()) -> list[int]:
    """Return the lags of significant peaks of the median autocorrelations, in increasing order.

    A peak is the largest value among the lags that differ by at most a quarter. Each further peak must be higher than
    the peaks of smaller lags, so multiples of a season are left out.

    Parameters
    ----------
    series : sequence of arrays (n,)
        Complete series.
    calendar : sequence of int
        Seasons of a frequency.
    """
    length = int(np.median([len(y) for y in series]))
    usual = [season for season in calendar or USUAL_SEASONS if 2 * season <= length]
    longest = min(max([length // MIN_CYCLES, *usual]), MAX_SEASON)
    if longest < 2:
        return []
    long = [y for y in series if len(y) >= 2 * longest]
    n = np.array([len(y) for y in long], np.intp)
    Y = np.full((len(long), n.max()), np.nan)
    for row, y in zip(Y, long, strict=True):
        row[: len(y)] = y
    r, count = autocorrelations(Y, n, longest + 1), n[:, None]
    z = np.median(r * np.sqrt(count) / np.sqrt(1 + 2 * (np.cumsum(r**2, axis=1) - r**2)), axis=0)
    noise = np.median(r * np.sqrt(count), axis=0)
    # Divide by the fraction of the products that the series contains at each lag, which removes the bias.
    r = np.median(r / (1 - np.arange(1, longest + 2) / count), axis=0)
    lowest = np.minimum.accumulate(r)
    min_noise_z = NormalDist().inv_cdf(1 - SIGNIFICANCE / longest)
    seasons, required = [], MIN_AUTOCORRELATION
    for lag in range(2, longest + 1):
        i, reach = lag - 1, max(lag // 4, 1)
        is_peak = r[i] >= r[max(i - reach, 0) : i + reach + 1].max() and r[i] >= lowest[i] + MIN_RISE
        if is_peak and r[i] >= required and z[i] > SEASONALITY_Z and noise[i] > min_noise_z:
            near = [season for season in usual if abs(season - lag) <= lag // 20]
            near = [season for season in near if season <= longest and r[season - 1] >= r[i] - MAX_USUAL_LOSS]
            if not near and lag > length // MIN_CYCLES:
                continue
            seasons.append(near[0] if near else lag)
            required = r[i] + MIN_LONGER_GAIN
    return seasons


def _without_line(y: Floats) -> Floats:
    """Return the deviations of a series (n,) from its linear trend."""
    intercept, slope = fit_lines(y[None], np.array([len(y)], np.intp))
    return np.asarray(y - intercept - slope * np.arange(len(y)))


def _without_season(y: Floats, season: int) -> Floats:
    """Return the deviations of a series (n,) from the mean of each step of the season."""
    phase = np.arange(len(y)) % season
    return np.asarray(y - (np.bincount(phase, y) / np.bincount(phase))[phase])


def _validation_error(panel: Panel, season: int, horizon: int, n_calendar: int) -> float:
    """Return the mean absolute error of the statistical or of the seasonal naive forecasts, whichever is lower.

    The unit is the mean change of each series. The forecasts begin in the last part of each series. Effects of known
    covariates are learned from the part before.
    """
    panel = panel.select(thin(len(panel), MAX_VALIDATION_SERIES))
    lengths = panel.lengths
    spans = np.maximum((lengths * VALIDATION_FRACTION).astype(int), 1)
    effects = None
    if panel.regressors[0].shape[1]:
        past = panel.before(spans)
        effects = learn_effects(past.values, past.regressors, season, n_calendar)
    count = max(VALIDATION_WINDOWS // len(panel), MIN_ORIGINS)
    origins = [
        np.unique(np.linspace(n - span, n - 1, count).astype(int)) for n, span in zip(lengths, spans, strict=True)
    ]
    index = np.repeat(np.arange(len(panel)), [len(row) for row in origins])
    origin = np.concatenate(origins)
    windows = windows_of(panel, complete(panel, effects, season), index, origin, season, horizon)
    unit = np.array([np.abs(np.diff(fill_gaps(y, 1))).mean() + MIN_SCALE for y in panel.values])
    actual = actual_values(panel, effects, index, origin, horizon)
    forecasts = windows.restore(0), windows.restore((windows.naive - windows.base) / windows.scale)
    return min(float(np.nanmean(np.abs(actual - forecast) / unit[index, None])) for forecast in forecasts)
