"""Recurrent layers: agreement of the compiled engine with the reference implementation in plain Python."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numerical import numerical_derivatives

import nnc
from nnc import NeuralNetwork, reference
from nnc.layers import GRU, LSTM, Bidirectional, Dense, Dropout, Flatten, Input, SimpleRNN

pytestmark = pytest.mark.engine

NETWORK_CLASSES = NeuralNetwork, reference.NeuralNetwork

# The last layer of each network is a Dense(2), for each step if its inputs are sequences.
LAYERS = [
    [Input(steps=5, features=3), SimpleRNN(4)],
    [Input(steps=4, features=1), GRU(3, go_backwards=True)],
    [Input(steps=6, features=2), LSTM(3, bias=False), Dense(4, "relu")],
    [Input(steps=4, features=3), GRU(2, return_sequences=True)],
    [Input(steps=4, features=2), LSTM(2, return_sequences=True, go_backwards=True), Dense(3, "sigmoid"), Flatten()],
    [Input(steps=5, features=2), Bidirectional(LSTM(3)), Dense(3, "tanh")],
    [Input(steps=3, features=2), Bidirectional(SimpleRNN(2, "relu", return_sequences=True)), Bidirectional(GRU(2))],
    [Input(steps=4, features=3), Dense(2, "tanh"), SimpleRNN(3, "sigmoid")],
    [Input(steps=1, features=1), GRU(1)],
]


def build_networks(layers, seed=4):
    """Return a compiled and a reference network with equal parameters, which are random."""
    engine, python = (cls([*layers, 2], output="identity", loss="mse", seed=seed) for cls in NETWORK_CLASSES)
    engine.params = np.random.default_rng(seed).uniform(-1, 1, engine.n_params)
    python.weights = engine.weights
    python.biases = [b for b in engine.biases if b is not None]
    return engine, python


def random_data(engine, n=5):
    rng = np.random.default_rng(6)
    return rng.normal(size=(n, *engine.model.input_shape)), rng.normal(size=(n, *engine.model.stack.output_shape))


def assert_close(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_allclose(a, np.array(b), rtol=1e-12, atol=1e-12)


def assert_networks_agree(layers, seed=4):
    engine, python = build_networks(layers, seed)
    X, y = random_data(engine)
    assert_close(engine.predict(X), python.predict(X))
    assert engine.evaluate_loss(X, y) == pytest.approx(python.evaluate_loss(X, y), rel=1e-12)
    for actual, expected in zip(engine.gradients(X, y), python.gradients(X, y), strict=True):
        assert_close(actual, expected)
    for _ in range(20):
        assert engine.train_step(X, y, lr=0.05, optimizer="sgd") == pytest.approx(python.train_step(X, y, 0.05))
    assert_close(engine.weights, python.weights)
    assert_close([b for b in engine.biases if b is not None], python.biases)


@st.composite
def architectures(draw):
    """Draw the layers of a small network, except the last one."""
    layers = [Input(steps=draw(st.integers(1, 5)), features=draw(st.integers(1, 4)))]
    for is_last in [False] * draw(st.integers(0, 1)) + [True]:
        kind = draw(st.sampled_from([SimpleRNN, GRU, LSTM]))
        bias, returns = draw(st.booleans()), not is_last or draw(st.booleans())
        order = draw(st.sampled_from(["forwards", "backwards", "both"]))
        options = {"activation": draw(st.sampled_from(["tanh", "sigmoid"]))} if kind is SimpleRNN else {}
        options |= {"return_sequences": returns, "go_backwards": order == "backwards", "bias": bias}
        layer = kind(draw(st.integers(1, 4)), **options)
        layers.append(Bidirectional(layer) if order == "both" else layer)
    layers += [Dense(draw(st.integers(1, 3)), "tanh")] * draw(st.integers(0, 1))
    return [*layers, *([Flatten()] if returns and draw(st.booleans()) else [])]


@given(layers=architectures(), seed=st.integers(0, 99))
def test_outputs_gradients_and_training_steps_match_reference(layers, seed):
    assert_networks_agree(layers, seed)


@pytest.mark.parametrize("layers", LAYERS, ids=str)
def test_all_kinds_of_layers_match_reference(layers, isa):
    assert_networks_agree(layers)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("layers", LAYERS, ids=str)
def test_gradients_of_reference_match_numerical_derivatives(layers):
    engine, python = build_networks(layers)
    X, y = (array.tolist() for array in random_data(engine, 2))
    for layer, (dW, db) in zip(python.parametric_layers, python.gradients(X, y), strict=True):
        db = [] if db is None else np.atleast_2d(db).tolist()
        rows = layer.b if len(db) == 2 else [layer.b] * len(db)
        for row, gradient in zip([*layer.W, *rows], [*dW, *db], strict=True):
            assert gradient == pytest.approx(list(numerical_derivatives(python, X, y, row, 1e-5)), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("init", [None, "glorot_normal", "uniform", "zeros"])
@pytest.mark.parametrize("layers", LAYERS, ids=str)
def test_initial_parameters_match_reference(layers, init):
    engine, python = (cls([*layers, 2], init=init, seed=3) for cls in NETWORK_CLASSES)
    for actual, expected in zip(engine.weights, python.weights, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-14)
    for actual, expected in zip([b for b in engine.biases if b is not None], python.biases, strict=True):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("batch_size", [None, 3])
@pytest.mark.parametrize("layers", LAYERS, ids=str)
def test_compare_reports_small_differences(layers, batch_size):
    X, y = random_data(build_networks(layers)[0], 7)
    options = {"output": "identity", "loss": "mse", "verbose": False}
    result = nnc.compare([*layers, 2], X, y, epochs=2, lr=0.05, batch_size=batch_size, **options)
    assert result.losses.relative < 1e-12
    assert result.weights.absolute < 1e-12
    assert result.predictions.absolute < 1e-12


@pytest.mark.parametrize("layers", LAYERS, ids=str)
def test_engine_and_reference_load_files_of_each_other(layers):
    engine, python = build_networks(layers)
    X, _ = random_data(engine)
    assert_close(engine.predict(X), reference.NeuralNetwork.from_json(engine.to_json()).predict(X))
    assert_close(nnc.from_json(python.to_json()).predict(X), python.predict(X))


def test_reference_learns_sign_of_first_step():
    """Train on sequences whose target is the sign of the first step, which the state must store until the last step."""
    X = np.random.default_rng(0).uniform(-1, 1, (12, 4, 1))
    y = (X[:, 0] > 0).astype(float)
    net = reference.NeuralNetwork([Input(steps=4, features=1), GRU(3), 1], output="sigmoid", loss="mse", seed=1)
    loss = net.fit(X, y, epochs=150, lr=2.0, batch_size=4).loss
    assert loss[-1] < 0.05 < loss[0]


def test_reference_accepts_nested_and_flat_sequences():
    engine, python = build_networks(LAYERS[3])
    X, y = random_data(engine)
    P = python.predict(X.tolist())
    assert np.array(P).shape == y.shape
    assert python.predict(X.reshape(5, -1)) == python.predict(list(X)) == P
    assert python.evaluate_loss(X, y.reshape(5, -1)) == python.evaluate_loss(X, y.tolist())


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([Input(steps=4, features=2), SimpleRNN(3, "softplus"), 1], "activation must be one of .*, got 'softplus'"),
        ([Input(steps=4, features=2), GRU(3), Dropout(0.5), 1], "layer must be one of .*, got 'Dropout'"),
    ],
)
def test_reference_refuses_what_it_does_not_support(layers, message):
    with pytest.raises(ValueError, match=message):
        reference.NeuralNetwork(layers)


def test_biases_of_reference_need_two_rows_for_gru():
    python = build_networks(LAYERS[3])[1]
    with pytest.raises(ValueError, match="biases must have 2 rows, got 1"):
        python.biases = [[[0.0] * 6], [0.0, 0.0]]
