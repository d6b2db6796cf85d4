"""Tests of ensembles: predictions, coverage of intervals and sets of classes, files and exports."""

import json
import runpy
import shutil
import subprocess

import numpy as np
import pytest

import nnc
from nnc import NeuralNetwork
from nnc._data.conformal import ConformalSets, quantile
from nnc.layers import Conv2D, Input

RNG = np.random.default_rng(1)
X = RNG.normal(size=(200, 3))
Y = np.column_stack([np.sin(X[:, 0]) + X[:, 1], X[:, 2] ** 2]) + RNG.normal(0, 0.1, (200, 2))
NAMES = np.array(["ash", "birch", "cedar"])[(X[:, 0] > 0).astype(int) + (X[:, 1] > 0.5)]

pytestmark = pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")


@pytest.fixture(scope="module")
def regression():
    """Return an ensemble of five regression networks with two outputs."""
    net = NeuralNetwork([3, 8, 2], activation="tanh", loss="mse", scale_X="standardize", scale_y="standardize", seed=0)
    networks = nnc.clones(net, 5)
    nnc.fit_many(networks, X, Y, epochs=20, batch_size=16, optimizer="adam", lr=0.01)
    return nnc.Ensemble(networks)


@pytest.fixture(scope="module")
def classification():
    """Return an ensemble of three classifiers of different widths for the labels NAMES."""
    networks = [NeuralNetwork([3, width, 3], loss="cross_entropy", seed=width) for width in (4, 6, 9)]
    nnc.fit_many(networks, X, NAMES, epochs=20, batch_size=16, optimizer="adam", lr=0.01)
    return nnc.Ensemble(networks)


def test_predictions_are_means_of_networks(regression, classification):
    outputs = np.stack([network.predict(X) for network in regression.networks])
    assert regression.predict_all(X).tobytes() == outputs.tobytes()
    assert np.array_equal(regression.predict(X), outputs.mean(axis=0))
    assert regression.predict(X[0]).shape == (2,)
    assert len(regression) == 5
    assert repr(regression) == "<Ensemble: 5 networks, 3-8-2>"
    P = np.mean([network.predict_proba(X) for network in classification.networks], axis=0)
    assert np.array_equal(classification.predict_proba(X), P)
    assert classification.predict_classes(X).tolist() == classification.classes[P.argmax(axis=1)].tolist()
    assert classification.score(X, NAMES) == np.mean(classification.predict_classes(X) == NAMES) > 0.7
    weights = RNG.uniform(size=200)
    errors, spread = (Y - regression.predict(X)) ** 2, (Y - np.average(Y, axis=0, weights=weights)) ** 2
    expected = np.mean(1 - (weights @ errors) / (weights @ spread))
    assert regression.score(X, Y, weights) == pytest.approx(expected, rel=1e-12)


def test_ensemble_uses_later_training_of_its_networks():
    networks = nnc.clones(NeuralNetwork([3, 4, 3], loss="cross_entropy", scale_X="standardize", seed=0), 2)
    ensemble = nnc.Ensemble(networks)
    nnc.fit_many(networks, X, NAMES, epochs=2, lr=0.001)
    assert ensemble.predict_classes(X).tolist() == nnc.Ensemble(networks).predict_classes(X).tolist()
    assert set(ensemble.predict_classes(X)) <= set(NAMES)
    assert ensemble.score(X, NAMES) == np.mean(ensemble.predict_classes(X) == NAMES)


def test_binary_ensemble_predicts_probabilities_classes_and_intervals():
    networks = nnc.clones(NeuralNetwork([3, 4, 1], loss="bce", seed=0), 3)
    nnc.fit_many(networks, X, X[:, 0] > 0, epochs=30, batch_size=16, optimizer="adam", lr=0.01)
    ensemble = nnc.Ensemble(networks)
    assert ensemble.predict_proba(X).shape == (200, 2)
    assert np.array_equal(ensemble.predict_classes(X), ensemble.predict(X)[:, 0] >= 0.5)
    low, high = ensemble.predict_interval(X, 0.999999)
    assert low.min() >= 0
    assert high.max() <= 1


