"""Convolutions, pools and BatchNorm together with recurrent layers and Dense layers on sequences."""

import copy
import runpy

import numpy as np
import pytest

import nnc
from nnc import NeuralNetwork
from nnc.layers import (
    GRU,
    LSTM,
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
    SimpleRNN,
)

pytestmark = pytest.mark.engine

INPUT = Input(steps=13, features=3)
# stacks without the output layer; odd numbers of steps, channels and units
STACKS = {
    "conv, pool, gru": [Conv1D(5, 4, "tanh"), MaxPool1D(2), GRU(7)],
    "causal conv, lstm, dense": [
        Conv1D(4, 3, "relu", padding="causal", dilation=1),
        LSTM(5, return_sequences=True),
        Dense(3),
    ],
    "strided conv, both directions": [Conv1D(3, 3, "tanh", stride=2), Bidirectional(GRU(4, dropout=0.2))],
    "pool, rnn": [AvgPool1D(3, 2), SimpleRNN(6)],
    "conv, dense on steps": [Conv1D(6, 3), Dropout(0.2), Dense(4, "tanh"), Flatten()],
    "gru, global max": [GRU(5, return_sequences=True), Dropout(0.1), GlobalMaxPool1D()],
    "lstm, max, global mean": [LSTM(5, return_sequences=True), MaxPool1D(3, 2), GlobalAvgPool1D(), Dense(4, "tanh")],
    "gru, mean, gru": [
        GRU(4, return_sequences=True),
        AvgPool1D(2),
        Bidirectional(GRU(3, return_sequences=True)),
        Flatten(),
    ],
    "dense on steps, max": [Dense(5, "tanh"), MaxPool1D(4)],
    "conv, gru, pool": [Conv1D(5, 3), MaxPool1D(2), GRU(4, return_sequences=True), GlobalMaxPool1D(), Dropout(0.3)],
}
NORM_STACKS = {
    "conv, norm, gru": [Conv1D(5, 3, "sigmoid"), BatchNorm(), MaxPool1D(2), GRU(6)],
    "lstm, norm": [LSTM(5), BatchNorm(), Dense(4, "tanh")],
    "norm on both sides": [
        Conv1D(4, 3),
        BatchNorm("tanh"),
        GRU(5, return_sequences=True),
        GlobalAvgPool1D(),
        BatchNorm(),
    ],
}
ALL_STACKS = STACKS | NORM_STACKS
every_stack = pytest.mark.parametrize("name", ALL_STACKS)


def build_network(name, dtype="float64", seed=0, **arguments):
    layers = [INPUT, *ALL_STACKS[name], Dense(2)]
    return NeuralNetwork(layers, **{"loss": "mse", "activation": "tanh", "dtype": dtype, "seed": seed, **arguments})


def random_data(net, n, seed=0):
    random = np.random.default_rng(seed)
    return random.normal(size=(n, 13, 3)), random.normal(size=(n, *net.model.stack.output_shape))


def set_random_params(net):
    net.params = net.params + np.random.default_rng(5).normal(size=net.n_params) * 0.3


def loss_with_params(net, params, X, Y):
    """Return the loss of a training step, in which BatchNorm uses the statistics of the batch."""
    other = net.copy()
    other.params = params
    return other.train_step(X, Y, lr=1e-30, optimizer="sgd")


@pytest.mark.sampled(4)
@pytest.mark.parametrize("n", [1, 5, 37])
@every_stack
def test_gradients_equal_numerical_derivatives(name, n):
    net = build_network(name)
    if name in NORM_STACKS and n == 1:
        n = 2
    layers = [layer.kind for layer in net.layers if not isinstance(layer.kind, Dropout)]
    layers = [kind.replace(dropout=0) if kind.recurrent else kind for kind in layers]
    net = NeuralNetwork([INPUT, *layers], loss="mse", seed=0)
    set_random_params(net)
    X, Y = random_data(net, n)
    gradient = np.concatenate([part.ravel() for pair in net.gradients(X, Y) for part in pair])
    params, numerical = net.params, np.empty(net.n_params)
    for i in range(net.n_params):
        high, low = (loss_with_params(net, params + s * 1e-5 * (np.arange(len(params)) == i), X, Y) for s in (1, -1))
        numerical[i] = (high - low) / 2e-5
    np.testing.assert_allclose(gradient, numerical, rtol=0, atol=1e-7 * max(1, abs(numerical).max()))


