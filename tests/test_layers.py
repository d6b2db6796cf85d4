"""Layer objects: equivalence to integers, activations, biases, Dropout, files, repr and errors."""

import copy
import json
import pickle

import numpy as np
import pytest
from layer_examples import EXAMPLES, layers_with

import nnc
from nnc import ModelFileError, NeuralNetwork
from nnc.layers import (
    CELLS,
    KINDS,
    AvgPool2D,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Input,
    MaxPool2D,
    layer_classes_by_type,
)
from nnc.layers.base import ParametricLayer

pytestmark = pytest.mark.engine

rng = np.random.default_rng(0)
X, Y = rng.uniform(-1, 1, (40, 3)), rng.uniform(0, 1, (40, 1))


def has_same_params(a, b):
    return a.params.tobytes() == b.params.tobytes()


def trained(layers, fit=None, **arguments):
    net = NeuralNetwork(layers, **{"loss": "mse", "seed": 3, **arguments})
    net.fit(X, Y, epochs=20, lr=0.1, **(fit or {}))
    return net


# ------------------------------------------------------------------------------------- integers and layer objects


@pytest.mark.parametrize(
    "layers",
    [
        [Input(3), Dense(4), Dense(5), Dense(1)],
        [3, Dense(4), 5, 1],
        (Input(3), 4, Dense(5), 1),
        iter([3, 4, 5, Dense(1)]),
        [np.int64(3), Dense(np.int32(4)), 5, 1],
    ],
)
def test_layer_objects_and_integers_give_same_network(layers):
    net, plain = (
        NeuralNetwork(layers, activation="tanh", seed=1),
        NeuralNetwork([3, 4, 5, 1], activation="tanh", seed=1),
    )
    assert has_same_params(net, plain)
    assert repr(net) == repr(plain)
    assert net.summary() == plain.summary()
    assert net.to_json() == plain.to_json()


def test_activation_can_be_set_per_layer():
    net = trained([3, Dense(4, "relu"), Dense(5), 1], activation="tanh")
    assert net.activations == ("relu", "tanh", "identity")
    assert has_same_params(net, trained([3, 4, 5, 1], activation=["relu", "tanh"]))
    assert NeuralNetwork([3, Dense(1, "tanh")]).activations == ("tanh",)


def test_initialization_can_be_set_per_layer():
    net = NeuralNetwork([3, Dense(400, init="zeros"), Dense(300, init="uniform"), 1], init="he_normal", seed=0)
    W = net.weights
    assert not W[0].any()
    assert W[1].min() >= 0
    assert net.biases[1].any()
    assert abs(W[2].std() - np.sqrt(2 / 300)) < 0.02
    W_relu = NeuralNetwork([3, Dense(400, "relu"), 1], seed=0).weights[0]
    assert abs(W_relu).max() <= np.sqrt(6 / 3)
    assert abs(W_relu).max() > np.sqrt(6 / 403)  # weights beyond Glorot's limit show that He's initialization is used


@pytest.mark.parametrize("biases", [(True, False, True), (False, True, False), (False, False, True)])
def test_bias_can_be_set_per_layer(biases, tmp_path):
    layers = [3, *(Dense(n, bias=bias) for n, bias in zip((4, 5, 1), biases, strict=True))]
    net = trained(layers, {"optimizer": "adam"}, activation="tanh")
    assert net.model.stack.bias == biases
    assert [b is not None for b in net.biases] == list(biases)
    assert [layer.b is not None for layer in net.layers] == list(biases)
    assert [db is not None for _, db in net.gradients(X, Y)] == list(biases)
    assert net.n_params == 12 + 20 + 5 + sum(n for n, bias in zip((4, 5, 1), biases, strict=True) if bias)
    assert nnc.check_gradients(net, X[:5], Y[:5]).ok
    net.explain_step(X[:1], Y[:1])
    net.inspect()
    net.params = net.params + 1
    with pytest.raises(ValueError, match=r"biases\[\d\] must be None for a layer without biases"):
        net.biases = [np.zeros(n) for n in (4, 5, 1)]
    net.biases = [None if b is None else b + 1 for b in net.biases]
    net.save(tmp_path / "net.json", checkpoint=True)
    assert json.loads((tmp_path / "net.json").read_text())["version"] == 2
    for restored in (NeuralNetwork.load(tmp_path / "net.json"), net.copy(), pickle.loads(pickle.dumps(net))):
        assert restored.model.stack.bias == biases
        assert restored.predict(X).tobytes() == net.predict(X).tobytes()
        assert repr(restored) == repr(net)
    other = net.copy()
    for network in (net, other):
        network.fit(X, Y, epochs=5)
    assert has_same_params(net, other)