def test_interval_width_is_standard_deviation_of_networks(regression):
    low, high = regression.predict_interval(X, level=0.6826894921370859)
    outputs = regression.predict_all(X)
    assert np.allclose((low + high) / 2, outputs.mean(axis=0))
    assert np.allclose((high - low) / 2, outputs.std(axis=0, ddof=1))
    with pytest.raises(ValueError, match="two or more networks"):
        nnc.Ensemble(regression.networks[:1]).predict_interval(X)
    with pytest.raises(ValueError, match="level must be above 0 and below 1, got 1"):
        regression.predict_interval(X, 1)


def test_intervals_of_counts_include_poisson_noise():
    rates = np.exp(0.5 * X[:, 0] + 1)
    counts = np.random.default_rng(0).poisson(rates)
    networks = nnc.clones(NeuralNetwork([3, 4, 1], loss="poisson", seed=0), 4)
    nnc.fit_many(networks, X, counts, epochs=60, batch_size=20, optimizer="adam", lr=0.01)
    ensemble = nnc.Ensemble(networks)
    low, high = ensemble.predict_interval(X, 0.9)
    inside = np.mean((low[:, 0] <= counts) & (counts <= high[:, 0]))
    assert 0.85 < inside < 0.98
    assert low.min() >= 0
    mean, variance = ensemble.predict(X), ensemble.predict_all(X).var(axis=0, ddof=1)
    assert np.allclose(high, mean + 1.6448536269514722 * np.sqrt(variance + mean))


def mean_coverage(n_draws, cover):
    """Return the mean coverage over draws of calibration rows and new rows, and its standard error."""
    fractions = np.array([cover(np.random.default_rng(draw)) for draw in range(n_draws)])
    return fractions.mean(), fractions.std() / np.sqrt(n_draws)


@pytest.mark.parametrize("level", [0.5, 0.9])
@pytest.mark.parametrize("n", [19, 60])
def test_conformal_intervals_have_stated_coverage(regression, level, n):
    def cover(rng):
        rows = rng.normal(0, 2, (n + 200, 3))  # coverage holds also for inputs unlike the training rows
        truth = np.column_stack([rows[:, 0], rows[:, 1] ** 2]) + rng.standard_t(3, (n + 200, 2))
        low, high = regression.conformal(rows[:n], truth[:n], level).predict_interval(rows[n:])
        return np.mean((low <= truth[n:]) & (truth[n:] <= high))

    mean, error = mean_coverage(150, cover)
    assert level - 4 * error <= mean <= level + 1 / (n + 1) + 4 * error


@pytest.mark.parametrize("level", [0.6, 0.9])
def test_conformal_sets_have_stated_coverage(classification, level):
    def cover(rng):
        rows, truth = rng.normal(size=(260, 3)), rng.integers(0, 3, 260)
        predictable = rng.uniform(size=260) < 0.7
        truth[predictable] = (rows[predictable, 0] > 0).astype(int) + (rows[predictable, 1] > 0.5)
        sets = classification.conformal(rows[:60], classification.classes[truth[:60]], level)
        return sets.predict_set(rows[60:], allow_empty=True)[np.arange(200), truth[60:]].mean()

    mean, error = mean_coverage(150, cover)
    assert level - 4 * error <= mean <= level + 1 / 61 + 4 * error


@pytest.mark.parametrize("n_classes", [2, 3, 7, 49])
@pytest.mark.parametrize("level", [0.1, 0.6, 0.9])
def test_sets_of_tied_probabilities_cover_calibration_rows(n_classes, level):
    rng = np.random.default_rng(n_classes)
    P = np.repeat(rng.dirichlet(np.ones(n_classes), 8), 10, axis=0)  # 8 rows of probabilities, each repeated 10 times
    P[:40] = 1 / n_classes  # in these rows, all classes are equally probable
    truth = rng.integers(0, n_classes, 80)
    sets = ConformalSets(lambda X: P, None, truth, level)
    assert sets.predict_set(None)[np.arange(80), truth].mean() >= level
    assert sets.predict_set(None, allow_empty=True)[np.arange(80), truth].mean() >= level


def test_set_contains_all_equally_probable_classes():
    P = np.full((20, 3), 1 / 3)
    assert ConformalSets(lambda X: P, None, np.arange(20) % 3, 0.9).predict_set(None, allow_empty=True).all()


