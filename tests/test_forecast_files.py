"""Tests of the files of forecast models: exact forecasts after loading, and errors for invalid files."""

import copy
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from test_forecast import monthly
from test_forecast_seasons import seasonal_walk

import nnc
from nnc._serialization.document import validated_document
from nnc._serialization.text import _joint_checksum, checksum
from nnc.forecast import Forecaster, ForecastWarning
from nnc.forecast.effects import Effects
from nnc.forecast.file import RECIPE
from nnc.forecast.frequency import Frequency


@pytest.fixture(scope="module")
def model():
    """Return a model of several series with corrections and missing values."""
    series = {f"s{i}": monthly(70 + i, seed=i) for i in range(20)}
    series["s3"][20:23] = np.nan
    return Forecaster(4).fit(series)


@pytest.fixture(scope="module")
def naive_model():
    """Return a model of seasonal random walks, whose networks correct the seasonal naive forecast."""
    with pytest.warns(ForecastWarning, match="forecasts are the last season"):
        model = Forecaster(4, 4).fit({f"s{i}": seasonal_walk(80, 4, seed=i) for i in range(20)})
    assert model.naive_share_ == 1
    return model


@pytest.mark.parametrize("name", ["model", "naive_model"])
def test_loaded_model_gives_same_forecasts_and_can_be_updated(name, request, tmp_path):
    model = request.getfixturevalue(name)
    model.save(tmp_path / "f.json")
    for loaded in (nnc.load(tmp_path / "f.json"), Forecaster.load(tmp_path / "f.json"), nnc.from_json(model.to_json())):
        expected, actual = (m.predict(level=[0.8], quantiles=0.3) for m in (model, loaded))
        assert expected.keys() == actual.keys()
        assert all(expected[name].tobytes() == actual[name].tobytes() for name in expected)
        assert loaded.to_json() == model.to_json()
        assert loaded.naive_share_ == model.naive_share_
        assert loaded.ids_ == model.ids_
        assert str(loaded.report()) == str(model.report())
        loaded.append({"s1": [100.0]})
        assert (loaded.predict()[1] != expected["forecast"][1]).all()


def edited(model, path, value):
    """Return the JSON text of a model after a change of the member at `path` of "forecast"."""
    document = json.loads(model.to_json())
    del document["sha256"]
    part = document["forecast"]
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    return json.dumps(document)


def test_model_with_covariates_and_without_corrections_is_loaded():
    X = np.arange(30.0) % 4 == 0
    model = Forecaster(3, 1, preset="fast").fit(monthly(30) + 20 * X, X)
    np.testing.assert_array_equal(nnc.from_json(model.to_json()).predict([1, 0, 0]), model.predict([1, 0, 0]))


def test_recipe_is_version_of_statistical_forecasts():
    y = [3.0, 5, 8, 4, 4, 6, 9, 5, 4, 7, 11, 5, 6, 8, 12, 6]
    forecast = Forecaster(3, 4, preset="fast").fit(y).predict()
    # If this fails after an intended change of the statistical forecasts, increase RECIPE and change these numbers.
    np.testing.assert_allclose(forecast, [5.826908485, 8.673931951, 13.279917150], rtol=1e-6)
    assert RECIPE == 1


def test_older_recipe_gives_a_warning_in_place_of_the_self_test(model):
    document = json.loads(edited(model, ["self_test", "forecast"], [0.0] * 4))
    document["forecast"]["recipe"] = RECIPE - 1
    with pytest.warns(ForecastWarning, match="saved by a version of nnc with other statistical forecasts"):
        assert nnc.from_json(json.dumps(document)).predict().shape == (20, 4)


def test_files_without_effective_sample_sizes_have_intervals_of_independent_scores():
    model = Forecaster(6, 1, preset="fast").fit(100 + np.random.default_rng(3).normal(size=60).cumsum())
    document = json.loads(model.to_json())
    del document["sha256"], document["forecast"]["effective_sizes"]
    loaded = nnc.from_json(json.dumps(document))
    expected, actual = (m.predict(level=0.8) for m in (model, loaded))
    np.testing.assert_array_equal(actual["forecast"], expected["forecast"])
    width = actual["upper_80"] - actual["lower_80"]
    assert width.mean() < (expected["upper_80"] - expected["lower_80"]).mean()
    former = [2.7494414, 3.88829732, 4.9083664, 5.71590047, 6.97517408, 7.64092037]
    np.testing.assert_allclose(width, former, rtol=0.01)
    assert nnc.from_json(loaded.to_json()).predict(level=0.8)["upper_80"].tobytes() == actual["upper_80"].tobytes()


def test_files_without_weight_of_the_naive_forecast_keep_their_forecasts(model):
    document = json.loads(model.to_json())
    del document["sha256"], document["forecast"]["naive_share"], document["forecast"]["other_seasons"]
    loaded = nnc.from_json(json.dumps(document))
    assert (loaded.naive_share_, model.naive_share_) == (0, 0)
    assert loaded.predict(level=0.8)["upper_80"].tobytes() == model.predict(level=0.8)["upper_80"].tobytes()


