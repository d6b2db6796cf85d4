"""Files of image networks: content, round trips to the same bits, and errors for invalid files."""

import copy
import json
import pickle
import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

import nnc
from nnc import ModelFileError, NeuralNetwork, _serialization
from nnc.layers import AvgPool2D, Conv2D, Dense, Dropout, Flatten, GlobalAvgPool2D, Input, MaxPool2D

rng = np.random.default_rng(0)
X = rng.uniform(0, 1, (20, 8, 7, 2))
LABELS = np.array(["one", "three", "two", "two"] * 5)
LAYERS = [
    Input(8, 7, 2),
    Conv2D(3, (3, 2), "relu", bias=False),
    Dropout(0.2),
    MaxPool2D(2, stride=(1, 2)),
    Conv2D(4, 3, stride=(2, 1), padding="same"),
    AvgPool2D((2, 1)),
    Flatten(),
    Dense(6),
    Dropout(0.1),
    3,
]


def network(layers=LAYERS, **arguments):
    settings = {"activation": "tanh", "loss": "cross_entropy", "seed": 3, "scale_X": "standardize"}
    net = NeuralNetwork(layers, **{**settings, **arguments})
    net.fit(X, LABELS, epochs=3, optimizer="adam", batch_size=6, lr=0.01)
    return net


def document(checkpoint=False, **arguments):
    return json.loads(network(**arguments).to_json(checkpoint))


def without_checksum(doc):
    return json.dumps({key: value for key, value in doc.items() if key != "sha256"})


# ------------------------------------------------------------------------------------------------ file content


def test_file_describes_each_layer():
    doc = document()
    assert doc["version"] == 2
    assert "dropout" not in doc
    settings = [{key: value for key, value in layer.items() if key not in "Wb"} for layer in doc["layers"]]
    assert settings == [
        {"type": "input", "shape": [8, 7, 2]},
        {"type": "conv2d", "filters": 3, "size": [3, 2], "stride": [1, 1], "padding": "valid", "activation": "relu"},
        {"type": "dropout", "rate": 0.2},
        {"type": "max_pool2d", "size": [2, 2], "stride": [1, 2]},
        {"type": "conv2d", "filters": 4, "size": [3, 3], "stride": [2, 1], "padding": "same", "activation": "tanh"},
        {"type": "avg_pool2d", "size": [2, 1], "stride": [2, 1]},
        {"type": "flatten"},
        {"type": "dense", "n_in": 12, "n_out": 6, "activation": "tanh"},
        {"type": "dropout", "rate": 0.1},
        {"type": "dense", "n_in": 6, "n_out": 3, "activation": "softmax"},
    ]
    first, second = doc["layers"][1], doc["layers"][4]
    assert (np.shape(first["W"]), first["b"]) == ((12, 3), None)
    assert (np.shape(second["W"]), np.shape(second["b"])) == ((27, 4), (4,))
    assert len(doc["self_test"]["X"]) == 112
    assert list(doc["layers"][4])[-2:] == ["W", "b"]


def test_rows_of_W_in_file_are_ordered_by_y_x_and_channel():
    net = network()
    kernel, W = net.layers[0].kernel, document()["layers"][1]["W"]
    assert kernel.shape == (3, 2, 2, 3)
    assert [list(kernel[ky, kx, c]) for ky in range(3) for kx in range(2) for c in range(2)] == W


def test_network_without_input_layer_is_written_in_version_1():
    net = NeuralNetwork([3, Dense(4), Dropout(0.5), 2], seed=0)
    doc = json.loads(net.to_json())
    assert (doc["version"], doc["dropout"]) == (1, [0.5])
    assert [layer["type"] for layer in doc["layers"]] == ["dense", "dense"]
    assert json.loads(NeuralNetwork([3, Dense(4, bias=False), 2], seed=0).to_json())["version"] == 2


# ------------------------------------------------------------------------------------------------------ round trips


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("method", ["file", "json", "copy", "deepcopy", "pickle"])
def test_round_trip_preserves_bits_and_training_state(dtype, method, tmp_path):
    net = network(dtype=dtype)
    if method == "file":
        net.save(tmp_path / "net.json", checkpoint=True)
        restored = NeuralNetwork.load(tmp_path / "net.json")
    else:
        methods = {
            "json": lambda net: nnc.from_json(net.to_json(checkpoint=True)),
            "copy": lambda net: net.copy(),
            "deepcopy": copy.deepcopy,
            "pickle": lambda net: pickle.loads(pickle.dumps(net)),
        }
        restored = methods[method](net)
    assert restored.to_json(checkpoint=True) == net.to_json(checkpoint=True)
    assert repr(restored) == repr(net)
    # The loaded network has no preset, because files omit it.
    lines = [line for line in net.summary().splitlines() if not line.startswith("preset ")]
    assert [line for line in restored.summary().splitlines() if not line.startswith("preset ")] == lines
    assert restored.predict(X).tobytes() == net.predict(X).tobytes()
    assert restored.model.stack == net.model.stack
    for n in (net, restored):
        n.fit(X, LABELS, epochs=2, lr=0.001, batch_size=6)
    assert np.array_equal(restored.params, net.params)
    restored.weights[0][...] = 0
    assert net.weights[0].any()


