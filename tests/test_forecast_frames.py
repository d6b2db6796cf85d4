"""Tests of nnc.forecast on frames: frequencies, covariates, dates of forecasts, irregular times and errors."""

import subprocess
import sys

import numpy as np
import pytest

from nnc.forecast import Forecaster, ForecastWarning
from nnc.forecast.frequency import infer_frequency

pytest.importorskip("narwhals")
pd = pytest.importorskip("pandas")


def sales(frequency, n, shops=2, promotions=False):
    """Return a frame in long format with a trend, and with an effect of promotions."""
    rng = np.random.default_rng(0)
    parts = []
    for i in range(shops):
        promotion = rng.random(n) < 0.25
        y = 50 + 20 * i + 0.1 * np.arange(n) + 15 * promotion + rng.normal(size=n)
        dates = pd.date_range("2015-01-01", periods=n, freq=frequency)
        parts.append(pd.DataFrame({"shop": f"s{i}", "date": dates, "sales": y, "promotion": promotion}))
    frame = pd.concat(parts, ignore_index=True)
    return frame if promotions else frame.drop(columns="promotion")


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
    forecast = Forecaster(3).fit(frame, id="shop", time="date")
    assert (forecast.frequency_, forecast.season_) == (name, season)
    expected = pd.date_range(frame["date"].max(), periods=4, freq=frequency)[1:]
    result = forecast.predict()
    assert list(result.columns) == ["shop", "date", "forecast"]
    assert result["shop"].tolist() == ["s0"] * 3 + ["s1"] * 3
    assert result["date"].tolist() == [*expected, *expected]


def test_order_of_rows_does_not_matter_and_gaps_are_filled():
    frame = sales("MS", 80)
    first, second = (
        Forecaster(4).fit(rows, **COLUMNS).predict(level=0.8) for rows in (frame, frame.sample(frac=1, random_state=0))
    )
    pd.testing.assert_frame_equal(first, second.sort_values(["shop", "date"], ignore_index=True), check_exact=True)
    gaps = Forecaster(4).fit(frame.drop(index=[30, 31, 100]), **COLUMNS).predict()
    np.testing.assert_allclose(gaps["forecast"], first["forecast"], rtol=0.1)
    assert gaps["date"].tolist() == first["date"].tolist()


def test_known_covariates_explain_future_promotions():
    frame = sales("D", 120, promotions=True)
    train = frame[frame["date"] < "2015-04-26"]
    future = frame[frame["date"] >= "2015-04-26"]
    model = Forecaster(5).fit(train, **COLUMNS, known=["promotion"])
    forecast = model.predict(future.drop(columns="sales"))
    merged = forecast.merge(future, on=["shop", "date"])
    assert len(merged) == 10
    assert np.abs(merged["forecast"] - merged["sales"]).mean() < 4
    backtest = model.backtest(3)
    assert backtest.scores["mase"] < 0.5
    with pytest.raises(ValueError, match="row for each future time, got none for 2015-04-30 of series 's1'"):
        model.predict(future.iloc[:-1])
    with pytest.raises(
        ValueError, match="frame with the columns 'shop', 'date', 'promotion' for the next 5 times, from 2015-04-26"
    ):
        model.predict()


def test_past_covariates_and_static_features_improve_the_forecast():
    rng = np.random.default_rng(0)
    sign, signal = np.where(np.arange(30) % 2, 1, -1)[:, None], rng.normal(size=(30, 90))
    y = 100 + np.cumsum(np.c_[np.zeros(30), 3 * sign * signal[:, :-1]], axis=1) + 0.1 * rng.normal(size=(30, 90))
    dates = pd.date_range("2020-01-01", periods=90).to_numpy()
    columns = {"shop": np.arange(30)[:, None], "date": dates, "sales": y, "signal": sign * signal, "kind": sign > 0}
    frame = pd.DataFrame({name: np.broadcast_to(values, y.shape).ravel() for name, values in columns.items()})
    errors = []
    for covariates in ({}, {"past": ["signal"], "static": ["kind"]}):
        forecast = Forecaster(1, 1).fit(frame[frame["date"] < dates[-1]], **COLUMNS, **covariates).predict()
        errors.append(np.abs(forecast["forecast"].to_numpy() - y[:, -1]).mean())
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
    assert len(model.append(frame[1100:]).predict()) == 60


def test_counts_of_days_have_no_effects_of_the_calendar():
    counts = np.random.default_rng(0).poisson(0.1, 800)
    series = pd.Series(counts, index=pd.date_range("2020-01-01", periods=800, freq="D"))
    result = Forecaster(30).fit(series).predict(level=0.95)
    assert result["forecast"].between(0, 0.3).all()
    assert (result["lower_95"] == 0).all()


