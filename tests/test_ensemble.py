"""Ensembles: what they predict, intervals that hold what they promise, and files with a network's promises."""

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
def numbers():
    net = NeuralNetwork([3, 8, 2], activation="tanh", loss="mse", scale_X="standardize", scale_y="standardize", seed=0)
    networks = nnc.clones(net, 5)
    nnc.fit_many(networks, X, Y, epochs=20, batch_size=16, optimizer="adam", lr=0.01)
    return nnc.Ensemble(networks)


@pytest.fixture(scope="module")
def classes():
    networks = [NeuralNetwork([3, width, 3], loss="cross_entropy", seed=width) for width in (4, 6, 9)]
    nnc.fit_many(networks, X, NAMES, epochs=20, batch_size=16, optimizer="adam", lr=0.01)
    return nnc.Ensemble(networks)


def test_it_answers_with_the_mean(numbers, classes):
    every = np.stack([network.predict(X) for network in numbers.networks])
    assert numbers.predict_all(X).tobytes() == every.tobytes()
    assert np.array_equal(numbers.predict(X), every.mean(axis=0))
    assert numbers.predict(X[0]).shape == (2,)
    assert len(numbers) == 5
    assert repr(numbers) == "<Ensemble: 5 networks, 3-8-2>"
    P = np.mean([network.predict_proba(X) for network in classes.networks], axis=0)
    assert np.array_equal(classes.predict_proba(X), P)
    assert classes.predict_classes(X).tolist() == classes.classes[P.argmax(axis=1)].tolist()
    assert classes.score(X, NAMES) == np.mean(classes.predict_classes(X) == NAMES) > 0.7
    w = RNG.uniform(size=200)
    errors, spread = (Y - numbers.predict(X)) ** 2, (Y - np.average(Y, axis=0, weights=w)) ** 2
    expected = np.mean(1 - (w @ errors) / (w @ spread))
    assert numbers.score(X, Y, w) == pytest.approx(expected, rel=1e-12)


def test_it_knows_what_its_networks_learn_later():
    networks = nnc.clones(NeuralNetwork([3, 4, 3], loss="cross_entropy", scale_X="standardize", seed=0), 2)
    ensemble = nnc.Ensemble(networks)
    nnc.fit_many(networks, X, NAMES, epochs=2, lr=0.001)
    assert ensemble.predict_classes(X).tolist() == nnc.Ensemble(networks).predict_classes(X).tolist()
    assert set(ensemble.predict_classes(X)) <= set(NAMES)
    assert ensemble.score(X, NAMES) == np.mean(ensemble.predict_classes(X) == NAMES)


def test_several_heads_have_no_one_score():
    heads = nnc.Heads([nnc.Head(1, "mse"), nnc.Head(2, "cross_entropy")])
    ensemble = nnc.Ensemble(nnc.clones(NeuralNetwork([3, 4, 3], loss=heads, seed=0), 2))
    with pytest.raises(ValueError, match="score requires a network with a single loss"):
        ensemble.score(X, np.column_stack([X[:, 0], X[:, 1] > 0]))


def test_yes_and_no():
    networks = nnc.clones(NeuralNetwork([3, 4, 1], loss="bce", seed=0), 3)
    nnc.fit_many(networks, X, X[:, 0] > 0, epochs=30, batch_size=16, optimizer="adam", lr=0.01)
    ensemble = nnc.Ensemble(networks)
    assert ensemble.predict_proba(X).shape == (200, 2)
    assert np.array_equal(ensemble.predict_classes(X), ensemble.predict(X)[:, 0] >= 0.5)
    low, high = ensemble.predict_interval(X, 0.999999)
    assert low.min() >= 0
    assert high.max() <= 1


def test_the_spread_of_the_networks(numbers):
    low, high = numbers.predict_interval(X, level=0.6826894921370859)
    every = numbers.predict_all(X)
    assert np.allclose((low + high) / 2, every.mean(axis=0))
    assert np.allclose((high - low) / 2, every.std(axis=0, ddof=1))
    with pytest.raises(ValueError, match="two or more networks"):
        nnc.Ensemble(numbers.networks[:1]).predict_interval(X)
    with pytest.raises(ValueError, match="level must be above 0 and below 1, got 1"):
        numbers.predict_interval(X, 1)


def test_counts_have_their_own_noise():
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


def coverage(draws, level, cover):
    """The mean share of rows inside over many draws of held-out and new rows, and its standard error."""
    shares = np.array([cover(np.random.default_rng(draw)) for draw in range(draws)])
    return shares.mean(), shares.std() / np.sqrt(draws)


