"""Runs of training: the same bits every time and for every number of threads, and ended as promised."""

import _thread
import contextlib
import itertools
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as searching
from hypothesis import strategies as st

import nnc
from nnc import SGD, DivergedError, NeuralNetwork, _cpu
from nnc._registry.activations import HIDDEN
from nnc._team import Interrupt, Team
from nnc._training import loop
from nnc._training.threads import ThreadTuner, avoid_caller_processor, may_set_affinity
from nnc._utils import processors

OPTIMIZERS = ("sgd", "momentum", "adam")
posix = pytest.mark.skipif(os.name != "posix", reason="needs signals and processes as POSIX has them")


def data(rows, n_in, n_out, loss="mse", seed=0):
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 1, (rows, n_in))
    return X, rng.integers(0, n_out, rows) if loss == "cross_entropy" else rng.uniform(0, 1, (rows, n_out))


def trained(sizes, rows, *, loss="mse", dtype="float64", seed=1, activation="tanh", **settings):
    """The bits of all parameters and losses after a fit."""
    net = NeuralNetwork(sizes, activation=activation, loss=loss, dtype=dtype, seed=seed)
    X, y = data(rows, sizes[0], sizes[-1], loss)
    history = net.fit(X, y, **{"lr": 0.01, **settings})
    return net.params.tobytes() + history.loss.tobytes()


def rows_in_a_block(net, rows):
    """How many rows of a batch the engine takes at a time."""
    twin, blocks = net.copy(), []
    core = twin.model.core

    def training_of(*arguments, **settings):
        run = core.Training(*arguments, **settings)
        blocks.append(run.block)
        return run

    twin.model.core = SimpleNamespace(**{**vars(core), "Training": training_of})
    y = np.zeros(rows) if net.loss_name == "cross_entropy" else np.zeros((rows, net.sizes[-1]))
    twin.fit(np.ones((rows, net.sizes[0])), y, epochs=1, lr=0.001)
    return blocks[0]


