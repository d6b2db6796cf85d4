"""Tests of the effects of known covariates in nnc.forecast: columns that trend and season explain, and the calendar."""

import numpy as np
import pytest
from test_forecast import monthly

from nnc.forecast import Forecaster, ForecastWarning

EASTER_MONTHS = np.array([4, 4, 4, 4, 4, 3])  # in 2024, Easter is on March 31


@pytest.fixture(scope="module")
def easter():
    """Return a monthly series of six years, and a column that is 1 in the month of Easter."""
    return monthly(72), (np.tile(np.arange(1, 13), 6) == np.repeat(EASTER_MONTHS, 12)).astype(float)


def fit_with_warning(y, X):
    """Return the model of y with X, which gives a warning."""
    message = r"column 0 of X can hardly affect the forecasts \(trend and season explain it;"
    with pytest.warns(ForecastWarning, match=message):
        return Forecaster(12, 12, preset="fast").fit(y, X)


def test_column_that_the_season_explains_gives_a_warning_and_has_no_effect(easter):
    y, X = easter
    model = fit_with_warning(y[:60], X[:60])
    plain = Forecaster(12, 12, preset="fast").fit(y[:60])
    np.testing.assert_allclose(model.predict(X[60:]), plain.predict(), rtol=1e-6)


@pytest.mark.parametrize("name", ["month", "year", "line", "growth"])
def test_smooth_and_seasonal_columns_do_not_spoil_forecasts(name):
    t, y = np.arange(72), monthly(72, noise=3)
    X = {"month": t % 12 + 1, "year": 2019 + t // 12, "line": 10 + 0.5 * t, "growth": 1.02**t}[name]
    model = fit_with_warning(y[:60], X[:60])
    plain = Forecaster(12, 12, preset="fast").fit(y[:60])
    errors = [np.abs(forecast - y[60:]).mean() for forecast in (model.predict(X[60:]), plain.predict())]
    assert errors[0] < 1.3 * errors[1]


def test_column_that_changes_in_some_years_keeps_its_effect(easter):
    y, X = easter
    model = Forecaster(12, 12).fit(y + 15 * X, X)
    effect = model.predict(np.ones(12)) / model.predict(np.zeros(12))
    assert 1.04 < effect[0] < 1.2


def test_warning_names_the_columns_of_a_frame(easter):
    pytest.importorskip("nnc.tabular", exc_type=ImportError)
    pd = pytest.importorskip("pandas")
    y, X = easter
    promotion = np.random.default_rng(0).random(60) < 0.2
    texts = np.where(promotion, "promotion", np.where(X[:60] > 0, "Easter", "none"))
    columns = {"month": pd.date_range("2019-01-01", periods=60, freq="MS"), "y": y[:60], "easter": X[:60], "day": texts}
    with pytest.warns(ForecastWarning, match=r"^known column 'easter' can hardly affect[^']*$"):
        Forecaster(12).fit(pd.DataFrame(columns), time="month", target="y", known=["easter", "day"])


def test_dates_do_not_spoil_forecasts_of_noisy_days():
    pytest.importorskip("nnc.tabular", exc_type=ImportError)
    pd = pytest.importorskip("pandas")
    y = 100 + 3 * np.random.default_rng(0).normal(size=1000)
    dated = pd.Series(y[:972], index=pd.date_range("2020-01-01", periods=972))
    forecast = Forecaster(28, preset="fast").fit(dated).predict()["forecast"]
    plain = Forecaster(28, 7, preset="fast").fit(y[:972]).predict()
    assert np.abs(forecast - y[972:]).mean() < 1.05 * np.abs(plain - y[972:]).mean()


def test_future_values_far_outside_the_past_give_a_warning():
    X = np.linspace(0, 10, 40)[np.random.default_rng(0).permutation(40)]
    y = monthly(40) + X
    model = Forecaster(2, 1, preset="fast").fit(y, X)
    model.predict([-9, 19])
    with pytest.warns(ForecastWarning, match=r"^column 0 of X has 100 in row 1 \(in fit: from 0 to 10\); the effect"):
        model.predict([5, 100])
    pytest.importorskip("nnc.tabular", exc_type=ImportError)
    pd = pytest.importorskip("pandas")
    months = pd.date_range("2020-01-01", periods=42, freq="MS")
    frame = pd.DataFrame({"month": months, "y": [*y, 0, 0], "price": [*X, -100, 5], "kind": ["a", "b", "c"] * 14})
    model.fit(frame[:40], time="month", target="y", known=["price", "kind"])
    message = r"^known column 'price' has -100 in row 1 \(in fit: from 0 to 10\); the effect[^']*$"
    with pytest.warns(ForecastWarning, match=message):
        model.predict(frame[:39:-1].drop(columns="y"))  # the warning names the row of this frame
