"""Tests of `check_gradients` and `explain_step` for networks that process sequences step by step."""

import math
import re

import numpy as np
import pytest

from nnc import NeuralNetwork
from nnc._inspection.gradients import check_gradients
from nnc._registry import losses
from nnc.layers import GRU, LSTM, Bidirectional, Dense, Flatten, Input, SimpleRNN

INPUT = Input(steps=4, features=3)
LAYERS = [
    [INPUT, 2],
    [INPUT, Dense(3, "tanh"), 1],
    [INPUT, Dense(5, "relu"), Flatten(), 2],
    [INPUT, Dense(3, "sigmoid", bias=False), Dense(4, "gelu"), Flatten(), Dense(3, "relu"), 2],
]
# The random targets are neither probabilities nor -1 and 1.
LOSSES = [name for name in losses.ROWS if name not in ("cross_entropy", "hinge", losses.CUSTOM)]


def random_data(net, n=5):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, *net.model.input_shape)), rng.uniform(size=(n, *net.model.stack.output_shape))


@pytest.mark.sampled(13)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("layers", LAYERS, ids=str)
def test_check_accepts_gradients_and_finds_errors(layers, loss, dtype):
    net = NeuralNetwork(layers, loss=loss, dtype=dtype, seed=1)
    X, y = random_data(net, 3)
    assert check_gradients(net, X, y).ok
    for layer in range(len(net.weights)):
        gradients = net.gradients(X, y)
        index = np.unravel_index(abs(gradients[layer][0]).argmax(), gradients[layer][0].shape)
        gradients[layer][0][index] *= 1.1 if dtype == "float32" else 1.0001
        check = check_gradients(net, X, y, gradients=gradients)
        assert [result.wrong for result in check.layers] == [l == layer for l in range(len(net.weights))]


RECURRENT = [
    [INPUT, SimpleRNN(3), 2],
    [INPUT, SimpleRNN(4, "relu", go_backwards=True), Dense(3, "relu"), 1],
    [INPUT, GRU(3, bias=False), 2],
    [INPUT, Bidirectional(GRU(2, return_sequences=True)), SimpleRNN(3, "relu", return_sequences=True), 2],
    [INPUT, LSTM(3, return_sequences=True), Flatten(), 1],
    [INPUT, Dense(2, "tanh"), LSTM(2, return_sequences=True, go_backwards=True), Bidirectional(GRU(2)), 2],
]


@pytest.mark.sampled(9)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layers", RECURRENT, ids=str)
def test_check_accepts_gradients_of_recurrent_layers_and_finds_errors(layers, dtype):
    net = NeuralNetwork(layers, loss="mse", dtype=dtype, seed=1)
    net.params = np.random.default_rng(2).normal(size=net.n_params) * 0.7
    X, y = random_data(net, 2)
    check = check_gradients(net, X, y)
    assert check.ok
    assert sum(layer.by_both for layer in check.layers) > (0.7 * net.n_params if dtype == "float64" else 0)
    gradients = net.gradients(X, y)
    for gradient in (gradients[-2][0], gradients[0][0]):
        gradient[np.unravel_index(abs(gradient).argmax(), gradient.shape)] *= 1.1 if dtype == "float32" else 1.0001
    wrong = check_gradients(net, X, y, gradients=gradients)
    assert [result.wrong for result in wrong.layers] == [l in (0, len(gradients) - 2) for l in range(len(gradients))]


def test_name_of_wrong_bias_of_gru_contains_row():
    net = NeuralNetwork(RECURRENT[5], loss="mse", seed=1)
    X, y = random_data(net)
    gradients = net.gradients(X, y)
    gradients[2][1][1, 4] += 1
    assert check_gradients(net, X, y, gradients=gradients).worst.worst == "b[1, 4]"


def test_unit_at_kink_in_early_step_is_counted():
    net = NeuralNetwork([INPUT, SimpleRNN(1, "relu"), 1], loss="mse", seed=1)
    net.params = np.zeros(net.n_params)
    net.weights[1][...] = 1.0
    net.layers[0].U[...] = 1.0
    X, y = random_data(net)
    check = check_gradients(net, X, y)
    assert check.layers[0].kinks == 5  # a kink for each of three rows of W, one row of U, and the bias
    assert not check.wrong


def test_targets_of_all_steps_may_be_flat_rows():
    net = NeuralNetwork(LAYERS[0], loss="mse", seed=0)
    X, y = random_data(net)
    assert str(check_gradients(net, X, y.reshape(5, 8))) == str(check_gradients(net, X, y))
    assert check_gradients(net, X[0], y[0].ravel()).ok


FUNCTIONS = {"tanh": np.tanh, "exp": np.exp, "log": np.log, "max": max, "sigmoid": lambda z: 1 / (1 + np.exp(-z))}
FUNCTIONS |= {
    "Phi": lambda z: math.erfc(-z / math.sqrt(2)) / 2,
    "phi": lambda z: np.exp(-z * z / 2) / np.sqrt(2 * np.pi),
}


def equations(text):
    """Yield each complete formula without variables in the text, with its result."""
    for line in text.splitlines():
        match = re.search(r"(?:\w+|dL/d\w|da/dz|output \d+)(?: =|:) (.*) = ([-+.\de]+)$", line)
        if match and set(re.findall(r"[A-Za-z_]\w*", re.sub(r"\de[-+]", "", match[1]))) <= {*FUNCTIONS, "if", "else"}:
            yield match[1].replace("^", "**"), float(match[2])


@pytest.mark.sampled(3)
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
@pytest.mark.parametrize("layers", [*LAYERS, *RECURRENT], ids=str)
def test_equations_in_explanation_are_correct(layers, loss):
    net = NeuralNetwork([*layers[:-1], 2], loss=loss, seed=1)
    net.params = np.random.default_rng(2).normal(size=net.n_params) * 0.7
    X, y = random_data(net, 2)
    y = y if loss == "mse" else y.argmax(axis=-1)
    explanation = net.explain_step(X, y)
    pairs = list(equations(str(explanation)))
    assert len(pairs) > 35
    for formula, number in pairs:
        assert eval(formula, FUNCTIONS) == pytest.approx(number, rel=1e-6, abs=1e-7), formula
    assert explanation.loss == pytest.approx(net.evaluate_loss(X, y))
    for layer, (dW, db) in zip(explanation.layers, net.gradients(X, y), strict=True):
        np.testing.assert_allclose(layer.dW, dW, rtol=0, atol=1e-12)
        assert (layer.db is None) == (db is None)


def test_explanation_of_large_recurrent_network_is_abridged_and_long_sequences_are_refused():
    net = NeuralNetwork([Input(steps=12, features=30), GRU(40), 2], loss="mse", seed=1)
    text = str(net.explain_step(*random_data(net, 1)))
    for omission in ("  ... and 37 more units", "   ... and 27 more inputs", " + (27 more)", " + (117 more)"):
        assert omission in text
    assert len(text) < 120_000
    net = NeuralNetwork([Input(steps=13, features=1), LSTM(2, return_sequences=True), 1], loss="mse", seed=1)
    with pytest.raises(ValueError, match=r"sequences must have at most 12 steps .* got 13; explain a network with a"):
        net.explain_step(*random_data(net, 1))
