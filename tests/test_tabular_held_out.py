"""Tests of the estimates of table models on held-out rows: they agree with results on new rows."""

import json
import re

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.9")

from sklearn import datasets
from sklearn.model_selection import train_test_split

import nnc
from nnc._report.outcomes import ClassScores
from nnc._tables.features import PLAIN
from nnc.tabular import TableClassifier, TableRegressor
from nnc.tabular.held_out import expected_gain, predict_held_out
from nnc.tabular.recipe import CROSS_ENTROPY, Task, fit_target_scaling
from nnc.tabular.snapshots import N_PARTS
from nnc.tabular.temperature import expected_calibration_error
from nnc.tabular.training import Rows, Training
from nnc.tabular.training_rows import split_into_folds


def build_noise(model_class, rows, seed):
    """Return random columns, and a target that does not depend on them."""
    rng = np.random.default_rng([seed, rows])
    X = rng.standard_normal((rows, 4))
    return X, rng.permutation(np.arange(rows) % 2) if model_class is TableClassifier else rng.standard_normal(rows)


@pytest.fixture(scope="module")
def noise_models():
    """Return models trained on noise, ten for each model class and number of rows."""
    return {
        (model_class, rows): [
            model_class("fast", random_state=seed).fit(*build_noise(model_class, rows, seed)) for seed in range(10)
        ]
        for model_class in (TableClassifier, TableRegressor)
        for rows in (150, 400)
    }


def test_reported_score_on_noise_equals_score_on_new_rows(noise_models):
    accuracies = [m.held_out_.score for rows in (150, 400) for m in noise_models[TableClassifier, rows]]
    # The true score is 0.5; on the rows that select the epoch, the mean score would exceed 0.6.
    assert abs(np.mean(accuracies) - 0.5) < 0.06
    differences = [
        model.held_out_.score - model.score(*build_noise(TableRegressor, 2000, 99))
        for rows in (150, 400)
        for model in noise_models[TableRegressor, rows]
    ]
    assert abs(np.mean(differences)) < 0.07


@pytest.fixture(scope="module")
def rare_class_model():
    """Return a classifier of 1,000 rows of noise, of which 5 have the class "yes"."""
    rng = np.random.default_rng(0)
    labels = np.where(rng.permutation(1000) < 5, "yes", "no")
    return TableClassifier("fast", members=2, random_state=0).fit(rng.standard_normal((1000, 3)), labels)


def test_report_compares_accuracy_with_constant_prediction(rare_class_model):
    held_out = rare_class_model.held_out_
    scores, confusion = held_out.class_scores, rare_class_model.report().outcomes.confusion
    assert scores.constant_accuracy == confusion.sum(axis=1).max() / held_out.n
    assert scores.balanced_accuracy == pytest.approx(np.mean(np.diag(confusion) / confusion.sum(axis=1)))
    assert scores.rarest_rows == confusion.sum(axis=1).min() < 5
    text = str(rare_class_model.report())
    assert re.search(r"accuracy 0\.99\d*, balanced accuracy 0\.5\d*, AUC [01][.0-9]*, calibration error", text)
    assert "for always predicting the most frequent class; the model is not more accurate; the rarest class has" in text


def test_constant_accuracy_has_the_weights_of_the_score():
    P, true = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]), np.array([0, 0, 1])
    assert ClassScores.compute(P, true) == (2 / 3, 1.0, 1.0, 1)
    assert ClassScores.compute(P, true, np.array([1.0, 1.0, 4.0])).constant_accuracy == pytest.approx(2 / 3)


def test_scores_that_rows_of_one_class_do_not_define_are_omitted():
    scores = ClassScores.compute(np.array([[0.9, 0.1], [0.8, 0.2]]), np.zeros(2, int))
    assert np.isnan([scores.balanced_accuracy, scores.auc]).all()
    text, baseline = scores.describe(1.0)
    assert text == "accuracy 1"
    assert baseline.endswith("none of these rows has the rarest class, so the scores do not apply to it")


def test_file_contains_class_scores(rare_class_model, tmp_path):
    rare_class_model.save(tmp_path / "model.json")
    model = nnc.load(tmp_path / "model.json")
    assert model.held_out_.class_scores == rare_class_model.held_out_.class_scores
    one_class = ClassScores(1.0, np.nan, np.nan, 0)
    model.model_.held_out = model.held_out_._replace(class_scores=one_class)
    model.save(tmp_path / "one_class.json")
    np.testing.assert_equal(nnc.load(tmp_path / "one_class.json").held_out_.class_scores, one_class)
    content = json.loads((tmp_path / "model.json").read_text(encoding="utf-8"))
    del content["sha256"], content["table"]["held_out"]["class_scores"]
    (tmp_path / "former.json").write_text(json.dumps(content), encoding="utf-8")
    former = nnc.load(tmp_path / "former.json")
    assert former.held_out_.class_scores is None
    assert "held-out rows" in str(former.report())


def test_report_states_that_score_assumes_independent_rows(rare_class_model, noise_models):
    for model in (rare_class_model, noise_models[TableRegressor, 150][0]):
        report = model.report()
        assert "score assumes   independent rows; it may be too high for new groups" in str(report)
        assert "The score assumes that rows are independent" in report._repr_html_()


def test_expected_gain_equals_value_computed_by_hand():
    # Two rows, each with the predictions of two networks.
    P = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.6, 0.4]])
    mean = np.array([[0.55, 0.45], [0.65, 0.35]])
    # Row 0: the mean prediction and one network choose class 0, the other network chooses class 1; the mean
    # probabilities are 0.55 and 0.45. Row 1: all choose class 0, so the expected gain of this row is 0.
    arguments = P, np.array([0, 1, 0, 1]), mean, np.array([2, 2])
    assert expected_gain(*arguments, None) == pytest.approx((0.05 / 2) / (1 / 2))
    assert expected_gain(*arguments, np.array([1.0, 3.0])) == pytest.approx((0.05 / 4) / (1 / 2))
    assert expected_gain(P[:2], np.arange(2), P[:2], np.ones(2, int), None) == 0