def test_most_probable_class_replaces_empty_set(classification):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, 3))
    # The labels are the most probable classes, so calibrated sets are often empty.
    names = classification.predict_classes(rows[:100])
    sets = classification.conformal(rows[:100], names, 0.5)
    assert sets.threshold > 0.5
    with_empty_sets, filled = sets.predict_set(rows, allow_empty=True), sets.predict_set(rows)
    empty = ~with_empty_sets.any(axis=1)
    assert 50 < empty.sum() < 250
    assert np.array_equal(filled[~empty], with_empty_sets[~empty])
    assert np.array_equal(
        filled[empty], np.eye(3, dtype=bool)[classification.predict_proba(rows)[empty].argmax(axis=1)]
    )
    with pytest.raises(TypeError, match="allow_empty must be True or False, got 'no'"):
        sets.predict_set(rows, allow_empty="no")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_intervals_cover_calibration_rows_despite_rounding(dtype):
    ensemble = nnc.Ensemble([NeuralNetwork([3, 4, 1], loss="mse", seed=seed, dtype=dtype) for seed in range(3)])
    for seed in range(200):
        rng = np.random.default_rng(seed)
        rows, truth = rng.normal(size=(19, 3)), rng.normal(size=19) * 10.0 ** rng.integers(-3, 4)
        low, high = ensemble.conformal(rows, truth, 0.9).predict_interval(rows)
        assert np.sum((low[:, 0] <= truth) & (truth <= high[:, 0])) >= 18, seed


def test_intervals_are_wider_where_networks_disagree(regression):
    intervals = regression.conformal(X[:100], Y[:100], 0.9)
    assert intervals.level == 0.9
    assert intervals.factor.shape == (2,)
    low, high = intervals.predict_interval(X)
    spread = regression.predict_all(X).std(axis=0, ddof=1)
    assert np.corrcoef((high - low)[:, 0], spread[:, 0])[0, 1] > 0.999
    single = nnc.Ensemble(regression.networks[:1]).conformal(X[:100], Y[:100])
    low, high = single.predict_interval(X)
    assert np.ptp(high - low, axis=0).max() < 1e-12


def test_conformal_rejects_invalid_calibration_data(regression, classification):
    with pytest.raises(ValueError, match=r"level=0.9 requires 9 held-out rows or more, got 8"):
        regression.conformal(X[:8], Y[:8], 0.9)
    regression.conformal(X[:9], Y[:9], 0.9)
    with pytest.raises(ValueError, match="classes of this network"):
        classification.conformal(X, np.full(200, "oak"))
    assert quantile(np.arange(1.0, 20), 0.9) == 18
    assert quantile(np.arange(1.0, 20), 0.95) == 19


def test_ensemble_rejects_incompatible_networks(classification):
    network = NeuralNetwork([3, 2, 1], loss="mse")
    for other, property_name in (
        (NeuralNetwork([2, 1], loss="mse"), "inputs"),
        (NeuralNetwork([3, 2], loss="mse"), "number of outputs"),
        (NeuralNetwork([3, 1], loss="bce"), "type of targets"),
        (NeuralNetwork([3, 1], loss="mse", output="sigmoid"), "output range"),
    ):
        with pytest.raises(ValueError, match=rf"networks must have the same {property_name}, .* in networks\[1\]"):
            nnc.Ensemble([network, other])
    other = NeuralNetwork([3, 3], loss="cross_entropy")
    with pytest.raises(ValueError, match="same classes"):
        nnc.Ensemble([*classification.networks, other])
    with pytest.raises(ValueError, match="different objects"):
        nnc.Ensemble([network, network])


# ------------------------------------------------------------------------------------------------ files


def test_loaded_ensemble_has_same_bits(regression, classification, tmp_path):
    for ensemble in (regression, classification):
        path = tmp_path / "ensemble.json"
        ensemble.save(path)
        loaded = nnc.Ensemble.load(path)
        assert loaded.predict(X).tobytes() == ensemble.predict(X).tobytes()
        assert [network.seed for network in loaded.networks] == [network.seed for network in ensemble.networks]
        assert nnc.from_json(ensemble.to_json()).predict(X).tobytes() == ensemble.predict(X).tobytes()
        assert path.read_text(encoding="utf-8") == ensemble.to_json()
    assert loaded.classes.tolist() == ["ash", "birch", "cedar"]


