"""Streams: outputs of each step against predict, states, bad input."""

import copy
import json
import pickle

import numpy as np
import pytest

import nnc
from nnc import NeuralNetwork, Standardize
from nnc.layers import (
    GRU,
    LSTM,
    BatchNorm,
    Bidirectional,
    Conv1D,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool1D,
    Input,
    MaxPool1D,
    SimpleRNN,
)

pytestmark = pytest.mark.engine

KINDS = SimpleRNN, GRU, LSTM


def build_network(kind, steps=12, features=3, units=9, n_out=2, dtype="float64", **arguments):
    return NeuralNetwork(
        [Input(steps=steps, features=features), kind(units, return_sequences=True), Dropout(0.1), kind(5), n_out],
        loss="mse",
        seed=0,
        dtype=dtype,
        **arguments,
    )


def causal(filters, size, activation="tanh", **options):
    return Conv1D(filters, size, activation, padding="causal", **options)


def randomize(net, seed=0):
    """Set random parameters, and random running statistics of BatchNorm."""
    rng = np.random.default_rng(seed)
    net.params = rng.normal(scale=0.5, size=net.n_params)
    net.model.assign_statistics(
        [[rng.uniform(0.5, 2, size=view.shape) for view in views] for views in net.model.statistics]
    )
    return net


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


CAUSAL_STACKS = {
    "one": [causal(5, 3, "relu")],
    "temporal convolutional network": [causal(9, 3, dilation=d) for d in (1, 2, 4, 8)],
    "window longer than the sequences": [causal(3, 6, dilation=8), causal(17, 2, "relu", dilation=3)],
    "single steps": [causal(4, 1), causal(5, 1, "relu", dilation=2), causal(3, 2, bias=False)],
    "BatchNorm": [causal(7, 4, "identity", bias=False), BatchNorm("relu"), causal(5, 3), Dropout(0.5), BatchNorm()],
    "before recurrent layers": [
        causal(8, 5, dilation=2),
        LSTM(9, return_sequences=True),
        GRU(4, return_sequences=True),
    ],
}


@pytest.mark.sampled(5)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("features", [1, 3, 16])
@pytest.mark.parametrize("layers", CAUSAL_STACKS.values(), ids=CAUSAL_STACKS)
def test_outputs_of_causal_convolutions_equal_predict(layers, features, dtype):
    layers = [*layers, Dense(6, "relu"), 2]
    net = randomize(NeuralNetwork([Input(steps=24, features=features), *layers], loss="mse", seed=0, dtype=dtype))
    longer = NeuralNetwork([Input(steps=48, features=features), *layers], loss="mse", dtype=dtype)
    randomize(longer)
    (X,) = random_sequences(longer, 1)
    stream = net.stream()
    outputs = [stream.step(x) for x in X]
    np.testing.assert_array_equal(outputs, longer.predict(X[None])[0])
    np.testing.assert_array_equal(outputs[:24], net.predict(X[None, :24])[0])
    stream.reset()
    np.testing.assert_array_equal([stream.step(x) for x in X], outputs)


