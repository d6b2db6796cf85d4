"""Tests of truncated backpropagation through time: `fit` with truncate and warm_up."""

import re

import numpy as np
import pytest

import nnc
from nnc import NeuralNetwork
from nnc.layers import GRU, LSTM, Dense, Dropout, Input, SimpleRNN

pytestmark = pytest.mark.engine

FEATURES, OUTPUTS = 2, 3


def network(cell=GRU, steps=None, layers=None, **options):
    if layers is None:
        layers = [cell(5, return_sequences=True), cell(4, return_sequences=True), Dense(OUTPUTS)]
    options = {"loss": "mse", "seed": 3, **options}
    return NeuralNetwork([Input(steps=steps, features=FEATURES), *layers], **options)


def data(lengths, seed=0, labels=False):
    rng = np.random.default_rng(seed)
    X = [rng.normal(size=(length, FEATURES)) for length in lengths]
    if labels:
        return X, [rng.integers(0, OUTPUTS, length) for length in lengths]
    return X, [rng.normal(size=(length, OUTPUTS)) for length in lengths]


def flat(gradients):
    return np.concatenate([part.ravel() for pair in gradients for part in pair])


def chunks(lengths, truncate, warm_up, batch_size):
    """Yield the batches of an epoch: the start of the chunks, and the indices of the sequences."""
    for start in range(0, max(lengths) - warm_up, truncate - warm_up):
        rows = [i for i, length in enumerate(lengths) if length > start + warm_up]
        for first in range(0, len(rows), batch_size):
            yield start, rows[first : first + batch_size]


class StreamedChunks:
    """Definition of the loss of a batch of chunks, evaluated step by step with streams that begin with given states."""

    def __init__(self, net, X, y, truncate, warm_up):
        self.net, self.X, self.y, self.truncate, self.warm_up = net, X, y, truncate, warm_up
        self.states = {}

    def outputs(self, start, i, store=False):
        stream = self.net.stream()
        if start:
            stream.state = self.states[i]
        P = []
        for t, x in enumerate(self.X[i][start : start + self.truncate]):
            if store and t == self.truncate - self.warm_up:
                self.states[i] = stream.state
            P.append(np.atleast_1d(stream.step(x)))
        if store and len(P) == self.truncate - self.warm_up:
            self.states[i] = stream.state
        return np.array(P)

    def loss(self, start, rows, weights, store=False):
        total = count = 0
        for i in rows:
            errors = (self.outputs(start, i, store) - self.y[i][start : start + self.truncate])[self.warm_up :]
            total += weights[i] * (errors**2).sum()
            count += weights[i] * errors.size
        return total / count, count

    def gradient(self, start, rows, weights):
        params, gradient = self.net.params.copy(), np.zeros(self.net.n_params)
        for k, value in enumerate(params):
            step = 1e-6 * max(1, abs(value))
            losses = []
            for sign in (1, -1):
                changed = params.copy()
                changed[k] += sign * step
                self.net.params = changed
                losses.append(self.loss(start, rows, weights)[0])
            gradient[k] = (losses[0] - losses[1]) / (2 * step)
        self.net.params = params
        return gradient


@pytest.mark.sampled(5)
@pytest.mark.parametrize("cell", [SimpleRNN, GRU, LSTM])
@pytest.mark.parametrize(
    ("truncate", "warm_up", "batch_size", "lengths"),
    [(3, 0, None, (9, 9)), (4, 2, 2, (9, 5, 7)), (4, 3, 2, (6, 4, 5)), (5, 1, 2, (5, 5, 5))],
)
def test_steps_follow_numerical_gradients_of_chunks(cell, truncate, warm_up, batch_size, lengths):
    layers = [cell(2, return_sequences=True), cell(2, return_sequences=True), Dense(OUTPUTS)]
    X, y = data(lengths)
    weights, lr = np.linspace(0.5, 1.5, len(lengths)), 0.1
    net, expected = (network(layers=layers) for _ in range(2))
    options = {"truncate": truncate, "warm_up": warm_up, "batch_size": batch_size, "sample_weight": weights}
    history = net.fit(X, y, epochs=2, lr=lr, optimizer="sgd", **options)
    streamed = StreamedChunks(expected, X, y, truncate, warm_up)
    losses = []
    for _ in range(2):
        batches = []
        for start, rows in chunks(lengths, truncate, warm_up, batch_size or len(lengths)):
            gradient = streamed.gradient(start, rows, weights)
            batches.append(streamed.loss(start, rows, weights, store=True))
            expected.params = expected.params - lr * gradient
        losses.append(np.average([loss for loss, _ in batches], weights=[count for _, count in batches]))
    assert net.params == pytest.approx(expected.params, abs=1e-8)
    assert history.loss == pytest.approx(losses, rel=1e-8)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("cell", [SimpleRNN, GRU, LSTM])