def edit_document(text, change):
    """Return the JSON text after `change` has modified its document in place."""
    document = json.loads(text)
    change(document)
    return json.dumps(document)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["networks"].pop(), "one was removed"),
        (lambda d: d["networks"].reverse(), "removed, added or replaced"),
        (lambda d: d["networks"][1]["layers"][0]["W"][0].__setitem__(0, 1.5), r"networks\[1\]: .* checksum"),
        (lambda d: d["networks"][1].pop("loss"), r"networks\[1\]: loss is missing"),
        (lambda d: d.update(networks=[]), "networks is empty"),
        (lambda d: d.update(networks=3), "networks is 3"),
        (lambda d: d.update(networks=[3]), r"networks\[0\]: the content is 3, expected a network"),
        (lambda d: d.update(version=2), "version is 2, expected 1"),
        (lambda d: d.update(version=True), "version is true, expected 1"),
        (lambda d: d.pop("format"), "format is missing"),
    ],
)
def test_load_names_defect_of_invalid_file(regression, change, message):
    with pytest.raises(nnc.ModelFileError, match="cannot load the model from the JSON text: .*" + message):
        nnc.from_json(edit_document(regression.to_json(), change))


def test_load_distinguishes_networks_and_ensembles(regression, tmp_path):
    regression.save(tmp_path / "ensemble.json")
    regression.networks[0].save(tmp_path / "network.json")
    with pytest.raises(nnc.ModelFileError, match=r"the content is an ensemble of networks; load it with nnc.load"):
        NeuralNetwork.load(tmp_path / "ensemble.json")
    with pytest.raises(nnc.ModelFileError, match="the content is a single network"):
        nnc.Ensemble.load(tmp_path / "network.json")
    with pytest.raises(nnc.ModelFileError, match="the text is empty; save the model again"):
        nnc.from_json("")
    with pytest.raises(FileNotFoundError, match="cannot load the ensemble"):
        nnc.Ensemble.load(tmp_path / "none.json")


def test_load_rejects_file_with_incompatible_networks(regression):
    text = regression.to_json()
    other = json.loads(NeuralNetwork([3, 1], loss="mse").to_json())
    invalid = edit_document(text, lambda d: (d["networks"].append(other), d.pop("sha256")))
    with pytest.raises(nnc.ModelFileError, match="networks must have the same number of outputs"):
        nnc.from_json(invalid)


def test_load_accepts_checksum_of_a_network_that_is_null(regression):
    text = edit_document(regression.to_json(), lambda d: d["networks"][0].update(sha256=None))
    np.testing.assert_array_equal(nnc.from_json(text).predict(X), regression.predict(X))


def test_onnx_model_predicts_like_ensemble(regression, classification, tmp_path):
    onnx = pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    for ensemble in (regression, classification):
        ensemble.to_onnx(tmp_path / "ensemble.onnx")
        model = onnx.load(tmp_path / "ensemble.onnx")
        onnx.checker.check_model(model, full_check=True)
        evaluator = ReferenceEvaluator(model)
        outputs = dict(zip(evaluator.output_names, evaluator.run(None, {"X": X}), strict=True))
        if "label" in outputs:
            assert outputs["label"].tolist() == ensemble.predict_classes(X).tolist()
            assert np.allclose(outputs["probabilities"], ensemble.predict_proba(X), rtol=0, atol=1e-12)
        else:
            assert np.allclose(outputs["output"], ensemble.predict(X), rtol=0, atol=1e-12)


@pytest.fixture(scope="module")
def binary():
    """Return an ensemble of binary classifiers of both dtypes, whose inputs are images of one row."""
    layers = [Input(1, 3), Conv2D(4, (1, 2), "relu"), 1]
    networks = [NeuralNetwork(layers, loss="bce", seed=seed, dtype=f"float{size}") for seed, size in ((0, 32), (1, 64))]
    nnc.fit_many(networks, X, X[:, 0] > 0, epochs=5, batch_size=16, optimizer="adam", lr=0.01)
    return nnc.Ensemble(networks)


def assert_matches(ensemble, outputs, classes):
    """Assert that outputs and classes of the first 20 rows are those of the ensemble, within its precision."""
    exact = all(network.dtype == np.float64 for network in ensemble.networks)
    P = ensemble.predict(X[:20].reshape(-1, *ensemble.networks[0].model.input_shape))
    assert np.allclose(outputs, P, rtol=0, atol=1e-12 if exact else 1e-6)
    if ensemble.networks[0].loss_name != "mse":
        assert classes == ensemble.predict_classes(X[:20]).tolist()