def test_network_with_equal_bias_in_all_layers_has_version_1():
    assert NeuralNetwork([3, Dense(4, bias=False), Dense(1, bias=False)]).model.stack.bias is False
    net = NeuralNetwork([3, Dense(4, bias=False), Dense(1, bias=False)], seed=0)
    assert net.to_json() == NeuralNetwork([3, 4, 1], bias=False, seed=0).to_json()
    assert json.loads(net.to_json())["version"] == 1
    assert len(net.biases) == 0


def test_load_rejects_mixed_biases_in_version_1():
    document = json.loads(NeuralNetwork([3, Dense(4, bias=False), 1], seed=0).to_json())
    del document["sha256"]
    assert nnc.from_json(json.dumps(document)).model.stack.bias == (False, True)
    with pytest.raises(ModelFileError, match="must both be null or both be arrays"):
        nnc.from_json(json.dumps({**document, "version": 1}))


# ------------------------------------------------------------------------------------------------- Dropout


@pytest.mark.parametrize("rates", [(0.3, None), (None, 0.5), (0.2, 0.4), (0.0, 0.1)])
def test_dropout_layers_train_like_dropout_argument(rates):
    layers = [3]
    for n, rate in zip((8, 6), rates, strict=True):
        layers += [n] if rate is None else [n, Dropout(rate)]
    net = trained([*layers, 1], {"optimizer": "adam", "batch_size": 7}, activation="tanh")
    fractions = [rate or 0.0 for rate in rates]
    plain = trained([3, 8, 6, 1], {"optimizer": "adam", "batch_size": 7, "dropout": fractions}, activation="tanh")
    assert has_same_params(net, plain)
    assert net.predict(X).tobytes() == plain.predict(X).tobytes()


def test_dropout_appears_only_in_layers_of_network():
    net = NeuralNetwork([3, 8, Dropout(0.2), 6, 1], seed=0)
    assert net.sizes == (3, 8, 6, 1)
    assert len(net.weights) == len(net.biases) == len(net.activations) == len(net.forward(X)) == 3
    assert [layer.name for layer in net.layers if layer.kind != Dropout(0.2)][:-1] == [
        "Hidden Layer 1",
        "Hidden Layer 2",
    ]
    names = ["Hidden Layer 1", "Dropout of Hidden Layer 1", "Hidden Layer 2", "Output Layer"]
    assert [layer.name for layer in net.layers] == names
    assert net.layers[-1].n_out == 1
    dropout = net.layers[1]
    assert (dropout.n_in, dropout.n_out, dropout.kind) == (8, 8, Dropout(0.2))
    assert repr(dropout) == "<Dropout of Hidden Layer 1: 8 -> 8, Dropout(0.2)>"
    with pytest.raises(AttributeError, match=r"Dropout of Hidden Layer 1 \(Dropout\(0.2\)\) has no weights"):
        _ = dropout.W
    assert net.summary().splitlines()[2] == "Dropout of Hidden Layer 1  8       8        drops 0.2   0"


def test_train_step_applies_dropout():
    net, plain = (NeuralNetwork(layers, seed=0) for layers in ([3, 8, Dropout(0.5), 1], [3, 8, 1]))
    assert has_same_params(net, plain)
    net.train_step(X, Y, lr=0.1)
    plain.fit(X, Y, epochs=1, lr=0.1, dropout=0.5)
    assert has_same_params(net, plain)


@pytest.mark.parametrize("checkpoint", [False, True])
def test_files_preserve_dropout(checkpoint):
    net = trained([3, 8, Dropout(0.2), 6, 1])
    text = net.to_json(checkpoint=checkpoint)
    document = json.loads(text)
    assert document["version"] == 1
    assert document["dropout"] == [0.2, None]
    restored = nnc.from_json(text)
    assert repr(restored) == repr(net)
    if checkpoint:
        for network in (net, restored):
            network.fit(X, Y, epochs=5, lr=0.001)
        assert has_same_params(net, restored)
    # Dropout does not change predictions. The checksum covers it, so both are removed.
    without = {key: value for key, value in document.items() if key not in ("dropout", "sha256")}
    assert nnc.from_json(json.dumps(without)).predict(X).tobytes() == nnc.from_json(text).predict(X).tobytes()


def test_file_without_dropout_has_no_dropout_key():
    assert "dropout" not in json.loads(NeuralNetwork([3, 4, 1]).to_json())


@pytest.mark.parametrize(
    ("dropout", "problem"),
    [
        (0.2, "dropout is 0.2, expected a list of 1, one item for each hidden layer"),
        ([0.1, 0.2], "dropout is a list of 2, expected a list of 1, one item for each hidden layer"),
        ([1], r"dropout\[0\] is 1, expected null or a number from 0 to below 1"),
        ([-0.5], r"dropout\[0\] is -0.5, expected null"),
        (["0.5"], r'dropout\[0\] is "0.5", expected a finite number'),
        ([True], r"dropout\[0\] is true, expected a finite number"),
    ],
)
def test_load_rejects_invalid_dropout(dropout, problem):
    document = json.loads(NeuralNetwork([3, 4, 1]).to_json())
    with pytest.raises(ModelFileError, match=problem):
        nnc.from_json(json.dumps({**document, "dropout": dropout}))


