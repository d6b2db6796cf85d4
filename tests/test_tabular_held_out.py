"""Estimates of models of tables are those of new rows: no row helps to choose the networks that predict it."""

import json

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.9")

from sklearn import datasets
from sklearn.model_selection import train_test_split

import nnc
from nnc.tabular import TableClassifier, TableRegressor
from nnc.tabular.held_out import expected_gain, predict_held_out
from nnc.tabular.recipe import CROSS_ENTROPY, Task
from nnc.tabular.snapshots import N_PARTS
from nnc.tabular.temperature import expected_calibration_error
from nnc.tabular.training import Rows, Training


def noise(kind, rows, seed):
    """Return columns that tell nothing of the target, and the target."""
    rng = np.random.default_rng([seed, rows])
    X = rng.standard_normal((rows, 4))
    return X, rng.permutation(np.arange(rows) % 2) if kind is TableClassifier else rng.standard_normal(rows)


@pytest.fixture(scope="module")
def of_noise():
    """Models of noise, by kind and number of rows."""
    return {
        (kind, rows): [kind("fast", random_state=seed).fit(*noise(kind, rows, seed)) for seed in range(10)]
        for kind in (TableClassifier, TableRegressor)
        for rows in (150, 400)
    }


def test_reported_score_on_noise_is_that_of_new_rows(of_noise):
    accuracies = [m.held_out_.score for rows in (150, 400) for m in of_noise[TableClassifier, rows]]
    assert abs(np.mean(accuracies) - 0.5) < 0.06  # it was above 0.6 when the rows that choose the epoch were scored
    differences = [
        model.held_out_.score - model.score(*noise(TableRegressor, 2000, 99))
        for rows in (150, 400)
        for model in of_noise[TableRegressor, rows]
    ]
    assert abs(np.mean(differences)) < 0.07


def test_expected_gain_of_two_networks_by_hand():
    P = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.6, 0.4]])  # two networks predict each of two rows
    mean = np.array([[0.55, 0.45], [0.65, 0.35]])
    # Row 0: the mean is right with 0.55, one network with 0.55, the other with 0.45. Row 1: all agree.
    args = P, np.array([0, 1, 0, 1]), mean, np.array([2, 2])
    assert expected_gain(*args, None) == pytest.approx((0.05 / 2) / (1 / 2))
    assert expected_gain(*args, np.array([1.0, 3.0])) == pytest.approx((0.05 / 4) / (1 / 2))
    assert expected_gain(P[:2], np.arange(2), P[:2], np.ones(2, int), None) == 0


@pytest.mark.parametrize(("signal", "spread"), [(0.0, 0.3), (1.0, 1.0), (2.0, 1.5)])
def test_expected_gain_is_cautious(signal, spread):
    """Labels are drawn from probabilities that 12 networks know up to errors of their own."""
    rng = np.random.default_rng(0)
    z = signal * rng.standard_normal((4000, 5))
    y = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    P = np.exp(z + spread * rng.standard_normal((12, *z.shape)))
    P /= P.sum(axis=2, keepdims=True)
    accuracies = (P.argmax(axis=2) == y).mean(axis=1)
    gain = (P.mean(axis=0).argmax(axis=1) == y).mean() - accuracies.mean()
    index = np.tile(np.arange(4000), 2)
    expected = expected_gain(P[:2].reshape(-1, 5), index, P[:2].mean(axis=0), np.full(4000, 2), None) * (1 - 1 / 12)
    assert 0 <= expected <= gain + 0.03
    if signal:
        assert expected > gain / 4


def test_importance_of_noise_is_within_two_standard_errors(of_noise):
    for kind in (TableClassifier, TableRegressor):
        models = [model for rows in (150, 400) for model in of_noise[kind, rows]]
        importances, errors = (
            np.array([getattr(model, name) for model in models])
            for name in ("feature_importances_", "feature_importances_std_")
        )
        assert (errors > 0).any()
        assert np.mean(np.abs(importances) <= 2 * errors) > 0.85


