"""Dropout of the inputs of recurrent layers: masks, gradients, threads, checkpoints, files and refused values."""

import json

import numpy as np
import pytest

import nnc
from nnc import NeuralNetwork
from nnc._utils.random import DROPOUT, mix
from nnc.layers import GRU, LSTM, Bidirectional, Dropout, Input, SimpleRNN

pytestmark = pytest.mark.engine

KINDS = SimpleRNN, GRU, LSTM


def build_network(*layers, dtype="float64"):
    return NeuralNetwork([Input(steps=5, features=3), *layers, 2], loss="mse", dtype=dtype, seed=3)


def random_data(n, seed=0):
    random = np.random.default_rng(seed)
    return random.normal(size=(n, 5, 3)), random.normal(size=(n, 2))


def hash_at(key, index):
    return mix((key + index * 0x9E3779B97F4A7C15) % 2**64)


def first_masks(net, n, rate):
    """Return the masks of the inputs of the first layer in the first training step: (n, features)."""
    key = hash_at(hash_at(hash_at(net.streams.key(DROPOUT), 0), len(net.layers)), 0)
    masks = np.empty((n, 3), net.dtype)
    for row, mask in enumerate(masks):
        net.model.core.dropout_mask(key, row, rate, mask)
    return masks


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("options", [{}, {"go_backwards": True}])
@pytest.mark.parametrize("kind", KINDS)
def test_step_with_dropout_equals_step_on_masked_inputs(kind, options, dtype):
    net, plain = (build_network(kind(9, dropout=rate, **options), dtype=dtype) for rate in (0.4, 0))
    X, Y = random_data(70)
    masks = first_masks(net, 70, 0.4)
    assert 0.2 < (masks == 0).mean() < 0.6
    np.testing.assert_array_equal(net.predict(X), plain.predict(X))
    masked = X.astype(dtype) * masks[:, None]
    assert net.train_step(X, Y, lr=0.1, optimizer="sgd") == plain.train_step(masked, Y, lr=0.1, optimizer="sgd")
    np.testing.assert_array_equal(net.params, plain.params)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_with_dropout_equal_numerical_derivatives(kind):
    layers = [Bidirectional(kind(4, return_sequences=True, dropout=0.5)), Dropout(0.2)]
    net = build_network(*layers, Bidirectional(kind(3, dropout=0.3)))
    net.params = np.random.default_rng(1).normal(size=net.n_params) * 0.5
    X, dP = random_data(6)

    def loss_and_params(params, lr=1.0):
        """Return sum(dP * P) of a first training step, with its dropout masks, and the parameters after the step."""
        other = net.copy()
        other.params = params
        return other.train_step(X, dP=dP, lr=lr, optimizer="sgd"), other.params

    params = net.params
    gradient, numerical = params - loss_and_params(params)[1], np.empty(net.n_params)
    for i in range(net.n_params):
        high, low = (loss_and_params(params + sign * 1e-5 * (np.arange(net.n_params) == i))[0] for sign in (1, -1))
        numerical[i] = (high - low) / 2e-5
    np.testing.assert_allclose(gradient, numerical, rtol=0, atol=1e-7 * abs(numerical).max())


@pytest.mark.parametrize("layer", [LSTM(4, dropout=0.3), Bidirectional(GRU(4, dropout=0.3))])
def test_training_with_dropout_has_same_bits_for_any_number_of_threads_and_after_resuming(tmp_path, layer):
    X, Y = random_data(100)
    options, params = {"batch_size": 40, "optimizer": "adam", "lr": 0.01, "clip_norm": 1.0}, []
    for n_threads in (1, 2, 3):
        net = build_network(layer)
        net.fit(X, Y, epochs=4, n_threads=n_threads, **options)
        params.append(net.params)
    net = build_network(layer)
    net.fit(X, Y, epochs=2, **options)
    net.save(tmp_path / "net.json", checkpoint=True)
    net = nnc.load(tmp_path / "net.json")
    net.fit(X, Y, epochs=2, **options)
    for other in (*params[1:], net.params):
        np.testing.assert_array_equal(other, params[0])
    without = build_network(layer.replace(dropout=0))
    without.fit(X, Y, epochs=4, **options)
    assert not np.array_equal(without.params, params[0])


def test_files_and_texts_contain_dropout_of_layer():
    net = build_network(Bidirectional(GRU(4, dropout=0.25)))
    assert repr(net.layers[0].kind) == "Bidirectional(GRU(4, dropout=0.25, bias=True))"
    assert "GRU, bidirectional, dropout 0.25" in net.summary()
    document = json.loads(net.to_json())
    assert document["layers"][1]["dropout"] == 0.25
    assert nnc.from_json(net.to_json()).layers[0].kind.dropout == 0.25
    assert "dropout" not in json.loads(build_network(GRU(4)).to_json())["layers"][1]
    document["layers"][1]["dropout"] = 1.0
    with pytest.raises(ValueError, match=r"layers\[1\].dropout is 1, expected a number of at least 0 and less than 1"):
        nnc.from_json(json.dumps(document))
    with pytest.raises(ValueError, match="dropout must be"):
        GRU(4, dropout=1)
    with pytest.raises(ValueError, match="a recurrent layer with dropout"):
        nnc.reference.NeuralNetwork([Input(steps=5, features=3), GRU(4, dropout=0.25), 2], loss="mse")