def test_one_chunk_for_each_sequence_equals_ordinary_training(cell, dtype):
    lengths = (7, 3, 9, 9, 1)
    X, y = data(lengths)
    options = {"epochs": 3, "lr": 0.01, "optimizer": "adam", "batch_size": 5, "shuffle": False}
    truncated, whole = (network(cell, dtype=dtype) for _ in range(2))
    truncated.fit(X, y, truncate=9, **options)
    whole.fit(X, y, **options)
    assert truncated.params.tobytes() == whole.params.tobytes()


@pytest.mark.parametrize("loss", ["mse", "bce", "cross_entropy", "huber"])
@pytest.mark.parametrize("cell", [SimpleRNN, GRU, LSTM])
def test_epochs_of_adam_equal_pytorch(cell, loss):
    torch = pytest.importorskip("torch")
    steps, truncate, warm_up, n = 23, 8, 3, 5
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(n, steps, FEATURES)), rng.normal(size=(n, steps, OUTPUTS))
    if loss == "cross_entropy":
        y = rng.integers(0, OUTPUTS, (n, steps))
    elif loss == "bce":
        y = (y > 0).astype(float)
    output = {"bce": "sigmoid", "cross_entropy": "softmax"}.get(loss, "identity")
    layers = [cell(6, return_sequences=True), Dense(OUTPUTS, output)]
    net = network(layers=layers, loss=loss, steps=steps)
    module = net.to_torch()
    recurrent = next(part for part in module.modules() if isinstance(part, torch.nn.RNNBase))
    linear = next(part for part in module.modules() if isinstance(part, torch.nn.Linear))
    functions = {
        "mse": torch.nn.functional.mse_loss,
        "bce": torch.nn.functional.binary_cross_entropy_with_logits,
        "cross_entropy": lambda z, target: torch.nn.functional.cross_entropy(z.flatten(0, 1), target.flatten()),
        "huber": torch.nn.functional.huber_loss,
    }
    # PyTorch has a second bias, which nnc does not have; do not train it.
    if cell is not GRU:
        recurrent.bias_hh_l0.requires_grad = False
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01, eps=1e-8)
    batch_size, state = 2, {}
    for _ in range(3):
        for start, rows in chunks([steps] * n, truncate, warm_up, batch_size):
            inputs = torch.tensor(X[rows, start : start + truncate])
            initial = state[rows[0]] if start else None
            with torch.no_grad():
                _, carried = recurrent(inputs[:, : truncate - warm_up], initial)
            outputs, _ = recurrent(inputs, initial)
            target = torch.tensor(y[rows, start + warm_up : start + truncate])
            optimizer.zero_grad()
            functions[loss](linear(outputs)[:, warm_up:], target).backward()
            optimizer.step()
            state[rows[0]] = carried
    lengths = None if cell is GRU else np.full(n, steps)
    net.fit(
        X, y, epochs=3, lr=0.01, optimizer="adam", truncate=truncate, warm_up=warm_up, batch_size=batch_size,
        lengths=lengths,
    )  # fmt: skip
    expected = nnc.from_torch(module, (steps, FEATURES), loss=loss)
    assert np.abs(net.params - expected.params).max() < 1e-9


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_thread_count_does_not_change_bits(dtype):
    lengths = np.random.default_rng(2).integers(4, 40, 50)
    X, y = data(lengths)
    results = set()
    for n_threads in (1, 2, 3, 5):
        net = network(LSTM, dtype=dtype)
        net.fit(X, y, epochs=2, optimizer="adam", lr=0.01, truncate=6, warm_up=2, batch_size=40, n_threads=n_threads)
        results.add(net.params.tobytes())
    assert len(results) == 1