@pytest.mark.parametrize("name", ["breast_cancer", "diabetes"])
def test_reported_score_on_real_tables_is_that_of_new_rows(name):
    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    kind = TableRegressor if name == "diabetes" else TableClassifier
    differences = []
    for seed in range(6):
        known, new, y_known, y_new = train_test_split(X, y, test_size=0.5, random_state=seed)
        model = kind("fast", random_state=seed).fit(known, y_known)
        differences.append(model.held_out_.score - model.score(new, y_new))
    assert abs(np.mean(differences)) < 0.015 + 3 * np.std(differences) / np.sqrt(6)


def test_calibration_error_is_that_of_new_rows():
    """Of probabilities without information the calibration error is not far below that of new rows."""
    reported, true = [], []
    for seed in range(12):
        X, y = noise(TableClassifier, 200, seed)
        model = TableClassifier("fast", random_state=seed).fit(X, y)
        X, y = noise(TableClassifier, 120, seed + 1000)  # as many rows, as the error of few rows is larger
        reported.append(model.held_out_.calibration_error)
        true.append(expected_calibration_error(model.predict_proba(X), y))
    assert np.mean(reported) > np.mean(true) - 0.03


@pytest.mark.parametrize("kind", ["classes", "numbers"])
def test_labels_of_a_part_change_nothing_in_its_predictions(kind, set_limit):
    """Two trainings are alike but for the labels of one part of a fold, which no network of that fold learns from."""
    set_limit(
        "nnc.tabular.training.MAX_BEST_EPOCH_FRACTION", -1
    )  # the rule that ends a training early uses all held-out rows
    from nnc.tabular.frames import read_table
    from nnc.tabular.model import TableModel
    from nnc.tabular.schema import Schema
    from nnc.tabular.target import Target

    rng = np.random.default_rng(0)
    X = rng.standard_normal((120, 3)).astype(np.float32)
    classes = kind == "classes"
    task = Task(CROSS_ENTROPY, 2) if classes else Task("squared_error", 1)
    y = (X[:, 0] > 0).astype(np.int32) if classes else X[:, :1].astype(np.float64)

    def answers(targets):
        rows = Rows(X, None, targets, None)
        training = Training(task, rows, 0, 1)
        training.row_order = order  # which for classes depends on the labels
        training.scaling, training.y = scaling, targets if scaling is None else scaling.apply(targets, np.float32)
        members = training.run(1)
        schema = Schema.learn(read_table(X))
        target = Target(1, np.arange(2) if classes else None)
        bounds = None if classes else np.array([[-9.0], [9.0]])
        model = TableModel(task, schema, target, members, scaling, bounds, X.mean(axis=0), {"seed": 0})
        return predict_held_out(model, rows, training.held_out_networks())[0]

    first = Training(task, Rows(X, None, y, None), 0, 1)
    order, scaling, held, part = (
        first.row_order,
        first.scaling,
        np.flatnonzero(first.held_out_mask(0)),
        first.held_out_parts(0),
    )
    expected = answers(y)
    assert np.array_equal(expected.rows, held)
    changed_somewhere = False
    for j in range(N_PARTS):
        other = y.copy()
        other[held[part == j]] = 1 - other[held[part == j]] if classes else -3 * other[held[part == j]]
        found = answers(other)
        same = [answer.argmax(axis=1) if classes else answer for answer in (found.values, expected.values)]
        assert np.array_equal(same[0][part == j], same[1][part == j])  # the temperature depends on all snapshots
        changed_somewhere |= not np.array_equal(found.values, expected.values)
    assert changed_somewhere  # the parts choose for one another


def test_the_report_and_the_file_have_the_standard_errors(tmp_path):
    X, y = datasets.load_diabetes(return_X_y=True, as_frame=True)
    model = TableRegressor("fast", random_state=0).fit(X[:200], y[:200])
    errors = model.feature_importances_std_
    assert errors.shape == (10,)
    assert f"{model.feature_importances_.max():.4f} +- " in str(model.report())
    model.save(tmp_path / "model.json")
    assert np.array_equal(nnc.load(tmp_path / "model.json").feature_importances_std_, errors)
    written = json.loads((tmp_path / "model.json").read_text(encoding="utf-8"))
    assert len(written["networks"]) == len(model.networks_)  # snapshots are in no model file