def test_python_module_predicts_like_ensemble(regression, classification, binary, tmp_path):
    for ensemble in (regression, classification, binary):
        ensemble.to_python(tmp_path / "ensemble.py")
        module = runpy.run_path(str(tmp_path / "ensemble.py"))
        module["self_test"]()
        rows = X[:20].tolist()
        predicted_classes = [module["predict_class"](row) for row in rows] if "CLASSES" in module else None
        assert_matches(ensemble, [module["predict"](row) for row in rows], predicted_classes)


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
def test_javascript_module_predicts_like_ensemble(regression, classification, binary, tmp_path):
    script = """import * as net from "./ensemble.mjs";
        const rows = ROWS;
        const classes = net.classes && rows.map(net.predictClass);
        console.log(JSON.stringify([net.selfTest(), rows.map(net.predict), classes]));"""
    for ensemble in (regression, classification, binary):
        ensemble.to_js(tmp_path / "ensemble.mjs")
        (tmp_path / "run.mjs").write_text(script.replace("ROWS", json.dumps(X[:20].tolist())))
        result = subprocess.run(["node", "run.mjs"], cwd=tmp_path, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        passed, outputs, predicted_classes = json.loads(result.stdout)
        assert passed is True
        assert_matches(ensemble, outputs, predicted_classes)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_c_header_predicts_like_ensemble(regression, classification, binary, tmp_path):
    program = """#include <stdio.h>
        #include "ensemble.h"
        int main(void)
        {
            static const double rows[20][3] = ROWS;
            double out[ENSEMBLE_N_OUT];
            int row, i;
            for (row = 0; row < 20; row++) {
                ensemble_predict(rows[row], out);
                for (i = 0; i < ENSEMBLE_N_OUT; i++)
                    printf("%.17g ", out[i]);
                printf("%s\\n", LABEL);
            }
            return ensemble_self_test();
        }"""
    rows = json.dumps(X[:20].tolist()).replace("[", "{").replace("]", "}")
    flags = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-pedantic", "-Werror"]
    for ensemble in (regression, classification, binary):
        ensemble.to_c(tmp_path / "ensemble.h")
        label = '""' if ensemble is regression else "ensemble_labels[ensemble_class(out)]"
        (tmp_path / "all.c").write_text(program.replace("ROWS", rows).replace("LABEL", label))
        command = ["gcc", *flags, "all.c", "-o", "all", "-lm"]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        result = subprocess.run([tmp_path / "all"], capture_output=True, text=True)
        assert result.returncode == 0
        lines = [line.split() for line in result.stdout.splitlines()]
        n_out = ensemble.networks[0].sizes[-1]
        predicted_classes = [{"true": True, "false": False}.get(label, label) for *_, label in lines]
        assert_matches(ensemble, [[float(number) for number in line[:n_out]] for line in lines], predicted_classes)
    with pytest.raises(ValueError, match="dtype must be 'float64' or 'float32', got 'int8'"):
        regression.to_c(tmp_path / "ensemble.h", dtype="int8")


def test_score_computes_requested_metric(regression, classification, binary):
    weights = RNG.uniform(size=200)
    P = regression.predict(X)
    assert regression.score(X, Y, metric="mae") == pytest.approx(np.mean(abs(Y - P)), rel=1e-12)
    assert regression.score(X, Y, weights, "rmse") == pytest.approx(
        np.sqrt(np.average((Y - P) ** 2, axis=0, weights=weights)).mean()
    )
    index = np.searchsorted(classification.classes, NAMES)
    true_class_probabilities = classification.predict_proba(X)[np.arange(200), index]
    assert classification.score(X, NAMES, metric="log_loss") == pytest.approx(-np.log(true_class_probabilities).mean())
    assert classification.score(
        X, NAMES, metric=lambda true, predicted: (true == predicted).sum() / 200
    ) == classification.score(X, NAMES)
    assert binary.score(X, X[:, 0] > 0, metric="auc") > 0.9
    single = nnc.Ensemble(regression.networks[:1])
    assert single.score(X, Y, metric="mape") == pytest.approx(regression.networks[0].score(X, Y, metric="mape"))
    with pytest.raises(ValueError, match="metric: 'auc' is for losses of classes, and 'mse' is one of numbers"):
        regression.score(X, Y, metric="auc")
    nonfinite = nnc.Ensemble([regression.networks[0].copy(), regression.networks[1]])
    nonfinite.networks[0].weights[0][:] = np.nan
    with pytest.raises(ValueError, match=r"must be finite, got nan in W\[0, 0\]"):
        nonfinite.score(X, Y)
