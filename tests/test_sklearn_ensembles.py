"""Tests of the ensemble estimators: scikit-learn's checks, scores, conformal prediction and options."""

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.utils.estimator_checks import parametrize_with_checks

import nnc
from nnc.sklearn import EnsembleClassifier, EnsembleRegressor

SMALL = {"hidden_layer_sizes": (8,), "n_estimators": 3, "learning_rate_init": 0.02, "max_iter": 60, "random_state": 0}
WEIGHTS = "bootstrap samples and batches have a fixed number of rows, whatever their weights"

pytestmark = pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")


@parametrize_with_checks(
    [EnsembleClassifier(**SMALL), EnsembleRegressor(**SMALL)],
    expected_failed_checks=lambda estimator: {"check_sample_weight_equivalence_on_dense_data": WEIGHTS},
)
def test_estimator_passes_scikit_learn_check(estimator, check):
    check(estimator)


def test_classifier_scores_and_conformal_sets_cover():
    X, y = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    model = EnsembleClassifier(**SMALL).fit(X[::2], names[::2])
    assert model.score(X[1::2], names[1::2]) > 0.9
    assert isinstance(model.ensemble_, nnc.Ensemble)
    assert [type(net) for net in model.estimators_] == [nnc.NeuralNetwork] * 3
    assert np.allclose(model.predict_proba(X), model.ensemble_.predict_proba(X))
    conformal_model = model.conformal(X[1::4], names[1::4], 0.8)
    truth = y[3::4]
    assert conformal_model.predict_set(X[3::4])[np.arange(len(truth)), truth].mean() > 0.65
    with pytest.raises(ValueError, match=r"y must contain only classes of y in fit, \['setosa', .*\], got 'rose'"):
        model.conformal(X[:2], ["setosa", "rose"])


def test_regressor_scores_and_conformal_intervals_cover():
    X, y = load_diabetes(return_X_y=True)
    model = EnsembleRegressor(**SMALL).fit(X[::2], y[::2])
    assert model.score(X[1::2], y[1::2]) > 0.3
    low, high = model.predict_interval(X)
    assert low.shape == high.shape == model.predict(X).shape == (442,)
    low, high = model.conformal(X[1::4], y[1::4], 0.8).predict_interval(X[3::4])
    assert 0.65 < np.mean((low[:, 0] <= y[3::4]) & (y[3::4] <= high[:, 0])) < 0.95


@pytest.mark.parametrize("bootstrap", [True, False])
@pytest.mark.parametrize("max_samples", [40, 0.5])
def test_result_does_not_depend_on_n_jobs(bootstrap, max_samples):
    X, y = load_diabetes(return_X_y=True)
    options = {**SMALL, "bootstrap": bootstrap, "max_samples": max_samples, "max_iter": 3}
    one = EnsembleRegressor(**options, n_jobs=1).fit(X, y)
    other = clone(one).set_params(n_jobs=2).fit(X, y)
    assert one.predict(X).tobytes() == other.predict(X).tobytes()
    assert len({network.params.tobytes() for network in one.estimators_}) == 3


@pytest.mark.parametrize("solver", ["sgd", nnc.Adam(0.01), "lbfgs", nnc.LBFGS()])
def test_solvers_support_early_stopping(solver):
    X, y = load_diabetes(return_X_y=True)
    model = EnsembleRegressor(**{**SMALL, "solver": solver}, early_stopping=True, n_iter_no_change=2).fit(X, y)
    assert model.history_.val_loss is not None
    assert model.score(X, y) > 0.2


def test_max_samples_must_not_exceed_rows():
    X, y = load_diabetes(return_X_y=True)
    with pytest.raises(ValueError, match="max_samples must be at most the number of rows, 442, got 500"):
        EnsembleRegressor(max_samples=500).fit(X, y)
