"""Tests that public names use one name per concept, and that errors suggest similar or current names."""

import importlib.util
import inspect
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nnc
from nnc import NeuralNetwork
from nnc._utils.names import OTHER_ATTRIBUTES

X, Y = np.zeros((4, 3)), np.zeros((4, 1))


def message_of(error, function, *arguments, **named):
    with pytest.raises(error) as caught:
        function(*arguments, **named)
    return str(caught.value)


@pytest.mark.parametrize(
    ("former", "present"),
    [
        ("bias", "biases"),
        ("check_gradients", "nnc.check_gradients"),
        ("from_json", "nnc.from_json"),
        ("from_torch", "nnc.from_torch"),
        ("hidden_layers", "layers[:-1]"),
        ("input_gradients", "nnc.input_gradients"),
        ("loss", "evaluate_loss"),
        ("output_layer", "layers[-1]"),
        ("plot", "draw"),
    ],
)
def test_removed_attribute_suggests_current_name(former, present):
    net = NeuralNetwork([3, 4, 1])
    hint = f"has no attribute {former!r}; did you mean {present}?"
    assert message_of(AttributeError, getattr, net, former) == f"'NeuralNetwork' object {hint}"
    assert message_of(AttributeError, getattr, NeuralNetwork, former) == f"type object 'NeuralNetwork' {hint}"
    assert not hasattr(net, former)


@pytest.mark.parametrize(
    ("owner", "name", "hint"),
    [
        (nnc, "EarlyStopping", "did you mean net.fit(X, y, validation=0.2, patience=10)?"),
        (nnc, "Sequential", "did you mean NeuralNetwork?"),
        (nnc, "MLPClassifier", "did you mean nnc.sklearn.MLPClassifier?"),
        (nnc, "StandardScaler", "did you mean Standardize?"),
        (nnc, "tensor", "nnc has no tensors; use NumPy arrays or lists"),
        (nnc.layers, "Linear", "did you mean nnc.layers.Dense?"),
        (nnc.layers, "MaxPooling2D", "did you mean nnc.layers.MaxPool2D?"),
        (nnc.layers, "MultiHeadAttention", "nnc has no attention layers; GRU, LSTM and Conv1D process sequences"),
        (NeuralNetwork, "compile", "nnc has no compile; pass loss= to NeuralNetwork, and optimizer= and lr= to fit"),
        (NeuralNetwork, "evaluate", "did you mean score or evaluate_loss?"),
        (NeuralNetwork, "zero_grad", "nnc has no zero_grad; train_step and gradients start from zero"),
        (NeuralNetwork, "state_dict", "did you mean params?"),
    ],
)
def test_name_of_other_package_is_answered_with_name_of_nnc(owner, name, hint):
    assert message_of(AttributeError, getattr, owner, name).endswith(f" has no attribute {name!r}; {hint}")


@pytest.mark.parametrize(
    ("module", "name", "hint"),
    [
        ("nnc", "EarlyStopping", "; did you mean net.fit(X, y, validation=0.2, patience=10)?"),
        ("nnc", "NeuralNetwrk", "; did you mean NeuralNetwork?"),
        ("nnc.layers", "Linear", "; did you mean nnc.layers.Dense?"),
        ("nnc", "zzz", f" ({nnc.__file__})"),
    ],
)
def test_import_of_name_of_other_package_is_answered_with_name_of_nnc(module, name, hint):
    message = message_of(ImportError, exec, f"from {module} import {name}")
    assert message == f"cannot import name {name!r} from {module!r}{hint}"


def test_names_in_submodules_are_found_from_nnc():
    for name in nnc.layers.__all__:
        assert message_of(AttributeError, getattr, nnc, name).endswith(f"; did you mean nnc.layers.{name}?")
    for name in ("load_digits", "load_iris", "load_mnist", "train_test_split"):
        assert message_of(AttributeError, getattr, nnc, name).endswith(f"; did you mean nnc.datasets.{name}?")


def test_suggested_names_exist():
    net = NeuralNetwork([3, 4, 1])
    net.fit(X, Y, epochs=1)
    for suggestion in OTHER_ATTRIBUTES.values():
        if not suggestion.startswith("nnc has "):
            for name in re.findall(r"\bnnc\.[\w.]+", suggestion):
                module, _, member = name.rpartition(".")
                if module in ("nnc.sklearn", "nnc.tabular"):
                    pytest.importorskip("sklearn")
                assert hasattr(importlib.import_module(module), member), name
            for name in re.findall(r"\bnet\.(\w+)|^(?!nnc\.)(\w+)(?:\.\w+)?$", suggestion):
                assert any(hasattr(owner, "".join(name)) for owner in (net, nnc, nnc.History)), suggestion