def run_child(code, *arguments, timeout=60):
    """What a Python process of its own prints as JSON."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        capture_output=True,
        encoding="utf-8",
        timeout=timeout,
        cwd=os.path.dirname(nnc.__file__) + "/..",
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return json.loads(result.stdout)


# ------------------------------------------------------------------------------- the same bits again


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("loss", "batch_size"), [("mse", None), ("mse", 7), ("bce", 16), ("cross_entropy", 1)])
def test_same_seed_gives_the_same_bits(isa, dtype, optimizer, loss, batch_size):
    settings = {"epochs": 20, "optimizer": optimizer, "batch_size": batch_size, "loss": loss, "dtype": dtype}
    first = trained([3, 17, 4], 50, **settings)
    assert trained([3, 17, 4], 50, **settings) == first
    assert trained([3, 17, 4], 50, **settings, seed=2) != first


def test_the_order_of_rows_follows_the_seed():
    X, y = data(50, 3, 2)
    init = NeuralNetwork([3, 5, 2], seed=0).weights
    losses = []
    for seed, shuffle in ((1, True), (2, True), (1, True), (1, False), (2, False)):
        net = NeuralNetwork([3, 5, 2], init=init, seed=seed)
        losses.append(net.fit(X, y, epochs=3, lr=0.1, batch_size=8, shuffle=shuffle).loss)
    assert not np.array_equal(losses[0], losses[1])
    assert np.array_equal(losses[0], losses[2])
    assert not np.array_equal(losses[0], losses[3])
    assert np.array_equal(losses[3], losses[4])


@pytest.mark.parametrize("batch_size", [None, 8])
def test_fit_goes_on_where_it_was(batch_size):
    X, y = data(40, 3, 2)
    whole, pieces = (NeuralNetwork([3, 6, 2], seed=1) for _ in range(2))
    settings = {"lr": 0.05, "batch_size": batch_size, "shuffle": False}
    wanted = whole.fit(X, y, epochs=30, **settings).loss
    found = [pieces.fit(X, y, epochs=epochs, **settings).loss for epochs in (1, 9, 20)]
    assert np.array_equal(np.concatenate(found), wanted)
    assert np.array_equal(pieces.params, whole.params)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_slices_do_not_change_the_result(set_limit, dtype, optimizer):
    """Python gets control back in the middle of epochs and batches, as often as can be."""
    settings = {"loss": "cross_entropy", "dtype": dtype, "epochs": 2, "optimizer": optimizer, "batch_size": 700}
    wanted = trained([10, 1000, 3], 900, **settings)
    set_limit("nnc._training.threads.SLICE_SECONDS", 0)
    for n_threads in (1, 2):
        assert trained([10, 1000, 3], 900, n_threads=n_threads, **settings) == wanted


# Shapes from the smallest to layers of many vectors; rows that fill no grain, one and some; batches with a rest; rows
# so long that those of the next batch are asked for; so many outputs that shuffled rows are copied; and one, the last,
# whose batch is taken in several blocks of rows.
SHAPES = [
    ([3, 4, 1], 4, None, "sse", 50),
    ([1, 1], 1, None, "mse", 50),
    ([7, 33, 17, 5], 100, None, "cross_entropy", 50),
    ([7, 33, 17, 5], 100, 33, "mse", 15),
    ([64, 48, 10], 90, 32, "cross_entropy", 20),
    ([5, 3, 3, 3, 2], 70, 70, "bce", 50),
    ([20, 90, 90, 3], 60, 17, "mse", 10),
    ([600, 80, 3], 100, 33, "mse", 5),
    ([600, 270, 3], 100, 33, "mse", 5),
    ([10, 1000, 3], 700, None, "cross_entropy", 5),
]


@pytest.mark.parametrize(
    ("optimizer", "dtype"),
    [("sgd", "float64"), ("sgd", "float32"), ("momentum", "float64"), ("adam", "float32")],
)
@pytest.mark.parametrize(("sizes", "rows", "batch_size", "loss", "epochs"), SHAPES)
def test_every_number_of_threads_gives_the_same_bits(sizes, rows, batch_size, loss, epochs, optimizer, dtype):
    settings = {"loss": loss, "dtype": dtype, "epochs": epochs, "optimizer": optimizer, "batch_size": batch_size}
    settings["activation"] = "gelu" if optimizer == "adam" else "tanh"
    wanted = trained(sizes, rows, n_threads=1, **settings)
    for n_threads in (2, 3, 4, 7, None):
        assert trained(sizes, rows, n_threads=n_threads, **settings) == wanted, f"{n_threads} threads"


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("batch_size", [7, None])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam", "rmsprop", "adagrad", "nadam", "rprop"])
def test_the_padding_of_parameters_stays_zero(optimizer, batch_size, dtype):
    """Of layers that fill no vector, and of those whose rows are longer so that they do not lie half a page apart."""
    wide = 2048 // np.dtype(dtype).itemsize
    net = NeuralNetwork([3, wide, 5, wide], activation=["sigmoid", "gelu"], loss="cross_entropy", dtype=dtype, seed=1)
    X, y = data(600, 3, wide, "cross_entropy")
    net.fit(X, y, epochs=2, optimizer=optimizer, lr=0.01, batch_size=batch_size, l1=1e-3, l2=1e-3, dropout=0.2,
            clip_norm=None if batch_size else 1.0)  # fmt: skip
    for part in (*net.weights, *net.biases):
        assert part.all()
        part[...] = 0
    assert not net.model.theta.any()


def test_fewer_threads_than_asked_for(monkeypatch):
    """Where the system refuses more threads, training goes on with those there are."""
    wanted = trained([7, 33, 5], 100, epochs=5)
    start, started = _thread.start_new_thread, []

    def only_one(*arguments):
        if started:
            raise RuntimeError("can't start new thread")
        started.append(1)
        return start(*arguments)

    # Limits of the system hold for all processes of a user, and not for root.
    monkeypatch.setattr(_thread, "start_new_thread", only_one)
    assert trained([7, 33, 5], 100, epochs=5, n_threads=4) == wanted
    assert started
    with Team(4) as team:
        assert team.size == 1


@pytest.mark.parametrize("n_threads", [1, None])
def test_small_work_starts_no_thread(make_fail, n_threads):
    """A fit that is too small for several threads never tries to start one."""
    make_fail("_thread.start_new_thread", AssertionError("a thread was started"))
    trained([3, 4, 1], 4, epochs=1500, n_threads=n_threads)


# ------------------------------------------------------------------------- more rows than a block has


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("rows", [700, 1043])
@pytest.mark.parametrize("loss", ["sse", "bce", "cross_entropy"])
def test_large_batches_are_taken_in_blocks(isa, loss, rows, dtype):
    """Against the same in pieces of 16 rows, which always fit into one."""
    net = NeuralNetwork([5, 1000, 60, 3], activation=["relu", "tanh"], loss=loss, dtype=dtype, seed=1)
    X, y = data(rows, 5, 3, loss)
    assert 16 <= rows_in_a_block(net, rows) < rows
    total, gradient = 0.0, [0.0] * 3
    for row in range(0, rows, 16):
        share = 1 if loss == "sse" else min(16, rows - row) / rows
        part = X[row : row + 16], y[row : row + 16]
        total += share * net.evaluate_loss(*part)
        pieces = net.gradients(*part)
        gradient = [g + share * np.vstack([dW, db]) for g, (dW, db) in zip(gradient, pieces, strict=True)]
    eps = np.finfo(dtype).eps

    def same(found, wanted, allowed):
        return np.abs(found - wanted).max() <= allowed * eps

    assert net.evaluate_loss(X, y) == pytest.approx(total, rel=float(100 * eps))
    for (dW, db), wanted in zip(net.gradients(X, y), gradient, strict=True):
        assert same(np.vstack([dW, db]), wanted, 100 * np.abs(wanted).max())
    P = np.vstack([net.predict(X[row : row + 16]) for row in range(0, rows, 16)])
    assert same(net.predict(X), P, 20)

    before = [np.vstack([W, b]) for W, b in zip(net.weights, net.biases, strict=True)]
    assert net.train_step(X, y, lr=0.5) == pytest.approx(total, rel=float(100 * eps))
    for W, b, old, g in zip(net.weights, net.biases, before, gradient, strict=True):
        assert same(np.vstack([W, b]), old - 0.5 * g, 2 * np.abs(old).max() + 100 * np.abs(g).max())


# -------------------------------------------------------------------------------- against NumPy by hand


class ByHand:
    """tanh, then identity, mean squared error: the gradient and the three optimizers in a few lines."""

    def __init__(self, net):
        self.parts = [part.copy() for layer in net.layers for part in (layer.W, layer.b)]
        self.m = [np.zeros_like(part) for part in self.parts]
        self.v = [np.zeros_like(part) for part in self.parts]
        self.steps = 0

    def step(self, X, y, optimizer, lr, momentum=0.9):
        W1, b1, W2, b2 = self.parts
        A = np.tanh(X @ W1 + b1)
        P = A @ W2 + b2
        delta2 = 2 * (P - y) / y.size
        delta1 = delta2 @ W2.T * (1 - A**2)
        gradient = X.T @ delta1, delta1.sum(axis=0), A.T @ delta2, delta2.sum(axis=0)
        self.steps += 1
        for p, g, m, v in zip(self.parts, gradient, self.m, self.v, strict=True):
            if optimizer == "sgd":
                p -= lr * g
            elif optimizer == "momentum":
                v[...] = momentum * v + g
                p -= lr * v
            else:
                m[...] = 0.9 * m + (1 - 0.9) * g
                v[...] = 0.999 * v + (1 - 0.999) * g**2
                m_hat, v_hat = m / (1 - 0.9**self.steps), v / (1 - 0.999**self.steps)
                p -= lr * m_hat / (np.sqrt(v_hat) + 1e-8)
        return ((P - y) ** 2).mean()


@pytest.mark.parametrize(
    ("sizes", "rows", "batch_size", "steps"),
    [
        ([4, 9, 3], 20, None, 100),
        ([4, 9, 3], 20, 6, 100),
        ([3, 40, 21], 50, 10, 100),
        ([6, 600, 2], 500, None, 5),  # in several blocks of rows
    ],
)
@pytest.mark.parametrize(
    ("optimizer", "constants"),
    [
        ("sgd", {"lr": 0.1}),
        ("momentum", {"lr": 0.05, "momentum": 0.8}),
        ("momentum", {"lr": 0.01}),
        ("adam", {"lr": 0.01}),
        ("adam", {}),
    ],
)
def test_optimizers_over_100_steps(sizes, rows, batch_size, steps, optimizer, constants):
    net = NeuralNetwork(sizes, activation="tanh", loss="mse", seed=3)
    X, y = data(rows, sizes[0], sizes[-1])
    assert rows < 500 or rows_in_a_block(net, rows) < rows
    by_hand, size = ByHand(net), batch_size or rows
    batches = [slice(row, row + size) for row in range(0, rows, size)]
    weights = [len(X[batch]) for batch in batches]
    settings = {"lr": 0.001 if optimizer == "adam" else 0.01, **constants}
    wanted = []
    for _ in range(steps // len(batches)):
        losses = [by_hand.step(X[batch], y[batch], optimizer, **settings) for batch in batches]
        wanted.append(np.average(losses, weights=weights))
    if "momentum" in constants:
        optimizer, constants = SGD(**constants), {}
    history = net.fit(X, y, epochs=len(wanted), optimizer=optimizer, batch_size=batch_size, shuffle=False, **constants)
    assert history.loss == pytest.approx(np.array(wanted), rel=1e-10, abs=0)
    found = [part for layer in net.layers for part in (layer.W, layer.b)]
    for part, expected in zip(found, by_hand.parts, strict=True):
        assert part == pytest.approx(expected, rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_optimizers_in_float32(isa, optimizer):
    X, y = data(40, 5, 3)
    double, single = (NeuralNetwork([5, 20, 3], activation="tanh", loss="mse", seed=1, dtype=d) for d in ("f8", "f4"))
    wanted, found = (net.fit(X, y, epochs=50, optimizer=optimizer, lr=0.01).loss for net in (double, single))
    assert found == pytest.approx(wanted, rel=1e-4)
    assert single.params == pytest.approx(double.params, rel=1e-3, abs=1e-4)


# ---------------------------------------------------------------------------------------------- whole blocks

SHARED = {  # of batches whose blocks threads take whole
    "full batch": ([4, 32, 16, 4], 5000, {"loss": "mse", "optimizer": "adam"}),
    "one output": ([8, 100, 1], 610, {"loss": "huber", "optimizer": "momentum", "batch_size": 300}),
    "labels": ([16, 100, 26], 530, {"loss": "cross_entropy", "optimizer": "adam", "batch_size": 200}),
    "plain": ([30, 64, 2], 901, {"loss": "bce", "optimizer": "sgd", "batch_size": 300, "n_weights": True}),
    "dropout": ([30, 64, 2], 700, {"loss": "mse", "optimizer": "rmsprop", "batch_size": 350, "dropout": 0.3}),
    "clipped": (
        [20, 80, 3],
        640,
        {"loss": "sse", "optimizer": "nadam", "batch_size": 320, "clip_norm": 0.1, "l2": 0.01},
    ),
    "max-norm": ([20, 80, 3], 640, {"loss": "sse", "optimizer": "sgd", "max_norm": 1.0, "clip_value": 0.01}),
}


@pytest.mark.parametrize("case", SHARED)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_blocks_that_threads_take_whole_give_the_same_bits(isa, case, dtype):
    sizes, rows, settings = SHARED[case]
    settings = dict(settings)
    net = NeuralNetwork(sizes, dtype=dtype)
    assert net.model.engine.blocks(settings.get("batch_size", rows)) >= 2
    if settings.pop("n_weights", False):
        settings["sample_weight"] = np.random.default_rng(0).uniform(0, 2, rows)
    wanted = trained(sizes, rows, dtype=dtype, epochs=3, n_threads=1, **settings)
    for n_threads in (2, 3, 4, 7):
        assert trained(sizes, rows, dtype=dtype, epochs=3, n_threads=n_threads, **settings) == wanted, (
            f"{n_threads} threads"
        )


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
@pytest.mark.parametrize("rows", [700, 4000, 4001])
def test_the_gradients_of_blocks_add_up(isa, loss, rows):
    X, y = data(rows, 16, 9, loss)
    net = NeuralNetwork([16, 50, 9], loss=loss, seed=1)
    assert net.model.engine.blocks(rows) >= 2
    before, value = net.params, net.evaluate_loss(X, y)
    gradient = np.concatenate([part.ravel() for pair in net.gradients(X, y) for part in pair])
    history = net.fit(X, y, epochs=1, lr=0.1, n_threads=2)
    assert history.loss[0] == pytest.approx(value, rel=1e-13)
    assert net.params == pytest.approx(before - 0.1 * gradient, rel=1e-12, abs=1e-14)


def test_a_loss_in_one_of_several_blocks_is_not_finite(isa):
    X, y = data(4000, 16, 9)
    X[3500] = 1e300
    wanted = []
    for n_threads in (1, 2, 4):
        net = NeuralNetwork([16, 50, 9], loss="mse", activation="identity", seed=1)
        before = net.params
        with pytest.raises(DivergedError, match="the loss of epoch 1 is not finite"):
            net.fit(X, y, epochs=5, lr=0.1, n_threads=n_threads)
        assert np.array_equal(net.params, before)
        wanted.append(net.params.tobytes())
    assert len(set(wanted)) == 1


# ---------------------------------------------------------------------------------------------- copies of weights


@pytest.mark.parametrize("hidden", [16, 64, 129])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_validation_sees_the_weights_of_every_epoch(isa, hidden, dtype):
    (X, y), validation = data(300, 10, 1), data(100, 10, 1, seed=1)
    net = NeuralNetwork([10, hidden, 1], activation="tanh", loss="mse", dtype=dtype, seed=1)
    seen = []

    def look(record):
        seen.append(net.evaluate_loss(*validation))

    look.every = 1
    history = net.fit(X, y, epochs=5, lr=0.05, batch_size=32, validation=validation, callback=look)
    assert history.val_loss.tolist() == pytest.approx(seen, rel=1e-12 if dtype == "float64" else 1e-6)


@pytest.mark.parametrize("sizes", [[10, 16, 16, 1], [10, 64, 64, 1], [3, 4, 1]])
@pytest.mark.parametrize("batches", [False, True])
def test_weights_that_a_callback_sets_are_trained_on(isa, sizes, batches):
    X, y = data(4, sizes[0], 1)
    net, other = (NeuralNetwork(sizes, activation="tanh", loss="mse", seed=1) for _ in range(2))

    def change(record):
        if record.epoch == 1:
            for W in record.network.weights:
                W *= -0.5

    change.every = 1
    if batches:
        net.fit_batches(lambda: iter([(X, y)]), epochs=3, lr=0.1, callback=change)
    else:
        net.fit(X, y, epochs=3, lr=0.1, callback=change)
    other.fit(X, y, epochs=1, lr=0.1)
    for W in other.weights:
        W *= -0.5
    other.fit(X, y, epochs=2, lr=0.1)
    assert np.array_equal(net.params, other.params)


# ---------------------------------------------------------------------------------------------- tiny networks

TINY = [
    ("sigmoid", "sse"),
    ("tanh", "half_sse"),
    ("relu", "mse"),
    ("gelu", "bce"),
    ("elu", "poisson"),
    ("silu", "hinge"),
]


def both_ways(sizes, rows, activation, loss, bias, dtype, seed, **said):
    """A fit as it is, and one whose rows have weights, all of them 1, which keeps it from the ways for tiny networks
    and for single rows."""
    X, y = data(rows, sizes[0], sizes[-1], seed=seed)
    y = np.where(y < 0.5, -1, 1) if loss == "hinge" else y
    if isinstance(loss, nnc.CrossEntropy) or loss == "cross_entropy":
        sizes = [*sizes[:-1], max(2, sizes[-1])]
        y = np.arange(rows) % sizes[-1]
    fits = []
    for weights in (None, np.ones(rows)):
        net = NeuralNetwork(sizes, activation=activation, loss=loss, bias=bias, dtype=dtype, seed=seed)
        try:
            history, error = net.fit(X, y, **{"epochs": 30, "lr": 0.1, **said}, sample_weight=weights), None
        except DivergedError as diverged:
            history, error = diverged.history, diverged
        fits.append((net, history, error))
    return fits


@pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")
@given(
    sizes=st.lists(st.integers(0, 1000), min_size=2, max_size=4),
    rows=st.integers(0, 1000),
    partners=st.sampled_from(TINY),
    bias=st.booleans(),
    dtype=st.sampled_from(["float64", "float32"]),
    seed=st.integers(0, 1000),
)
@searching(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_tiny_network_gets_the_weights_that_others_get(isa, sizes, rows, partners, bias, dtype, seed):
    most = NeuralNetwork([1, 1], dtype=dtype).model.core.LANES + 1  # one more than what counts as tiny
    sizes, rows = [1 + size % most for size in sizes], 1 + rows % most
    (net, history, _), (other, expected, _) = both_ways(sizes, rows, *partners, bias, dtype, seed, lr=0.01)
    assert np.array_equal(net.params, other.params)
    assert history.loss == pytest.approx(expected.loss, rel=1e-13 if dtype == "float64" else 1e-5)


@pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")
@pytest.mark.parametrize("activation", HIDDEN)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_every_activation_of_a_tiny_network(isa, activation, dtype):
    (net, *_), (other, *_) = both_ways([2, 2, 2, 1], 2, activation, "mse", True, dtype, 1)
    assert np.array_equal(net.params, other.params)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("lr", [1e3, 1e30, 1e300])
def test_a_tiny_network_diverges_as_others_do(isa, dtype, lr):
    lr = lr if dtype == "float64" else min(lr, 1e30)
    (net, history, error), (other, expected, wanted) = both_ways([2, 2, 1], 2, "identity", "mse", True, dtype, 1, lr=lr)
    assert np.array_equal(net.params, other.params)
    assert np.isfinite(net.params).all()
    assert (error.epoch, error.layer, history.epochs) == (wanted.epoch, wanted.layer, expected.epochs)


def test_threads_that_are_asked_for_do_not_disturb_a_tiny_network(isa):
    bits = {trained([3, 2, 1], 2, epochs=50, n_threads=n) for n in (1, 2, 3)}
    assert len(bits) == 1


def test_batches_for_a_tiny_network_may_get_smaller(isa):
    X, y = data(7, 2, 1)
    sizes = [(0, 2), (2, 4), (4, 5), (5, 7)]
    net, other = (NeuralNetwork([2, 2, 1], loss="mse", seed=1) for _ in range(2))
    net.fit_batches(lambda: ((X[a:b], y[a:b]) for a, b in sizes), epochs=20, lr=0.1)
    other.fit_batches(lambda: ((X[a:b], y[a:b], np.ones(b - a)) for a, b in sizes), epochs=20, lr=0.1)
    assert np.array_equal(net.params, other.params)


# ---------------------------------------------------------------------------------------------- single rows

SINGLE = [
    *TINY,
    ("leaky_relu", "cross_entropy"),
    ("softplus", nnc.CrossEntropy(0.1)),
    ("selu", "huber"),
]


def assert_same_way(*network, **said):
    """One row after another; returns the first fit."""
    fits = both_ways(*network, **{"epochs": 5, "batch_size": 1, "optimizer": "sgd", "lr": 0.01, **said})
    (net, history, error), (other, expected, wanted) = fits
    assert np.array_equal(net.params, other.params)
    assert history.loss.tolist() == expected.loss.tolist()
    assert (error and (error.epoch, error.layer)) == (wanted and (wanted.epoch, wanted.layer))
    return fits[0]


@pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")
@given(
    sizes=st.lists(st.integers(1, 40), min_size=2, max_size=4),
    rows=st.integers(1, 9),
    partners=st.sampled_from(SINGLE),
    bias=st.booleans(),
    shuffle=st.booleans(),
    optimizer=st.sampled_from(["sgd", "momentum", "adam"]),
    dtype=st.sampled_from(["float64", "float32"]),
    seed=st.integers(0, 1000),
)
@searching(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_single_rows_give_the_weights_that_others_give(
    isa, sizes, rows, partners, bias, shuffle, optimizer, dtype, seed
):
    assert_same_way(sizes, rows, *partners, bias, dtype, seed, optimizer=optimizer, shuffle=shuffle)


@pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")
@pytest.mark.parametrize("activation", HIDDEN)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_every_activation_of_single_rows(isa, activation, dtype):
    assert_same_way([3, 17, 2], 4, activation, "mse", True, dtype, 1)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("lr", [1e3, 1e30, 1e300])
@pytest.mark.parametrize("sizes", [[3, 3, 1], [3, 70, 3]])
def test_single_rows_diverge_as_others_do(isa, dtype, lr, sizes):
    lr = lr if dtype == "float64" else min(lr, 1e30)
    net, _, error = assert_same_way(sizes, 3, "identity", "mse", True, dtype, 1, lr=lr)
    assert error is not None
    assert np.isfinite(net.params).all()


def test_threads_that_are_asked_for_do_not_disturb_single_rows(isa):
    assert len({trained([20, 30, 3], 6, batch_size=1, epochs=5, n_threads=n) for n in (1, 2, 3)}) == 1


@pytest.mark.parametrize("options", [{"l2": 0.1}, {"clip_norm": 0.1}, {"clip_value": 0.1}, {"dropout": 0.5}])
def test_single_rows_with_more_than_a_loss(options):
    """Whatever way they take, it is that of the others."""
    assert_same_way([5, 20, 2], 4, "tanh", "mse", True, "float64", 1, **options)


@pytest.mark.parametrize("loss", ["sse", "half_sse", "mse", "bce", "cross_entropy"])
def test_loss_of_an_epoch(loss):
    """The sum of its batches' losses, or their mean by rows, each before its step."""
    X, y = data(17, 3, 4, loss)
    whole, steps = (NeuralNetwork([3, 5, 4], loss=loss, seed=1) for _ in range(2))
    history = whole.fit(X, y, epochs=2, lr=0.1, batch_size=5, shuffle=False)
    for epoch in range(2):
        losses = [steps.train_step(X[row : row + 5], y[row : row + 5], lr=0.1) for row in range(0, 17, 5)]
        wanted = sum(losses) if "sse" in loss and loss != "mse" else np.average(losses, weights=[5, 5, 5, 2])
        assert history.loss[epoch] == pytest.approx(wanted, rel=1e-13)
    assert np.array_equal(whole.params, steps.params)