@pytest.mark.parametrize("level", [0.5, 0.9])
@pytest.mark.parametrize("n", [19, 60])
def test_coverage_of_intervals(numbers, level, n):
    def cover(rng):
        rows = rng.normal(0, 2, (n + 200, 3))  # not where it has learned: that must not matter
        truth = np.column_stack([rows[:, 0], rows[:, 1] ** 2]) + rng.standard_t(3, (n + 200, 2))
        low, high = numbers.conformal(rows[:n], truth[:n], level).predict_interval(rows[n:])
        return np.mean((low <= truth[n:]) & (truth[n:] <= high))

    mean, error = coverage(150, level, cover)
    assert level - 4 * error <= mean <= level + 1 / (n + 1) + 4 * error


@pytest.mark.parametrize("level", [0.6, 0.9])
def test_coverage_of_sets(classes, level):
    def cover(rng):
        rows, truth = rng.normal(size=(260, 3)), rng.integers(0, 3, 260)
        sure = rng.uniform(size=260) < 0.7
        truth[sure] = (rows[sure, 0] > 0).astype(int) + (rows[sure, 1] > 0.5)
        held = classes.conformal(rows[:60], classes.classes[truth[:60]], level)
        return held.predict_set(rows[60:], allow_empty=True)[np.arange(200), truth[60:]].mean()

    mean, error = coverage(150, level, cover)
    assert level - 4 * error <= mean <= level + 1 / 61 + 4 * error


@pytest.mark.parametrize("n_classes", [2, 3, 7, 49])
@pytest.mark.parametrize("level", [0.1, 0.6, 0.9])
def test_sets_of_tied_probabilities_hold_their_calibration_rows(n_classes, level):
    rng = np.random.default_rng(n_classes)
    P = np.repeat(rng.dirichlet(np.ones(n_classes), 8), 10, axis=0)  # eight scores of a class, ten times each
    P[:40] = 1 / n_classes  # equally probable classes
    truth = rng.integers(0, n_classes, 80)
    sets = ConformalSets(lambda X: P, None, truth, level)
    assert sets.predict_set(None)[np.arange(80), truth].mean() >= level
    assert sets.predict_set(None, allow_empty=True)[np.arange(80), truth].mean() >= level


def test_equally_probable_classes_are_all_in_the_set():
    P = np.full((20, 3), 1 / 3)
    assert ConformalSets(lambda X: P, None, np.arange(20) % 3, 0.9).predict_set(None, allow_empty=True).all()


def test_an_empty_set_gets_the_most_probable_class(classes):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, 3))
    names = classes.predict_classes(rows[:100])  # the most probable class is always right
    sets = classes.conformal(rows[:100], names, 0.5)
    assert sets.threshold > 0.5
    plain, filled = sets.predict_set(rows, allow_empty=True), sets.predict_set(rows)
    empty = ~plain.any(axis=1)
    assert 50 < empty.sum() < 250
    assert np.array_equal(filled[~empty], plain[~empty])
    assert np.array_equal(filled[empty], np.eye(3, dtype=bool)[classes.predict_proba(rows)[empty].argmax(axis=1)])
    with pytest.raises(TypeError, match="allow_empty must be True or False, got 'no'"):
        sets.predict_set(rows, allow_empty="no")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_intervals_hold_their_calibration_rows(dtype):
    ensemble = nnc.Ensemble([NeuralNetwork([3, 4, 1], loss="mse", seed=seed, dtype=dtype) for seed in range(3)])
    for seed in range(200):
        rng = np.random.default_rng(seed)
        rows, truth = rng.normal(size=(19, 3)), rng.normal(size=19) * 10.0 ** rng.integers(-3, 4)
        low, high = ensemble.conformal(rows, truth, 0.9).predict_interval(rows)
        assert np.sum((low[:, 0] <= truth) & (truth <= high[:, 0])) >= 18, seed


def test_where_networks_differ_intervals_are_wider(numbers):
    held = numbers.conformal(X[:100], Y[:100], 0.9)
    assert held.level == 0.9
    assert held.factor.shape == (2,)
    low, high = held.predict_interval(X)
    spread = numbers.predict_all(X).std(axis=0, ddof=1)
    assert np.corrcoef((high - low)[:, 0], spread[:, 0])[0, 1] > 0.999
    single = nnc.Ensemble(numbers.networks[:1]).conformal(X[:100], Y[:100])
    low, high = single.predict_interval(X)
    assert np.ptp(high - low, axis=0).max() < 1e-12


