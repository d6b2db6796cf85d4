"""Effects of covariates with known future values, such as promotions: removed from a series, and added to forecasts.

The coefficients of a series are shrunk to the coefficients of all series together, because a short series determines
its own coefficients only roughly. Effects are factors for series of positive numbers, otherwise summands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nnc.forecast.corrections import solve
from nnc.forecast.statistics import fill_gaps
from nnc.forecast.windows import MIN_ZERO_FRACTION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nnc.forecast.statistics import Bools, Floats, Ints

PRIOR_OBSERVATIONS = 30.0  # weight of the common coefficients, as a number of observations of the series
# The ridge penalty of the common coefficients is the sum of this fraction of the number of observations and 1.
RELATIVE_PENALTY = 0.003
KNOTS, MIN_DISTINCT = 3, 8  # number of knots of each covariate with at least MIN_DISTINCT distinct values
MAX_LOG_EFFECT = 5.0  # largest absolute effect on the logarithm of a value; larger effects are clipped


class Effects(NamedTuple):
    """Effects of known covariates: sums of piecewise linear functions of the covariates.

    Attributes
    ----------
    knots : array (KNOTS, covariates)
        Values of each covariate at which the slope of its effect changes; NaN for none.
    coefficients : array (series, features)
        Relative change of a series for each unit of a feature; see `expand`.
    center : array (series, features)
        Means of the features of the series; the effect of the means is neutral.
    positive : bool array (series,)
        Whether effects are factors exp(e); otherwise they are summands e * scale.
    scale : array (series,)
        Mean magnitude of the series.
    """

    knots: Floats
    coefficients: Floats
    center: Floats
    positive: Bools
    scale: Floats

    def select(self, index: Ints) -> Effects:
        """Return the effects for the series with the indices `index`."""
        return self._replace(**{key: getattr(self, key)[index] for key in self._fields[1:]})

    def _values(self, i: int, X: Floats) -> Floats:
        """Return the relative effects (steps,) of covariates X (steps, covariates) on series i."""
        effects = np.sum((expand(X, self.knots) - self.center[i]) * self.coefficients[i], axis=1)
        return np.asarray(np.clip(effects, -MAX_LOG_EFFECT, MAX_LOG_EFFECT))

    def remove(self, i: int, y: Floats, X: Floats) -> Floats:
        """Remove the effects of the covariates X (steps, covariates) from the values y (steps,) of series i."""
        effect = self._values(i, X)
        return np.asarray(y / np.exp(effect) if self.positive[i] else y - effect * self.scale[i])

    def add(self, i: int, y: Floats, X: Floats) -> Floats:
        """Add the effects of the future covariates X (steps, covariates) to forecasts y (..., steps) of series i."""
        effect = self._values(i, X)
        return np.asarray(y * np.exp(effect) if self.positive[i] else y + effect * self.scale[i])


def expand(X: Floats, knots: Floats) -> Floats:
    """Return the features (steps, features) of covariates: their values, and the amounts by which they exceed knots."""
    return np.hstack([X, *(np.fmax(X - knot, 0) for knot in knots)])


def choose_knots(regressors: Sequence[Floats], n_calendar: int) -> Floats:
    """Return the knots (KNOTS, covariates): quantiles of the distinct values of each covariate.

    Covariates with few distinct values, and the last `n_calendar` covariates, have no knots (NaN).
    """
    table = np.concatenate(regressors)
    knots = np.full((KNOTS, table.shape[1]), np.nan)
    for j in range(table.shape[1] - n_calendar):
        distinct = np.unique(table[:, j])
        if len(distinct) >= MIN_DISTINCT:
            knots[:, j] = np.quantile(distinct, np.arange(1, KNOTS + 1) / (KNOTS + 1))
    return knots


def learn_effects(values: Sequence[Floats], regressors: Sequence[Floats], season: int, n_calendar: int) -> Effects:
    """Fit the effects by ridge regression on deviations from trend and season.

    The penalty of a coefficient is relative to the variance of its feature, of which trend and season explain a part.
    Therefore the effect of a feature is about 0 if they explain nearly all of it.

    Parameters
    ----------
    values : sequence of arrays (n,)
        Series; NaN for missing values.
    regressors : sequence of arrays (n, covariates)
        Covariates of each series.
    season : int
    n_calendar : int
        Number of calendar features at the end of the covariates.
    """
    products = []
    knots = choose_knots(regressors, n_calendar)
    features = [expand(X, knots) for X in regressors]
    positive = np.array([bool(np.nanmin(y) > 0) for y in values])
    scale = np.array([np.nanmean(np.abs(y)) or 1.0 for y in values])
    for i, (y, X) in enumerate(zip(values, features, strict=True)):
        z = np.log(y) if positive[i] else y / scale[i]
        observed = ~np.isnan(z)
        table = np.column_stack([fill_gaps(z, season), X])
        table = _deviations(table, season)[observed]
        products.append(np.einsum("ij,ik->jk", table, table))
    total = np.sum(products, axis=0)
    n = sum(np.count_nonzero(~np.isnan(y)) for y in values)
    unit = _units(features)
    penalty = np.eye(len(unit))

    def coefficients(sums: Floats, weight: float, prior: Floats) -> Floats:
        A, b = sums[1:, 1:] / np.outer(unit, unit), sums[1:, :1] / unit[:, None]
        return solve(A + weight * penalty, b + weight * prior)

    common = coefficients(total, RELATIVE_PENALTY * n + 1, np.zeros((len(unit), 1)))
    own = np.stack([coefficients(sums, PRIOR_OBSERVATIONS, common)[:, 0] / unit for sums in products])
    # Series with many zeros have no effects of the calendar, which would replace the zeros by other numbers.
    intermittent = [i for i, y in enumerate(values) if np.mean(y[~np.isnan(y)] == 0) > MIN_ZERO_FRACTION]
    n_covariates = regressors[0].shape[1]
    own[intermittent, n_covariates - n_calendar : n_covariates] = 0
    center = np.stack([X.mean(axis=0) for X in features])
    return Effects(knots, own, center, positive, scale)


def is_explained(regressors: Sequence[Floats], season: int) -> Bools:
    """Return whether trend and season explain each covariate, (covariates,), so that its effect is about 0.

    The penalty then reduces the coefficient to less than half. Constant covariates are not explained.
    """
    unit, n = _units(regressors), sum(map(len, regressors))
    information = np.sum([np.sum(_deviations(X, season) ** 2, axis=0) for X in regressors], axis=0) / unit**2
    return np.asarray(np.isfinite(unit) & (information < RELATIVE_PENALTY * n + 1))


def _units(features: Sequence[Floats]) -> Floats:
    """Return the standard deviation of each feature within the series.

    It is infinite for constant features, so that their coefficients are 0.
    """
    variance = np.mean([X.var(axis=0) for X in features], axis=0)
    mean_square = np.mean([np.mean(X**2, axis=0) for X in features], axis=0)
    return np.where(variance > 1e-18 * mean_square, np.sqrt(variance), np.inf)


def _deviations(table: Floats, season: int) -> Floats:
    """Return the deviations of each column from its trend and season, (n, columns).

    Columns that are the sum of a linear trend and a seasonal pattern have no deviations. From the others, their moving
    average is removed, too.
    """
    n = len(table)
    phases = season if 1 < season <= n // 2 else 1
    time = _center_phases(np.arange(n, dtype=np.float64)[:, None], phases)
    rest = _center_phases(table - table.mean(axis=0), phases)
    rest -= time * (time.T @ rest / np.sum(time**2))
    width = min(max(season, 3) // 2 * 2 + 1, n)
    padded = np.pad(rest, ((width // 2, width - 1 - width // 2), (0, 0)), mode="edge")
    sums = np.cumsum(np.concatenate([np.zeros((1, table.shape[1])), padded]), axis=0)
    return _center_phases(rest - (sums[width:] - sums[:-width]) / width, phases)


def _center_phases(table: Floats, season: int) -> Floats:
    """Return the columns minus their mean for each step of the season."""
    n, columns = table.shape
    padded = np.concatenate([table, np.zeros((-n % season, columns))])
    counts = np.bincount(np.arange(n) % season, minlength=season)
    means = padded.reshape(-1, season, columns).sum(axis=0) / counts[:, None]
    return table - np.resize(means, table.shape)
