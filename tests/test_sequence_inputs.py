"""Sequences as inputs: shapes, scaling, files, descriptions and refused inputs."""

import copy
import json
import pickle
import re

import numpy as np
import pytest

import nnc
from nnc import NeuralNetwork
from nnc.layers import GRU, Conv2D, Dense, Dropout, Flatten, Input, Scale

pytestmark = pytest.mark.engine

rng = np.random.default_rng(0)
SEQUENCES = rng.standard_normal((24, 8, 2)) * [0.1, 0.5] + [0.3, 0]
TARGETS = SEQUENCES[:, :, 0].sum(axis=1)
LAYERS = [Input(steps=8, features=2), Flatten(), Dense(4), 1]


def network(layers=LAYERS, **arguments):
    return NeuralNetwork(layers, **{"activation": "tanh", "loss": "mse", "seed": 1, **arguments})


# ---------------------------------------------------------------------------------------- sequences as inputs


@pytest.mark.parametrize("scale_X", [None, "standardize", "minmax"])
def test_shape_dtype_and_container_of_sequences_do_not_change_results(scale_X):
    net = network(scale_X=scale_X)
    net.fit(SEQUENCES, TARGETS, epochs=3)
    P, gradients = net.predict(SEQUENCES), net.gradients(SEQUENCES, TARGETS)
    trained = net.copy()
    trained.fit(SEQUENCES, TARGETS, epochs=2, lr=0.01, batch_size=7, validation=0.25)
    for X in (
        SEQUENCES.reshape(24, 16),
        list(SEQUENCES),
        SEQUENCES.tolist(),
        np.asfortranarray(SEQUENCES),
        SEQUENCES.astype(">f8"),
    ):
        other = net.copy()
        other.fit(X, TARGETS, epochs=2, lr=0.01, batch_size=7, validation=0.25)
        assert np.array_equal(net.predict(X), P)
        assert all(np.array_equal(a, b) for a, b in zip(net.gradients(X, TARGETS)[0], gradients[0], strict=True))
        assert np.array_equal(other.params, trained.params)
    assert np.array_equal(net.predict(SEQUENCES[0]), P[0])
    assert net.jacobian(SEQUENCES).shape == (24, 1, 8, 2)
    assert net.vjp(SEQUENCES, np.ones((24, 1)))[1].shape == SEQUENCES.shape


def test_sequences_of_one_feature_need_no_last_dimension():
    net = network([Input(steps=8), Flatten(), 3, 1])
    X = SEQUENCES[:, :, :1]
    assert np.array_equal(net.predict(X[:, :, 0]), net.predict(X))
    assert np.array_equal(net.predict(X[0]), net.predict(X[0, :, 0]))


def test_network_on_flattened_sequences_equals_network_on_vectors():
    X, networks = SEQUENCES.reshape(24, 16), (network(), network([16, 4, 1]))
    for net, rows in zip(networks, (SEQUENCES, X), strict=True):
        net.fit(rows, TARGETS, epochs=3, lr=0.01, batch_size=5)
        net.train_step(rows, TARGETS, lr=0.01)
        step = net.stepper()
        step(rows, TARGETS)
    assert np.array_equal(networks[0].params, networks[1].params)
    assert nnc.compare(LAYERS, SEQUENCES, TARGETS, epochs=2, loss="mse").predictions.relative < 1e-12


def test_standardization_has_one_mean_and_deviation_for_each_feature():
    net = network(scale_X="standardize")
    net.fit(SEQUENCES, TARGETS, epochs=1)
    scaling = net.converter.scaling_X
    assert np.allclose(scaling.shift.reshape(8, 2), SEQUENCES.mean(axis=(0, 1)))
    assert np.allclose(1 / scaling.factor.reshape(8, 2), SEQUENCES.std(axis=(0, 1)))
    given = network(scale_X=nnc.Standardize(mean=[0.5, 0], std=[1, 5]))
    given.fit(SEQUENCES, TARGETS, epochs=1)
    assert given.converter.scaling_X.shift.tolist() == [0.5, 0] * 8


def test_target_scaling_has_one_mean_and_deviation_for_each_output():
    layers = [Input(steps=8, features=2), GRU(3, return_sequences=True), Dense(2, "identity")]
    Y = 5 + np.arange(8)[:, None] * SEQUENCES
    net = network(layers, scale_y="standardize")
    net.fit(SEQUENCES, Y, epochs=1)
    scaling = net.converter.scaling_y
    assert np.allclose(scaling.shift.reshape(8, 2), Y.mean(axis=(0, 1)))
    assert np.allclose(1 / scaling.factor.reshape(8, 2), Y.std(axis=(0, 1)))
    given = network(layers, scale_y=nnc.Standardize(mean=[0.5, 0], std=[1, 5]))
    assert given.converter.scaling_y.shift.tolist() == [0.5, 0] * 8
    Y[3, 2, 1] = np.nan
    for other in (given, network(layers, scale_y="standardize")):
        with pytest.raises(ValueError, match="y must be finite in float64, got nan in step 2, feature 1 of sequence 3"):
            other.fit(SEQUENCES, Y, epochs=1)
    with pytest.raises(ValueError, match="or 2, one for each feature, got 3"):
        network(layers, scale_y=nnc.Standardize(mean=[0, 0, 0], std=[1, 1, 1]))


