"""Tests of `fit`: reproducibility to the bit, thread counts, divergence, interrupts, memory and thread leaks."""

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
from targets import draw_targets

import nnc
from nnc import SGD, DivergedError, NeuralNetwork, _cpu
from nnc._registry import losses, optimizers
from nnc._registry.activations import HIDDEN
from nnc._team import Interrupt, Team
from nnc._training import first_order
from nnc._training.threads import ThreadTuner, avoid_caller_processor, may_set_affinity
from nnc._utils import processors

pytestmark = pytest.mark.engine

OPTIMIZERS = ("sgd", "momentum", "adam")
posix = pytest.mark.skipif(os.name != "posix", reason="needs signals and processes as POSIX has them")


def data(rows, n_in, n_out, loss="mse", seed=0):
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 1, (rows, n_in))
    return X, rng.integers(0, n_out, rows) if loss == "cross_entropy" else rng.uniform(0, 1, (rows, n_out))


def fit_bytes(sizes, rows, *, loss="mse", dtype="float64", seed=1, activation="tanh", **settings):
    """Return the bytes of all parameters and losses after a fit."""
    net = NeuralNetwork(sizes, activation=activation, loss=loss, dtype=dtype, seed=seed)
    X, y = data(rows, sizes[0], sizes[-1], loss)
    history = net.fit(X, y, **{"lr": 0.01, **settings})
    return net.params.tobytes() + history.loss.tobytes()


def rows_per_block(net, rows):
    """Return the number of rows in a block, for a full batch of `rows` rows."""
    twin, blocks = net.copy(), []
    core = twin.model.core

    def create_training(*arguments, **settings):
        run = core.Training(*arguments, **settings)
        blocks.append(run.block)
        return run

    twin.model.core = SimpleNamespace(**{**vars(core), "Training": create_training})
    y = np.zeros(rows) if net.loss_name == "cross_entropy" else np.zeros((rows, net.sizes[-1]))
    twin.fit(np.ones((rows, net.sizes[0])), y, epochs=1, lr=0.001)
    return blocks[0]


def run_child(code, *arguments, timeout=60):
    """Run Python code in a new process and return the JSON value that it prints."""
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


# ------------------------------------------------------------------------------- reproducibility


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("loss", "batch_size"), [("mse", None), ("mse", 7), ("bce", 16), ("cross_entropy", 1)])
def test_same_seed_gives_same_bits(isa, dtype, optimizer, loss, batch_size):
    settings = {"epochs": 20, "optimizer": optimizer, "batch_size": batch_size, "loss": loss, "dtype": dtype}
    first = fit_bytes([3, 17, 4], 50, **settings)
    assert fit_bytes([3, 17, 4], 50, **settings) == first
    assert fit_bytes([3, 17, 4], 50, **settings, seed=2) != first


def test_row_order_depends_on_seed_only_if_shuffled():
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
def test_consecutive_fits_equal_one_long_fit(batch_size):
    X, y = data(40, 3, 2)
    long, short = (NeuralNetwork([3, 6, 2], seed=1) for _ in range(2))
    settings = {"lr": 0.05, "batch_size": batch_size, "shuffle": False}
    expected = long.fit(X, y, epochs=30, **settings).loss
    losses = [short.fit(X, y, epochs=epochs, **settings).loss for epochs in (1, 9, 20)]
    assert np.array_equal(np.concatenate(losses), expected)
    assert np.array_equal(short.params, long.params)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_length_of_slices_does_not_change_result(set_limit, dtype, optimizer):
    """A slice length of 0 returns control to Python after each block, within epochs and batches."""
    settings = {"loss": "cross_entropy", "dtype": dtype, "epochs": 2, "optimizer": optimizer, "batch_size": 700}
    expected = fit_bytes([10, 1000, 3], 900, **settings)
    set_limit("nnc._training.threads.SLICE_SECONDS", 0)
    for n_threads in (1, 2):
        assert fit_bytes([10, 1000, 3], 900, n_threads=n_threads, **settings) == expected


# The shapes range from the smallest to layers of many vectors. They cover incomplete, single and multiple grains, a
# smaller last batch, rows long enough to be prefetched, and enough outputs that shuffled rows are copied. The batch of
# the last one is processed in several blocks of rows.
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


