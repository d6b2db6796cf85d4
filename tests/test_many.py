"""Many networks in one call: each as if it had been alone, to the last bit, whatever happens to the others."""

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

RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 3))
Y = np.sin(X[:, :1]) + X[:, 1:2] * X[:, 2:]
NAMES = np.array(["ash", "birch", "cedar"])[(X[:, 0] > 0).astype(int) + (X[:, 1] > 0.5)]

pytestmark = pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")


def regressors():
    """Of several shapes and both precisions, small ones that are trained together among them."""
    shapes = [[3, 4, 1], [3, 8, 5, 1], [3, 1], [3, 4, 1], [3, 40, 1], [3, 4, 1]]
    return [
        NeuralNetwork(sizes, activation="tanh", loss="mse", dtype=dtype, seed=i)
        for i, (sizes, dtype) in enumerate(zip(shapes, ["float64", "float32"] * 3, strict=True))
    ]


def classifiers():
    return [NeuralNetwork([3, width, 3], loss="cross_entropy", seed=i) for i, width in enumerate((4, 16, 4, 5))]


def scaled():
    return [
        NeuralNetwork([3, width, 1], loss="mse", scale_X="standardize", scale_y="minmax", seed=i)
        for i, width in enumerate((3, 6, 3))
    ]


def assert_equal(one, other):
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


