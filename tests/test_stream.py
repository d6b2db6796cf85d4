"""Streams: outputs of each step against predict, states, bad input."""

import copy
import json
import pickle

import numpy as np
import pytest

import nnc
from nnc import NeuralNetwork, Standardize
from nnc.layers import GRU, LSTM, Bidirectional, Conv1D, Dense, Dropout, Flatten, Input, SimpleRNN

KINDS = SimpleRNN, GRU, LSTM


def build_network(kind, steps=12, features=3, units=9, n_out=2, dtype="float64", **arguments):
    return NeuralNetwork(
        [Input(steps=steps, features=features), kind(units, return_sequences=True), Dropout(0.1), kind(5), n_out],
        loss="mse",
        seed=0,
        dtype=dtype,
        **arguments,
    )


def random_sequences(net, n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, *net.model.input_shape)).astype(net.dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("features", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_equal_predict_of_each_prefix(kind, features, dtype):
    net = build_network(kind, features=features, dtype=dtype)
    (X,) = random_sequences(net, 1)
    stream = net.stream()
    for t, x in enumerate(X, 1):
        kinds = [layer.kind for layer in net.layers]
        prefix = NeuralNetwork([Input(steps=t, features=features), *kinds], loss="mse", dtype=dtype)
        prefix.params = net.params
        np.testing.assert_array_equal(stream.step(x), prefix.predict(X[None, :t])[0])


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_of_each_step_equal_predict_of_sequence(kind):
    layers = [Input(steps=20, features=2), kind(17, return_sequences=True), Dense(4, "relu"), 1]
    net = NeuralNetwork(layers, loss="mse", seed=0)
    (X,) = random_sequences(net, 1)
    stream = net.stream()
    outputs = [stream.step(x) for x in X]
    assert type(outputs[0]) is float
    np.testing.assert_array_equal(outputs, net.predict(X[None])[0, :, 0])


def test_scalings_apply_to_steps():
    net = build_network(GRU, scale_X="standardize", scale_y="standardize")
    X = 5 + 3 * random_sequences(net, 40)
    net.fit(X, 100 + X[:, -1, :2], epochs=3, optimizer="adam", lr=0.01)
    stream = net.stream()
    for x in X[0]:
        output = stream.step(x)
    np.testing.assert_array_equal(output, net.predict(X[:1])[0])


def test_target_scaling_applies_to_output_of_each_step():
    layers = [Input(steps=12, features=2), LSTM(5, return_sequences=True), 2]
    net = NeuralNetwork(layers, loss="mse", seed=0, scale_y="standardize")
    X = random_sequences(net, 40)
    net.fit(X, np.arange(12)[:, None] * X + [100, 0], epochs=3, optimizer="adam", lr=0.01)
    stream = net.stream()
    np.testing.assert_array_equal([stream.step(x) for x in X[0]], net.predict(X[:1])[0])


def test_reset_and_state_restore_former_outputs():
    net = build_network(LSTM, features=1)
    X = random_sequences(net, 1)[0, :, 0].tolist()
    stream = net.stream()
    first = [stream.step(x) for x in X[:6]]
    saved = stream.state
    assert [state.shape for state in saved] == [(9,), (9,), (5,), (5,)]
    rest = [stream.step(x) for x in X[6:]]
    stream.state = saved
    np.testing.assert_array_equal([stream.step(x) for x in X[6:]], rest)
    stream.reset()
    assert not any(state.any() for state in stream.state)
    np.testing.assert_array_equal([stream.step(x) for x in X[:6]], first)


def test_stream_keeps_parameters_of_its_creation():
    net = build_network(GRU)
    (X,) = random_sequences(net, 1)
    before, after = net.stream(), net.stream()
    net.params = net.params * 2
    np.testing.assert_array_equal(before.step(X[0]), after.step(X[0]))
    assert not np.array_equal(net.stream().step(X[1]), after.step(X[1]))


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([3, 4, 1], "requires a network with recurrent layers"),
        ([Input(steps=5, features=2), Bidirectional(GRU(3)), 1], "in their order, got Bidirectional"),
        ([Input(steps=5, features=2), GRU(3, go_backwards=True), 1], "in their order, got GRU"),
        ([Input(steps=5, features=2), GRU(3, return_sequences=True), Flatten(), 1], "single steps, got Flatten"),
        ([Input(steps=5, features=2), Conv1D(3, 2), Flatten(), 1], "requires a network with recurrent layers"),
    ],
)
def test_layers_that_need_whole_sequences_raise(layers, message):
    with pytest.raises(ValueError, match=message):
        NeuralNetwork(layers, loss="mse").stream()


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros(2), "x must have 3 numbers, one for each feature, got 2"),
        ([1.0, np.nan, 2.0], "x must be finite"),
        (1.0, "x must have 3 numbers, one for each feature, got 1"),
    ],
)
def test_bad_input_raises_and_keeps_state(x, message):
    stream = build_network(GRU).stream()
    stream.step(np.ones(3))
    before = stream.state
    with pytest.raises(ValueError, match=message):
        stream.step(x)
    for one, other in zip(before, stream.state, strict=True):
        np.testing.assert_array_equal(one, other)


def test_bad_state_raises():
    stream = build_network(GRU).stream()
    with pytest.raises(ValueError, match=r"state must be a list of arrays of shapes \[\(9,\), \(5,\)\]"):
        stream.state = [np.zeros(9)]
    with pytest.raises(ValueError, match="state must be finite"):
        stream.state = [np.zeros(9), np.full(5, np.inf)]
    with pytest.raises(TypeError, match="state must be a list of arrays"):
        stream.state = 0


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_stream_cannot_be_copied_or_pickled(duplicate):
    with pytest.raises(TypeError, match=r"call net.stream\(\) again"):
        duplicate(build_network(GRU).stream())


def test_scaling_without_fit_raises():
    with pytest.raises(ValueError, match="call fit first"):
        build_network(GRU, scale_X="standardize").stream()


def test_stream_is_public_class():
    assert isinstance(build_network(GRU).stream(), nnc.Stream)
    assert "3 features" in repr(build_network(GRU).stream())


def test_stream_refuses_scaling_that_varies_with_steps(tmp_path):
    net = NeuralNetwork([Input(steps=3, features=1), GRU(2), 1], loss="mse", seed=0, scale_X=Standardize(0, 1))
    document = json.loads(net.to_json())
    document["scale_X"]["shift"] = [0.0, 1.0, 2.0]
    del document["self_test"], document["sha256"]
    varying = nnc.from_json(json.dumps(document))
    with pytest.raises(ValueError, match=r"stream\(\) requires that scale_X is the same at all steps"):
        varying.stream()
    varying.to_c(tmp_path / "net.h")
    assert "net_reset(" not in (tmp_path / "net.h").read_text()
