"""Tests that each option of `fit` is the same in every place that names it: `OPTIONS` is the declaration."""

import inspect
import re

import numpy as np
import pytest

import nnc
from nnc import NeuralNetwork
from nnc._training.arguments import OPTIONS, FitArguments
from nnc.pde import Problem, Residual

DEFAULTS = FitArguments._field_defaults
X, Y = np.linspace(0, 1, 8).reshape(4, 2), np.ones((4, 1))
OWN = {("validation", "equations"), ("progress", "fit_many")}  # arguments with the name of an option of `fit`
WRONG = object()  # invalid value of every option
EQUATIONS = Problem(NeuralNetwork([1, 2, 1], output="identity"), [Residual(lambda x, u: u, X[:, :1])], ["x"])


def options_of(function):
    return {name: p.default for name, p in inspect.signature(function).parameters.items() if name in OPTIONS}


def test_options_are_the_fields_of_the_arguments():
    assert list(OPTIONS) == list(DEFAULTS)


def test_fit_has_all_options_in_their_order_and_with_their_defaults():
    assert list(options_of(NeuralNetwork.fit).items()) == list(DEFAULTS.items())
    others = inspect.signature(NeuralNetwork.fit).parameters.keys() - OPTIONS.keys()
    assert others == {"self", "X", "y", "lengths"}


def test_defaults_of_fit_do_not_count_as_given():
    assert FitArguments(**options_of(NeuralNetwork.fit)).passed() == {}


@pytest.mark.parametrize(
    ("function", "place"), [(NeuralNetwork.stepper, "in_stepper"), (Problem.fit, "in_equations")], ids=["step", "pde"]
)
def test_other_functions_have_their_options_with_the_same_defaults(function, place):
    expected = {name: DEFAULTS[name] for name, option in OPTIONS.items() if getattr(option, place)}
    found = options_of(function)
    if place == "in_equations":
        del found["validation"]  # points at which a residual is computed
    assert found == expected


def test_estimators_have_the_same_defaults():
    base = pytest.importorskip("sklearn.neural_network").MLPRegressor
    from nnc.sklearn import MLPRegressor

    own = inspect.signature(MLPRegressor).parameters.keys() - inspect.signature(base).parameters
    found = {name: value for name, value in options_of(MLPRegressor).items() if name in own}
    assert found == {name: DEFAULTS[name] for name in found}
    assert found.keys() == {"dropout", "max_seconds", "callback", "n_threads"}


def test_docstring_of_fit_names_the_defaults():
    numpydoc = pytest.importorskip("numpydoc.docscrape")
    texts = {
        key: p.type for p in numpydoc.FunctionDoc(NeuralNetwork.fit)["Parameters"] for key in re.split(r",\s*", p.name)
    }
    for name in OPTIONS:
        default = re.search(r"default (\S+)$", texts[name])
        if default is None:
            assert DEFAULTS[name] in (None, ()), texts[name]
            assert DEFAULTS[name] == () or texts[name].endswith("optional")
        else:
            assert default[1] == f"{DEFAULTS[name]:g}" if default[1].isdigit() else default[1] == str(DEFAULTS[name])


def uses(name):
    """Return the functions that have an option, by name, and a call of each with all other arguments."""
    option, net = OPTIONS[name], NeuralNetwork([2, 2, 1])
    epochs = {} if name == "epochs" else {"epochs": 1}
    return {
        "fit": lambda value: net.fit(X, Y, **epochs, **{name: value}),
        "fit_batches": option.in_batches and (lambda value: net.fit_batches([(X, Y)], **epochs, **{name: value})),
        "fit_many": option.in_many and (lambda value: nnc.fit_many([net], X, Y, **epochs, **{name: value})),
        "stepper": option.in_stepper and (lambda value: net.stepper(**{name: value})),
        "equations": option.in_equations and (lambda value: EQUATIONS.fit(**epochs, **{name: value})),
    }


@pytest.mark.parametrize(
    ("name", "function"), [(name, function) for name in OPTIONS for function, call in uses(name).items() if call]
)
def test_functions_pass_on_and_check_each_option(name, function):
    with pytest.raises((TypeError, ValueError), match=rf"^{name}\b"):
        uses(name)[function](WRONG)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        (name, function)
        for name in OPTIONS
        for function, call in uses(name).items()
        if not call and (name, function) not in OWN
    ],
)
def test_other_functions_reject_an_option(name, function):
    net = NeuralNetwork([2, 2, 1])
    call = {
        "fit_batches": lambda **options: net.fit_batches([(X, Y)], **options),
        "fit_many": lambda **options: nnc.fit_many([net], X, Y, **options),
        "stepper": net.stepper,
        "equations": EQUATIONS.fit,
    }[function]
    with pytest.raises(TypeError, match=name):
        call(**{name: DEFAULTS[name]})