OPTIONS = {
    "all rows": {"epochs": 30, "lr": 0.01},
    "batches": {"epochs": 5, "batch_size": 8, "lr": 0.01},
    "by rule": {"epochs": 5},
    "all by rule": {"batch_size": 60},
    "by rule, until it stays": {"patience": 2, "validation": 0.2, "batch_size": 20},
    "adam": {"epochs": 4, "batch_size": 16, "optimizer": "adam", "l2": 1e-3, "clip_norm": 1.0},
    "as they lie": {"epochs": 4, "batch_size": 16, "shuffle": False, "optimizer": "momentum"},
    "a share held out": {"epochs": 9, "validation": 0.2, "patience": 2, "lr": 0.01},
    "rows held out": {"epochs": 4, "validation": (X[:20], Y[:20]), "metrics": ("r2",), "batch_size": 10, "lr": 0.01},
    "a metric": {"epochs": 3, "metrics": "mae", "lr": 0.01},
    "schedule": {"epochs": 5, "lr": nnc.CosineLR(0.1), "batch_size": 30},
    "schedule of steps": {"epochs": 5, "lr": nnc.PerStep(nnc.CosineLR(0.1)), "batch_size": 30},
    "plateau": {"epochs": 9, "lr": nnc.ReduceLROnPlateau(0.1, patience=1)},
    "target": {"epochs": 500, "target_loss": 0.9, "lr": 0.05},
    "second order": {"epochs": 5, "optimizer": "lbfgs"},
    "weights": {"epochs": 3, "batch_size": 20, "sample_weight": np.arange(90.0), "lr": 0.01},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("n_jobs", [1, 3])
def test_each_as_if_alone(options, n_jobs):
    alone, many = regressors(), regressors()
    for network in alone:
        network.fit(X, Y, n_threads=1, **options)
    history = nnc.fit_many(many, X, Y, n_jobs=n_jobs, **options)
    assert len(history) == len(many)
    for i, (one, other) in enumerate(zip(alone, many, strict=True)):
        assert_equal(one, other)
        assert history[i].loss.tobytes() == one.history.loss.tobytes()
        assert history[i].stop_reason == one.history.stop_reason


@pytest.mark.parametrize("make", [regressors, scaled], ids=["as it is", "scaled"])
@pytest.mark.parametrize("validation", [None, 0.25, (X[:10], Y[:10])], ids=["none", "share", "rows"])
@pytest.mark.parametrize("rate", [{"lr": 0.01}, {}], ids=["a rate", "by rule"])
def test_rows_of_their_own(make, validation, rate):
    alone, many = make(), make()
    rows = [RNG.integers(0, 90, 60) for _ in many]
    rows[0], rows[1] = None, X[:, 0] > 0
    options = {"epochs": 4, "batch_size": 7, "validation": validation, **rate}
    for network, index in zip(alone, rows, strict=True):
        own = slice(None) if index is None else index
        network.fit(X[own], Y[own], n_threads=1, **options)
    nnc.fit_many(many, X, Y, rows=rows, **options)
    for one, other in zip(alone, many, strict=True):
        assert_equal(one, other)
        assert one.predict(X).tobytes() == other.predict(X).tobytes()


@pytest.mark.parametrize("validation", [None, 0.25])
@pytest.mark.parametrize("own_rows", [False, True])
def test_weights_of_their_own(validation, own_rows):
    alone, many = regressors(), regressors()
    weights = [RNG.integers(1, 4, 90).astype(float) for _ in many]
    weights[2] = None
    rows = [np.arange(i, 90) for i in range(len(many))] if own_rows else None
    for i, network in enumerate(alone):
        own = slice(None) if rows is None else rows[i]
        w = None if weights[i] is None else weights[i][own]
        network.fit(
            X[own], Y[own], n_threads=1, epochs=3, lr=0.001, batch_size=20, sample_weight=w, validation=validation
        )
    options = {"epochs": 3, "lr": 0.001, "batch_size": 20, "validation": validation}
    nnc.fit_many(many, X, Y, rows=rows, sample_weight=nnc.PerNetwork(weights), **options)
    for one, other in zip(alone, many, strict=True):
        assert_equal(one, other)


@pytest.mark.parametrize("validation", [None, 0.25])
@pytest.mark.parametrize("rate", [{"lr": 0.01}, {}], ids=["a rate", "by rule"])
def test_classes(validation, rate):
    alone, many = classifiers(), classifiers()
    options = {"epochs": 5, "batch_size": 9, "class_weight": "balanced", "validation": validation, **rate}
    rows = [None, np.arange(60), np.arange(30, 90), np.arange(90)[::-1]]
    for network, index in zip(alone, rows, strict=True):
        own = slice(None) if index is None else index
        network.fit(X[own], NAMES[own], n_threads=1, **options)
    nnc.fit_many(many, X, NAMES, rows=rows, **options)
    for one, other in zip(alone, many, strict=True):
        assert_equal(one, other)
        assert one.classes.tolist() == other.classes.tolist() == ["ash", "birch", "cedar"]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_many_small_ones_in_one_call_of_the_core(dtype):
    rates = [0.5, 1.0, nnc.StepLR(1.0, 30), 1e300] * 25
    alone = [NeuralNetwork([3, 2 + i % 3, 1], dtype=dtype, seed=i) for i in range(100)]
    many = [network.copy() for network in alone]
    for network, lr in zip(alone, rates, strict=True):
        try:
            network.fit(X[:5], Y[:5] > 0, epochs=100, lr=lr, n_threads=1)
        except nnc.DivergedError:
            assert lr == 1e300
    history = nnc.fit_many(many, X[:5], Y[:5] > 0, epochs=100, lr=nnc.PerNetwork(rates), n_jobs=1)
    assert {i % 4 for i in history.diverged} <= {3}
    assert all(one.seconds > 0 for one in history)
    for one, other in zip(alone, many, strict=True):
        assert_equal(one, other)


def test_many_small_ones_with_a_rate_for_each_step():
    options = {"epochs": 5, "batch_size": 3, "lr": nnc.PerStep(nnc.CosineLR(0.5))}
    alone = [NeuralNetwork([3, 2, 1], seed=i) for i in range(40)]
    many = [network.copy() for network in alone]
    for network in alone:
        network.fit(X[:12], Y[:12], n_threads=1, **options)
    nnc.fit_many(many, X[:12], Y[:12], n_jobs=1, **options)
    for one, other in zip(alone, many, strict=True):
        assert_equal(one, other)


def test_classes_are_those_of_all_rows():
    network = classifiers()[0]
    nnc.fit_many([network], X, NAMES, rows=[NAMES != "cedar"], epochs=1, lr=0.001)
    assert network.classes.tolist() == ["ash", "birch", "cedar"]


def test_going_on_and_options_of_their_own():
    alone, many = regressors(), regressors()
    rates, epochs = [0.01 * (i + 1) for i in range(6)], [3, 1, 4, 1, 5, 9]
    for network, lr, n in zip(alone, rates, epochs, strict=True):
        network.fit(X, Y, epochs=2, optimizer="adam", batch_size=10)
        network.fit(X, Y, epochs=n, lr=lr, batch_size=10)
        network.fit(X, Y, epochs=1, batch_size=10)
    nnc.fit_many(many, X, Y, epochs=2, optimizer="adam", batch_size=10)
    nnc.fit_many(many, X, Y, epochs=nnc.PerNetwork(epochs), lr=nnc.PerNetwork(rates), batch_size=10)
    for network in many:
        network.fit(X, Y, epochs=1, batch_size=10)
    for one, other in zip(alone, many, strict=True):
        assert_equal(one, other)


def test_data_is_taken_in_once_and_not_copied():
    source, networks = Source(X, Y), regressors()
    converted = [source.convert(network.converter) for network in networks]
    assert converted[0] is converted[2] is converted[4]
    assert converted[1] is converted[3]
    assert np.shares_memory(converted[0].data.X, X)
    dataset = converted[0].build_dataset(networks[0], networks[0].converter, FitArguments(), None, np.ones(90))
    assert np.shares_memory(dataset.rows.X, X)


def test_history():
    history = nnc.fit_many(regressors(), X, Y, epochs=nnc.PerNetwork([1, 2, 3, 4, 5, 6]), lr=0.001, validation=(X, Y))
    assert history.epochs.tolist() == [1, 2, 3, 4, 5, 6]
    assert history.loss.tolist() == [one.loss[-1] for one in history]
    assert history.val_loss.tolist() == [one.val_loss[-1] for one in history]
    assert history.stop_reasons == ("epochs",) * 6
    assert "6 networks, 21 epochs" in repr(history)
    assert nnc.fit_many(regressors(), X, Y, epochs=1, lr=0.001).val_loss is None


def test_one_that_diverges_does_not_end_the_others():
    alone, many = regressors(), regressors()
    rates = [0.01, 1e30, 0.01, 0.01, 1e300, 0.01]
    for network, lr in zip(alone, rates, strict=True):
        if lr < 1:
            network.fit(X, Y, epochs=20, lr=lr)
        else:
            with pytest.raises(nnc.DivergedError):
                network.fit(X, Y, epochs=20, lr=lr)
    with pytest.warns(nnc.DivergedWarning, match=r"networks\[1\] \(and 1 other network\)"):
        history = nnc.fit_many(many, X, Y, epochs=20, lr=nnc.PerNetwork(rates))
    assert list(history.diverged) == [1, 4]
    assert isinstance(history.diverged[1], nnc.DivergedError)
    assert history.stop_reasons[1] == "diverged"
    for one, other in zip(alone, many, strict=True):
        assert_equal(one, other)


def test_an_exception_ends_all_and_says_where_it_was():
    def fail(record):
        raise KeyError("no such thing")

    networks, callback = regressors(), nnc.PerNetwork([None] * 3 + [fail] + [None] * 2)
    with pytest.raises(KeyError) as caught:
        nnc.fit_many(networks, X, Y, epochs=10**9, lr=0.001, callback=callback, n_jobs=6)
    assert "in networks[3] of fit_many" in caught.value.__notes__
    networks[0].fit(X, Y, epochs=1)  # no turn is left taken
    networks[3].fit(X, Y, epochs=1)


def test_networks_of_others_are_refused_before_anything_changes():
    nets = [NeuralNetwork([3, 4, 1], loss="mse", seed=i) for i in range(3)]
    before = [net.params.tobytes() for net in nets]

    def meanwhile(record):
        with pytest.raises(RuntimeError, match=r"network is .*being trained"):
            nnc.fit_many(nets, X, Y, epochs=2, lr=0.1)
        assert [net.params.tobytes() for net in nets[:2]] == before[:2]

    nets[2].fit(X, Y, epochs=2, lr=0.1, callback=meanwhile)
    nnc.fit_many(nets, X, Y, epochs=2, lr=0.1)


@pytest.fixture
def ctrl_c():
    """As in a terminal: a process in the background inherits an ignored one."""
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, old)


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_leaves_each_as_it_is(ctrl_c):
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
def test_ctrl_c_reaches_a_main_thread_that_has_nothing_to_do():
    code = """
import nnc, numpy as np, threading, os, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background inherits an ignored one
X = np.random.default_rng(0).normal(size=(1000, 3))
main, begun = threading.main_thread(), threading.Event()
def first(record):  # the main thread ends with its network as soon as the other one has begun with its own
    if threading.current_thread() is main:
        return begun.wait(30)
    if not begun.is_set():
        begun.set()
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
networks = [nnc.NeuralNetwork([3, 50, 1], loss="mse") for _ in range(2)]
history = nnc.fit_many(networks, X, X[:, 0], epochs=10**8, lr=1e-6, n_jobs=2, callback=first)
print(history.stop_reasons)
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "interrupt" in done.stdout


def test_warnings_are_one_of_each_kind():
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
def test_what_is_refused(arguments, error, message):
    networks, before = regressors(), [network.params for network in regressors()]
    with pytest.raises(error, match=message):
        nnc.fit_many(networks, X, Y, **arguments)
    assert all((network.params == params).all() for network, params in zip(networks, before, strict=True))
    assert all(network.state is None for network in networks)


def test_networks_are_checked():
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
    broken = NeuralNetwork([3, 1])
    broken.weights[0][0, 0] = np.nan
    with pytest.raises(ValueError, match="must be finite"):
        nnc.fit_many([network, broken], X, Y, epochs=1, lr=0.001)
    assert network.state is None


def test_progress():
    pytest.importorskip("tqdm")
    nnc.fit_many(regressors(), X, Y, epochs=1, lr=0.001, progress=True)


def test_clones():
    net = NeuralNetwork([3, 5, 2], activation="tanh", dtype="float32", scale_X="standardize", seed=7)
    net.fit(X, X[:, :2], epochs=2, lr=0.001)
    made = nnc.clones(net, 3)
    assert [one.seed for one in made] == [7, 8, 9]
    for one in made:
        fresh = NeuralNetwork([3, 5, 2], activation="tanh", dtype="float32", scale_X="standardize", seed=one.seed)
        assert one.params.tobytes() == fresh.params.tobytes()
        one.fit(X, X[:, :2], epochs=2, lr=0.001, batch_size=8)
        fresh.fit(X, X[:, :2], epochs=2, lr=0.001, batch_size=8)
        assert_equal(one, fresh)
    drawn = nnc.clones(net, 2, seeds=[1, 2], init="he_normal")
    fresh = NeuralNetwork([3, 5, 2], activation="tanh", dtype="float32", init="he_normal", seed=2)
    assert drawn[1].params.tobytes() == fresh.params.tobytes()
    with pytest.raises(ValueError, match="seeds must contain 3 seeds"):
        nnc.clones(net, 3, seeds=[1])
    with pytest.raises(TypeError, match="seeds must be integers, one for each clone, got 3"):
        nnc.clones(net, 3, seeds=3)
    with pytest.raises(TypeError, match="net must be a NeuralNetwork"):
        nnc.clones([net], 3)


def test_clones_have_the_statistics_of_a_new_network():
    def made():
        layers = [3, nnc.layers.Dense(4, "identity"), nnc.layers.BatchNorm("tanh"), 2]
        return NeuralNetwork(layers, loss="mse", seed=7)

    net, fresh = made(), made()
    net.fit(X, X[:, :2], epochs=3, lr=0.001)
    (clone,) = nnc.clones(net, 1)
    assert clone.layers[1].running_var.tolist() == [1] * 4
    assert clone.predict(X).tobytes() == fresh.predict(X).tobytes()
    for one in (clone, fresh):
        one.fit(X, X[:, :2], epochs=2, lr=0.001)
    assert clone.predict(X).tobytes() == fresh.predict(X).tobytes()


# ------------------------------------------------------------------------------------------------ executors


RISING = partial(min, 0.01)  # a function of the epoch that other processes know: they may not find this file


@pytest.mark.parametrize("workers", [1, 3])
def test_threads_of_an_executor(workers):
    alone, many = regressors(), regressors()
    options = {"epochs": 20, "batch_size": 16, "optimizer": "adam", "lr": RISING, "validation": 0.2}
    nnc.fit_many(alone, X, Y, **options)
    with ThreadPoolExecutor(workers) as executor:
        history = nnc.fit_many(many, X, Y, executor=executor, **options)
    assert history.epochs.tolist() == [20] * 6
    for one, other in zip(alone, many, strict=True):
        assert_equal(one, other)


@pytest.fixture(scope="module")
def processes():
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as executor:
        yield executor


def test_processes_of_an_executor(processes):
    alone, many = regressors(), regressors()
    rates = [0.01, 0.01, 1e30, RISING, nnc.StepLR(0.1, 10), 0.01]
    options = {
        "epochs": 20,
        "batch_size": 16,
        "lr": nnc.PerNetwork(rates),
        "rows": [None, *(np.arange(i, 90) for i in range(5))],
    }
    views = [network.weights[0] for network in many]
    nnc.fit_many(alone, X, Y, **options)
    with pytest.warns(nnc.DivergedWarning):
        history = nnc.fit_many(many, X, Y, executor=processes, **options)
    assert list(history.diverged) == [2]
    for one, other, view in zip(alone, many, views, strict=True):
        assert_equal(one, other)
        assert np.shares_memory(view, other.weights[0])
    del many[2], alone[2]
    nnc.fit_many(many, X, Y, epochs=2, batch_size=16, executor=processes)
    nnc.fit_many(alone, X, Y, epochs=2, batch_size=16)
    for one, other in zip(alone, many, strict=True):
        assert_equal(one, other)
        one.fit(X, Y, epochs=3, batch_size=16)
        other.fit(X, Y, epochs=3, batch_size=16)
        assert_equal(one, other)


def test_classes_and_scalings_come_back(processes):
    alone, many = classifiers(), classifiers()
    nnc.fit_many(alone, X, NAMES, epochs=2, lr=0.001)
    nnc.fit_many(many, X, NAMES, epochs=2, lr=0.001, executor=processes)
    assert [network.classes.tolist() for network in many] == [network.classes.tolist() for network in alone]
    alone, many = scaled(), scaled()
    nnc.fit_many(alone, X, Y, epochs=2, lr=0.001)
    nnc.fit_many(many, X, Y, epochs=2, lr=0.001, executor=processes)
    assert all((a.predict(X) == b.predict(X)).all() for a, b in zip(alone, many, strict=True))


@pytest.mark.parametrize("scaler", ["pixels", nnc.Standardize(1, 2), "learned"])
def test_networks_with_equal_scaling_convert_the_rows_once(scaler, monkeypatch):
    """A copy of the rows for each of them would be much of them."""
    first = NeuralNetwork([3, 4, 1], loss="mse", scale_X="standardize" if scaler == "learned" else scaler, seed=0)
    if scaler == "learned":
        first.fit(X, Y, epochs=1, lr=0.001)
    copies, conversions, convert = [pickle.loads(pickle.dumps(first)) for _ in range(5)], [], source.ConvertedData
    # The conversions of X only cost memory, of which pools of threads need more than the rows.
    monkeypatch.setattr(
        source, "ConvertedData", lambda *arguments: conversions.append(convert(*arguments)) or conversions[-1]
    )
    nnc.fit_many(copies, X, Y, epochs=2, lr=0.001)
    assert len(conversions) == 1
    first.fit(X, Y, epochs=2, lr=0.001)
    assert_equal(copies[0], first)


def test_an_exception_in_a_worker(processes):
    networks = regressors()
    with pytest.raises(ValueError, match="batch_size must be left out"):
        nnc.fit_many(networks, X, Y, epochs=2, batch_size=4, optimizer="lbfgs", executor=processes)
    networks[0].fit(X, Y, epochs=1, lr=0.001)


def test_ctrl_c_drops_what_has_not_begun(ctrl_c):
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


def test_what_is_no_executor():
    with pytest.raises(TypeError, match="executor must have the method submit"):
        nnc.fit_many(regressors(), X, Y, epochs=1, executor=3)
    with ThreadPoolExecutor(1) as executor, pytest.raises(ValueError, match="n_jobs must not be passed"):
        nnc.fit_many(regressors(), X, Y, epochs=1, executor=executor, n_jobs=2)


def mean_square(P, Y):
    return ((P - Y) ** 2).mean(), 2 * (P - Y) / P.size


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("width", "batch", "shuffle"), [(16, 16, True), (136, 16, True), (16, 1, True), (16, None, True), (16, 16, False)]
)
def test_rows_are_read_where_they_lie_to_the_same_bits(width, batch, shuffle, weighted, set_limit):
    """Few rows are copied for their network, many are not: that changes no bit, of what is learned and of losses."""
    rng = np.random.default_rng(0)
    X, labels = rng.standard_normal((200, 5)), rng.integers(0, 3, 200)
    targets = {"mse": X[:, :1] ** 2, "cross_entropy": labels, "function": X[:, :1] ** 2}
    weights = rng.uniform(0.5, 1, (3, 200))
    rows = [np.sort(rng.permutation(200)[:150]) for _ in range(3)]
    apart = [np.setdiff1d(np.arange(200), index) for index in rows]
    for loss, y in targets.items():
        if loss == "function" and weighted:  # which has none
            continue
        found = []
        for copied, given in ((2**40, "arrays"), (2**40, "rows"), (0, "rows")):
            set_limit("nnc._parallel.source.MAX_COPY_BYTES", copied)
            kind, n_out = mean_square if loss == "function" else loss, 3 if y is labels else 1
            nets = [NeuralNetwork([5, width, n_out], loss=kind, dtype="float32", seed=seed) for seed in range(3)]
            held = [source.ValidationRows(index) for index in apart]
            if given == "arrays":
                held = [(X[index], y[index], *([weights[i, index]] * weighted)) for i, index in enumerate(apart)]
            options = {
                "epochs": 3,
                "batch_size": batch,
                "shuffle": shuffle,
                "lr": 0.01,
                "validation": nnc.PerNetwork(held),
            }
            options["sample_weight"] = nnc.PerNetwork(weights) if weighted else None
            outcomes = train_networks(nets, X, y, rows, options, 2)
            columns = [outcome.history[name].tobytes() for outcome in outcomes for name in ("loss", "val_loss")]
            found.append(([net.params.tobytes() for net in nets], columns))
        assert found[0] == found[1] == found[2]
