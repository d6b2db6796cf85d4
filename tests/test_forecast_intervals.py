"""Tests of the prediction intervals of nnc.forecast: scores of few windows, and long horizons."""

import numpy as np
import pytest
from lines import count_executed_lines

from nnc.forecast import Forecaster


@pytest.fixture(scope="module")
def short_models():
    """Return {horizon: model} for a series of 40 values."""
    y = 100 + np.random.default_rng(0).normal(size=40).cumsum()
    return {horizon: Forecaster(horizon, 1).fit(y) for horizon in (150, 300, 1000)}


def test_steps_of_intervals_are_linear_in_the_horizon(short_models):
    half, full = (count_executed_lines(lambda h=h: short_models[h].predict(level=0.8)) for h in (150, 300))
    assert full < 2.2 * half


def test_intervals_of_steps_without_scores_grow_as_those_of_a_random_walk(short_models):
    columns = short_models[1000].predict(level=0.8)
    width = columns["upper_80"] - columns["forecast"]
    np.testing.assert_allclose(width[899] / width[399], np.sqrt(900 / 400))


@pytest.mark.parametrize("count", [30, pytest.param(500, marks=pytest.mark.exhaustive)])
def test_intervals_of_single_series_cover_their_level_at_the_last_step(count):
    inside = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        season = rng.normal(0, 5, 12)
        y = 100 + np.tile(season, 11) + rng.normal(size=132).cumsum()
        columns = Forecaster(12, 12, preset="fast").fit(y[:120]).predict(level=0.8)
        inside.append(columns["lower_80"][-1] <= y[-1] <= columns["upper_80"][-1])
    assert 0.75 <= np.mean(inside) <= 0.85


@pytest.mark.filterwarnings("ignore:.*less than three seasons")
@pytest.mark.parametrize("n", [24, 27, pytest.param(32, marks=pytest.mark.exhaustive)])
def test_intervals_of_two_to_three_seasons_cover_their_level(n):
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(30, n + 12))
    Y = 100 + np.array([np.resize(season, n + 12) for season in rng.normal(0, 5, (30, 12))]) + noise
    columns = Forecaster(12, 12, preset="fast").fit(list(Y[:, :n])).predict(level=0.8)
    inside = (columns["lower_80"] <= Y[:, n:]) & (Y[:, n:] <= columns["upper_80"])
    assert 0.7 <= inside.mean() <= 0.9


@pytest.mark.filterwarnings("ignore:.*less than three seasons")
def test_intervals_of_two_seasons_are_as_narrow_as_the_noise():
    rng = np.random.default_rng(0)
    y = 100 + 5 * np.sin(np.arange(24) * np.pi / 6) + rng.normal(0, 0.1, 24)
    columns = Forecaster(12, 12, preset="fast").fit(y).predict(level=0.8)
    assert (columns["upper_80"] - columns["lower_80"]).max() < 0.8


@pytest.mark.parametrize(("is_walk", "low", "high"), [(False, 0.85, 1.1), (True, 0.2, 0.45)])
def test_intervals_of_few_scores_grow_with_the_steps_as_the_errors_do(is_walk, low, high):
    ratios = []
    for seed in range(20):
        y = np.random.default_rng(seed).normal(size=30)
        columns = Forecaster(8, 1, preset="fast").fit(100 + (y.cumsum() if is_walk else y)).predict(level=0.8)
        width = columns["upper_80"] - columns["lower_80"]
        ratios.append(width[0] / width[7])
    assert low < np.median(ratios) < high


@pytest.mark.filterwarnings("ignore:.*fewer than 10 observations")
def test_intervals_of_short_series_without_season_are_not_those_of_series_with_season():
    rng = np.random.default_rng(0)
    walks = 100 + rng.normal(size=(30, 13)).cumsum(axis=1)
    trend = rng.normal(size=(30, 1)) * np.arange(13)
    seasonal = 100 + trend + np.array([np.resize(season, 13) for season in rng.normal(0, 5, (30, 4))])
    Y = np.concatenate([walks, seasonal + rng.normal(0, 0.1, (30, 13))])
    columns = Forecaster(4, 4, preset="fast").fit(list(Y[:, :9])).predict(level=0.8)
    inside = (columns["lower_80"] <= Y[:, 9:]) & (Y[:, 9:] <= columns["upper_80"])
    assert inside.mean() > 0.55
