"""One name for one concept in everything public, and hints in the errors of former names."""

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nnc
from nnc import NeuralNetwork

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
def test_former_attributes_of_a_network_are_named(former, present):
    net = NeuralNetwork([3, 4, 1])
    hint = f"has no attribute {former!r}; did you mean {present}?"
    assert message_of(AttributeError, getattr, net, former) == f"'NeuralNetwork' object {hint}"
    assert message_of(AttributeError, getattr, NeuralNetwork, former) == f"type object 'NeuralNetwork' {hint}"
    assert not hasattr(net, former)


def test_a_network_has_at_most_45_public_attributes():
    """Methods and properties, inherited ones included: what is called less often is a function."""
    public = [name for name in dir(NeuralNetwork) if not name.startswith("_")]
    assert len(public) <= 45, public


def test_unknown_names_of_nnc_are_named():
    assert message_of(AttributeError, getattr, nnc, "NeuralNetwrk").endswith("; did you mean NeuralNetwork?")
    assert message_of(AttributeError, getattr, nnc, "zzz") == "module 'nnc' has no attribute 'zzz'"


def test_public_names_are_listed_once():
    """In __init__.py; the stub for type checkers is written from there: python tools/public_names.py."""
    tool = Path(__file__).parent.parent / "tools" / "public_names.py"
    if not tool.exists():
        pytest.skip("needs the checkout")
    assert Path(nnc.__file__).with_suffix(".pyi").read_text(encoding="utf-8") == runpy.run_path(str(tool))["stub"]()


def test_dir_is_the_list_of_public_names():
    code = "import nnc; first = dir(nnc); import nnc.layers; nnc.NeuralNetwork; print(first == dir(nnc) == nnc.__all__)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
    assert dir(nnc) == sorted(set(nnc.__all__)) == nnc.__all__
    assert all(hasattr(nnc, name) for name in nnc.__all__)


def test_similar_attributes_are_named():
    net = NeuralNetwork([3, 4, 1])
    ensemble = nnc.Ensemble([net])
    assert message_of(AttributeError, getattr, net, "predct").endswith("; did you mean predict?")
    assert message_of(AttributeError, getattr, ensemble, "predict_probas").endswith("; did you mean predict_proba?")
    assert message_of(AttributeError, getattr, net, "zzz") == "'NeuralNetwork' object has no attribute 'zzz'"
    assert message_of(AttributeError, getattr, net, "_private") == "'NeuralNetwork' object has no attribute '_private'"


def test_attribute_error_of_a_property_is_kept():
    class Broken(NeuralNetwork):
        @property
        def extra(self):
            return self.nothing_like_it

    assert "no attribute 'nothing_like_it'" in message_of(AttributeError, getattr, Broken([3, 1]), "extra")


def test_former_arguments_of_fit_many_are_named():
    call = {"networks": [NeuralNetwork([3, 1])], "X": X, "y": Y, "epochs": 1}
    message = message_of(TypeError, nnc.fit_many, **call, weights=[np.ones(4)])
    assert message == "fit_many has no argument 'weights'; did you mean sample_weight?"


def test_per_network_is_a_sequence():
    rates = nnc.PerNetwork(rate / 10 for rate in (1, 2, 3))
    assert list(rates) == [0.1, 0.2, 0.3]
    assert (len(rates), rates[-1], repr(rates[1:])) == (3, 0.3, "PerNetwork([0.2, 0.3])")
    for wrong in (0.1, "adam", b"adam", None):
        assert message_of(TypeError, nnc.PerNetwork, wrong).startswith("values must be a sequence with one value for")


def test_lists_mean_in_fit_many_what_they_mean_in_fit():
    metrics = ["r2", "mae"]
    one, two = (NeuralNetwork([3, 4, 1], loss="mse", seed=seed) for seed in (0, 1))
    data = np.random.default_rng(0).normal(size=(20, 3))
    history = nnc.fit_many([one, two], data, data[:, :1], epochs=2, lr=0.01, metrics=metrics)
    assert all({"r2", "mae"} <= set(row) for row in history)
