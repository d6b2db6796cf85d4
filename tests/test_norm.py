"""BatchNorm: gradients, running statistics, agreement with the reference, thread counts, files and errors."""

import json
import pickle

import numpy as np
import pytest

import nnc
from nnc import ModelFileError, NeuralNetwork, reference
from nnc._inspection.gradients import check_gradients
from nnc.layers import AvgPool2D, BatchNorm, Conv2D, Dense, Dropout, Flatten, Input, MaxPool2D

pytestmark = pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")

DENSE_LAYERS = [5, Dense(7, "identity", bias=False), BatchNorm("tanh"), Dense(33), BatchNorm(momentum=0.5), Dense(2)]
IMAGE_LAYERS = [
    Input(7, 6, 3), Conv2D(4, 3, "identity", padding="same"), BatchNorm("silu"), MaxPool2D(2), Conv2D(17, 2),
    BatchNorm("gelu"), BatchNorm(eps=0.1), Flatten(), Dense(5, "identity"), BatchNorm("sigmoid"), Dense(2),
]  # fmt: skip
POOL_LAYERS = [
    Input(9, 7, 1), Conv2D(3, 3), MaxPool2D(2), BatchNorm("tanh"), Dropout(0.25), Conv2D(2, 2, "identity"),
    AvgPool2D(1), BatchNorm(), Dense(2),
]  # fmt: skip
LAYERS_BY_NAME = {"dense": DENSE_LAYERS, "images": IMAGE_LAYERS, "after pools": POOL_LAYERS}


def random_data(layers, n, seed=0):
    rng = np.random.default_rng(seed)
    shape = (layers[0],) if isinstance(layers[0], int) else layers[0].output_shape(())
    return rng.normal(1, 2, (n, *shape)), rng.normal(size=(n, 2))


def network(layers, **arguments):
    net = NeuralNetwork(layers, **{"activation": "tanh", "loss": "mse", "seed": 1, **arguments})
    rng = np.random.default_rng(5)
    net.params = net.params + rng.uniform(-0.2, 0.2, net.n_params)
    return net


def without_dropout(layers):
    return [layer for layer in layers if not isinstance(layer, Dropout)]


def batch_norm_layers(net):
    return [layer for layer in net.layers if isinstance(layer.kind, BatchNorm)]


def running_statistics(net):
    return np.concatenate(
        [part for layer in batch_norm_layers(net) for part in (layer.running_mean, layer.running_var)]
    )


def parameter_bytes(net):
    """Return parameters and running statistics as bytes, for exact comparisons."""
    return net.params.tobytes() + running_statistics(net).tobytes()


# ------------------------------------------------------------------------------------------------ values and gradients


@pytest.mark.parametrize("name", LAYERS_BY_NAME)
@pytest.mark.parametrize("n", [5, 16, 33, 300])
def test_gradients_match_numerical_derivatives_of_training_loss(isa, name, n):
    layers = [
        AvgPool2D(2) if isinstance(layer, MaxPool2D) else layer for layer in without_dropout(LAYERS_BY_NAME[name])
    ]
    net, (X, Y) = network(layers), random_data(layers, n)
    gradient = np.concatenate([part.ravel() for pair in net.gradients(X, Y) for part in pair if part is not None])
    initial, model = net.params.copy(), net.model
    rows = net.converter.data(X, Y)
    rng = np.random.default_rng(n)

    def loss(params):
        net.params = params
        return model.gradient(rows, model.zeros())

    # Derivatives along random directions are computed by Richardson extrapolation.
    for direction in rng.normal(size=(3, net.n_params)):
        differences = [(loss(initial + h * direction) - loss(initial - h * direction)) / (2 * h) for h in (1e-3, 5e-4)]
        derivative = differences[1] + (differences[1] - differences[0]) / 3
        assert abs(gradient @ direction - derivative) < 1e-7 * np.abs(gradient * direction).sum()


def normalize(layer, A, mean, variance):
    """Return the outputs of a BatchNorm for inputs `A` and these statistics."""
    Z = layer.gamma * (A - mean) / np.sqrt(variance + layer.kind.eps) + layer.beta
    return {"tanh": np.tanh, "identity": np.array}[layer.activation](Z)


