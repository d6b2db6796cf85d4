"""Tests of the automatic settings of fits that set neither a learning rate nor an optimizer."""

import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import nnc
from nnc import NeuralNetwork
from nnc._parallel.work import Job
from nnc._training.arguments import FitArguments
from nnc.datasets import load_digits, load_iris, train_test_split

XOR = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
LABELS = np.array([0, 1, 1, 0])
rng = np.random.default_rng(0)
X = rng.uniform(0, 500, (90, 3))
Y = 1000 + X @ np.array([1.0, -2.0, 0.5]) + 0.01 * X[:, 0] * X[:, 1]


# The fit continues after XOR is learned, until units saturate.
@pytest.mark.filterwarnings("ignore::nnc.SaturatedLayerWarning", "ignore::nnc.FewRowsWarning")
@pytest.mark.parametrize("loss", ["sse", "bce"])
@pytest.mark.parametrize("seed", range(3))
def test_automatic_fit_learns_xor(loss, seed):
    net = NeuralNetwork([2, 4, 1], loss=loss, seed=seed)
    net.fit(XOR, LABELS)
    assert (net.predict_classes(XOR) == LABELS).all()


@pytest.mark.parametrize(
    ("load_data", "sizes", "min_accuracy"), [(load_iris, [4, 16, 3], 0.9), (load_digits, [64, 32, 10], 0.95)]
)
def test_automatic_fit_classifies_iris_and_digits(load_data, sizes, min_accuracy):
    X, X_test, y, y_test = train_test_split(*load_data(), test_size=0.25, seed=0)
    net = NeuralNetwork(sizes, loss="cross_entropy", seed=0)
    net.fit(X, y)
    assert net.score(X_test, y_test) > min_accuracy


def test_automatic_fit_learns_regression():
    net = NeuralNetwork([3, 16, 1], loss="mse", seed=0)
    net.fit(X[:70], Y[:70])
    assert net.score(X[70:], Y[70:]) > 0.99


@pytest.mark.parametrize(
    ("n", "batch", "epochs"),
    [(4, 32, 10_000), (33, 33, 10_000), (64, 32, 5000), (1000, 32, 313), (9701, 98, 102), (300_000, 256, 20)],
)
def test_automatic_arguments_follow_number_of_rows(n, batch, epochs):
    from nnc._training.defaults import fill_arguments

    arguments = fill_arguments(FitArguments(), n, NeuralNetwork([1, 1]).model, None)
    assert arguments.passed() == {
        "batch_size": batch,
        "epochs": epochs,
        "optimizer": "adam",
        "reset_optimizer": True,
        "lr": nnc.PerStep(nnc.CosineLR(0.02)),
    }
    assert batch >= n or n % batch != 1


def test_automatic_fit_has_bits_of_fit_with_explicit_arguments():
    automatic = NeuralNetwork([3, 5, 1], loss="mse", seed=1)
    history = automatic.fit(X, Y)
    explicit = NeuralNetwork([3, 5, 1], loss="mse", seed=1, scale_X="standardize", scale_y="standardize")
    schedule = nnc.PerStep(nnc.CosineLR(0.02))
    assert history.settings["optimizer"] == nnc.Adam()
    expected = explicit.fit(X, Y, epochs=history.epochs, batch_size=32, optimizer="adam", lr=schedule)
    assert (history["loss"] == expected["loss"]).all()
    assert (automatic.params == explicit.params).all()
    assert repr(automatic) == repr(explicit)
    assert "inputs scaled (standardize), targets scaled (standardize)" in automatic.summary()
    loaded = nnc.from_json(automatic.to_json())
    assert (loaded.predict(X) == automatic.predict(X)).all()