def test_sizes_that_are_not_in_a_list_are_answered_with_list():
    hint = "pass the sizes of the layers as a list, such as NeuralNetwork([4, 8, 3])"
    problem = "takes 2 positional arguments but 4 were given"
    assert message_of(TypeError, NeuralNetwork, 4, 8, 3) == f"NeuralNetwork.__init__() {problem}; {hint}"
    assert message_of(TypeError, NeuralNetwork).endswith(f"; {hint}")


def test_positional_option_is_answered_with_names_of_positional_arguments():
    expected = "takes 3 positional arguments but 4 were given; pass only X, y by position, and all others by name"
    assert message_of(TypeError, NeuralNetwork([3, 1]).fit, X, Y, 100) == f"NeuralNetwork.fit() {expected}"


def test_network_has_at_most_48_public_attributes():
    """Count methods and properties, including inherited ones; rarely used features are functions."""
    public = [name for name in dir(NeuralNetwork) if not name.startswith("_")]
    assert len(public) <= 48, public


def test_unknown_name_of_nnc_suggests_similar_name():
    assert message_of(AttributeError, getattr, nnc, "NeuralNetwrk").endswith("; did you mean NeuralNetwork?")
    assert message_of(AttributeError, getattr, nnc, "zzz") == "module 'nnc' has no attribute 'zzz'"


def test_type_stub_matches_public_names():
    """__init__.py lists the public names; tools/public_names.py writes the stub for type checkers from it."""
    tool = Path(__file__).parent.parent / "tools" / "public_names.py"
    if not tool.exists():
        pytest.skip("needs the checkout")
    assert Path(nnc.__file__).with_suffix(".pyi").read_text(encoding="utf-8") == runpy.run_path(str(tool))["stub"]()


def test_help_begins_with_names_that_exist():
    """The docstring precedes the list of modules in help(nnc)."""
    names = re.findall(r"\bnnc\.(\w+)", nnc.__doc__)
    assert {"NeuralNetwork", "load", "from_onnx", "fit_many"} <= set(names)
    for name in names:
        assert hasattr(nnc, name) or importlib.util.find_spec(f"nnc.{name}"), name
    for name in re.findall(r"\bnet\.(\w+)", nnc.__doc__):
        assert name == "json" or hasattr(NeuralNetwork, name), name


def test_dir_returns_public_names():
    code = "import nnc; first = dir(nnc); import nnc.layers; nnc.NeuralNetwork; print(first == dir(nnc) == nnc.__all__)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
    assert dir(nnc) == sorted(set(nnc.__all__)) == nnc.__all__
    assert all(hasattr(nnc, name) for name in nnc.__all__)


def test_unknown_attribute_suggests_similar_name():
    net = NeuralNetwork([3, 4, 1])
    ensemble = nnc.Ensemble([net])
    assert message_of(AttributeError, getattr, net, "predct").endswith("; did you mean predict?")
    assert message_of(AttributeError, getattr, ensemble, "predict_probas").endswith("; did you mean predict_proba?")
    assert message_of(AttributeError, getattr, net, "zzz") == "'NeuralNetwork' object has no attribute 'zzz'"
    assert message_of(AttributeError, getattr, net, "_private") == "'NeuralNetwork' object has no attribute '_private'"


def test_attribute_error_inside_property_is_preserved():
    class Broken(NeuralNetwork):
        @property
        def extra(self):
            return self.nothing_like_it

    assert "no attribute 'nothing_like_it'" in message_of(AttributeError, getattr, Broken([3, 1]), "extra")


def test_removed_argument_of_fit_many_suggests_current_name():
    call = {"networks": [NeuralNetwork([3, 1])], "X": X, "y": Y, "epochs": 1}
    message = message_of(TypeError, nnc.fit_many, **call, weights=[np.ones(4)])
    assert message == "fit_many has no argument 'weights'; did you mean sample_weight?"


def test_per_network_behaves_as_sequence():
    rates = nnc.PerNetwork(rate / 10 for rate in (1, 2, 3))
    assert list(rates) == [0.1, 0.2, 0.3]
    assert (len(rates), rates[-1], repr(rates[1:])) == (3, 0.3, "PerNetwork([0.2, 0.3])")
    for wrong in (0.1, "adam", b"adam", None):
        assert message_of(TypeError, nnc.PerNetwork, wrong).startswith("values must be a sequence with one value for")


def test_fit_many_applies_list_of_metrics_to_each_network():
    metrics = ["r2", "mae"]
    one, two = (NeuralNetwork([3, 4, 1], loss="mse", seed=seed) for seed in (0, 1))
    data = np.random.default_rng(0).normal(size=(20, 3))
    history = nnc.fit_many([one, two], data, data[:, :1], epochs=2, lr=0.01, metrics=metrics)
    assert all({"r2", "mae"} <= set(row) for row in history)