def test_what_conformal_refuses(numbers, classes):
    with pytest.raises(ValueError, match=r"a level of 0.9 needs 9 held-out rows or more, got 8"):
        numbers.conformal(X[:8], Y[:8], 0.9)
    numbers.conformal(X[:9], Y[:9], 0.9)
    with pytest.raises(ValueError, match="classes of this network"):
        classes.conformal(X, np.full(200, "oak"))
    several = nnc.Ensemble([NeuralNetwork([3, 2], loss="bce")])
    with pytest.raises(ValueError, match=r"one class for each row|predict_proba"):
        several.conformal(X, (Y > 0).astype(float))
    assert quantile(np.arange(1.0, 20), 0.9) == 18
    assert quantile(np.arange(1.0, 20), 0.95) == 19


def test_networks_that_do_not_go_together(classes):
    one = NeuralNetwork([3, 2, 1], loss="mse")
    for other, what in (
        (NeuralNetwork([2, 1], loss="mse"), "inputs"),
        (NeuralNetwork([3, 2], loss="mse"), "number of outputs"),
        (NeuralNetwork([3, 1], loss="bce"), "type of targets"),
        (NeuralNetwork([3, 1], loss="mse", output="sigmoid"), "output range"),
    ):
        with pytest.raises(ValueError, match=rf"networks must have the same {what}, .* in networks\[1\]"):
            nnc.Ensemble([one, other])
    other = NeuralNetwork([3, 3], loss="cross_entropy")
    with pytest.raises(ValueError, match="same classes"):
        nnc.Ensemble([*classes.networks, other])
    with pytest.raises(ValueError, match="different objects"):
        nnc.Ensemble([one, one])


# ------------------------------------------------------------------------------------------------ files


def test_a_file_reads_back_to_the_bit(numbers, classes, tmp_path):
    for ensemble in (numbers, classes):
        path = tmp_path / "ensemble.json"
        ensemble.save(path)
        same = nnc.Ensemble.load(path)
        assert same.predict(X).tobytes() == ensemble.predict(X).tobytes()
        assert [network.seed for network in same.networks] == [network.seed for network in ensemble.networks]
        assert nnc.from_json(ensemble.to_json()).predict(X).tobytes() == ensemble.predict(X).tobytes()
        assert path.read_text(encoding="utf-8") == ensemble.to_json()
    assert same.classes.tolist() == ["ash", "birch", "cedar"]