@pytest.mark.parametrize("loss", ["mse", "hinge"])
def test_classes_at_each_step_require_loss_of_classes(loss):
    net = network([Input(steps=8, features=2), GRU(3, return_sequences=True), Dense(1)], loss=loss)
    with pytest.raises(ValueError, match="classes at each step of sequences require the loss 'cross_entropy' or"):
        net.predict_classes(SEQUENCES)


def test_targets_and_derivatives_of_wrong_shape_name_steps():
    net = network([Input(steps=8, features=2), GRU(3, return_sequences=True), Dense(1)])
    with pytest.raises(ValueError, match=r"y must have shape \(24, 8, 1\).*got shape \(24, 8, 2\)"):
        net.fit(SEQUENCES, SEQUENCES)
    with pytest.raises(ValueError, match=r"dP must have shape \(24, 8, 1\) like the outputs for X, got \(24, 8, 2\)"):
        net.vjp(SEQUENCES, SEQUENCES)
    for y in (SEQUENCES[:, 0, 0], SEQUENCES[:, 0, :1]):
        with pytest.raises(ValueError, match="one target per sequence requires return_sequences=False"):
            net.fit(SEQUENCES, y)
    net = network([Input(steps=8, features=2), GRU(3), 1])
    for y in (SEQUENCES[:, :, 0], SEQUENCES):
        with pytest.raises(ValueError, match="targets at every step require return_sequences=True"):
            net.fit(SEQUENCES, y)


def test_file_with_wrong_inputs_of_dense_at_each_step_is_refused():
    net = network([Input(steps=8, features=2), GRU(3, return_sequences=True), Dense(4), Dense(1)])
    for number, expected in ((2, 3), (3, 4)):
        document = json.loads(net.to_json())
        document["layers"][number]["n_in"] = 7
        message = rf"layers\[{number}\].n_in is 7, expected {expected} for rows of shape \(8, {expected}\)"
        with pytest.raises(nnc.ModelFileError, match=message):
            nnc.from_json(json.dumps(document))


def test_files_pickles_and_copies_of_sequence_networks_predict_the_same(tmp_path):
    net = network()
    net.fit(SEQUENCES, TARGETS, epochs=2)
    net.save(tmp_path / "net.json")
    net.save(tmp_path / "net.safetensors")
    loaded = [nnc.load(tmp_path / name) for name in ("net.json", "net.safetensors")]
    for other in (*loaded, pickle.loads(pickle.dumps(net)), copy.deepcopy(net), net.copy()):
        assert np.array_equal(other.predict(SEQUENCES), net.predict(SEQUENCES))
        assert other.model.input_shape == (8, 2)
    document = json.loads((tmp_path / "net.json").read_text())
    assert document["layers"][0] == {"type": "input", "shape": [8, 2]}


def test_files_of_dense_layers_on_each_step_predict_the_same(tmp_path):
    net = network([Input(steps=8, features=2), Dense(3, "tanh"), Dropout(0.1), Dense(1)])
    for name in ("net.json", "net.safetensors"):
        net.save(tmp_path / name)
        loaded = nnc.load(tmp_path / name)
        np.testing.assert_array_equal(loaded.predict(SEQUENCES), net.predict(SEQUENCES))
        assert loaded.model.stack.dropout_rates == net.model.stack.dropout_rates


def test_descriptions_show_steps_and_features():
    net = network()
    assert repr(net).startswith("NeuralNetwork([Input(steps=8, features=2), Flatten(), 4, 1]")
    assert "Flatten         8 x 2" in net.summary()
    assert "8 x 2" in net.to_svg()
    assert "8 x 2" in str(net.draw(SEQUENCES[0]))


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (SEQUENCES[:, :, :1], "(n, 8, 2) or (n, 16) to fit this network, or be one such sequence, got shape"),
        (SEQUENCES.transpose(0, 2, 1), "features come last: X.transpose(0, 2, 1)"),
        ([*SEQUENCES[:3], SEQUENCES[3][:5]], "X must have sequences of 8 steps, got 5 in row 3"),
        ([SEQUENCES[0].tolist(), SEQUENCES[0][:7].tolist()], "X must have sequences of 8 steps, got 7 in row 1"),
        (np.where(SEQUENCES[3, 2, 1] == SEQUENCES, np.nan, SEQUENCES), "step 2, feature 1 of sequence 3"),
    ],
)
@pytest.mark.parametrize("scale_X", [None, "standardize"])
def test_wrong_sequences_are_refused(X, message, scale_X):
    net = network(scale_X=scale_X)
    with pytest.raises(ValueError, match=re.escape(message)):
        net.fit(X, TARGETS[: len(X)], epochs=1)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([Conv2D(3, 3)], "the inputs must be images (height, width, channels), got rows of shape (8, 2)"),
        ([Scale()], "add a Flatten"),
    ],
)
def test_layers_of_vectors_and_images_refuse_sequences(layers, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        network([Input(steps=8, features=2), *layers, 1])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n": None, "width": 2}, TypeError, r"or features, as in Input\(steps=None, features=32\)"),
        ({"n": 4, "steps": 3}, ValueError, "steps must be used without n, width and channels, .* got n=4, "),
        ({"features": 2, "n": 3}, ValueError, "features must be used without n, width and channels"),
        ({"steps": 0}, ValueError, "steps must be 1 or more, got 0"),
    ],
)
def test_inputs_of_unclear_shape_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        Input(**arguments)


def test_two_numbers_are_still_an_image_of_one_channel():
    assert Input(8, 2).output_shape(()) == (8, 2, 1)
    assert Input(steps=8, features=2) != Input(8, 2)
