"""Comparison of nnc.sklearn with scikit-learn's MLP, and tests of options that scikit-learn does not have."""

import copy
import inspect
import io
import json
import os
import pickle
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn")

import joblib
import scipy.sparse
import sklearn.neural_network as sklearn_mlp
from sklearn.base import clone
from sklearn.datasets import (
    load_digits,
    make_classification,
    make_multilabel_classification,
    make_regression,
)
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from threadpoolctl import threadpool_limits

import nnc
import nnc.sklearn as nnc_mlp
from nnc import NeuralNetwork
from nnc._training.first_order import FirstOrder
from nnc._training.loop import TrainingLoop
from nnc.layers import BatchNorm, Dense, Scale
from nnc.sklearn import MLPClassifier, MLPRegressor
from nnc.sklearn.regressor import REGRESSION_LOSSES
from nnc.sklearn.runs import RowOrders

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

ESTIMATORS = ("MLPClassifier", "MLPRegressor")
SMALL = {"hidden_layer_sizes": (12, 7), "max_iter": 20, "batch_size": 50, "random_state": 3}


def labels(n, rows=230):
    return make_classification(rows, 12, n_informative=8, n_classes=n, random_state=0)


def numbers(n_out=1, rows=230):
    X, y = make_regression(rows, 12, n_targets=n_out, random_state=0)
    return X, y / 100


def digits(rows=600):
    X, y = load_digits(return_X_y=True)
    return X[:rows] / 16, y[:rows]


def multilabel():
    X, y = make_multilabel_classification(230, random_state=0)
    return X / 10, y


def counts(n_out=1):
    X, _ = numbers()
    y = np.random.default_rng(0).poisson(2.0, (len(X), n_out)).astype(float)
    return X, y[:, 0] if n_out == 1 else y


PROBLEMS = {
    "2 classes": ("MLPClassifier", *labels(2)),
    "3 classes": ("MLPClassifier", *labels(3)),
    "10 classes": ("MLPClassifier", *digits()),
    "multi-label": ("MLPClassifier", *multilabel()),
    "regression": ("MLPRegressor", *numbers()),
    "multi-output": ("MLPRegressor", *numbers(3)),
}
SOLVERS = {
    "sgd": {"solver": "sgd", "momentum": 0, "learning_rate_init": 0.01},
    "momentum": {"solver": "sgd", "nesterovs_momentum": False, "learning_rate_init": 0.01},
    "nesterov": {"solver": "sgd", "learning_rate_init": 0.01},
    "adam": {"solver": "adam"},
}


def fit_pair(kind, X, y, sample_weight=None, **parameters):
    """Return scikit-learn's and nnc's estimator, fitted with the same arguments."""
    return [getattr(module, kind)(**parameters).fit(X, y, sample_weight) for module in (sklearn_mlp, nnc_mlp)]


def assert_same(a, b, tolerance=1e-8):
    for u, v in zip([*a.coefs_, *a.intercepts_], [*b.coefs_, *b.intercepts_], strict=True):
        assert u.shape == v.shape
        assert u.dtype == v.dtype
        np.testing.assert_allclose(v, u, rtol=0, atol=tolerance * abs(u).max())
    assert (a.n_iter_, a.t_, a.n_layers_, a.n_outputs_, a.out_activation_) == (
        b.n_iter_,
        b.t_,
        b.n_layers_,
        b.n_outputs_,
        b.out_activation_,
    )
    assert b.loss_ == pytest.approx(a.loss_, rel=tolerance)
    if hasattr(a, "loss_curve_"):
        np.testing.assert_allclose(b.loss_curve_, a.loss_curve_, rtol=tolerance)
        assert b.best_loss_ == (None if a.best_loss_ is None else pytest.approx(a.best_loss_, rel=tolerance))
        assert (a.validation_scores_ is None) == (b.validation_scores_ is None)
        if a.validation_scores_ is not None:
            np.testing.assert_allclose(b.validation_scores_, a.validation_scores_, rtol=tolerance, atol=1e-12)
            assert b.best_validation_score_ == pytest.approx(a.best_validation_score_, rel=tolerance)


# ------------------------------------------------------------------------------------------ scikit-learn's own checks

CONFIGURATIONS = [
    MLPClassifier(),
    MLPClassifier(solver="lbfgs", hidden_layer_sizes=(30,), activation=["gelu"]),
    MLPClassifier(loss="hinge", solver=nnc.RMSprop(3e-3), hidden_layer_sizes=(50, 20), activation=["tanh", "silu"]),
    MLPClassifier(solver="nadam", loss=nnc.CrossEntropy(0.05), activation="leaky_relu", n_threads=2),
    MLPRegressor(),
    MLPRegressor(solver="lbfgs", hidden_layer_sizes=(20,)),
    MLPRegressor(loss="huber", solver="adamw", activation=["silu"], learning_rate=nnc.CosineLR(0.01)),
    MLPRegressor(solver="sgd", learning_rate="adaptive", max_seconds=60, n_threads=1),
]


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(CONFIGURATIONS)
def test_estimator_passes_scikit_learn_check(estimator, check):
    check(estimator)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_parameters_and_defaults_match_scikit_learn(kind):
    a, b = (inspect.signature(getattr(module, kind).__init__).parameters for module in (sklearn_mlp, nnc_mlp))
    assert list(b)[: len(a)] == list(a)
    assert all(b[name].default == a[name].default and b[name].kind == a[name].kind for name in a)
    assert getattr(sklearn_mlp, kind)().get_params().items() <= getattr(nnc_mlp, kind)().get_params().items()
    public = {name for name in dir(getattr(sklearn_mlp, kind)()) if not name.startswith("_")}
    assert public <= set(dir(getattr(nnc_mlp, kind)()))


