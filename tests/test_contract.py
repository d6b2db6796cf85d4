"""Tests of the contract of fitted models, which docs/architecture.md states: one table of models, one of clauses."""

import copy
import importlib
import inspect
import io
import pickle
import sys
import warnings
from functools import cache

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.9")
pytest.importorskip("narwhals")
pytest.importorskip("distributed")

import dask.array as da
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import nnc
import nnc.pde
from nnc.forecast import Forecaster, ForecastWarning
from nnc.sklearn import MLPRegressor

MODULES = "nnc", "nnc.sklearn", "nnc.tabular", "nnc.forecast", "nnc.images", "nnc.pde", "nnc.dask"
# Public classes whose `fit` continues the training of a network, returns a new object, or needs a cluster.
WITHOUT_REFIT = {"DaskMLPClassifier", "DaskMLPRegressor", "NeuralNetwork", "Problem", "MinMax", "Pixels", "Standardize"}
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
    "DaskMLPClassifier": ({**NETWORK, "n_estimators": 2}, *CLASSES),
    "DaskMLPRegressor": ({**NETWORK, "n_estimators": 2}, *NUMBERS),
    "EnsembleClassifier": ({**NETWORK, "n_estimators": 2}, *CLASSES),
    "EnsembleRegressor": ({**NETWORK, "n_estimators": 2}, *NUMBERS),
    "Forecaster": ({"horizon": 3, "n_jobs": 1}, *SERIES),
    "ImageClassifier": ({"epochs": 1, "random_state": 0, "n_threads": 1}, *PICTURES),
    "MLPClassifier": (NETWORK, *CLASSES),
    "MLPRegressor": (NETWORK, *NUMBERS),
    "TableClassifier": (TABLE, *CLASSES),
    "TableRegressor": (TABLE, *NUMBERS),
}


@cache
def fitted(name):
    """Return a model that its first example has trained; tests must not change it."""
    settings, old, _ = EXAMPLES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return train(public_estimators()[name](**settings), old)


def train(model, arguments):
    """Fit a model; an estimator of nnc.dask trains in this process, because there is no cluster."""
    if hasattr(model, "to_local"):
        return model.partial_fit(*map(da.from_array, arguments))
    return model.fit(*arguments)


def trained_network():
    net = nnc.NeuralNetwork([3, 4, 1], seed=0)
    net.fit(X_OLD, X_OLD[:, 0], epochs=3)
    return net


def square_of_inputs(p, u):
    return u - p["x0"] ** 2


TERM = nnc.pde.Residual(square_of_inputs, X_OLD[:, :1])


def trained_problem():
    net = nnc.NeuralNetwork([1, 4, 1], activation="tanh", loss="mse", seed=0)
    problem = nnc.pde.Problem(net, TERM)
    problem.fit(3)
    return problem


# Models whose training continues with each fit, so that only some clauses apply to them.
CONTINUED = {
    "NeuralNetwork": trained_network,
    "Ensemble": lambda: nnc.Ensemble([trained_network(), nnc.NeuralNetwork([3, 4, 1], seed=1)]),
    "Problem": trained_problem,
}


def build(name):
    """Return a trained model and the inputs that `predictions` needs."""
    if name in CONTINUED:
        return CONTINUED[name](), (X_OLD[:, :1] if name == "Problem" else X_OLD,)
    return copy.deepcopy(fitted(name)), () if name == "Forecaster" else EXAMPLES[name][1][:1]


def predictions(model, inputs):
    return np.array(model.predict(*inputs)).tobytes()


def calls_before_fit_raise_one_error(name):
    unfitted = public_estimators()[name](**EXAMPLES[name][0])
    _, inputs = build(name)
    calls = [lambda: unfitted.predict(*inputs)]
    if hasattr(type(unfitted), "save"):
        calls += [lambda: unfitted.save("model.json"), unfitted.report]
    for call in calls:
        with pytest.raises(NotFittedError, match=f"^this {name} is not fitted; call fit first$"):
            call()


def constructor_stores_arguments_and_fit_checks_them(name):
    invalid = object()
    settings, old, _ = EXAMPLES[name]
    for argument in inspect.signature(public_estimators()[name]).parameters:
        model = public_estimators()[name](**{**settings, argument: invalid})
        assert model.get_params()[argument] is invalid
        if argument not in UNCHECKED:
            with pytest.raises((TypeError, ValueError), match=argument):
                train(model, old)


def parameters_are_set_and_cloned(name):
    settings = EXAMPLES[name][0]
    model = public_estimators()[name](**settings)
    argument = next(iter(settings))
    assert model.set_params(**{argument: 7}) is model
    assert clone(model).get_params() == model.get_params() == {**model.get_params(), **settings, argument: 7}
    with pytest.raises(ValueError, match="nonsense"):
        model.set_params(nonsense=1)