def test_predict_uses_running_and_train_step_uses_batch_statistics():
    X, Y = random_data(DENSE_LAYERS, 40)
    net = network(DENSE_LAYERS)
    before = net.copy()
    net.train_step(X, Y, lr=0.1)
    dense1, norm1, dense2, norm2 = before.layers[:4]
    A = X @ dense1.W
    mean, variance = A.mean(0), A.var(0)
    np.testing.assert_allclose(net.layers[1].running_mean, 0.1 * mean, rtol=1e-13)
    np.testing.assert_allclose(net.layers[1].running_var, 0.9 + 0.1 * A.var(0, ddof=1), rtol=1e-13)
    A = np.tanh(normalize(norm1, A, mean, variance) @ dense2.W + dense2.b)
    np.testing.assert_allclose(net.layers[3].running_mean, 0.5 * A.mean(0), rtol=1e-13)
    np.testing.assert_allclose(net.layers[3].running_var, 0.5 + 0.5 * A.var(0, ddof=1), rtol=1e-13)
    A = normalize(norm2, A, A.mean(0), A.var(0)) @ before.layers[-1].W + before.layers[-1].b
    assert before.copy().train_step(X, Y, lr=0.1) == pytest.approx(((A - Y) ** 2).mean(), rel=1e-13)
    outputs = net.forward(X)
    for layer, inputs, actual in zip(net.layers, [X, *outputs], outputs, strict=False):
        if isinstance(layer.kind, BatchNorm):
            expected = normalize(layer, inputs, layer.running_mean, layer.running_var)
            np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(net.predict(X[:1]), outputs[-1][:1], rtol=1e-12)
    assert net.evaluate_loss(X, Y) == pytest.approx(((outputs[-1] - Y) ** 2).mean(), rel=1e-12)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", LAYERS_BY_NAME)
def test_check_gradients_accepts_correct_and_rejects_changed_gradients(name):
    layers = without_dropout(LAYERS_BY_NAME[name])
    net, (X, Y) = network(layers), random_data(layers, 8)
    assert nnc.check_gradients(net, X, Y).ok
    gradients = net.gradients(X, Y)
    index = next(i for i, layer in enumerate(net.model.stack.parametric_layers) if layer.kind.normalizes)
    for part in gradients[index]:
        correct = part.copy()
        part.flat[abs(part).argmax()] *= 1.0001
        assert check_gradients(net, X, Y, gradients=gradients).wrong
        part[...] = correct


def test_check_gradients_accepts_batch_norm_in_float32():
    net, (X, Y) = (
        network([5, Dense(7, "identity"), BatchNorm("relu"), Dense(2)], dtype="float32"),
        random_data(DENSE_LAYERS, 12),
    )
    assert nnc.check_gradients(net, X, Y).ok