def test_history():
    net = NeuralNetwork([3, 4, 1], seed=0)
    X, y = data(10, 3, 1)
    history = net.fit(X, y, epochs=7, lr=0.001)
    assert history.loss.dtype == np.float64
    assert history.loss.shape == (7,)
    assert history.epochs == 7
    assert history.seconds > 0
    assert history.stop_reason == "epochs"
    assert repr(history).startswith("<History: 7 epochs in ")
    assert repr(history).endswith(f"loss {history.loss[0]:.6g} -> {history.loss[-1]:.6g}, stopped by epochs>")
    again = pickle.loads(pickle.dumps(history))
    assert np.array_equal(again.loss, history.loss)
    assert (
        repr(nnc.History({"loss": np.empty(0)}, 1.5, "interrupt"))
        == "<History: 0 epochs in 1.5 s, stopped by interrupt>"
    )


# ----------------------------------------------------------------------------------------- divergence


def diverged(net, X, y, **settings):
    with pytest.raises(DivergedError, match="the last finite weights") as caught:
        net.fit(X, y, **settings)
    return caught.value


@pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("batch_size", [None, 4])
@pytest.mark.parametrize(("lr", "n_threads"), [(3, 1), (1e10, 2)])
def test_divergence(optimizer, dtype, batch_size, lr, n_threads):
    if optimizer == "adam":  # its steps are about as long as lr, whatever the gradient
        lr *= 1e20 if dtype == "float32" else 1e160
    net = NeuralNetwork([2, 5, 1], activation="identity", loss="mse", dtype=dtype, seed=1)
    X, y = data(13, 2, 1)
    settings = {"lr": lr, "n_threads": n_threads}
    part = net.copy()
    error = diverged(net, X, y, epochs=10_000, optimizer=optimizer, batch_size=batch_size, shuffle=False, **settings)
    assert np.isfinite(net.params).all()
    assert error.history.stop_reason == "diverged"
    assert f"layer {error.layer} " in str(error)
    assert error.history.epochs == len(error.history.loss) == error.epoch - 1
    assert np.isfinite(error.history.loss).all()
    assert f"epoch {error.epoch} " in str(error)
    assert f"learning rate of {lr:g} " in str(error)
    # The weights are those that step after step leads to, to the bit.
    size = batch_size or len(X)
    batches = itertools.cycle([(X[i : i + size], y[i : i + size]) for i in range(0, len(X), size)])
    part.fit(*next(batches), epochs=1, optimizer=optimizer, **settings)
    with contextlib.suppress(DivergedError):
        for batch in batches:
            part.fit(*batch, epochs=1, **settings)
    assert net.params.tobytes() == part.params.tobytes()
    if "the loss of epoch" in str(error):  # no step was taken with that loss
        assert not np.isfinite(net.evaluate_loss(*batch))
    assert nnc.from_json(net.to_json()).params.tobytes() == net.params.tobytes()


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("batch_size", [None, 16])
def test_a_broken_step_is_the_same_for_every_number_of_threads(optimizer, batch_size):
    """One row of W would not be finite: it alone keeps its values."""
    X, y = data(64, 100, 1)
    X[:, 20] *= 1e18
    y *= 1e3
    found = set()
    for n_threads in (1, 2, 3, 5, 7):
        net = NeuralNetwork([100, 8, 1], activation="tanh", output="identity", loss="mse", dtype="float32", seed=1)
        net.weights[0][20] = 0
        error = diverged(net, X, y, epochs=9, lr=1e22, n_threads=n_threads, optimizer=optimizer, batch_size=batch_size)
        assert np.isfinite(net.params).all()
        found.add((error.epoch, error.layer, net.params.tobytes()))
    assert len(found) == 1