@pytest.mark.parametrize("variant", ["plain", "custom loss", "memory map"])
def test_automatic_fit_with_given_epochs_equals_explicit_fit(variant, tmp_path):
    loss = squared_error if variant == "custom loss" else "mse"
    automatic, explicit = (NeuralNetwork([3, 5, 1], loss=loss, seed=1, dtype="float32") for _ in range(2))
    rows = X
    if variant == "memory map":
        rows = np.memmap(tmp_path / "rows", dtype=np.float64, mode="w+", shape=X.shape)
        rows[:] = X
    explicit.converter.set_scalers(nnc.Standardize(), None if variant == "custom loss" else nnc.Standardize())
    history = automatic.fit(rows, Y / 1000, epochs=7)
    schedule = nnc.PerStep(nnc.CosineLR(0.02))
    expected = explicit.fit(X, Y / 1000, epochs=7, batch_size=32, optimizer="adam", lr=schedule)
    assert history.epochs == 7
    assert history.loss == pytest.approx(expected.loss, rel=1e-6)
    assert (automatic.params == explicit.params).all()
    # A second automatic fit resets the optimizer and keeps the weights.
    history = automatic.fit(rows, Y / 1000, epochs=3)
    assert automatic.state.epoch == automatic.history.epochs == 3
    assert history.lr[0] == 0.02
    expected = explicit.fit(X, Y / 1000, epochs=3, batch_size=32, optimizer="adam", lr=schedule, reset_optimizer=True)
    assert (automatic.params == explicit.params).all()


@pytest.mark.filterwarnings("ignore::nnc.NotConvergedWarning")
@pytest.mark.parametrize("stopping_rule", [{"patience": 3}, {"target_loss": 0.05}, {"max_seconds": 0.05}])
def test_fit_with_stopping_rule_has_constant_default_learning_rate(stopping_rule):
    net = NeuralNetwork([3, 5, 1], loss="mse", seed=1)
    history = net.fit(X, Y, **stopping_rule)
    assert history.stop_reason == next(iter(stopping_rule))
    assert set(history.lr) == {0.001}
    assert net.state.optimizer == nnc.Adam()
    assert net.converter.scaler_X == net.converter.scaler_y == nnc.Standardize()
    steps = net.state.steps
    assert set(net.fit(X, Y, **stopping_rule).lr) == {0.001}
    assert net.state.steps > steps  # the second fit keeps the step count, so it continues the first one
    assert net.fit(X, Y, epochs=2).lr[0] == 0.02
    assert NeuralNetwork([3, 1], loss="mse", seed=1).fit(X, Y, epochs=2, **stopping_rule).lr[0] == 0.02


def test_learning_rate_decreases_with_inputs_per_neuron():
    def first_learning_rate(layers, shape, loss="mse"):
        rows = np.linspace(0, 1, 2 * np.prod(shape)).reshape(2, *shape)
        net = NeuralNetwork(layers, loss=loss, seed=0)
        return net.fit(rows, [[0.0], [1.0]], epochs=2).lr[0]

    assert first_learning_rate([64, 3, 1], (64,)) == 0.02
    assert first_learning_rate([256, 3, 1], (256,)) == 0.01
    assert first_learning_rate([3, 256, 1], (3,)) == 0.01
    images = [nnc.layers.Input(6, 6, 4), nnc.layers.Conv2D(2, 5), 1]
    assert first_learning_rate(images, (6, 6, 4)) == pytest.approx(0.02 * np.sqrt(0.64))


@pytest.mark.filterwarnings("ignore::nnc.FewRowsWarning")
def test_callback_does_not_replace_automatic_epochs():
    records = []
    history = NeuralNetwork([3, 1], loss="mse", seed=1).fit(X[:4], Y[:4], batch_size=2, callback=records.append)
    assert history.epochs == len(records) == 5000


@pytest.mark.parametrize("arguments", [{"lr": 0.001}, {"optimizer": "sgd"}])
def test_given_learning_rate_or_optimizer_disables_automatic_settings(arguments):
    net, expected = (NeuralNetwork([3, 2, 1], loss="mse", seed=0) for _ in range(2))
    for _ in range(2):
        net.fit(X / 500, Y / 1000, epochs=2, **arguments)
        expected.fit(X / 500, Y / 1000, epochs=2, optimizer="sgd", lr=0.001)
        assert (net.params == expected.params).all()
        arguments = {}  # a second fit without arguments keeps optimizer and lr
    assert net.converter.scaler_X is net.converter.scaler_y is None
    # Without epochs, all settings are automatic: at most 10,000 steps, 3 per epoch.
    assert " of at most 3334 epochs" in net.fit(X / 500, Y / 1000).settings["selection"]