def repr_shows_parameters_that_differ_from_defaults(name):
    settings = EXAMPLES[name][0]
    text = repr(public_estimators()[name](**settings))
    for argument, parameter in inspect.signature(public_estimators()[name]).parameters.items():
        expected = argument in settings and settings[argument] != parameter.default
        assert (f"{argument}=" in text) == expected
    assert f"{name}(" in text


def parameters_after_fit_have_no_effect(name):
    model, inputs = build(name)
    expected = predictions(model, inputs), contents(model), str(report(model))
    values = {**OTHER_VALUES, "loss": OTHER_LOSSES.get(name)}
    for argument in inspect.signature(type(model)).parameters:
        model.set_params(**{argument: values.get(argument, "other")})
    assert (predictions(model, inputs), contents(model), str(report(model))) == expected


def copies_predict_the_same(name):
    model, inputs = build(name)
    for other in (copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert predictions(other, inputs) == predictions(model, inputs)


def files_predict_the_same(name):
    model, inputs = build(name)
    loaded = nnc.load(io.StringIO(contents(model)))
    assert predictions(loaded, inputs) == predictions(model, inputs)
    loaded = type(model).load(io.StringIO(contents(model)), *([TERM] if name == "Problem" else []))
    assert predictions(loaded, inputs) == predictions(model, inputs)


def contents(model):
    """Return the text that `save` writes, without digests of the text; None for models that have no files."""
    if not hasattr(model, "save"):
        return None
    file = io.StringIO()
    model.save(file)
    return file.getvalue()


def report(model):
    if isinstance(model, nnc.NeuralNetwork):
        return nnc.report(model, X_OLD, X_OLD[:, 0])
    return model.report() if hasattr(model, "report") else None


def report_is_a_page(name):
    assert isinstance(report(build(name)[0]), nnc.Report)


def columns_have_names(name):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X_OLD, columns=["a", "b", "c"])
    model = public_estimators()[name](**EXAMPLES[name][0])
    model.fit(frame, EXAMPLES[name][1][1])
    assert (model.n_features_in_, model.feature_names_in_.tolist()) == (3, ["a", "b", "c"])


def arguments_have_the_public_words(name):
    model = build(name)[0]
    names = {*inspect.signature(type(model)).parameters, *inspect.signature(model.fit).parameters}
    assert len(names & {"seed", "random_state"}) == 1
    assert names & {"n_jobs", "n_threads"}
    assert names >= {"callback", "progress"}


# Other valid values of arguments that predictions or files could depend on.
OTHER_VALUES = {"horizon": 2, "hidden_layer_sizes": (3,), "activation": "tanh"}
OTHER_LOSSES = {"MLPClassifier": "hinge", "MLPRegressor": nnc.Quantile([0.1, 0.5, 0.9])}
UNCHECKED = {"callback", "client"}
# Estimators with the interface of scikit-learn: `network_` and `ensemble_` have files and reports, and no progress bar.
WITHOUT_FILES = {
    "DaskMLPClassifier",
    "DaskMLPRegressor",
    "EnsembleClassifier",
    "EnsembleRegressor",
    "MLPClassifier",
    "MLPRegressor",
}
# Clauses, with the models to which they do not apply.
CLAUSES = {
    calls_before_fit_raise_one_error: CONTINUED,
    constructor_stores_arguments_and_fit_checks_them: CONTINUED,
    parameters_are_set_and_cloned: CONTINUED,
    repr_shows_parameters_that_differ_from_defaults: CONTINUED,
    parameters_after_fit_have_no_effect: CONTINUED,
    copies_predict_the_same: (),
    files_predict_the_same: WITHOUT_FILES,
    report_is_a_page: {*WITHOUT_FILES, "Ensemble", "Problem"},
    columns_have_names: {"DaskMLPClassifier", "DaskMLPRegressor", "Forecaster", "ImageClassifier", *CONTINUED},
    arguments_have_the_public_words: {*WITHOUT_FILES, "Ensemble", "Problem"},
}
# Clauses that models do not keep yet.
VIOLATIONS = {
    ("Forecaster", arguments_have_the_public_words),
}


def applicable_clauses():
    """Return a parameter set for each model and each clause that applies to it."""
    pairs = [(n, c) for c, exempt in CLAUSES.items() for n in [*EXAMPLES, *CONTINUED] if n not in exempt]
    violated = pytest.mark.xfail(strict=True)
    return [
        pytest.param(*pair, marks=violated if pair in VIOLATIONS else (), id=f"{pair[0]}-{pair[1].__name__}")
        for pair in pairs
    ]


@pytest.mark.parametrize(("name", "clause"), applicable_clauses())
@pytest.mark.filterwarnings("ignore")
def test_model_keeps_contract(name, clause):
    clause(name)


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


@pytest.mark.parametrize("name", sorted(EXAMPLES.keys() - WITHOUT_REFIT))
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