def test_a_broken_step_of_many_rows():
    """More than the kernel sums up at a time: the first of them are not taken alone."""
    X = np.ones((600, 2)) * 1e150
    X[:500] *= 1e-150
    for optimizer in ("sgd", "momentum", nnc.AdamW(weight_decay=0.5)):
        net = NeuralNetwork([2, 1], loss="sse", output="identity", init=[np.ones((2, 1))], bias=False)
        assert diverged(net, X, np.zeros(600), epochs=1, lr=1e10, optimizer=optimizer).layer == 1
        assert net.params.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("how", ["fit", "batches", "lbfgs", "levenberg_marquardt"])
def test_the_layer_that_diverges_is_named(how):
    """The first one whose outputs are not finite, and what to do where inputs are large."""
    X, y = data(20, 3, 1)
    X[7] *= 1e200
    net = NeuralNetwork([3, 4, 5, 1], activation=["tanh", "relu"], output="identity", loss="mse", seed=0)
    net.weights[1] *= 1e300
    net.weights[2] *= 1e300
    before = net.params
    if how == "batches":
        fit = partial(net.fit_batches, [(X[7:], y[7:]), (X[:7], y[:7])], lr=0.1)
    else:
        fit = partial(net.fit, X, y, epochs=3, optimizer="sgd" if how == "fit" else how)
    with pytest.raises(DivergedError, match="outputs of layer 3 are not") as caught:
        fit()
    assert (caught.value.epoch, caught.value.layer) == (1, 3)
    assert "X, which reaches up to " in str(caught.value)
    assert 'needs scaling (scale_X="standardize")' in str(caught.value)
    assert caught.value.history.stop_reason == "diverged"
    assert np.array_equal(net.params, before)


