"""Tests of the warning of nnc.forecast about values that are far from all others of a series or known column."""

import warnings

import numpy as np
import pytest

from nnc.forecast import Forecaster, ForecastWarning


def plain(horizon=3):
    """Return a model without corrections and without a season."""
    return Forecaster(horizon, 1, preset="fast")


def values(n=200, seed=0):
    """Return a series of values near 10."""
    return 10 + np.random.default_rng(seed).normal(size=n)


@pytest.mark.parametrize("wrong", [1e7, -1e7, 1000.0])
def test_wrong_value_gives_a_warning_with_its_position(wrong):
    y = values()
    y[140] = wrong
    message = rf"more than 100 times as far from the median as 90 % of the others: {wrong:g} at position 140;"
    with pytest.warns(ForecastWarning, match=message.replace("+", r"\+")):
        plain().fit(y)
    y[140] = np.nan
    assert np.abs(plain().fit(y).predict() - 10).max() < 1


def test_warning_names_the_series_and_counts_further_ones():
    series = {name: values(seed=i) for i, name in enumerate("abcde")}
    for name in "bcde":
        series[name][5] = 1e5
    text = "100000 at position 5 of series 'b', 100000 at position 5 of series 'c', .* and 1 more;"
    with pytest.warns(ForecastWarning, match=text):
        plain().fit(series)


def test_position_counts_missing_values_at_the_start():
    with pytest.warns(ForecastWarning, match="1e\\+06 at position 7;"):
        plain().fit([np.nan, np.nan, *values(5), 1e6, *values(20)])


def test_time_of_a_wrong_value_in_a_frame_is_named():
    pytest.importorskip("nnc.tabular", exc_type=ImportError)
    pd = pytest.importorskip("pandas")
    series = pd.Series(values(60), index=pd.date_range("2024-01-01", periods=60))
    series["2024-02-03"] = 1e6
    with pytest.warns(ForecastWarning, match="1e\\+06 at 2024-02-03;"):
        plain().fit(series)


def test_wrong_value_of_a_known_column_is_named():
    promotion = (np.random.default_rng(1).random(100) < 0.3).astype(float)
    promotion[60] = 1000
    with pytest.warns(ForecastWarning, match="90 % of the others: 1000 at position 60 in column 0 of X;"):
        plain().fit(values(100), promotion)


def test_update_checks_only_new_values_and_leaves_the_model_if_the_warning_is_an_error():
    y = values()
    y[140] = 1e6
    with pytest.warns(ForecastWarning, match="position 140;"):
        model = plain().fit(y)
    forecast = model.append([10.0, 9.0]).predict()
    with pytest.raises(ForecastWarning, match="2e\\+06 at position 203;"):  # the tests turn warnings into errors
        model.append([10.0, 2e6, 11.0])
    np.testing.assert_array_equal(model.predict(), forecast)


@pytest.mark.parametrize(
    "y",
    [
        np.random.default_rng(0).poisson(0.05, 400),
        np.random.default_rng(0).lognormal(size=1000),
        np.exp(0.1 * np.arange(200.0)),
        np.where(np.arange(100) == 50, 11.0, 10.0),
        np.where(np.arange(730) % 365 == 350, 60.0, 10 + np.sin(np.arange(730.0))),
        np.zeros(30),
    ],
)
def test_ordinary_series_give_no_warning(y):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain().fit(y)
