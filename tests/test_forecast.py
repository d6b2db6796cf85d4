"""Tests of nnc.forecast on arrays: forecasts, intervals, updates, backtests, unusual series and errors."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import examples

from nnc.forecast import Forecaster, ForecastWarning, mase, smape


def monthly(n, seed=0, noise=1.0, level=100.0):
    """Return a series with a trend, a season of 12 steps and noise."""
    t = np.arange(n)
    return level + 0.3 * t + 10 * np.sin(2 * np.pi * t / 12) + noise * np.random.default_rng(seed).normal(size=n)


@pytest.fixture(scope="module")
def many():
    """Return a model of 40 series, the series and their next 6 values."""
    series = [monthly(90 + i % 7, seed=i, level=50 + 10 * i) for i in range(40)]
    train = [y[:-6] for y in series]
    return Forecaster(6, n_jobs=1).fit(train), train, np.array([y[-6:] for y in series])


def assert_equal_forecasts(model, other):
    np.testing.assert_array_equal(model.predict(), other.predict())


def test_one_array_gives_an_array_near_the_next_values():
    y = monthly(132)
    model = Forecaster(12).fit(y[:120])
    forecast = model.predict()
    assert forecast.shape == (12,)
    assert model.season_ == 12
    assert mase(y[120:], forecast, y[:120], 12) < 0.65
    assert_equal_forecasts(model, Forecaster(12).fit(y[:120].tolist()))


def test_several_arrays_give_one_row_for_each(many):
    model, train, actual = many
    forecast = model.predict()
    assert forecast.shape == (40, 6)
    assert model.n_series_ == 40
    naive = np.array([y[-1] for y in train])[:, None]
    assert np.abs(forecast - actual).mean() < 0.4 * np.abs(naive - actual).mean()


def test_result_does_not_depend_on_order_of_series_and_threads(many):
    model, train, _ = many
    order = np.random.default_rng(1).permutation(40)
    other = Forecaster(6, n_jobs=2).fit([train[i] for i in order])
    expected, actual = (m.predict(level=[0.8, 0.95]) for m in (model, other))
    for name, values in expected.items():
        assert values[order].tobytes() == actual[name].tobytes(), name


def test_dict_names_the_series():
    model = Forecaster(3).fit({"a": monthly(50), "b": monthly(40, 1)})
    assert model.ids_ == ["a", "b"]
    before = model.predict()
    model.append({"b": [120.0, 121.0]})
    assert (model.predict()[0] == before[0]).all()
    assert (model.predict()[1] != before[1]).any()


def test_intervals_cover_about_their_level():
    series = [monthly(96 + 12, seed=i, noise=2 + i % 3) for i in range(60)]
    columns = Forecaster(12).fit([y[:-12] for y in series]).predict(level=[0.8, 0.95], quantiles=[0.1])
    actual = np.array([y[-12:] for y in series])
    for level, limits in ((80, (0.73, 0.87)), (95, (0.91, 0.98))):
        inside = (actual >= columns[f"lower_{level}"]) & (actual <= columns[f"upper_{level}"])
        assert limits[0] < inside.mean() < limits[1]
    np.testing.assert_array_equal(columns["quantile_0.1"], columns["lower_80"])


def test_corrections_learn_pattern_without_statistical_model():
    # Each change has the opposite sign of the change two steps before. No statistical model represents this pattern.
    rng = np.random.default_rng(0)
    series = []
    for _ in range(60):
        changes = [1.0, 1.0]
        for _ in range(80):
            changes.append(-np.sign(changes[-2]) + 0.1 * rng.normal())
        series.append(100 + np.cumsum(changes))
    train, actual = [y[:-4] for y in series], np.array([y[-4:] for y in series])
    learned = Forecaster(4, season=1).fit(train)
    plain = Forecaster(4, season=1, preset="fast").fit(train)
    assert sum(learned.weights_.values()) > 0.5
    assert plain.weights_ == {"linear": 0.0, "networks": 0.0}
    assert np.abs(learned.predict() - actual).mean() < 0.8 * np.abs(plain.predict() - actual).mean()


def test_corrections_do_not_increase_error_on_random_walks():
    rng = np.random.default_rng(0)
    series = [100 + np.cumsum(rng.normal(size=36)) for _ in range(50)]
    train, actual = [y[:-6] for y in series], np.array([y[-6:] for y in series])
    default, fast = (Forecaster(6, 1, preset=preset).fit(train).predict() for preset in ("default", "fast"))
    assert np.abs(default - actual).mean() < 1.03 * np.abs(fast - actual).mean()


# -------------------------------------------------------------------------------------------- covariates and updates


def test_known_covariates_of_an_array_improve_the_forecast():
    rng = np.random.default_rng(0)
    X = (rng.random((130, 1)) < 0.2).astype(float)
    y = 100 + 30 * X[:, 0] + rng.normal(size=130)
    model = Forecaster(10, season=1).fit(y[:120], X[:120])
    forecast = model.predict(X[120:])
    assert np.abs(forecast - y[120:]).mean() < 3
    with pytest.raises(ValueError, match="X must be an array \\(10, 1\\), got None"):
        model.predict()
    with pytest.raises(ValueError, match="X must have shape \\(10, covariates\\), got \\(9, 1\\)"):
        model.predict(X[121:])


def test_known_covariates_may_have_a_threshold():
    rng = np.random.default_rng(0)
    discount = np.where(rng.random((310, 1)) < 0.5, 0.5 * rng.random((310, 1)), 0)
    y = 100 * np.exp(0.6 * (discount[:, 0] > 0.3) + 0.02 * rng.normal(size=310))
    forecast = Forecaster(10, season=1, preset="fast").fit(y[:300], discount[:300]).predict(discount[300:])
    assert np.abs(np.log(forecast / y[300:])).mean() < 0.03  # a model that is linear in X has the error 0.039


def test_update_equals_fit_of_statistics_on_longer_series():
    y = monthly(100)
    updated = Forecaster(5, 12, preset="fast").fit(y[:90]).append(y[90:])
    fitted = Forecaster(5, 12, preset="fast").fit(y)
    np.testing.assert_allclose(updated.predict(), fitted.predict(), rtol=1e-12)


def test_update_accepts_one_value_for_each_series():
    series, new = [monthly(60, seed=i) for i in range(3)], [[1.0], [2.0], [3.0]]
    model, other = (Forecaster(3, 12, preset="fast").fit(series) for _ in range(2))
    assert_equal_forecasts(model.append(np.array(new)), other.append(new))


def test_large_errors_widen_intervals_and_small_errors_narrow_them():
    series = [monthly(76, seed=i) for i in range(20)]
    widths = []
    for shift in (0, 500):
        model = Forecaster(6, 12).fit([y[:-6] for y in series]).append([y[-6:] + shift for y in series])
        # The factor of the widths is private. The widths also depend on the scale, which the shift changes.
        widths.append(model._fitted().width.mean())
    assert widths[0] == pytest.approx(1, abs=0.05)
    assert widths[1] > 1.2


def test_backtest_has_metrics_for_each_horizon_and_changes_nothing(many):
    model, train, _ = many
    before = model.predict()
    result = model.backtest(3, step=2)
    assert (model.predict() == before).all()
    assert result.forecasts.shape == (3, 40, 6)
    np.testing.assert_array_equal(result.actuals[-1], [y[-6:] for y in train])
    assert result.scores.keys() == {"mase", "smape", "rmsse", "quantile_loss", "coverage_80", "coverage_95"}
    assert result.scores["mase"] < 0.8
    assert result.scores["mase"] == pytest.approx(np.mean(result.by_horizon["mase"]))
    assert str(result).splitlines()[-1].startswith("all")
    assert "<table" in result._repr_html_()


@pytest.mark.parametrize("options", [{"refit": True}, {"mode": "sliding"}, {"mode": "sliding", "refit": True}])
def test_backtest_never_uses_later_observations(options):
    y = monthly(80)
    changed = y.copy()
    changed[-4:] += 300
    first, second = (Forecaster(4, 12).fit(series).backtest(3, **options) for series in (y, changed))
    np.testing.assert_array_equal(first.forecasts, second.forecasts)
    assert not np.array_equal(first.actuals, second.actuals)


def test_backtest_plot_shows_each_window():
    pytest.importorskip("matplotlib")
    axes = Forecaster(4, 12).fit(monthly(80)).backtest(2).plot()
    assert len(axes.lines) == 4


# -------------------------------------------------------------------------------------------- unusual series


def test_missing_values_are_interpolated_within_seasons():
    y = monthly(120, noise=0.1)
    gaps = y.copy()
    gaps[[30, 31, 32, 57, 90]] = np.nan
    gaps[:5] = np.nan
    np.testing.assert_allclose(Forecaster(6, 12).fit(gaps).predict(), Forecaster(6, 12).fit(y).predict(), rtol=0.02)


def test_missing_values_at_the_ends_are_dropped():
    y = monthly(60)
    for longer in ([*y, None, np.nan], np.array([None, *y], dtype=object)):
        assert_equal_forecasts(Forecaster(6, 12).fit(longer), Forecaster(6, 12).fit(y))


def test_constant_series_gives_the_constant():
    for value in (7.0, 0.0, -3.0):
        columns = Forecaster(4).fit(np.full(40, value)).predict(level=0.95)
        np.testing.assert_allclose(columns["forecast"], value, atol=1e-6)
        np.testing.assert_allclose(columns["upper_95"], value, atol=0.1)


def test_forecast_follows_a_level_shift():
    y = np.r_[np.full(60, 100.0), np.full(15, 200.0)] + np.random.default_rng(0).normal(size=75)
    assert np.abs(Forecaster(3, 1).fit(y).predict() - 200).max() < 15


def test_counts_with_many_zeros_give_their_mean_and_no_negative_bounds():
    y = np.random.default_rng(0).poisson(0.3, 200)
    columns = Forecaster(5).fit(y).predict(level=0.95)
    assert np.abs(columns["forecast"] - y.mean()).max() < 0.3
    assert columns["lower_95"].min() >= 0


@pytest.mark.parametrize("rate", [0.1, 0.3])
def test_quantiles_below_fraction_of_zeros_are_zero(rate):
    series = [np.random.default_rng(seed).poisson(rate, 120) for seed in range(8)]
    model = Forecaster(12).fit(series)
    for _ in range(2):
        columns = model.predict(level=[0.5, 0.8, 0.95], quantiles=[0.1, 0.5, 0.9])
        for name in ("lower_50", "lower_80", "lower_95", "quantile_0.1", "quantile_0.5"):
            np.testing.assert_array_equal(columns[name], 0)
        assert (columns["quantile_0.9"] >= columns["forecast"]).all()
        model.append(np.zeros((8, 12)))  # zeros are inside the intervals, so the widths decrease
    assert (model._fitted().width < 1).all()


def test_last_zeros_of_counts_leave_finite_intervals():
    y = np.random.default_rng(0).poisson(0.3, 60)
    for length in range(40, 60):
        columns = Forecaster(3, 1).fit(y[:length]).predict(level=0.95)
        assert 0.4 < columns["upper_95"].max() < 20


def test_straight_line_is_continued_inside_its_interval():
    columns = Forecaster(3).fit(np.arange(30.0)).predict(level=0.1)
    np.testing.assert_allclose(columns["forecast"], [30, 31, 32])
    assert (columns["lower_10"] <= columns["forecast"]).all()
    assert (columns["forecast"] <= columns["upper_10"]).all()


def test_negative_values_are_forecast():
    y = monthly(100, level=-20)
    assert mase(y[-6:], Forecaster(6, 12).fit(y[:-6]).predict(), y[:-6], 12) < 1


def test_intervals_of_few_errors_are_symmetric():
    with pytest.warns(ForecastWarning):
        columns = Forecaster(3).fit(1000 - np.arange(9.0) ** 2).predict(level=0.8)
    forecast, lower, upper = columns.values()
    assert (lower < forecast).all()
    np.testing.assert_allclose(upper - forecast, forecast - lower)


def test_constant_covariate_of_an_array_gives_a_warning():
    with pytest.warns(ForecastWarning, match=r"column 1 of X cannot affect the forecasts \(all values are equal\)"):
        fitted(X=np.column_stack([np.eye(20)[3], np.zeros(20)]))


def test_many_missing_values_give_a_warning():
    y = np.where(np.arange(40) % 2, np.nan, np.arange(40.0))
    with pytest.warns(ForecastWarning, match="1 of 2 series have no value at more than a third of their times: 'b'"):
        Forecaster(2, 1, preset="fast").fit({"a": np.arange(40.0), "b": y})


def test_third_of_missing_values_gives_no_warning():
    y = np.where(np.arange(30) % 3 == 1, np.nan, np.arange(30.0))
    Forecaster(2, 1, preset="fast").fit({"a": np.arange(40.0), "b": y})


@pytest.mark.parametrize(
    ("lengths", "season", "message"),
    [
        ((60, 20), 12, "1 of 2 series have less than three seasons of 12 steps: 1;"),
        ((15, 120), 24, "1 of 2 series have less than three seasons of 24 steps: 0;"),
        ((3, 60), 12, "1 of 2 series have fewer than 10 observations: 0;"),
        ((20,), 12, "^the series has less than three seasons of 12 steps; its forecasts are mixed"),
    ],
)
def test_short_series_give_a_warning(lengths, season, message):
    with pytest.warns(ForecastWarning, match=message) as caught:
        forecast = Forecaster(6, season).fit([monthly(n) for n in lengths]).predict()
    assert len(caught) == 1
    assert np.isfinite(forecast).all()


@settings(max_examples=examples(30), deadline=None)
@given(
    st.lists(st.floats(-1e12, 1e12, allow_subnormal=False) | st.sampled_from([0.0, np.nan]), min_size=3, max_size=40),
    st.sampled_from([1, 4, 12]),
)
def test_any_finite_series_gives_finite_ordered_intervals(y, season):
    if np.count_nonzero(~np.isnan(y)) < 3:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ForecastWarning)
        columns = Forecaster(3, season).fit(y).predict(level=[0.8, 0.95])
    assert all(np.isfinite(values).all() for values in columns.values())
    for level in (80, 95):
        assert (columns[f"lower_{level}"] <= columns[f"upper_{level}"]).all()
    assert (columns["lower_95"] <= columns["lower_80"]).all()


# -------------------------------------------------------------------------------------------- metrics and errors


def test_metrics_have_their_definitions():
    assert smape([100.0, 50.0], [110.0, 50.0]) == pytest.approx((200 * 10 / 210) / 2)
    assert smape([0.0], [0.0]) == 0
    assert mase([5.0, 7.0], [4.0, 9.0], [1.0, 2.0, 4.0, 3.0], 2) == pytest.approx(1.5 / 2)
    assert np.isnan(mase([5.0], [4.0], [1.0, 1.0]))


def test_scaled_metrics_leave_out_series_that_repeat_exactly():
    pattern = np.resize([1.0, 3.0, 2.0, 5.0], 40)
    noisy = pattern + np.random.default_rng(0).normal(size=40)
    scores = [Forecaster(4, 4, preset="fast").fit(y).backtest(2).scores for y in (pattern, noisy, [pattern, noisy])]
    assert np.isnan(scores[0]["mase"])
    assert 0 < scores[1]["mase"] < 3
    assert 0 < scores[2]["mase"] < 3


def test_names_of_columns_contain_levels_in_percent():
    columns = fitted().predict(level=[0.29, 0.995])
    assert list(columns) == ["forecast", "lower_29", "upper_29", "lower_99.5", "upper_99.5"]
    assert "coverage_99.5" in Forecaster(3, 1, preset="fast").fit(monthly(40)).backtest(2, level=0.995).scores


def test_different_levels_never_share_a_name():
    nearly_one = 0.9999999999999999
    levels = [0.3, 0.1 + 0.2, 0.8, 0.8000001, 0.999999999, nearly_one, 1e-12]
    names = list(fitted().predict(level=levels, quantiles=[0.999999999, nearly_one]))
    assert names[1::2][:7] == [
        *("lower_30", "lower_30.000000000000004", "lower_80", "lower_80.00001"),
        *("lower_99.9999999", "lower_99.99999999999999", "lower_1e-10"),
    ]
    assert names[-2:] == ["quantile_0.999999999", "quantile_0.9999999999999999"]
    assert list(fitted().predict(level=np.float32(0.95), quantiles=0.1 + 0.2))[1:] == [
        *("lower_95", "upper_95", "quantile_0.3")
    ]
    result = Forecaster(3, 1, preset="fast").fit(monthly(40)).backtest(2, level=[0.99999999, 0.999999999])
    assert {"coverage_99.999999", "coverage_99.9999999"} < result.scores.keys()


def test_clone_of_scikit_learn_has_the_same_arguments():
    clone = pytest.importorskip("sklearn.base").clone
    model = Forecaster(np.int64(4), season=np.int64(12), preset="fast", n_jobs=1, seed=3)
    copy = clone(model.fit(monthly(60)))
    assert copy.get_params() == model.get_params()
    assert copy.horizon is model.horizon
    np.testing.assert_array_equal(copy.fit(monthly(60)).predict(), model.predict())
    model.horizon = 5
    assert len(model.predict()) == 4  # only the next fit uses changed arguments


def test_score_compares_forecasts_with_the_last_season():
    series = [monthly(72, seed=i) + 3 * np.arange(72) for i in range(3)]
    model = Forecaster(12, 12, preset="fast").fit([y[:60] for y in series])
    actual = np.array([y[60:] for y in series])
    naive = np.array([y[48:60] for y in series])
    scale = np.array([[np.abs(y[12:60] - y[:48]).mean()] for y in series])
    errors = [(np.abs(actual - forecast) / scale).mean() for forecast in (model.predict(), naive)]
    assert model.score(list(actual)) == pytest.approx(1 - errors[0] / errors[1])
    assert model.score(list(actual)) > 0.5
    assert model.score(list(model.predict())) == 1
    assert model.score(list(naive)) == -np.inf
    assert model.score([*actual[:2], actual[2, :4]]) != model.score(list(actual))
    assert model.score([[*y[60:], 1e9] for y in series]) == model.score(list(actual))  # after the horizon
    assert np.isnan(Forecaster(4, 4, preset="fast").fit(np.tile([1.0, 2.0, 5.0, 3.0], 10)).score([1.0, 2.0]))
    with pytest.raises(ValueError, match="one array for each of the 3 series, got 1"):
        model.score(actual[0])


def test_score_with_covariates_uses_those_of_the_new_observations():
    X = (np.arange(70) % 6 == 0).astype(float)
    y = 100 + 40 * X + np.random.default_rng(0).normal(size=70)
    model = Forecaster(8, season=1, preset="fast").fit(y[:60], X[:60])
    forecast = model.predict(X[60:68])
    scale = np.abs(np.diff(y[:60])).mean()
    expected = 1 - (np.abs(y[60:65] - forecast[:5]) / scale).mean() / (np.abs(y[60:65] - y[59]) / scale).mean()
    assert model.score(y[60:65], X[60:65]) == pytest.approx(expected)


def fitted(y=None, X=None):
    """Return a model of a short series, or of other data."""
    return Forecaster(3, 1).fit(monthly(20) if y is None else y, X)


@pytest.mark.parametrize(
    ("error", "call", "message"),
    [
        (ValueError, lambda: Forecaster(0).fit(monthly(20)), "horizon must be 1 or more, got 0"),
        (ValueError, lambda: Forecaster(3, preset="best").fit(monthly(20)), "preset must be one of fast, default, got"),
        (ValueError, lambda: Forecaster(3).predict(), "this Forecaster is not fitted; call fit first"),
        (ValueError, lambda: fitted([1.0, np.inf, 2.0]), "y must be finite, got inf at position 1"),
        (ValueError, lambda: fitted([]), "y must have at least 3 observations, got 0 in 0 values"),
        (ValueError, lambda: fitted({}), "y must contain at least one series, got none"),
        (ValueError, lambda: fitted([1e300, 2e300, 4e300]), "y must be at most 1e.100 in magnitude, got 4e.300"),
        (ValueError, lambda: fitted([np.nan] * 5), "y must have at least 3 observations, got 0 in 5 values"),
        (ValueError, lambda: fitted([monthly(20), [1.0]]), r"y\[1\] must have at least 3 observations"),
        (ValueError, lambda: fitted(np.zeros((2, 2, 2))), "must be a series"),
        (ValueError, lambda: fitted([[[1, 2], [3]]] * 12), r"y\[0\] must be .* of one length, got a length of 2 in"),
        (ValueError, lambda: fitted(np.zeros((20, 1))), r"y must be a series \(n,\) .*, got shape \(20, 1\)"),
        (ValueError, lambda: fitted([monthly(20)] * 2, np.zeros(20)), "X must be None if y contains several series"),
        (ValueError, lambda: fitted(X=np.zeros(19)), r"X must have shape \(20, covariates\)"),
        (ValueError, lambda: fitted(X=np.full(20, np.nan)), "X must be finite, got NaN or infinity"),
        (ValueError, lambda: fitted().predict(level=80), "level must be a fraction .* such as 0.8, got 80"),
        (ValueError, lambda: fitted().backtest(level=[0.8, 1]), "level must be a fraction .* such as 0.8, got 1"),
        (ValueError, lambda: fitted().predict(level=[[8]]), "level must be a number or a list of numbers"),
        (TypeError, lambda: fitted().predict(level="high"), "level must be an array of real numbers"),
        (ValueError, lambda: fitted().predict(quantiles=10), "quantiles must be above 0 and below 1"),
        (TypeError, lambda: fitted().predict(quantiles="x"), "quantiles must be an array of real"),
        (ValueError, lambda: fitted().predict(np.zeros(3)), "X must be None"),
        (ValueError, lambda: fitted([monthly(20)] * 2).append([1, 2]), "one array for each of the 2 series, got 1"),
        (ValueError, lambda: fitted(X=np.eye(20)[3]).append([1]), "X must have 1 column as in fit, got 0"),
        (ValueError, lambda: fitted({"a": monthly(20)}).append({"b": [1]}), "must contain only series of the fit"),
        (ValueError, lambda: fitted().backtest(9), "windows must leave 6 observations"),
        (ValueError, lambda: fitted().backtest(mode="rolling"), "mode must be one of"),
        (TypeError, lambda: Forecaster(3).fit(monthly(20), id="shop"), "id must be None for arrays"),
        (TypeError, lambda: Forecaster(3).fit(monthly(20), ids="x"), "unexpected .* argument 'ids'; did you mean id"),
        (ValueError, lambda: smape([1.0], [1.0, 2.0]), "forecast must have the shape of actual"),
    ],
)
def test_invalid_arguments_raise_clear_errors(error, call, message):
    with pytest.raises(error, match=message):
        call()