def test_steps_after_automatic_fit_use_default_learning_rate():
    net = NeuralNetwork([3, 5, 1], loss="mse", seed=1)
    net.fit(X, Y, epochs=3)
    copied = net.copy()
    loss = net.train_step(X, Y)
    assert net.state.schedule is None
    assert copied.fit(X, Y, epochs=1, lr=0.001).loss[0] == loss
    assert (net.params == copied.params).all()
    assert net.fit_batches([(X, Y)], epochs=2).lr.tolist() == [0.001] * 2
    new_net = NeuralNetwork([3, 5, 1], loss="mse", seed=1)
    new_net.fit_batches([(X / 500, Y / 1000)], epochs=2)
    assert new_net.state.optimizer == nnc.Adam()


def fitted_scalers(net, **fit):
    """Return the scalers of inputs and targets that the network has after a fit with these arguments."""
    net.fit(X, Y, **fit)
    return net.converter.scaler_X, net.converter.scaler_y


def assign_weights(net):
    net.weights = [2 * W for W in net.weights]


def assign_biases(net):
    net.biases = [b + 1 for b in net.biases]


def assign_params(net):
    net.params = 2 * net.params


def assign_weights_of_layer(net):
    net.weights[0] = 2 * net.weights[0]


def change_weight_in_place(net):
    net.weights[0][0, 0] += 1


def assign_bias_of_layer(net):
    net.layers[0].b = [1, 2]


def train_one_step(net):
    net.train_step(X, Y, lr=1e-9)


def train_one_epoch(net):
    net.fit(X, Y, epochs=1, lr=1e-9)


# Some of these networks train on unscaled inputs, which gives warnings.
@pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")
def test_only_new_networks_with_automatic_scalings_are_scaled():
    standardized = nnc.Standardize(), nnc.Standardize()
    options = {"epochs": 1}

    def build_network(**settings):
        return NeuralNetwork([3, 2, 1], seed=0, **{"loss": "mse", **settings})

    assert (
        fitted_scalers(build_network(), **options)
        == fitted_scalers(build_network().copy(), **options)
        == fitted_scalers(nnc.clones(build_network(), 1)[0], **options)
        == standardized
    )
    assert fitted_scalers(build_network(scale_X=None), **options) == (None, standardized[1])
    assert fitted_scalers(build_network(scale_X="minmax", scale_y=None), **options) == (nnc.MinMax(), None)
    assert fitted_scalers(build_network(loss="poisson"), **options) == (standardized[0], None)
    assert (
        fitted_scalers(nnc.clones(build_network(), 1, init="he_normal")[0], **options)
        == fitted_scalers(build_network(init="lecun_normal"), **options)
        == standardized
    )
    for change in (
        assign_weights,
        assign_biases,
        assign_params,
        assign_weights_of_layer,
        change_weight_in_place,
        assign_bias_of_layer,
        train_one_step,
        train_one_epoch,
    ):
        changed = build_network()
        change(changed)
        assert fitted_scalers(changed, **options) == fitted_scalers(changed.copy(), **options) == (None, None), (
            change.__name__
        )
    weights = build_network().weights
    for changed in (nnc.from_json(build_network().to_json()), build_network(init=list(weights))):
        assert fitted_scalers(changed, **options) == (None, None)
    assert (
        fitted_scalers(build_network(), epochs=1, lr=1e-9)
        == fitted_scalers(build_network(), epochs=1, optimizer="adam")
        == (None, None)
    )


