"""Statistical forecasts of many series at once: Theta, damped trends, seasonal adjustment, gaps.

A batch is a matrix Y (rows, T) with one series per row, and an array n (rows,) of their lengths. A series begins in
column 0 and is followed by NaN. All rows and all candidates of the smoothing parameters are computed together. The
forecasts of the candidates are averaged with weights in proportion to their likelihoods, which is more accurate than
the forecast of the best candidate.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.intp]
    Bools = NDArray[np.bool_]

MAX_BLOCK_ROWS = 256  # rows that are smoothed together; all their candidates fit into the second-level cache
# A series is seasonal if the autocorrelation at the lag of a season exceeds this number of standard errors.
SEASONALITY_Z = 1.28
MIN_ERROR_GAIN = 0.05  # an error is clearly lower than another one if it is lower by more than this fraction ...
MIN_ERROR_T = 2.0  # ... and the mean difference exceeds this number of standard errors
NEGLIGIBLE_ERROR = 1e-6  # mean error that need not be reduced, in units of `Windows.scale`
MIN_BLOCKS = 5  # smallest number of blocks of errors from which a standard error is estimated
MIN_EXPLAINED = 0.7  # a series is also seasonal if a larger fraction of its deviations from a line repeats
MAX_LOG_GROWTH = 3.0  # largest amount by which forecasts of logarithms exceed the logarithm of the largest observation
INITIAL_OBSERVATIONS = 10  # number of observations that determine the initial level and trend
ALPHAS = np.array([0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99])  # smoothing factors of the level
TREND_SHARES = 0.5, 0.7  # fractions of the linear trend in forecasts of the Theta method
# Smoothing factors of the level for series with many zeros.
INTERMITTENT_ALPHAS = np.array([0.02, 0.05, 0.1, 0.15, 0.2, 0.3])
# Candidates of the damped trend, as rows: smoothing factor of the level, smoothing factor of the trend, damping factor.
DAMPED = np.array(
    [(a, a * b, phi) for a, b, phi in product((0.05, 0.2, 0.4, 0.7, 0.95), (0.01, 0.03, 0.1, 0.25), (0.8, 0.9, 0.98))]
).T


def fill_gaps(y: Floats, season: int) -> Floats:
    """Return a series (n,) with its missing values replaced; the first and the last value must not be missing.

    Missing values are interpolated linearly. In series of at least two seasons, a seasonal deviation is added: the mean
    of the deviations at the same step of the season before and the season after, as far as they are observed.
    """
    missing = np.isnan(y)
    if not missing.any():
        return y
    t = np.arange(len(y))
    line = np.interp(t, t[~missing], y[~missing])
    if season == 1 or len(y) < 2 * season:
        return line
    width = season // 2
    sums = np.cumsum(np.pad(line, (width + 1, season - 1 - width), mode="edge"))
    level = (sums[season:] - sums[:-season]) / season  # moving average over a season
    deviation = np.where(missing, np.nan, y - level)
    neighbors = np.full((2, len(y)), np.nan)
    neighbors[0, season:], neighbors[1, :-season] = deviation[:-season], deviation[season:]
    observed = ~np.isnan(neighbors)
    count = observed.sum(0)
    mean = np.where(observed, neighbors, 0).sum(0) / np.maximum(count, 1)
    return np.where(missing, np.where(count > 0, level + mean, line), y)


# -------------------------------------------------------------------------------------------- seasonal adjustment


def reverse(Y: Floats, n: Ints, steps: int) -> Floats:
    """Return the last `steps` values (rows, steps) of each row, the last one first; NaN before the first value."""
    position = n[:, None] - 1 - np.arange(steps)
    return np.where(position >= 0, np.take_along_axis(Y, np.maximum(position, 0), 1), np.nan)


def fit_lines(Y: Floats, n: Ints) -> tuple[Floats, Floats]:
    """Return intercept and slope (rows,) of the line through the first n values of each row by least squares."""
    t = np.arange(Y.shape[1])
    inside, center = t < n[:, None], (n - 1) / 2
    mean = np.sum(np.where(inside, Y, 0), 1) / n
    products = np.where(inside, (t - center[:, None]) * (Y - mean[:, None]), 0)
    slope = np.sum(products, 1) / np.maximum(n * (n * n - 1.0) / 12, 1)
    return mean - slope * center, slope


def moving_average(Y: Floats, season: int) -> Floats:
    """Return the centered moving average over a season, (rows, T); NaN at the ends.

    For even seasons, the first and the last of season + 1 values have half the weight.
    """
    rows, T = Y.shape
    half = season // 2
    sums = np.cumsum(np.concatenate([np.zeros((rows, 1)), np.where(np.isnan(Y), 0, Y)], 1), 1)
    level = np.full((rows, T), np.nan)
    odd = (sums[:, 2 * half + 1 :] - sums[:, : T - 2 * half]) / season
    level[:, half : T - half] = odd if season % 2 else odd - (Y[:, : T - 2 * half] + Y[:, 2 * half :]) / (2 * season)
    return np.where(np.isnan(Y), np.nan, level)


def autocorrelations(Y: Floats, n: Ints, lags: int) -> Floats:
    """Return the autocorrelations (rows, lags) of the deviations from a linear trend, for the lags 1 to `lags`."""
    intercept, slope = fit_lines(Y, n)
    t = np.arange(Y.shape[1])
    Z = np.where(t < n[:, None], Y - intercept[:, None] - slope[:, None] * t, 0)
    variance = np.sum(Z * Z, 1)
    scale = np.where(variance > 0, variance, 1)
    spectrum = np.fft.rfft(Z, 2 ** (2 * Y.shape[1] - 1).bit_length(), axis=1)
    products = np.fft.irfft(spectrum.real**2 + spectrum.imag**2, axis=1)[:, 1 : lags + 1]
    return np.asarray(products / scale[:, None])


def seasonality(Y: Floats, n: Ints, season: int) -> Floats:
    """Return the autocorrelation (rows,) at the lag of a season, divided by its standard error (Bartlett)."""
    if Y.shape[1] <= season:
        return np.zeros(len(n))
    r = autocorrelations(Y, n, season)
    # Divide by the fraction of the products that the series contains at each lag, which removes the bias.
    r /= np.maximum(1 - np.arange(1, season + 1) / n[:, None], 1 / n[:, None])
    return np.asarray(r[:, -1] * np.sqrt(n) / np.sqrt(1 + 2 * np.sum(r[:, :-1] ** 2, 1)))


def explained_by_season(Y: Floats, n: Ints, season: int) -> Floats:
    """Return the fraction (rows,) of the deviations from a line that repeats after a season; rows are longer than one.

    The changes from season to season without their mean, which is the trend, have twice the variance of the remainder.
    """
    intercept, slope = fit_lines(Y, n)
    rest = Y - intercept[:, None] - slope[:, None] * np.arange(Y.shape[1])
    changes = Y[:, season:] - Y[:, :-season]
    count = np.maximum(n - season, 1)
    changes = changes - np.nansum(changes, 1, keepdims=True) / count[:, None]
    variance, noise = np.nansum(rest**2, 1) / n, np.nansum(changes**2, 1) / count
    return np.asarray(1 - noise / np.where(variance > 0, 2 * variance, 1))


def seasonal_indices(Y: Floats, n: Ints, season: int, multiply: bool) -> Floats:
    """Return the seasonal index of each phase, (rows, season), by classical decomposition with shrinkage.

    Column k belongs to the observation k steps before the last one of the row. The deviations of the indices from their
    mean are multiplied by 1 minus the estimated ratio of noise variance to total variance (Miller and Williams, 2003).
    Rows without significant seasonality, and rows of less than two seasons, have neutral indices.

    Parameters
    ----------
    Y, n
        Batch.
    season : int
        Number of steps in a season, at least 2.
    multiply : bool
        Whether the indices are factors (of positive series) instead of summands.
    """
    neutral = 1.0 if multiply else 0.0
    rows, T = Y.shape
    tested = n >= 2 * season
    indices = np.full((rows, season), neutral)
    if not tested.any():
        return indices
    level = moving_average(Y, season)
    level[np.arange(T) >= n[:, None] - season // 2] = np.nan
    cycles = -(-T // season)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = reverse(Y / level if multiply else Y - level, n, cycles * season).reshape(rows, cycles, season)
    present = np.isfinite(ratios)
    count = np.maximum(present.sum(1), 1)
    ratios = np.where(present, ratios, 0)
    means = ratios.sum(1) / count
    within = np.sum(np.where(present, ratios - means[:, None], 0) ** 2, (1, 2))
    noise = within / np.maximum(present.sum((1, 2)) - season, 1) * np.mean(1 / count, 1)
    center = means.mean(1, keepdims=True)
    # Replace the center 0 of rows without a complete season by 1; the result is not used, as they are not seasonal.
    deviations = (means / np.where(center == 0, 1, center) if multiply else means - center) - neutral
    total = np.sum(deviations**2, 1) / (season - 1)
    factor = np.clip(1 - noise / np.where(total > 0, total, 1), 0, 1)
    clear = explained_by_season(Y, n, season) > MIN_EXPLAINED
    seasonal = tested & (total > 0) & (clear | (seasonality(Y, n, season) > SEASONALITY_Z))
    indices[seasonal] = neutral + (factor[:, None] * deviations)[seasonal]
    return np.maximum(indices, 0.01) if multiply else indices


# -------------------------------------------------------------------------------------------- exponential smoothing


def smooth(Y: Floats, n: Ints, candidates: Floats, level: Floats, trend: Floats | None) -> tuple[Floats, ...]:
    """Smooth all rows exponentially with all candidates of the smoothing parameters.

    Parameters
    ----------
    Y, n
        Batch.
    candidates : array (3, candidates) or (1, candidates)
        Smoothing factor of the level, smoothing factor of the trend, and damping factor; or only the first of these
        rows.
    level : array (rows,)
        Level before the first observation.
    trend : array (rows,), optional
        Trend before the first observation. Default: no trend.

    Returns
    -------
    level, trend, squares : arrays (rows, candidates)
        Final level and trend, and the sum of the squared errors of the one-step forecasts.
    """
    shape = len(n), candidates.shape[1]
    results = tuple(np.zeros(shape) for _ in range(3))
    order = np.argsort(-n, kind="stable")
    for start in range(0, len(n), MAX_BLOCK_ROWS):
        rows = order[start : start + MAX_BLOCK_ROWS]
        lengths, values = n[rows], np.ascontiguousarray(Y[rows].T)
        levels, trends = np.repeat(level[rows, None], shape[1], 1), np.zeros((len(rows), shape[1]))
        if trend is not None:
            trends += trend[rows, None]
        squares = np.zeros_like(levels)
        # For each t, find the number of rows with more than t values. The rows are sorted by decreasing length.
        active = np.searchsorted(-lengths, -np.arange(lengths[0]), side="left")
        for t, k in enumerate(active.tolist()):
            current = levels[:k]
            if trend is not None:
                slope = trends[:k]
                slope *= candidates[2]
                current += slope
            error = values[t, :k, None] - current
            current += candidates[0] * error
            if trend is not None:
                slope += candidates[1] * error
            error *= error
            squares[:k] += error
        for result, part in zip(results, (levels, trends, squares), strict=True):
            result[rows] = part
    return results


def likelihood_weights(squares: Floats, n: Ints) -> Floats:
    """Return weights (rows, candidates) in proportion to the likelihoods of normal errors, given sums of squares."""
    best = squares.min(1, keepdims=True)
    relative = np.where(best > 0, squares / np.where(best > 0, best, 1), np.where(squares > 0, np.inf, 1))
    weights = relative ** (-0.5 * n[:, None])
    return np.asarray(weights / weights.sum(1, keepdims=True))


def theta(Y: Floats, n: Ints, horizon: int) -> Floats:
    """Return the forecasts (rows, horizon) of the Theta method (Assimakopoulos and Nikolopoulos, 2000).

    The forecast is the sum of a fraction of the linear trend and of the smoothed remainder. The fraction is 0.5 in this
    publication. Here it is a mean of TREND_SHARES by likelihood, similar to the optimized Theta method (Fiorucci et
    al., 2016).
    """
    intercept, slope = fit_lines(Y, n)
    line = intercept[:, None] + slope[:, None] * np.arange(Y.shape[1] + horizon)
    remainders = [Y - share * line[:, : Y.shape[1]] for share in TREND_SHARES]
    smoothed = [smooth(remainder, n, ALPHAS[None], remainder[:, 0], None) for remainder in remainders]
    levels, squares = (np.concatenate([result[i] for result in smoothed], 1) for i in (0, 2))
    weights = likelihood_weights(squares, n)
    share = np.sum(weights * np.repeat(TREND_SHARES, len(ALPHAS)), 1)
    future = np.take_along_axis(line, n[:, None] + np.arange(horizon), 1)
    return np.asarray(np.sum(weights * levels, 1)[:, None] + share[:, None] * future)


def damped_trend(Y: Floats, n: Ints, horizon: int) -> Floats:
    """Return the forecasts (rows, horizon) of smoothing with a damped trend (Gardner and McKenzie, 1985)."""
    first = np.minimum(n, INITIAL_OBSERVATIONS)
    intercept, slope = fit_lines(Y[:, : first.max()], first)
    levels, trends, squares = smooth(Y, n, DAMPED, intercept - slope, slope)
    weights = likelihood_weights(squares, n)
    levels, trends = np.sum(weights * levels, 1), weights * trends
    damping = np.cumsum(DAMPED[2] ** np.arange(1, horizon + 1)[:, None], 0)
    return np.stack([levels + np.sum(trends * factors, 1) for factors in damping], 1)


def smoothed_level(Y: Floats, n: Ints, horizon: int) -> Floats:
    """Return constant forecasts (rows, horizon) for series with many zeros: their exponentially smoothed level."""
    mean = np.nansum(np.where(np.arange(Y.shape[1]) < n[:, None], Y, 0), 1) / n
    levels, _, squares = smooth(Y, n, INTERMITTENT_ALPHAS[None], mean, None)
    return np.repeat(np.sum(likelihood_weights(squares, n) * levels, 1)[:, None], horizon, 1)


# -------------------------------------------------------------------------------------------- comparison of errors


def is_clearly_lower(errors: Floats, reference: Floats, series: Ints, origins: Ints) -> bool:
    """Return whether errors are lower than `reference` by MIN_ERROR_GAIN, and significantly by a paired t test.

    Errors for the same time or for neighboring times are dependent. Therefore the test compares the means of blocks of
    `horizon` successive times of a series. In a short time, blocks are shorter and count as a fraction of a block.

    Parameters
    ----------
    errors, reference : arrays (windows, horizon)
        Absolute errors in units of `Windows.scale`; NaN if missing.
    series, origins : int arrays (windows,)
        Index of the series and origin of each window.
    """
    horizon = errors.shape[1]
    gains = reference - errors
    present = ~np.isnan(gains)
    error = float(reference[present].mean()) if present.any() else 0.0
    if error < NEGLIGIBLE_ERROR or gains[present].mean() <= MIN_ERROR_GAIN * error:
        return False
    times = (origins[:, None] + np.arange(horizon))[present]
    times -= times.min()
    length = max(min(int(times.max() + 1) // MIN_BLOCKS, horizon), 1)
    blocks = np.repeat(series, present.sum(1)) * (int(times.max()) + 1) + times // length
    _, block, counts = np.unique(blocks, return_inverse=True, return_counts=True)
    means = np.bincount(block, gains[present]) / counts
    n = len(means)
    standard_error = float(means.std(ddof=1)) / (n * length / horizon) ** 0.5 if n > 1 else np.inf
    return n >= MIN_BLOCKS and float(means.mean()) > MIN_ERROR_T * standard_error