# ------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("layers", "arguments", "error", "message"),
    [
        ([Dense(3), 1], {}, ValueError, r"layers must begin with the input, a number or Input\(n\), got Dense\(3\)"),
        ([3, Input(3), 1], {}, ValueError, r"layers\[1\] must not be an Input"),
        ([3, Dropout(0.2), 4, 1], {}, ValueError, r"layers\[1\] .* got Dropout\(0.2\) after Input\(3\)"),
        ([3, 4, Dropout(0.2), Dropout(0.1), 1], {}, ValueError, r"layers\[3\] .* got Dropout\(0.1\) after Drop"),
        ([3, 4, Dropout(0.2)], {}, ValueError, r"layers must end with a Dense, the output layer, got Dropout"),
        ([3, Dense, 1], {}, TypeError, r"layers\[1\] must be an object such as Dense\(4\), got the class itself"),
        ([3, "relu", 1], {}, ValueError, "layers must be a sequence"),
        ([Input(3)], {}, ValueError, "layers must be a sequence"),
        ([3, Dense(1, "tanh")], {"output": "sigmoid"}, ValueError, "output must not be set if the last layer has"),
        ([3, Dense(1, "tanh")], {"loss": "bce"}, ValueError, 'output must be "sigmoid" for loss "bce", got "tanh"'),
        ([3, Dense(4, "softmax"), 2], {}, ValueError, 'activation "softmax" is possible only for the output layer'),
        ([3, 4, 1], {"activation": ["relu", "tanh"]}, ValueError, r"one name per hidden layer \(here 1\), got 2"),
    ],
)
def test_invalid_sequences_of_layers_raise(layers, arguments, error, message):
    with pytest.raises(error, match=message):
        NeuralNetwork(layers, **arguments)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Dense(0), ValueError, "n must be 1 or more, got 0"),
        (lambda: Dense(2.5), TypeError, "n must be a whole number, got 2.5"),
        (lambda: Dense(4, "tahn"), ValueError, "activation must be one of sigmoid, .*got 'tahn'"),
        (lambda: Dense(4, bias=1), TypeError, "bias must be True or False, got 1"),
        (lambda: Dense(4, init="xavier"), ValueError, "init must be one of uniform, .*got 'xavier'"),
        (lambda: Dropout(1), ValueError, "rate must be at least 0 and less than 1, got 1"),
        (lambda: Dropout("0.5"), TypeError, "rate must be a number, got '0.5'"),
        (lambda: Input(True), TypeError, "n must be a whole number, got True"),
        (lambda: Dense(), TypeError, "missing required argument"),
    ],
)
def test_invalid_layer_arguments_raise(make, error, message):
    with pytest.raises(error, match=message):
        make()


# ---------------------------------------------------------------------------------------------- layer objects


def test_layers_are_immutable_and_compare_by_value():
    layer = Dense(4, "tanh", bias=False)
    assert repr(layer) == "Dense(4, activation='tanh', bias=False)"
    assert eval(repr(layer)) == layer
    assert layer == Dense(4, "tanh", bias=False) != Dense(4, "tanh")
    assert len({layer, Dense(4, "tanh", bias=False), Dropout(0.2), Dropout(0.2), Input(4)}) == 3
    assert pickle.loads(pickle.dumps(layer)) == copy.copy(layer) == layer
    with pytest.raises(AttributeError):
        layer.n = 5


def test_layer_object_can_be_used_in_several_networks():
    layer = Dense(4, init="zeros")
    a, b = NeuralNetwork([3, layer, layer, 1], activation="relu"), NeuralNetwork([5, layer, 1])
    assert a.activations[:2] == ("relu", "relu")
    assert b.activations[0] == "sigmoid"
    assert layer.activation is None
    a.weights[0][...] = 1
    assert not a.weights[1].any()
    assert not b.weights[0].any()


def test_repr_evaluates_to_same_network():
    net = NeuralNetwork([Input(3), Dense(4, "relu", bias=False), Dropout(0.2), 1], loss="mse", seed=5)
    restored = eval(repr(net))
    assert repr(restored) == repr(net)
    assert restored.activations == net.activations
    assert restored.model.stack.bias == net.model.stack.bias == (False, True)


def test_examples_include_each_layer_class():
    assert {type(kind) for kind, _ in EXAMPLES} == set(layer_classes_by_type().values())
    assert {*KINDS, *CELLS} - {"recurrent"} <= set(layer_classes_by_type())