def test_automatic_fit_converts_X_once():
    class Table:
        """Table that counts its conversions to an array."""

        def __init__(self, array):
            self.array, self.n_conversions = array, 0

        def __array__(self, dtype=None, copy=None):
            self.n_conversions += 1
            return self.array

    for shape, dtype, arguments in [
        ((3,), float, {}),
        ((3,), np.float32, {"validation": 0.5}),
        ((3,), float, {"validation": "rows"}),
        ((4, 4, 1), np.uint8, {}),
    ]:
        rows = Table(rng.integers(0, 256, (40, *shape)).astype(dtype))
        if arguments.get("validation") == "rows":
            arguments["validation"] = (np.ones((5, 3)), np.ones(5))
        net = NeuralNetwork([nnc.layers.Input(*shape), *([nnc.layers.Flatten()] * (len(shape) > 1)), 1], loss="mse")
        net.fit(rows, np.arange(40.0), **arguments)
        assert rows.n_conversions == 1
        assert net.converter.scaler_X == (nnc.Pixels() if dtype is np.uint8 else nnc.Standardize())


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_images_of_bytes_are_scaled_as_pixels(dtype):
    images = rng.integers(0, 256, (20, 4, 4)).astype(dtype) / dtype(1 if dtype is np.uint8 else 255)
    net = NeuralNetwork([nnc.layers.Input(4, 4, 1), nnc.layers.Flatten(), 2], loss="cross_entropy", seed=0)
    net.fit(images.astype(dtype), np.arange(20) % 2)
    assert net.converter.scaler_X == (nnc.Pixels() if dtype is np.uint8 else None)


def test_automatic_settings_combine_with_other_arguments():
    net = NeuralNetwork([3, 4, 1], loss="mse", seed=0)
    history = net.fit(X, Y, batch_size=45, validation=0.5, l2=1e-4, metrics="rmse")
    assert history.epochs == 10_000
    assert history["val_rmse"][-1] < 0.5 * Y.std()
    with pytest.raises(ValueError, match="batch_size must be"):
        net.fit(X, Y, batch_size=0)
    with pytest.raises(TypeError, match="epochs must be set"):
        net.fit(X, Y, lr=0.1)


def squared_error(P, Y):
    """Return the mean squared error and its derivative with respect to the outputs P; a custom loss."""
    return float(((P - Y) ** 2).mean()), 2 * (P - Y) / P.size


@pytest.mark.exhaustive
def test_automatic_fit_supports_custom_loss_and_memory_map(tmp_path):
    net = NeuralNetwork([3, 1], loss=squared_error, seed=0)
    history = net.fit(X, Y / 1000, batch_size=90)
    assert history["loss"][-1] < history["loss"][0]
    rows = np.memmap(tmp_path / "rows", dtype=np.float32, mode="w+", shape=X.shape)
    rows[:] = X
    from_file, from_array = (NeuralNetwork([3, 2, 1], loss="mse", seed=0) for _ in range(2))
    from_file.fit(rows, Y, batch_size=30)
    from_array.fit(np.array(rows), Y, batch_size=30)
    assert (from_file.params == from_array.params).all()


@pytest.mark.filterwarnings("ignore::nnc.FewRowsWarning")
def test_single_row_is_not_scaled():
    net = NeuralNetwork([2, 1], loss="mse", seed=0)
    net.fit([[1.0, 2.0]], [3.0])
    assert net.predict([[1.0, 2.0]])[0, 0] == pytest.approx(3)


def load_interrupted(path, network):
    """Interrupt an automatic fit after 12 of 30 epochs, and return the network of its checkpoint at epoch 10."""
    with pytest.raises(KeyboardInterrupt):
        network.fit(X, Y, epochs=30, callback=[nnc.Checkpoint(path, every=10), stop_after(12)])
    return NeuralNetwork.load(path)


def stop_after(epoch):
    """Return a callback that interrupts the fit after this epoch."""

    def stop(record):
        if record.epoch == epoch:
            raise KeyboardInterrupt

    return stop


def test_checkpoint_of_automatic_fit_continues_with_same_bits(tmp_path):
    uninterrupted, interrupted = (NeuralNetwork([3, 5, 1], loss="mse", seed=1) for _ in range(2))
    uninterrupted.fit(X, Y, epochs=30)
    path = tmp_path / "run.json"
    loaded = load_interrupted(path, interrupted)
    assert loaded.state.epoch == 10
    for other in (loaded, loaded.copy(), pickle.loads(pickle.dumps(loaded))):
        history = other.fit(X, Y, epochs=20)
        assert (other.params == uninterrupted.params).all()
        assert (history.lr == uninterrupted.history.lr[10:]).all()
    restarted = NeuralNetwork.load(path)
    # 20 epochs are left, so a fit of 21 starts a new training with the first lr.
    assert restarted.fit(X, Y, epochs=21).lr[0] == 0.02
    assert restarted.fit(X, Y, patience=2).lr[0] == 0.001
    document = json.loads(path.read_text())
    assert document["training"]["by_rule"] is True
    document["training"]["by_rule"] = 1
    del document["sha256"]
    path.write_text(json.dumps(document))
    with pytest.raises(nnc.ModelFileError, match=r"training\.by_rule"):
        NeuralNetwork.load(path)
    uninterrupted.fit(X, Y, epochs=1, lr=0.1)
    assert "by_rule" not in json.loads(uninterrupted.to_json(checkpoint=True))["training"]


@pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")
@pytest.mark.parametrize(
    "stopping", [{"patience": 1, "min_delta": 10.0}, {"callback": lambda record: record.epoch >= 2}]
)
def test_automatic_fit_that_ended_early_is_continued(stopping):
    net = NeuralNetwork([3, 5, 1], loss="mse", seed=1)
    assert net.fit(X, Y, epochs=30, **stopping).epochs == 2
    steps = net.state.steps
    assert net.fit(X, Y, epochs=10).lr[0] < 0.02  # 28 epochs are left, so a fit of 10 continues the schedule
    assert net.state.steps == steps + 10 * 3
    assert net.fit(X, Y, epochs=60).lr[-1] > 0
    assert net.state.steps == 60 * 3
    net.train_step(X, Y)
    assert net.fit(X, Y, epochs=2).lr[0] == 0.02
    assert net.state.steps == 2 * 3
    net.fit_batches([(X, Y)])
    assert net.fit(X, Y, epochs=2).lr[0] == 0.02


def test_given_schedule_that_ended_is_not_replaced():
    net = NeuralNetwork([3, 5, 1], loss="mse", seed=1)
    schedule = nnc.PerStep(nnc.CosineLR(0.02))
    for optimizer in ("momentum", "adam"):
        net.fit(X / 500, Y / 1000, lr=schedule, optimizer=optimizer, epochs=2, batch_size=32)
        for train in (lambda: net.fit(X, Y, epochs=5), lambda: net.train_step(X, Y), lambda: net.fit_batches([(X, Y)])):
            with pytest.raises(ValueError, match="is 0 from epoch 2 on"):
                train()


def test_batch_norm_trains_alike_on_memory_map_and_array(tmp_path):
    rows = np.memmap(tmp_path / "rows", dtype=np.float32, mode="w+", shape=X.shape)
    rows[:] = X / 500
    layers = [3, nnc.layers.Dense(4, "identity"), nnc.layers.BatchNorm("relu"), 1]
    from_file, from_array = (NeuralNetwork(layers, loss="mse", seed=0) for _ in range(2))
    from_file.fit(rows, Y / 1000, epochs=2, batch_size=30, lr=0.01)
    from_array.fit(np.array(rows), Y / 1000, epochs=2, batch_size=30, lr=0.01)
    assert (from_file.params == from_array.params).all()
    # A metric reads all rows of the memory map at once.
    assert NeuralNetwork(layers, loss="mse", seed=0).fit(rows, Y, epochs=2, metrics="r2").epochs == 2


def test_search_uses_automatic_settings():
    def build_network(width, seed):
        return NeuralNetwork([3, width, 1], loss="mse", seed=seed)

    result = nnc.search(build_network, {"width": [2, 4, 8]}, X, Y, epochs=9, trials=3, seed=0)
    assert result.network.history.lr[0] == 0.02
    assert result.network.converter.scaler_X == nnc.Standardize()


def test_fit_many_rejects_targets_of_wrong_shape():
    for y in (Y[:5], 3.0):
        with pytest.raises(ValueError, match="y must have"):
            nnc.fit_many([NeuralNetwork([3, 1], loss="mse", seed=0)], X, y, epochs=2, validation=0.2)


