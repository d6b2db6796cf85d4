"""Networks from Sequential models of Keras: supported models, rejected layers and verification."""

import os
from functools import partial
from importlib.util import find_spec

import numpy as np
import pytest

import nnc

if not find_spec("torch"):
    os.environ.setdefault("KERAS_BACKEND", "numpy")
    pytest.importorskip("jax")  # the NumPy backend of Keras computes convolutions with JAX
os.environ.setdefault("KERAS_BACKEND", "torch")
pytest.importorskip("keras")

import keras
from keras import layers

from nnc import NeuralNetwork
from nnc._interop import keras_models
from nnc._interop.program import METHODS
from nnc.layers import GRU, LSTM, Bidirectional, Conv1D, Dense, Dropout, Flatten, Input, Scale, SimpleRNN

rng = np.random.default_rng(0)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


def build_model(shape, *parts):
    """Return a Sequential model of these layers with random weights."""
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
    "batch norm": ((5,), [layers.Dense(4), layers.BatchNormalization(), layers.ELU(), layers.Dense(3)]),
    "batch norm at the end": ((5,), [layers.Dense(4), layers.BatchNormalization()]),
    "batch norm before the last activation": (
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
    "normalized by columns of images": (
        (3, 4, 2), [
            layers.Normalization(axis=(1, 3), mean=rng.normal(5, 2, (3, 2)), variance=rng.uniform(1, 4, (3, 2))),
            layers.Flatten(), layers.Dense(2),
        ],
    ),
    "pool with keepdims": (
        (6, 6, 2),
        [layers.Conv2D(3, 3), layers.GlobalAveragePooling2D(keepdims=True), layers.Flatten(), layers.Dense(2)],
    ),
    "exponential": ((5,), [layers.Dense(4, "selu"), layers.Dense(4, "silu"), layers.Dense(2, "exponential")]),
    "pools": (
        (6, 6),
        [
            layers.Reshape((6, 6, 1)), layers.Conv2D(3, 3, padding="same"),
            layers.MaxPooling2D(2, padding="same"), layers.GlobalAveragePooling2D(), layers.Dense(2),
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_network_from_keras_predicts_like_model(name):
    shape, parts = MODELS[name]
    model = build_model(shape, *parts)
    net = nnc.from_keras(model)
    X = rng.uniform(0, 255 if name == "images" else 1, (9, *shape)).astype("float32")
    assert net.dtype == np.float32
    assert np.abs(net.predict(X.reshape(9, *net.model.input_shape)) - keras.ops.convert_to_numpy(model(X))).max() < 2e-6
    assert net.loss_name == {"classes": "cross_entropy", "images": "cross_entropy", "every activation": "bce"}.get(
        name, "mse"
    )


def test_input_scaling_layers_become_scalings():
    layer = normalization(5)
    model = keras.Sequential([keras.Input((5,)), layer, layers.Dense(4, "relu"), layers.Dense(1)])
    net = nnc.from_keras(model)
    X = rng.normal(5, 2, (9, 5)).astype("float32")
    assert np.abs(net.predict(X) - keras.ops.convert_to_numpy(model(X))).max() < 2e-6
    assert "inputs scaled (standardize)" in net.summary()
    pixels = nnc.from_keras(build_model(*MODELS["images"][:1], *MODELS["images"][1]))
    assert "inputs scaled (pixels)" in pixels.summary()


REJECTED = {
    r"\(RNN\) must have a supported type, one of Dense, ": ((5, 2), [layers.RNN(layers.LSTMCell(3)), layers.Dense(1)]),
    r"\(Dense\) must have one of the activations sigmoid, .*, got 'leaky_relu'": (
        (5,),
        [layers.Dense(3, "leaky_relu")],
    ),
    r"\(Dense\) must have one of the activations sigmoid, .*, got 'softsign'": ((5,), [layers.Dense(3, "softsign")]),
    r"\(LeakyReLU\) must have negative_slope=0.01, got 0.3": ((5,), [layers.Dense(3), layers.LeakyReLU()]),
    r"\(ReLU\) must have max_value=None, got 6": ((5,), [layers.Dense(3), layers.ReLU(max_value=6)]),
    r"\(Conv2D\) must have dilation_rate=\(1, 1\), got \(2, 2\)": ((8, 8, 1), [layers.Conv2D(3, 2, dilation_rate=2)]),
    r"\(MaxPooling2D\) must have windows within images of the shape \(7, 7, 1\), got padding='same'": (
        (7, 7, 1),
        [layers.MaxPooling2D(2, padding="same")],
    ),
    r"the last layer of the model must be dense, got BatchNorm\(": (
        (5,),
        [layers.Dense(3, "relu"), layers.BatchNormalization()],
    ),
}


def add_dense_layers(*parts):
    """Return an input shape and `parts` between two dense layers."""
    return (5,), [layers.Dense(4), *parts, layers.Dense(2)]


def add_conv_layers(*parts):
    """Return an input shape and `parts` between a convolution and a dense layer."""
    return (8, 8, 2), [layers.Conv2D(4, 3), *parts, layers.Flatten(), layers.Dense(2)]


class DoubledDense(layers.Dense):
    def call(self, inputs):
        return 2 * super().call(inputs)


def set_attribute(layer, name, value):
    setattr(layer, name, value)
    return layer


REJECTED |= {
    rf"\(Dense\) must have one of the activations .*, got '{name}'": ((5,), [layers.Dense(4, name), layers.Dense(1)])
    for name in ("relu6", "hard_sigmoid", "log_softmax", "glu", "celu", "hard_silu", "threshold")
}
REJECTED |= {
    r"\(Activation\) must have one of the activations .*, got 'relu6'": add_dense_layers(layers.Activation("relu6")),
    r"\(Dense\) must have one of the activations .*, got '<lambda>'": ((5,), [layers.Dense(4, lambda x: 2 * x)]),
    r"\(Dense\) must have one of the activations .*, got functools.partial": (
        (5,),
        [layers.Dense(4, partial(keras.activations.gelu, approximate=True))],
    ),
    r"\(Dense\) must have one of the activations .*, got <ReLU": ((5,), [layers.Dense(4, layers.ReLU(max_value=1))]),
    r"\(DoubledDense\) must have a supported type, one of": ((5,), [DoubledDense(4)]),
    r"\(Dense\) must be keras.layers.Dense, got another class": ((5,), [type("Dense", (DoubledDense,), {})(4)]),
    r"\(ReLU\) must have the methods of its class, got replaced methods: call": add_dense_layers(
        set_attribute(layers.ReLU(), "call", lambda inputs: 2 * inputs)
    ),
    r"\(Sequential\) must have a supported type, one of": (
        (5,),
        [keras.Sequential([layers.Dense(4)]), layers.Dense(2)],
    ),
    r"\(Masking\) must have a supported type, one of": ((5, 2), [layers.Masking(), layers.Flatten(), layers.Dense(2)]),
    r"\(PReLU\) must have a supported type, one of": add_dense_layers(layers.PReLU()),
    r"\(BatchNormalization\) must have axis=-1, got axis=1": add_conv_layers(layers.BatchNormalization(axis=1)),
    r"\(BatchNormalization\) must have renorm=False, got True": add_dense_layers(
        layers.BatchNormalization(renorm=True)
    ),
    r"\(Normalization\) must have invert=False, got True": (
        (5,),
        [layers.Normalization(mean=[1.0] * 5, variance=[4.0] * 5, invert=True), layers.Dense(2)],
    ),
    r"\(Normalization\): variance must be at least 0": (
        (5,),
        [layers.Normalization(mean=[1.0] * 5, variance=[-1.0] * 5), layers.Dense(2)],
    ),
    r"\(Normalization\) must come before all layers with weights": add_dense_layers(
        layers.Normalization(mean=[1.0] * 4, variance=[4.0] * 4)
    ),
    r"\(Rescaling\): scale must not be 0": ((5,), [layers.Rescaling(0.0), layers.Dense(2)]),
    r"\(Rescaling\): operands could not be broadcast": ((5,), [layers.Rescaling([1.0, 2.0]), layers.Dense(2)]),
    r"\(Rescaling\) must be the only Rescaling or Normalization": (
        (5,),
        [layers.Rescaling(2.0), layers.Rescaling(2.0), layers.Dense(2)],
    ),
    r"\(Rescaling\) must come before all layers with weights": add_dense_layers(layers.Rescaling(2.0)),
    r"\(Reshape\) must come before all layers with weights": add_dense_layers(layers.Reshape((2, 2)), layers.Flatten()),
    r"\(Dense\) must have the dtype float32 or float64, got mixed_float16": (
        (5,),
        [layers.Dense(2, dtype="mixed_float16")],
    ),
    "model must have layers of one dtype, got float32, float64": (
        (5,),
        [layers.Dense(3), layers.Dense(2, dtype="float64")],
    ),
    "model must have dense inputs of the dtype float64, got": ((5,), [layers.Dense(2, dtype="float64")]),
    r"\(Conv2D\) must have data_format='channels_last', got": (
        (2, 8, 8),
        [layers.Conv2D(4, 3, data_format="channels_first"), layers.Flatten(), layers.Dense(2)],
    ),
    r"\(Conv2D\) must have groups=1, got 2": ((8, 8, 2), [layers.Conv2D(4, 3, groups=2)]),
    r"\(Flatten\) must have data_format='channels_last', got": (
        (8, 8, 2),
        [layers.Conv2D(4, 3), layers.Flatten(data_format="channels_first"), layers.Dense(2)],
    ),
    r"\(MaxPooling2D\) must have data_format='channels_last', got": add_conv_layers(
        layers.MaxPooling2D(2, data_format="channels_first")
    ),
    r"\(GlobalAveragePooling2D\) must have data_format='channels_last', got": add_conv_layers(
        layers.GlobalAveragePooling2D(data_format="channels_first")
    ),
    r"\(Dense\) must have vectors as inputs, got images of the shape \(1, 1, 4\)": (
        (8, 8, 2),
        [layers.Conv2D(4, 3), layers.GlobalAveragePooling2D(keepdims=True), layers.Dense(2)],
    ),
    r"\(Dense\) must have vectors as inputs, got images of the shape \(6, 6, 2\)": ((6, 6, 2), [layers.Dense(2)]),
    r"\(Activation\) must have vectors as inputs, got images": add_conv_layers(layers.Activation("softmax")),
    r"\(Softmax\) must have axis=-1, got 1": ((5,), [layers.Dense(3), layers.Softmax(axis=1)]),
    r"\(Softmax\) must be at the end of the model, but layer": add_dense_layers(layers.Softmax()),
    r"\(Dropout\) must have noise_shape=None, got": add_dense_layers(layers.Dropout(0.5, noise_shape=(None, 1))),
    r"\(Dropout\): rate must be at least 0 and less than 1": add_dense_layers(layers.Dropout(1.0)),
    r"\(GaussianNoise\) must have a supported type, one of": add_dense_layers(layers.GaussianNoise(0.1)),
    r"\(ELU\) must have alpha=1.0, got 0.5": add_dense_layers(layers.ELU(0.5)),
    r"\(ReLU\) must have negative_slope=0.0, got 0.1": add_dense_layers(layers.ReLU(negative_slope=0.1)),
    r"\(ReLU\) must have threshold=0.0, got 0.5": add_dense_layers(layers.ReLU(threshold=0.5)),
    r"rows of 1 to 3 dimensions, got \(2, 2, 2, 2\)": ((2, 2, 2, 2), [layers.Flatten(), layers.Dense(2)]),
    r"one input with a fixed shape except for the numbers of rows and steps, got \(None, None, None, 2\)": (
        (None, None, 2),
        [layers.Conv2D(3, 2), layers.GlobalAveragePooling2D(), layers.Dense(2)],
    ),
}


def add_recurrent_layers(*parts, n_out=2):
    """Return the shape of sequences, and `parts` before a dense layer."""
    return (6, 3), [*parts, layers.Dense(n_out)]


def bidirectional(layer, backward, **options):
    return layers.Bidirectional(layer, backward_layer=backward, **options)


REJECTED |= {
    r"\(GRU\) must have reset_after=True, got False": add_recurrent_layers(layers.GRU(4, reset_after=False)),
    r"\(LSTM\) must have recurrent_dropout=0, got 0.5": add_recurrent_layers(layers.LSTM(4, recurrent_dropout=0.5)),
    r"\(LSTM\) must have activation='tanh' and recurrent_activation='sigmoid', got 'relu' and 'sigmoid'": (
        add_recurrent_layers(layers.LSTM(4, activation="relu"))
    ),
    r"\(GRU\) must have activation='tanh' .*, got 'tanh' and 'relu'": add_recurrent_layers(
        layers.GRU(4, recurrent_activation="relu")
    ),
    r"\(SimpleRNN\) must have one of the activations .*, got 'softsign'": add_recurrent_layers(
        layers.SimpleRNN(4, "softsign")
    ),
    r"\(SimpleRNN\) must have an activation of hidden layers, got 'softmax'": add_recurrent_layers(
        layers.SimpleRNN(4, "softmax")
    ),
    r"\(Bidirectional\) must have merge_mode='concat', got 'sum'": add_recurrent_layers(
        layers.Bidirectional(layers.GRU(4), merge_mode="sum")
    ),
    r"\(Bidirectional\) must have forward and backward layers of one type with equal options, got \(SimpleRNN": (
        add_recurrent_layers(bidirectional(layers.SimpleRNN(4, "relu"), layers.SimpleRNN(4, go_backwards=True)))
    ),
    r"\(Bidirectional\) must have forward and .* got \(GRU\(4, .*, LSTM\(4, go_backwards=True": add_recurrent_layers(
        bidirectional(layers.GRU(4), layers.LSTM(4, go_backwards=True))
    ),
    r"\(Bidirectional\) must have forward and .* got \(GRU\(4, go_backwards=True, .*, GRU\(4, bias": (
        add_recurrent_layers(bidirectional(layers.GRU(4, go_backwards=True), layers.GRU(4)))
    ),
    r"\(Conv1D\) must have the steps in the order of the inputs, got the reverse order": add_recurrent_layers(
        layers.GRU(4, return_sequences=True, go_backwards=True), layers.Conv1D(3, 2), layers.Flatten()
    ),
    r"\(Bidirectional\) must process the steps in the order of the inputs": add_recurrent_layers(
        layers.GRU(4, return_sequences=True, go_backwards=True), layers.Bidirectional(layers.GRU(4))
    ),
    r"\(Bidirectional\) with layer forward_rnn \(RNN\) must have a supported type": add_recurrent_layers(
        layers.Bidirectional(layers.RNN(layers.GRUCell(4), name="rnn"))
    ),
    r"\(GRU\) must have the cell of its class, got Cell": add_recurrent_layers(
        set_attribute(layers.GRU(4), "cell", type("Cell", (layers.GRUCell,), {})(4))
    ),
    r"\(TimeDistributed\) must apply a Dense to each step of sequences, got layer .*\(Dropout\)": add_recurrent_layers(
        layers.LSTM(4, return_sequences=True), layers.TimeDistributed(layers.Dropout(0.5))
    ),
    r"\(Embedding\) must have a supported type": ((6,), [layers.Embedding(9, 4), layers.GRU(4), layers.Dense(2)]),
    "the outputs at each step must be in the order of the inputs, got the reverse order": add_recurrent_layers(
        layers.GRU(4, return_sequences=True, go_backwards=True)
    ),
}


@pytest.mark.parametrize("message", REJECTED)
def test_unsupported_layers_and_options_raise(message):
    shape, parts = REJECTED[message]
    with pytest.raises(ValueError, match=message):
        nnc.from_keras(build_model(shape, *parts))


def test_layers_and_models_without_input_shape_raise():
    with pytest.raises(TypeError, match="model must be a Sequential model of Keras, got Dense"):
        nnc.from_keras(layers.Dense(3))
    with pytest.raises(ValueError, match=r"call model.build first"):
        nnc.from_keras(keras.Sequential([layers.Dense(3)]))


def test_sequential_subclass_and_functional_model_raise():
    with pytest.raises(TypeError, match="model must be a Sequential model of Keras, got a subclass, Net"):
        nnc.from_keras(type("Net", (keras.Sequential,), {})([keras.Input((5,)), layers.Dense(3)]))
    inputs = keras.Input((5,))
    hidden = layers.Dense(4)(inputs)
    branched = keras.Model(inputs, layers.Add()([hidden, layers.ReLU()(hidden)]))
    with pytest.raises(TypeError, match="model must be a Sequential model of Keras, got Functional"):
        nnc.from_keras(branched)


def test_lora_and_quantized_layers_raise():
    model = build_model((5,), layers.Dense(3))
    model.layers[0].enable_lora(1)
    with pytest.raises(ValueError, match="lora_enabled=False, got True"):
        nnc.from_keras(model)
    model = build_model((5,), layers.Dense(3))
    model.quantize("int8")
    with pytest.raises(ValueError, match="must have the dtype float32 or float64, got int8_from_float32"):
        nnc.from_keras(model)


def test_model_with_replaced_method_raises():
    model = build_model((5,), layers.Dense(3))
    model.call = lambda inputs, training=None, mask=None: 2 * inputs
    with pytest.raises(ValueError, match="model must have the methods of its class, got replaced methods: call"):
        nnc.from_keras(model)


def test_compiled_and_fitted_model_is_read(tmp_path):
    if keras.backend.backend() == "numpy":
        pytest.skip("this backend does not train")
    model = build_model(
        (5,), layers.Dense(4), layers.BatchNormalization(), layers.ReLU(), layers.Dropout(0.5), layers.Dense(2)
    )
    model.compile("adam", "mse")
    model.fit(rng.normal(size=(20, 5)), rng.normal(size=(20, 2)), epochs=1, verbose=0)
    net = nnc.from_keras(model)
    model.save(tmp_path / "model.keras")
    restored = nnc.from_keras(keras.saving.load_model(tmp_path / "model.keras"))
    assert restored.params.tobytes() == net.params.tobytes()


def test_integer_inputs_raise():
    model = keras.Sequential([keras.Input((5,), dtype="uint8"), layers.Rescaling(1 / 255), layers.Dense(3)])
    with pytest.raises(ValueError, match=r"model must have dense inputs of the dtype float32, got .*uint8"):
        nnc.from_keras(model)


def test_rescaling_of_channels_needs_channels_last():
    model = keras.Sequential([keras.Input((2, 2, 2)), layers.Rescaling([1.0, 2.0]), layers.Flatten(), layers.Dense(3)])
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(ValueError, match=r"\(Rescaling\): scale must be one number if"):
            nnc.from_keras(model)
    finally:
        keras.config.set_image_data_format("channels_last")
    assert nnc.from_keras(model).sizes == (8, 3)


def test_batch_normalization_preserves_momentum_and_epsilon():
    shape, parts = add_dense_layers(layers.BatchNormalization(axis=1, momentum=0.75, epsilon=0.5), layers.ReLU())
    net = nnc.from_keras(build_model(shape, *parts))
    assert [(layer.kind.momentum, layer.kind.eps) for layer in net.layers[1:2]] == [(0.25, 0.5)]


# ------------------------------------------------------------------------------------------------ verification


def test_reading_does_not_change_model():
    shape, parts = add_dense_layers(layers.BatchNormalization(), layers.ReLU(), layers.Dropout(0.5, seed=1))
    model = build_model(shape, *parts)
    before = [keras.ops.convert_to_numpy(variable).copy() for variable in model.variables]
    nnc.from_keras(model)
    assert len(before) > 8  # more than the 8 arrays of weights and statistics: Dropout has a random state, too
    assert all(
        (keras.ops.convert_to_numpy(variable) == array).all()
        for variable, array in zip(model.variables, before, strict=True)
    )


def test_model_with_fixed_batch_size_is_read():
    model = keras.Sequential([keras.Input(batch_shape=(3, 5)), layers.Dense(2)])
    assert nnc.from_keras(model).sizes == (5, 2)


def test_float64_model_is_read():
    model = keras.Sequential([keras.Input((5,), dtype="float64"), layers.Dense(2, dtype="float64")])
    net = nnc.from_keras(model)
    # By default, JAX supports only arrays of float32.
    assert net.dtype == keras.ops.convert_to_numpy(model.layers[0].kernel).dtype


def test_verification_detects_changed_computation(monkeypatch):
    call = layers.ReLU.call
    # Checks of types and attributes reject subclasses, but cannot detect a change of the Keras class itself.
    monkeypatch.setattr(layers.ReLU, "call", lambda self, inputs: call(self, inputs) * 1.001)
    shape, parts = add_dense_layers(layers.ReLU())
    model = build_model(shape, *parts)
    with pytest.raises(
        ValueError, match=r"does not compute what model computes: the outputs .* differ by up to .*verify=False"
    ):
        nnc.from_keras(model)
    assert nnc.from_keras(model, verify=False).activations == ("relu", "identity")


def test_verification_includes_output_activation_of_loss():
    for loss in ("cross_entropy", "bce", "poisson", "hinge"):
        assert nnc.from_keras(build_model((5,), layers.Dense(3)), loss=loss).loss_name == loss


def test_loss_argument_sets_output_activation():
    net = nnc.from_keras(build_model((5,), layers.Dense(3)), loss="cross_entropy")
    assert net.activations == ("softmax",)


# ---------------------------------------------------------------------------------------------------------- sequences


@pytest.mark.parametrize("pool", [layers.GlobalMaxPooling1D, layers.GlobalAveragePooling1D, layers.Flatten])
def test_layers_of_sequences_are_read(pool):
    model = keras.Sequential(
        [
            keras.Input((12, 3)),
            layers.Conv1D(4, 3, padding="causal", dilation_rate=2, activation="tanh"),
            layers.MaxPooling1D(2),
            layers.ZeroPadding1D(1),
            layers.Conv1D(5, 2, strides=2, use_bias=False),
            layers.BatchNormalization(),
            layers.AveragePooling1D(2, strides=1),
            pool(),
            layers.Dense(2),
        ]
    )
    net = nnc.from_keras(model, verify=True)  # verify=True compares the outputs of both models
    assert net.layers[0].kind == Conv1D(4, 3, "tanh", padding="causal", dilation=2, bias=True)
    assert net.layers[0].shape_in == (12, 3)


ALL = {"return_sequences": True}
# Layers of Keras, and the layers of nnc that correspond to them before the last dense layer.
RECURRENT = {
    "cells": (
        [layers.SimpleRNN(4, "relu", **ALL), layers.LSTM(5, **ALL), layers.GRU(3)],
        [SimpleRNN(4, "relu", **ALL), LSTM(5, **ALL), GRU(3)],
    ),
    "backwards": (
        [layers.SimpleRNN(4, go_backwards=True, use_bias=False, dropout=0.25)],
        [SimpleRNN(4, go_backwards=True, bias=False, dropout=0.25)],
    ),
    "bidirectional": (
        [
            layers.Bidirectional(layers.LSTM(4, **ALL)), layers.Dropout(0.2),
            layers.Bidirectional(layers.GRU(2)),
        ],
        [Bidirectional(LSTM(4, **ALL)), Dropout(0.2), Bidirectional(GRU(2))],
    ),
    "dense layers of steps": (
        [layers.Dense(4), layers.GRU(3, **ALL), layers.TimeDistributed(layers.Dense(5, "relu"))],
        [Dense(4, "identity"), GRU(3, **ALL), Dense(5, "relu")],
    ),
    "flattened": ([layers.LSTM(4, **ALL), layers.Flatten()], [LSTM(4, **ALL), Flatten()]),
    # Keras returns the steps in the order of processing.
    "backwards twice": (
        [layers.GRU(4, go_backwards=True, **ALL), layers.LSTM(3, go_backwards=True, **ALL)],
        [GRU(4, go_backwards=True, **ALL), LSTM(3, **ALL)],
    ),
    "backwards, then in the same order": (
        [layers.GRU(4, go_backwards=True, **ALL), layers.Dense(5), layers.SimpleRNN(3)],
        [GRU(4, go_backwards=True, **ALL), Dense(5, "identity"), SimpleRNN(3, go_backwards=True)],
    ),
    "backwards and flattened": (
        [layers.GRU(4, go_backwards=True, **ALL), layers.Flatten()],
        [GRU(4, go_backwards=True, **ALL), Flatten()],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_layers_are_read(name):
    parts, kinds = RECURRENT[name]
    shape, parts = add_recurrent_layers(*parts)
    model = build_model(shape, *parts)
    net = nnc.from_keras(model)
    expected = NeuralNetwork([Input(steps=6, features=3), *kinds, Dense(2, "identity")], loss="mse")
    assert [layer.kind for layer in net.model.stack.layers] == [layer.kind for layer in expected.model.stack.layers]
    X = rng.normal(size=(9, 6, 3)).astype("float32")
    assert np.abs(net.predict(X) - keras.ops.convert_to_numpy(model(X))).max() < 2e-6
    Y = net.predict(X) + 1
    before = net.evaluate_loss(X, Y)
    net.fit(X, Y, epochs=5, lr=1e-3)
    assert net.evaluate_loss(X, Y) < before


@pytest.mark.parametrize("name", ["return_state", "stateful"])
def test_recurrent_layer_with_state_as_output_or_kept_state_raises(name):
    shape, parts = add_recurrent_layers(layers.GRU(4))
    model = build_model(shape, *parts)
    setattr(model.layers[0], name, True)
    with pytest.raises(ValueError, match=rf"\(GRU\) must have {name}=False, got True"):
        nnc.from_keras(model)


# ---------------------------------------------------------------------------------------------------------- to Keras


def test_every_operation_except_sorting_has_a_layer():
    assert {*METHODS.values()} - {*dir(keras_models.LayerBuilder)} == {"sort"}


def test_to_keras_predicts_like_network(exported, tmp_path):
    networks, X = exported
    if "sin" in networks["float32"].activations:
        return  # nnc.to_keras refuses this network, see test_combinations.py
    for dtype in ("float64", "float32") if keras.backend.backend() == "torch" else ("float32",):
        net, rows = networks[dtype], X.astype(dtype)
        model = nnc.to_keras(net)
        P = net.predict(rows)
        assert tuple(model.output_shape[1:]) == P.shape[1:]
        # In float32, Normalization rounds the means of inputs.
        tolerance = 1e-4 if dtype == "float32" and net.converter.scaling_X is not None else 2e-6
        outputs = keras.ops.convert_to_numpy(model(rows))
        assert np.abs(outputs - P).max() <= tolerance * max(1, np.abs(P).max())
    # Keras saves the means of a Normalization of float64 in float32, so only the model of float32 keeps its bits.
    model.save(tmp_path / "model.keras")
    assert np.array_equal(keras.ops.convert_to_numpy(keras.saving.load_model(tmp_path / "model.keras")(rows)), outputs)
    # to_keras turns Scale into a BatchNormalization of the inputs, so the model is not read back here.
    if any(isinstance(layer.kind, Scale) for layer in net.layers):
        return
    loaded = nnc.from_keras(model, verify=False)
    assert np.abs(loaded.predict(rows).reshape(P.shape) - outputs).max() <= tolerance * max(1, np.abs(P).max())