def edited(text, change):
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
        (lambda d: d.update(networks=[3]), r"networks\[0\]: it contains 3, expected a network"),
        (lambda d: d.update(version=2), "version is 2, expected 1"),
        (lambda d: d.update(version=True), "version is true, expected 1"),
        (lambda d: d.pop("format"), "format is missing"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(numbers, change, message):
    with pytest.raises(nnc.ModelFileError, match="cannot load the model from the JSON text: .*" + message):
        nnc.from_json(edited(numbers.to_json(), change))


def test_networks_and_ensembles_are_told_apart(numbers, tmp_path):
    numbers.save(tmp_path / "ensemble.json")
    numbers.networks[0].save(tmp_path / "network.json")
    with pytest.raises(nnc.ModelFileError, match=r"it is an ensemble of networks; load it with nnc.load"):
        NeuralNetwork.load(tmp_path / "ensemble.json")
    with pytest.raises(nnc.ModelFileError, match="it is a single network"):
        nnc.Ensemble.load(tmp_path / "network.json")
    with pytest.raises(nnc.ModelFileError, match="it is empty; save the model again"):
        nnc.from_json("")
    with pytest.raises(FileNotFoundError, match="cannot load the ensemble"):
        nnc.Ensemble.load(tmp_path / "none.json")


def test_what_does_not_go_together_is_refused_in_a_file_too(numbers):
    text = numbers.to_json()
    other = json.loads(NeuralNetwork([3, 1], loss="mse").to_json())
    wrong = edited(text, lambda d: (d["networks"].append(other), d.pop("sha256")))
    with pytest.raises(nnc.ModelFileError, match="networks must have the same number of outputs"):
        nnc.from_json(wrong)


def test_onnx(numbers, classes, tmp_path):
    onnx = pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    for ensemble in (numbers, classes):
        ensemble.to_onnx(tmp_path / "ensemble.onnx")
        model = onnx.load(tmp_path / "ensemble.onnx")
        onnx.checker.check_model(model, full_check=True)
        evaluator = ReferenceEvaluator(model)
        found = dict(zip(evaluator.output_names, evaluator.run(None, {"X": X}), strict=True))
        if "label" in found:
            assert found["label"].tolist() == ensemble.predict_classes(X).tolist()
            assert np.allclose(found["probabilities"], ensemble.predict_proba(X), rtol=0, atol=1e-12)
        else:
            assert np.allclose(found["output"], ensemble.predict(X), rtol=0, atol=1e-12)


@pytest.fixture(scope="module")
def yes_or_no():
    """Of both precisions, and one row of images."""
    layers = [Input(1, 3), Conv2D(4, (1, 2), "relu"), 1]
    networks = [NeuralNetwork(layers, loss="bce", seed=seed, dtype=f"float{size}") for seed, size in ((0, 32), (1, 64))]
    nnc.fit_many(networks, X, X[:, 0] > 0, epochs=5, batch_size=16, optimizer="adam", lr=0.01)
    return nnc.Ensemble(networks)


def written(ensemble, found, classes):
    """Whether outputs and classes of the first rows are those of the ensemble, to the precision of its networks."""
    exact = all(network.dtype == np.float64 for network in ensemble.networks)
    P = ensemble.predict(X[:20].reshape(-1, *ensemble.networks[0].model.input_shape))
    assert np.allclose(found, P, rtol=0, atol=1e-12 if exact else 1e-6)
    if ensemble.networks[0].loss_name != "mse":
        assert classes == ensemble.predict_classes(X[:20]).tolist()
    return True


def test_python(numbers, classes, yes_or_no, tmp_path):
    for ensemble in (numbers, classes, yes_or_no):
        ensemble.to_python(tmp_path / "ensemble.py")
        module = runpy.run_path(str(tmp_path / "ensemble.py"))
        module["self_test"]()
        rows = X[:20].tolist()
        found = [module["predict_class"](row) for row in rows] if "CLASSES" in module else None
        assert written(ensemble, [module["predict"](row) for row in rows], found)


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
def test_javascript(numbers, classes, yes_or_no, tmp_path):
    script = """import * as net from "./ensemble.mjs";
        const rows = ROWS;
        const classes = net.classes && rows.map(net.predictClass);
        console.log(JSON.stringify([net.selfTest(), rows.map(net.predict), classes]));"""
    for ensemble in (numbers, classes, yes_or_no):
        ensemble.to_js(tmp_path / "ensemble.mjs")
        (tmp_path / "run.mjs").write_text(script.replace("ROWS", json.dumps(X[:20].tolist())))
        done = subprocess.run(["node", "run.mjs"], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        passed, outputs, found = json.loads(done.stdout)
        assert passed is True
        assert written(ensemble, outputs, found)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_c(numbers, classes, yes_or_no, tmp_path):
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
    for ensemble in (numbers, classes, yes_or_no):
        ensemble.to_c(tmp_path / "ensemble.h")
        label = '""' if ensemble is numbers else "ensemble_labels[ensemble_class(out)]"
        (tmp_path / "all.c").write_text(program.replace("ROWS", rows).replace("LABEL", label))
        command = ["gcc", *flags, "all.c", "-o", "all", "-lm"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        done = subprocess.run([tmp_path / "all"], capture_output=True, text=True)
        assert done.returncode == 0
        lines = [line.split() for line in done.stdout.splitlines()]
        n_out = ensemble.networks[0].sizes[-1]
        found = [{"true": True, "false": False}.get(label, label) for *_, label in lines]
        assert written(ensemble, [[float(number) for number in line[:n_out]] for line in lines], found)
    with pytest.raises(ValueError, match="dtype must be 'float64' or 'float32', got 'int8'"):
        numbers.to_c(tmp_path / "ensemble.h", dtype="int8")


def test_score_by_a_metric(numbers, classes, yes_or_no):
    w = RNG.uniform(size=200)
    P = numbers.predict(X)
    assert numbers.score(X, Y, metric="mae") == pytest.approx(np.mean(abs(Y - P)), rel=1e-12)
    assert numbers.score(X, Y, w, "rmse") == pytest.approx(np.sqrt(np.average((Y - P) ** 2, axis=0, weights=w)).mean())
    index = np.searchsorted(classes.classes, NAMES)
    taken = classes.predict_proba(X)[np.arange(200), index]
    assert classes.score(X, NAMES, metric="log_loss") == pytest.approx(-np.log(taken).mean())
    assert classes.score(X, NAMES, metric=lambda true, predicted: (true == predicted).sum() / 200) == classes.score(
        X, NAMES
    )
    assert yes_or_no.score(X, X[:, 0] > 0, metric="auc") > 0.9
    single = nnc.Ensemble(numbers.networks[:1])
    assert single.score(X, Y, metric="mape") == pytest.approx(numbers.networks[0].score(X, Y, metric="mape"))
    with pytest.raises(ValueError, match="metric: 'auc' is for losses of classes, and 'mse' is one of numbers"):
        numbers.score(X, Y, metric="auc")
    broken = nnc.Ensemble([numbers.networks[0].copy(), numbers.networks[1]])
    broken.networks[0].weights[0][:] = np.nan
    with pytest.raises(ValueError, match=r"must be finite, got nan in W\[0, 0\]"):
        broken.score(X, Y)
