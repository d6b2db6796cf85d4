"""Tests of convolutions and pools of sequences of different lengths against plain Python and textbook formulas."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nnc
from nnc import NeuralNetwork, reference
from nnc.layers import (
    GRU,
    LSTM,
    AvgPool1D,
    Bidirectional,
    Conv1D,
    Dense,
    GlobalAvgPool1D,
    GlobalMaxPool1D,
    Input,
    MaxPool1D,
)

STEPS = 14
NETWORKS = {
    "same, each step": [Conv1D(3, 4, "tanh", padding="same"), GRU(3, return_sequences=True), Dense(2)],
    "dilated": [Conv1D(3, 3, "tanh", padding=2, dilation=2), Conv1D(2, 2, padding="causal"), GlobalAvgPool1D(), 2],
    "strides and pools": [Conv1D(4, 3, "relu", stride=2, padding=1), AvgPool1D(2, 1), Bidirectional(LSTM(2)), 2],
    "pools of states": [GRU(3, return_sequences=True), MaxPool1D(2), Dense(3, "relu"), GlobalMaxPool1D(), 2],
    "pool of outputs": [Conv1D(3, 5, "relu", padding="same"), MaxPool1D(3, 2), Conv1D(2, 2), GlobalMaxPool1D(), 2],
}


def data(at_each_step, lengths):
    """Return lists of random sequences of these lengths, and targets."""
    rng = np.random.default_rng(len(lengths))
    X = [rng.normal(size=(length, 2)) for length in lengths]
    if at_each_step:
        return X, [rng.normal(size=(length, 2)) for length in lengths]
    return X, rng.normal(size=(len(lengths), 2))


def networks(layers, seed=3):
    """Return a compiled and a reference network with equal random parameters."""
    layers = [Input(steps=STEPS, features=2), *layers]
    engine, python = (cls(layers, loss="mse", seed=seed) for cls in (NeuralNetwork, reference.NeuralNetwork))
    engine.params = np.random.default_rng(seed).uniform(-1, 1, engine.n_params)
    python.weights, python.biases = engine.weights, engine.biases
    return engine, python


def assert_networks_agree(layers, lengths, seed=3):
    engine, python = networks(layers, seed=seed)
    X, y = data(len(engine.model.stack.output_shape) == 2, lengths)
    for p, expected in zip(engine.predict(X), python.predict(X), strict=True):
        np.testing.assert_allclose(p, expected, rtol=1e-12, atol=1e-12)
    assert engine.evaluate_loss(X, y) == pytest.approx(python.evaluate_loss(X, y), rel=1e-12)
    for actual, expected in zip(engine.gradients(X, y), python.gradients(X, y), strict=True):
        for part, expected_part in zip(actual, expected, strict=True):
            np.testing.assert_allclose(part, np.array(expected_part), rtol=1e-12, atol=1e-12)
    padded = np.full((len(X), STEPS, 2), np.nan)
    for row, x in zip(padded, X, strict=True):
        row[: len(x)] = x
    assert python.predict(padded, lengths=lengths) == python.predict(X)


@st.composite
def architectures(draw):
    """Draw the layers of a small network, except the last one, with an output for sequences of 8 steps."""
    layers = []
    for _ in range(draw(st.integers(1, 2))):
        size, stride, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
        padding = draw(st.sampled_from(["valid", "causal", "same"]))
        dilation = dilation if stride == 1 and (padding != "same" or size % 2) else 1
        padding = "causal" if stride > 1 and padding == "same" else padding
        layers.append(Conv1D(draw(st.integers(1, 3)), size, "tanh", stride, padding, dilation if not layers else 1))
    if draw(st.booleans()):
        layers.append(draw(st.sampled_from([MaxPool1D, AvgPool1D]))(draw(st.integers(1, 2)), draw(st.integers(1, 2))))
    return [*layers, draw(st.sampled_from([GRU(2), Bidirectional(LSTM(2)), GlobalAvgPool1D(), GlobalMaxPool1D()])), 2]


@given(layers=architectures(), lengths=st.lists(st.integers(10, STEPS), min_size=1, max_size=5), seed=st.integers(0, 9))
def test_outputs_and_gradients_match_reference(layers, lengths, seed):
    assert_networks_agree(layers, lengths, seed)


@pytest.mark.parametrize("name", NETWORKS)
def test_all_kinds_of_layers_match_reference(name, isa):
    assert_networks_agree(NETWORKS[name], [14, 9, 12, 8, 9])


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", NETWORKS)
def test_compare_reports_small_differences(name):
    at_each_step = "each step" in name
    X, y = data(at_each_step, [9, 14, 10, 8, 9, 13])
    layers = [Input(steps=STEPS, features=2), *NETWORKS[name]]
    result = nnc.compare(layers, X, y, epochs=2, lr=0.05, batch_size=4, loss="mse", verbose=False)
    assert max(part.relative for part in (result.losses, result.weights, result.predictions)) < 1e-11


@pytest.mark.sampled(3)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", NETWORKS)
def test_check_of_gradients_compares_all_lengths(name, dtype, capsys):
    net = NeuralNetwork([Input(steps=STEPS, features=2), *NETWORKS[name]], loss="mse", dtype=dtype, seed=1)
    X, y = data("each step" in name, [9, 14, 10, 8])
    check = nnc.check_gradients(net, X, y)
    assert check.ok, str(check)
    assert all(layer.by_both and layer.checked + layer.kinks == layer.n_params for layer in check.layers), str(check)


class WithoutLastStep(NeuralNetwork):
    """Network whose gradients ignore the last step of the first sequence."""

    def gradients(self, X, y, *args, **options):
        sequences = [row[:length] for row, length in zip(X.array, X.lengths, strict=True)]
        return super().gradients([sequences[0][:-1], *sequences[1:]], y)


def test_check_of_gradients_finds_missing_step():
    net = WithoutLastStep([Input(steps=STEPS, features=2), *NETWORKS["dilated"]], loss="mse", seed=1)
    X, y = data(False, [9, 14, 10, 8])
    assert nnc.check_gradients(net, X, y).wrong