@pytest.mark.parametrize(("kind", "input_shape"), EXAMPLES, ids=[repr(kind) for kind, _ in EXAMPLES])
def test_layer_document_and_arrays_are_consistent(kind, input_shape):
    """The document of a layer gives an equal layer, and its arrays have the shapes of the engine's arrays."""
    document = kind.to_dict(input_shape)
    assert next(iter(document)) == "type"
    assert json.loads(json.dumps(document)) == document
    shapes = [array.shape for array in kind.parameter_arrays(input_shape)]
    assert bool(shapes) == isinstance(kind, ParametricLayer)
    if shapes:
        output_shape, net = kind.output_shape(input_shape), NeuralNetwork(layers_with(kind, input_shape))
        *_, layer, last = net.model.stack.parametric_layers
        assert (layer.output_shape, last.input_shape) == (output_shape, (int(np.prod(output_shape)),))
        assert [part.shape for part in net.model.parts()[-2 - len(shapes) : -2]] == shapes
        names = ("W", "b", *(array.name for array in kind.statistics(input_shape)))
        document |= dict(zip(names, net.model.lists()[-2], strict=True))
    assert kind.n_params(input_shape) == sum(np.prod(shape) for shape in shapes)
    assert type(kind).check_document(document, "layers[0]") == document
    assert type(kind).from_dict(document) == kind
    for invalid in ({**document, "x": 1}, {key: value for key, value in document.items() if key != list(document)[-1]}):
        with pytest.raises(ValueError, match=r"layers\[0\]"):
            type(kind).check_document(invalid, "layers[0]")
    assert eval(repr(kind), {name: getattr(nnc.layers, name) for name in nnc.layers.__all__}) == kind
    engine = kind.engine_description(input_shape)
    assert engine is None or engine["kind"] in KINDS


@pytest.mark.parametrize(
    ("kind", "input_shape"),
    [(kind, shape) for kind, shape in EXAMPLES if isinstance(kind, ParametricLayer) and not kind.recurrent],
    ids=repr,
)
def test_training_of_layer_agrees_with_reference(kind, input_shape):
    """The gradient matches numerical derivatives, and a training gives the same weights as the plain Python code."""
    rng = np.random.default_rng(0)
    X, y = rng.uniform(-1, 1, (8, *input_shape)), rng.uniform(-1, 1, (8, 2))
    assert nnc.check_gradients(NeuralNetwork(layers_with(kind, input_shape), loss="mse", seed=0), X, y).ok
    result = nnc.compare(layers_with(kind, input_shape), X, y, loss="mse", seed=0, epochs=3, lr=0.1, verbose=False)
    assert result.losses.relative < 1e-11
    assert result.weights.absolute < 1e-11


TOO_LARGE = [2**31, 2**63, 2**64, 10**400, np.uint64(2**63)]


@pytest.mark.parametrize("value", TOO_LARGE, ids=lambda value: f"{float(min(value, 10**300)):.3g}")
@pytest.mark.parametrize(
    "make",
    [
        lambda n: Dense(n),
        lambda n: Input(n),
        lambda n: Input(4, n),
        lambda n: Input(4, 4, n),
        lambda n: Conv2D(n, 3),
        lambda n: Conv2D(2, n),
        lambda n: Conv2D(2, (3, n)),
        lambda n: Conv2D(2, 3, stride=n),
        lambda n: MaxPool2D(n),
        lambda n: MaxPool2D(2, n),
        lambda n: AvgPool2D(2, (1, n)),
    ],
)
def test_sizes_beyond_limit_of_files_raise(make, value):
    with pytest.raises(ValueError, match=r"^\w+ must be 2147483647 or less, got "):
        make(value)


@pytest.mark.parametrize("stride", [9, 20, 2**31 - 1])
@pytest.mark.parametrize(
    "layer",
    [
        lambda stride: Conv2D(2, 3, stride=stride),
        lambda stride: Conv2D(2, 3, stride=(stride, 1), padding="same"),
        lambda stride: Conv2D(2, 3, stride=(1, stride), padding="same"),
        lambda stride: MaxPool2D(2, stride),
        lambda stride: AvgPool2D((2, 3), (1, stride)),
    ],
)
def test_stride_beyond_image_equals_stride_of_image_size(layer, stride):
    """A larger stride has the same result as a stride of the size of the image."""
    images = np.random.default_rng(0).random((5, 9, 9))
    networks = [NeuralNetwork([Input(9, 9), layer(s), Flatten(), 2], loss="cross_entropy", seed=0) for s in (9, stride)]
    for net in networks:
        net.fit(images, [0, 1, 0, 1, 0], epochs=3, lr=0.1)
    assert np.array_equal(networks[0].params, networks[1].params)
    assert np.array_equal(networks[0].predict(images), networks[1].predict(images))
    assert nnc.from_json(networks[1].to_json()).layers[0].kind == networks[1].layers[0].kind