def test_a_step_that_was_not_taken_does_not_count():
    X, y = data(8, 2, 1)
    net = NeuralNetwork([2, 3, 1], activation="identity", loss="mse", seed=1)
    fresh = net.copy()
    error = diverged(net, X, 1e200 * y, epochs=1, lr=0.1, optimizer="adam")
    assert "the loss of epoch 1 is not finite, but the outputs of layer 2 are" in str(error)
    net.fit(X, y, epochs=3)
    fresh.fit(X, y, epochs=3, lr=0.1, optimizer="adam")
    assert net.params.tobytes() == fresh.params.tobytes()


def test_the_learning_rate_that_is_named_is_that_of_the_epoch():
    X, y = data(64, 3, 1)
    net = NeuralNetwork([3, 2, 1], activation="identity", loss="mae", seed=1)
    rates = [1e-9, 1.7e308, 1e-5, 1e-5]
    error = diverged(net, 1e5 * X, y, epochs=4, lr=lambda epoch: rates[epoch], validation=(X, y))
    assert (error.epoch, error.layer) == (2, 1)
    assert "learning rate of 1.7e+308 " in str(error)
    assert np.isfinite(error.history.val_loss).all()


def test_eps_below_the_smallest_normal_number():
    """It would count as 0, and the padding be 0 / 0."""
    X, y = data(20, 3, 2)
    net = NeuralNetwork([3, 4, 2], loss="mse", dtype="float32", seed=0)
    assert net.fit(X, y, epochs=20, optimizer=nnc.Adam(lr=0.01, eps=1e-45)).loss[-1] < net.copy().evaluate_loss(
        X, 2 * y
    )


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("epochs", [1, 2, 10])
def test_weights_that_overflow_in_the_last_step(epochs, dtype):
    """The loss, taken before the step, is still finite then."""
    net = NeuralNetwork([1, 1], loss="mse", seed=0, dtype=dtype)
    large = float(np.finfo(dtype).max)
    error = diverged(net, [[1e3]], [1e3], epochs=epochs, lr=large / 10)
    assert np.isfinite(net.params).all()
    assert error.history.epochs <= 1