@pytest.mark.parametrize("name", ["images", "dense"])
def test_batch_norm_matches_reference(name):
    # Replace silu and gelu, which the reference implementation does not have.
    supported_activations = {
        "silu": "relu",
        "gelu": "tanh",
        "sigmoid": "sigmoid",
    }
    layers = [
        layer.replace(activation=supported_activations[layer.activation])
        if getattr(layer, "activation", None) in supported_activations
        else layer
        for layer in LAYERS_BY_NAME[name]
    ]
    X, Y = random_data(layers, 14)
    actual = nnc.compare(layers, X, Y, epochs=5, lr=0.03, batch_size=5, loss="mse", activation="tanh", verbose=False)
    assert actual.losses.relative < 1e-12
    assert actual.weights.absolute < 1e-12
    assert actual.predictions.absolute < 1e-12
    reference_norms = [layer for layer in actual.reference.layers if isinstance(layer, reference.BatchNorm)]
    for layer, reference_layer in zip(batch_norm_layers(actual.engine), reference_norms, strict=True):
        np.testing.assert_allclose(layer.running_mean, reference_layer.running_mean, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(layer.running_var, reference_layer.running_var, rtol=1e-12)
    restored = reference.NeuralNetwork.from_json(actual.engine.to_json())
    np.testing.assert_allclose(restored.predict(X.tolist()), actual.engine.predict(X), rtol=0, atol=1e-12)
    assert nnc.from_json(restored.to_json()).params.tobytes() == actual.engine.params.tobytes()


def test_running_variance_is_accurate_for_large_means():
    X, Y = random_data(DENSE_LAYERS, 400)
    net = NeuralNetwork([5, Dense(3, "identity"), BatchNorm(momentum=1.0), 2], loss="mse", dtype="float32", seed=0)
    net.biases[0][...] = 1000
    net.train_step(X.astype("float32"), Y.astype("float32"), lr=1e-9)
    A = X.astype("float32") @ np.float64(net.weights[0]) + 1000
    np.testing.assert_allclose(net.layers[1].running_var, A.var(0, ddof=1), rtol=1e-3)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("name", LAYERS_BY_NAME)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_thread_count_does_not_change_bits_with_batch_norm(isa, name, dtype):
    layers = LAYERS_BY_NAME[name]
    X, Y = random_data(layers, 150)
    results = set()
    for n_threads in (1, 2, 3, 5):
        net = network(layers, dtype=dtype)
        for options in ({"optimizer": "adam"}, {"clip_norm": 0.1, "lr": 0.05, "optimizer": "sgd", "max_norm": 1.0}):
            net.fit(X, Y, epochs=2, batch_size=37, validation=0.1, n_threads=n_threads, **options)
        net.fit(X, Y, epochs=2, lr=0.01, n_threads=n_threads)
        results.add(parameter_bytes(net))
    assert len(results) == 1


@pytest.mark.parametrize("name", LAYERS_BY_NAME)
def test_vjp_and_jacobian_are_derivatives_of_predict(name):
    layers = without_dropout(LAYERS_BY_NAME[name])
    net, (X, Y) = network(layers), random_data(layers, 40)
    net.fit(X, Y, epochs=2, batch_size=20, lr=0.01)
    rng = np.random.default_rng(3)
    X, dP = X[:7], rng.normal(size=(7, 2))
    gradients, dX = net.vjp(X, dP)
    np.testing.assert_allclose(np.einsum("ij,ij...->i...", dP, net.jacobian(X)), dX, rtol=1e-9, atol=1e-12)
    gradient = np.concatenate([part.ravel() for pair in gradients for part in pair if part is not None])
    initial = net.params.copy()

    def product(params, rows):
        net.params = params
        return (net.predict(rows) * dP).sum()

    h = 1e-6
    for direction in rng.normal(size=(3, net.n_params)):
        derivative = (product(initial + h * direction, X) - product(initial - h * direction, X)) / (2 * h)
        assert abs(gradient @ direction - derivative) < 1e-6 * np.abs(gradient * direction).sum()
    direction = rng.normal(size=X.shape)
    derivative = (product(initial, X + h * direction) - product(initial, X - h * direction)) / (2 * h)
    assert abs((dX * direction).sum() - derivative) < 1e-6 * np.abs(dX * direction).sum()


# ------------------------------------------------------------------------------------------------ training


def test_train_step_fit_batches_and_fit_give_same_bits():
    X, Y = random_data(POOL_LAYERS, 48)
    layers = without_dropout(POOL_LAYERS)
    fit, steps, batches = (network(layers) for _ in range(3))
    fit.fit(X, Y, epochs=1, batch_size=16, shuffle=False, optimizer="adam")
    parts = [(X[at : at + 16], Y[at : at + 16]) for at in range(0, 48, 16)]
    for x, y in parts:
        steps.train_step(x, y, optimizer="adam")
    batches.fit_batches(parts, optimizer="adam")
    assert parameter_bytes(fit) == parameter_bytes(steps) == parameter_bytes(batches)


def test_penalties_exclude_gamma_and_beta_by_default():
    X, Y = random_data(DENSE_LAYERS, 30)
    networks = [network(DENSE_LAYERS) for _ in range(3)]
    networks[0].fit(X, Y, epochs=1, lr=0.1)
    networks[1].fit(X, Y, epochs=1, lr=0.1, l2=0.5, l1=0.1)
    networks[2].fit(X, Y, epochs=1, lr=0.1, l2=0.5, regularize_bias=True)
    unpenalized, penalized, all_penalized = (
        [layer.gamma.copy(), layer.beta.copy()] for layer in (net.layers[1] for net in networks)
    )
    assert all((a == b).all() for a, b in zip(unpenalized, penalized, strict=True))
    initial = network(DENSE_LAYERS).layers[1]
    np.testing.assert_allclose(all_penalized[0], unpenalized[0] - 0.1 * 0.5 * initial.gamma, rtol=1e-12)
    np.testing.assert_allclose(all_penalized[1], unpenalized[1] - 0.1 * 0.5 * initial.beta, rtol=1e-12)
    decayed = [network(DENSE_LAYERS) for _ in range(2)]
    for net, decay in zip(decayed, (0.0, 0.3), strict=True):
        net.fit(X, Y, epochs=1, optimizer=nnc.AdamW(lr=0.1, weight_decay=decay))
    assert (decayed[0].layers[1].gamma == decayed[1].layers[1].gamma).all()
    assert (decayed[0].weights[0] != decayed[1].weights[0]).any()


def test_frozen_batch_norm_is_unchanged_and_uses_running_statistics():
    for name, layers in LAYERS_BY_NAME.items():
        X, Y = random_data(layers, 60)
        results = set()
        for n_threads in (1, 3):
            net = network(without_dropout(layers))
            net.fit(X, Y, epochs=2, batch_size=20, lr=0.01, n_threads=1)
            for layer in batch_norm_layers(net):
                layer.trainable = False
            frozen_statistics, loss = running_statistics(net).tobytes(), net.evaluate_loss(X, Y)
            before = [layer.gamma.tobytes() + layer.beta.tobytes() for layer in batch_norm_layers(net)]
            history = net.fit(X, Y, epochs=3, optimizer="adam", clip_norm=1.0, n_threads=n_threads)
            assert history.loss[0] == pytest.approx(
                loss, rel=1e-12
            )  # a frozen BatchNorm uses running statistics, as in predict
            assert history.loss[-1] < history.loss[0]
            assert running_statistics(net).tobytes() == frozen_statistics
            assert [layer.gamma.tobytes() + layer.beta.tobytes() for layer in batch_norm_layers(net)] == before
            net.train_step(X[:1], Y[:1])  # a batch of one row is valid: frozen layers need no batch statistics
            results.add(parameter_bytes(net))
        assert len(results) == 1, name
    partly_frozen = network(DENSE_LAYERS)
    for layer in partly_frozen.layers[:2]:  # no parameter up to the second layer changes
        layer.trainable = False
    frozen_bytes = parameter_bytes(partly_frozen)[: 8 * (35 + 14)]
    X, Y = random_data(DENSE_LAYERS, 30)
    partly_frozen.fit(X, Y, epochs=2, lr=0.01, n_threads=2)
    assert parameter_bytes(partly_frozen)[: 8 * (35 + 14)] == frozen_bytes
    assert (partly_frozen.layers[1].running_var == 1).all()
    assert (partly_frozen.layers[3].running_var != 1).all()
    restored = nnc.from_json(partly_frozen.to_json())
    assert not restored.layers[1].trainable
    with pytest.raises(ValueError, match="a frozen BatchNorm"):
        reference.NeuralNetwork([3, 4, BatchNorm(trainable=False), 1], loss="mse")


def test_lr_factors_scale_steps_of_gamma_and_beta():
    X, Y = random_data(DENSE_LAYERS, 30)
    unscaled, scaled = network(DENSE_LAYERS), network(DENSE_LAYERS)
    scaled.layers[1].lr_factor, scaled.layers[1].bias_lr_factor = 0.5, 4.0
    initial = network(DENSE_LAYERS).layers[1]
    for net in (unscaled, scaled):
        net.fit(X, Y, epochs=1, lr=0.01)
    for name, factor in (("gamma", 0.5), ("beta", 2.0)):
        moved = [getattr(net.layers[1], name) - getattr(initial, name) for net in (unscaled, scaled)]
        np.testing.assert_allclose(moved[1], factor * moved[0], rtol=1e-10)


def test_early_stopping_restores_running_statistics_of_best_epoch():
    X, Y = random_data(DENSE_LAYERS, 30)
    best = {}

    def record_best(record):
        if record.best:
            best["bytes"] = parameter_bytes(record.network)

    net = network(DENSE_LAYERS)
    history = net.fit(X, Y, epochs=60, batch_size=7, lr=0.04, validation=0.3, patience=5, callback=record_best)
    assert history.best_epoch < history.epochs
    assert parameter_bytes(net) == best["bytes"]


def test_diverged_step_leaves_parameters_and_statistics_unchanged():
    X, Y = random_data(DENSE_LAYERS, 20)
    net = network(DENSE_LAYERS)
    Y[3] = 1e300
    with pytest.raises(nnc.DivergedError):
        net.fit(X, Y, epochs=1, lr=0.1)
    assert parameter_bytes(net) == parameter_bytes(network(DENSE_LAYERS))


def test_sample_weights_do_not_change_running_statistics():
    X, Y = random_data(DENSE_LAYERS, 20)
    weighted, unweighted = network(DENSE_LAYERS), network(DENSE_LAYERS)
    sample_weight = np.r_[np.zeros(5), np.full(15, 2.0)]
    weighted.train_step(X, Y, lr=0.0625, sample_weight=sample_weight)
    unweighted.train_step(X, Y, lr=0.0625)
    assert (weighted.layers[1].running_mean == unweighted.layers[1].running_mean).all()
    assert (weighted.weights[0] != unweighted.weights[0]).any()


def test_initial_gamma_beta_and_statistics_do_not_depend_on_init():
    for init in (None, "uniform", "zeros", "he_normal"):
        net = NeuralNetwork(DENSE_LAYERS, init=init, seed=0)
        for layer in batch_norm_layers(net):
            assert (layer.gamma == 1).all()
            assert (layer.beta == 0).all()
            assert (layer.running_mean == 0).all()
            assert (layer.running_var == 1).all()
    plain = NeuralNetwork([5, Dense(7, "identity", bias=False), Dense(33), Dense(2)], seed=0)
    assert [W.tobytes() for W in plain.weights] == [
        W.tobytes() for W in NeuralNetwork(DENSE_LAYERS, seed=0).weights[::2]
    ]


def test_network_describes_batch_norm():
    net = network(DENSE_LAYERS)
    assert net.sizes == (5, 7, 7, 33, 33, 2)
    assert net.activations == ("identity", "tanh", "tanh", "identity", "identity")
    assert [W.shape for W in net.weights] == [(5, 7), (1, 7), (7, 33), (1, 33), (33, 2)]
    assert net.n_params == 35 + 14 + 7 * 33 + 33 + 66 + 66 + 2
    assert repr(net.layers[1].kind) == "BatchNorm('tanh')"
    assert repr(BatchNorm()) == "BatchNorm()"
    assert "tanh of batch norm" in net.summary()
    assert (
        eval(repr(net), {**vars(nnc.layers), "BatchNorm": BatchNorm, "NeuralNetwork": NeuralNetwork}).sizes == net.sizes
    )
    two_activations = NeuralNetwork([3, 4, BatchNorm(), 5, 1], activation=["relu", "tanh"])
    assert two_activations.activations == ("relu", "identity", "tanh", "sigmoid")
    norm = net.layers[1]
    norm.gamma[...] = 2
    assert (net.weights[1] == 2).all()
    with pytest.raises(AttributeError, match=r"has no running_var, because it is .*; only BatchNorm has one"):
        _ = net.layers[0].running_var


def test_inspect_prints_batch_norm(capsys):
    net = NeuralNetwork([2, Dense(1), BatchNorm("relu"), 1], seed=0)
    net.layers[1].running_mean[...] = 0.25
    net.inspect()
    text = capsys.readouterr().out
    lines = ["Hidden Layer 2, relu of batch norm", "Channels: 1", " Channel 0", "  Gamma: 1.0", "  Beta: 0.0"]
    assert "\n".join([*lines, "  Running mean: 0.25", "  Running variance: 1.0"]) in text


# ------------------------------------------------------------------------------------------------ files


@pytest.mark.parametrize("name", LAYERS_BY_NAME)
def test_saved_network_with_batch_norm_resumes_to_same_bits(name, tmp_path):
    layers = LAYERS_BY_NAME[name]
    X, Y = random_data(layers, 50)
    uninterrupted, saved = network(layers), network(layers)
    options = {"batch_size": 16, "optimizer": "adam"}
    uninterrupted.fit(X, Y, epochs=3, **options)
    saved.fit(X, Y, epochs=3, **options)
    saved.save(tmp_path / "net.json", checkpoint=True)
    saved.save(tmp_path / "net.safetensors", checkpoint=True)
    files = [NeuralNetwork.load(tmp_path / f"net.{kind}") for kind in ("json", "safetensors")]
    restored = [*files, saved.copy(), pickle.loads(pickle.dumps(saved))]
    uninterrupted.fit(X, Y, epochs=4, batch_size=16)
    for net in restored:
        assert parameter_bytes(net) == parameter_bytes(saved)
        assert net.predict(X).tobytes() == saved.predict(X).tobytes()
        net.fit(X, Y, epochs=4, batch_size=16)
        assert parameter_bytes(net) == parameter_bytes(uninterrupted)
    assert parameter_bytes(saved) != parameter_bytes(uninterrupted)
    assert repr(restored[0]) == repr(saved)


def document():
    return json.loads(network(DENSE_LAYERS).to_json())


def test_file_describes_batch_norm():
    doc = document()
    assert doc["version"] == 2
    assert "dropout" not in doc
    assert [layer["type"] for layer in doc["layers"]] == ["input", *["dense", "batch_norm"] * 2, "dense"]
    assert doc["layers"][0] == {"type": "input", "shape": [5]}
    norm = doc["layers"][2]
    assert list(norm) == ["type", "activation", "momentum", "eps", "W", "b", "running_mean", "running_var"]
    assert (norm["momentum"], norm["eps"], np.shape(norm["W"]), len(norm["running_var"])) == (0.1, 1e-5, (1, 7), 7)
    net = NeuralNetwork([5, 4, BatchNorm(), Dropout(0.5), 2])
    restored = nnc.from_json(net.to_json())
    assert restored.model.stack == net.model.stack


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"momentum": 1.5}, r"layers\[2\].momentum is 1.5, expected a number from 0 to 1"),
        ({"momentum": None}, r"layers\[2\].momentum is null"),
        ({"eps": 0}, r"layers\[2\].eps is 0, expected a number above 0"),
        ({"eps": -1e-5}, r"layers\[2\].eps is -1e-05"),
        ({"activation": "softmax"}, r"layers\[2\].activation is \"softmax\""),
        ({"W": [[1.0] * 6]}, r"layers\[2\].W\[0\] has"),
        ({"W": [[1.0] * 7] * 2}, r"layers\[2\].W has the wrong shape: 2 rows found, 1 expected"),
        ({"W": []}, r"layers\[2\].W has the wrong shape: 0 rows found"),
        ({"b": None}, r"layers\[2\].b is null"),
        ({"running_mean": [0.0] * 8}, r"layers\[2\].running_mean has"),
        ({"running_var": [1.0] * 6 + [-1.0]}, r"layers\[2\].running_var has -1.0, expected variances of at least 0"),
        ({"running_var": [1.0] * 6 + ["1"]}, r"layers\[2\].running_var\[6\] is \"1\""),
        ({"running_var": [1.0] * 6 + [1e999]}, r"running_var\[6\]"),
        ({"extra": 1}, r"layers\[2\] .*extra"),
    ],
)
def test_load_rejects_invalid_members_of_batch_norm(change, message):
    doc = document()
    doc["layers"][2].update(change)
    del doc["sha256"]
    with pytest.raises(ModelFileError, match=message):
        nnc.from_json(json.dumps(doc))