# ------------------------------------------------------------------------------------------ the same weights


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_weights_equal_those_of_scikit_learn_after_20_epochs(problem, solver):
    kind, X, y = PROBLEMS[problem]
    a, b = fit_pair(kind, X, y, **SMALL, **SOLVERS[solver])
    assert_same(a, b)
    np.testing.assert_allclose(b.predict(X), a.predict(X), rtol=1e-8, atol=1e-12)
    if kind == "MLPClassifier":
        np.testing.assert_allclose(b.predict_proba(X), a.predict_proba(X), rtol=1e-8)
        np.testing.assert_allclose(b.predict_log_proba(X), a.predict_log_proba(X), rtol=1e-7, atol=1e-12)
    assert b.score(X, y) == pytest.approx(a.score(X, y), rel=1e-10)


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_weights_equal_those_of_scikit_learn_with_each_activation(problem, activation):
    kind, X, y = PROBLEMS[problem]
    assert_same(*fit_pair(kind, X, y, **SMALL, activation=activation, alpha=0.01))


@pytest.mark.parametrize("problem", PROBLEMS)
def test_weights_equal_those_of_scikit_learn_with_lbfgs(problem):
    kind, X, y = PROBLEMS[problem]
    assert_same(*fit_pair(kind, X, y, **SMALL, solver="lbfgs"), tolerance=1e-7)


