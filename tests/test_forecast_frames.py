"""Tests of nnc.forecast on frames: frequencies, covariates, dates of forecasts, irregular times and errors."""

import numpy as np
import pytest

from nnc.forecast import Forecaster
from nnc.forecast.frequency import infer_frequency

pytest.importorskip("nnc.tabular", exc_type=ImportError)
pd = pytest.importorskip("pandas")


def sales(frequency, n, shops=2, start="2015-01-01"):
    """Return a frame in long format with a trend and an effect of promotions."""
    rng = np.random.default_rng(0)
    parts = []
    for i in range(shops):
        t = np.arange(n)
        promotion = rng.random(n) < 0.25
        y = 50 + 20 * i + 0.1 * t + 15 * promotion + rng.normal(size=n)
        dates = pd.date_range(start, periods=n, freq=frequency)
        parts.append(pd.DataFrame({"shop": f"s{i}", "date": dates, "sales": y, "promotion": promotion}))
    return pd.concat(parts, ignore_index=True)


COLUMNS = {"id": "shop", "time": "date", "target": "sales"}


@pytest.mark.parametrize(
    ("frequency", "name", "season"),
    [
        ("YS", "yearly", 1),
        ("QS", "quarterly", 4),
        ("MS", "monthly", 12),
        ("ME", "monthly", 12),
        ("W", "weekly", 1),
        ("D", "daily", 7),
        ("B", "business days", 5),
        ("h", "hourly", 24),
        ("15min", "every 900 seconds", 1),
    ],
)
def test_frequency_determines_season_and_dates(frequency, name, season):
    frame = sales(frequency, 80)
    forecast = Forecaster(3).fit(frame.drop(columns="promotion"), id="shop", time="date")
    assert (forecast.frequency_, forecast.season_) == (name, season)
    expected = pd.date_range(frame["date"].max(), periods=4, freq=frequency)[1:]
    result = forecast.predict()
    assert list(result.columns) == ["shop", "date", "forecast"]
    assert result["shop"].tolist() == ["s0"] * 3 + ["s1"] * 3
    assert result["date"].tolist() == [*expected, *expected]


def test_order_of_rows_does_not_matter_and_gaps_are_filled():
    frame = sales("MS", 80).drop(columns="promotion")
    columns = {**COLUMNS}
    first = Forecaster(4).fit(frame, **columns).predict(level=80)
    mixed = frame.sample(frac=1, random_state=0)
    second = Forecaster(4).fit(mixed, **columns).predict(level=80)
    pd.testing.assert_frame_equal(first, second.sort_values(["shop", "date"], ignore_index=True), check_exact=True)
    gaps = Forecaster(4).fit(frame.drop(index=[30, 31, 100]), **columns).predict()
    np.testing.assert_allclose(gaps["forecast"], first["forecast"], rtol=0.1)
    assert gaps["date"].tolist() == first["date"].tolist()


def test_known_covariates_explain_future_promotions():
    frame = sales("D", 120)
    train = frame[frame["date"] < "2015-04-26"]
    future = frame[frame["date"] >= "2015-04-26"]
    model = Forecaster(5).fit(train, **COLUMNS, known=["promotion"])
    forecast = model.predict(future.drop(columns="sales"))
    merged = forecast.merge(future, on=["shop", "date"])
    assert len(merged) == 10
    assert np.abs(merged["forecast"] - merged["sales"]).mean() < 4
    backtest = model.backtest(3)
    assert backtest.scores["mase"] < 0.5
    with pytest.raises(
        ValueError, match="X must have a row for each future time, got none for 2015-04-30 of series 's1'"
    ):
        model.predict(future.iloc[:-1])
    with pytest.raises(ValueError, match="X must be a frame with the columns 'promotion'"):
        model.predict()


def test_past_covariates_and_static_features_improve_the_forecast():
    rng = np.random.default_rng(0)
    parts = []
    for i in range(30):
        signal = rng.normal(size=90)
        sign = 1 if i % 2 else -1
        y = 100 + np.cumsum(np.r_[0, sign * 3 * signal[:-1]]) + 0.1 * rng.normal(size=90)
        dates = pd.date_range("2020-01-01", periods=90)
        parts.append(pd.DataFrame({"shop": i, "date": dates, "sales": y, "signal": sign * signal, "kind": "ab"[i % 2]}))
    frame = pd.concat(parts)
    train, actual = frame[frame["date"] < "2020-03-30"], frame[frame["date"] == "2020-03-30"]["sales"].to_numpy()
    errors = []
    for covariates in ({}, {"past": ["signal"], "static": ["kind"]}):
        forecast = Forecaster(1, 1).fit(train, **COLUMNS, **covariates).predict()
        errors.append(np.abs(forecast["forecast"].to_numpy() - actual).mean())
    assert errors[1] < 0.6 * errors[0]


