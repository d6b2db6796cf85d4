"""Tests that random models of PyTorch and Keras are read correctly, or rejected with the name of the cause."""

import os
from collections import Counter
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import load_program
from strategies import examples

from nnc import NeuralNetwork

readers = load_program("tools/campaigns/readers.py")

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")


def check_random_model(data, draw):
    """Draw a model with hypothesis, read it, and assert that the campaign reports no finding."""
    seed = data.draw(st.integers(0, 1000))
    model = draw(lambda options: data.draw(st.sampled_from(list(options))), seed)
    if model is not None:
        assert [*readers.findings(model, Counter(), seed)] == [], model.text


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_torch_models_are_read_correctly_or_rejected_by_name(data):
    pytest.importorskip("torch")
    check_random_model(data, readers.torch_model)


@settings(max_examples=examples(25), deadline=None)
@given(data=st.data())
def test_keras_models_are_read_correctly_or_rejected_by_name(data):
    if not find_spec("torch"):
        pytest.importorskip("jax")  # the NumPy backend of Keras computes convolutions with JAX
    os.environ.setdefault("KERAS_BACKEND", "torch" if find_spec("torch") else "numpy")
    pytest.importorskip("keras")
    check_random_model(data, readers.keras_model)


# ------------------------------------------------------------------------------------------ simulated errors

NETWORK = NeuralNetwork([3, 4, 2], loss="mse", seed=0)


def raise_key_error(verify):
    raise KeyError("Conv2d")


def raise_without_name(verify):
    raise ValueError("too large")


@pytest.mark.parametrize(
    ("read", "outputs", "finding"),
    [
        (lambda verify: NETWORK, NETWORK.predict, None),
        (lambda verify: NETWORK, lambda X: NETWORK.predict(X) * 1.001, "the outputs differ by"),
        (lambda verify: NETWORK, lambda X: NETWORK.predict(X)[:, :1], "the outputs differ by"),
        (
            lambda verify: raise_without_name(verify) if verify else NETWORK,
            NETWORK.predict,
            "the verification rejects a correct network",
        ),
        (raise_key_error, NETWORK.predict, "must raise ValueError or TypeError, got KeyError"),
        (raise_without_name, NETWORK.predict, "the message must name a module"),
    ],
)
def test_campaign_reports_simulated_errors(read, outputs, finding):
    states = iter(("before", "before"))
    findings = [*readers.findings(readers.Model("", read, outputs, lambda: next(states)), Counter(), 0)]
    assert len(findings) == (finding is not None)
    assert all(finding in text for text in findings)


def test_campaign_reports_changed_state_of_model():
    states = iter((np.array([1.0, 2.0]), np.array([1.0, 2.5])))
    model = readers.Model("", lambda verify: NETWORK, NETWORK.predict, lambda: repr(next(states)))
    assert [*readers.findings(model, Counter(), 0)] == ["the model or the random state was changed"]
