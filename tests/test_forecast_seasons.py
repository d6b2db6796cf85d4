"""Tests of the choice of the season by nnc.forecast: detection, several seasons, and series without a season."""

import warnings

import numpy as np
import pytest

from nnc.forecast import Forecaster, ForecastWarning


def repeated(season, cycles=4, noise=0.3):
    """Return a series that repeats a random pattern of `season` steps, with noise."""
    rng = np.random.default_rng(season)
    n = int(season * cycles)
    return 100 + 3 * np.resize(rng.normal(size=season), n) + noise * rng.normal(size=n)


def hourly(weeks):
    """Return hourly values with a daily pattern, which is weaker on weekends, and a lower level on weekends."""
    hours = np.arange(168 * weeks)
    is_weekend = hours // 24 % 7 >= 5
    day = 20 * np.sin(2 * np.pi * hours / 24) * np.where(is_weekend, 0.2, 1)
    return 100 + day - 25 * is_weekend + 2 * np.random.default_rng(0).normal(size=len(hours))


def seasonal_walk(n, season, seed=0):
    """Return a series in which each step of the season is a random walk of its own."""
    return 100 + np.random.default_rng(seed).normal(size=(n // season, season)).cumsum(axis=0).ravel()


def season_of(y, horizon=6):
    return Forecaster(horizon, preset="fast").fit(y).season_


@pytest.mark.parametrize("season", [3, 8, 10, 30])
def test_any_season_is_detected_without_dates(season):
    assert season_of(repeated(season, max(4, 30 / season))) == season


@pytest.mark.exhaustive
@pytest.mark.parametrize("season", [2, 5, 6, 7, 12, 13, 24, 48, 52, 77, 96, 168, 250, 365])
def test_long_and_short_seasons_are_detected_without_dates(season):
    assert season_of(repeated(season, max(4, 30 / season))) == season


def test_series_without_season_have_none():
    rng = np.random.default_rng(0)
    for y in (rng.normal(size=100), rng.normal(size=100).cumsum(), np.arange(50.0), rng.poisson(0.3, 60), np.ones(30)):
        assert season_of(y) == 1


def test_detected_season_does_not_depend_on_order_of_series():
    series = [*(repeated(10, n) for n in (4, 5, 6)), *(repeated(7, n) for n in (6, 8))]
    assert season_of(series) == season_of(series[::-1])


def test_season_of_a_week_replaces_that_of_a_day_with_a_warning():
    pd = pytest.importorskip("pandas")
    y = hourly(4)[: 3 * 168 + 24]
    train, actual = y[:-24], y[-24:]
    dated = pd.Series(train, index=pd.date_range("2024-01-01", periods=len(train), freq="h"))
    model = Forecaster(24, preset="fast")
    with pytest.warns(ForecastWarning, match="seasons of 24 and 168 steps, .* only that of 168 steps, .* pass season="):
        model.fit(dated)
    assert model.season_ == 168
    forecast = model.predict()["forecast"].to_numpy()
    assert np.abs(forecast - actual).mean() < 1.2 * np.abs(train[-168:-144] - actual).mean()


def test_frequency_determines_season_of_short_and_plain_series():
    pd = pytest.importorskip("pandas")
    for y in (repeated(12, 6), np.random.default_rng(0).normal(size=60)):
        series = pd.Series(y, index=pd.date_range("2015-01-01", periods=len(y), freq="MS"))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert season_of(series) == 12


@pytest.mark.parametrize("n", [24, 25, 30, 35])
def test_clear_season_of_less_than_three_cycles_is_as_accurate_as_last_season(n):
    for slope in (0, 0.5):
        t = np.arange(n + 12)
        y = 100 + slope * t + 10 * np.sin(2 * np.pi * t / 12) + 0.3 * np.random.default_rng(n).normal(size=n + 12)
        with pytest.warns(ForecastWarning, match="less than three seasons"):
            forecast = Forecaster(12, 12, preset="fast").fit(y[:n]).predict()
        assert np.abs(forecast - y[n:]).mean() < (1.4 if slope == 0 else 0.4) * np.abs(y[n - 12 : n] - y[n:]).mean()


# -------------------------------------------------------------------------------------------- seasonal naive forecast


def test_forecasts_repeat_the_last_season_if_nothing_else_is_as_accurate():
    y = 3 * seasonal_walk(120, 12)
    model = Forecaster(12, 12, preset="fast")
    with pytest.warns(
        ForecastWarning, match=r"forecasts are the last season \(seasonal naive\), because .* pass season="
    ):
        model.fit(y)
    result = model.predict(level=0.8)
    np.testing.assert_allclose(result["forecast"], y[-12:], rtol=1e-12)
    assert model.naive_share_ == 1
    assert "100% last season (seasonal naive)" in str(model.report())
    half_width = (result["upper_80"] - result["lower_80"]) / 2
    assert 3 < half_width.mean() < 7  # for normal changes with the standard deviation 3: 3.8


def test_usual_series_are_not_forecast_by_the_last_season():
    t = np.arange(60)
    noise = np.random.default_rng(0).normal(size=60)
    for y in (noise, noise.cumsum(), 0.3 * t + 10 * np.sin(2 * np.pi * t / 12) + noise, np.resize(t[:12], 60), t * 1.0):
        assert Forecaster(6, 12, preset="fast").fit(y + 100).naive_share_ == 0


@pytest.mark.parametrize("weekend", [-25, -40])
def test_two_weeks_of_hours_are_forecast_as_accurately_as_by_the_last_week(weekend):
    hours = np.arange(15 * 24)
    day = 20 * np.sin(2 * np.pi * hours / 24)
    y = 100 + day + weekend * (hours // 24 % 7 >= 5) + 4 * np.random.default_rng(0).normal(size=len(hours))
    model = Forecaster(24, preset="fast")
    with pytest.warns(ForecastWarning, match="less than three seasons of 168 steps"):
        model.fit(y[:-24])
    assert np.abs(model.predict() - y[-24:]).mean() < 1.3 * np.abs(y[-192:-168] - y[-24:]).mean()


def test_report_names_seasons_that_forecasts_do_not_use():
    pd = pytest.importorskip("pandas")
    dated = pd.Series(hourly(3), index=pd.date_range("2024-01-01", periods=3 * 168, freq="h"))
    with pytest.warns(ForecastWarning, match="seasons of 24 and 168 steps"):
        model = Forecaster(24, preset="fast").fit(dated)
    assert "season of 168 steps; not used: 24 steps" in str(model.report())