def torch_outputs(net, X):
    """Return the outputs of the network, computed by PyTorch from its parameters."""
    torch = pytest.importorskip("torch")
    from test_recurrent import as_torch

    functional, values = torch.nn.functional, X
    for layer in net.layers:
        kind = layer.kind
        if isinstance(kind, Conv1D):
            kernel = torch.tensor(layer.kernel.transpose(2, 1, 0).copy())
            padding = (kind.size - 1) * (kind.padding == "causal")
            inputs = functional.pad(values.transpose(1, 2), (padding, 0))
            values = functional.conv1d(inputs, kernel, torch.tensor(layer.b), kind.stride).transpose(1, 2)
            values = {"tanh": torch.tanh, "relu": torch.relu}[kind.activation](values)
        elif isinstance(kind, (MaxPool1D, AvgPool1D)):
            pool = functional.max_pool1d if kind.is_max else functional.avg_pool1d
            values = pool(values.transpose(1, 2), kind.size, kind.stride).transpose(1, 2)
        elif isinstance(kind, GlobalMaxPool1D):
            values = values.amax(1)
        elif isinstance(kind, GlobalAvgPool1D):
            values = values.mean(1)
        elif not isinstance(kind, Dropout):
            values = as_torch(_OneLayer(layer))(values)
    return values


class _OneLayer:
    """A network of a single layer, for `as_torch`."""

    def __init__(self, layer):
        self.layers = [layer]


@pytest.mark.parametrize("name", STACKS)
def test_outputs_and_input_gradients_equal_pytorch(name):
    torch = pytest.importorskip("torch")
    net = build_network(name)
    set_random_params(net)
    X, Y = random_data(net, 21)
    inputs = torch.tensor(X, requires_grad=True)
    outputs = torch_outputs(net, inputs)
    np.testing.assert_allclose(net.predict(X), outputs.detach().numpy(), rtol=0, atol=1e-10)
    ((outputs - torch.tensor(Y)) ** 2).mean().backward()
    np.testing.assert_allclose(nnc.input_gradients(net, X, Y), inputs.grad.numpy(), rtol=0, atol=1e-10)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@every_stack
def test_training_has_same_bits_for_any_number_of_threads_and_after_resuming(tmp_path, name, dtype):
    params, histories = [], []
    for n_threads in (1, 2, 3, 5):
        net = build_network(name, dtype)
        X, Y = random_data(net, 75)
        options = {"batch_size": 38, "optimizer": "adam", "lr": 0.01, "clip_norm": 1.0}
        histories.append(net.fit(X, Y, epochs=4, validation=(X[:20], Y[:20]), n_threads=n_threads, **options).loss)
        params.append(net.params)
    net = build_network(name, dtype)
    net.fit(X, Y, epochs=2, **options)
    net.save(tmp_path / "net.json", checkpoint=True)
    net = nnc.load(tmp_path / "net.json")
    net.fit(X, Y, epochs=2, **options)
    for other in (*params[1:], net.params):
        np.testing.assert_array_equal(other, params[0])
    for other in histories[1:]:
        np.testing.assert_array_equal(other, histories[0])
    expected = net.predict(X)
    for n in (1, 2, 7, 31, 33):
        np.testing.assert_array_equal(net.predict(X[:n]), expected[:n])


@pytest.mark.sampled(3)
@every_stack
def test_plain_gradient_descent_and_custom_loss_give_same_parameters(name):
    networks = [build_network(name)]
    X, Y = random_data(networks[0], 50)
    if name not in NORM_STACKS and Y.ndim == 2:  # custom losses support neither BatchNorm nor outputs at each step
        networks.append(build_network(name, loss=lambda P, Y: (((P - Y) ** 2).mean(), 2 * (P - Y) / P.size)))
    results = []
    for net in networks:
        for n_threads in (1, 3):
            results.append(copy.deepcopy(net))
            results[-1].fit(X, Y, epochs=3, optimizer="sgd", lr=0.05, batch_size=20, n_threads=n_threads)
    for result in results:
        np.testing.assert_allclose(result.params, results[0].params, rtol=0, atol=1e-12)
        assert not np.array_equal(result.params, networks[0].params)


@every_stack
def test_frozen_layers_do_not_change_and_do_not_change_other_gradients(name):
    net = build_network(name)
    X, Y = random_data(net, 20)
    before = net.weights[0].copy()
    net.layers[0 if net.layers[0].kind.type != "avg_pool1d" else 1].trainable = False
    net.fit(X, Y, epochs=2, optimizer="adam", lr=0.01)
    np.testing.assert_array_equal(net.weights[0], before)


