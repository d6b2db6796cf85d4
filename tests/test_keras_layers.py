"""Networks from Keras' Sequential models."""

import os
from importlib.util import find_spec

import numpy as np
import pytest

from nnc import NeuralNetwork

if not find_spec("torch"):
    os.environ.setdefault("KERAS_BACKEND", "numpy")
    pytest.importorskip("jax")  # where that takes convolutions from
os.environ.setdefault("KERAS_BACKEND", "torch")
pytest.importorskip("keras")

import keras
from keras import layers

rng = np.random.default_rng(0)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


def trained(shape, *parts):
    model = keras.Sequential([keras.Input(shape), *parts])
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, part.shape) for part in layer.get_weights()])
        elif not isinstance(layer, layers.Normalization):
            layer.set_weights([rng.normal(0, 0.3, part.shape) for part in layer.get_weights()])
    return model


def normalization(n):
    layer = layers.Normalization(mean=rng.normal(5, 2, n), variance=rng.uniform(1, 4, n))
    layer.build((None, n))
    return layer


MODELS = {
    "dense": ((5,), [layers.Dense(4, "relu"), layers.Dropout(0.2), layers.Dense(3)]),
    "classes": ((5,), [layers.Dense(4, "swish", use_bias=False), layers.Dense(3), layers.Softmax()]),
    "every activation": (
        (5,),
        [layers.Dense(4, name) for name in ("sigmoid", "tanh", "elu", "softplus", "linear", "silu", "relu")]
        + [layers.Dense(4), layers.Activation("tanh"), layers.Dense(4), layers.LeakyReLU(negative_slope=0.01)]
        + [layers.Dense(4), layers.ReLU(), layers.Dense(1, "sigmoid")],
    ),
    "normed": ((5,), [layers.Dense(4), layers.BatchNormalization(), layers.ELU(), layers.Dense(3)]),
    "normed at the end": ((5,), [layers.Dense(4), layers.BatchNormalization()]),
    "normed before the last activation": (
        (5,), [layers.Dense(4), layers.BatchNormalization(), layers.Activation("tanh")],
    ),
    "images": (
        (8, 7, 2),
        [
            layers.Rescaling(1 / 255), layers.Conv2D(3, (3, 2), padding="same", strides=(2, 1), activation="relu"),
            layers.MaxPooling2D((2, 1)), layers.Conv2D(4, 2), layers.BatchNormalization(scale=False),
            layers.Activation("tanh"), layers.AveragePooling2D((1, 2), strides=1), layers.Flatten(),
            layers.Dense(3, "softmax"),
        ],
    ),
    "pools": (
        (6, 6),
        [
            layers.Reshape((6, 6, 1)), layers.Conv2D(3, 3, padding="same"),
            layers.MaxPooling2D(2, padding="same"), layers.GlobalAveragePooling2D(), layers.Dense(2),
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_models(name):
    shape, parts = MODELS[name]
    model = trained(shape, *parts)
    net = NeuralNetwork.from_keras(model)
    X = rng.uniform(0, 255 if name == "images" else 1, (9, *shape)).astype("float32")
    assert net.dtype == np.float32
    assert np.abs(net.predict(X.reshape(9, *net.model.shape)) - keras.ops.convert_to_numpy(model(X))).max() < 2e-6
    assert net.loss_name == {"classes": "cross_entropy", "images": "cross_entropy", "every activation": "bce"}.get(
        name, "mse"
    )


def test_inputs_that_are_scaled():
    layer = normalization(5)
    model = keras.Sequential([keras.Input((5,)), layer, layers.Dense(4, "relu"), layers.Dense(1)])
    net = NeuralNetwork.from_keras(model)
    X = rng.normal(5, 2, (9, 5)).astype("float32")
    assert np.abs(net.predict(X) - keras.ops.convert_to_numpy(model(X))).max() < 2e-6
    assert "inputs scaled (standardize)" in net.summary()
    pixels = NeuralNetwork.from_keras(trained(*MODELS["images"][:1], *MODELS["images"][1]))
    assert "inputs scaled (pixels)" in pixels.summary()


REFUSED = {
    r"\(LSTM\) is none that nnc has": ((5, 2), [layers.LSTM(3), layers.Dense(1)]),
    r"\(Dense\) has the activation 'leaky_relu', which nnc has not": ((5,), [layers.Dense(3, "leaky_relu")]),
    r"\(Dense\): the activation 'softsign' is none that nnc has": ((5,), [layers.Dense(3, "softsign")]),
    r"\(LeakyReLU\) has negative_slope=0.3": ((5,), [layers.Dense(3), layers.LeakyReLU()]),
    r"\(ReLU\) has max_value=6": ((5,), [layers.Dense(3), layers.ReLU(max_value=6)]),
    r"\(Conv2D\) has dilation_rate=\(2, 2\)": ((8, 8, 1), [layers.Conv2D(3, 2, dilation_rate=2)]),
    r"\(MaxPooling2D\) has padding='same'": ((7, 7, 1), [layers.MaxPooling2D(2, padding="same")]),
    r"the last layer must be dense, got BatchNorm\(": ((5,), [layers.Dense(3, "relu"), layers.BatchNormalization()]),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_nnc_has_not(message):
    shape, parts = REFUSED[message]
    with pytest.raises(ValueError, match=message):
        NeuralNetwork.from_keras(trained(shape, *parts))


def test_what_is_no_model():
    with pytest.raises(TypeError, match="model must be a Sequential model of Keras, got Dense"):
        NeuralNetwork.from_keras(layers.Dense(3))
    with pytest.raises(ValueError, match=r"call model.build first"):
        NeuralNetwork.from_keras(keras.Sequential([layers.Dense(3)]))


def test_a_loss():
    net = NeuralNetwork.from_keras(trained((5,), layers.Dense(3)), loss="cross_entropy")
    assert net.activations == ("softmax",)
