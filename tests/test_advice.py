"""Tests of training warnings: each appears in the situation that it describes, and correct use gives none."""

import warnings

import numpy as np
import pytest

import nnc
from nnc import NeuralNetwork
from nnc.datasets import load_digits, load_iris, train_test_split
from nnc.layers import Conv1D, GlobalAvgPool1D, Input

rng = np.random.default_rng(0)
X = rng.uniform(-1, 1, (60, 3))
Y = np.sin(X @ rng.uniform(-2, 2, (3, 2)))


def collect_warnings(call):
    """Return the categories and messages of the warnings of a call; each must point at the line of `call`."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    for warning in caught:
        assert issubclass(warning.category, nnc.TrainingWarning)
        assert issubclass(warning.category, UserWarning)
        assert warning.filename == __file__
        assert warning.lineno == call.__code__.co_firstlineno
    return [warning.category for warning in caught], [str(warning.message) for warning in caught]


def assert_only_warning(category, call, *fragments):
    """Assert that a call gives a single warning of this category, whose message contains all fragments."""
    categories, messages = collect_warnings(call)
    assert categories == [category]
    for fragment in fragments:
        assert fragment in messages[0]


def build_regressor(**settings):
    return NeuralNetwork([3, 8, 2], **{"activation": "tanh", "loss": "mse", "seed": 1, **settings})


def build_dead_network(activation="relu", **settings):
    """Return a network whose second hidden layer has net inputs far below 0."""
    net = NeuralNetwork([3, 6, 5, 2], activation=activation, loss="mse", seed=0, **settings)
    net.biases[1] = np.full(5, -1e5)
    return net


# ---------------------------------------------------------------------------------------- one warning for each problem


def test_fit_that_has_not_converged_warns():
    category, net = nnc.NotConvergedWarning, build_regressor()
    assert_only_warning(
        category, lambda: net.fit(X, Y, epochs=3, lr=0.001, target_loss=1e-9), "after 3 epochs", "target_loss=1e-09"
    )
    assert_only_warning(
        category, lambda: net.fit(X, Y, epochs=20, lr=0.1, patience=50), "after 20 epochs", "loss was still falling"
    )
    metric_options = {"epochs": 9, "lr": 0.1, "patience": 4, "metrics": "r2", "monitor": "r2", "restore_best": False}
    assert_only_warning(category, lambda: build_regressor().fit(X, Y, **metric_options), "r2 was still rising")
    assert_only_warning(category, lambda: net.fit_batches([(X, Y)], epochs=3, target_loss=1e-9), "after 3 epochs")
    assert collect_warnings(lambda: net.fit(X, Y, epochs=3, target_loss=100.0))[0] == []
    # Patience ends this fit before the limit of 300 epochs.
    assert collect_warnings(lambda: net.fit(X, Y, epochs=300, lr=0.1, patience=5))[0] == []
    assert collect_warnings(lambda: net.fit(X, Y, epochs=1, patience=5))[0] == []
    assert collect_warnings(lambda: net.fit(X, Y, max_seconds=0.01, target_loss=0.0))[0] == []
    assert collect_warnings(lambda: net.fit(X, Y, epochs=3, patience=5, callback=lambda record: True))[0] == []


@pytest.mark.parametrize("optimizer", ["sgd", "lbfgs"])
def test_dead_layer_warns(optimizer):
    fragments = "all outputs of hidden layer 2 (relu) are zero", "stopped learning"
    assert_only_warning(
        nnc.DeadLayerWarning, lambda: build_dead_network().fit(X, Y, epochs=3, optimizer=optimizer), *fragments
    )
    assert collect_warnings(lambda: build_dead_network("leaky_relu").fit(X, Y, epochs=3, optimizer=optimizer))[0] == []


@pytest.mark.parametrize("activation", ["relu", "sigmoid"])
def test_several_dead_layers_give_one_warning(activation):
    net = build_dead_network(activation)
    net.biases[0] = np.full(6, -1e5)
    category = nnc.DeadLayerWarning if activation == "relu" else nnc.SaturatedLayerWarning
    assert_only_warning(
        category, lambda: net.fit(X, Y, epochs=3, lr=0.001), f"hidden layers 1 ({activation}) and 2 ({activation}) "
    )


def test_dead_layer_warns_with_batches():
    assert_only_warning(
        nnc.DeadLayerWarning,
        lambda: build_dead_network().fit_batches([(X, Y)], epochs=3, lr=0.001),
        "hidden layer 2 (relu)",
    )
    assert_only_warning(
        nnc.DeadLayerWarning,
        lambda: build_dead_network().fit(X, Y, epochs=3, lr=0.001, batch_size=1),
        "hidden layer 2 (relu)",
    )
    assert_only_warning(
        nnc.DeadLayerWarning,
        lambda: build_dead_network(dtype="float32").fit(X, Y, epochs=3, lr=0.001, batch_size=7),
        "hidden layer 2 (relu)",
    )


def test_layer_with_zero_outputs_for_one_row_is_not_dead():
    """The outputs are zero only for the last row of the epoch."""
    net = NeuralNetwork([2, 2, 1], activation="relu", loss="mse", init=[np.eye(2), np.ones((2, 1))])
    rows = np.array([[1.0, 1.0], [1.0, 0.5], [-1.0, -1.0]])
    assert collect_warnings(lambda: net.fit(rows, [1, 1, 0], epochs=1, lr=1e-3, batch_size=1, shuffle=False))[0] == []


def test_batches_of_one_row_do_not_make_layer_dead():
    net = NeuralNetwork([2, 2, 1], activation="relu", loss="mse", init=[np.eye(2), np.ones((2, 1))])
    batches = [([[-1.0, -1.0]], [0.0]), ([[1.0, 1.0]], [1.0]), ([[-1.0, -0.5]], [0.0])]
    assert collect_warnings(lambda: net.fit_batches(batches, epochs=1, lr=1e-3))[0] == []


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_saturated_layer_warns(activation):
    net = build_regressor(activation=activation)
    net.weights[0] = 1000 * net.weights[0]
    fragments = "hidden layer 1", activation, "at an end of their range"
    assert_only_warning(nnc.SaturatedLayerWarning, lambda: net.fit(X + 2, Y, epochs=2, lr=1e-6), *fragments)
    assert_only_warning(nnc.SaturatedLayerWarning, lambda: net.fit_batches([(X + 2, Y)], epochs=2, lr=1e-6), *fragments)


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_saturated_layer_warns_in_each_fit_with_dY(optimizer):
    net = build_regressor(activation="tanh")
    net.weights[0] = 1000 * net.weights[0]
    options = {"dY": np.ones((len(X), 2, 3)), "optimizer": optimizer, "epochs": 2}
    for _ in range(2):
        assert_only_warning(nnc.SaturatedLayerWarning, lambda: net.fit(X + 2, Y, **options), "hidden layer 1")


@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
def test_second_order_methods_give_no_false_warning(activation):
    """These methods do not train in the core, so its buffers contain no outputs of their layers."""
    inputs = rng.uniform(-1, 1, (2000, 3))
    for size in (3, 300):
        net = NeuralNetwork([3, size, 1], activation=activation, loss="mse", seed=0)
        assert collect_warnings(lambda net=net: net.fit(inputs, inputs[:, 0], epochs=2, optimizer="lbfgs"))[0] == []


def test_rising_loss_warns_of_large_learning_rate():
    # With a learning rate of 1.5, each epoch multiplies the loss of this network by 4.
    def build_single_weight():
        return NeuralNetwork([1, 1], loss="mse", init=[[[1.0]]], bias=False)

    fragments = "the loss has risen in the last 7 epochs", "smaller than 1.5"
    assert_only_warning(
        nnc.LearningRateWarning, lambda: build_single_weight().fit([[1.0]], [0.0], epochs=8, lr=1.5), *fragments
    )
    batches = [(np.ones((1, 1)), np.zeros(1))]
    assert_only_warning(
        nnc.LearningRateWarning, lambda: build_single_weight().fit_batches(batches, epochs=8, lr=1.5), *fragments
    )
    assert collect_warnings(lambda: build_single_weight().fit([[1.0]], [0.0], epochs=5, lr=1.5))[0] == []


BATCHES = [(X[:30], Y[:30]), (X[30:], Y[30:])]


@pytest.mark.parametrize(
    "schedule",
    [nnc.OneCycleLR(0.1), nnc.CosineLR(0.1, min_lr=1e-6), nnc.Warmup(nnc.OneCycleLR(0.1), 5)],
    ids=lambda schedule: type(schedule).__name__,
)
def test_fit_after_end_of_schedule_warns(schedule):
    category, net = nnc.LearningRateWarning, build_regressor()
    assert collect_warnings(lambda: net.fit(X, Y, epochs=50, lr=schedule))[0] == []
    assert_only_warning(category, lambda: net.fit(X, Y, epochs=20), "almost 0", "in 20 of 20 epochs", "lr again")
    assert_only_warning(category, lambda: net.fit_batches(BATCHES, epochs=20), "almost 0")
    assert collect_warnings(lambda: net.fit(X, Y, epochs=20, lr=0.1))[0] == []


def test_schedule_shorter_than_fit_warns():
    arguments = {"X": X, "y": Y, "epochs": 100, "lr": nnc.CosineLR(0.1, epochs=60)}
    assert_only_warning(
        nnc.LearningRateWarning, lambda: build_regressor().fit(**arguments), "at last 0, in 40 of 100 epochs"
    )
    for lr in (nnc.CosineLR(0.1, 60, min_lr=0.01), nnc.ExponentialLR(1e-3, 1.04)):
        assert collect_warnings(lambda lr=lr: build_regressor().fit(**{**arguments, "lr": lr}))[0] == []


def test_fit_with_learning_rate_near_zero_after_plateau_warns():
    net = build_regressor()
    plateau = nnc.ReduceLROnPlateau(0.5, factor=0.01, patience=0)
    # The schedule lowers the learning rate only after the loss has converged.
    assert collect_warnings(lambda: net.fit(X, Y, epochs=2000, lr=plateau))[0] == []
    assert_only_warning(nnc.LearningRateWarning, lambda: net.fit(X, Y, epochs=20), "in 20 of 20 epochs")


def test_rising_losses_within_epoch_give_no_warning():
    """The warning compares losses of epochs, not of batches."""
    batches = [(X, (1 + 10 * i) * Y) for i in range(8)]
    assert collect_warnings(lambda: build_regressor().fit_batches(batches, epochs=3, lr=1e-5))[0] == []
    options = {"epochs": 3, "lr": 1e-5, "max_seconds": 1e-3}
    assert collect_warnings(lambda: build_regressor().fit_batches(batches * 50, **options))[0] == []


def test_unscaled_input_warns():
    fragments = "X reaches up to", 'scale_X="standardize"'
    assert_only_warning(
        nnc.UnscaledInputWarning,
        lambda: build_regressor(activation="relu").fit(1000 * X, Y, epochs=1, lr=1e-9),
        *fragments,
    )
    net = build_regressor(activation="relu")
    assert_only_warning(
        nnc.UnscaledInputWarning, lambda: net.fit_batches([(1000 * X, Y), (X, Y)], lr=1e-9), "X reaches up to 99"
    )
    scaled = build_regressor(scale_X="standardize")
    assert collect_warnings(lambda: scaled.fit(1000 * X, Y, epochs=1, lr=0.001))[0] == []


def test_only_training_inputs_are_checked_for_scale():
    net = build_regressor(activation="relu")
    assert_only_warning(
        nnc.UnscaledInputWarning, lambda: net.fit(1000 * X, Y, epochs=1, lr=1e-9, validation=(X, Y)), "up to 99"
    )
    assert collect_warnings(lambda: net.fit(X, Y, epochs=1, lr=1e-9, validation=(1000 * X, Y)))[0] == []
    callback = [lambda record: bool(record.network.evaluate_loss(1000 * X, Y) < 0)]
    assert collect_warnings(lambda: net.fit(X, Y, epochs=1, lr=1e-9, callback=callback))[0] == []


def test_unscaled_memory_map_warns(tmp_path):
    memmap = np.memmap(tmp_path / "X", dtype=np.uint8, mode="w+", shape=(60, 3))
    memmap[:] = np.arange(180).reshape(60, 3)
    net = build_regressor(activation="relu")
    assert_only_warning(
        nnc.UnscaledInputWarning, lambda: net.fit(memmap, Y, epochs=1, lr=1e-9, batch_size=8), "up to 179"
    )


@pytest.mark.parametrize("method", ["fit", "mini-batches", "batches"])
@pytest.mark.parametrize(
    ("output", "targets", "fragments"),
    [
        ("sigmoid", 20 + 15 * Y, "from 0 to 1"),
        ("sigmoid", np.sign(Y), "from -1 to 1"),
        ("softmax", 5 * np.eye(2)[(Y[:, 0] > 0).astype(int)], "from 0 to 5"),
        ("tanh", 3 * Y, "tanh only from -1 to 1"),
        ("exp", Y, "exp only from 0 to inf"),
        ("relu", Y - 0.5, "relu only from 0 to inf"),
        ("softplus", Y, "softplus only from 0 to inf"),
        ("elu", 5 * Y, "elu only from -1 to inf"),
        ("gelu", Y, "gelu only from -0.17 to inf"),
        ("silu", Y, "silu only from -0.2785 to inf"),
    ],
    ids=lambda case: case if isinstance(case, str) else "",
)
def test_targets_outside_output_range_warn(output, targets, fragments, method):
    net = build_regressor(output=output)
    if method == "batches":
        batches = [(X[:30], targets[:30]), (X[30:], targets[30:])]
        assert_only_warning(
            nnc.TargetRangeWarning, lambda: net.fit_batches(batches, epochs=100, lr=0.01), fragments, "identity"
        )
    else:
        options = {"epochs": 100, "lr": 0.01, "batch_size": 7 if method == "mini-batches" else None}
        assert_only_warning(
            nnc.TargetRangeWarning, lambda: net.fit(X, targets, **options), fragments, 'output="identity"'
        )


def test_targets_within_output_range_give_no_warning():
    for output, targets in (("sigmoid", (1 + Y) / 2), ("tanh", Y), ("relu", 1 + Y), ("identity", 100 * Y)):
        net = build_regressor(output=output)
        assert collect_warnings(lambda net=net, targets=targets: net.fit(X, targets, epochs=99, lr=1e-3))[0] == []
    scaled = build_regressor(output="sigmoid", scale_y="minmax")
    assert collect_warnings(lambda: scaled.fit(X, 100 * Y, epochs=100, lr=0.1))[0] == []
    # The first five rows have weight 0, so their invalid targets must not matter.
    placeholder = np.where(np.arange(60)[:, None] < 5, 999, (1 + Y) / 2)
    net, weights = build_regressor(output="sigmoid"), np.arange(60) >= 5
    assert collect_warnings(lambda: net.fit(X, placeholder, epochs=100, lr=0.1, sample_weight=weights))[0] == []


@pytest.mark.parametrize("loss", ["sse", "half_sse", "mse", "huber"])
def test_saturated_outputs_warn(loss):
    """Saturated outputs far from their targets hardly learn with these losses."""
    inputs, targets = [[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]], [[0], [1], [1], [0]]
    net = NeuralNetwork([3, 4, 1], loss=loss, output="sigmoid", seed=0)
    fragments = "100% of the outputs of the output layer (sigmoid)", "smaller learning rate"
    assert_only_warning(nnc.SaturatedLayerWarning, lambda: net.fit(inputs, targets, epochs=1500, lr=1000.0), *fragments)
    net = NeuralNetwork([3, 4, 1], loss="bce", seed=0)
    net.weights[1] = 1e3 * net.weights[1]
    categories, _ = collect_warnings(lambda: net.fit(inputs, targets, epochs=20, lr=1e-6))
    # With loss bce, saturated outputs have a large gradient and still learn.
    assert nnc.SaturatedLayerWarning not in categories


def test_dead_output_layer_warns():
    net = build_regressor(output="relu")
    net.biases[1] = [-1e5, -1e5]
    fragments = "all outputs of the output layer (relu) are zero"
    assert_only_warning(nnc.DeadLayerWarning, lambda: net.fit(X, 1 + Y, epochs=20, lr=0.001), fragments)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu"])
def test_equal_neurons_warn(activation):
    category, fragments = nnc.EqualNeuronsWarning, ("hidden layer 1", "leave out init")
    assert_only_warning(
        category, lambda: build_regressor(activation=activation, init="zeros").fit(X, Y, epochs=200, lr=0.1), *fragments
    )
    constant = build_regressor(activation=activation, init=[np.ones((3, 8)) / 8, np.ones((8, 2)) / 8])
    assert_only_warning(category, lambda: constant.fit_batches([(X, Y)], epochs=2, lr=0.001), *fragments)
    deep = NeuralNetwork([3, 4, 5, 2], activation=activation, loss="mse", init="zeros")
    assert_only_warning(
        category, lambda: deep.fit(X, Y, epochs=2, lr=0.001), f"hidden layers 1 ({activation}) and 2 ({activation}) "
    )
    # Hidden neurons with equal input weights become different if their output weights differ, so there is no warning.
    distinct_outputs = build_regressor(init=[np.ones((3, 8)), np.arange(16).reshape(8, 2) / 100])
    for network in (distinct_outputs, NeuralNetwork([3, 2], init="zeros")):
        assert collect_warnings(lambda network=network: network.fit(X, (1 + Y) / 2, epochs=50, lr=0.01))[0] == []
    single_neuron = NeuralNetwork([3, 1, 2], loss="mse", init="zeros")
    assert collect_warnings(lambda: single_neuron.fit(X, Y, epochs=2, lr=0.001))[0] == []


def test_each_warning_appears_once():
    net = build_dead_network()
    categories, _ = collect_warnings(lambda: net.fit(1000 * X, Y, epochs=3, lr=1e-12, target_loss=0.0))
    assert len(categories) == len(set(categories))
    assert {nnc.NotConvergedWarning, nnc.UnscaledInputWarning, nnc.DeadLayerWarning} <= set(categories)


def test_training_warnings_can_be_ignored():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore", nnc.TrainingWarning)
        build_dead_network().fit(1000 * X, Y, epochs=3, lr=1e-12, target_loss=0.0)
    assert caught == []


def test_warning_as_error_leaves_trained_network():
    net = build_regressor()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(nnc.NotConvergedWarning):
            net.fit(X, Y, epochs=5, lr=0.001, target_loss=0.0)
    assert net.state.epoch == 5


# ------------------------------------------------------------------------------------ no warnings for correct use


@pytest.mark.parametrize("seed", range(10))
def test_tutorial_gives_no_warning(seed):
    """The configuration of pytest turns warnings into errors, so any warning fails this test."""
    X, y = [[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]], [[0], [1], [1], [0]]
    NeuralNetwork([3, 4, 1], bias=False, init="uniform", seed=seed).fit(X, y, epochs=1500, lr=1.0)
    NeuralNetwork([3, 4, 1], seed=seed).fit(X, y, epochs=5000, lr=1.0)
    NeuralNetwork([3, 8, 1], activation="tanh", loss="bce", seed=seed).fit(X, y, epochs=1000, optimizer="adam", lr=0.01)
    NeuralNetwork([3, 4, 1], seed=seed).fit(X, y, epochs=300, lr=1.0, batch_size=1)


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh", "gelu"])
def test_digits_give_no_warning(activation):
    X, y = load_digits()
    X_train, X_test, y_train, y_test = train_test_split(X / 16, y, seed=0)
    net = NeuralNetwork([64, 32, 10], activation=activation, loss="cross_entropy", dtype="float32", seed=0)
    net.fit(X_train, y_train, epochs=20, optimizer="adam", batch_size=32, validation=(X_test, y_test), dropout=0.1)
    net.fit(X_train, y_train, epochs=200, patience=5, validation=0.2, batch_size=32, min_delta=0.01)


@pytest.mark.parametrize("batch_size", [None, 1, 16])
@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh"])
def test_iris_gives_no_warning(activation, batch_size):
    X, y = load_iris()
    for scale_X in (None, "standardize", "minmax"):
        net = NeuralNetwork([4, 8, 3], activation=activation, loss="cross_entropy", seed=0, scale_X=scale_X)
        net.fit(X, y, epochs=30, lr=0.05, batch_size=batch_size)


# ---------------------------------------------------------------------------------------- overfitting

noise_rng = np.random.default_rng(0)
NOISY_X = noise_rng.normal(size=(60, 5))
NOISY_Y = NOISY_X[:, 0] + noise_rng.normal(size=60)
VALIDATION = noise_rng.normal(size=(40, 5))
VALIDATION_Y = VALIDATION[:, 0] + noise_rng.normal(size=40)


def build_wide_network(**settings):
    return NeuralNetwork([5, 30, 1], **{"activation": "tanh", "loss": "mse", "seed": 0, **settings})


def overfitting_options(n_validation=40, **options):
    """Return options of a fit to NOISY_X that overfits, with `n_validation` validation rows."""
    validation = VALIDATION[:n_validation], VALIDATION_Y[:n_validation]
    return {"epochs": 400, "lr": 0.02, "optimizer": "adam", "validation": validation, **options}


@pytest.mark.parametrize("n_validation", [20, 40])
def test_overfitting_warns(n_validation):
    fragments = "val_loss has risen from", "pass restore_best=True"
    assert_only_warning(
        nnc.OverfittingWarning,
        lambda: build_wide_network().fit(NOISY_X, NOISY_Y, **overfitting_options(n_validation)),
        *fragments,
    )


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_overfitting_message_states_losses_of_history(optimizer, dtype):
    options = (
        overfitting_options() if optimizer == "adam" else overfitting_options(optimizer="lbfgs", lr=None, epochs=60)
    )
    with pytest.warns(nnc.OverfittingWarning) as caught:
        history = build_wide_network(dtype=dtype).fit(NOISY_X, NOISY_Y, **options)
    best = int(history.val_loss.argmin())
    assert f"{history.val_loss[best]:.4g} after epoch {best + 1} of {history.epochs} to" in str(caught[0].message)
    assert f"fallen from {history.loss[best]:.4g} to {history.loss[-1]:.4g}" in str(caught[0].message)


@pytest.mark.parametrize(
    "options",
    [
        {"n_validation": 19},
        {"restore_best": True},
        {"restore_best": "last"},
        {"patience": 390},
        {"epochs": 30},  # after 30 epochs the validation loss still decreases
        {"validation": (NOISY_X, NOISY_Y)},
        {"validation": None},
        {"l2": 0.3},
    ],
)
def test_fit_without_overfitting_gives_no_warning(options):
    categories, _ = collect_warnings(
        lambda: build_wide_network().fit(NOISY_X, NOISY_Y, **overfitting_options(**options))
    )
    assert nnc.OverfittingWarning not in categories


def test_overfitting_warns_if_patience_does_not_restore_best():
    options = overfitting_options(patience=390, restore_best=False)
    assert_only_warning(nnc.OverfittingWarning, lambda: build_wide_network().fit(NOISY_X, NOISY_Y, **options))


def test_overfitting_in_continued_fit_counts_only_its_epochs():
    net, options = build_wide_network(), overfitting_options()
    assert collect_warnings(lambda: net.fit(NOISY_X, NOISY_Y, **overfitting_options(epochs=30)))[0] == []
    assert_only_warning(nnc.OverfittingWarning, lambda: net.fit(NOISY_X, NOISY_Y, **options), "of 400 to")
    assert collect_warnings(lambda: net.fit(NOISY_X, NOISY_Y, epochs=1, validation=options["validation"]))[0] == []


def test_overfitting_warns_with_batches():
    assert_only_warning(
        nnc.OverfittingWarning, lambda: build_wide_network().fit_batches([(NOISY_X, NOISY_Y)], **overfitting_options())
    )


def test_overfitting_of_many_networks_gives_one_warning():
    networks = nnc.clones(build_wide_network(), 3)
    assert_only_warning(
        nnc.OverfittingWarning,
        lambda: nnc.fit_many(networks, NOISY_X, NOISY_Y, **overfitting_options()),
        "2 other networks",
    )


def train_single_weight(optimum, noise=0.0, val_noise=0.0, epochs=600, loss="mse"):
    """Train a single weight from 1 towards 0, the optimum of the training loss.

    The validation loss is lowest at the weight `optimum`. The squares of `noise` and `val_noise` add to the losses.
    """
    ones, signs = np.ones((20, 1)), np.tile([1.0, -1.0], 10)
    net = NeuralNetwork([1, 1], output="identity", loss=loss, bias=False, init=[[[1.0]]])
    net.fit(ones, noise * signs, epochs=epochs, lr=0.05, validation=(ones, optimum + val_noise * signs))


@pytest.mark.parametrize(
    ("options", "warns"),
    [
        ({"val_noise": 0.6}, True),  # val_loss rises from 0.36 to 0.36 + 0.25, a ratio of 1.69
        ({"val_noise": 0.8}, False),  # val_loss rises from 0.64 to 0.64 + 0.25, a ratio of 1.39
        ({"noise": 0.4}, True),  # loss decreases from 0.16 + 0.25 to 0.16, a ratio of 0.39
        ({"noise": 0.6}, False),  # loss decreases from 0.36 + 0.25 to 0.36, a ratio of 0.59
    ],
)
def test_overfitting_warning_obeys_limits(options, warns):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train_single_weight(0.5, **options)
    assert [warning.category for warning in caught] == [nnc.OverfittingWarning] * warns


def test_rounding_errors_of_perfect_fit_are_no_overfitting():
    train_single_weight(1e-9)  # val_loss decreases from 1 to 1e-21 and rises to 1e-18
    with pytest.warns(nnc.OverfittingWarning):
        train_single_weight(1e-6)


def test_negative_losses_are_no_overfitting():
    """The ratio of two losses has no meaning if their signs differ."""
    train_single_weight(0.5, loss=lambda P, Y: (((P - Y) ** 2).mean() - 0.1, 2 * (P - Y) / P.size))


def test_rising_negative_training_loss_is_no_overfitting():
    """The training loss, whose targets are 0, rises from -1 to -0.9."""

    def loss(P, Y):
        return ((P - Y) ** 2).mean() + 0.1 if Y.any() else -0.9 - 0.1 * (P**2).mean(), 2 * (P - Y) / P.size

    train_single_weight(0.5, loss=loss)


def test_steps_beyond_sequences_are_not_saturated():
    """The outputs of a convolution are 0 beyond the end of a sequence, which is a limit of the range of sigmoid."""
    layers = [Input(steps=1500, features=2), Conv1D(4, 3, "sigmoid", padding="causal"), GlobalAvgPool1D(), 1]
    lists = [np.random.default_rng(i).normal(size=(1500 if i == 0 else 6, 2)) for i in range(512)]
    net = NeuralNetwork(layers, loss="mse", seed=0)
    y = np.random.default_rng(0).normal(size=512)
    assert collect_warnings(lambda: net.fit(lists, y, epochs=20, lr=1e-3, optimizer="sgd")) == ([], [])