@pytest.mark.parametrize(
    "parameters",
    [
        {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.5},
        {"solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 0.1, "tol": 0.1, "n_iter_no_change": 2},
        {"solver": "sgd", "momentum": 1.0, "learning_rate_init": 1e-4},
        {"early_stopping": True, "validation_fraction": 0.2},
        {"early_stopping": True, "tol": 0.01, "n_iter_no_change": 3},
        {"shuffle": False},
        {"batch_size": 1, "max_iter": 2},
        {"batch_size": "auto"},
        {"epsilon": 0.1, "beta_1": 0.5, "beta_2": 0.9},
        {"tol": 1.0, "n_iter_no_change": 2},
    ],
)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("problem", ["3 classes", "multi-label", "multi-output"])
def test_weights_equal_those_of_scikit_learn_with_options(problem, weighted, parameters):
    kind, X, y = PROBLEMS[problem]
    weights = np.random.default_rng(1).uniform(0.1, 3, len(X)) if weighted else None
    assert_same(*fit_pair(kind, X, y, weights, **{**SMALL, **parameters}))


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize(("n_out", "weighted"), [(1, False), (3, False), (3, True)])
def test_weights_equal_those_of_scikit_learn_with_poisson(n_out, weighted, solver):
    X, y = counts(n_out)
    weights = np.random.default_rng(1).uniform(0.1, 3, len(X)) if weighted else None
    a, b = fit_pair("MLPRegressor", X, y, weights, loss="poisson", solver=solver, **SMALL)
    assert_same(a, b, tolerance=1e-7)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_weights_equal_those_of_scikit_learn_in_float32(kind):
    X, y = labels(2) if kind == "MLPClassifier" else numbers()
    X, y = X.astype(np.float32), y.astype(np.int32 if kind == "MLPClassifier" else np.float32)
    a, b = fit_pair(kind, X, y, **SMALL)
    assert b.network_.dtype == np.float32
    assert_same(a, b, tolerance=1e-3)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_weights_equal_those_of_scikit_learn_after_partial_fit_and_warm_start(kind):
    X, y = labels(3) if kind == "MLPClassifier" else numbers()
    pairs = [getattr(module, kind)(**{**SMALL, "solver": "sgd"}) for module in (sklearn_mlp, nnc_mlp)]
    for model in pairs:
        for start in range(0, 200, 50):
            rows = slice(start, start + 50)
            model.partial_fit(X[rows], y[rows], **({"classes": [0, 1, 2]} if kind == "MLPClassifier" else {}))
    assert_same(*pairs)
    pairs = [getattr(module, kind)(**SMALL, warm_start=True, early_stopping=True) for module in (sklearn_mlp, nnc_mlp)]
    for model in pairs:
        model.fit(X, y).fit(X, y)
    assert_same(*pairs)


def test_same_random_numbers_are_drawn():
    X, y = labels(2)
    states = np.random.RandomState(5), np.random.RandomState(5)
    for module, state in zip((sklearn_mlp, nnc_mlp), states, strict=True):
        module.MLPClassifier(**{**SMALL, "random_state": state}, early_stopping=True).fit(X, y)
        module.MLPClassifier(**{**SMALL, "random_state": state, "batch_size": "auto"}).fit(X, y)
    assert states[0].randint(2**31) == states[1].randint(2**31)


@pytest.mark.parametrize("batch", [50, 230], ids=["batches", "all rows"])
@pytest.mark.parametrize("rate", ["constant", "adaptive", "invscaling"])
@pytest.mark.parametrize("patience", [1, 4, np.inf])
@pytest.mark.parametrize("seed", [lambda: 5, lambda: np.random.RandomState(5)], ids=["seed", "state"])
def test_fit_ends_after_same_epoch(seed, patience, rate, batch):
    """Both estimators stop after the same epoch and draw the same random numbers, also within one call of the core."""
    fitted = []
    for module in (sklearn_mlp, nnc_mlp):
        parameters = {**SMALL, "max_iter": 60, "batch_size": batch, "n_iter_no_change": patience}
        parameters |= {"random_state": seed(), "learning_rate": rate, "learning_rate_init": 0.05, "tol": 0.02}
        fitted.append(module.MLPClassifier(**parameters, solver="sgd").fit(*labels(2)))
    assert_same(*fitted)
    assert (fitted[1].n_iter_ < 60) == (patience < 60)
    assert fitted[0]._random_state.randint(2**31) == fitted[1]._random_state.randint(2**31)


@pytest.mark.parametrize("random_state", [None, np.random.RandomState(5)], ids=["none", "state"])
def test_random_state_is_not_locked_during_training(random_state, monkeypatch):
    """Another thread can draw from the random generator while the core trains."""
    free = []
    go_on = FirstOrder.run_slice

    def drawing(minimizer, rows_left):
        thread = threading.Thread(target=minimizer.source.draw.random.rand, daemon=True)
        minimizer.training, training = Waiting(minimizer.training, thread), minimizer.training
        try:
            go_on(minimizer, rows_left)
        finally:
            minimizer.training = training

    class Waiting:
        """Wrapper of the core's training that starts a thread before each call and waits for its draw."""

        def __init__(self, training, thread):
            self.training, self.thread = training, thread

        def __getattr__(self, name):
            return getattr(self.training, name)

        def resume(self, *arguments):
            self.thread.start()
            self.thread.join(10)
            free.append(not self.thread.is_alive())
            self.training.resume(*arguments)

    # The method is patched to start another thread that draws random numbers while the core trains.
    monkeypatch.setattr(FirstOrder, "run_slice", drawing)
    MLPClassifier(**{**SMALL, "random_state": random_state, "max_iter": 3}).fit(*labels(2))
    assert free == [True] * len(free)
    assert len(free) >= 3


@pytest.mark.parametrize("batch", [50, 230])
def test_epochs_that_no_rule_can_end_run_in_one_call(monkeypatch, batch):
    """Python regains control only after epochs in which a rule can end the fit, or for a callback."""
    checks = []
    check_epoch = TrainingLoop.check_epoch
    # The number of epochs in a call of the core is visible in no result, and a callback would change it.
    monkeypatch.setattr(TrainingLoop, "check_epoch", lambda run: (checks.append(run.epoch), check_epoch(run))[1])
    parameters = {**SMALL, "batch_size": batch, "tol": 0}
    MLPClassifier(**parameters, n_iter_no_change=20).fit(*labels(2))
    assert checks == [20]
    checks.clear()
    MLPClassifier(**{**parameters, "tol": 1e9}, n_iter_no_change=4).fit(*labels(2))
    assert checks == [5, 6]  # with this tol, only the first epoch is an improvement; the next five are not
    checks.clear()
    MLPClassifier(**parameters, n_iter_no_change=20, callback=lambda record: None).fit(*labels(2))
    assert checks == [*range(1, 21)]


@pytest.mark.parametrize("bits", [np.random.MT19937, np.random.PCG64])
def test_row_orders_match_numpy(bits):
    core = NeuralNetwork([1, 1]).model.core
    for n in (1, 2, 3, 64, 65, 1797, 70_000):
        expected, random = np.random.RandomState(bits(3)), np.random.RandomState(bits(3))
        orders, order = RowOrders(n, random, core), np.arange(n)
        assert orders.bits is not None  # `bits` shows that the compiled core draws the permutations
        for _ in range(3):
            order = order[expected.permutation(n)]
            np.testing.assert_array_equal(orders(), order)
        assert expected.randint(2**31) == random.randint(2**31)


def test_permutation_of_random_state_subclass_is_used():
    class Reversing(np.random.RandomState):
        def permutation(self, x):
            return np.arange(x)[::-1]

    orders = RowOrders(3, Reversing(0), NeuralNetwork([1, 1]).model.core)
    assert [*orders()] == [2, 1, 0]
    assert [*orders()] == [0, 1, 2]


@pytest.mark.parametrize("form", ["csr_matrix", "csc_matrix", "csr_array"])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("convert_at_once", [True, False])
def test_weights_equal_those_of_scikit_learn_with_sparse_input(set_limit, convert_at_once, solver, form):
    if not convert_at_once:  # convert each batch separately, as for large matrices
        set_limit("nnc.sklearn.estimator.MAX_DENSE_BYTES", 0)
        set_limit("nnc.sklearn.solvers.BLOCK_BYTES", 1000)
    X, y = digits(230)
    sparse = getattr(scipy.sparse, form)(X)
    weights = np.random.default_rng(0).uniform(0.1, 2, len(X))
    a = sklearn_mlp.MLPClassifier(**SMALL, solver=solver, early_stopping=True).fit(sparse, y, weights)
    b = MLPClassifier(**SMALL, solver=solver, early_stopping=True).fit(sparse, y, weights)
    assert_same(a, b, 1e-7)
    np.testing.assert_allclose(b.predict_proba(sparse), a.predict_proba(sparse), rtol=1e-6)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("rate", [1, 1e100, 1e307])
def test_divergence_is_handled_as_in_scikit_learn(set_limit, sparse, rate):
    """Training continues with NaN; it raises an error unless the weights of the best epoch are restored."""
    set_limit("nnc.sklearn.estimator.MAX_DENSE_BYTES", 0)
    X, y = numbers()
    X = scipy.sparse.csr_array(X) if sparse else X
    parameters = {**SMALL, "solver": "sgd", "activation": "identity", "learning_rate_init": rate}
    a, b = fit_pair("MLPRegressor", X, 1e3 * y, **parameters, early_stopping=True, n_iter_no_change=8)
    assert b.n_iter_ == a.n_iter_
    np.testing.assert_array_equal(np.isnan(b.validation_scores_), np.isnan(a.validation_scores_))
    assert np.isfinite(b.predict(X)).all()
    for module in (sklearn_mlp, nnc_mlp):
        with pytest.raises(ValueError, match="Solver produced non-finite parameter weights"):
            module.MLPRegressor(**parameters).fit(X, 1e3 * y)


def test_same_weights_with_sparse_counts_and_row_weights(set_limit):
    set_limit("nnc.sklearn.estimator.MAX_DENSE_BYTES", 0)
    X, y = counts(2)
    weights = np.random.default_rng(0).uniform(0.1, 2, len(X))
    parameters = {**SMALL, "loss": "poisson", "shuffle": False}
    assert_same(*fit_pair("MLPRegressor", scipy.sparse.csr_array(X), y, weights, **parameters))


def test_sparse_batches_reject_schedule_of_steps(set_limit):
    set_limit("nnc.sklearn.estimator.MAX_DENSE_BYTES", 0)
    X, y = numbers()
    with pytest.raises(ValueError, match="a sparse X requires a schedule that counts epochs"):
        MLPRegressor(**SMALL, learning_rate=nnc.PerStep(nnc.CosineLR(0.1))).fit(scipy.sparse.csr_array(X), y)


def test_labels_of_all_types_give_same_predictions():
    X, y = labels(3)
    for names in (np.array(["a", "b", "c"]), np.array(["a", "b", "c"], object), np.array([-1, 5, 7])):
        a, b = fit_pair("MLPClassifier", X, names[y], **SMALL)
        assert (a.classes_ == b.classes_).all()
        assert (a.predict(X) == b.predict(X)).all()
        assert (b.network_.predict_classes(X) == b.predict(X)).all()


def test_convergence_warnings_match_scikit_learn(capsys):
    X, y = labels(2)
    with pytest.warns(ConvergenceWarning, match="Maximum iterations") as caught:
        MLPClassifier(max_iter=2, verbose=True).fit(100 * X, y)
    assert {warning.category for warning in caught} == {ConvergenceWarning}
    assert capsys.readouterr().out.startswith("Iteration 1, loss = ")
    with pytest.warns(ConvergenceWarning, match="lbfgs"):
        MLPClassifier(max_iter=2, solver="lbfgs").fit(X, y)


# ------------------------------------------------------------------------------------------ beyond scikit-learn


@pytest.mark.parametrize("activation", ["sigmoid", "leaky_relu", "softplus", "elu", "gelu", "silu", ["tanh", "relu"]])
def test_additional_activations_train(activation):
    X, y = labels(3)
    model = MLPClassifier(**{**SMALL, "max_iter": 100}, activation=activation).fit(X, y)
    expected = [activation] * 2 if isinstance(activation, str) else activation
    assert model.network_.activations == (*expected, "softmax")
    assert model.score(X, y) > 0.65
    if activation == "sigmoid":
        assert_same(MLPClassifier(**{**SMALL, "max_iter": 100}, activation="logistic").fit(X, y), model)


@pytest.mark.parametrize("solver", [s for s in nnc_mlp.SOLVERS if s not in ("lbfgs", "levenberg_marquardt")])
def test_additional_solvers_train(solver):
    X, y = numbers()
    batch = 230 if solver == "rprop" else 50
    model = MLPRegressor(**{**SMALL, "batch_size": batch, "max_iter": 200}, solver=solver, learning_rate_init=0.01)
    assert model.fit(X, y).score(X, y) > 0.9
    before = model.loss_
    assert model.partial_fit(X, y).loss_ < 1.5 * before


def test_levenberg_marquardt_fits_and_requires_squared_loss():
    X, y = numbers(2)
    val = X[:20], y[:20]
    model = MLPRegressor("squared_error", (6,), "tanh", solver="levenberg_marquardt", random_state=0, max_iter=60)
    model.fit(X, y, X_val=val[0], y_val=val[1])
    assert model.score(X, y) > 0.999
    assert model.n_iter_ == len(model.loss_curve_) == len(model.validation_loss_curve_)
    assert model.loss_curve_[0] > 100 * model.loss_curve_[-1]
    with pytest.raises(ValueError, match="squared"):
        MLPRegressor("mae", solver="levenberg_marquardt").fit(X, y)


def test_optimizer_objects_and_schedules_are_accepted():
    X, y = numbers()
    rates = []
    model = MLPRegressor(
        **SMALL,
        solver=nnc.SGD(0.1, momentum=0.5),
        learning_rate=nnc.StepLR(0.02, 5),
        callback=lambda r: rates.append(r.lr),
    ).fit(X, y)
    assert rates[:6] == pytest.approx([0.02] * 5 + [0.002])
    assert model.network_.state.optimizer == nnc.SGD(0.1, momentum=0.5)
    plateau = nnc.ReduceLROnPlateau(0.5, factor=0.5, patience=0)
    MLPRegressor(**SMALL, learning_rate=plateau, callback=lambda r: rates.append(r.lr)).fit(X, y)
    assert min(rates[20:]) < 0.5


@pytest.mark.parametrize("loss", [*REGRESSION_LOSSES, nnc.Huber(0.5), nnc.Quantile(0.9)])
def test_regression_losses_train(loss):
    X, y = numbers()
    y = abs(y)  # the Poisson loss needs targets of at least 0
    model = MLPRegressor(loss, **{**SMALL, "max_iter": 300}).fit(X, y)
    if loss == nnc.Quantile(0.9):
        assert 0.8 < np.mean(y < model.predict(X)) < 1
    else:
        assert model.score(X, y) > 0.9
    assert model.loss_curve_[-1] < 0.3 * model.loss_curve_[0]


@pytest.mark.parametrize("n_classes", [2, 3])
def test_hinge_gives_decision_function_without_probabilities(n_classes):
    X, y = labels(n_classes)
    model = MLPClassifier(**{**SMALL, "max_iter": 200}, loss="hinge").fit(X, y)
    assert model.score(X, y) > 0.85
    assert not hasattr(model, "predict_proba")
    decisions = model.decision_function(X)
    index = (decisions > 0).astype(int) if n_classes == 2 else decisions.argmax(axis=1)
    assert (model.predict(X) == index).all()
    assert not hasattr(MLPClassifier(), "decision_function")
    X, y = multilabel()
    model = MLPClassifier(**SMALL, loss="hinge", early_stopping=True).fit(X, y)
    assert (model.predict(X) == (model.decision_function(X) > 0)).all()


def test_label_smoothing_lowers_confidence():
    for n_classes in (2, 3):
        X, y = labels(n_classes)
        sharp, smooth = (
            MLPClassifier(**{**SMALL, "max_iter": 300}, loss=loss).fit(X, y).predict_proba(X).max(axis=1).mean()
            for loss in ("log_loss", nnc.CrossEntropy(0.3))
        )
        assert smooth < sharp - 0.05


def test_class_weight_equals_row_weights():
    X, y = make_classification(600, 10, weights=[0.9], flip_y=0.1, random_state=0)
    parameters = {**SMALL, "max_iter": 50}
    plain, balanced = (MLPClassifier(**parameters, class_weight=w).fit(X, y) for w in (None, "balanced"))
    assert balanced.predict(X).mean() > 1.3 * plain.predict(X).mean()
    weights = len(y) / (2 * np.bincount(y))
    as_dict = MLPClassifier(**parameters, class_weight=dict(enumerate(weights))).fit(X, y)
    as_rows = sklearn_mlp.MLPClassifier(**parameters).fit(X, y, weights[y])
    assert_same(balanced, as_dict)
    assert_same(as_rows, as_dict)
    both = MLPClassifier(**parameters, class_weight={0: 1, 1: 3}).fit(X, y, np.where(y, 1, 2))
    assert_same(sklearn_mlp.MLPClassifier(**parameters).fit(X, y, np.where(y, 3, 2)), both)
    with pytest.raises(ValueError, match="partial_fit"):
        MLPClassifier(class_weight="balanced").partial_fit(X, y, [0, 1])
    X, y = multilabel()
    assert MLPClassifier(**SMALL, class_weight="balanced").fit(X, y).predict(X).shape == y.shape


def test_dropout_is_reproducible_and_validated():
    X, y = numbers()
    runs = [MLPRegressor(**SMALL, dropout=rate).fit(X, y).loss_curve_ for rate in (0.0, 0.3, 0.3, [0.3, 0.0])]
    assert runs[0] != runs[1] == runs[2] != runs[3]
    with pytest.raises(ValueError, match="dropout"):
        MLPRegressor(dropout=[0.1, 0.1]).fit(X, y)
    with pytest.raises(ValueError, match="dropout"):
        MLPRegressor(dropout=0.1, solver="lbfgs").fit(X, y)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_validation_data_gives_validation_loss(solver):
    X, y = counts()
    X_val, y_val, weights = X[:60], y[:60], np.linspace(0.5, 2, 60)
    model = MLPRegressor("poisson", **SMALL, solver=solver, alpha=0)
    model.fit(X[60:], y[60:], X_val=X_val, y_val=y_val, sample_weight_val=weights)
    assert len(model.validation_loss_curve_) == model.n_iter_
    P = model.predict(X_val)
    deviance = scipy.special.xlogy(y_val, y_val / P) - y_val + P
    assert model.validation_loss_curve_[-1] == pytest.approx(np.average(deviance, weights=weights))
    assert getattr(model, "validation_scores_", None) is None
    plain = sklearn_mlp.MLPRegressor("poisson", **SMALL, solver=solver, alpha=0).fit(X[60:], y[60:])
    assert_same(plain, model, 1e-7)
    with pytest.raises(ValueError, match="X_val must be left out without y_val"):
        model.fit(X, y, X_val=X_val)


def test_validation_data_is_used_for_early_stopping():
    X, y = labels(3)
    names = np.array(["a", "b", "c"])[y]
    model = MLPClassifier(hidden_layer_sizes=(30,), early_stopping=True, random_state=0, max_iter=500)
    model.fit(X[60:], names[60:], X_val=X[:60], y_val=names[:60])
    assert model.n_iter_ < 500
    assert model.t_ == model.n_iter_ * 170
    assert model.score(X[:60], names[:60]) == pytest.approx(model.best_validation_score_)
    with pytest.raises(ValueError, match="classes"):
        model.fit(X, names, X_val=X[:3], y_val=["a", "b", "x"])


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_callback_and_time_limit_end_fit(solver):
    X, y = numbers()
    records = []

    def stop(record):
        records.append(record)
        return record.epoch == 7

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = MLPRegressor(**SMALL, solver=solver, callback=[stop]).fit(X, y)
        assert model.n_iter_ == len(records) == 7
        assert records[-1].network is model.network_
        assert records[-1].loss == pytest.approx(model.loss_)
        endless = {"max_iter": 10**7, "n_iter_no_change": 10**7, "tol": 0, "max_fun": 10**8}
        model = MLPRegressor(**endless, max_seconds=0.2, solver=solver).fit(X, y)
        assert model.n_iter_ < 10**7


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_exception_in_callback_has_note_with_callback(solver):
    X, y = numbers()

    def fails(record):
        return record.epoch == 3 and 1 / 0

    with pytest.raises(ZeroDivisionError) as caught:
        MLPRegressor(**SMALL, solver=solver, callback=fails).fit(X, y)
    assert caught.value.__notes__ == [f"in the callback {fails!r} after epoch 3"]


def test_partial_fit_after_end_of_schedule_raises_value_error():
    X, y = numbers()
    model = MLPRegressor(**SMALL, learning_rate=nnc.CosineLR(0.1, epochs=3))
    for _ in range(3):
        model.partial_fit(X, y)
    message = "learning_rate must be greater than 0 .*CosineLR.* 0 from epoch 3 .*call fit"
    with pytest.raises(ValueError, match=message):
        model.partial_fit(X, y)
    assert model.fit(X, y).n_iter_ > 3


def test_thread_count_does_not_change_result():
    X, y = digits()
    runs = [MLPClassifier((100,), max_iter=5, random_state=0, n_threads=n).fit(X, y).coefs_ for n in (1, 2, None)]
    for one, two, three in zip(*runs, strict=True):
        assert one.tobytes() == two.tobytes() == three.tobytes()


# ------------------------------------------------------------------------------------------ the network


def test_network_attribute_shares_weights_and_predictions(tmp_path):
    X, y = labels(3)
    model = MLPClassifier(**SMALL).fit(X, np.array(["a", "b", "c"])[y])
    model.network_.save(tmp_path / "model.json")
    network = NeuralNetwork.load(tmp_path / "model.json")
    assert (network.predict(X) == model.predict_proba(X)).all()
    assert network.predict_classes(X).tolist() == model.predict(X).tolist()
    model.coefs_[0][:] = 0
    assert (model.network_.weights[0] == 0).all()
    model.coefs_ = [np.ones_like(W) for W in model.coefs_]
    assert (model.network_.weights[1] == 1).all()
    with pytest.raises(NotFittedError):
        _ = MLPClassifier().network_


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_from_sklearn_predicts_like_mlp(problem, dtype):
    kind, X, y = PROBLEMS[problem]
    X = X.astype(dtype)
    mlp = getattr(sklearn_mlp, kind)(**SMALL, activation="logistic").fit(X, y)
    network = nnc.from_sklearn(mlp)
    assert network.dtype == dtype
    P = network.predict(X)
    if kind == "MLPRegressor":
        expected = mlp.predict(X)
    else:
        expected = mlp.predict_proba(X)[:, 1:] if mlp.n_outputs_ == 1 else mlp.predict_proba(X)
        assert (network.predict_classes(X) == mlp.predict(X)).all()
    np.testing.assert_allclose(
        P, expected.reshape(P.shape), rtol=1e-10 if dtype == "float64" else 1e-3, atol=1e-5 * (dtype == "float32")
    )
    assert type(nnc.from_json(network.to_json())) is NeuralNetwork
    network.fit(X, y, epochs=1, lr=1e-3)


@pytest.mark.parametrize("package", [sklearn_mlp, nnc.sklearn])
@pytest.mark.parametrize("unit", ["M8[D]", "m8[s]"])
def test_from_sklearn_converts_date_classes_to_text(package, unit):
    _, X, y = PROBLEMS["3 classes"]
    dates = np.array([3, 700, 20000]).astype(unit)
    model = package.MLPClassifier(**SMALL).fit(X, dates[y])
    network = nnc.from_sklearn(model)
    assert network.classes.tolist() == dates.astype(str).tolist()
    index = np.searchsorted(model.classes_, np.array(model.predict(X), model.classes_.dtype))
    assert (network.predict_classes(X) == dates.astype(str)[index]).all()


@pytest.mark.parametrize("package", [sklearn_mlp, nnc.sklearn])
def test_from_sklearn_rejects_single_class(package):
    X, _ = numbers()
    with pytest.raises(ValueError, match=r"mlp must have 2 classes that are text, numbers or dates, got \[7\]"):
        nnc.from_sklearn(package.MLPClassifier(**SMALL).fit(X, np.full(len(X), 7)))


@pytest.mark.parametrize("package", [sklearn_mlp, nnc.sklearn])
def test_from_sklearn_rejects_subclasses(package):
    X, y = numbers()
    model = type("Mine", (package.MLPRegressor,), {"__module__": "mine"})(**SMALL).fit(X, y)
    with pytest.raises(TypeError, match="got a subclass, Mine, which may predict something else"):
        nnc.from_sklearn(model)


def test_from_sklearn_rejects_other_and_unfitted_estimators():
    with pytest.raises(TypeError, match="MLPClassifier"):
        nnc.from_sklearn(StandardScaler())
    with pytest.raises(NotFittedError):
        nnc.from_sklearn(sklearn_mlp.MLPClassifier())


# ------------------------------------------------------------------------------------ with other parts of scikit-learn


@pytest.mark.parametrize("copier", ["pickle", "joblib", "deepcopy"])
@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_copies_predict_and_train_independently(copier, solver):
    X, y = numbers()
    model = MLPRegressor(**SMALL, solver=solver).fit(X, y)
    if copier == "pickle":
        other = pickle.loads(pickle.dumps(model))
    elif copier == "joblib":
        buffer = io.BytesIO()
        joblib.dump(model, buffer)
        buffer.seek(0)
        other = joblib.load(buffer)
    else:
        other = copy.deepcopy(model)
    assert (other.predict(X) == model.predict(X)).all()
    assert other.coefs_[0] is not model.coefs_[0]
    if solver != "lbfgs":
        model.partial_fit(X, y)
        assert not (other.predict(X) == model.predict(X)).all()
        other.partial_fit(X, y)
        assert_same(model, other, 1e-15)
    assert not hasattr(clone(model), "coefs_")


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_train_step_between_calls_of_partial_fit_matches_fit(solver):
    X, y = numbers()
    model = MLPRegressor(**SMALL, solver=solver).partial_fit(X, y)
    twin = copy.deepcopy(model)
    net, other = model.network_, twin.network_
    rows, targets = np.ascontiguousarray(X[:3], net.dtype), np.ascontiguousarray(y[:3, None], net.dtype)
    for _ in range(3):
        for _ in range(3):
            net.train_step(rows, targets)
            other.fit(rows, targets, epochs=1)
        assert np.array_equal(net.params, other.params)
        model.partial_fit(X, y)
        twin.partial_fit(X, y)
        assert np.array_equal(net.params, other.params)


def test_partial_fit_keeps_frozen_layers():
    X, y = numbers()
    model = MLPRegressor(**SMALL).partial_fit(X, y)
    model.network_.layers[0].trainable = False
    before = [part.copy() for part in model.coefs_]
    model.partial_fit(X, y)
    assert [np.array_equal(part, old) for part, old in zip(model.coefs_, before, strict=True)] == [True, False, False]


def test_rejected_partial_fit_changes_nothing():
    X, y = numbers()
    model = MLPRegressor(**SMALL).fit(X, y)
    before = model.n_iter_, model.network_.state
    with model.network_.model.training_lock, pytest.raises(RuntimeError, match="trained"):
        model.partial_fit(X, y)
    assert (model.n_iter_, model.network_.state) == before


def test_memory_mapped_model_predicts_and_trains(tmp_path):
    X, y = numbers()
    model = MLPRegressor(**SMALL).fit(X, y)
    joblib.dump(model, tmp_path / "model")
    other = joblib.load(tmp_path / "model", mmap_mode="r")
    assert (other.predict(X) == model.predict(X)).all()
    other.partial_fit(X, y)


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_parallel_search_and_validation_match_scikit_learn(backend):
    X, y = digits(300)
    pipeline = make_pipeline(StandardScaler(), MLPClassifier((16,), random_state=0, max_iter=15))
    grid = {"mlpclassifier__alpha": [1e-4, 1e-1], "mlpclassifier__activation": ["relu", ["gelu"]]}
    scores = []
    for module in (sklearn_mlp, nnc_mlp):
        model = make_pipeline(StandardScaler(), module.MLPClassifier((16,), random_state=0, max_iter=15))
        with joblib.parallel_config(backend):
            scores.append(cross_val_score(model, X, y, cv=3, n_jobs=2))
    assert scores[0].tolist() == scores[1].tolist()
    with joblib.parallel_config(backend):
        search = GridSearchCV(pipeline, grid, cv=3, n_jobs=2).fit(X, y)
    assert search.best_score_ > 0.1
    assert len(search.cv_results_["params"]) == 4


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_data_frames_give_names_and_same_weights(library):
    frames = pytest.importorskip(library)
    X, y = numbers()
    names = [f"x{i}" for i in range(X.shape[1])]
    table = frames.DataFrame(dict(zip(names, X.T, strict=True)))
    if not hasattr(StandardScaler().fit(table), "feature_names_in_"):
        pytest.skip(f"this scikit-learn does not take names from this {library}")
    model = MLPRegressor(**SMALL, early_stopping=True).fit(table, frames.Series(y))
    assert model.feature_names_in_.tolist() == names
    assert_same(sklearn_mlp.MLPRegressor(**SMALL, early_stopping=True).fit(X, y), model)
    assert (model.predict(table) == MLPRegressor(**SMALL, early_stopping=True).fit(X, y).predict(X)).all()
    with pytest.raises(ValueError, match="feature names"):
        model.predict(table[names[::-1]])
    pipeline = make_pipeline(StandardScaler(), MLPRegressor(**SMALL)).set_output(transform=library)
    assert pipeline.fit(table, y).predict(table).shape == y.shape
    assert pipeline[-1].feature_names_in_.tolist() == names


def test_metadata_routing_passes_validation_data():
    import sklearn

    X, y = numbers()
    with sklearn.config_context(enable_metadata_routing=True):
        model = MLPRegressor(**SMALL).set_fit_request(sample_weight=True, X_val=True, y_val=True)
        pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), model)
        pipeline.fit(X, y, sample_weight=np.ones(len(y)), X_val=X[:20], y_val=y[:20])
    assert len(pipeline[-1].validation_loss_curve_) == pipeline[-1].n_iter_


