"""Quantiles of nonconformity scores, which are the ends of prediction intervals.

A score is the error of a forecast in units of `Windows.spread`. Scores of one step are dependent if their windows
overlap: the errors of a random walk for 12 steps hardly differ between neighboring origins. Therefore the effective
sample size of each step is estimated, and quantiles of small samples are wider.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from nnc._data.conformal import quantile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nnc.forecast.statistics import Floats, Ints

# With fewer scores for a step, the scores of neighboring steps are added. With a smaller effective sample size, scores
# also count with the opposite sign, so half of them are enough.
MIN_POOLED_SCORES = 60
MIN_EFFECTIVE_SIZE = 2.0  # smallest effective sample size in the factor of a t distribution
MIN_RANKED_SCORES = 9.0  # quantiles are ranks of at least this number of scores, also if fewer are independent
MAX_LEVEL = float(np.nextafter(1, 0))  # largest level below 1; normal distributions have no quantile of level 1
RANDOM_WALK_EXPONENT = 0.5  # errors of a random walk are proportional to this power of the horizon
inverse_normal = NormalDist().inv_cdf


def effective_sample_sizes(scores: Floats, series: Ints, origins: Ints) -> Floats:
    """Return the effective sample size (horizon,) for the mean square of the scores of each step.

    It is n / (1 + 2 * sum of r**2), where r are the autocorrelations of the n scores for windows of the same series
    that overlap. The variance 1 / pairs that r has for independent scores is subtracted from r**2.

    Parameters
    ----------
    scores : array (windows, horizon)
        Scores; NaN if missing. Windows of the same series follow each other in the order of their origins.
    series, origins : int arrays (windows,)
        Index of the series and origin of each window.
    """
    steps = np.arange(scores.shape[1])
    n = np.count_nonzero(~np.isnan(scores), axis=0)
    mean_square = np.nansum(scores**2, axis=0) / np.maximum(n, 1)
    mean_square = np.where(mean_square > 0, mean_square, 1)
    excess = np.zeros(len(steps))
    for lag in range(1, len(scores)):
        distance = np.where(series[lag:] == series[:-lag], np.abs(origins[lag:] - origins[:-lag]), len(steps))
        if distance.min() >= len(steps):
            break
        products = np.where(distance[:, None] <= steps, scores[lag:] * scores[:-lag], np.nan)
        pairs = np.count_nonzero(~np.isnan(products), axis=0)
        r = np.nansum(products, axis=0) / np.maximum(pairs, 1) / mean_square
        excess += np.maximum(pairs * r**2 - 1, 0)
    return np.asarray(n / (1 + 2 * excess / np.maximum(n, 1)))


def score_quantile(scores: Floats, effective_sizes: Floats | None, probability: float) -> Floats:
    """Return the quantile (horizon,) of scores for a probability, with the rank of conformal prediction.

    The forecast is the median, so quantiles above it are not negative, and those below it are not positive.

    Parameters
    ----------
    scores : array (windows, horizon)
    effective_sizes : array (horizon,) or None
        Effective sample size of the scores of each step; None if the scores are independent.
    probability : float
    """
    horizon = scores.shape[1]
    if probability == 0.5:
        return np.zeros(horizon)
    sign, level = (1, probability) if probability > 0.5 else (-1, 1 - probability)
    level = min(level, MAX_LEVEL)
    sizes = np.full(horizon, np.inf) if effective_sizes is None else np.maximum(effective_sizes, MIN_EFFECTIVE_SIZE)
    symmetric = bool(sizes.min() < MIN_POOLED_SCORES)
    minimum = MIN_POOLED_SCORES // 2 if symmetric else MIN_POOLED_SCORES
    quantiles = np.empty(horizon)
    for k, found in enumerate(pool(scores, minimum)):
        size = sizes[k]
        if symmetric or len(found) < minimum:
            found, size = np.concatenate([found, -found]), 2 * size
        quantiles[k] = _upper_quantile(sign * found, level, min(len(found), max(size, MIN_RANKED_SCORES)))
    return sign * np.maximum(quantiles, 0) * t_factor(level, sizes)


def t_factor(level: float, sizes: Floats) -> Floats:
    """Return the ratio of the quantiles of t distributions to that of a normal distribution, for degrees of freedom.

    These are the first terms of the expansion by Fisher and Cornish (1960).
    """
    z = inverse_normal(level)
    return np.asarray(1 + (z**2 + 1) / (4 * sizes) + (5 * z**4 + 16 * z**2 + 3) / (96 * sizes**2))


def pool(scores: Floats, minimum: int) -> Iterator[Floats]:
    """Yield the scores of each horizon, and of neighboring horizons if there are fewer than `minimum`.

    Scores of another horizon are multiplied by a power of the ratio of the horizons. A horizon without scores has the
    exponent of a random walk.
    """
    horizon = scores.shape[1]
    column, row = np.nonzero(~np.isnan(scores.T))
    observed = scores[row, column]
    starts = np.searchsorted(column, np.arange(horizon + 1))
    radius, growth = 0, _growth_exponent(scores)
    for k in range(horizon):
        # Each radius is at most 1 smaller than the one before, because a smaller one would have too few scores.
        radius = max(radius - 1, 0)
        while True:
            part = slice(starts[max(k - radius, 0)], starts[min(k + radius + 1, horizon)])
            if part.stop - part.start >= minimum or radius == horizon:
                break
            radius += 1
        exponent = growth if starts[k + 1] > starts[k] else RANDOM_WALK_EXPONENT
        yield observed[part] * ((k + 1) / (column[part] + 1)) ** exponent


def _growth_exponent(scores: Floats) -> float:
    """Return the exponent of the horizon to which the errors are proportional, from 0 (noise) to 0.5 (random walk)."""
    counts = np.count_nonzero(~np.isnan(scores), axis=0)
    squares = np.nansum(scores**2, axis=0) / np.maximum(counts, 1)
    weights = np.where(squares > 0, counts, 0)
    x, y = np.log(np.arange(scores.shape[1]) + 1), np.log(np.where(squares > 0, squares, 1)) / 2
    x -= np.sum(weights * x) / max(np.sum(weights), 1)
    variance = np.sum(weights * x * x)
    slope = np.sum(weights * x * y) / variance if variance > 0 else RANDOM_WALK_EXPONENT
    return float(np.clip(slope, 0, RANDOM_WALK_EXPONENT))


def _upper_quantile(scores: Floats, level: float, size: float) -> float:
    """Return the conformal quantile of scores for a level of at least 0.5.

    The scores determine quantiles up to the level size / (size + 1), where `size` is the number of independent scores.
    Quantiles of higher levels are at least those that a normal distribution has.
    """
    n = len(scores)
    if not n:
        # Without scores, assume normal errors. A score is a multiple of a mean absolute change, and the standard
        # deviation of a normal distribution is 1.25 times its mean absolute deviation.
        return inverse_normal(level) * 1.25
    ranked, reliable = (min(level, count / (count + 1)) for count in (n, size))
    extrapolated = float(quantile(scores, reliable)) * inverse_normal(level) / inverse_normal(reliable)
    return max(float(quantile(scores, ranked)), extrapolated)