@pytest.mark.parametrize(
    "validation_options",
    [{"folds": 3, "test": 0}, {"validation": (X[:20], Y[:20])}, {}],
    ids=["folds", "rows", "fraction"],
)
@pytest.mark.parametrize("space", [{}, {"optimizer": [None]}], ids=["no optimizer", "optimizer None"])
def test_automatic_schedule_spans_all_rounds_of_search(validation_options, space):
    layers = [3, nnc.layers.Dense(4, "identity"), nnc.layers.BatchNorm("relu"), 1]

    def build_network(width, seed):
        return NeuralNetwork(layers, loss="mse", seed=seed)

    # Without test rows, two of the three folds train on 65 of the 97 rows. Batches of 32 would leave one row for the
    # last batch, which BatchNorm rejects.
    rows = np.concatenate([X, X[:7]]), np.concatenate([Y, Y[:7]])
    result = nnc.search(
        build_network, {"width": [2, 4, 8, 3], **space}, *rows, epochs=9, trials=4, seed=0, **validation_options
    )
    learning_rates = result.network.history.lr
    assert len(learning_rates) == 9
    assert learning_rates[0] == 0.02
    assert (np.diff(learning_rates) < 0).all()
    assert result.network.fit(*rows, epochs=2).lr[0] == 0.02
    assert result.network.converter.scaler_X == nnc.Standardize()


def test_invalid_arguments_get_usual_messages():
    net = NeuralNetwork([3, 1], loss="mse", seed=0)
    net.fit(X, Y, epochs=3)
    for epochs in ("3", [3], 2.5):
        with pytest.raises(TypeError, match="epochs must be a whole number"):
            net.fit(X, Y, epochs=epochs)
    for message, data in ((r"X must have", (5.0, Y)), ("batch_size must be", (X, Y))):
        with pytest.raises((TypeError, ValueError), match=message):
            nnc.search(
                lambda width, seed: NeuralNetwork([3, width, 1], loss="mse", seed=seed), {"width": [2]}, *data,
                epochs=2, trials=1, validation=(X, Y), **({"batch_size": "a"} if data[0] is X else {}),
            )  # fmt: skip


def test_fit_many_scales_bytes_of_array_protocol_as_pixels():
    class Table:
        """Table that provides only `__array__`."""

        def __init__(self, array):
            self.array = array

        def __array__(self, dtype=None, copy=None):
            return self.array

    images = Table(rng.integers(0, 256, (20, 4, 4, 1)).astype(np.uint8))
    trained_by_fit, trained_by_fit_many = (
        NeuralNetwork([nnc.layers.Input(4, 4, 1), 2], loss="cross_entropy", seed=0) for _ in range(2)
    )
    trained_by_fit.fit(images, np.arange(20) % 2, epochs=2)
    nnc.fit_many([trained_by_fit_many], images, np.arange(20) % 2, epochs=2)
    assert trained_by_fit_many.converter.scaler_X == nnc.Pixels()
    assert (trained_by_fit.params == trained_by_fit_many.params).all()


def test_step_with_given_optimizer_ends_automatic_settings():
    net = NeuralNetwork([3, 5, 1], loss="mse", seed=1)
    net.fit(X, Y, epochs=3)
    net.train_step(X, Y, optimizer="adam")
    assert set(net.fit(X, Y, epochs=2).lr) == {0.001}


def test_load_rejects_automatic_settings_without_epochs():
    net = NeuralNetwork([3, 5, 1], loss="mse", seed=1)
    net.fit(X, Y, epochs=3)
    document = json.loads(net.to_json(checkpoint=True))
    del document["sha256"]
    document["training"]["schedule"]["epochs"] = None
    with pytest.raises(nnc.ModelFileError, match="by_rule"):
        nnc.from_json(json.dumps(document))


def inverse_decay(epoch):
    return 0.01 / (1 + epoch)


def test_worker_uses_automatic_settings_after_fit_with_function():
    networks = [NeuralNetwork([3, 2, 1], loss="mse", seed=0) for _ in range(2)]
    for net in networks:
        net.fit(X / 500, Y / 1000, epochs=2, lr=inverse_decay, optimizer="sgd")
    with ThreadPoolExecutor(1) as executor:
        nnc.fit_many([pickle.loads(pickle.dumps(networks[0]))], X / 500, Y / 1000, executor=executor)
    job = pickle.loads(pickle.dumps(Job(0, networks[0], FitArguments(batch_size=90), None, None)))
    assert job.arguments.passed() == {"batch_size": 90}
    job = pickle.loads(pickle.dumps(Job(0, networks[0], FitArguments(epochs=1), None, None)))
    assert job.arguments.lr is not None