@pytest.mark.parametrize("optimizer", ["momentum", "adamw", "rprop", "lbfgs"])
def test_fit_resumed_from_checkpoint_reaches_same_bits(optimizer):
    net = NeuralNetwork(
        [Input(8, 7, 2), Conv2D(3, 3, "relu"), GlobalAvgPool2D(), 3], loss="cross_entropy", seed=1, dtype="float32"
    )
    net.fit(X, LABELS, epochs=3, optimizer=optimizer)
    restored = nnc.from_json(net.to_json(checkpoint=True))
    assert restored.model.stack == net.model.stack
    for n in (net, restored):
        n.fit(X, LABELS, epochs=2)
    assert np.array_equal(restored.params, net.params)
    assert np.array_equal(restored.history.loss, net.history.loss)


PAIRS_OF_SIZES = st.tuples(st.integers(1, 3), st.integers(1, 3))
IMAGE_LAYERS = st.one_of(
    st.builds(
        Conv2D,
        st.integers(1, 3),
        PAIRS_OF_SIZES,
        st.sampled_from([None, "relu", "tanh"]),
        stride=PAIRS_OF_SIZES,
        padding=st.sampled_from(["valid", "same"]),
        bias=st.sampled_from([None, True, False]),
    ),
    st.builds(MaxPool2D, PAIRS_OF_SIZES, st.none() | PAIRS_OF_SIZES),
    st.builds(AvgPool2D, PAIRS_OF_SIZES, st.none() | PAIRS_OF_SIZES),
    st.builds(GlobalAvgPool2D),
    st.builds(Dropout, st.floats(0, 0.9)),
)


@given(
    st.builds(Input, st.integers(1, 9), st.integers(1, 9), st.integers(1, 3)),
    st.lists(IMAGE_LAYERS, max_size=5),
    st.lists(st.integers(1, 4), max_size=2),
    st.booleans(),
)
def test_file_and_repr_round_trip_for_random_layers(input_layer, image_layers, widths, bias):
    try:
        net = NeuralNetwork([input_layer, *image_layers, *widths, 2], loss="mse", activation="elu", bias=bias, seed=0)
    except ValueError:  # a window does not fit into its image, or a Dropout follows the input
        reject()
    restored = nnc.from_json(net.to_json())
    assert restored.model.stack == net.model.stack
    assert restored.to_json() == net.to_json()
    evaluated = eval(repr(net))
    assert repr(evaluated) == repr(restored) == repr(net)
    assert evaluated.model.stack.engine_layers() == net.model.stack.engine_layers()


def test_repr_of_pools_is_unchanged_by_round_trip():
    layers = [Input(8, 7, 2), MaxPool2D((3, 2)), AvgPool2D(2, stride=1), Flatten(), 3]
    net = NeuralNetwork(layers, loss="cross_entropy", seed=1)
    assert repr(nnc.from_json(net.to_json())) == repr(net)


def test_checksum_covers_settings_of_layers():
    doc = document()
    for index, member in ((3, {"size": [1, 2]}), (2, {"rate": 0.3}), (1, {"activation": "elu"})):
        changed = copy.deepcopy(doc)
        changed["layers"][index].update(member)
        with pytest.raises(ModelFileError, match="does not match its checksum"):
            nnc.from_json(json.dumps(changed))


def test_load_rejects_file_with_failed_self_test():
    doc = document()
    doc["self_test"]["P"][0] += 1e-3
    with pytest.raises(ModelFileError, match="its self-test failed: output 0"):
        nnc.from_json(without_checksum(doc))


# ------------------------------------------------------------------------------------------------- errors