@pytest.mark.sampled(7)
@pytest.mark.parametrize(
    ("optimizer", "dtype"),
    [("sgd", "float64"), ("sgd", "float32"), ("momentum", "float64"), ("adam", "float32")],
)
@pytest.mark.parametrize(("sizes", "rows", "batch_size", "loss", "epochs"), SHAPES)
def test_thread_count_does_not_change_bits(sizes, rows, batch_size, loss, epochs, optimizer, dtype):
    settings = {"loss": loss, "dtype": dtype, "epochs": epochs, "optimizer": optimizer, "batch_size": batch_size}
    settings["activation"] = "gelu" if optimizer == "adam" else "tanh"
    expected = fit_bytes(sizes, rows, n_threads=1, **settings)
    for n_threads in (2, 3, 4, 7, None):
        assert fit_bytes(sizes, rows, n_threads=n_threads, **settings) == expected, f"{n_threads} threads"


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("batch_size", [7, None])
@pytest.mark.parametrize("optimizer", optimizers.FIRST_ORDER)
def test_padding_of_parameter_vector_stays_zero(optimizer, batch_size, dtype):
    """The padding completes vector registers, and lengthens rows of W whose length is a multiple of half a page."""
    wide = 2048 // np.dtype(dtype).itemsize
    net = NeuralNetwork([3, wide, 5, wide], activation=["sigmoid", "gelu"], loss="cross_entropy", dtype=dtype, seed=1)
    X, y = data(600, 3, wide, "cross_entropy")
    net.fit(X, y, epochs=2, optimizer=optimizer, lr=0.01, batch_size=batch_size, l1=1e-3, l2=1e-3, dropout=0.2,
            clip_norm=None if batch_size else 1.0)  # fmt: skip
    for part in (*net.weights, *net.biases):
        assert part.any()
        part[...] = 0
    assert not net.model.theta.any()


def test_fit_uses_available_threads_if_system_refuses_more(monkeypatch):
    """Training continues with the existing threads if the system refuses to start more."""
    expected = fit_bytes([7, 33, 5], 100, epochs=5)
    start, started = _thread.start_new_thread, []

    def start_only_one(*arguments):
        if started:
            raise RuntimeError("can't start new thread")
        started.append(1)
        return start(*arguments)

    # A real limit of the system would affect all processes of the user, and root has none.
    monkeypatch.setattr(_thread, "start_new_thread", start_only_one)
    assert fit_bytes([7, 33, 5], 100, epochs=5, n_threads=4) == expected
    assert started
    with Team(4) as team:
        assert team.size == 1


@pytest.mark.parametrize("n_threads", [1, None])
def test_small_fit_starts_no_thread(make_fail, n_threads):
    """A fit that is too small for several threads never tries to start one."""
    make_fail("_thread.start_new_thread", AssertionError("a thread was started"))
    fit_bytes([3, 4, 1], 4, epochs=1500, n_threads=n_threads)


# ------------------------------------------------------------------------- several blocks of rows


@pytest.mark.sampled(7)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("rows", [700, 1043])
@pytest.mark.parametrize("loss", ["sse", "bce", "cross_entropy"])
def test_large_batch_equals_sum_of_small_pieces(isa, loss, rows, dtype):
    """Compare several blocks with pieces of 16 rows, each of which always fits into one block."""
    net = NeuralNetwork([5, 1000, 60, 3], activation=["relu", "tanh"], loss=loss, dtype=dtype, seed=1)
    X, y = data(rows, 5, 3, loss)
    assert 16 <= rows_per_block(net, rows) < rows
    total, gradient = 0.0, [0.0] * 3
    for row in range(0, rows, 16):
        fraction = 1 if loss == "sse" else min(16, rows - row) / rows
        part = X[row : row + 16], y[row : row + 16]
        total += fraction * net.evaluate_loss(*part)
        pieces = net.gradients(*part)
        gradient = [g + fraction * np.vstack([dW, db]) for g, (dW, db) in zip(gradient, pieces, strict=True)]
    eps = np.finfo(dtype).eps

    def same(actual, expected, allowed):
        return np.abs(actual - expected).max() <= allowed * eps

    assert net.evaluate_loss(X, y) == pytest.approx(total, rel=float(100 * eps))
    for (dW, db), expected in zip(net.gradients(X, y), gradient, strict=True):
        assert same(np.vstack([dW, db]), expected, 100 * np.abs(expected).max())
    P = np.vstack([net.predict(X[row : row + 16]) for row in range(0, rows, 16)])
    assert same(net.predict(X), P, 20)

    before = [np.vstack([W, b]) for W, b in zip(net.weights, net.biases, strict=True)]
    assert net.train_step(X, y, lr=0.5) == pytest.approx(total, rel=float(100 * eps))
    for W, b, old, g in zip(net.weights, net.biases, before, gradient, strict=True):
        assert same(np.vstack([W, b]), old - 0.5 * g, 2 * np.abs(old).max() + 100 * np.abs(g).max())