def test_update_appends_rows_of_some_series():
    frame = sales("MS", 60)
    model = Forecaster(2).fit(frame[frame["date"] < "2019-06-01"], **COLUMNS)
    model.append(frame[(frame["date"] >= "2019-06-01") & (frame["shop"] == "s1")])
    assert model.predict()["date"].astype(str).tolist() == ["2019-06-01", "2019-07-01", "2020-01-01", "2020-02-01"]
    with pytest.raises(ValueError, match="y_new must be later than the last observation, got a value 60 steps before"):
        model.append(frame[frame["shop"] == "s1"])


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_forecasts_have_the_library_and_types_of_the_frame(library):
    pytest.importorskip(library)
    nw = pytest.importorskip("narwhals")
    expected = Forecaster(2).fit(sales("MS", 40), **COLUMNS).predict(level=0.9)
    frame = nw.from_dict(sales("MS", 40).to_dict("series"), backend=library).to_native()
    result = Forecaster(2).fit(frame, **COLUMNS).predict(level=0.9)
    assert type(result) is type(frame)
    result = result if library == "pandas" else result.to_pandas()
    assert list(result.columns) == ["shop", "date", "forecast", "lower_90", "upper_90"]
    np.testing.assert_array_equal(result["forecast"], expected["forecast"])
    assert result["date"].astype(str).tolist() == expected["date"].astype(str).tolist()


SPRING = pd.date_range("2021-03-01", periods=40)  # summer time begins on 14 March in New York, on 28 March in Berlin