@pytest.mark.parametrize("lr", [1e150, 1e306, 1.7e308])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_divergence_at_the_end_of_a_slice(set_limit, lr, n_threads):
    """One block of rows a slice: the weights overflow in one slice, the loss in the next."""
    set_limit("nnc._training.threads.SLICE_SECONDS", 0)
    net = NeuralNetwork([50, 200, 1], activation="identity", loss="mse", seed=0)
    X, y = data(50, 50, 1)
    diverged(net, X, 100 * y, epochs=50, lr=lr, n_threads=n_threads)
    assert np.isfinite(net.params).all()


@pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("lr", [1e3, 1e20, 1e38, 1e300])
@pytest.mark.parametrize(("loss", "activation"), [("cross_entropy", "relu"), ("bce", "softplus"), ("sse", "gelu")])
def test_weights_are_finite_after_every_fit(loss, activation, lr, dtype):
    for seed in range(4):
        net = NeuralNetwork([3, 6, 3], activation=activation, loss=loss, dtype=dtype, seed=seed)
        X, y = data(20, 3, 3, loss, seed)
        for epochs in (1, 2, 3, 20):
            try:
                history = net.fit(1000 * X, y, epochs=epochs, lr=lr, batch_size=7)
            except DivergedError as error:
                history = error.history
            assert np.isfinite(net.params).all()
            assert np.isfinite(history.loss).all()


