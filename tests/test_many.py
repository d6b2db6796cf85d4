"""Tests of fit_many: each network gets the bits of its own fit, also if other networks fail."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

import nnc
from nnc import NeuralNetwork
from nnc._parallel import source
from nnc._parallel.fit import train_networks
from nnc._parallel.source import Source
from nnc._training.arguments import FitArguments
from nnc._training.plan import Plan

RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 3))
Y = np.sin(X[:, :1]) + X[:, 1:2] * X[:, 2:]
NAMES = np.array(["ash", "birch", "cedar"])[(X[:, 0] > 0).astype(int) + (X[:, 1] > 0.5)]

pytestmark = pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")


def regressors():
    """Return regressors of several shapes and both dtypes; some are so small that the core trains them together."""
    shapes = [[3, 4, 1], [3, 8, 5, 1], [3, 1], [3, 4, 1], [3, 40, 1], [3, 4, 1]]
    return [
        NeuralNetwork(sizes, activation="tanh", loss="mse", dtype=dtype, seed=i)
        for i, (sizes, dtype) in enumerate(zip(shapes, ["float64", "float32"] * 3, strict=True))
    ]


def classifiers():
    """Return classifiers for the labels NAMES with hidden layers of different widths."""
    return [NeuralNetwork([3, width, 3], loss="cross_entropy", seed=i) for i, width in enumerate((4, 16, 4, 5))]


def scaled_regressors():
    """Return regressors with scaled inputs and targets."""
    return [
        NeuralNetwork([3, width, 1], loss="mse", scale_X="standardize", scale_y="minmax", seed=i)
        for i, width in enumerate((3, 6, 3))
    ]


def assert_equal(one, other):
    """Assert that parameters, training states and histories of two networks are equal to the last bit."""
    assert one.params.tobytes() == other.params.tobytes()
    assert one.state.moments.tobytes() == other.state.moments.tobytes()
    assert (one.streams.shuffle_position, one.streams.dropout_position) == (
        other.streams.shuffle_position,
        other.streams.dropout_position,
    )
    first, second = one.history, other.history
    assert list(first) == list(second)
    for name in first:
        if name != "epoch_seconds":
            assert first[name].tobytes() == second[name].tobytes(), name
    assert (first.best_epoch, first.stop_reason) == (second.best_epoch, second.stop_reason)


FIT_OPTIONS = {
    "all rows": {"epochs": 30, "lr": 0.01},
    "batches": {"epochs": 5, "batch_size": 8, "lr": 0.01},
    "preset": {"epochs": 5},
    "preset with batch size": pytest.param({"batch_size": 60}, marks=pytest.mark.exhaustive),  # 10,000 epochs
    "preset with early stopping": {"patience": 2, "validation": 0.2, "batch_size": 20},
    "adam": {"epochs": 4, "batch_size": 16, "optimizer": "adam", "l2": 1e-3, "clip_norm": 1.0},
    "no shuffling": {"epochs": 4, "batch_size": 16, "shuffle": False, "optimizer": "momentum"},
    "validation fraction": {"epochs": 9, "validation": 0.2, "patience": 2, "lr": 0.01},
    "validation rows": {"epochs": 4, "validation": (X[:20], Y[:20]), "metrics": ("r2",), "batch_size": 10, "lr": 0.01},
    "metric": {"epochs": 3, "metrics": "mae", "lr": 0.01},
    "schedule": {"epochs": 5, "lr": nnc.CosineLR(0.1), "batch_size": 30},
    "schedule per step": {"epochs": 5, "lr": nnc.PerStep(nnc.CosineLR(0.1)), "batch_size": 30},
    "plateau": {"epochs": 9, "lr": nnc.ReduceLROnPlateau(0.1, patience=1)},
    "target loss": {"epochs": 500, "target_loss": 0.9, "lr": 0.05},
    "second order": {"epochs": 5, "optimizer": "lbfgs"},
    "sample weights": {"epochs": 3, "batch_size": 20, "sample_weight": np.arange(90.0), "lr": 0.01},
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("options", FIT_OPTIONS.values(), ids=FIT_OPTIONS)
@pytest.mark.parametrize("n_jobs", [1, 3])
def test_fit_many_gives_bits_of_separate_fits(options, n_jobs):
    separate, together = regressors(), regressors()
    for network in separate:
        network.fit(X, Y, n_threads=1, **options)
    history = nnc.fit_many(together, X, Y, n_jobs=n_jobs, **options)
    assert len(history) == len(together)
    for i, (one, other) in enumerate(zip(separate, together, strict=True)):
        assert_equal(one, other)
        assert history[i].loss.tobytes() == one.history.loss.tobytes()
        assert history[i].stop_reason == one.history.stop_reason


@pytest.mark.parametrize("build_networks", [regressors, scaled_regressors], ids=["unscaled", "scaled"])
@pytest.mark.parametrize("validation", [None, 0.25, (X[:10], Y[:10])], ids=["none", "fraction", "rows"])
@pytest.mark.parametrize("learning_rate", [{"lr": 0.01}, {}], ids=["constant", "preset"])
def test_rows_of_each_network_give_bits_of_separate_fits(build_networks, validation, learning_rate):
    separate, together = build_networks(), build_networks()
    rows = [RNG.integers(0, 90, 60) for _ in together]
    rows[0], rows[1] = None, X[:, 0] > 0
    options = {"epochs": 4, "batch_size": 7, "validation": validation, **learning_rate}
    for network, index in zip(separate, rows, strict=True):
        subset = slice(None) if index is None else index
        network.fit(X[subset], Y[subset], n_threads=1, **options)
    nnc.fit_many(together, X, Y, rows=rows, **options)
    for one, other in zip(separate, together, strict=True):
        assert_equal(one, other)
        assert one.predict(X).tobytes() == other.predict(X).tobytes()


@pytest.mark.parametrize("validation", [None, 0.25])
@pytest.mark.parametrize("rows_per_network", [False, True])
def test_sample_weights_of_each_network_give_bits_of_separate_fits(validation, rows_per_network):
    separate, together = regressors(), regressors()
    weights = [RNG.integers(1, 4, 90).astype(float) for _ in together]
    weights[2] = None
    rows = [np.arange(i, 90) for i in range(len(together))] if rows_per_network else None
    for i, network in enumerate(separate):
        subset = slice(None) if rows is None else rows[i]
        w = None if weights[i] is None else weights[i][subset]
        network.fit(
            X[subset], Y[subset], n_threads=1, epochs=3, lr=0.001, batch_size=20, sample_weight=w, validation=validation
        )
    options = {"epochs": 3, "lr": 0.001, "batch_size": 20, "validation": validation}
    nnc.fit_many(together, X, Y, rows=rows, sample_weight=nnc.PerNetwork(weights), **options)
    for one, other in zip(separate, together, strict=True):
        assert_equal(one, other)


@pytest.mark.parametrize("validation", [None, 0.25])
@pytest.mark.parametrize("learning_rate", [{"lr": 0.01}, {}], ids=["constant", "preset"])
def test_classifiers_get_bits_of_separate_fits(validation, learning_rate):
    separate, together = classifiers(), classifiers()
    options = {"epochs": 5, "batch_size": 9, "class_weight": "balanced", "validation": validation, **learning_rate}
    rows = [None, np.arange(60), np.arange(30, 90), np.arange(90)[::-1]]
    for network, index in zip(separate, rows, strict=True):
        subset = slice(None) if index is None else index
        network.fit(X[subset], NAMES[subset], n_threads=1, **options)
    nnc.fit_many(together, X, NAMES, rows=rows, **options)
    for one, other in zip(separate, together, strict=True):
        assert_equal(one, other)
        assert one.classes.tolist() == other.classes.tolist() == ["ash", "birch", "cedar"]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_small_networks_in_one_call_of_core_get_bits_of_separate_fits(dtype):
    rates = [0.5, 1.0, nnc.StepLR(1.0, 30), 1e300] * 25
    separate = [NeuralNetwork([3, 2 + i % 3, 1], dtype=dtype, seed=i) for i in range(100)]
    together = [network.copy() for network in separate]
    for network, lr in zip(separate, rates, strict=True):
        try:
            network.fit(X[:5], Y[:5] > 0, epochs=100, lr=lr, n_threads=1)
        except nnc.DivergedError:
            assert lr == 1e300
    history = nnc.fit_many(together, X[:5], Y[:5] > 0, epochs=100, lr=nnc.PerNetwork(rates), n_jobs=1)
    assert {i % 4 for i in history.diverged} <= {3}
    assert all(one.seconds > 0 for one in history)
    for one, other in zip(separate, together, strict=True):
        assert_equal(one, other)


def test_small_networks_with_schedule_per_step_get_bits_of_separate_fits():
    options = {"epochs": 5, "batch_size": 3, "lr": nnc.PerStep(nnc.CosineLR(0.5))}
    separate = [NeuralNetwork([3, 2, 1], seed=i) for i in range(40)]
    together = [network.copy() for network in separate]
    for network in separate:
        network.fit(X[:12], Y[:12], n_threads=1, **options)
    nnc.fit_many(together, X[:12], Y[:12], n_jobs=1, **options)
    for one, other in zip(separate, together, strict=True):
        assert_equal(one, other)


def test_classes_come_from_all_rows():
    network = classifiers()[0]
    nnc.fit_many([network], X, NAMES, rows=[NAMES != "cedar"], epochs=1, lr=0.001)
    assert network.classes.tolist() == ["ash", "birch", "cedar"]


def test_continued_fits_with_options_per_network_equal_separate_fits():
    separate, together = regressors(), regressors()
    rates, epochs = [0.01 * (i + 1) for i in range(6)], [3, 1, 4, 1, 5, 9]
    for network, lr, n in zip(separate, rates, epochs, strict=True):
        network.fit(X, Y, epochs=2, optimizer="adam", batch_size=10)
        network.fit(X, Y, epochs=n, lr=lr, batch_size=10)
        network.fit(X, Y, epochs=1, batch_size=10)
    nnc.fit_many(together, X, Y, epochs=2, optimizer="adam", batch_size=10)
    nnc.fit_many(together, X, Y, epochs=nnc.PerNetwork(epochs), lr=nnc.PerNetwork(rates), batch_size=10)
    for network in together:
        network.fit(X, Y, epochs=1, batch_size=10)
    for one, other in zip(separate, together, strict=True):
        assert_equal(one, other)


def test_data_are_converted_once_and_not_copied():
    source, networks = Source(X, Y), regressors()
    converted = [source.convert(network.converter) for network in networks]
    assert converted[0] is converted[2] is converted[4]
    assert converted[1] is converted[3]
    assert np.shares_memory(converted[0].data.X, X)
    dataset, _ = converted[0].build_dataset(Plan.of(networks[0], FitArguments()), None, np.ones(90))
    assert np.shares_memory(dataset.rows.X, X)


def test_history_has_numbers_of_each_network():
    history = nnc.fit_many(regressors(), X, Y, epochs=nnc.PerNetwork([1, 2, 3, 4, 5, 6]), lr=0.001, validation=(X, Y))
    assert history.epochs.tolist() == [1, 2, 3, 4, 5, 6]
    assert history.loss.tolist() == [one.loss[-1] for one in history]
    assert history.val_loss.tolist() == [one.val_loss[-1] for one in history]
    assert history.stop_reasons == ("epochs",) * 6
    assert "6 networks, 21 epochs" in repr(history)
    assert nnc.fit_many(regressors(), X, Y, epochs=1, lr=0.001).val_loss is None


def test_diverging_network_does_not_end_other_fits():
    separate, together = regressors(), regressors()
    rates = [0.01, 1e30, 0.01, 0.01, 1e300, 0.01]
    for network, lr in zip(separate, rates, strict=True):
        if lr < 1:
            network.fit(X, Y, epochs=20, lr=lr)
        else:
            with pytest.raises(nnc.DivergedError):
                network.fit(X, Y, epochs=20, lr=lr)
    with pytest.warns(nnc.DivergedWarning, match=r"networks\[1\] \(and 1 other network\)"):
        history = nnc.fit_many(together, X, Y, epochs=20, lr=nnc.PerNetwork(rates))
    assert list(history.diverged) == [1, 4]
    assert isinstance(history.diverged[1], nnc.DivergedError)
    assert history.stop_reasons[1] == "diverged"
    for one, other in zip(separate, together, strict=True):
        assert_equal(one, other)


def test_exception_of_callback_ends_all_fits_and_names_network():
    def fail(record):
        raise KeyError("simulated error in the callback")

    networks, callback = regressors(), nnc.PerNetwork([None] * 3 + [fail] + [None] * 2)
    with pytest.raises(KeyError) as caught:
        nnc.fit_many(networks, X, Y, epochs=10**9, lr=0.001, callback=callback, n_jobs=6)
    assert "in networks[3] of fit_many" in caught.value.__notes__
    networks[0].fit(X, Y, epochs=1)  # a fit succeeds, because fit_many has released all training locks
    networks[3].fit(X, Y, epochs=1)


def test_exception_of_custom_loss_during_selection_names_network():
    def fail(P, Y):
        raise KeyError("simulated error in the custom loss")

    networks = [NeuralNetwork([3, 4, 1], loss=loss, seed=0) for loss in ("mse", fail)]
    with pytest.raises(KeyError) as caught:
        nnc.fit_many(networks, X, Y)
    assert "in networks[1] of fit_many" in caught.value.__notes__


def test_network_in_training_is_rejected_before_any_change():
    networks = [NeuralNetwork([3, 4, 1], loss="mse", seed=i) for i in range(3)]
    before = [net.params.tobytes() for net in networks]

    def fit_during_training(record):
        with pytest.raises(RuntimeError, match=r"network is .*being trained"):
            nnc.fit_many(networks, X, Y, epochs=2, lr=0.1)
        assert [net.params.tobytes() for net in networks[:2]] == before[:2]

    networks[2].fit(X, Y, epochs=2, lr=0.1, callback=fit_during_training)
    nnc.fit_many(networks, X, Y, epochs=2, lr=0.1)


@pytest.fixture
def enable_ctrl_c():
    """Let Ctrl-C raise KeyboardInterrupt as in a terminal; processes in the background inherit an ignored signal."""
    previous_handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous_handler)


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_interrupt_keeps_current_weights_of_each_network(enable_ctrl_c):
    networks, before = regressors(), regressors()
    called = threading.Event()

    def interrupt(record):
        if not called.is_set():
            called.set()
            os.kill(os.getpid(), signal.SIGINT)

    history = nnc.fit_many(networks, X, Y, epochs=10**9, lr=0.001, n_jobs=2, callback=interrupt)
    assert set(history.stop_reasons) == {"interrupt"}
    assert history.epochs.max() > 0
    for i, network in enumerate(networks):
        if history.epochs[i] == 0:
            assert network.params.tobytes() == before[i].params.tobytes()
        else:
            before[i].fit(X, Y, epochs=int(history.epochs[i]), lr=0.001)
            assert network.params.tobytes() == before[i].params.tobytes()
        network.fit(X, Y, epochs=1, lr=0.001)


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_interrupt_ends_fit_while_main_thread_is_idle():
    code = """
