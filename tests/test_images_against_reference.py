"""Image layers: agreement of the compiled engine with the reference implementation in plain Python."""

import math

import numpy as np
import pytest

import nnc
from nnc import NeuralNetwork, reference
from nnc.layers import AvgPool2D, Conv2D, Dense, Flatten, GlobalAvgPool2D, Input, MaxPool2D

NETWORK_CLASSES = NeuralNetwork, reference.NeuralNetwork

LAYERS = [
    [Input(5, 5, 1), Conv2D(2, 3, "tanh"), Flatten()],
    [Input(5, 4, 2), Conv2D(3, (2, 3), "sigmoid", stride=(2, 1))],
    [Input(7, 6, 1), Conv2D(2, 3, "tanh", stride=2, padding="same"), Conv2D(3, 2, "tanh", padding="same")],
    [Input(5, 6, 2), Conv2D(2, (3, 2), "relu", stride=(3, 2), padding="same"), MaxPool2D((2, 1)), Flatten()],
    [Input(6, 6, 1), Conv2D(2, 3, "relu"), MaxPool2D(2), Flatten(), Dense(4, "tanh")],
    [Input(6, 7, 2), MaxPool2D(3, stride=2), Conv2D(3, 1, "tanh", bias=False)],
    [Input(6, 5, 3), AvgPool2D(2), Conv2D(2, 2, "sigmoid"), AvgPool2D((2, 1), stride=1)],
    [Input(5, 5, 1), Conv2D(3, 3, "tanh", padding="same"), MaxPool2D(3, 1), GlobalAvgPool2D()],
    [Input(9, 9, 1), Conv2D(3, 3, "relu"), MaxPool2D(2, 1), AvgPool2D(2, 1), MaxPool2D((1, 2)), Conv2D(2, 2, "tanh")],
    [Input(2, 2, 1), Conv2D(2, 5, "tanh", padding="same")],
    [Input(8, 8, 1), Conv2D(17, 3, "relu"), MaxPool2D(2), Conv2D(9, 2, "relu"), Flatten(), Dense(12, "relu")],
    # Rows of 32 channels are a power of two apart in memory, and six filters do not fill a vector register.
    [Input(6, 5, 32), Conv2D(6, (3, 2), "tanh", stride=(2, 1), padding="same"), Flatten()],
    [Input(6, 5, 1), Conv2D(32, 2, "relu"), Conv2D(6, 3, "tanh"), MaxPool2D(2), Flatten()],
]


def build_networks(layers):
    """Return a compiled and a reference network with the same seed and the same nonzero biases."""
    networks = [cls([*layers, Dense(2)], output="identity", loss="mse", seed=4) for cls in NETWORK_CLASSES]
    rng = np.random.default_rng(5)
    layers = networks[1].parametric_layers
    biases = [None if layer.b is None else rng.uniform(-0.5, 0.5, layer.n_out) for layer in layers]
    networks[0].biases = biases
    networks[1].biases = [b for b in biases if b is not None]
    return networks


def random_data(layers, n=11):
    rng = np.random.default_rng(6)
    return rng.uniform(-1, 1, (n, math.prod(layers[0].output_shape(())))), rng.uniform(0, 1, (n, 2))


def assert_close(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            b = np.array(b)
            assert a == pytest.approx(b, rel=1e-12, abs=1e-13 * max(1e-3, abs(b).max()))


@pytest.mark.parametrize("layers", LAYERS, ids=str)
def test_initial_weights_match_reference_bits(layers):
    engine, python = (cls([*layers, Dense(2)], seed=3) for cls in NETWORK_CLASSES)
    assert [W.tolist() for W in engine.weights] == list(python.weights)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("layers", LAYERS, ids=str)
def test_predictions_losses_and_gradients_match_reference(layers, isa):
    engine, python = build_networks(layers)
    X, y = random_data(layers)
    assert_close(engine.predict(X), python.predict(X))
    assert engine.evaluate_loss(X, y) == pytest.approx(python.evaluate_loss(X, y), rel=1e-12)
    for actual, expected in zip(engine.gradients(X, y), python.gradients(X, y), strict=True):
        assert_close(actual, expected)
    assert nnc.check_gradients(engine, X, y).ok


@pytest.mark.sampled(5)
@pytest.mark.parametrize("batch_size", [None, 1, 4, 11])
@pytest.mark.parametrize("layers", LAYERS, ids=str)
def test_training_matches_reference(layers, batch_size):
    engine, python = build_networks(layers)
    X, y = random_data(layers)
    settings = {"epochs": 5, "lr": 0.05, "batch_size": batch_size}
    actual, expected = engine.fit(X, y, **settings), python.fit(X, y, **settings)
    assert actual.loss == pytest.approx(np.array(expected.loss), rel=1e-12)
    assert_close(engine.weights, python.weights)


def test_compare_reports_small_differences_for_images(capsys):
    layers = LAYERS[4]
    X, y = random_data(layers)
    result = nnc.compare([*layers, 2], X, y, epochs=20, lr=0.1, batch_size=5)
    assert result.losses.relative < 1e-12
    assert result.weights.relative < 1e-10
    assert result.sizes == (36, 32, 4, 2)
    assert "network 6x6x1-4x4x2-2x2x2-8-4-2, rows 11, epochs 20" in capsys.readouterr().out


@pytest.mark.parametrize("layers", LAYERS, ids=str)
def test_engine_and_reference_load_files_of_each_other(layers):
    engine, python = build_networks(layers)
    X, _ = random_data(layers)
    assert_close(engine.predict(X), reference.NeuralNetwork.from_json(engine.to_json()).predict(X))
    assert_close(nnc.from_json(python.to_json()).predict(X), python.predict(X))


def test_explained_step_matches_train_step(capsys):
    net = NeuralNetwork([Input(6, 6, 1), Conv2D(1, 3, "relu"), MaxPool2D(2), Flatten(), 2], loss="mse", seed=2)
    X, y = random_data(LAYERS[4], 1)
    step = net.explain_step(X, y, 0.5)
    assert " Hidden Layer 1: windows of 3 x 3, a = relu(z)" in capsys.readouterr().out
    net.train_step(X, y, lr=0.5)
    assert_close(net.weights, [layer.new_W for layer in step.layers])
    assert_close(net.biases, [layer.new_b for layer in step.layers])