# ---------------------------------------------------------------------------------------------- one name per concept

MODULES = {  # public modules, with the package that each needs
    "nnc": "numpy",
    "nnc.layers": "numpy",
    "nnc.datasets": "numpy",
    "nnc.plot": "numpy",
    "nnc.reference": "numpy",
    "nnc.sklearn": "sklearn",
    "nnc.tabular": "sklearn",
    "nnc.forecast": "numpy",
    "nnc.images": "numpy",
    "nnc.pde": "numpy",
    "nnc.dask": "distributed",
    "nnc.river": "river",
}
# Names of arguments in other packages or in older versions of nnc, and the current name of the same argument.
OTHER_NAMES = {
    "threads": "n_threads",
    "num_threads": "n_threads",
    "workers": "n_jobs",
    "n_workers": "n_jobs",
    "jobs": "n_jobs",
    "num_workers": "n_jobs",
    "rng": "seed",
    "random_seed": "seed",
    "random_state": "seed",
    "sample_weights": "sample_weight",
    "row_weights": "sample_weight",
    "weights": "sample_weight",
    "w": "sample_weight",
    "validation_data": "validation",
    "validation_split": "validation",
    "eval_set": "validation",
    "held_out": "validation",
    "learning_rate": "lr",
    "callbacks": "callback",
    "levels": "level",
    "confidence": "level",
    "n_members": "members",
    "quality": "preset",
    "n_epochs": "epochs",
    "batch": "batch_size",
}
ESTIMATOR_ARGUMENTS = {"random_state", "learning_rate"}  # arguments that scikit-learn requires of its estimators
# Whether the default of an argument has the form that all functions share.
FORMS = {
    "level": lambda level: level is None or all(0 < fraction < 1 for fraction in np.atleast_1d(level)),
    "members": lambda members: members is None,
    "preset": lambda preset: preset in (None, "default"),
    "progress": lambda progress: progress is False,
    "n_jobs": lambda n_jobs: n_jobs is None,
    "n_threads": lambda n_threads: n_threads is None,
    "callback": lambda callback: callback is None,
}
# Comparison.weights contains differences. ImageClassifier has the arguments of a classifier of scikit-learn.
EXCEPTIONS = {("nnc.Comparison", "weights"), ("nnc.images.ImageClassifier", "random_state")}


def public_callables(module):
    """Yield each function, class and public method of a module: name, object, and whether it is from an estimator."""
    for name in module.__all__:
        member = getattr(module, name)
        is_estimator = any(base.__module__.startswith("sklearn.") for base in getattr(member, "__mro__", ()))
        if callable(member):
            yield f"{module.__name__}.{name}", member, is_estimator
        if inspect.isclass(member):
            for method_name in dir(member):
                method = getattr(member, method_name, None)
                if not method_name.startswith("_") and callable(method):
                    yield f"{module.__name__}.{name}.{method_name}", method, is_estimator


@pytest.mark.parametrize("module", MODULES)
def test_arguments_have_one_name_per_concept(module):
    pytest.importorskip(MODULES[module])
    n_checked, findings = 0, []
    for name, member, is_estimator in public_callables(importlib.import_module(module)):
        try:
            parameters = inspect.signature(member).parameters
        except (TypeError, ValueError):  # some compiled classes have no signature
            continue
        n_checked += 1
        for parameter, default in ((key, value.default) for key, value in parameters.items()):
            if parameter in FORMS and default is not inspect.Parameter.empty and not FORMS[parameter](default):
                findings.append(f"{name}({parameter}={default!r})")
            is_exception = (is_estimator and parameter in ESTIMATOR_ARGUMENTS) or (name, parameter) in EXCEPTIONS
            if parameter in OTHER_NAMES and not is_exception:
                findings.append(f"{name}({parameter}=) is {OTHER_NAMES[parameter]}")
            if is_estimator and parameter == "seed":
                findings.append(f"{name}(seed=) is random_state")
        if isinstance(getattr(member, "report", None), property):
            findings.append(f"{name}.report is a property, not a method")
    assert n_checked
    assert not findings


def test_no_public_method_is_named_loss():
    """`loss` is the name of an argument or of a recorded value; the method that computes it is evaluate_loss."""
    for module in MODULES:
        pytest.importorskip(MODULES[module])
        for name, member, _ in public_callables(importlib.import_module(module)):
            assert not (name.endswith(".loss") and inspect.isfunction(member)), name
    assert callable(NeuralNetwork.evaluate_loss)
    assert callable(nnc.reference.NeuralNetwork.evaluate_loss)