def test_model_of_frame_is_loaded():
    pytest.importorskip("nnc.tabular", exc_type=ImportError)
    pd = pytest.importorskip("pandas")
    dates = pd.date_range("2020-01-31", periods=40, freq="QE")
    frame = pd.DataFrame({"date": dates, "y": monthly(40), "holiday": ["none", "none", "other", "none", "other"] * 8})
    model = Forecaster(2, 4).fit(frame, time="date", target="y", known=["holiday"])
    future = pd.DataFrame({"date": pd.date_range(dates[-1], periods=3, freq="QE")[1:], "holiday": ["none", "other"]})
    loaded = nnc.from_json(model.to_json())
    pd.testing.assert_frame_equal(loaded.predict(future, level=0.8), model.predict(future, level=0.8), check_exact=True)
    assert loaded.frequency_ == "quarterly"


def test_fitted_model_is_pickled(model):
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(), model.predict())


def test_report_names_series_members_and_season(model):
    text = str(model.report())
    assert "20, with 70 to 89 values, of which 3 are missing" in text
    assert "season of 12 steps" in text
    assert "linear map" in text
    assert "<h2>Data and model</h2><table>" in model.report()._repr_html_()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("recipe",), 2, "recipe is 2, expected at most 1; load the file with a newer version"),
        (("settings", "horizon"), 0, "horizon must be 1 or more, got 0"),
        (("settings", "horizon"), 5, "expected"),
        (("season",), "x", "season is"),
        (("rows",), [0] * 20, "rows is a list of 20, expected each index"),
        (("names",), ["a"] * 20, "expected 20 distinct names"),
        (("panel", "values"), [], "panel.values is empty"),
        (("panel", "values", 0), [None, 1.0], "without values at its ends"),
        (("panel", "starts"), [1], "panel.starts is a list of 1"),
        (("panel", "static"), None, "panel.static is null"),
        (("corrections", "unit"), [1.0], "corrections.unit is a list of 1"),
        (("corrections", "weights"), [], "corrections.weights is a list of 0"),
        (("corrections", "input_scale"), [0.0], "networks"),
        (("scores",), [[1.0]], "scores is a list of 1"),
        (("effective_sizes",), [1.0], "effective_sizes is a list of 1"),
        (("width",), [1e999] * 20, "width is a list of 20"),
        (("effects",), {}, "effects.knots is missing"),
        (("layout",), {"time": 1}, "layout"),
        (("self_test", "forecast"), [0.0] * 4, "expected the forecast of the model"),
    ],
)
def test_invalid_files_raise_model_file_error(model, path, value, message):
    if path == ("layout",):
        pytest.importorskip("nnc.tabular", exc_type=ImportError)
    with pytest.raises(nnc.ModelFileError, match=message):
        nnc.from_json(edited(model, path, value))


def test_page_lists_all_members(model):
    page = Path(__file__).parents[1] / "docs" / "file-format.md"
    if not page.exists():
        pytest.skip("docs/ is not here")
    section = page.read_text(encoding="utf-8").split("## Forecast models")[1]
    document = json.loads(model.to_json())
    body = document["forecast"]
    for members in (document, body, body["settings"], body["panel"], body["corrections"], Effects._fields):
        for name in members:
            assert f"`{name}`" in section
    layout = pytest.importorskip("nnc.forecast.frames", exc_type=ImportError).Layout
    for name in (*layout.__dataclass_fields__, *Frequency._fields):
        assert f"`{name}`" in section


def test_other_models_are_rejected(tmp_path, model):
    nnc.NeuralNetwork([2, 1]).save(tmp_path / "net.json")
    model.save(tmp_path / "f.json")
    with pytest.raises(nnc.ModelFileError, match=r"the content is a single network; load it with nnc\.load"):
        Forecaster.load(tmp_path / "net.json")
    with pytest.raises(nnc.ModelFileError, match=r"the content is a forecast model; load it with nnc\.load"):
        nnc.NeuralNetwork.load(tmp_path / "f.json")


def test_checksum_covers_every_member(model):
    document = json.loads(model.to_json())
    for key, value in [("seed", 1), ("preset", "fast"), ("n_jobs", 2), ("season", 12)]:
        edited = copy.deepcopy(document)
        edited["forecast"]["settings"][key] = value
        with pytest.raises(nnc.ModelFileError, match="does not match its checksum"):
            nnc.from_json(json.dumps(edited))
    document["networks"][0]["layers"][0]["W"][0][0] += 1e-3
    del document["networks"][0]["sha256"], document["networks"][0]["self_test"]
    with pytest.raises(nnc.ModelFileError, match='remove the last "sha256"'):
        nnc.from_json(json.dumps(document))


def test_files_with_the_former_checksum_are_read(model):
    """Its checksum does not cover `settings`."""
    document = json.loads(model.to_json())
    networks = document["networks"]
    for network in networks:
        network["sha256"] = checksum(validated_document(network), former=True)
    document["sha256"] = _joint_checksum([network["sha256"] for network in networks], document["forecast"], former=True)
    assert nnc.from_json(json.dumps(document)).predict().tobytes() == model.predict().tobytes()