@pytest.mark.parametrize("seed", range(12))
def test_outputs_of_random_causal_networks_equal_predict(seed):
    rng = np.random.default_rng(seed)
    features, dtype = int(rng.integers(1, 20)), ["float32", "float64"][seed % 2]
    layers = []
    for _ in range(rng.integers(1, 5)):
        size, dilation = int(rng.integers(1, 8)), int(rng.choice([1, 2, 3, 4, 6]))
        activation = str(rng.choice(["identity", "relu", "tanh", "gelu", "sigmoid"]))
        layers.append(causal(int(rng.integers(1, 40)), size, activation, dilation=dilation, bias=bool(rng.integers(2))))
        if rng.integers(3) == 0:
            layers.append(BatchNorm("tanh"))
    for _ in range(rng.integers(3)):
        layers.append(KINDS[rng.integers(3)](int(rng.integers(1, 20)), return_sequences=True))
    net = NeuralNetwork(
        [Input(steps=36, features=features), *layers, int(rng.integers(1, 5))],
        loss="mse",
        seed=seed,
        dtype=dtype,
        scale_X=Standardize(0.5, 2),
        scale_y=Standardize(-1, 3),
    )
    randomize(net, seed)
    (X,) = random_sequences(net, 1)
    stream = net.stream()
    outputs = np.array([stream.step(x) for x in X])
    np.testing.assert_array_equal(outputs.reshape(36, -1), net.predict(X[None])[0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_last_state_after_convolution_equals_predict_of_each_prefix(dtype):
    layers = [causal(7, 3, dilation=2), GRU(5, return_sequences=True), LSTM(4), Dense(4, "identity"), BatchNorm(), 2]
    net = randomize(NeuralNetwork([Input(steps=12, features=3), *layers], loss="mse", seed=0, dtype=dtype))
    (X,) = random_sequences(net, 1)
    stream = net.stream()
    for t, x in enumerate(X, 1):
        output = stream.step(x)
        if t % 2 == 0:
            prefix = NeuralNetwork([Input(steps=t, features=3), *layers], loss="mse", dtype=dtype)
            np.testing.assert_array_equal(output, randomize(prefix).predict(X[None, :t])[0])


def test_state_of_convolution_contains_its_last_inputs():
    layers = [Input(steps=12, features=2), causal(3, 3, dilation=2), causal(4, 1), causal(5, 2), LSTM(6), 1]
    net = randomize(NeuralNetwork(layers, loss="mse", seed=0))
    (X,) = random_sequences(net, 1)
    stream, other = net.stream(), net.stream()
    assert [state.shape for state in stream.state] == [(4, 2), (1, 4), (6,), (6,)]
    for x in X[:7]:
        stream.step(x)
    np.testing.assert_array_equal(stream.state[0], X[3:7])
    other.state = stream.state
    np.testing.assert_array_equal([other.step(x) for x in X[7:]], [stream.step(x) for x in X[7:]])
    with pytest.raises(ValueError, match=r"state must be a list of arrays of shapes \[\(4, 2\), \(1, 4\), "):
        other.state = [np.zeros((2, 4)), *other.state[1:]]
    before = stream.state
    with pytest.raises(ValueError, match="x must be finite"):
        stream.step([1, np.inf])
    for one, another in zip(before, stream.state, strict=True):
        np.testing.assert_array_equal(one, another)
    # The property `state` copies its values, so only the core shows what happens to them.
    values = [*before]
    for one, another in zip(stream._core.states(values), before, strict=True):
        np.testing.assert_array_equal(one, another)
    assert len(values) == len(before)
    stream.reset()
    assert not any(state.any() for state in stream.state)


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
        ([3, 4, 1], "requires a network with recurrent layers or causal convolutions"),
        ([Input(steps=5, features=2), Dense(3), 1], "requires a network with recurrent layers or causal convolutions"),
        ([Input(steps=5, features=2), Bidirectional(GRU(3)), 1], "in their order, got Bidirectional"),
        ([Input(steps=5, features=2), GRU(3, go_backwards=True), 1], "in their order, got GRU"),
        ([Input(steps=5, features=2), GRU(3, return_sequences=True), Flatten(), 1], "single steps, got Flatten"),
        ([Input(steps=5, features=2), Conv1D(3, 2), Dense(1)], "got padding='valid' and stride=1"),
        ([Input(steps=5, features=2), Conv1D(3, 2, padding="same"), Dense(1)], "got padding='same' and stride=1"),
        ([Input(steps=5, features=2), Conv1D(3, 2, padding=1), Dense(1)], "got padding=1 and stride=1"),
        ([Input(steps=6, features=2), causal(3, 2, stride=2), Dense(1)], "got padding='causal' and stride=2"),
        ([Input(steps=6, features=2), causal(3, 2), MaxPool1D(2), Dense(1)], r"single steps, got MaxPool1D\(2\)"),
        ([Input(steps=6, features=2), causal(3, 2), GlobalAvgPool1D(), 1], "single steps, got GlobalAvgPool1D"),
        ([Input(steps=6, features=2), causal(3, 2), Flatten(), 1], "single steps, got Flatten"),
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
