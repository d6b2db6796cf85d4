"""Tests of convolutions and pools of sequences of different lengths.

Each sequence has the same outputs, to the bit, as in a network for its number of steps, and the gradient of a batch is
the weighted sum of the gradients of its sequences.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numerical import numerical_derivative
from sequences import flat, padded_sequences
from strategies import examples

import nnc
from nnc import NeuralNetwork
from nnc.layers import (
    GRU,
    AvgPool1D,
    BatchNorm,
    Bidirectional,
    Conv1D,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool1D,
    GlobalMaxPool1D,
    Input,
    MaxPool1D,
)

pytestmark = pytest.mark.engine

STEPS, FEATURES, ROWS = 16, 3, 37
NETWORKS = {
    "causal, each step": [Conv1D(4, 3, "tanh", padding="causal"), GRU(5, return_sequences=True), Dense(2)],
    "same, each step": [Conv1D(4, 3, "tanh", padding="same"), Conv1D(3, 5, padding="same"), GRU(3, True), Dense(2)],
    "dilated": [
        Conv1D(4, 3, "relu", padding="causal"),
        Conv1D(4, 2, "gelu", padding="causal", dilation=2),
        Conv1D(4, 2, padding="causal", dilation=4),
        GlobalAvgPool1D(),
        2,
    ],
    "strides": [Conv1D(5, 3, "relu", stride=2, padding=1), Conv1D(4, 2, "tanh", stride=2, padding="causal"), GRU(4), 2],
    "valid and pools": [Conv1D(6, 3, "relu"), MaxPool1D(2), Dropout(0.0), Bidirectional(GRU(3)), Dense(2)],
    "overlapping pools": [Conv1D(6, 2, "sigmoid"), AvgPool1D(3, 1), MaxPool1D(3, 2), GRU(3), Dense(2)],
    "global maximum": [Conv1D(6, 3, "tanh", padding="same"), GlobalMaxPool1D(), Dense(5, "relu"), Dense(2)],
    "pools of states": [GRU(4, True), AvgPool1D(2), GRU(3, return_sequences=True), GlobalMaxPool1D(), 2],
    "mean of states": [Bidirectional(GRU(4, return_sequences=True)), GlobalAvgPool1D(), Dense(2)],
}
SHORTEST = 6  # each network has an output for sequences of this many steps


def network(layers, steps=STEPS, **options):
    return NeuralNetwork([Input(steps=steps, features=FEATURES), *layers], **{"loss": "mse", "seed": 1, **options})


def data(at_each_step, n=ROWS, dtype="float64", seed=0, multiple=1):
    """Return random sequences with NaN beyond their lengths, targets, and the lengths."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(-(-SHORTEST // multiple), STEPS // multiple + 1, n) * multiple
    return *padded_sequences(rng, lengths, STEPS, FEATURES, at_each_step, dtype), lengths


@pytest.mark.sampled(5)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", NETWORKS)
def test_padded_batch_gives_same_bits_as_single_sequences(name, dtype):
    layers, at_each_step = NETWORKS[name], "each step" in name
    net = network(layers, dtype=dtype)
    X, y, lengths = data(at_each_step, dtype=dtype, multiple=4 if name == "dilated" else 1)
    P, dX = net.predict(X, lengths=lengths), nnc.input_gradients(net, X, y, lengths=lengths)
    outputs = net.forward(X, lengths=lengths)
    weights = lengths / lengths.sum() if at_each_step else np.full(ROWS, 1 / ROWS)
    losses, gradients = np.zeros(ROWS), np.zeros((ROWS, net.n_params))
    for i, length in enumerate(lengths):
        single = network(layers, int(length), dtype=dtype)
        single.params = net.params
        x, target = X[i : i + 1, :length], y[i : i + 1, :length] if at_each_step else y[i : i + 1]
        assert single.predict(x)[0].tobytes() == (P[i, :length] if at_each_step else P[i]).tobytes()
        for output, expected in zip(outputs, single.forward(x), strict=True):
            rows = output[i].reshape(-1, output.shape[-1])
            count = expected[0].size // output.shape[-1]
            assert rows[:count].tobytes() == expected[0].reshape(count, -1).tobytes()
            assert not rows[count:].any()
        losses[i], gradients[i] = single.evaluate_loss(x, target), flat(single.gradients(x, target))
        assert dX[i, :length] == pytest.approx(weights[i] * nnc.input_gradients(single, x, target)[0], abs=1e-6)
        assert not dX[i, length:].any()
    rel = 1e-12 if dtype == "float64" else 2e-5
    assert net.evaluate_loss(X, y, lengths=lengths) == pytest.approx(weights @ losses, rel=rel)
    expected = weights @ gradients
    assert flat(net.gradients(X, y, lengths=lengths)) == pytest.approx(expected, rel=0, abs=rel * abs(expected).max())


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", NETWORKS)
def test_training_gives_same_bits_for_any_number_of_threads_and_padding(name):
    layers, at_each_step = NETWORKS[name], "each step" in name
    X, y, lengths = data(at_each_step, n=150, multiple=4 if name == "dilated" else 1)
    padded = np.where(np.isnan(X), 7.0, X)
    fitted = []
    for threads, rows in ((1, X), (2, X), (3, padded), (5, X)):
        net = network(layers)
        net.fit(rows, y, lengths=lengths, epochs=3, batch_size=50, optimizer="adam", lr=0.01, n_threads=threads)
        fitted.append(net.params.tobytes())
    assert len(set(fitted)) == 1