def test_diverged_error_survives_pickling():
    """As it must to come back from a worker process."""
    history = nnc.History({"loss": np.array([1.0, 2.0])}, 0.5, "diverged")
    error = pickle.loads(pickle.dumps(DivergedError("too large", history, 3)))
    assert isinstance(error, ArithmeticError)
    assert str(error) == "too large"
    assert error.epoch == 3
    assert np.array_equal(error.history.loss, [1.0, 2.0])


# -------------------------------------------------------------------------------------------- Ctrl-C

INTERRUPTED = """
import json, os, signal, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits an ignored one
import numpy as np
from nnc import NeuralNetwork

sizes, rows, steps, settings = json.loads(sys.argv[1])
net = NeuralNetwork(sizes, activation="tanh", loss="mse", seed=0)
rng = np.random.default_rng(0)
X, y = rng.uniform(-1, 1, (rows, sizes[0])), rng.uniform(0, 1, (rows, sizes[-1]))
before = net.params

def interrupt():
    while signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        time.sleep(0.001)
    while steps and np.array_equal(net.params, before):
        time.sleep(0.001)
    time.sleep(0.15)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt, daemon=True).start()
history = net.fit(X, y, **settings)
print(json.dumps({
    "reason": history.stop_reason,
    "epochs": history.epochs,
    "losses": len(history.loss),
    "finite": bool(np.isfinite(history.loss).all() and np.isfinite(net.params).all()),
    "changed": not np.array_equal(net.params, before),
    "restored": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
    "goes_on": net.fit(X[:5], y[:5], epochs=1).stop_reason,
}))
"""


@posix
@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize(
    ("sizes", "rows", "settings", "epochs", "steps"),
    [
        ([3, 4, 1], 4, {"epochs": 10**8, "lr": 0.001}, True, True),
        ([20, 50, 10], 2000, {"epochs": 10**7, "lr": 0.001, "batch_size": 100}, True, True),
        ([8, 512, 512, 1], 200_000, {"epochs": 3, "lr": 1e-3, "batch_size": 1000}, False, True),  # an epoch of seconds
        ([8, 512, 512, 1], 200_000, {"epochs": 3, "lr": 0.001}, False, False),  # a step of many seconds
    ],
    ids=["tutorial", "batches", "long epoch", "long step"],
)
def test_interrupt(sizes, rows, settings, epochs, steps, n_threads):
    """The run would take minutes or hours: an interrupt ends it within an epoch, and even within a step."""
    found = run_child(INTERRUPTED, json.dumps([sizes, rows, steps, {**settings, "n_threads": n_threads}]))
    assert found["reason"] == "interrupt"
    assert found["finite"]
    assert found["restored"]
    assert found["goes_on"] == "epochs"
    assert found["epochs"] == found["losses"]
    assert epochs or found["epochs"] == 0
    assert found["changed"] == steps


@posix
def test_interrupt_of_a_program_with_its_own_handler():
    calls = []
    old = signal.signal(signal.SIGINT, lambda *_: calls.append(1))
    try:
        handler = signal.getsignal(signal.SIGINT)
        X, y = data(50, 3, 1)
        timer = threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        net = NeuralNetwork([3, 4, 1], seed=0)
        while not calls:
            assert net.fit(X, y, epochs=1000, lr=0.001).stop_reason == "epochs"
        timer.join()
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, old)


@posix
def test_second_interrupt_is_raised():
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    with Interrupt() as interrupt:
        assert not interrupt
        signal.raise_signal(signal.SIGINT)
        assert interrupt
        signal.raise_signal(signal.SIGINT)  # the same key, held down
        time.sleep(1.1)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, old)


# ------------------------------------------------------------------ what a run leaves behind: nothing

