"""Tests of file sizes in reports, and of table models with fewer members in files, exports and the command line."""

import re
import subprocess
import sys

import numpy as np
import pytest
from headers import run_header

pytest.importorskip("sklearn", "1.9")

import nnc
from nnc.tabular import TableClassifier, TableRegressor, read_table


def build_rows(n=400, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 4))
    return X, X[:, 0] + 0.5 * X[:, 1] + 0.7 * rng.standard_normal(n)


@pytest.fixture(scope="module")
def classifier():
    X, y = build_rows(750)
    return TableClassifier(members=6, random_state=0).fit(X, np.where(y > 0, "high", "low"))


@pytest.fixture(scope="module")
def regressor():
    return TableRegressor(members=6, random_state=0).fit(*build_rows())


def reported_sizes(report):
    """Return the size in bytes that a report states for each type of file."""
    matches = re.findall(r"(file|ONNX|C) ([\d.]+) (kB|MB)", report.facts["size"])
    return {name: float(number) * {"kB": 1e3, "MB": 1e6}[unit] for name, number, unit in matches}


@pytest.mark.parametrize("members", [None, 1, 2])
@pytest.mark.parametrize("name", ["classifier", "regressor"])
def test_report_states_sizes_of_files(name, members, request, tmp_path):
    model = request.getfixturevalue(name)
    if members is not None:
        model.save(tmp_path / "part.json", members=members)
        model = nnc.load(tmp_path / "part.json")
    model.save(tmp_path / "m.json")
    model.to_onnx(tmp_path / "m.onnx")
    model.to_c(tmp_path / "m.h")
    sizes = reported_sizes(model.report())
    for file_type, file in (("file", "m.json"), ("ONNX", "m.onnx"), ("C", "m.h")):
        assert sizes[file_type] == pytest.approx((tmp_path / file).stat().st_size, rel=0.02)