@given(seed=st.integers(0, 1000), channels=st.integers(1, 20), size=st.integers(1, 5), stride=st.integers(1, 3),
       pool=st.sampled_from([None, MaxPool1D(2), AvgPool1D(2), MaxPool1D(3, 1)]),
       end=st.sampled_from([GRU(2), GlobalAvgPool1D(), GlobalMaxPool1D()]), n=st.integers(1, 40),
       padding=st.sampled_from(["valid", "causal"]))  # fmt: skip
@settings(deadline=None, max_examples=examples(25))
def test_gradient_is_sum_of_gradients_of_single_sequences(seed, channels, size, stride, pool, end, n, padding):
    layers = [Conv1D(channels, size, "tanh", stride=stride, padding=padding), *([pool] if pool else []), end, 2]
    rng = np.random.default_rng(seed)
    lengths = rng.integers(size + 2 * stride, 22, n)
    lists, y = [rng.normal(size=(length, FEATURES)) for length in lengths], rng.normal(size=(n, 2))
    net = network(layers, 21)
    total = 0.0
    for x, target, p in zip(lists, y, net.predict(lists), strict=True):
        single = network(layers, len(x))
        single.params = net.params
        assert single.predict(x[None])[0].tobytes() == p.tobytes()
        total = total + flat(single.gradients(x[None], target[None])) / n
    assert flat(net.gradients(lists, y)) == pytest.approx(total, rel=0, abs=1e-13 * max(1, abs(total).max()))


@pytest.mark.parametrize("name", ["causal, each step", "valid and pools", "dilated", "global maximum"])
def test_numerical_derivative_matches_gradient(name):
    net = network(NETWORKS[name])
    X, y, lengths = data("each step" in name, n=9, multiple=4 if name == "dilated" else 1)
    params, actual = net.params.copy(), flat(net.gradients(X, y, lengths=lengths))

    def loss_at(values):
        net.params = values
        return net.evaluate_loss(X, y, lengths=lengths)

    expected = numerical_derivative(loss_at, params)
    assert actual == pytest.approx(expected, rel=0, abs=1e-7 * abs(expected).max())


def test_steps_lists_validation_and_files_agree(tmp_path):
    X, y, lengths = data(at_each_step=False, n=60)
    lists = [row[:length] for row, length in zip(X, lengths, strict=True)]
    net, other = network(NETWORKS["valid and pools"]), network(NETWORKS["valid and pools"])
    options = {"epochs": 2, "lr": 0.1, "batch_size": 20, "shuffle": False, "validation": (lists[:10], y[:10])}
    history = net.fit(X, y, lengths=lengths, **options)
    for epoch in range(2):
        for first in range(0, 60, 20):
            other.train_step(lists[first : first + 20], y[first : first + 20], 0.1)
        assert history.val_loss[epoch] == other.evaluate_loss(lists[:10], y[:10])
    assert net.params.tobytes() == other.params.tobytes()
    net.save(tmp_path / "net.json")
    assert nnc.load(tmp_path / "net.json").predict(lists).tobytes() == net.predict(X, lengths=lengths).tobytes()


@pytest.mark.parametrize(
    ("layers", "length", "message"),
    [
        ([Conv1D(2, 5), GRU(2), 1], 4, "got a window of 5 steps for sequences of 4 steps"),
        ([Conv1D(2, 3), MaxPool1D(4), GRU(2), 1], 5, "got a window of 4 steps for sequences of 3 steps"),
        ([Conv1D(2, 3, stride=2, padding="same"), GRU(2), 1], 9, "zeros before a sequence would depend on its length"),
        ([Conv1D(2, 3), Flatten(), 1], 9, "does not support shorter sequences"),
        ([Conv1D(2, 3), BatchNorm(), GRU(2), 1], 9, "does not support shorter sequences"),
        ([Conv1D(2, 3), GRU(2, return_sequences=True), Dense(1)], 9, "must keep the number of steps"),
    ],
)
def test_unsupported_lengths_are_refused(layers, length, message):
    X = [np.zeros((STEPS, FEATURES)), np.zeros((length, FEATURES))]
    with pytest.raises(ValueError, match=message):
        network(layers).predict(X)