# -------------------------------------------------------------------------------- comparison with NumPy


class NumPyNetwork:
    """Network with a tanh layer, a linear layer and mean squared error, and three optimizers, in NumPy."""

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


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("sizes", "rows", "batch_size", "steps"),
    [
        ([4, 9, 3], 20, None, 100),
        ([4, 9, 3], 20, 6, 100),
        ([3, 40, 21], 50, 10, 100),
        ([6, 600, 2], 500, None, 5),  # 500 rows of this network are several blocks
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
def test_optimizers_match_numpy_over_100_steps(sizes, rows, batch_size, steps, optimizer, constants):
    net = NeuralNetwork(sizes, activation="tanh", loss="mse", seed=3)
    X, y = data(rows, sizes[0], sizes[-1])
    assert rows < 500 or rows_per_block(net, rows) < rows
    reference, size = NumPyNetwork(net), batch_size or rows
    batches = [slice(row, row + size) for row in range(0, rows, size)]
    weights = [len(X[batch]) for batch in batches]
    settings = {"lr": 0.001 if optimizer == "adam" else 0.01, **constants}
    expected = []
    for _ in range(steps // len(batches)):
        losses = [reference.step(X[batch], y[batch], optimizer, **settings) for batch in batches]
        expected.append(np.average(losses, weights=weights))
    if "momentum" in constants:
        optimizer, constants = SGD(**constants), {}
    history = net.fit(
        X, y, epochs=len(expected), optimizer=optimizer, batch_size=batch_size, shuffle=False, **constants
    )
    assert history.loss == pytest.approx(np.array(expected), rel=1e-10, abs=0)
    actual = [part for layer in net.layers for part in (layer.W, layer.b)]
    for part, expected_part in zip(actual, reference.parts, strict=True):
        assert part == pytest.approx(expected_part, rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_optimizers_in_float32_match_float64(isa, optimizer):
    X, y = data(40, 5, 3)
    double, single = (NeuralNetwork([5, 20, 3], activation="tanh", loss="mse", seed=1, dtype=d) for d in ("f8", "f4"))
    expected, actual = (net.fit(X, y, epochs=50, optimizer=optimizer, lr=0.01).loss for net in (double, single))
    assert actual == pytest.approx(expected, rel=1e-4)
    assert single.params == pytest.approx(double.params, rel=1e-3, abs=1e-4)


# ---------------------------------------------------------------------------------------------- blocks as units of work

BLOCK_CASES = {  # cases in which each thread processes complete blocks of rows
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


@pytest.mark.sampled(3)
@pytest.mark.parametrize("case", BLOCK_CASES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_thread_count_does_not_change_bits_of_complete_blocks(isa, case, dtype):
    sizes, rows, settings = BLOCK_CASES[case]
    settings = dict(settings)
    net = NeuralNetwork(sizes, dtype=dtype)
    assert net.model.engine.blocks(settings.get("batch_size", rows)) >= 2
    if settings.pop("n_weights", False):
        settings["sample_weight"] = np.random.default_rng(0).uniform(0, 2, rows)
    expected = fit_bytes(sizes, rows, dtype=dtype, epochs=3, n_threads=1, **settings)
    for n_threads in (2, 3, 4, 7):
        assert fit_bytes(sizes, rows, dtype=dtype, epochs=3, n_threads=n_threads, **settings) == expected, (
            f"{n_threads} threads"
        )


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
@pytest.mark.parametrize("rows", [700, 4000, 4001])
def test_step_over_blocks_uses_sum_of_block_gradients(isa, loss, rows):
    X, y = data(rows, 16, 9, loss)
    net = NeuralNetwork([16, 50, 9], loss=loss, seed=1)
    assert net.model.engine.blocks(rows) >= 2
    before, value = net.params, net.evaluate_loss(X, y)
    gradient = np.concatenate([part.ravel() for pair in net.gradients(X, y) for part in pair])
    history = net.fit(X, y, epochs=1, lr=0.1, n_threads=2)
    assert history.loss[0] == pytest.approx(value, rel=1e-13)
    assert net.params == pytest.approx(before - 0.1 * gradient, rel=1e-12, abs=1e-14)


def test_nonfinite_loss_in_one_block_leaves_parameters_unchanged(isa):
    X, y = data(4000, 16, 9)
    X[3500] = 1e300
    expected = []
    for n_threads in (1, 2, 4):
        net = NeuralNetwork([16, 50, 9], loss="mse", activation="identity", seed=1)
        before = net.params
        with pytest.raises(DivergedError, match="the loss of epoch 1 is not finite"):
            net.fit(X, y, epochs=5, lr=0.1, n_threads=n_threads)
        assert np.array_equal(net.params, before)
        expected.append(net.params.tobytes())
    assert len(set(expected)) == 1


# ---------------------------------------------------------------------------------------------- copies of weights


@pytest.mark.parametrize("hidden", [16, 64, 129])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_validation_loss_uses_weights_of_its_epoch(isa, hidden, dtype):
    (X, y), validation = data(300, 10, 1), data(100, 10, 1, seed=1)
    net = NeuralNetwork([10, hidden, 1], activation="tanh", loss="mse", dtype=dtype, seed=1)
    losses = []

    def evaluate(record):
        losses.append(net.evaluate_loss(*validation))

    evaluate.every = 1
    history = net.fit(X, y, epochs=5, lr=0.05, batch_size=32, validation=validation, callback=evaluate)
    assert history.val_loss.tolist() == pytest.approx(losses, rel=1e-12 if dtype == "float64" else 1e-6)


@pytest.mark.parametrize("sizes", [[10, 16, 16, 1], [10, 64, 64, 1], [3, 4, 1]])
@pytest.mark.parametrize("batches", [False, True])
def test_fit_continues_with_weights_set_by_callback(isa, sizes, batches):
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

TINY_NETWORK_CASES = [
    ("sigmoid", "sse"),
    ("tanh", "half_sse"),
    ("relu", "mse"),
    ("gelu", "bce"),
    ("elu", "poisson"),
    ("silu", "hinge"),
]


def fit_fast_and_general(sizes, rows, activation, loss, bias, dtype, seed, **options):
    """Return network, history and error of a fit with the fast path, and of one with the general path.

    Sample weights of 1 disable the fast paths for tiny networks and for single rows.
    """
    X, y = data(rows, sizes[0], sizes[-1], seed=seed)
    y = np.where(y < 0.5, -1, 1) if loss == "hinge" else y
    if isinstance(loss, nnc.CrossEntropy) or loss == "cross_entropy":
        sizes = [*sizes[:-1], max(2, sizes[-1])]
        y = np.arange(rows) % sizes[-1]
    fits = []
    for weights in (None, np.ones(rows)):
        net = NeuralNetwork(sizes, activation=activation, loss=loss, bias=bias, dtype=dtype, seed=seed)
        try:
            history, error = net.fit(X, y, **{"epochs": 30, "lr": 0.1, **options}, sample_weight=weights), None
        except DivergedError as diverged:
            history, error = diverged.history, diverged
        fits.append((net, history, error))
    return fits


@pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")
@given(
    sizes=st.lists(st.integers(0, 1000), min_size=2, max_size=4),
    rows=st.integers(0, 1000),
    functions=st.sampled_from(TINY_NETWORK_CASES),
    bias=st.booleans(),
    dtype=st.sampled_from(["float64", "float32"]),
    seed=st.integers(0, 1000),
)
@searching(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_fast_path_for_tiny_networks_gives_same_weights(isa, sizes, rows, functions, bias, dtype, seed):
    max_size = NeuralNetwork([1, 1], dtype=dtype).model.core.LANES + 1  # beyond the fast path for tiny networks
    sizes, rows = [1 + size % max_size for size in sizes], 1 + rows % max_size
    (net, history, _), (other, other_history, _) = fit_fast_and_general(
        sizes, rows, *functions, bias, dtype, seed, lr=0.01
    )
    assert np.array_equal(net.params, other.params)
    assert history.loss == pytest.approx(other_history.loss, rel=1e-13 if dtype == "float64" else 1e-5)


@pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")
@pytest.mark.parametrize("activation", HIDDEN)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_fast_path_for_tiny_networks_supports_each_activation(isa, activation, dtype):
    (net, *_), (other, *_) = fit_fast_and_general([2, 2, 2, 1], 2, activation, "mse", True, dtype, 1)
    assert np.array_equal(net.params, other.params)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("lr", [1e3, 1e30, 1e300])
def test_divergence_of_tiny_network_matches_general_path(isa, dtype, lr):
    lr = lr if dtype == "float64" else min(lr, 1e30)
    (net, history, error), (other, other_history, other_error) = fit_fast_and_general(
        [2, 2, 1], 2, "identity", "mse", True, dtype, 1, lr=lr
    )
    assert np.array_equal(net.params, other.params)
    assert np.isfinite(net.params).all()
    assert (error.epoch, error.layer, history.epochs) == (other_error.epoch, other_error.layer, other_history.epochs)


def test_thread_count_does_not_change_bits_of_tiny_network(isa):
    bits = {fit_bytes([3, 2, 1], 2, epochs=50, n_threads=n) for n in (1, 2, 3)}
    assert len(bits) == 1


def test_tiny_network_accepts_batches_of_different_sizes(isa):
    X, y = data(7, 2, 1)
    sizes = [(0, 2), (2, 4), (4, 5), (5, 7)]
    net, other = (NeuralNetwork([2, 2, 1], loss="mse", seed=1) for _ in range(2))
    net.fit_batches(lambda: ((X[a:b], y[a:b]) for a, b in sizes), epochs=20, lr=0.1)
    other.fit_batches(lambda: ((X[a:b], y[a:b], np.ones(b - a)) for a, b in sizes), epochs=20, lr=0.1)
    assert np.array_equal(net.params, other.params)


# ---------------------------------------------------------------------------------------------- single rows

SINGLE_ROW_CASES = [
    *TINY_NETWORK_CASES,
    ("leaky_relu", "cross_entropy"),
    ("softplus", nnc.CrossEntropy(0.1)),
    ("selu", "huber"),
]


def check_single_rows(*network, **options):
    """Assert that fits with batches of one row are equal on both paths; return the result of the fast path."""
    fits = fit_fast_and_general(*network, **{"epochs": 5, "batch_size": 1, "optimizer": "sgd", "lr": 0.01, **options})
    (net, history, error), (other, other_history, other_error) = fits
    assert np.array_equal(net.params, other.params)
    assert history.loss.tolist() == other_history.loss.tolist()
    assert (error and (error.epoch, error.layer)) == (other_error and (other_error.epoch, other_error.layer))
    return fits[0]


@pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")
@given(
    sizes=st.lists(st.integers(1, 40), min_size=2, max_size=4),
    rows=st.integers(1, 9),
    functions=st.sampled_from(SINGLE_ROW_CASES),
    bias=st.booleans(),
    shuffle=st.booleans(),
    optimizer=st.sampled_from(["sgd", "momentum", "adam"]),
    dtype=st.sampled_from(["float64", "float32"]),
    seed=st.integers(0, 1000),
)
@searching(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_fast_path_for_single_rows_gives_same_weights(
    isa, sizes, rows, functions, bias, shuffle, optimizer, dtype, seed
):
    check_single_rows(sizes, rows, *functions, bias, dtype, seed, optimizer=optimizer, shuffle=shuffle)


@pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")
@pytest.mark.parametrize("activation", HIDDEN)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_fast_path_for_single_rows_supports_each_activation(isa, activation, dtype):
    check_single_rows([3, 17, 2], 4, activation, "mse", True, dtype, 1)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("lr", [1e3, 1e30, 1e300])
@pytest.mark.parametrize("sizes", [[3, 3, 1], [3, 70, 3]])
def test_divergence_of_single_rows_matches_general_path(isa, dtype, lr, sizes):
    lr = lr if dtype == "float64" else min(lr, 1e30)
    net, _, error = check_single_rows(sizes, 3, "identity", "mse", True, dtype, 1, lr=lr)
    assert error is not None
    assert np.isfinite(net.params).all()


def test_thread_count_does_not_change_bits_of_single_rows(isa):
    assert len({fit_bytes([20, 30, 3], 6, batch_size=1, epochs=5, n_threads=n) for n in (1, 2, 3)}) == 1


@pytest.mark.parametrize("options", [{"l2": 0.1}, {"clip_norm": 0.1}, {"clip_value": 0.1}, {"dropout": 0.5}])
def test_single_rows_with_penalty_clipping_or_dropout_give_same_weights(options):
    """Fits with these options give the same weights on the path that the engine chooses."""
    check_single_rows([5, 20, 2], 4, "tanh", "mse", True, "float64", 1, **options)


@pytest.mark.parametrize("loss", losses.NAMES)
def test_loss_of_epoch_combines_batch_losses_before_steps(loss):
    """The loss of an epoch is the sum or the row-weighted mean of the batch losses, each computed before its step."""
    rng = np.random.default_rng(0)
    X, y = rng.uniform(-1, 1, (17, 3)), draw_targets(loss, rng, 17, 4)
    fitted, stepped = (NeuralNetwork([3, 5, 4], loss=loss, seed=1) for _ in range(2))
    history = fitted.fit(X, y, epochs=2, lr=0.1, batch_size=5, shuffle=False)
    for epoch in range(2):
        values = [stepped.train_step(X[row : row + 5], y[row : row + 5], lr=0.1) for row in range(0, 17, 5)]
        expected = sum(values) if losses.ROWS[loss].is_sum else np.average(values, weights=[5, 5, 5, 2])
        assert history.loss[epoch] == pytest.approx(expected, rel=1e-13)
    assert np.array_equal(fitted.params, stepped.params)


def test_history_describes_fit_and_can_be_pickled():
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
def test_divergence_restores_last_finite_weights(optimizer, dtype, batch_size, lr, n_threads):
    # Steps of Adam have about the length lr for any gradient, so a huge lr is needed to diverge.
    if optimizer == "adam":
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
    # Single steps give the same weights to the last bit.
    size = batch_size or len(X)
    batches = itertools.cycle([(X[i : i + size], y[i : i + size]) for i in range(0, len(X), size)])
    part.fit(*next(batches), epochs=1, optimizer=optimizer, **settings)
    with contextlib.suppress(DivergedError):
        for batch in batches:
            part.fit(*batch, epochs=1, **settings)
    assert net.params.tobytes() == part.params.tobytes()
    if "the loss of epoch" in str(error):  # fit ended before the step of this batch, so its loss is still not finite
        assert not np.isfinite(net.evaluate_loss(*batch))
    assert nnc.from_json(net.to_json()).params.tobytes() == net.params.tobytes()


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("batch_size", [None, 16])
def test_thread_count_does_not_change_bits_of_nonfinite_step(optimizer, batch_size):
    """The step updates all parameters except the row of W that would not be finite, for any number of threads."""
    X, y = data(64, 100, 1)
    X[:, 20] *= 1e18
    y *= 1e3
    actual = set()
    for n_threads in (1, 2, 3, 5, 7):
        net = NeuralNetwork([100, 8, 1], activation="tanh", output="identity", loss="mse", dtype="float32", seed=1)
        net.weights[0][20] = 0
        error = diverged(net, X, y, epochs=9, lr=1e22, n_threads=n_threads, optimizer=optimizer, batch_size=batch_size)
        assert np.isfinite(net.params).all()
        actual.add((error.epoch, error.layer, net.params.tobytes()))
    assert len(actual) == 1


def test_nonfinite_step_of_many_rows_is_rejected_completely():
    """The batch has more rows than the kernel sums at once; the step must not use only the first of them."""
    X = np.ones((600, 2)) * 1e150
    X[:500] *= 1e-150
    for optimizer in ("sgd", "momentum", nnc.AdamW(weight_decay=0.5)):
        net = NeuralNetwork([2, 1], loss="sse", output="identity", init=[np.ones((2, 1))], bias=False)
        assert diverged(net, X, np.zeros(600), epochs=1, lr=1e10, optimizer=optimizer).layer == 1
        assert net.params.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("how", ["fit", "batches", "lbfgs", "levenberg_marquardt"])
def test_divergence_error_names_layer(how):
    """The error names the first layer with outputs that are not finite, and recommends scaling for large inputs."""
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


def test_step_rejected_by_divergence_is_not_counted():
    X, y = data(8, 2, 1)
    net = NeuralNetwork([2, 3, 1], activation="identity", loss="mse", seed=1)
    fresh = net.copy()
    error = diverged(net, X, 1e200 * y, epochs=1, lr=0.1, optimizer="adam")
    assert "the loss of epoch 1 is not finite, but the outputs of layer 2 are" in str(error)
    net.fit(X, y, epochs=3)
    fresh.fit(X, y, epochs=3, lr=0.1, optimizer="adam")
    assert net.params.tobytes() == fresh.params.tobytes()


def test_divergence_error_states_learning_rate_of_epoch():
    X, y = data(64, 3, 1)
    net = NeuralNetwork([3, 2, 1], activation="identity", loss="mae", seed=1)
    rates = [1e-9, 1.7e308, 1e-5, 1e-5]
    error = diverged(net, 1e5 * X, y, epochs=4, lr=lambda epoch: rates[epoch], validation=(X, y))
    assert (error.epoch, error.layer) == (2, 1)
    assert "learning rate of 1.7e+308 " in str(error)
    assert np.isfinite(error.history.val_loss).all()


def test_adam_supports_denormal_eps():
    """A denormal eps counts as 0 inside the engine, where the padding of the parameters must not become 0 / 0."""
    X, y = data(20, 3, 2)
    net = NeuralNetwork([3, 4, 2], loss="mse", dtype="float32", seed=0)
    assert net.fit(X, y, epochs=20, optimizer=nnc.Adam(lr=0.01, eps=1e-45)).loss[-1] < net.copy().evaluate_loss(
        X, 2 * y
    )


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("epochs", [1, 2, 10])
def test_overflow_in_last_step_leaves_weights_finite(epochs, dtype):
    """The loss is computed before the step and is still finite."""
    net = NeuralNetwork([1, 1], loss="mse", seed=0, dtype=dtype)
    large = float(np.finfo(dtype).max)
    error = diverged(net, [[1e3]], [1e3], epochs=epochs, lr=large / 10)
    assert np.isfinite(net.params).all()
    assert error.history.epochs <= 1


@pytest.mark.parametrize("lr", [1e150, 1e306, 1.7e308])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_divergence_between_slices_leaves_weights_finite(set_limit, lr, n_threads):
    """With one block of rows per slice, the weights overflow in one slice and the loss in the next."""
    set_limit("nnc._training.threads.SLICE_SECONDS", 0)
    net = NeuralNetwork([50, 200, 1], activation="identity", loss="mse", seed=0)
    X, y = data(50, 50, 1)
    diverged(net, X, 100 * y, epochs=50, lr=lr, n_threads=n_threads)
    assert np.isfinite(net.params).all()


@pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("lr", [1e3, 1e20, 1e38, 1e300])
@pytest.mark.parametrize(("loss", "activation"), [("cross_entropy", "relu"), ("bce", "softplus"), ("sse", "gelu")])
def test_weights_are_finite_after_any_fit(loss, activation, lr, dtype):
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


def test_diverged_error_can_be_pickled():
    """Worker processes return errors by pickling."""
    history = nnc.History({"loss": np.array([1.0, 2.0])}, 0.5, "diverged")
    error = pickle.loads(pickle.dumps(DivergedError("too large", history, 3)))
    assert isinstance(error, ArithmeticError)
    assert str(error) == "too large"
    assert error.epoch == 3
    assert np.array_equal(error.history.loss, [1.0, 2.0])


# -------------------------------------------------------------------------------------------- Ctrl-C

INTERRUPTED = """
import json, os, signal, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs ignore SIGINT
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
    time.sleep(0.05)
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


@pytest.mark.sampled(3)
@posix
@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize(
    ("sizes", "rows", "settings", "epochs", "steps"),
    [
        ([3, 4, 1], 4, {"epochs": 10**8, "lr": 0.001}, True, True),
        ([20, 50, 10], 2000, {"epochs": 10**7, "lr": 0.001, "batch_size": 100}, True, True),
        # One epoch of this network lasts several seconds.
        ([8, 512, 512, 1], 200_000, {"epochs": 3, "lr": 1e-3, "batch_size": 1000}, False, True),
        # One step of this network lasts many seconds.
        ([8, 512, 512, 1], 200_000, {"epochs": 3, "lr": 0.001}, False, False),
    ],
    ids=["tutorial", "batches", "long epoch", "long step"],
)
def test_interrupt_ends_fit_and_keeps_current_weights(sizes, rows, settings, epochs, steps, n_threads):
    """Each fit would take minutes or hours; an interrupt ends it within an epoch, or even within a step."""
    actual = run_child(INTERRUPTED, json.dumps([sizes, rows, steps, {**settings, "n_threads": n_threads}]))
    assert actual["reason"] == "interrupt"
    assert actual["finite"]
    assert actual["restored"]
    assert actual["goes_on"] == "epochs"
    assert actual["epochs"] == actual["losses"]
    assert epochs or actual["epochs"] == 0
    assert actual["changed"] == steps


@posix
def test_fit_leaves_custom_interrupt_handler_in_place():
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
def test_second_interrupt_after_a_second_raises_error():
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    with Interrupt() as interrupt:
        assert not interrupt
        signal.raise_signal(signal.SIGINT)
        assert interrupt
        signal.raise_signal(signal.SIGINT)  # a signal within a second is ignored, because a held key repeats Ctrl-C
        time.sleep(1.1)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, old)


# ------------------------------------------------------------------ no leaks and side effects

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

growth = []
for work, warm_up, amount in ((steps, 20, 1000), (calls, 300, 1500)):
    work(warm_up)
    before = used()
    work(amount)
    growth.append(used() - before)
print(json.dumps(growth))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="memory is read from Linux' /proc")
def test_memory_does_not_grow():
    steps, calls = run_child(MEMORY)
    assert steps < 2**19, "in a million steps"
    assert calls < 2**19, "in thousands of calls"


def count_threads():
    return len(os.listdir("/proc/self/task"))


def test_changing_thread_count_between_slices_does_not_change_bits(monkeypatch, set_limit):
    """Parameters are those of a fixed number of threads when each slice uses another number."""
    X, y = data(300, 20, 2)
    used = []

    class AlternatingTuner(ThreadTuner):
        """Tuner that changes the number of threads after each slice, which contains one block of rows."""

        def next(self, rows_left):
            used.append(self.candidates[len(used) % len(self.candidates)])
            return used[-1], 0.0

    set_limit("nnc._training.first_order.MIN_THREAD_MULTIPLY_ADDS", 1)
    # Thread counts are limited by the processors of the machine, which may have only two.
    monkeypatch.setattr(processors, "get_num_threads", lambda: 3)
    # The measured choice depends on the load of the machine; it must change with each slice here.
    monkeypatch.setattr(first_order, "borrow_tuner", lambda workload, sizes, limit: AlternatingTuner(sizes, limit))
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


@pytest.mark.serial
@pytest.mark.skipif(not may_set_affinity(), reason="threads may not choose their processors here")
def test_threads_avoid_processor_of_caller(monkeypatch, make_fail):
    """Threads avoid the caller's processor if there is one for each; the caller's own affinity stays unchanged."""
    allowed = os.sched_getaffinity(0)
    if len(allowed) < 2:
        pytest.skip("one processor")
    home = min(allowed)
    # Patched, because the system may move the threads to other processors at any time.
    monkeypatch.setattr(_cpu, "processor", lambda: home)

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


@pytest.mark.serial
@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="threads are counted in Linux' /proc")
def test_fit_leaves_no_thread():
    before = count_threads()
    fit_bytes([7, 33, 5], 100, epochs=5, n_threads=4)
    X, y = data(13, 2, 1)
    diverged(NeuralNetwork([2, 1], loss="mse", seed=0), X, y, epochs=1000, lr=1e30, n_threads=4)
    until = time.monotonic() + 10
    while count_threads() > before and time.monotonic() < until:
        time.sleep(0.001)
    assert count_threads() <= before


FORKED = """
import os, signal, warnings
import numpy as np
from nnc import NeuralNetwork

warnings.simplefilter("ignore", DeprecationWarning)  # Python warns about forking because NumPy has threads
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
def test_fork_after_threaded_fit_can_train():
    assert run_child(FORKED) == [0, 0]


def denormals_are_preserved():
    denormals = np.array([2.0**-1070, -(2.0**-1050), 2.0**-1023])
    return np.array_equal(denormals * 0.5 * 2, denormals) and np.all(denormals + 0.0 != 0) and 2.0**-1070 / 2 > 0


def test_engine_leaves_denormals_of_numpy_unchanged():
    """The engine treats denormals as zero only inside its own calls."""
    X, y = data(30, 3, 2)
    net = NeuralNetwork([3, 40, 2], loss="mse", seed=0)
    assert denormals_are_preserved()
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
        assert denormals_are_preserved()


# Neurons whose weights are all denormal count as equal, which gives this warning.
@pytest.mark.filterwarnings("ignore::nnc.EqualNeuronsWarning")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_denormal_weights_train_like_zeros(dtype):
    """Weights and inputs below the smallest normal number train like zeros."""
    X, y = data(10, 3, 2)
    net = NeuralNetwork([3, 4, 2], activation="tanh", loss="mse", dtype=dtype, seed=0)
    net.params = net.params * np.finfo(dtype).smallest_normal * 0.01
    with np.errstate(under="ignore"):
        assert np.abs(net.predict(X)).max() <= np.finfo(dtype).smallest_normal
    net.fit(X, y, epochs=5, lr=0.1)
    assert np.isfinite(net.params).all()
    assert net.biases[1].all()


# --------------------------------------------------------------------------------- concurrent calls


def test_concurrent_fits_and_predictions_are_independent():
    """Each call has its own buffers, so several networks may train while another one predicts, in different threads."""
    expected = [fit_bytes([7, 33, 5], 100, seed=seed, epochs=30, batch_size=16) for seed in range(4)]
    net = NeuralNetwork([7, 33, 5], seed=9)
    X, _ = data(1000, 7, 5)
    P = net.predict(X)
    actual, same = [None] * 4, []

    def work(number):
        actual[number] = fit_bytes([7, 33, 5], 100, seed=number, epochs=30, batch_size=16, n_threads=1 + number % 2)
        same.append(all(np.array_equal(net.predict(X), P) for _ in range(20)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert actual == expected
    assert same == [True] * 4