def test_file_with_one_member_predicts_like_best_member(classifier, tmp_path):
    classifier.save(tmp_path / "all.json")
    classifier.save(tmp_path / "one.json", members=1)
    assert (tmp_path / "one.json").stat().st_size < (tmp_path / "all.json").stat().st_size / 4
    single, (X, _) = nnc.load(tmp_path / "one.json"), build_rows(50, seed=1)
    curves = [member.curve for member in classifier.model_.members]
    best = min(range(len(curves)), key=lambda i: min(curves[i], default=np.inf))
    assert single.networks_[0].params.tobytes() == classifier.networks_[best].params.tobytes()
    model = classifier.model_
    member, encoded = model.members[best], next(model.encoded_blocks(read_table(X)))
    model = model.with_members(1)
    expected = model.member_output(member, model.member_inputs(member, encoded))
    assert np.array_equal(single.predict_proba(X), expected)
    assert single.classes_.tolist() == ["high", "low"]
    expected = classifier.held_out_.temperature / classifier.held_out_.temperature_ratio ** (2 * (1 - 1 / 6))
    assert single.held_out_.temperature == pytest.approx(expected, rel=1e-12)
    assert np.array_equal(single.feature_importances_, classifier.feature_importances_)
    single.save(tmp_path / "again.json", members=1)
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "one.json").read_bytes()
    assert single.predict_set(X).any(axis=1).all()
    assert "one network" not in single.report().facts


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("name", ["classifier", "regressor"])
def test_exports_with_fewer_members_predict_like_smaller_model(name, members, request, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    model, (X, _) = request.getfixturevalue(name), build_rows(50, seed=1)
    model.save(tmp_path / "model.json", members=members)
    small = nnc.load(tmp_path / "model.json")
    assert len(small.networks_) == members
    expected = small.model_.predict(read_table(X))
    model.to_onnx(tmp_path / "model.onnx", members=members)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    outputs = session.run([session.get_outputs()[-1].name], {"X": model.codes(X)})[0]
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)
    model.to_c(tmp_path / "model.h", members=members)
    np.testing.assert_allclose(run_header(tmp_path, model.codes(X)), expected.reshape(len(X), -1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("members", [0, 7, 1.0, True, "1", -1])
@pytest.mark.parametrize("method", ["save", "to_onnx", "to_c"])
def test_save_and_exports_reject_invalid_number_of_members(method, members, classifier, tmp_path):
    expected = f"members must be an integer from 1 to 6, the number of networks, got {members!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        getattr(classifier, method)(tmp_path / "model.h", members=members)
    assert not list(tmp_path.iterdir())


def test_members_of_cross_validation_are_selected_first():
    model = TableRegressor(members=8, random_state=0).fit(*build_rows(200)).model_
    fold_members = sum(member.spec.fold is not None for member in model.members)
    assert 0 < fold_members < len(model.members)
    selected = model.with_members(fold_members).members
    assert all(member.spec.fold is not None for member in selected)
    assert model.with_members(len(model.members)) is model


def test_report_states_if_one_network_is_equally_good(classifier, tmp_path):
    """The noise of the labels is larger than the gain of several networks, also on new rows."""
    assert "as good within noise" in classifier.report().facts["one network"]
    classifier.save(tmp_path / "model.json")
    assert nnc.load(tmp_path / "model.json").report().facts == classifier.report().facts
    classifier.save(tmp_path / "one.json", members=1)
    X, y = build_rows(4000, seed=2)
    labels = np.where(y > 0, "high", "low")
    assert abs(classifier.score(X, labels) - nnc.load(tmp_path / "one.json").score(X, labels)) < 0.02


@pytest.mark.parametrize("model_class", [TableClassifier, TableRegressor])
def test_report_omits_single_network_if_several_are_better(model_class):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((750, 8))
    y = np.sin(2 * X[:, 0]) * X[:, 1] + X[:, 2] + 0.5 * rng.standard_normal(750)
    y = y.round().clip(-2, 2) if model_class is TableClassifier else y
    model = model_class(members=6, random_state=0).fit(X, y)
    assert model.model_.gain.mean > 0.01
    assert "one network" not in model.report().facts


def test_report_omits_single_network_if_networks_overfit():
    """The networks classify all training rows correctly, but some new rows wrongly: the gain is unknown."""
    X = np.random.default_rng(0).standard_normal((300, 12))
    model = TableClassifier(members=6, random_state=0).fit(X, X[:, 0] * X[:, 1] > 0)
    assert model.model_.gain is None
    assert "one network" not in model.report().facts


def test_estimated_gain_equals_gain_on_new_rows():
    X, y = build_rows(4750, seed=3)
    for seed in range(2):
        regressor = TableRegressor(members=8, random_state=seed).fit(X[:750], y[:750])
        model = regressor.model_
        encoded = next(model.encoded_blocks(read_table(X[750:])))
        outputs = [model.member_output(member, model.member_inputs(member, encoded)) for member in model.members]
        predictions = [model.postprocess(output) for output in outputs]
        single = np.mean([1 - np.mean((prediction[:, 0] - y[750:]) ** 2) / y[750:].var() for prediction in predictions])
        assert model.gain.mean == pytest.approx(regressor.score(X[750:], y[750:]) - single, rel=0.3)


def test_command_line_exports_fewer_members(classifier, tmp_path):
    pytest.importorskip("polars")
    classifier.save(tmp_path / "model.json")
    classifier.to_c(tmp_path / "one.h", "model", members=1)

    def run(*arguments):
        command = [sys.executable, "-m", "nnc", "export", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    completed = run("model.json", "--c", "--members", "1")
    assert completed.returncode == 0, completed.stderr
    assert (tmp_path / "model.h").read_bytes() == (tmp_path / "one.h").read_bytes()
    completed = run("model.json", "--onnx", "--members", "7")
    assert (completed.returncode, completed.stdout) == (1, "")
    assert "members must be an integer from 1 to 6" in completed.stderr
    classifier.networks_[0].save(tmp_path / "net.json")
    completed = run("net.json", "--c", "--members", "1")
    assert completed.returncode == 2
    assert "--members requires a table model" in completed.stderr
    assert run("model.json", "--c", "--members", "1", "--network", "1").returncode == 2