@pytest.mark.parametrize(("signal", "spread"), [(0.0, 0.3), (1.0, 1.0), (2.0, 1.5)])
def test_expected_gain_does_not_exceed_true_gain(signal, spread):
    """Labels are drawn from class probabilities, which 12 simulated networks predict with independent errors."""
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


def test_importance_of_noise_is_within_two_standard_errors(noise_models):
    for model_class in (TableClassifier, TableRegressor):
        models = [model for rows in (150, 400) for model in noise_models[model_class, rows]]
        importances, errors = (
            np.array([getattr(model, name) for model in models])
            for name in ("feature_importances_", "feature_importances_std_")
        )
        assert (errors > 0).any()
        assert np.mean(np.abs(importances) <= 2 * errors) > 0.85


@pytest.mark.parametrize("name", ["breast_cancer", "diabetes"])
def test_reported_score_on_real_tables_equals_score_on_new_rows(name):
    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    model_class = TableRegressor if name == "diabetes" else TableClassifier
    differences = []
    for seed in range(6):
        X_train, X_new, y_train, y_new = train_test_split(X, y, test_size=0.5, random_state=seed)
        model = model_class("fast", random_state=seed).fit(X_train, y_train)
        differences.append(model.held_out_.score - model.score(X_new, y_new))
    assert abs(np.mean(differences)) < 0.015 + 3 * np.std(differences) / np.sqrt(6)


def test_reported_calibration_error_is_not_too_low():
    """For models of noise, the reported calibration error is at most 0.03 below the error on new rows."""
    reported, measured = [], []
    for seed in range(12):
        X, y = build_noise(TableClassifier, 200, seed)
        model = TableClassifier("fast", random_state=seed).fit(X, y)
        # The error depends on the number of rows, so the number of new rows is that of held-out rows.
        X, y = build_noise(TableClassifier, 120, seed + 1000)
        reported.append(model.held_out_.calibration_error)
        measured.append(expected_calibration_error(model.predict_proba(X), y))
    assert np.mean(reported) > np.mean(measured) - 0.03


@pytest.mark.parametrize("kind", ["classes", "numbers"])
def test_predictions_of_part_do_not_depend_on_its_labels(kind, set_limit):
    """Other labels for one part of the held-out rows do not change the predictions of this part."""
    # The rule that stops a training early depends on the labels of all held-out rows, so it is disabled.
    set_limit("nnc.tabular.training.MAX_BEST_EPOCH_FRACTION", -1)
    from nnc._tables.frames import read_table
    from nnc._tables.schema import Schema
    from nnc.tabular.model import TableModel
    from nnc.tabular.target import Target

    rng = np.random.default_rng(0)
    X = rng.standard_normal((120, 3)).astype(np.float32)
    classes = kind == "classes"
    task = Task(CROSS_ENTROPY, 2) if classes else Task("squared_error", 1)
    y = (X[:, 0] > 0).astype(np.int32) if classes else X[:, :1].astype(np.float64)

    def predict_with_targets(targets):
        rows = Rows({PLAIN: X}, targets, None)
        training = Training(task, rows, folds, 0, 1)
        training.scaling, training.y = scaling, targets if scaling is None else scaling.apply(targets, np.float32)
        members = training.run(1)
        schema = Schema.learn(read_table(X))
        target = Target(1, np.arange(2) if classes else None)
        bounds = None if classes else np.array([[-9.0], [9.0]])
        model = TableModel(task, schema, target, members, scaling, bounds, X.mean(axis=0), {"seed": 0})
        return predict_held_out(model, rows, training.held_out_networks())[0]

    # Changed targets have the same folds and scaling.
    folds, scaling = split_into_folds(y, 0), fit_target_scaling(task, y)
    held_out_rows = np.flatnonzero(folds.holds_out(0))
    parts = folds.part[held_out_rows]
    expected = predict_with_targets(y)
    assert np.array_equal(expected.rows, held_out_rows)
    has_changed = False
    for j in range(N_PARTS):
        changed_y = y.copy()
        changed_y[held_out_rows[parts == j]] = (
            1 - changed_y[held_out_rows[parts == j]] if classes else -3 * changed_y[held_out_rows[parts == j]]
        )
        predictions = predict_with_targets(changed_y)
        compared = [values.argmax(axis=1) if classes else values for values in (predictions.values, expected.values)]
        # Classes are compared, because the temperature depends on the labels of all parts.
        assert np.array_equal(compared[0][parts == j], compared[1][parts == j])
        has_changed |= not np.array_equal(predictions.values, expected.values)
    # The labels of a part may select another epoch, which changes predictions of the other parts.
    assert has_changed


def test_report_and_file_contain_standard_errors_of_importances(tmp_path):
    X, y = datasets.load_diabetes(return_X_y=True, as_frame=True)
    model = TableRegressor("fast", random_state=0).fit(X[:200], y[:200])
    errors = model.feature_importances_std_
    assert errors.shape == (10,)
    assert f"{model.feature_importances_.max():.4f} +- " in str(model.report())
    model.save(tmp_path / "model.json")
    assert np.array_equal(nnc.load(tmp_path / "model.json").feature_importances_std_, errors)
    document = json.loads((tmp_path / "model.json").read_text(encoding="utf-8"))
    # The file has one network per member and no snapshots of earlier epochs.
    assert len(document["networks"]) == len(model.networks_)
