"""Tests of `check_gradients` for networks that process sequences step by step."""

import numpy as np
import pytest

from nnc import NeuralNetwork
from nnc._inspection.gradients import check_gradients
from nnc._registry import losses
from nnc.layers import Dense, Flatten, Input

INPUT = Input(steps=4, features=3)
LAYERS = [
    [INPUT, 2],
    [INPUT, Dense(3, "tanh"), 1],
    [INPUT, Dense(5, "relu"), Flatten(), 2],
    [INPUT, Dense(3, "sigmoid", bias=False), Dense(4, "gelu"), Flatten(), Dense(3, "relu"), 2],
]
# A softmax is not supported for each step, and targets of the hinge loss are -1 and 1.
LOSSES = [name for name in losses.ROWS if name not in ("cross_entropy", "hinge", losses.CUSTOM)]


def random_data(net, n=5):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, *net.model.input_shape)), rng.uniform(size=(n, *net.model.stack.output_shape))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("layers", LAYERS, ids=str)
def test_check_accepts_gradients_and_finds_errors(layers, loss, dtype):
    net = NeuralNetwork(layers, loss=loss, dtype=dtype, seed=1)
    X, y = random_data(net)
    assert check_gradients(net, X, y).ok
    for layer in range(len(net.weights)):
        gradients = net.gradients(X, y)
        index = np.unravel_index(abs(gradients[layer][0]).argmax(), gradients[layer][0].shape)
        gradients[layer][0][index] *= 1.1 if dtype == "float32" else 1.0001
        check = check_gradients(net, X, y, gradients=gradients)
        assert [wrong.wrong for wrong in check.layers] == [l == layer for l in range(len(net.weights))]


def test_targets_of_all_steps_may_be_flat_rows():
    net = NeuralNetwork(LAYERS[0], loss="mse", seed=0)
    X, y = random_data(net)
    assert str(check_gradients(net, X, y.reshape(5, 8))) == str(check_gradients(net, X, y))
    assert check_gradients(net, X[0], y[0].ravel()).ok


def test_explain_step_refuses_dense_layers_on_sequences():
    net = NeuralNetwork(LAYERS[0], loss="mse", seed=0)
    with pytest.raises(ValueError, match="net must not have Dense layers on sequences for explain_step"):
        net.explain_step(*random_data(net))