REMEDY = "; correct it there, or save the network again"
REMOVED = object()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("0 shape", [8, 7, 2, 1], "layers[0].shape is a list of 4, expected a list of 3 whole numbers"),
        ("0 shape", [8, 7, 0], "layers[0].shape[2] is 0, expected a whole number from 1 to 2**31 - 1"),
        ("0 shape", [8, True, 2], "layers[0].shape[1] is true, expected a whole number from 1 to 2**31 - 1"),
        ("0 shape", [8, 7.0, 2], "layers[0].shape[1] is 7.0, expected a whole number from 1 to 2**31 - 1"),
        ("0 shape", [2**31, 7, 2], f"layers[0].shape[0] is {2**31}, expected a whole number from 1 to 2**31 - 1"),
        ("0 shape", 112, "layers[0].shape is 112, expected a list"),
        ("0 shape", REMOVED, "layers[0].shape is missing"),
        ("0 shape", [8, 7, 3], "layers[1].W has the wrong shape: 12 rows found, 18 expected (size x channels)"),
        ("0 shape", [2, 7, 2], "layers[1]: the window must fit into the images, got a window of 3 x 2 "
         "for images of shape (2, 7, 2)"),
        ("0 shape", [800, 7, 2], "layers[7].n_in is 12, expected 2388 for rows of shape (2388,)"),
        ("0 n", 3, 'layers[0] has the unknown key "n", expected type, shape'),
        ("0 type", "dense", 'layers[0] has the unknown key "shape", expected type, n_in, n_out, activation, W, b'),
        ("1 type", "input", 'layers[1].type is "input", expected another type: only the first layer may be an input'),
        (
            "1 type",
            "conv3d",
            'layers[1].type is "conv3d", expected input or dense or dropout or conv2d or max_pool2d or avg_pool2d or '
            "global_avg_pool2d or flatten or batch_norm or scale or conv1d or max_pool1d or avg_pool1d or "
            "global_avg_pool1d or global_max_pool1d or simple_rnn or gru or lstm",
        ),
        ("1 type", REMOVED, "layers[1].type is missing"),
        ("1 filters", 4, "layers[1].W[0] has the wrong shape: 3 numbers found, 4 expected (filters)"),
        ("1 filters", 10**9, f"layers[1].W[0] has the wrong shape: 3 numbers found, {10**9} expected (filters)"),
        ("1 filters", 0, "layers[1].filters is 0, expected a whole number from 1 to 2**31 - 1"),
        ("1 filters", "3", 'layers[1].filters is "3", expected a whole number from 1 to 2**31 - 1'),
        ("1 size", [3, 3], "layers[1].W has the wrong shape: 12 rows found, 18 expected (size x channels)"),
        ("1 size", 3, "layers[1].size is 3, expected a list"),
        ("1 size", [9, 2], "layers[1]: the window must fit into the images, got a window of 9 x 2 "
         "for images of shape (8, 7, 2)"),
        ("1 stride", [1, 0], "layers[1].stride[1] is 0, expected a whole number from 1 to 2**31 - 1"),
        ("1 padding", "full", 'layers[1].padding is "full", expected valid or same'),
        ("1 padding", 1, "layers[1].padding is 1, expected a name"),
        ("1 padding", [3, 0], "layers[1]: padding must be smaller than size, got padding=(3, 0) and size=(3, 2)"),
        ("1 padding", [1, 0.5], "layers[1]: padding must be a whole number, got 0.5"),
        ("1 padding", [1], "layers[1]: padding must be 'valid', 'same', one whole number or two, got [1]"),
        ("1 activation", "softmax", 'activation "softmax" is possible only for the output layer'),
        ("1 W", REMOVED, "layers[1].W is missing"),
        ("1 W", None, "layers[1].W is null, expected a list"),
        ("1 W", [], "layers[1].W has the wrong shape: 0 rows found, 12 expected (size x channels)"),
        ("1 W 4", 7, "layers[1].W[4] is 7, expected a list of 3 numbers"),
        ("1 W 4 1", None, "layers[1].W[4][1] is null, expected a finite number (up to 1.79769e+308)"),
        ("1 b", [0.0] * 4, "layers[1].b has the wrong shape: 4 numbers found, 3 expected (filters)"),
        ("1 b", 0, "layers[1].b is 0, expected a list or null"),
        ("1 dilation", 2, 'layers[1] has the unknown key "dilation", expected type, filters, size, stride, padding, '
         "activation, W, b"),
        ("2 rate", 1, "layers[2].rate is 1, expected a number of at least 0 and less than 1"),
        ("2 rate", None, "layers[2].rate is null, expected a finite number (up to 1.79769e+308)"),
        ("3 stride", REMOVED, "layers[3].stride is missing"),
        ("3 size", [7, 1], "layers[3]: the window must fit into the images, got a window of 7 x 1 "
         "for images of shape (6, 6, 3)"),
        ("6", {"type": "flatten", "n": 1}, 'layers[6] has the unknown key "n", expected type'),
        ("6", {"type": "dropout", "rate": 0.0},
         "layers[7]: the inputs must be vectors, got rows of shape (1, 3, 4); add Flatten() before Dense"),
        ("7 n_in", 10, "layers[7].n_in is 10, expected 12 for rows of shape (12,)"),
        ("8", {"type": "max_pool2d", "size": [2, 2], "stride": [2, 2]},
         "layers[8]: the inputs must be images (height, width, channels), got rows of shape (6,)"),
        ("9", REMOVED, 'layers[8].type is "dropout", expected "dense" for the last layer'),
        ("9 activation", "tanh", 'output must be "softmax" for loss "cross_entropy", got "tanh"'),
    ],
)  # fmt: skip
def test_invalid_layer_raises_same_error_in_load_and_save(path, value, message):
    doc = document()
    *parents, last = [int(key) if key.isdigit() else key for key in path.split()]
    part = doc["layers"]
    for key in parents:
        part = part[key]
    if value is REMOVED:
        del part[last]
    else:
        part[last] = value
    with pytest.raises(ModelFileError) as caught:
        nnc.from_json(json.dumps(doc))
    assert str(caught.value) == f"cannot load the model from the JSON text: {message}{REMEDY}"
    with pytest.raises(ModelFileError, match=re.escape(f"cannot save the network: {message}; nothing was written (")):
        _serialization.dumps(doc)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"version": 1}, 'layers[0].type must be "dense" in a file of version 1, got "input", which requires'),
        ({"dropout": [0.5]}, "dropout is a list of 1, expected null; networks with an Input layer have"),
        ({"feature_names": ["a"]}, "feature_names is a list of 1, expected a list of 112 strings (n_in)"),
        ({"self_test": {"X": [0.5], "P": [0.5] * 3}}, "self_test.X has the wrong shape: 1 numbers found, 112 expected"),
        ({"layers": [{"type": "input", "shape": [8, 7, 2]}]}, 'layers[0].type is "input", expected "dense" for the'),
        ({"classes": ["a", "b"]}, "classes has 2 items, expected 3 (n_out)"),
    ],
)
def test_load_rejects_invalid_members(members, message):
    with pytest.raises(ModelFileError, match=re.escape(message)):
        nnc.from_json(without_checksum({**document(), **members}))