@pytest.mark.parametrize(
    ("times", "future"),
    [
        (SPRING.tz_localize("Europe/Berlin"), ["2021-04-10 00:00:00+02:00", "2021-04-11 00:00:00+02:00"]),
        (SPRING.tz_localize("America/New_York"), ["2021-04-10 00:00:00-04:00", "2021-04-11 00:00:00-04:00"]),
        (SPRING.strftime("%Y-%m-%d"), ["2021-04-10", "2021-04-11"]),
        (pd.date_range("2020-01", periods=40, freq="MS").strftime("%Y-%m"), ["2023-05", "2023-06"]),
        ([f"{2000 + i // 4}-Q{i % 4 + 1}" for i in range(40)], ["2010-01-01", "2010-04-01"]),
        (np.arange(0, 80, 2), ["80", "82"]),
        ([100 * (2020 + i // 12) + i % 12 + 1 for i in range(40)], ["202305", "202306"]),
        ([100 * (2020 + i // 4) + 3 * (i % 4) + 1 for i in range(40)], ["203001", "203004"]),
        (SPRING.strftime("%Y%m%d").astype(int), ["20210410", "20210411"]),
        (
            [f"2024-01-01 00:00:{i / 2:04.1f}" for i in range(40)],
            ["2024-01-01 00:00:20.000000", "2024-01-01 00:00:20.500000"],
        ),
    ],
)
def test_times_of_forecasts_have_the_form_of_the_training_times(times, future):
    y = np.arange(40.0) + np.random.default_rng(0).normal(size=40)
    forecast = Forecaster(2).fit(pd.DataFrame({"time": times, "y": y}), time="time").predict()
    assert forecast["time"].astype(str).tolist() == future


def localized(start, n, zone):
    """Return local midnights, or the next moment where clocks skip midnight."""
    return pd.date_range(start, periods=n).tz_localize(zone, nonexistent="shift_forward")


@pytest.mark.parametrize(
    ("times", "n_known"),
    [
        (localized("2024-03-01", 40, "Europe/Berlin"), 28),  # summer time begins on 31 March
        (localized("2024-10-01", 40, "Europe/Berlin"), 25),  # summer time ends on 27 October
        (localized("2024-08-20", 40, "America/Santiago"), 17),  # clocks skip the midnight of 8 September
        (localized("2024-08-20", 40, "America/Santiago"), 28),
        (pd.date_range("2024-03-01", periods=40, tz="UTC").tz_convert("Europe/Berlin"), 28),
        (pd.date_range("2024-03-30", periods=40, freq="h", tz="Europe/Berlin"), 20),
        (pd.date_range("2024-01-01", periods=40, freq="MS", tz="Europe/Berlin"), 20),
        *((pd.date_range("2024-01-01", periods=40, freq=step), 20) for step in ("500ms", "1500ms", "100ms", "10us")),
    ],
)
@pytest.mark.filterwarnings("ignore::nnc.forecast.ForecastWarning")
def test_forecasts_continue_times_across_clock_changes_and_within_seconds(times, n_known):
    frame = pd.DataFrame({"time": times, "y": np.arange(40.0), "x": np.arange(40.0) % 2})
    model = Forecaster(10, 1, preset="fast").fit(frame[:n_known], time="time", target="y", known=["x"])
    future = frame[n_known : n_known + 10]
    assert model.predict(future)["time"].tolist() == future["time"].tolist()
    assert len(model.append(frame[n_known : n_known + 1]).predict(frame[n_known + 1 : n_known + 11])) == 10


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/Santiago", "Australia/Lord_Howe", "UTC+05:30", "UTC"])
def test_local_times_convert_back_to_timestamps(zone):
    from nnc._tables.zones import local_time, utc_time

    timestamps = np.arange(1704067200, 1735689600, 1800.0)
    restored = utc_time(local_time(timestamps, zone), zone)
    repeated = restored != timestamps  # the second occurrence of a local time becomes the first one
    assert repeated.sum() <= 2
    np.testing.assert_array_equal(local_time(restored, zone), local_time(timestamps, zone))


def test_series_of_pandas_with_dates_gives_a_frame():
    index = pd.date_range("2020-01-01", periods=40, freq="MS", name="month")
    series = pd.Series(np.arange(40.0), index, name="sales")
    result = Forecaster(2).fit(series[:38]).append(series[38:]).predict()
    assert list(result.columns) == ["month", "forecast"]
    assert result["month"].tolist() == list(pd.date_range("2023-05-01", periods=2, freq="MS"))
    assert Forecaster(2).fit(pd.Series(np.arange(40.0))).predict().shape == (2,)
    assert Forecaster(2).fit(series.rename("month")).append(series[-1:].set_axis(["2023-05"])).predict()[
        "month"
    ].tolist() == list(pd.date_range("2023-06-01", periods=2, freq="MS"))


@pytest.mark.parametrize(("name", "index"), [("time", None), (None, "y"), (5, 3), ("forecast", None)])
def test_names_of_series_and_index_may_be_any_texts_or_numbers(name, index):
    series = pd.Series(np.arange(40.0), pd.date_range("2020-01-01", periods=40, name=index), name=name)
    result = Forecaster(2, preset="fast").fit(series).predict()
    assert list(result.columns) == [str(index or "time"), "forecast"]


@pytest.mark.parametrize("collect", [dict, lambda series: list(series.values())])
def test_dates_of_several_series_are_sorted_and_continued(collect):
    dates = pd.date_range("2020-01-01", periods=40, freq="MS")
    series = {0: pd.Series(np.arange(40.0), dates), 1: pd.Series(np.arange(38.0), dates[:38])[::-1]}
    model = Forecaster(2, 1, preset="fast").fit(collect(series))
    result = model.predict()
    assert result["id"].tolist() == [0, 0, 1, 1]
    assert result["time"].dt.month.tolist() == [5, 6, 3, 4]
    np.testing.assert_allclose(result["forecast"], [40, 41, 38, 39], atol=0.1)
    assert model.append({1: pd.Series([38.0, 39.0], dates[38:])}).predict()["time"].dt.month.tolist() == [5, 6, 5, 6]


def test_covariates_that_are_constant_so_far_give_a_warning_and_no_effect(tmp_path):
    frame = sales("MS", 43, shops=1, promotions=True).drop(columns="shop").assign(x=0.0, kind="a")
    plain = Forecaster(3).fit(frame[:40][["date", "sales"]], time="date").predict()
    for role, column in (("known", "x"), ("known", "kind"), ("past", "x"), ("static", "x")):
        with pytest.warns(
            ForecastWarning, match=rf"{role} column '{column}' cannot affect .* \(all values are equal\)"
        ):
            model = Forecaster(3).fit(frame[:40], time="date", target="sales", **{role: [column]})
        model.save(tmp_path / "model.json")
        for forecaster in (model, Forecaster.load(tmp_path / "model.json")):
            future = frame[40:].assign(x=1.0, kind="b") if role == "known" else None
            pd.testing.assert_frame_equal(forecaster.predict(future), plain)
    two = sales("MS", 40).assign(size=np.repeat([1.0, 2.0], 40))
    with pytest.warns(
        ForecastWarning, match=r"known column 'size' cannot affect .* \(it never changes within a series\)"
    ):
        Forecaster(3, preset="fast").fit(two, **COLUMNS, known=["size"])


def test_future_texts_that_did_not_occur_in_fit_give_a_warning():
    frame = sales("MS", 43, shops=1).drop(columns="shop")
    frame["kind"] = [*np.random.default_rng(0).choice(["a", "b"], 42), "new"]
    model = Forecaster(3, preset="fast").fit(frame[:40], time="date", target="sales", known=["kind"])
    with pytest.warns(
        ForecastWarning, match="X has values that did not occur in fit: 'new' of 'kind'; their effect is"
    ):
        assert len(model.predict(frame[40:])) == 3


def test_missing_values_of_known_columns_are_accepted_if_fit_had_some():
    frame = sales("MS", 43, shops=1, promotions=True).drop(columns="shop")
    frame["kind"] = np.where(frame["promotion"], "price", None)
    columns = {"time": "date", "target": "sales"}
    Forecaster(3, preset="fast").fit(frame[:40], **columns, known=["kind"]).predict(frame[40:])
    frame = frame.assign(number=np.random.default_rng(0).normal(size=43), day=frame["date"])
    model = Forecaster(3, preset="fast").fit(frame[:40], **columns, known=["number", "day"])
    for column, missing in (("number", np.nan), ("day", pd.NaT)):
        damaged = frame.copy()
        damaged.loc[41, column] = missing
        message = f"must have no missing values of '{column}', as in fit, got one for 2018-06-01; fill it"
        with pytest.raises(ValueError, match=f"X {message}"):
            model.predict(damaged[40:])
        with pytest.raises(ValueError, match=f"y_new {message}"):
            model.append(damaged[40:])


def test_several_id_columns_identify_a_series():
    frame = sales("MS", 40).assign(country=7)
    model = Forecaster(2).fit(frame, id=["country", "shop"], time="date", target="sales")
    assert model.ids_ == [(7, "s0"), (7, "s1")]
    assert list(model.predict().columns) == ["country", "shop", "date", "forecast"]


MONTHS = sales("MS", 40)
ZONED = MONTHS.assign(date=MONTHS["date"].dt.tz_localize("Europe/Berlin"))
NUMBERS = MONTHS.assign(date=np.r_[:40, :40])
ROW, EXTRA = MONTHS[:1], MONTHS[:1].assign(date=pd.Timestamp("2019-06-11"))
LEVELS = MONTHS.set_index(["shop", "date"])["sales"]
CODES = MONTHS.assign(date=MONTHS["date"].dt.strftime("%Y%m").astype(int))
SERIES = pd.Series(np.arange(40.0))
DATED = pd.Series(np.arange(40.0), pd.date_range("2020-01-01", periods=40))
DAYS = sales("D", 40, shops=1).assign(shop="daily")


def fit(frame, **columns):
    return Forecaster(2).fit(frame, **{**COLUMNS, **columns})


@pytest.mark.parametrize(
    ("error", "call", "message"),
    [
        (ValueError, lambda: fit(pd.concat([MONTHS, ROW])), "series, got 2015-01-01 twice of series 's0'"),
        (ValueError, lambda: fit(MONTHS.drop(columns="date")), "y must have the column 'date'"),
        (ValueError, lambda: fit(MONTHS.assign(sales=np.nan)), "sales of series 's0' must have .*, got 0"),
        (ValueError, lambda: fit(MONTHS.assign(sales=np.inf)), "y must be finite, got inf in row 0, column 'sales'"),
        (ValueError, lambda: fit(MONTHS.assign(sales="x")), "target must be numbers, got 'x' in row 0"),
        (ValueError, lambda: fit(MONTHS[:0]), "y must have at least one row, got none in the columns 'shop', 'date'"),
        (ValueError, lambda: fit(pd.concat([MONTHS, EXTRA])), "got 2019-06-11 of series 's0' among"),
        (ValueError, lambda: fit(NUMBERS.replace(39, 10**9)), "at most 4,000 steps in 40 rows, got 1,000,000,000 of"),
        (ValueError, lambda: fit(MONTHS.assign(shop=None)), "id must have no missing values"),
        (ValueError, lambda: fit(MONTHS.assign(date=pd.NaT)), "time must have no missing values, got one in row 0"),
        (ValueError, lambda: fit(MONTHS.assign(date="soon")), r"dates such as 2024-01-31, .*, got 'soon' in row 0"),
        (ValueError, lambda: fit(pd.concat([MONTHS, DAYS])), "one frequency in all series, got 'daily' in .* 'daily'"),
        (
            ValueError,
            lambda: Forecaster(2).fit(pd.Series(np.arange(40.0), pd.date_range("2024", periods=40, freq="1500ns"))),
            "time must have steps of at least 10 microseconds if it has dates, .*, got 0.95",
        ),
        (ValueError, lambda: fit(MONTHS, known=["sales"]), "must be different columns, got 'sales' twice"),
        (ValueError, lambda: fit(MONTHS.assign(x=MONTHS["sales"]), static=["x"]), "several values of series 's0'"),
        (ValueError, lambda: fit(MONTHS, time=None), "time must be the name of a column, got None"),
        (ValueError, lambda: fit(MONTHS, id=None, target=None), "target must be .*, got None; choose one of"),
        (TypeError, lambda: fit(MONTHS, target=0), "target must be the name of a column, got 0"),
        (TypeError, lambda: fit(MONTHS, time=["date", "shop"]), r"time must be .*, got \['date', 'shop'\]"),
        (TypeError, lambda: fit(MONTHS, id=7), "id must be the name of a column or a list of names, got 7"),
        (TypeError, lambda: fit(MONTHS.assign(step=range(80)), id="date", time="step"), "got dates in column 'date'"),
        (TypeError, lambda: fit(MONTHS).append(np.zeros(3)), "y_new must be a frame in memory, got ndarray"),
        (ValueError, lambda: fit(NUMBERS).append(NUMBERS.assign(date="soon")), "time must be numbers, got 'soon'"),
        (TypeError, lambda: Forecaster(2).fit(np.arange(40.0)).append(MONTHS), "array as in fit, got DataFrame"),
        (ValueError, lambda: fit(ZONED).append(MONTHS), "must have Europe/Berlin as in fit, got no time zone; convert"),
        (ValueError, lambda: fit(MONTHS).append(ZONED), "must have no time zone as in fit, got Europe/Berlin; convert"),
        (
            ValueError,
            lambda: fit(MONTHS.rename(columns={"date": "forecast"}), time="forecast"),
            "got 'forecast'; rename",
        ),
        (ValueError, lambda: fit(MONTHS.rename(columns={"shop": "lower_80"}), id="lower_80"), "got 'lower_80'; rename"),
        (ValueError, lambda: fit(CODES).append(CODES.assign(date=202013)), "a month number .* got 202013 in row 0"),
        (
            ValueError,
            lambda: fit(CODES.assign(date=CODES["date"].where(CODES.index != 10, 202013))),
            "a month number such as 202401, got 202013 in row 10 of column 'date'",
        ),
        (
            ValueError,
            lambda: Forecaster(2).fit(SERIES[::-1]),
            "index that increases by equal steps, got 38 after 39; sort",
        ),
        (
            ValueError,
            lambda: Forecaster(2).fit([SERIES, SERIES.drop(5)]),
            r"y\[1\] must have .* steps, got 6 after 4; sort",
        ),
        (
            ValueError,
            lambda: Forecaster(2).fit(SERIES, SERIES[::-1].to_frame()),
            r"X must have the index of y, got another",
        ),
        (TypeError, lambda: Forecaster(2).fit(DATED, known=["x"]), "known must be None for arrays or series"),
        (TypeError, lambda: Forecaster(2).fit({"a": DATED, "b": [1.0, 2.0]}), "got list for series 'b'"),
        (TypeError, lambda: Forecaster(2).fit(LEVELS), "y must have a single index, got 2 levels"),
    ],
)
def test_invalid_frames_raise_clear_errors(error, call, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("frequency", ["YS", "YE", "QS", "QE", "MS", "ME", "W", "D", "B", "12h", "h", "10min"])
def test_grid_points_convert_to_the_same_dates(frequency):
    dates = pd.date_range("1999-02-01", periods=50, freq=frequency).to_numpy().astype("M8[s]").astype(float)
    found = infer_frequency([dates, dates[7:]], ["a", "b"], True)
    index = found.to_index(dates)
    np.testing.assert_array_equal(np.diff(index), 1)
    np.testing.assert_array_equal(found.to_times(index.astype(np.intp)), dates)


def test_counter_that_passes_month_numbers_remains_a_counter():
    frame = pd.DataFrame({"step": np.arange(202001, 202301), "y": np.arange(300.0) % 7})
    assert Forecaster(2, 7).fit(frame, time="step", target="y").predict()["step"].tolist() == [202301, 202302]


def test_forecasts_of_frames_need_no_scikit_learn():
    pytest.importorskip("pandas")
    code = (
        "import sys; sys.modules['sklearn'] = None; import pandas as pd; from nnc.forecast import Forecaster; "
        "frame = pd.DataFrame({'month': pd.date_range('2020-01-01', periods=48, freq='MS'), 'sales': range(48)}); "
        "print(len(Forecaster(6).fit(frame, time='month', target='sales').predict()))"
    )
    completed = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert completed.stdout == "6\n", completed.stderr
