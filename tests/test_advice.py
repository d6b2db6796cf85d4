"""Warnings about trainings that go wrong: each in the situation that it names, at the line of the caller; none where
all is well."""

import runpy
import warnings
from pathlib import Path

import numpy as np
import pytest

import nnc
from nnc import NeuralNetwork
from nnc.datasets import load_digits, load_iris, train_test_split

rng = np.random.default_rng(0)
X = rng.uniform(-1, 1, (60, 3))
Y = np.sin(X @ rng.uniform(-2, 2, (3, 2)))
EXAMPLES = Path(__file__).parent.parent / "examples"


def warned(call):
    """The warnings of a call, checked to point at the line of this file that `call` is on."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    for warning in caught:
        assert issubclass(warning.category, nnc.TrainingWarning)
        assert issubclass(warning.category, UserWarning)
        assert warning.filename == __file__
        assert warning.lineno == call.__code__.co_firstlineno
    return [warning.category for warning in caught], [str(warning.message) for warning in caught]


def only(kind, call, *words):
    kinds, messages = warned(call)
    assert kinds == [kind]
    for word in words:
        assert word in messages[0]


def regressor(**settings):
    return NeuralNetwork([3, 8, 2], **{"activation": "tanh", "loss": "mse", "seed": 1, **settings})


def dead(activation="relu", **settings):
    """A network whose second hidden layer has net inputs far below 0."""
    net = NeuralNetwork([3, 6, 5, 2], activation=activation, loss="mse", seed=0, **settings)
    net.biases[1] = np.full(5, -1e5)
    return net


# ---------------------------------------------------------------------------------------- each of them


def test_not_converged():
    kind, net = nnc.NotConvergedWarning, regressor()
    only(kind, lambda: net.fit(X, Y, epochs=3, lr=0.001, target_loss=1e-9), "after 3 epochs", "target_loss=1e-09")
    only(kind, lambda: net.fit(X, Y, epochs=20, lr=0.1, patience=50), "after 20 epochs", "loss was still falling")
    falls = {"epochs": 9, "lr": 0.1, "patience": 4, "metrics": "r2", "monitor": "r2", "restore_best": False}
    only(kind, lambda: regressor().fit(X, Y, **falls), "r2 was still rising")
    only(kind, lambda: net.fit_batches([(X, Y)], epochs=3, target_loss=1e-9), "after 3 epochs")
    assert warned(lambda: net.fit(X, Y, epochs=3, target_loss=100.0))[0] == []
    assert warned(lambda: net.fit(X, Y, epochs=300, lr=0.1, patience=5))[0] == []  # an upper limit that was enough
    assert warned(lambda: net.fit(X, Y, epochs=1, patience=5))[0] == []
    assert warned(lambda: net.fit(X, Y, max_seconds=0.01, target_loss=0.0))[0] == []
    assert warned(lambda: net.fit(X, Y, epochs=3, patience=5, callback=lambda record: True))[0] == []


@pytest.mark.parametrize("optimizer", ["sgd", "lbfgs"])
def test_dead_layer(optimizer):
    words = "all outputs of hidden layer 2 (relu) are zero", "stopped learning"
    only(nnc.DeadLayerWarning, lambda: dead().fit(X, Y, epochs=3, optimizer=optimizer), *words)
    assert warned(lambda: dead("leaky_relu").fit(X, Y, epochs=3, optimizer=optimizer))[0] == []


@pytest.mark.parametrize("activation", ["relu", "sigmoid"])
def test_several_layers_give_one_warning(activation):
    net = dead(activation)
    net.biases[0] = np.full(6, -1e5)
    kind = nnc.DeadLayerWarning if activation == "relu" else nnc.SaturatedLayerWarning
    only(kind, lambda: net.fit(X, Y, epochs=3, lr=0.001), f"hidden layers 1 ({activation}) and 2 ({activation}) ")


def test_dead_layer_in_batches():
    only(nnc.DeadLayerWarning, lambda: dead().fit_batches([(X, Y)], epochs=3, lr=0.001), "hidden layer 2 (relu)")
    only(nnc.DeadLayerWarning, lambda: dead().fit(X, Y, epochs=3, lr=0.001, batch_size=1), "hidden layer 2 (relu)")
    only(
        nnc.DeadLayerWarning,
        lambda: dead(dtype="float32").fit(X, Y, epochs=3, lr=0.001, batch_size=7),
        "hidden layer 2 (relu)",
    )


def test_a_row_that_a_layer_answers_with_zeros_is_not_dead():
    """Not even where it is the last that was trained on."""
    net = NeuralNetwork([2, 2, 1], activation="relu", loss="mse", init=[np.eye(2), np.ones((2, 1))])
    rows = np.array([[1.0, 1.0], [1.0, 0.5], [-1.0, -1.0]])
    assert warned(lambda: net.fit(rows, [1, 1, 0], epochs=1, lr=1e-3, batch_size=1, shuffle=False))[0] == []


def test_batches_of_a_row_say_nothing_of_a_layer():
    net = NeuralNetwork([2, 2, 1], activation="relu", loss="mse", init=[np.eye(2), np.ones((2, 1))])
    batches = [([[-1.0, -1.0]], [0.0]), ([[1.0, 1.0]], [1.0]), ([[-1.0, -0.5]], [0.0])]
    assert warned(lambda: net.fit_batches(batches, epochs=1, lr=1e-3))[0] == []


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_saturated_layer(activation):
    net = regressor(activation=activation)
    net.weights[0] = 1000 * net.weights[0]
    words = "hidden layer 1", activation, "at an end of their range"
    only(nnc.SaturatedLayerWarning, lambda: net.fit(X + 2, Y, epochs=2, lr=1e-6), *words)
    only(nnc.SaturatedLayerWarning, lambda: net.fit_batches([(X + 2, Y)], epochs=2, lr=1e-6), *words)


@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
def test_second_order_methods_are_looked_at_as_others(activation):
    """They do not train in the core, so its memory says nothing of their layers."""
    many = rng.uniform(-1, 1, (2000, 3))
    for size in (3, 300):
        net = NeuralNetwork([3, size, 1], activation=activation, loss="mse", seed=0)
        assert warned(lambda net=net: net.fit(many, many[:, 0], epochs=2, optimizer="lbfgs"))[0] == []


def test_learning_rate():
    def rising():
        return NeuralNetwork([1, 1], loss="mse", init=[[[1.0]]], bias=False)  # the loss is 4 times as large each epoch

    words = "the loss has risen in the last 7 epochs", "smaller than 1.5"
    only(nnc.LearningRateWarning, lambda: rising().fit([[1.0]], [0.0], epochs=8, lr=1.5), *words)
    batches = [(np.ones((1, 1)), np.zeros(1))]
    only(nnc.LearningRateWarning, lambda: rising().fit_batches(batches, epochs=8, lr=1.5), *words)
    assert warned(lambda: rising().fit([[1.0]], [0.0], epochs=5, lr=1.5))[0] == []


BATCHES = [(X[:30], Y[:30]), (X[30:], Y[30:])]


@pytest.mark.parametrize(
    "schedule",
    [nnc.OneCycleLR(0.1), nnc.CosineLR(0.1, min_lr=1e-6), nnc.Warmup(nnc.OneCycleLR(0.1), 5)],
    ids=lambda schedule: type(schedule).__name__,
)
def test_a_schedule_that_is_over(schedule):
    kind, net = nnc.LearningRateWarning, regressor()
    assert warned(lambda: net.fit(X, Y, epochs=50, lr=schedule))[0] == []
    only(kind, lambda: net.fit(X, Y, epochs=20), "almost 0", "in 20 of 20 epochs", "lr again")
    only(kind, lambda: net.fit_batches(BATCHES, epochs=20), "almost 0")
    assert warned(lambda: net.fit(X, Y, epochs=20, lr=0.1))[0] == []


def test_a_schedule_that_is_shorter_than_the_fit():
    fit = {"X": X, "y": Y, "epochs": 100, "lr": nnc.CosineLR(0.1, epochs=60)}
    only(nnc.LearningRateWarning, lambda: regressor().fit(**fit), "at last 0, in 40 of 100 epochs")
    assert warned(lambda: regressor().fit(**{**fit, "lr": nnc.CosineLR(0.1, 60, min_lr=0.01)}))[0] == []
    assert warned(lambda: regressor().fit(**{**fit, "lr": nnc.ExponentialLR(1e-3, 1.04)}))[0] == []


def test_a_plateau_that_has_lowered_the_rate():
    net = regressor()
    plateau = nnc.ReduceLROnPlateau(0.5, factor=0.01, patience=0)
    assert warned(lambda: net.fit(X, Y, epochs=2000, lr=plateau))[0] == []  # there was nothing left to gain
    only(nnc.LearningRateWarning, lambda: net.fit(X, Y, epochs=20), "in 20 of 20 epochs")


def test_batches_whose_losses_rise_are_no_sign():
    """What counts is the loss of one epoch after the other."""
    batches = [(X, (1 + 10 * i) * Y) for i in range(8)]
    assert warned(lambda: regressor().fit_batches(batches, epochs=3, lr=1e-5))[0] == []
    assert warned(lambda: regressor().fit_batches(batches * 50, epochs=3, lr=1e-5, max_seconds=1e-3))[0] == []


def test_unscaled_input():
    words = "X reaches up to", 'scale_X="standardize"'
    only(nnc.UnscaledInputWarning, lambda: regressor(activation="relu").fit(1000 * X, Y, epochs=1, lr=1e-9), *words)
    net = regressor(activation="relu")
    only(nnc.UnscaledInputWarning, lambda: net.fit_batches([(1000 * X, Y), (X, Y)], lr=1e-9), "X reaches up to 99")
    scaled = regressor(scale_X="standardize")
    assert warned(lambda: scaled.fit(1000 * X, Y, epochs=1, lr=0.001))[0] == []


def test_unscaled_input_is_that_of_the_training():
    net = regressor(activation="relu")
    only(nnc.UnscaledInputWarning, lambda: net.fit(1000 * X, Y, epochs=1, lr=1e-9, validation=(X, Y)), "up to 99")
    assert warned(lambda: net.fit(X, Y, epochs=1, lr=1e-9, validation=(1000 * X, Y)))[0] == []
    look = [lambda record: bool(record.network.evaluate_loss(1000 * X, Y) < 0)]
    assert warned(lambda: net.fit(X, Y, epochs=1, lr=1e-9, callback=look))[0] == []


def test_a_memory_map_of_images(tmp_path):
    memmap = np.memmap(tmp_path / "X", dtype=np.uint8, mode="w+", shape=(60, 3))
    memmap[:] = np.arange(180).reshape(60, 3)
    net = regressor(activation="relu")
    only(nnc.UnscaledInputWarning, lambda: net.fit(memmap, Y, epochs=1, lr=1e-9, batch_size=8), "up to 179")


@pytest.mark.parametrize("way", ["fit", "mini-batches", "batches"])
@pytest.mark.parametrize(
    ("output", "targets", "words"),
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
def test_targets_out_of_reach(output, targets, words, way):
    net = regressor(output=output)
    if way == "batches":
        batches = [(X[:30], targets[:30]), (X[30:], targets[30:])]
        only(nnc.TargetRangeWarning, lambda: net.fit_batches(batches, epochs=100, lr=0.01), words, "identity")
    else:
        fit = {"epochs": 100, "lr": 0.01, "batch_size": 7 if way == "mini-batches" else None}
        only(nnc.TargetRangeWarning, lambda: net.fit(X, targets, **fit), words, 'output="identity"')


def test_targets_within_reach():
    for output, targets in (("sigmoid", (1 + Y) / 2), ("tanh", Y), ("relu", 1 + Y), ("identity", 100 * Y)):
        net = regressor(output=output)
        assert warned(lambda net=net, targets=targets: net.fit(X, targets, epochs=99, lr=1e-3))[0] == []
    scaled = regressor(output="sigmoid", scale_y="minmax")
    assert warned(lambda: scaled.fit(X, 100 * Y, epochs=100, lr=0.1))[0] == []
    placeholder = np.where(np.arange(60)[:, None] < 5, 999, (1 + Y) / 2)  # of rows that do not count
    net, weights = regressor(output="sigmoid"), np.arange(60) >= 5
    assert warned(lambda: net.fit(X, placeholder, epochs=100, lr=0.1, sample_weight=weights))[0] == []


@pytest.mark.parametrize("loss", ["sse", "half_sse", "mse", "huber"])
def test_saturated_outputs(loss):
    """As they lie at the wrong ends, where they hardly learn."""
    inputs, targets = [[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]], [[0], [1], [1], [0]]
    net = NeuralNetwork([3, 4, 1], loss=loss, output="sigmoid", seed=0)
    words = "100% of the outputs of the output layer (sigmoid)", "smaller learning rate"
    only(nnc.SaturatedLayerWarning, lambda: net.fit(inputs, targets, epochs=1500, lr=1000.0), *words)
    net = NeuralNetwork([3, 4, 1], loss="bce", seed=0)
    net.weights[1] = 1e3 * net.weights[1]
    kinds, _ = warned(lambda: net.fit(inputs, targets, epochs=20, lr=1e-6))
    assert nnc.SaturatedLayerWarning not in kinds  # as its gradient does not vanish


def test_a_dead_output():
    net = regressor(output="relu")
    net.biases[1] = [-1e5, -1e5]
    words = "all outputs of the output layer (relu) are zero"
    only(nnc.DeadLayerWarning, lambda: net.fit(X, 1 + Y, epochs=20, lr=0.001), words)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu"])
def test_equal_neurons(activation):
    kind, words = nnc.EqualNeuronsWarning, ("hidden layer 1", "leave out init")
    only(kind, lambda: regressor(activation=activation, init="zeros").fit(X, Y, epochs=200, lr=0.1), *words)
    ones = regressor(activation=activation, init=[np.ones((3, 8)) / 8, np.ones((8, 2)) / 8])
    only(kind, lambda: ones.fit_batches([(X, Y)], epochs=2, lr=0.001), *words)
    deep = NeuralNetwork([3, 4, 5, 2], activation=activation, loss="mse", init="zeros")
    only(kind, lambda: deep.fit(X, Y, epochs=2, lr=0.001), f"hidden layers 1 ({activation}) and 2 ({activation}) ")
    apart = regressor(init=[np.ones((3, 8)), np.arange(16).reshape(8, 2) / 100])  # as the weights that go out are
    for well in (apart, NeuralNetwork([3, 2], init="zeros")):
        assert warned(lambda well=well: well.fit(X, (1 + Y) / 2, epochs=50, lr=0.01))[0] == []
    one = NeuralNetwork([3, 1, 2], loss="mse", init="zeros")
    assert warned(lambda: one.fit(X, Y, epochs=2, lr=0.001))[0] == []  # a single one has no equal


def test_each_warning_comes_once():
    net = dead()
    kinds, _ = warned(lambda: net.fit(1000 * X, Y, epochs=3, lr=1e-12, target_loss=0.0))
    assert len(kinds) == len(set(kinds))
    assert {nnc.NotConvergedWarning, nnc.UnscaledInputWarning, nnc.DeadLayerWarning} <= set(kinds)


def test_they_can_be_turned_off():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore", nnc.TrainingWarning)
        dead().fit(1000 * X, Y, epochs=3, lr=1e-12, target_loss=0.0)
    assert caught == []


def test_as_errors_they_leave_a_trained_network():
    net = regressor()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(nnc.NotConvergedWarning):
            net.fit(X, Y, epochs=5, lr=0.001, target_loss=0.0)
    assert net.state.epoch == 5


# ------------------------------------------------------------------------------------ where all is well


@pytest.mark.parametrize("seed", range(10))
def test_the_tutorial(seed):
    """Warnings are errors in these tests."""
    X, y = [[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]], [[0], [1], [1], [0]]
    NeuralNetwork([3, 4, 1], bias=False, init="uniform", seed=seed).fit(X, y, epochs=1500, lr=1.0)
    NeuralNetwork([3, 4, 1], seed=seed).fit(X, y, epochs=5000, lr=1.0)
    NeuralNetwork([3, 8, 1], activation="tanh", loss="bce", seed=seed).fit(X, y, epochs=1000, optimizer="adam", lr=0.01)
    NeuralNetwork([3, 4, 1], seed=seed).fit(X, y, epochs=300, lr=1.0, batch_size=1)


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh", "gelu"])
def test_digits(activation):
    X, y = load_digits()
    X_train, X_test, y_train, y_test = train_test_split(X / 16, y, seed=0)
    net = NeuralNetwork([64, 32, 10], activation=activation, loss="cross_entropy", dtype="float32", seed=0)
    net.fit(X_train, y_train, epochs=20, optimizer="adam", batch_size=32, validation=(X_test, y_test), dropout=0.1)
    net.fit(X_train, y_train, epochs=200, patience=5, validation=0.2, batch_size=32, min_delta=0.01)


@pytest.mark.parametrize("batch_size", [None, 1, 16])
@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh"])
def test_iris(activation, batch_size):
    X, y = load_iris()
    for scale_X in (None, "standardize", "minmax"):
        net = NeuralNetwork([4, 8, 3], activation=activation, loss="cross_entropy", seed=0, scale_X=scale_X)
        net.fit(X, y, epochs=30, lr=0.05, batch_size=batch_size)


NEEDS = {"search_with_optuna.py": "optuna", "search_on_a_cluster.py": "distributed"}


@pytest.mark.skipif(not EXAMPLES.exists(), reason="the examples are not here")
@pytest.mark.parametrize(
    "name", sorted({path.name for path in EXAMPLES.glob("*.py")} - {"mnist.py", "latency.py", "web_service.py"})
)
def test_examples(name, capsys, tmp_path, monkeypatch):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [name])  # pytest's own arguments would be read as the name of a picture
    monkeypatch.syspath_prepend(EXAMPLES)  # as for a script, whose neighbors it may import
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


# ---------------------------------------------------------------------------------------- overfitting

noise = np.random.default_rng(0)
NOISY = noise.normal(size=(60, 5))
NOISY_Y = NOISY[:, 0] + noise.normal(size=60)
HELD = noise.normal(size=(40, 5))
HELD_Y = HELD[:, 0] + noise.normal(size=40)


def wide(**settings):
    return NeuralNetwork([5, 30, 1], **{"activation": "tanh", "loss": "mse", "seed": 0, **settings})


def overfitting(n_held=40, **options):
    """Options of a fit to NOISY that overfits, with so many validation rows."""
    held = HELD[:n_held], HELD_Y[:n_held]
    return {"epochs": 400, "lr": 0.02, "optimizer": "adam", "validation": held, **options}


@pytest.mark.parametrize("n_held", [20, 40])
def test_overfitting(n_held):
    words = "val_loss has risen from", "pass restore_best=True"
    only(nnc.OverfittingWarning, lambda: wide().fit(NOISY, NOISY_Y, **overfitting(n_held)), *words)


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_overfitting_message_has_the_losses_of_the_history(optimizer, dtype):
    options = overfitting() if optimizer == "adam" else overfitting(optimizer="lbfgs", lr=None, epochs=60)
    with pytest.warns(nnc.OverfittingWarning) as caught:
        history = wide(dtype=dtype).fit(NOISY, NOISY_Y, **options)
    best = int(history.val_loss.argmin())
    assert f"{history.val_loss[best]:.4g} after epoch {best + 1} of {history.epochs} to" in str(caught[0].message)
    assert f"fallen from {history.loss[best]:.4g} to {history.loss[-1]:.4g}" in str(caught[0].message)


@pytest.mark.parametrize(
    "options",
    [
        {"n_held": 19},
        {"restore_best": True},
        {"restore_best": "last"},
        {"patience": 390},
        {"epochs": 30},  # the validation loss has not risen yet
        {"validation": (NOISY, NOISY_Y)},
        {"validation": None},
        {"l2": 0.3},
    ],
)
def test_no_overfitting(options):
    kinds, _ = warned(lambda: wide().fit(NOISY, NOISY_Y, **overfitting(**options)))
    assert nnc.OverfittingWarning not in kinds


def test_overfitting_with_patience_that_does_not_restore():
    options = overfitting(patience=390, restore_best=False)
    only(nnc.OverfittingWarning, lambda: wide().fit(NOISY, NOISY_Y, **options))


def test_overfitting_in_a_continued_fit_is_that_of_its_own_epochs():
    net, options = wide(), overfitting()
    assert warned(lambda: net.fit(NOISY, NOISY_Y, **overfitting(epochs=30)))[0] == []
    only(nnc.OverfittingWarning, lambda: net.fit(NOISY, NOISY_Y, **options), "of 400 to")
    assert warned(lambda: net.fit(NOISY, NOISY_Y, epochs=1, validation=options["validation"]))[0] == []


def test_overfitting_in_batches():
    only(nnc.OverfittingWarning, lambda: wide().fit_batches([(NOISY, NOISY_Y)], **overfitting()))


def test_overfitting_of_many_networks_is_one_warning():
    networks = nnc.clones(wide(), 3)
    only(nnc.OverfittingWarning, lambda: nnc.fit_many(networks, NOISY, NOISY_Y, **overfitting()), "2 other networks")


def shrink(optimum, noise=0.0, val_noise=0.0, epochs=600, loss="mse"):
    """Train one weight from 1 towards 0, where the training loss is lowest; `optimum` is the best for validation.

    The noise of the targets is added to the losses as its square.
    """
    ones, signs = np.ones((20, 1)), np.tile([1.0, -1.0], 10)
    net = NeuralNetwork([1, 1], output="identity", loss=loss, bias=False, init=[[[1.0]]])
    net.fit(ones, noise * signs, epochs=epochs, lr=0.05, validation=(ones, optimum + val_noise * signs))


@pytest.mark.parametrize(
    ("options", "warns"),
    [
        ({"val_noise": 0.6}, True),  # val_loss rises from 0.36 to 0.36 + 0.25, 1.69 times as much
        ({"val_noise": 0.8}, False),  # from 0.64 to 0.64 + 0.25, 1.39 times as much
        ({"noise": 0.4}, True),  # loss falls from 0.16 + 0.25 to 0.16, 0.39 times as much
        ({"noise": 0.6}, False),  # from 0.36 + 0.25 to 0.36, 0.59 times as much
    ],
)
def test_overfitting_limits(options, warns):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        shrink(0.5, **options)
    assert [warning.category for warning in caught] == [nnc.OverfittingWarning] * warns


def test_rounding_errors_of_a_perfect_fit_are_no_overfitting():
    shrink(1e-9)  # val_loss rises from 1e-21 to 1e-18, after 1 at the beginning
    with pytest.warns(nnc.OverfittingWarning):
        shrink(1e-6)


def test_losses_that_are_not_positive_are_no_overfitting():
    """A ratio of losses of both signs says nothing."""
    shrink(0.5, loss=lambda P, Y: (((P - Y) ** 2).mean() - 0.1, 2 * (P - Y) / P.size))