def test_array_list_and_fixed_number_of_steps_give_same_bits():
    lengths = (12, 7, 9)
    X, y = data(lengths)
    padded_X, padded_y = np.full((3, 12, FEATURES), np.nan), np.full((3, 12, OUTPUTS), np.nan)
    for i, length in enumerate(lengths):
        padded_X[i, :length], padded_y[i, :length] = X[i], y[i]
    options = {"epochs": 2, "lr": 0.01, "optimizer": "adam", "truncate": 5, "warm_up": 1, "batch_size": 2}
    results = []
    for steps, arrays in ((None, (X, y, None)), (12, (X, y, None)), (12, (padded_X, padded_y, lengths))):
        net = network(LSTM, steps)
        net.fit(*arrays[:2], lengths=arrays[2], **options)
        results.append(net.params.tobytes())
    assert len(set(results)) == 1


def test_fit_can_be_resumed_to_the_bit_and_followed(tmp_path):
    X, y = data((30,) * 6)
    options = {"optimizer": "adam", "lr": 0.01, "truncate": 7, "batch_size": 4, "dropout": 0.0, "clip_norm": 1.0}
    layers = [GRU(4, return_sequences=True, dropout=0.2), Dropout(0.1), Dense(OUTPUTS)]
    whole, resumed = (network(layers=layers) for _ in range(2))
    whole.fit(X, y, epochs=5, **options)
    resumed.fit(X, y, epochs=2, **options)
    resumed.save(tmp_path / "net.json", checkpoint=True)
    resumed = nnc.load(tmp_path / "net.json")
    history = resumed.fit(X, y, epochs=3, **options)
    assert resumed.params.tobytes() == whole.params.tobytes()
    assert history.settings["batch_size"] == 4
    validated, losses = network(layers=layers), []
    history = validated.fit(
        X[:4], y[:4], epochs=3, validation=(X[4:], y[4:]), metrics="r2", patience=10, restore_best="last",
        callback=lambda record: losses.append(record.network.evaluate_loss(X[4:], y[4:])), **options,
    )  # fmt: skip
    assert history.val_loss.tolist() == losses
    assert len(history.val_r2) == 3


@pytest.mark.parametrize("fit_options", [{"epochs": 30}, {"epochs": 40, "preset": "auto"}, {"max_seconds": 0.05}])
def test_automatic_settings_train_on_chunks(fit_options):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 24, FEATURES))
    y = np.cumsum(X, axis=1)[:, :, :1] * 0.2
    net = network(layers=[GRU(6, return_sequences=True), 1], scale_X="auto", scale_y="auto")
    before = net.evaluate_loss(X, y)
    net.fit(X, y, truncate=8, warm_up=2, **fit_options)
    assert net.evaluate_loss(X, y) < before


def test_many_networks_are_trained_on_chunks():
    X, y = data((20,) * 4)
    networks, single = [network(steps=20) for _ in range(2)], network(steps=20)
    options = {"epochs": 2, "lr": 0.01, "optimizer": "adam", "truncate": 6}
    nnc.fit_many(networks, np.array(X), np.array(y), **options)
    single.fit(np.array(X), np.array(y), **options)
    assert all(net.params.tobytes() == single.params.tobytes() for net in networks)


def test_learns_dependency_that_is_longer_than_a_chunk():
    # The target is the first input of the sequence, which a chunk sees only in the states of the previous chunks.
    rng = np.random.default_rng(0)
    X = np.zeros((64, 24, FEATURES))
    X[:, 0, 0] = rng.choice([-1.0, 1.0], 64)
    y = np.repeat(X[:, :1, :1], 24, axis=1)
    net = network(layers=[GRU(8, return_sequences=True), 1])
    net.fit(X, y, epochs=150, lr=0.01, optimizer="adam", truncate=4)
    assert net.evaluate_loss(X, y) < 0.01


SEQUENCE = GRU(4, return_sequences=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"truncate": 0}, "truncate must be 1 or more, got 0"),
        ({"truncate": 2.5}, "truncate must be a whole number, got 2.5"),
        ({"truncate": 4, "warm_up": 4}, "warm_up must be less than truncate=4, got 4"),
        ({"truncate": 4, "warm_up": -1}, "warm_up must be 0 or more, got -1"),
        ({"truncate": 11, "warm_up": 10}, "warm_up must be less than the number of steps of each sequence, got"),
    ],
)
def test_invalid_arguments_are_rejected_and_leave_the_network_unchanged(options, message):
    net = network(steps=10)
    before = net.params.tobytes()
    X = np.zeros((3, 10, FEATURES))
    y = np.zeros((3, *net.predict(X).shape[1:]))
    arguments = {"epochs": 1, "lr": 0.01, "optimizer": "adam", **options}
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        net.fit(X, y, **arguments)
    assert net.params.tobytes() == before