def test_calendar_features_follow_the_year():
    n = 1200
    dates = pd.date_range("2018-01-01", periods=n)
    year = 20 * np.sin(2 * np.pi * np.arange(n) / 365.25)
    y = 100 + year + np.random.default_rng(0).normal(size=n)
    frame = pd.DataFrame({"date": dates, "sales": y})
    model = Forecaster(60).fit(frame[:1100], time="date")
    actual = frame["sales"][1100:1160].to_numpy()
    assert np.abs(model.predict()["forecast"] - actual).mean() < 8
    assert len(model.update(frame[1100:]).predict()) == 60


def test_update_appends_rows_of_some_series():
    frame = sales("MS", 60).drop(columns="promotion")
    model = Forecaster(2).fit(frame[frame["date"] < "2019-06-01"], **COLUMNS)
    model.update(frame[(frame["date"] >= "2019-06-01") & (frame["shop"] == "s1")])
    assert model.predict()["date"].astype(str).tolist() == ["2019-06-01", "2019-07-01", "2020-01-01", "2020-02-01"]
    with pytest.raises(ValueError, match="y_new must be later than the last observation, got a value 60 steps before"):
        model.update(frame[frame["shop"] == "s1"])


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_forecasts_have_the_library_and_types_of_the_frame(library):
    pytest.importorskip(library)
    frame = sales("MS", 40).drop(columns="promotion")
    expected = Forecaster(2).fit(frame, **COLUMNS).predict(level=90)
    if library == "polars":
        frame = __import__("polars").from_pandas(frame)
    elif library == "pyarrow":
        frame = __import__("pyarrow").Table.from_pandas(frame, preserve_index=False)
    result = Forecaster(2).fit(frame, **COLUMNS).predict(level=90)
    assert type(result) is type(frame)
    result = result if library == "pandas" else result.to_pandas()
    assert list(result.columns) == ["shop", "date", "forecast", "lower_90", "upper_90"]
    np.testing.assert_array_equal(result["forecast"], expected["forecast"])
    assert result["date"].astype(str).tolist() == expected["date"].astype(str).tolist()


def test_time_zones_text_and_numbers_are_valid_times():
    y = np.arange(40.0) + np.random.default_rng(0).normal(size=40)
    # Summer time begins on 28 March, within these dates.
    dates = pd.date_range("2021-03-01", periods=40, tz="Europe/Berlin")
    local = Forecaster(2).fit(pd.DataFrame({"date": dates, "y": y}), time="date").predict()
    assert local["date"].astype(str).tolist() == ["2021-04-10 00:00:00+02:00", "2021-04-11 00:00:00+02:00"]
    west = dates.tz_localize(None).tz_localize("America/New_York")
    local = Forecaster(2).fit(pd.DataFrame({"date": west, "y": y}), time="date").predict()
    assert local["date"].astype(str).tolist() == ["2021-04-10 00:00:00-04:00", "2021-04-11 00:00:00-04:00"]
    text = pd.DataFrame({"date": dates.strftime("%Y-%m-%d"), "y": y})
    assert Forecaster(2).fit(text, time="date").predict()["date"].tolist() == ["2021-04-10", "2021-04-11"]
    months = pd.DataFrame({"date": pd.date_range("2020-01", periods=40, freq="MS").strftime("%Y-%m"), "y": y})
    assert Forecaster(2).fit(months, time="date").predict()["date"].tolist() == ["2023-05", "2023-06"]
    quarters = pd.DataFrame({"date": [f"{2000 + i // 4}-Q{i % 4 + 1}" for i in range(40)], "y": y})
    assert Forecaster(2).fit(quarters, time="date").predict()["date"].tolist() == ["2010-01-01", "2010-04-01"]
    with pytest.raises(ValueError, match=r"time must be dates such as 2024-01-31, .*, got 'soon' in row 2"):
        Forecaster(2).fit(pd.DataFrame({"date": ["2020-01-01", "2020-01-02", "soon"], "y": [1, 2, 3]}), time="date")
    numbers = pd.DataFrame({"step": np.arange(0, 80, 2), "y": y})
    assert Forecaster(2).fit(numbers, time="step").predict()["step"].tolist() == [80, 82]