def test_load_rejects_inconsistent_files_with_batch_norm():
    doc = document()
    del doc["layers"][2]["running_var"], doc["sha256"]
    with pytest.raises(ModelFileError, match="running_var"):
        nnc.from_json(json.dumps(doc))
    doc = document()
    doc["layers"][2]["running_mean"][0] += 1
    with pytest.raises(ModelFileError, match="checksum"):
        nnc.from_json(json.dumps(doc))
    doc = document()
    del doc["layers"][1], doc["sha256"], doc["self_test"]
    doc["layers"][0]["shape"] = [7]
    with pytest.raises(ModelFileError, match="must come after a Dense, Conv1D or Conv2D"):
        nnc.from_json(json.dumps(doc))
    for shape in ([5, 1], [], 5, [0]):
        doc = document()
        doc["layers"][0]["shape"] = shape
        with pytest.raises(ModelFileError, match="shape"):
            nnc.from_json(json.dumps(doc))
    doc = document()
    doc["version"] = 1
    with pytest.raises(ModelFileError, match="which requires version 2"):
        nnc.from_json(json.dumps(doc))


# ------------------------------------------------------------------------------------------------ errors


def test_batch_norm_rejects_invalid_arguments_and_layers():
    for create in (
        lambda: BatchNorm("softmax"), lambda: BatchNorm(0.1), lambda: BatchNorm(momentum=1.1),
        lambda: BatchNorm(momentum=-0.1), lambda: BatchNorm(eps=0), lambda: BatchNorm(eps=float("nan")),
    ):  # fmt: skip
        with pytest.raises((ValueError, TypeError)):
            create()
    for layers in ([5, BatchNorm(), 2], [Input(5, 5), BatchNorm(), 2], [Input(5, 5), MaxPool2D(2), BatchNorm(), 2]):
        with pytest.raises(ValueError, match="must come after a Dense, Conv1D or Conv2D"):
            NeuralNetwork(layers)
    with pytest.raises(ValueError, match="must end with a Dense"):
        NeuralNetwork([5, 2, BatchNorm()])


