"""Tests of fits that fail or are interrupted: the estimator keeps its former model."""

import copy
import importlib
import inspect
import sys
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.9")
pytest.importorskip("narwhals")

import nnc
from nnc.forecast import Forecaster, ForecastWarning
from nnc.sklearn import MLPRegressor

MODULES = "nnc", "nnc.sklearn", "nnc.tabular", "nnc.forecast", "nnc.images", "nnc.pde"
# Public classes whose `fit` continues the training of a network, or returns a new object.
WITHOUT_REFIT = {"NeuralNetwork", "Problem", "MinMax", "Pixels", "Standardize"}
N_FAILURES = 6  # number of calls of functions, evenly spaced in a fit, at which the tests raise exceptions


def public_estimators():
    """Return the public classes with a method `fit` by name."""
    modules = map(importlib.import_module, MODULES)
    classes = {name: getattr(module, name) for module in modules for name in module.__all__}
    return {name: c for name, c in classes.items() if inspect.isclass(c) and hasattr(c, "fit")}


rng = np.random.default_rng(0)
X_OLD, X_NEW = rng.normal(size=(2, 24, 3))
LABELS_OLD, LABELS_NEW = np.where(X_OLD[:, 0] > 0, "a", "b"), np.where(X_NEW[:, 1] > 0, "c", "d")
NETWORK = {"hidden_layer_sizes": (4,), "max_iter": 5, "random_state": 0}
TABLE = {"members": 1, "n_jobs": 1, "random_state": 0}
# Constructor arguments, arguments of the first fit, and arguments of the second fit.
CLASSES, NUMBERS = ((X_OLD, LABELS_OLD), (X_NEW, LABELS_NEW)), ((X_OLD, X_OLD[:, 0]), (X_NEW[:, :2], X_NEW[:, 1]))
SERIES = (np.arange(40.0) % 4,), ({"a": np.arange(30.0) % 7 + rng.normal(size=30), "b": rng.normal(size=35)},)
IMAGES_OLD, IMAGES_NEW = rng.integers(0, 256, (2, 24, 12, 12), np.uint8)
PICTURES = (IMAGES_OLD, LABELS_OLD), (IMAGES_NEW[..., None].repeat(3, axis=3), LABELS_NEW)
EXAMPLES = {
    "EnsembleClassifier": ({**NETWORK, "n_estimators": 2}, *CLASSES),
    "EnsembleRegressor": ({**NETWORK, "n_estimators": 2}, *NUMBERS),
    "Forecaster": ({"horizon": 3, "n_jobs": 1}, *SERIES),
    "ImageClassifier": ({"epochs": 1, "random_state": 0, "n_threads": 1}, *PICTURES),
    "MLPClassifier": (NETWORK, *CLASSES),
    "MLPRegressor": (NETWORK, *NUMBERS),
    "TableClassifier": (TABLE, *CLASSES),
    "TableRegressor": (TABLE, *NUMBERS),
}


class RaiseAtCall:
    """Context that raises an exception at the call number `position` of a function of nnc in this thread.

    Methods such as `__exit__` do not count: without them, locks would not be released.
    """

    def __init__(self, position, error):
        self.position, self.error, self.calls = position, error, 0

    def profile(self, frame, event, argument):
        if event != "call" or not frame.f_globals.get("__name__", "").startswith("nnc."):
            return
        if not frame.f_code.co_name.startswith("__"):
            self.calls += 1
            if self.calls == self.position:
                raise self.error

    def __enter__(self):
        sys.setprofile(self.profile)
        return self

    def __exit__(self, *error):
        sys.setprofile(None)


def state_of(model, arguments):
    """Return the predictions of a model for the inputs of its fit, and its attributes by identity."""
    predictions = model.predict() if hasattr(model, "season_") else model.predict(*arguments[:1])
    return np.array(predictions).tobytes(), {name: id(value) for name, value in vars(model).items()}


def failures(model, train):
    """Yield shallow copies of a model after calls of `train` that an exception has ended, at different positions."""
    with RaiseAtCall(0, None) as count:
        train(copy.deepcopy(model))
    raised = 0
    for position in np.unique(np.linspace(1, count.calls, N_FAILURES).astype(int)):
        for error in (RuntimeError("injected"), KeyboardInterrupt()):
            trained = object.__new__(type(model))
            vars(trained).update(vars(model))
            try:
                with RaiseAtCall(position, error):
                    train(trained)
            except type(error):
                raised += 1
                yield trained
    assert raised > N_FAILURES


@pytest.mark.parametrize("name", sorted(public_estimators().keys() - WITHOUT_REFIT))
@pytest.mark.filterwarnings("ignore")
def test_failed_or_interrupted_fit_keeps_former_model(name):
    settings, old, new = EXAMPLES[name]
    model = public_estimators()[name](**settings).fit(*old)
    expected = state_of(model, old)
    for failed in failures(model, lambda model: model.fit(*new)):
        assert state_of(failed, old) == expected
    assert state_of(model.fit(*new), new) != expected


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.filterwarnings("ignore")
def test_failed_first_fit_leaves_estimator_without_model(name):
    settings, old, _ = EXAMPLES[name]
    model = public_estimators()[name](**settings)
    attributes = dict(vars(model))
    for failed in failures(model, lambda model: model.fit(*old)):
        assert vars(failed) == attributes


@pytest.mark.filterwarnings("ignore")
def test_failed_fit_with_warm_start_keeps_former_network_and_curve():
    model = MLPRegressor(**NETWORK, warm_start=True, early_stopping=True).fit(X_OLD, X_OLD[:, 0])
    expected, curves = state_of(model, (X_OLD,)), [list(model.loss_curve_), list(model.validation_scores_)]
    for failed in failures(model, lambda model: model.fit(X_OLD, X_OLD[:, 1])):
        assert state_of(failed, (X_OLD,)) == expected
        assert [failed.loss_curve_, failed.validation_scores_] == curves


def test_warning_that_is_an_error_keeps_former_model():
    model = Forecaster(2).fit(np.arange(20.0) % 3)
    expected = state_of(model, ())
    warnings.simplefilter("error")  # pytest restores the filters
    with pytest.raises(ForecastWarning, match="fewer than 10"):
        model.fit(np.arange(5.0))
    assert state_of(model, ()) == expected


def test_failed_append_keeps_former_observations():
    model = Forecaster(2).fit(np.arange(20.0) % 3)
    expected = state_of(model, ())
    for failed in failures(model, lambda model: model.append([1.0, 2.0])):
        assert state_of(failed, ()) == expected


def test_training_can_continue_after_a_failure():
    def train(model):
        model.fit(X_OLD, X_OLD[:, 0], epochs=3, optimizer="adam")

    net = nnc.NeuralNetwork([3, 4, 1], seed=0)
    train(net)
    for failed in failures(net, train):
        loaded = nnc.from_json(failed.to_json())
        assert np.array_equal(loaded.predict(X_OLD), failed.predict(X_OLD))
        train(failed)
        assert np.isfinite(failed.predict(X_OLD)).all()