def test_series_of_pandas_with_dates_gives_a_frame():
    index = pd.date_range("2020-01-01", periods=40, freq="MS", name="month")
    series = pd.Series(np.arange(40.0), index, name="sales")
    result = Forecaster(2).fit(series[:38]).update(series[38:]).predict()
    assert list(result.columns) == ["month", "forecast"]
    assert result["month"].tolist() == list(pd.date_range("2023-05-01", periods=2, freq="MS"))
    assert Forecaster(2).fit(pd.Series(np.arange(40.0))).predict().shape == (2,)


def test_several_id_columns_identify_a_series():
    frame = sales("MS", 40).drop(columns="promotion").assign(country=7)
    model = Forecaster(2).fit(frame, id=["country", "shop"], time="date", target="sales")
    assert model.ids_ == [(7, "s0"), (7, "s1")]
    assert list(model.predict().columns) == ["country", "shop", "date", "forecast"]


def test_irregular_times_raise_clear_errors():
    frame = sales("MS", 40).drop(columns="promotion")
    fit = Forecaster(2).fit
    for changed, message in (
        (
            pd.concat([frame, frame[:1]]),
            "time must have different values in a series, got 2015-01-01 twice of series 's0'",
        ),
        (frame.drop(columns="shop").rename(columns={"date": "shop"}), "y must have the column 'date'"),
        (frame.assign(sales=np.nan), "sales of series 's0' must have at least 3 observations, got 0"),
        (frame.assign(sales=np.inf), "y must be finite, got inf in row 0, column 'sales'"),
        (frame.assign(sales="much"), "target must be numbers, got 'much' in row 0 of column 'sales'"),
        (frame[:0], "y must have at least one row, got none in the columns 'shop', 'date', 'sales'"),
        (
            pd.concat([frame, frame[:1].assign(date=pd.Timestamp("2019-06-11"))]),
            "time must have a regular frequency, got 2019-06-11 of series 's0' among times that are monthly",
        ),
        (
            frame.assign(date=np.r_[:39, 10**9, :40]),
            "time must span at most 4,000 steps in 40 rows, got 1,000,000,000 of series 's0'",
        ),
        (frame.assign(shop=None), "id must have no missing values"),
        (
            frame.assign(date=frame["date"].where(frame.index != 5)),
            "time must have no missing values, got one in row 5",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            fit(changed, **COLUMNS)
    daily = sales("D", 40, shops=1).drop(columns="promotion").assign(shop="daily")
    with pytest.raises(ValueError, match="time must have one frequency in all series, got 'daily' in series 'daily'"):
        fit(pd.concat([frame, daily]), **COLUMNS)
    with pytest.raises(ValueError, match="must be different columns, got 'sales' twice"):
        fit(frame, **COLUMNS, known=["sales"])
    with pytest.raises(ValueError, match="static must be constant in each series, got several values of series 's0'"):
        fit(frame.assign(x=frame["sales"]), **COLUMNS, static=["x"])
    with pytest.raises(TypeError, match="target must be the name of a column, got 0"):
        fit(frame, id="shop", time="date", target=0)
    with pytest.raises(TypeError, match=r"time must be the name of a column, got \['date', 'shop'\]"):
        fit(frame, time=["date", "shop"], target="sales")
    with pytest.raises(TypeError, match="id must be text or numbers, got dates in column 'date'"):
        fit(frame.assign(step=np.r_[:40, :40]), id="date", time="step", target="sales")
    with pytest.raises(TypeError, match="y_new must be a frame in memory, got ndarray"):
        fit(frame, **COLUMNS).update(np.zeros(3))
    with pytest.raises(TypeError, match="y_new must be an array as in fit, got DataFrame"):
        fit(np.arange(40.0)).update(frame)
    with pytest.raises(TypeError, match="y must have a single index, got 2 levels"):
        fit(frame.set_index(["shop", "date"])["sales"])
    with pytest.raises(ValueError, match="time must be the name of a column, got None"):
        fit(frame, id="shop")
    with pytest.raises(ValueError, match="target must be the name of a column, got None; choose one of"):
        fit(frame, time="date")


@pytest.mark.parametrize("frequency", ["YS", "YE", "QS", "QE", "MS", "ME", "W", "D", "B", "12h", "h", "10min"])
def test_grid_points_convert_to_the_same_dates(frequency):
    dates = pd.date_range("1999-02-01", periods=50, freq=frequency).to_numpy().astype("M8[s]").astype(float)
    found = infer_frequency([dates, dates[7:]], ["a", "b"], True)
    index = found.to_index(dates)
    np.testing.assert_array_equal(np.diff(index), 1)
    np.testing.assert_array_equal(found.to_times(index.astype(np.intp)), dates)