@pytest.mark.sampled(5)
@every_stack
def test_reference_and_gradient_check_agree(name):
    net = build_network(name)
    kinds = [layer.kind for layer in net.layers if not isinstance(layer.kind, Dropout)]
    kinds = [kind.replace(dropout=0, init=None) if kind.recurrent else kind for kind in kinds]
    X, Y = random_data(net, 4)
    comparison = nnc.compare([INPUT, *kinds], X, Y, epochs=2, loss="mse", lr=0.05, batch_size=2)
    assert comparison.predictions.relative < 1e-11
    net = NeuralNetwork([INPUT, *kinds], loss="mse", seed=1)
    set_random_params(net)
    assert nnc.check_gradients(net, X, Y).ok


@every_stack
def test_other_functions_accept_network(name):
    net = build_network(name)
    X, Y = random_data(net, 30)
    outputs = net.predict(X)
    assert [out.shape[1:] for out in net.forward(X)] == [
        layer.output_shape for layer in net.model.stack.parametric_layers
    ]
    np.testing.assert_array_equal(net.forward(X)[-1], outputs)
    dP = np.random.default_rng(1).normal(size=outputs.shape)
    J = net.jacobian(X).reshape(30, outputs[0].size, 39)
    expected = np.einsum("nk,nki->ni", dP.reshape(30, -1), J).reshape(30, 13, 3)
    np.testing.assert_allclose(net.vjp(X, dP)[1], expected, rtol=0, atol=1e-11)
    assert str(net.summary())
    assert net.to_svg()
    net.inspect()
    assert np.isfinite(net.train_step(X, Y, lr=0.01, optimizer="adam"))
    with net.stepper(optimizer="adam", lr=0.01) as step:
        assert np.isfinite(step(X, Y))
    networks = [copy.deepcopy(net), copy.deepcopy(net)]
    nnc.fit_many(networks, X, Y, epochs=2, lr=0.01)
    np.testing.assert_array_equal(networks[0].params, networks[1].params)
    if name not in ("causal conv, lstm, dense", "lstm, norm"):  # outputs of the other networks depend on later steps
        with pytest.raises(ValueError, match="stream"):
            net.stream()


@every_stack
def test_exports_compute_same_outputs(tmp_path, name):
    torch = pytest.importorskip("torch")
    net = build_network(name)
    X, Y = random_data(net, 10)
    net.fit(X, Y, epochs=2, optimizer="adam", lr=0.01)
    P = net.predict(X)
    net.to_python(tmp_path / "net.py")
    exported = runpy.run_path(str(tmp_path / "net.py"))
    outputs = np.array([exported["predict"](x.ravel().tolist()) for x in X])
    np.testing.assert_allclose(outputs.reshape(P.shape), P, rtol=0, atol=1e-12)
    module = net.to_torch().eval()
    inputs = torch.tensor(X)  # PyTorch's convolutions and pools expect the shape (n, features, steps)
    inputs = inputs.transpose(1, 2) if net.model.uses_lanes else inputs
    np.testing.assert_allclose(module(inputs).detach().numpy(), P, rtol=0, atol=1e-12)
    np.testing.assert_allclose(nnc.from_torch(module, shape=(13, 3)).predict(X), P, rtol=0, atol=1e-12)


def test_wrong_order_of_layers_is_refused():
    message = (
        "convolutions and BatchNorm of sequences must come before recurrent layers and before a Dense on sequences"
    )
    for layers in (
        [GRU(4, return_sequences=True), Conv1D(3, 3), Flatten()],
        [Dense(4), Conv1D(3, 3), Flatten()],
        [GRU(4, return_sequences=True), BatchNorm(), Flatten()],
        [Conv1D(3, 3), Dense(4), BatchNorm(), Flatten()],
    ):
        with pytest.raises(ValueError, match=message):
            NeuralNetwork([INPUT, *layers, 1], loss="mse")
    with pytest.raises(ValueError, match="must come after a layer with outputs to drop"):
        NeuralNetwork([INPUT, Conv1D(3, 3), GRU(2, return_sequences=True), Dropout(0.1), Flatten(), Dropout(0.1), 1])


def test_network_learns_position_independent_pattern():
    random = np.random.default_rng(0)
    X, y = random.normal(size=(400, 13, 3)), random.integers(2, size=400)
    X[np.arange(400), random.integers(13, size=400), 0] += 6 * (2 * y - 1)
    for name in ("conv, pool, gru", "gru, global max", "conv, norm, gru"):
        net = build_network(name, "float32", loss="cross_entropy")
        net.fit(X[:300], y[:300], epochs=60, batch_size=32, optimizer="adam", lr=0.01, clip_norm=1.0)
        assert net.score(X[300:], y[300:]) > 0.85