def test_load_rejects_moments_of_wrong_length():
    doc = document(checkpoint=True)
    n = network().n_params
    doc["training"]["moments"][1].pop()
    expected = (
        f"training.moments[1] has the wrong shape: {n - 1} numbers found, {n} expected (the number of parameters)"
    )
    with pytest.raises(ModelFileError, match=re.escape(expected)):
        nnc.from_json(without_checksum(doc))


def test_load_rejects_dropout_after_input():
    doc = document()
    del doc["self_test"]
    doc["layers"].insert(1, {"type": "dropout", "rate": 0.5})
    with pytest.raises(
        ModelFileError, match=r"layers\[1\] must come after .* got Dropout\(0.5\) after Input\(8, 7, 2\)"
    ):
        nnc.from_json(without_checksum(doc))


def test_load_allocates_no_memory_for_huge_declared_sizes():
    doc = document()
    del doc["self_test"], doc["scale_X"]
    invalid_texts = []
    for index, key, value in ((0, "shape", [2**30, 2**30, 2]), (1, "filters", 2**31 - 1), (1, "size", [2**30, 2])):
        changed = copy.deepcopy(doc)
        changed["layers"][index][key] = value
        invalid_texts.append(without_checksum(changed))
    # The images exceed any memory, but the weights have the right shapes: with global pooling, these do not depend on
    # the size of an image.
    pooled = NeuralNetwork([Input(4, 4, 1), Conv2D(2, 3), GlobalAvgPool2D(), 3], loss="cross_entropy", seed=0)
    changed = json.loads(pooled.to_json())
    del changed["self_test"]
    changed["layers"][0]["shape"] = [2**30, 2**30, 1]
    invalid_texts.append(without_checksum(changed))
    tracemalloc.start()
    try:
        for text in invalid_texts:
            with pytest.raises(ModelFileError):
                nnc.from_json(text)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_load_ignores_unknown_top_level_members():
    doc = {**document(), "comment": "mine"}
    assert nnc.from_json(json.dumps(doc)).to_json() == network().to_json()