def test_thread_limits_of_joblib_and_threadpoolctl_are_used():
    with threadpool_limits(1):
        assert nnc.get_num_threads() == 1
    alone = nnc.get_num_threads()
    assert 1 <= alone <= os.cpu_count()
    call = joblib.delayed(nnc.get_num_threads)
    assert joblib.Parallel(2, backend="threading")([call()] * 4) == [1] * 4
    assert joblib.Parallel(1)([call()]) == [alone]
    limit = max(1, joblib.cpu_count() // 2)
    assert max(joblib.Parallel(2, backend="loky")([call()] * 4)) <= limit


def test_thread_limits_in_environment_are_used():
    code = "import nnc.sklearn, threadpoolctl; print(nnc.get_num_threads())"
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LOKY_MAX_CPU_COUNT"):
        run = subprocess.run(
            [sys.executable, "-P", "-c", code],
            env={**os.environ, name: "1"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert run.stdout.strip() == "1", run.stderr


def test_import_of_nnc_does_not_import_scikit_learn():
    code = "import nnc, sys; nnc.NeuralNetwork; print([m for m in ('sklearn', 'scipy', 'joblib') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=120)
    assert run.stdout.strip() == "[]", run.stderr


# ------------------------------------------------------------------------------------------ errors and special cases


def test_invalid_parameters_raise_value_error():
    X, y = numbers()
    for parameters in (
        {"activation": "swish"},
        {"solver": "newton"},
        {"loss": "hinge"},
        {"dropout": 1.0},
        {"max_seconds": 0},
        {"n_threads": 0},
        {"callback": 3},
    ):
        with pytest.raises(ValueError, match=next(iter(parameters))):
            MLPRegressor(**parameters).fit(X, y)
    with pytest.raises(ValueError, match="activation"):
        MLPRegressor(activation=["relu", "tanh"]).fit(X, y)
    with pytest.raises(ValueError, match="swish"):
        MLPRegressor(activation=["swish"]).fit(X, y)


def test_wrong_shapes_raise_value_error():
    X, y = numbers()
    model = MLPRegressor(**SMALL).fit(X, y)
    with pytest.raises(ValueError, match="1 columns"):
        model.partial_fit(X, np.column_stack([y, y]))
    with pytest.raises(ValueError, match="features"):
        model.predict(X[:, 1:])
    model.coefs_[0] = model.coefs_[0][1:]
    with pytest.raises(ValueError, match="columns"):
        model.predict(X)


def test_rows_of_weight_0_give_finite_predictions():
    X, y = numbers()
    weights = np.zeros(len(y))
    weights[:3] = 1
    model = MLPRegressor(**SMALL, shuffle=False).fit(X, y, weights)
    assert np.isfinite(model.predict(X)).all()


def test_parameters_can_change_between_fits():
    X, y = numbers()
    model = MLPRegressor(**SMALL, solver="lbfgs", warm_start=True).fit(X, y)
    model.set_params(solver="adam", early_stopping=True).fit(X, y)
    before = len(model.loss_curve_)
    assert len(model.validation_scores_) == before
    model.set_params(early_stopping=False, activation="tanh").fit(X, y)
    assert model.best_loss_ == min(model.loss_curve_[before:])
    assert model.network_.activations == ("tanh", "tanh", "identity")


def test_equal_models_have_equal_pickles():
    X, y = numbers()
    models = [MLPRegressor(**SMALL).fit(X, y) for _ in range(2)]
    assert pickle.dumps(models[0]) == pickle.dumps(models[1])
    text = models[0].network_.to_json(checkpoint=True)
    assert (nnc.from_json(text).predict(X)[:, 0] == models[0].predict(X)).all()


def test_time_limit_shorter_than_epoch_ends_fit():
    X, y = digits()
    model = MLPClassifier(max_seconds=1e-9).fit(X, y)
    assert model.n_iter_ == len(model.loss_curve_)
    assert np.isnan(model.loss_) or model.n_iter_


# ------------------------------------------------------------------------------------------------ to scikit-learn


@pytest.mark.parametrize("problem", ["2 classes", "3 classes", "regression", "multi-output", "multi-label"])
@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu", "identity"])
def test_to_sklearn_predicts_like_network(problem, activation):
    kind, X, y = PROBLEMS[problem]
    loss = {"2 classes": "bce", "3 classes": "cross_entropy", "multi-label": "bce"}.get(problem, "mse")
    n_out = {"3 classes": 3, "multi-output": 3, "multi-label": 5}.get(problem, 1)
    scale = {"scale_y": "minmax"} if loss == "mse" else {}
    net = NeuralNetwork(
        [X.shape[1], 6, 5, n_out], activation=activation, loss=loss, scale_X="standardize", seed=0, **scale
    )
    net.fit(X, np.array(["no", "yes", "so"])[y] if "classes" in problem else y, epochs=5, optimizer="adam")
    mlp = net.to_sklearn()
    assert type(mlp) is getattr(sklearn_mlp, kind)
    if kind == "MLPRegressor":
        P = net.predict(X)
        assert np.abs(mlp.predict(X) - (P[:, 0] if n_out == 1 else P)).max() < 1e-9
        assert mlp.score(X, y) == pytest.approx(net.score(X, y))
    else:
        assert np.abs(mlp.predict_proba(X) - net.predict_proba(X)).max() < 1e-12
        assert (mlp.predict(X) == net.predict_classes(X)).all()
    again = nnc.from_sklearn(mlp)
    assert np.abs(again.predict(X) - net.predict(X)).max() < 1e-9
    pickle.loads(pickle.dumps(mlp)).predict(X)


@pytest.mark.parametrize(
    "layers",
    [
        [3, Scale(init=0.5), Dense(4, "tanh"), Scale(init=-2), Dense(4, "tanh"), 4],
        [3, Dense(4, "identity"), BatchNorm("tanh"), Dense(4, "tanh"), BatchNorm(), 4],
        [3, Dense(4, "identity"), BatchNorm(), Scale(), Scale(init=2), 4],
    ],
)
@pytest.mark.parametrize("scale", ["standardize", "minmax", "pixels"])
def test_to_sklearn_merges_scalings_into_weights(layers, scale):
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(30, 3)), rng.normal(5, 2, (30, 4))
    net = NeuralNetwork(layers, loss="mse", scale_X=scale, scale_y="standardize", seed=0)
    net.fit(X, Y, epochs=5, lr=0.05)
    assert np.abs(net.to_sklearn().predict(X) - net.predict(X)).max() < 1e-12


@pytest.mark.parametrize("classes", [["b", "a"], [9, 3], [0.5, 0.25], [True, False], ["c", "a", "b"]])
@pytest.mark.parametrize("n_out", [1, 2])
def test_to_sklearn_keeps_order_of_classes(classes, n_out):
    n_out = max(n_out, len(classes)) if len(classes) > 2 else n_out
    loss = "bce" if n_out == 1 else "cross_entropy"
    document = json.loads(NeuralNetwork([3, 4, n_out], activation="tanh", loss=loss, seed=0).to_json())
    del document["sha256"]
    net = nnc.from_json(json.dumps(document | {"classes": classes}))
    X = np.random.default_rng(0).normal(size=(40, 3))
    assert net.classes.tolist() == classes
    assert len({*net.predict_classes(X).tolist()}) > 1
    assert (net.to_sklearn().predict(X) == net.predict_classes(X)).all()
