"""Tests of the files of forecast models: exact forecasts after loading, and errors for invalid files."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from headers import run_header
from test_forecast import monthly

import nnc
from nnc.forecast import Forecaster
from nnc.forecast.effects import Effects
from nnc.forecast.frequency import Frequency


@pytest.fixture(scope="module")
def model():
    """Return a model of several series with corrections and missing values."""
    series = {f"s{i}": monthly(70 + i, seed=i) for i in range(20)}
    series["s3"][20:23] = np.nan
    return Forecaster(4).fit(series)


def test_loaded_model_gives_same_forecasts_and_can_be_updated(model, tmp_path):
    model.save(tmp_path / "f.json")
    for loaded in (nnc.load(tmp_path / "f.json"), Forecaster.load(tmp_path / "f.json"), nnc.from_json(model.to_json())):
        expected, actual = (m.predict(level=[80], quantiles=0.3) for m in (model, loaded))
        assert expected.keys() == actual.keys()
        assert all(expected[name].tobytes() == actual[name].tobytes() for name in expected)
        assert loaded.to_json() == model.to_json()
        assert loaded.ids_ == model.ids_
        assert str(loaded.report()) == str(model.report())
        loaded.update({"s1": [100.0]})
        assert (loaded.predict()[1] != expected["forecast"][1]).all()


def test_model_with_covariates_and_without_corrections_is_loaded(tmp_path):
    X = np.arange(30.0) % 4 == 0
    model = Forecaster(3, 1, members="statistics").fit(monthly(30) + 20 * X, X)
    model.save(tmp_path / "f.json")
    np.testing.assert_array_equal(nnc.load(tmp_path / "f.json").predict([1, 0, 0]), model.predict([1, 0, 0]))


def test_model_of_frame_is_loaded(tmp_path):
    pytest.importorskip("nnc.tabular", exc_type=ImportError)
    pd = pytest.importorskip("pandas")
    dates = pd.date_range("2020-01-31", periods=40, freq="QE")
    frame = pd.DataFrame({"date": dates, "y": monthly(40), "holiday": ["none", "other"] * 20})
    model = Forecaster(2).fit(frame, time="date", target="y", known=["holiday"])
    model.save(tmp_path / "f.json")
    future = pd.DataFrame({"date": pd.date_range(dates[-1], periods=3, freq="QE")[1:], "holiday": ["none", "other"]})
    loaded = nnc.load(tmp_path / "f.json")
    pd.testing.assert_frame_equal(loaded.predict(future, level=80), model.predict(future, level=80), check_exact=True)
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
        (("settings", "horizon"), 0, "horizon is 0, expected a whole number"),
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
        (("width",), [1e999] * 20, "width is a list of 20"),
        (("effects",), {}, "effects.knots is missing"),
        (("layout",), {"time": 1}, "layout"),
        (("self_test", "forecast"), [0.0] * 4, "expected the forecast of the model"),
    ],
)
def test_invalid_files_raise_model_file_error(model, path, value, message):
    if path == ("layout",):
        pytest.importorskip("nnc.tabular", exc_type=ImportError)
    document = json.loads(model.to_json())
    del document["sha256"]
    part = document["forecast"]
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    with pytest.raises(nnc.ModelFileError, match=message):
        nnc.from_json(json.dumps(document))


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


# -------------------------------------------------------------------------------------------- exports


def covariate_frame(pd):
    """Return a frame whose changes depend on a past covariate and on a static feature."""
    rng = np.random.default_rng(0)
    parts = []
    for i in range(12):
        signal, sign = rng.normal(size=60), 1 if i % 2 else -1
        y = 1000 + np.cumsum(np.r_[0, sign * 3 * signal[:-1]]) + 0.1 * rng.normal(size=60)
        parts.append(pd.DataFrame({"id": i, "time": np.arange(60), "y": y, "signal": signal, "kind": "ab"[i % 2]}))
    return pd.concat(parts)


@pytest.fixture(scope="module", params=["arrays", "covariates"])
def exported(request, model):
    """Return a model whose corrections have weights."""
    if request.param == "arrays":
        return model
    pytest.importorskip("nnc.tabular", exc_type=ImportError)
    frame = covariate_frame(pytest.importorskip("pandas"))
    return Forecaster(3, 1).fit(frame, id="id", time="time", target="y", past=["signal"], static=["kind"])


def expected_outputs(forecaster):
    """Return the inputs of the export, and its outputs according to the forecasts of the model."""
    arrays = forecaster.export_inputs()
    forecast = forecaster.predict()
    forecast = forecast if isinstance(forecast, np.ndarray) else forecast["forecast"].to_numpy().reshape(-1, 3)
    return arrays["inputs"], (forecast - arrays["offset"]) / arrays["factor"]


def test_c_export_gives_the_corrected_forecasts(exported, tmp_path):
    assert any(exported.weights_.values())
    inputs, expected = expected_outputs(exported)
    exported.to_c(tmp_path / "model.h")
    np.testing.assert_allclose(run_header(tmp_path, inputs), expected, rtol=1e-5)


def test_onnx_export_gives_the_corrected_forecasts(exported, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    inputs, expected = expected_outputs(exported)
    exported.to_onnx(tmp_path / "model.onnx")
    session = runtime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"X": inputs})[0], expected, rtol=1e-5)


def test_export_without_corrections_raises_an_error(tmp_path):
    plain = Forecaster(3, 1, members="statistics").fit(monthly(30))
    for export in (plain.to_c, plain.to_onnx):
        with pytest.raises(ValueError, match="the model must have corrections to be exported"):
            export(tmp_path / "model.x")