import nnc, numpy as np, threading, os, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # background processes inherit an ignored signal
X = np.random.default_rng(0).normal(size=(1000, 3))
main, started = threading.main_thread(), threading.Event()
def interrupt_other_thread(record):
    # The main thread ends its fit as soon as the other thread has started its own; then only the other thread works.
    if threading.current_thread() is main:
        return started.wait(30)
    if not started.is_set():
        started.set()
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
networks = [nnc.NeuralNetwork([3, 50, 1], loss="mse") for _ in range(2)]
history = nnc.fit_many(networks, X, X[:, 0], epochs=10**8, lr=1e-6, n_jobs=2, callback=interrupt_other_thread)
print(history.stop_reasons)
"""
    result = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "interrupt" in result.stdout


def test_equal_warnings_of_networks_are_merged():
    networks = [NeuralNetwork([3, 4, 1], init="zeros", seed=i) for i in range(5)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        nnc.fit_many(networks, X, Y > 0, epochs=1, lr=0.001)
    assert [entry.category for entry in caught] == [nnc.EqualNeuronsWarning]
    assert str(caught[0].message).startswith("networks[0] (and 4 other networks): ")
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"epoch": 3}, TypeError, "fit_many has no argument 'epoch'; did you mean epochs"),
        ({"epochs": 3, "n_threads": 2}, TypeError, "n_jobs"),
        ({"epochs": nnc.PerNetwork([1, 2])}, ValueError, "epochs must have one value for each of 6 networks, got 2"),
        ({"epochs": 1, "lr": nnc.PerNetwork([0.1, 0.1, 0.1, -1, 0.1, 0.1])}, ValueError, "lr must be a positive"),
        ({"epochs": 1, "rows": [[0, 1]]}, ValueError, "rows must have one item for each of 6 networks, got 1"),
        ({"epochs": 1, "rows": 3}, TypeError, "rows must be a sequence"),
        ({"epochs": 1, "rows": [[90]] * 6}, ValueError, r"rows\[0\] must contain indices from 0 to 89, got 90"),
        ({"epochs": 1, "rows": [[]] * 6}, ValueError, r"rows\[0\]"),
        ({"epochs": 1, "rows": [[True]] * 6}, ValueError, "mask"),
        ({"epochs": 1, "rows": [[0.5]] * 6}, ValueError, "row indices"),
        ({"epochs": 1, "lr": [0.1] * 6}, TypeError, r"lr must be .* got \[0.1"),
        ({"epochs": 1, "lr": (0.1,) * 6}, TypeError, r"lr must be .* got \(0.1"),
        ({"epochs": 1, "sample_weight": nnc.PerNetwork(np.ones((5, 90)))}, ValueError, "sample_weight must have one"),
        ({"epochs": 1, "sample_weight": np.ones((6, 90))}, ValueError, "sample_weight must have shape"),
        ({"epochs": 1, "sample_weight": nnc.PerNetwork(np.ones((6, 9)))}, ValueError, "sample_weight must have shape"),
        ({"epochs": 1, "weights": np.ones((6, 90))}, TypeError, "no argument 'weights'; did you mean sample_weight?"),
        ({"epochs": 1, "n_jobs": 0}, ValueError, "n_jobs"),
        ({"lr": 0.1}, TypeError, "epochs must be set"),
    ],
)
def test_fit_many_rejects_invalid_arguments(arguments, error, message):
    networks, before = regressors(), [network.params for network in regressors()]
    with pytest.raises(error, match=message):
        nnc.fit_many(networks, X, Y, **arguments)
    assert all((network.params == params).all() for network, params in zip(networks, before, strict=True))
    assert all(network.state is None for network in networks)


def test_fit_many_rejects_invalid_networks():
    network = NeuralNetwork([3, 4, 1], seed=0)
    with pytest.raises(ValueError, match=r"networks must be different objects, .* networks\[0\] and networks\[2\]"):
        nnc.fit_many([network, network.copy(), network], X, Y, epochs=1)
    with pytest.raises(ValueError, match="at least one"):
        nnc.fit_many([], X, Y, epochs=1)
    with pytest.raises(TypeError, match=r"networks\[1\]"):
        nnc.fit_many([network, "net"], X, Y, epochs=1)
    with pytest.raises(TypeError, match="sequence of networks"):
        nnc.fit_many(network, X, Y, epochs=1)
    with pytest.raises(ValueError, match=r"X must have 2 columns"):
        nnc.fit_many([network, NeuralNetwork([2, 1])], X, Y, epochs=1, lr=0.001)
    nonfinite = NeuralNetwork([3, 1])
    nonfinite.weights[0][0, 0] = np.nan
    with pytest.raises(ValueError, match="must be finite"):
        nnc.fit_many([network, nonfinite], X, Y, epochs=1, lr=0.001)
    assert network.state is None


def test_fit_many_accepts_progress():
    pytest.importorskip("tqdm")
    nnc.fit_many(regressors(), X, Y, epochs=1, lr=0.001, progress=True)


def test_clones_equal_new_networks_with_other_seeds():
    net = NeuralNetwork([3, 5, 2], activation="tanh", dtype="float32", scale_X="standardize", seed=7)
    net.fit(X, X[:, :2], epochs=2, lr=0.001)
    clones = nnc.clones(net, 3)
    assert [clone.seed for clone in clones] == [7, 8, 9]
    for clone in clones:
        fresh = NeuralNetwork([3, 5, 2], activation="tanh", dtype="float32", scale_X="standardize", seed=clone.seed)
        assert clone.params.tobytes() == fresh.params.tobytes()
        clone.fit(X, X[:, :2], epochs=2, lr=0.001, batch_size=8)
        fresh.fit(X, X[:, :2], epochs=2, lr=0.001, batch_size=8)
        assert_equal(clone, fresh)
    initialized = nnc.clones(net, 2, seeds=[1, 2], init="he_normal")
    fresh = NeuralNetwork([3, 5, 2], activation="tanh", dtype="float32", init="he_normal", seed=2)
    assert initialized[1].params.tobytes() == fresh.params.tobytes()
    with pytest.raises(ValueError, match="seeds must contain 3 seeds"):
        nnc.clones(net, 3, seeds=[1])
    with pytest.raises(TypeError, match="seeds must be integers, one for each clone, got 3"):
        nnc.clones(net, 3, seeds=3)
    with pytest.raises(TypeError, match="net must be a NeuralNetwork"):
        nnc.clones([net], 3)


def test_clones_have_running_statistics_of_new_network():
    def build_network():
        layers = [3, nnc.layers.Dense(4, "identity"), nnc.layers.BatchNorm("tanh"), 2]
        return NeuralNetwork(layers, loss="mse", seed=7)

    net, fresh = build_network(), build_network()
    net.fit(X, X[:, :2], epochs=3, lr=0.001)
    (clone,) = nnc.clones(net, 1)
    assert clone.layers[1].running_var.tolist() == [1] * 4
    assert clone.predict(X).tobytes() == fresh.predict(X).tobytes()
    for network in (clone, fresh):
        network.fit(X, X[:, :2], epochs=2, lr=0.001)
    assert clone.predict(X).tobytes() == fresh.predict(X).tobytes()


# ------------------------------------------------------------------------------------------------ executors


# A schedule that worker processes can unpickle: they may be unable to import this file.
PICKLABLE_SCHEDULE = partial(min, 0.01)


@pytest.mark.parametrize("workers", [1, 3])
def test_thread_executor_gives_same_bits(workers):
    separate, together = regressors(), regressors()
    options = {"epochs": 20, "batch_size": 16, "optimizer": "adam", "lr": PICKLABLE_SCHEDULE, "validation": 0.2}
    nnc.fit_many(separate, X, Y, **options)
    with ThreadPoolExecutor(workers) as executor:
        history = nnc.fit_many(together, X, Y, executor=executor, **options)
    assert history.epochs.tolist() == [20] * 6
    for one, other in zip(separate, together, strict=True):
        assert_equal(one, other)


@pytest.fixture(scope="module")
def process_pool():
    """Return an executor of two worker processes that all tests of this file share."""
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as executor:
        yield executor


def test_process_executor_gives_same_bits(process_pool):
    separate, together = regressors(), regressors()
    rates = [0.01, 0.01, 1e30, PICKLABLE_SCHEDULE, nnc.StepLR(0.1, 10), 0.01]
    options = {
        "epochs": 20,
        "batch_size": 16,
        "lr": nnc.PerNetwork(rates),
        "rows": [None, *(np.arange(i, 90) for i in range(5))],
    }
    views = [network.weights[0] for network in together]
    nnc.fit_many(separate, X, Y, **options)
    with pytest.warns(nnc.DivergedWarning):
        history = nnc.fit_many(together, X, Y, executor=process_pool, **options)
    assert list(history.diverged) == [2]
    for one, other, view in zip(separate, together, views, strict=True):
        assert_equal(one, other)
        assert np.shares_memory(view, other.weights[0])
    del together[2], separate[2]
    nnc.fit_many(together, X, Y, epochs=2, batch_size=16, executor=process_pool)
    nnc.fit_many(separate, X, Y, epochs=2, batch_size=16)
    for one, other in zip(separate, together, strict=True):
        assert_equal(one, other)
        one.fit(X, Y, epochs=3, batch_size=16)
        other.fit(X, Y, epochs=3, batch_size=16)
        assert_equal(one, other)


def test_process_executor_returns_classes_and_scalings(process_pool):
    separate, together = classifiers(), classifiers()
    nnc.fit_many(separate, X, NAMES, epochs=2, lr=0.001)
    nnc.fit_many(together, X, NAMES, epochs=2, lr=0.001, executor=process_pool)
    assert [network.classes.tolist() for network in together] == [network.classes.tolist() for network in separate]
    separate, together = scaled_regressors(), scaled_regressors()
    nnc.fit_many(separate, X, Y, epochs=2, lr=0.001)
    nnc.fit_many(together, X, Y, epochs=2, lr=0.001, executor=process_pool)
    assert all((a.predict(X) == b.predict(X)).all() for a, b in zip(separate, together, strict=True))


@pytest.mark.parametrize("scaler", ["pixels", nnc.Standardize(1, 2), "learned"])
def test_networks_with_equal_scaling_convert_rows_once(scaler, monkeypatch):
    """A converted copy of the rows for each network would need too much memory."""
    first = NeuralNetwork([3, 4, 1], loss="mse", scale_X="standardize" if scaler == "learned" else scaler, seed=0)
    if scaler == "learned":
        first.fit(X, Y, epochs=1, lr=0.001)
    copies, conversions, convert = [pickle.loads(pickle.dumps(first)) for _ in range(5)], [], source.ConvertedData
    # The class is patched to count conversions: results do not depend on their number, and memory use hides it.
    monkeypatch.setattr(
        source, "ConvertedData", lambda *arguments: conversions.append(convert(*arguments)) or conversions[-1]
    )
    nnc.fit_many(copies, X, Y, epochs=2, lr=0.001)
    assert len(conversions) == 1
    first.fit(X, Y, epochs=2, lr=0.001)
    assert_equal(copies[0], first)


def test_exception_in_worker_process_is_raised(process_pool):
    networks = regressors()
    with pytest.raises(ValueError, match="batch_size requires an optimizer"):
        nnc.fit_many(networks, X, Y, epochs=2, batch_size=4, optimizer="lbfgs", executor=process_pool)
    networks[0].fit(X, Y, epochs=1, lr=0.001)


def test_interrupt_cancels_fits_that_have_not_started(enable_ctrl_c):
    def interrupt(record):
        if record.epoch == 3:
            os.kill(os.getpid(), signal.SIGINT)

    networks = nnc.clones(NeuralNetwork([3, 20, 1], loss="mse"), 30)
    with ThreadPoolExecutor(1) as executor:
        history = nnc.fit_many(networks, X, Y, epochs=10**8, lr=1e-6, callback=interrupt, executor=executor)
    assert set(history.stop_reasons) == {"interrupt"}
    assert (history.epochs == 0).sum() >= 28
    for network in networks:
        network.fit(X, Y, epochs=1, lr=0.001)


def test_fit_many_rejects_invalid_executor():
    with pytest.raises(TypeError, match="executor must have the method submit"):
        nnc.fit_many(regressors(), X, Y, epochs=1, executor=3)


def mean_square(P, Y):
    """Return the mean squared error and its derivative with respect to the outputs P; a custom loss."""
    return ((P - Y) ** 2).mean(), 2 * (P - Y) / P.size


@pytest.mark.sampled(3)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("width", "batch_size", "shuffle"),
    [(16, 16, True), (136, 16, True), (16, 1, True), (16, None, True), (16, 16, False)],
)
def test_copied_rows_and_shared_rows_give_same_bits(width, batch_size, shuffle, weighted, set_limit):
    """Small subsets of the rows are copied for each network, and large ones are read from the shared array."""
    rng = np.random.default_rng(0)
    X, labels = rng.standard_normal((200, 5)), rng.integers(0, 3, 200)
    targets = {"mse": X[:, :1] ** 2, "cross_entropy": labels, "function": X[:, :1] ** 2}
    weights = rng.uniform(0.5, 1, (3, 200))
    rows = [np.sort(rng.permutation(200)[:150]) for _ in range(3)]
    validation_rows = [np.setdiff1d(np.arange(200), index) for index in rows]
    for loss, y in targets.items():
        if loss == "function" and weighted:  # custom losses do not support sample weights
            continue
        results = []
        for max_copy_bytes, validation_type in ((2**40, "arrays"), (2**40, "rows"), (0, "rows")):
            set_limit("nnc._parallel.source.MAX_COPY_BYTES", max_copy_bytes)
            loss_argument, n_out = mean_square if loss == "function" else loss, 3 if y is labels else 1
            networks = [
                NeuralNetwork([5, width, n_out], loss=loss_argument, dtype="float32", seed=seed) for seed in range(3)
            ]
            validation = [source.ValidationRows(index) for index in validation_rows]
            if validation_type == "arrays":
                validation = [
                    (X[index], y[index], *([weights[i, index]] * weighted)) for i, index in enumerate(validation_rows)
                ]
            options = {
                "epochs": 3,
                "batch_size": batch_size,
                "shuffle": shuffle,
                "lr": 0.01,
                "validation": nnc.PerNetwork(validation),
            }
            options["sample_weight"] = nnc.PerNetwork(weights) if weighted else None
            outcomes = train_networks(networks, X, y, rows, options, 2)
            columns = [outcome.history[name].tobytes() for outcome in outcomes for name in ("loss", "val_loss")]
            results.append(([net.params.tobytes() for net in networks], columns))
        assert results[0] == results[1] == results[2]
