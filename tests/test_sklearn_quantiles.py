"""Tests of MLPRegressor with several quantiles.

`predict` returns the quantile closest to the median, and `predict_quantiles` returns all quantiles.
"""

import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn")

from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score

import nnc
from nnc.sklearn import MLPRegressor

RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 2))
Y = X[:, 0] + (0.2 + np.abs(X[:, 1])) * RNG.normal(size=400)
TAUS = [0.1, 0.5, 0.9]

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def build_estimator(taus=TAUS, **arguments):
    options = {"hidden_layer_sizes": (10,), "random_state": 0, "max_iter": 60, "learning_rate_init": 0.02, **arguments}
    return MLPRegressor(nnc.Quantile(taus), **options)


@pytest.fixture(scope="module")
def fitted():
    return build_estimator().fit(X, Y)


def test_quantiles_cover_their_fractions_and_do_not_cross(fitted):
    quantiles = fitted.predict_quantiles(X)
    assert quantiles.shape == (400, 3)
    assert (np.diff(quantiles, axis=1) >= 0).all()
    assert (Y[:, None] < quantiles).mean(axis=0) == pytest.approx(TAUS, abs=0.06)


def test_predict_returns_median_and_score_is_its_r2(fitted):
    assert fitted.predict(X).shape == (400,)
    assert np.array_equal(fitted.predict(X), fitted.predict_quantiles(X)[:, 1])
    assert 0 < fitted.score(X, Y) < 1
    assert (cross_val_score(clone(fitted), X, Y, cv=3) > 0).all()
    uneven = build_estimator([0.6, 0.9], max_iter=2).fit(X, Y)
    assert np.array_equal(uneven.predict(X), uneven.predict_quantiles(X)[:, 0])


def test_quantiles_of_several_targets_have_documented_shapes():
    model = build_estimator(max_iter=5).fit(X, np.c_[Y, 2 * Y])
    assert model.n_outputs_ == 6
    assert model.predict(X).shape == (400, 2)
    assert model.predict_quantiles(X).shape == (400, 3, 2)
    assert np.array_equal(model.predict(X), model.predict_quantiles(X)[:, 1])


def test_sgd_step_follows_gradient_of_loss():
    model = build_estimator(solver="sgd", momentum=0.0, alpha=0.0, batch_size=400).partial_fit(X, Y)
    net = model.network_.copy()
    before, (dW, _) = model.coefs_[0].copy(), net.gradients(X, Y)[0]
    model.partial_fit(X, Y)
    assert model.coefs_[0] == pytest.approx(before - 0.02 * dW, rel=1e-9, abs=1e-12)
    assert model.loss_ == pytest.approx(net.evaluate_loss(X, Y), rel=1e-9)


@pytest.mark.parametrize("arguments", [{"early_stopping": True}, {"solver": "lbfgs"}, {"dropout": 0.1}])
def test_early_stopping_lbfgs_and_dropout_train(arguments):
    model = build_estimator(**arguments).fit(X, Y)
    assert model.score(X, Y) > 0
    if "early_stopping" in arguments:
        assert -1 < model.best_validation_score_ < 1


def test_validation_rows_and_sparse_inputs_are_supported():
    model = build_estimator(max_iter=3).fit(csr_matrix(X), Y, X_val=X[:50], y_val=Y[:50])
    assert len(model.validation_loss_curve_) == 3
    assert model.validation_loss_curve_[-1] == pytest.approx(model.network_.evaluate_loss(X[:50], Y[:50]), rel=1e-6)


def test_pickled_and_converted_models_predict_same_quantiles(fitted, tmp_path):
    unpickled = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(unpickled.predict_quantiles(X), fitted.predict_quantiles(X))
    assert np.array_equal(nnc.from_sklearn(fitted).predict(X), fitted.predict_quantiles(X))
    fitted.network_.to_python(tmp_path / "net.py")


def test_warm_start_with_other_levels_changes_loss():
    model = build_estimator(max_iter=3, warm_start=True).fit(X, Y)
    model.set_params(loss=nnc.Quantile([0.2, 0.5, 0.8])).fit(X, Y)
    assert model.network_.heads.heads[0].loss == nnc.Quantile(0.2)


def test_unsupported_uses_of_quantiles_raise_error():
    with pytest.raises(ValueError, match="sample_weight is not supported with several quantiles"):
        build_estimator().fit(X, Y, np.ones(400))
    with pytest.raises(NotFittedError):
        build_estimator().predict_quantiles(X)
    with pytest.raises(ValueError, match="loss must have several quantiles for predict_quantiles"):
        MLPRegressor("quantile", (3,), max_iter=1).fit(X, Y).predict_quantiles(X)