MEMORY = """
import json, os, sys
import numpy as np
from nnc import NeuralNetwork

def used():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

rng = np.random.default_rng(0)
X, y = rng.uniform(-1, 1, (1000, 2)), rng.uniform(0, 1, (1000, 1))
net = NeuralNetwork([2, 2, 1], seed=0)

def steps(epochs):
    net.fit(X, y, epochs=epochs, lr=0.001, batch_size=1, n_threads=1)

def calls(number):
    for _ in range(number):
        net.predict(X[:3])
        net.gradients(X[:3], y[:3])
        net.train_step(X[:3], y[:3])
        net.copy()
        NeuralNetwork([2, 1])
        try:
            net.predict([[np.nan, 0]])
        except ValueError:
            pass

grown = []
for work, warm_up, amount in ((steps, 20, 1000), (calls, 300, 3000)):
    work(warm_up)
    before = used()
    work(amount)
    grown.append(used() - before)
print(json.dumps(grown))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="memory is read from Linux' /proc")
def test_memory_does_not_grow():
    steps, calls = run_child(MEMORY)
    assert steps < 2**19, "in a million steps"
    assert calls < 2**20, "in thousands of calls"


def threads_now():
    return len(os.listdir("/proc/self/task"))


def test_changing_the_number_of_threads_changes_no_bit(monkeypatch, set_limit):
    """Parameters are those of a fixed number of threads when each slice uses another number."""
    X, y = data(300, 20, 2)
    used = []

    class AlternatingTuner(ThreadTuner):
        """A tuner that chooses another number of threads for each slice of one block of rows."""

        def next(self, rows_left):
            used.append(self.candidates[len(used) % len(self.candidates)])
            return used[-1], 0.0

    set_limit("nnc._training.loop.MIN_THREAD_MULTIPLY_ADDS", 1)
    # No setting raises the number above the processors of the machine, which may be two.
    monkeypatch.setattr(processors, "get_num_threads", lambda: 3)
    # The measured choice depends on the load of the machine; it must change with each slice here.
    monkeypatch.setattr(loop, "borrow_tuner", lambda work, sizes, limit: AlternatingTuner(sizes, limit))
    nets = []
    for n_threads in (1, 3, None):
        net = NeuralNetwork([20, 30, 2], loss="mse", seed=0)
        history = net.fit(X, y, epochs=20, batch_size=100, lr=0.1, n_threads=n_threads)
        if n_threads is not None:
            assert history.n_threads == n_threads
            assert not used
        nets.append(net)
    assert set(used) == {1, 2, 3}
    assert len({net.params.tobytes() for net in nets}) == 1


@pytest.mark.skipif(not may_set_affinity(), reason="threads may not choose their processors here")
def test_a_thread_leaves_the_processor_of_the_caller(monkeypatch, make_fail):
    """Threads avoid the caller's processor if there is one for each; the caller's own affinity stays unchanged."""
    allowed = os.sched_getaffinity(0)
    if len(allowed) < 2:
        pytest.skip("one processor")
    home = min(allowed)
    monkeypatch.setattr(_cpu, "processor", lambda: home)  # the system may move the caller and the thread at any time

    def masks(n_threads):
        seen = []
        with Team(n_threads, lambda _, caller, size: avoid_caller_processor(home, caller, size)) as team:
            team.run(lambda thread, _: seen.append((thread, os.sched_getaffinity(0))))
        return dict(seen)

    assert masks(2) == {0: allowed, 1: allowed - {home}}
    more = len(allowed) + 1
    assert masks(more) == dict.fromkeys(range(more), allowed)
    try:
        os.sched_setaffinity(0, {home})
        assert masks(2) == {0: {home}, 1: {home}}
    finally:
        os.sched_setaffinity(0, allowed)
    make_fail("os.sched_setaffinity", OSError("not permitted"))
    assert masks(2) == {0: allowed, 1: allowed}


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="threads are counted in Linux' /proc")
def test_no_thread_is_left():
    before = threads_now()
    trained([7, 33, 5], 100, epochs=5, n_threads=4)
    X, y = data(13, 2, 1)
    diverged(NeuralNetwork([2, 1], loss="mse", seed=0), X, y, epochs=1000, lr=1e30, n_threads=4)
    until = time.monotonic() + 10
    while threads_now() > before and time.monotonic() < until:
        time.sleep(0.001)
    assert threads_now() <= before


FORKED = """
import os, signal, warnings
import numpy as np
from nnc import NeuralNetwork

warnings.simplefilter("ignore", DeprecationWarning)  # of forking at all, for the threads of NumPy
rng = np.random.default_rng(0)
X, y = rng.uniform(-1, 1, (200, 7)), rng.uniform(0, 1, (200, 5))

def fit(net):
    net.fit(X, y, epochs=20, batch_size=64, n_threads=2)
    return net.params.tobytes()

net = NeuralNetwork([7, 33, 5], seed=0)
fit(net)
child_net = net.copy()
child = os.fork()
if child == 0:
    signal.alarm(30)
    os._exit(0 if len(fit(net)) else 1)
again = fit(child_net)
status = os.waitpid(child, 0)[1]
child = os.fork()
if child == 0:
    signal.alarm(30)
    os._exit(0 if fit(net) == again else 1)
print([status, os.waitpid(child, 0)[1]])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fork_after_a_fit_with_threads():
    assert run_child(FORKED) == [0, 0]


def denormals_are_kept():
    tiny = np.array([2.0**-1070, -(2.0**-1050), 2.0**-1023])
    return np.array_equal(tiny * 0.5 * 2, tiny) and np.all(tiny + 0.0 != 0) and 2.0**-1070 / 2 > 0


def test_numpy_keeps_its_small_numbers():
    """The engine counts numbers below the smallest normal one as zero, in its own calls alone."""
    X, y = data(30, 3, 2)
    net = NeuralNetwork([3, 40, 2], loss="mse", seed=0)
    assert denormals_are_kept()
    calls = [
        lambda: net.predict(X),
        lambda: net.predict(X[:1]),
        lambda: net.evaluate_loss(X, y),
        lambda: net.gradients(X, y),
        lambda: net.train_step(X, y),
        lambda: net.fit(X, y, epochs=3, lr=0.001, n_threads=1),
        lambda: net.fit(X, y, epochs=3, lr=0.001, n_threads=3, batch_size=7),
        lambda: diverged(NeuralNetwork([3, 2], loss="mse"), X, y, epochs=1000, lr=1e10),
    ]
    for call in calls:
        call()
        assert denormals_are_kept()


@pytest.mark.filterwarnings("ignore::nnc.EqualNeuronsWarning")  # as zeros are
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_tiny_weights(dtype):
    """Weights and inputs below the smallest normal number train like zeros."""
    X, y = data(10, 3, 2)
    net = NeuralNetwork([3, 4, 2], activation="tanh", loss="mse", dtype=dtype, seed=0)
    net.params = net.params * np.finfo(dtype).smallest_normal * 0.01
    with np.errstate(under="ignore"):
        assert np.abs(net.predict(X)).max() <= np.finfo(dtype).smallest_normal
    net.fit(X, y, epochs=5, lr=0.1)
    assert np.isfinite(net.params).all()
    assert net.biases[1].all()


# --------------------------------------------------------------------------------- in several threads


def test_fits_and_predictions_at_the_same_time():
    """Each call owns its buffers: networks train, and one network predicts, in many threads at once."""
    wanted = [trained([7, 33, 5], 100, seed=seed, epochs=30, batch_size=16) for seed in range(4)]
    net = NeuralNetwork([7, 33, 5], seed=9)
    X, _ = data(1000, 7, 5)
    P = net.predict(X)
    found, same = [None] * 4, []

    def work(number):
        found[number] = trained([7, 33, 5], 100, seed=number, epochs=30, batch_size=16, n_threads=1 + number % 2)
        same.append(all(np.array_equal(net.predict(X), P) for _ in range(20)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == wanted
    assert same == [True] * 4
