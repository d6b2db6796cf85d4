"""Forecast model: fit to a panel of series, forecasts, and prediction intervals."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from math import ceil
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nnc._data.folds import Folds
from nnc.forecast.corrections import (
    MIN_WINDOWS,
    Corrections,
    choose_naive_share,
    choose_weights,
    learn,
    no_corrections,
)
from nnc.forecast.effects import Effects, learn_effects
from nnc.forecast.quantiles import MIN_POOLED_SCORES, effective_sample_sizes, score_quantile
from nnc.forecast.statistics import fill_gaps
from nnc.forecast.windows import MIN_SEASONS, MIN_ZERO_FRACTION, Windows, build_windows, max_history, origins_back

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nnc.forecast.panel import Panel
    from nnc.forecast.statistics import Bools, Floats, Ints

MAX_WINDOWS = 12_000  # largest number of windows from which the members learn
# Largest number of observations in the windows of a fit; long series therefore have fewer windows.
MAX_VALUES = 1_500_000
# A fit uses at most MIN_LIMIT + WINDOWS_PER_HORIZON * observations / horizon windows.
MIN_LIMIT, WINDOWS_PER_HORIZON = 500, 4
ORIGINS = 8  # number of forecast origins of each series, if there are enough series
MIN_ORIGIN = 6  # smallest number of observations before a forecast origin
MIN_SCORES = 200  # intended number of nonconformity scores for each horizon; short series have fewer
MAX_SCORES = 2000  # maximum number of scores for each horizon
ADAPTATION_RATE = 0.05  # step size by which `Forecaster.append` changes the width of intervals for each new value
ADAPTATION_LEVEL = 0.8  # level of the interval that decides whether a new value increases or decreases the width
LAGS = 8  # number of past values of each covariate that are inputs of the networks


@dataclass(eq=False)
class ForecastModel:
    """Result of a fit: corrections, effects of covariates, and nonconformity scores.

    Parameters
    ----------
    season, horizon : int
    corrections : Corrections
    effects : Effects or None
        None if there are no known covariates.
    scores : array (windows, horizon)
        Errors of forecasts for windows from which no member has learned, in units of `Windows.spread`; NaN if missing.
        For series of two to three seasons, also changes from season to season; see `_seasonal_scores`.
    effective_sizes : array (horizon,) or None
        Effective sample size of the scores of each step. None (independent scores) in files of older versions.
    naive_share : float
        Weight of the seasonal naive forecast in the statistical forecast; see `choose_naive_share`.
    """

    season: int
    horizon: int
    corrections: Corrections
    effects: Effects | None
    scores: Floats
    effective_sizes: Floats | None = None
    naive_share: float = 0.0

    def predict(self, panel: Panel, future: Sequence[Floats] | None = None) -> Prediction:
        """Return the Prediction of the steps after the end of each series.

        Parameters
        ----------
        panel : Panel
            Series of the fit, which may have become longer.
        future : sequence of arrays (horizon, covariates), optional
            Future values of the known covariates. Default: 0.
        """
        if future is None:
            future = [np.zeros((self.horizon, X.shape[1])) for X in panel.regressors]
        series = complete(panel, self.effects, self.season)
        index = np.arange(len(panel), dtype=np.intp)
        windows = windows_of(panel, series, index, panel.lengths, self.season, self.horizon, self.naive_share)
        recent = [y[-max_history(self.season) :] for y in panel.values]
        zeros = np.array([np.mean(y[~np.isnan(y)] == 0) for y in recent])
        nonnegative = np.array([np.nanmin(y) >= 0 for y in recent])
        return Prediction(self, windows, self.corrections.predict(windows.inputs), future, zeros, nonnegative)

    def select(self, index: Ints) -> ForecastModel:
        """Return a copy of the model for the series of the panel with the indices `index`."""
        if self.effects is None:
            return self
        return replace(self, effects=self.effects.select(index))

    def score_quantile(self, probability: float) -> Floats:
        """Return the quantile (horizon,) of the scores for a probability."""
        return score_quantile(self.scores, self.effective_sizes, probability)


class Prediction(NamedTuple):
    """Forecasts for all series of a panel.

    Attributes
    ----------
    model : ForecastModel
    windows : Windows
    corrections : array (series, horizon)
    future : sequence of arrays (horizon, covariates)
        Future values of the known covariates for each series.
    zeros : array (series,)
        Fraction of the last observations that are 0.
    nonnegative : bool array (series,)
        Whether none of the last observations is negative, so that forecasts are not negative either.
    """

    model: ForecastModel
    windows: Windows
    corrections: Floats
    future: Sequence[Floats]
    zeros: Floats
    nonnegative: Bools

    def forecast(self, shift: Floats | float = 0.0) -> Floats:
        """Return forecasts (series, horizon), shifted by `shift` in units of `Windows.spread`."""
        result = self.windows.restore(self.corrections + shift * (self.windows.spread / self.windows.scale))
        if self.model.effects is not None:
            for i, X in enumerate(self.future):
                result[i] = self.model.effects.add(i, result[i], X)
        return np.where(self.nonnegative[:, None], np.maximum(result, 0), result)

    def quantile(self, probability: float, width: Floats) -> Floats:
        """Return a quantile (series, horizon) of the future values; `width` (series,) multiplies the scores.

        The forecast of intermittent demand is a mean, which may be far above the median. A quantile up to the median is
        therefore 0 if a larger fraction of the last observations is 0.
        """
        result = self.forecast(width[:, None] * self.model.score_quantile(probability))
        is_zero = self.nonnegative & (self.zeros > max(MIN_ZERO_FRACTION, probability)) & (probability <= 0.5)
        return np.where(is_zero[:, None], 0.0, result)


def complete(panel: Panel, effects: Effects | None, season: int) -> list[Floats]:
    """Return the series with missing values filled in and the effects of known covariates subtracted."""
    return _without_effects([fill_gaps(y, season) for y in panel.values], panel, effects)


def _without_effects(series: list[Floats], panel: Panel, effects: Effects | None) -> list[Floats]:
    """Return the series after subtraction of the effects of the known covariates of a panel."""
    if effects is None:
        return series
    return [effects.remove(i, y, X) for i, (y, X) in enumerate(zip(series, panel.regressors, strict=True))]


def windows_of(
    panel: Panel,
    series: Sequence[Floats],
    index: Ints,
    origins: Ints,
    season: int,
    horizon: int,
    naive_share: float = 0.0,
) -> Windows:
    """Return windows whose inputs also contain past covariates and static features."""
    windows = build_windows(series, index, origins, season, horizon, naive_share)
    extra = [panel.static[index]] if panel.static.shape[1] else []
    if panel.past and panel.past[0].shape[1]:
        lags = [_lags(panel.past[i], n) for i, n in zip(index, origins, strict=True)]
        extra.append(np.array(lags).reshape(-1, LAGS * panel.past[0].shape[1]))
    return windows._replace(inputs=np.concatenate([windows.inputs, *extra], axis=1)) if extra else windows


def _lags(past: Floats, origin: int) -> Floats:
    """Return the last LAGS values of the covariates before an origin, minus their mean, (LAGS * covariates,)."""
    recent = past[max(origin - LAGS, 0) : origin]
    recent = np.pad(recent, ((LAGS - len(recent), 0), (0, 0)), mode="edge")
    return np.asarray((recent - past[:origin].mean(axis=0)).ravel())


def fit_model(
    panel: Panel, season: int, horizon: int, learns: bool, seed: int, n_jobs: int | None, n_calendar: int
) -> ForecastModel:
    """Fit a model to a panel.

    The windows with the last origins are for validation: at first, members learn only from earlier windows. The
    validation determines the weights of the members and the scores of the intervals. Then all members learn from all
    windows.

    Parameters
    ----------
    panel : Panel
    season, horizon : int
    learns : bool
        Whether corrections are learned.
    seed, n_jobs : int
        Seed of the networks, and number of networks that are trained at the same time.
    n_calendar : int
        Number of calendar features at the end of the known covariates. The effects of calendar features are linear,
        without knots.
    """
    lengths = panel.lengths
    minimum = max(MIN_ORIGIN, season + 3)
    longest = int(lengths.max()) - minimum
    # Limit the number of windows, which overlap: more than WINDOWS_PER_HORIZON of them in each horizon add little
    # information.
    limit = min(
        MAX_WINDOWS,
        MAX_VALUES // min(int(lengths.mean()), max_history(season)),
        MIN_LIMIT + WINDOWS_PER_HORIZON * int(lengths.sum()) // horizon,
    )
    n_validation = max(min(ceil(MIN_SCORES / len(panel)), (longest - horizon) // 2), 1)
    first = horizon + n_validation  # train on windows whose origins are at least this number of steps before the end
    naive_share = 0.0
    has_regressors = panel.regressors[0].shape[1] > 0
    effects = early = None
    if has_regressors:
        cut = panel.before(first - 1)
        short = any(np.count_nonzero(~np.isnan(y)) < minimum for y in cut.values)
        effects = learn_effects(panel.values, panel.regressors, season, n_calendar)
        early = effects if short else learn_effects(cut.values, cut.regressors, season, n_calendar)

    def build(back: NDArray[np.intp], used: Effects | None) -> tuple[Windows, Floats]:
        """Return the windows whose origins are `back` steps before the ends of the series, and their errors."""
        index, origins = origins_back(lengths, back, minimum)
        chosen = thin(len(index), limit)
        index, origins = index[chosen], origins[chosen]
        windows = windows_of(panel, complete(panel, used, season), index, origins, season, horizon, naive_share)
        return windows, windows.errors(actual_values(panel, used, index, origins, horizon))

    @cache
    def last_windows() -> Windows:
        """Return the windows at the end of each series, with a season as horizon."""
        return windows_of(panel, complete(panel, effects, season), np.arange(len(panel)), lengths, season, season)

    def validate(back: NDArray[np.intp]) -> tuple[Windows, Floats]:
        """Return windows and errors of `build`; NaN for windows that are too short for the adjustment of the series.

        Errors of forecasts without seasonal adjustment are not those of adjusted forecasts.
        """
        windows, errors = build(back, early)
        is_too_short = windows.origins < 2 * season
        if is_too_short.any():
            is_too_short &= last_windows().is_adjusted()[windows.series]
        return windows, np.where(is_too_short[:, None], np.nan, errors)

    # The forecasts of learned windows end before those of the validation windows begin.
    all_back = np.arange(horizon, first + horizon - 1 + max(ORIGINS, limit // len(panel)))
    folds = Folds.rolling(all_back - horizon, n_folds=1, size=n_validation, gap=horizon - 1)
    learned_back, back = (all_back[index] for index in folds.pairs()[0])
    validation, errors = validate(back)
    # If there are too few errors, also use windows in which the series ends before the forecast does.
    if np.count_nonzero(~np.isnan(errors)) < MIN_POOLED_SCORES:
        back = np.arange(1, first)
        validation, errors = validate(back)
    naive_share = choose_naive_share(validation, errors)
    if naive_share:
        validation, errors = validate(back)
    corrections = no_corrections(validation.inputs.shape[1], horizon)
    if learns and np.count_nonzero(~np.isnan(errors).all(axis=1)) >= MIN_WINDOWS:
        learned, learned_errors = build(learned_back, early)
        rows = ~np.isnan(learned_errors).any(axis=1)
        if rows.sum() >= MIN_WINDOWS:
            trial = learn(learned.inputs[rows], learned_errors[rows], seed, n_jobs)
            weights = choose_weights(trial, validation.inputs, errors)
            errors = errors - trial._replace(weights=weights).predict(validation.inputs)
            if any(weights):
                recent, recent_errors = build(all_back, effects)
                rows = ~np.isnan(recent_errors).any(axis=1)
                corrections = learn(recent.inputs[rows], recent_errors[rows], seed, n_jobs)._replace(weights=weights)
    scores = errors * (validation.scale / validation.spread)
    sizes = effective_sample_sizes(scores, validation.series, validation.origins)
    if lengths.max() < MIN_SEASONS * season and np.count_nonzero(~np.isnan(scores), axis=0).min() < MIN_POOLED_SCORES:
        extra, series, times = _seasonal_scores(panel, effects, last_windows(), horizon)
        sizes += effective_sample_sizes(extra, series, times)
        scores = np.concatenate([scores, extra])
    scores = scores[thin(len(scores), MAX_SCORES)]
    return ForecastModel(season, horizon, corrections, effects, scores, sizes, naive_share)


def _seasonal_scores(panel: Panel, effects: Effects | None, last: Windows, horizon: int) -> tuple[Floats, Ints, Ints]:
    """Return scores (scores, horizon) of the changes from season to season, their series and their times.

    The changes to the last season minus the mean change that the forecast continues estimate the errors of all steps up
    to a season. They are known without a forecast from an earlier origin. Series of less than two seasons have none.

    Parameters
    ----------
    panel, effects
        Series of the fit, and effects of their known covariates.
    last : Windows
        Windows at the end of each series, with a season as horizon.
    horizon : int
    """
    season = last.base.shape[1]
    starts = (np.maximum(last.origins - k * season, 0) for k in (1, 2))
    recent, former = (last.errors(actual_values(panel, effects, last.series, start, season)) for start in starts)
    count = np.count_nonzero(~np.isnan(recent), axis=1)
    errors = recent - former + (np.nansum(recent, axis=1) / np.maximum(count, 1))[:, None]
    errors[last.origins < 2 * season] = np.nan
    scores = np.full((*errors.shape, horizon), np.nan)
    scores[:, :, :season] = (errors * (last.scale / last.spread))[:, :, None]
    times = last.origins[:, None] - season + np.arange(season)
    return scores.reshape(-1, horizon), np.repeat(last.series, season), times.ravel()


def thin(n: int, limit: int) -> Ints:
    """Return the indices of at most `limit` of n rows, at equal distances."""
    return np.arange(n) if n <= limit else (np.arange(limit) * n) // limit


def actual_values(panel: Panel, effects: Effects | None, index: Ints, origins: Ints, horizon: int) -> Floats:
    """Return the values (windows, horizon) after the origins, with covariate effects removed; NaN if missing."""
    values = _without_effects(panel.values, panel, effects)
    padded = [np.pad(y, (0, horizon), constant_values=np.nan) for y in values]
    actual = [padded[i][n : n + horizon] for i, n in zip(index, origins, strict=True)]
    return np.array(actual).reshape(-1, horizon)


def adapt_width(model: ForecastModel, old: Panel, new: Panel, width: Floats) -> Floats:
    """Return the factors (series,) of the widths of intervals, updated with the values by which `new` is longer.

    A value outside the interval of the level ADAPTATION_LEVEL increases the factor, and a value inside decreases it.
    The factor is constant on average if the coverage is right.
    """
    width = width.copy()
    added = new.lengths - old.lengths
    miss_probability = 1 - ADAPTATION_LEVEL
    probabilities = miss_probability / 2, 1 - miss_probability / 2
    for start in range(0, int(added.max(initial=0)), model.horizon):
        index = np.flatnonzero(added > start)
        part = new.select(index)
        origins = old.lengths[index] + start
        stops = np.minimum(origins + model.horizon, part.lengths)
        past = part.before(part.lengths - origins)
        future = [
            np.pad(X[origin:stop], ((0, model.horizon - (stop - origin)), (0, 0)), mode="edge")
            for X, origin, stop in zip(part.regressors, origins, stops, strict=True)
        ]
        prediction = model.select(index).predict(past, future)
        for step in range(model.horizon):
            low, high = (prediction.quantile(p, width[index])[:, step] for p in probabilities)
            for row, i in enumerate(index.tolist()):
                position = int(origins[row]) + step
                if position < stops[row] and not np.isnan(actual := part.values[row][position]):
                    miss = not low[row] <= actual <= high[row]
                    width[i] *= np.exp(ADAPTATION_RATE * (miss - miss_probability))
    return width