def test_batch_of_one_row_is_rejected_after_dense_layer():
    net, (X, Y) = network(DENSE_LAYERS), random_data(DENSE_LAYERS, 21)
    message = "at least 2 rows in each batch for a BatchNorm after a dense layer, got a batch of 1 row"
    calls = (
        lambda: net.train_step(X[:1], Y[:1]), lambda: net.gradients(X[:1], Y[:1]),
        lambda: net.fit(X, Y, epochs=1, lr=0.001, batch_size=1), lambda: net.fit(X[:1], Y[:1], epochs=1, lr=0.001),
        lambda: net.fit_batches([(X[:20], Y[:20]), (X[20:], Y[20:])]),
    )  # fmt: skip
    for call in calls:
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(ValueError, match="got 1 row in the last batch of 21 rows"):
        net.fit(X, Y, epochs=1, lr=0.001, batch_size=20)
    net.fit(X, Y, epochs=1, lr=0.001, batch_size=19)
    assert net.predict(X[:1]).shape == (1, 2)
    assert np.isfinite(net.evaluate_loss(X[:1], Y[:1]))
    assert np.isfinite(nnc.input_gradients(net, X[:1], Y[:1])).all()
    # A batch of one image is valid, because the statistics are those of its pixels.
    images, (X, Y) = (
        network(POOL_LAYERS),
        random_data(POOL_LAYERS, 9),
    )
    images.fit(X, Y, epochs=1, lr=0.001, batch_size=1)
    assert np.isfinite(running_statistics(images)).all()
    plain = reference.NeuralNetwork([3, 2, BatchNorm(), 1], loss="mse")
    with pytest.raises(ValueError, match="X must have at least 2 rows"):
        plain.train_step([[1, 2, 3]], [[1]], lr=0.1)


def test_engine_rejects_inconsistent_batch_norm_layers(core):
    dense = {"kind": "dense", "activation": "tanh", "bias": True}
    norm = {"kind": "batch_norm", "activation": "identity", "momentum": 0.1, "eps": 1e-5}

    def with_shape(layer, n_in, n_out):
        return {**layer, "input_shape": (n_in,), "output_shape": (n_out,)}

    core.Engine([with_shape(dense, 3, 4), with_shape(norm, 4, 4), with_shape(dense, 4, 1)], "mse")
    for layers in (
        [with_shape(norm, 3, 3), with_shape(dense, 3, 1)],
        [with_shape(dense, 3, 4), with_shape(norm, 4, 5), with_shape(dense, 5, 1)],
        [with_shape(dense, 3, 4), with_shape(norm, 3, 3), with_shape(dense, 3, 1)],
        [with_shape(dense, 3, 4), with_shape(norm, 4, 4)],
        [with_shape(dense, 3, 4), {**with_shape(norm, 4, 4), "bias": True}, with_shape(dense, 4, 1)],
    ):
        with pytest.raises(ValueError, match=r"layer|kind"):
            core.Engine(layers, "mse")
