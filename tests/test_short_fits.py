"""The short way into a fit is the long one to the bit, and takes nothing that the long one refuses."""

import signal

import numpy as np
import pytest

import nnc
from nnc import NeuralNetwork
from nnc.layers import BatchNorm, Dense, Dropout
from nnc.training import start
from nnc.training.fit import Fit

rng = np.random.default_rng(5)
X, Y = rng.uniform(-1, 1, (12, 3)), rng.uniform(0, 1, (12, 2))
SAID = {
    "rate": {"lr": 0.05},
    "optimizer": {"optimizer": "adam"},
    "both": {"optimizer": nnc.RMSprop(momentum=0.5), "lr": 0.01},
    "one thread": {"lr": 0.05, "n_threads": 1},
    "many epochs": {"lr": 0.05, "epochs": 30},
}
NETWORKS = {
    "dense": lambda: NeuralNetwork([3, 5, 2], activation="tanh", loss="mse", seed=7),
    "float32": lambda: NeuralNetwork([3, 5, 2], activation="tanh", loss="mse", seed=7, dtype="float32"),
    "scaled": lambda: NeuralNetwork([3, 5, 2], scale_X="standardize", scale_y="minmax", seed=7),
    "dropout": lambda: NeuralNetwork([3, Dense(5, "relu"), Dropout(0.3), 2], loss="mse", seed=7),
    "batch norm": lambda: NeuralNetwork([3, 5, BatchNorm(), 2], loss="mse", seed=7),
    "own rates": lambda: NeuralNetwork([3, Dense(5, "tanh", lr_factor=3.0), 2], loss="mse", seed=7),
    "own loss": lambda: NeuralNetwork([3, 5, 2], loss=lambda P, T: (((P - T) ** 2).sum(), 2 * (P - T)), seed=7),
    "classes": lambda: NeuralNetwork([3, 5, 2], loss="cross_entropy", seed=7),
}
TAKEN = {"dense", "float32", "scaled", "batch norm", "classes"}


@pytest.fixture
def short(monkeypatch):
    """How often the short way was taken. It can be closed."""
    ways, at_once = [], start.at_once

    def noting(*arguments):
        run = at_once(*arguments) if noting.is_open else None
        ways.append(run is not None)
        return run

    noting.is_open, noting.ways = True, ways
    monkeypatch.setattr(start, "at_once", noting)
    return noting


def everything(net, history):
    document = net._document(checkpoint=True)
    if document["training"] is not None:
        del document["training"]["history"]["seconds"]
    if history is None:
        return document
    columns = {name: column.tolist() for name, column in dict(history).items() if name != "epoch_seconds"}
    return document, columns, history.stop_reason, history.n_threads


@pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")
@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("said", SAID)
def test_both_ways_are_one(short, kind, said):
    y = rng.integers(0, 2, 12) if kind == "classes" else Y
    found = []
    for short.is_open in (True, False):
        net = NETWORKS[kind]()
        data = X.astype(net.dtype), y if kind == "classes" else y.astype(net.dtype)
        history = net.fit(*data, **{"epochs": 2, **SAID[said]})
        again = net.fit(*data, epochs=3)
        named = net.fit(*data, epochs=1, optimizer="adam", lr=0.01)
        found.append([everything(net, part) for part in (history, again, named)])
    assert found[0] == found[1]
    assert short.ways == [kind in TAKEN, False, kind in TAKEN, False, False, False]


@pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")
@pytest.mark.parametrize(
    "said",
    [
        {"lr": 1},
        {"lr": np.float64(0.1)},
        {"epochs": np.int64(2), "lr": 0.1},
        {"lr": lambda epoch: 0.1},
        {"lr": nnc.CosineLR(0.1)},
        {"optimizer": "rprop"},
        {"optimizer": "lbfgs"},
        {"n_threads": 2, "lr": 0.1},
        {"batch_size": 5, "lr": 0.1},
        {"l2": 0.1, "lr": 0.1},
        {"patience": 2, "lr": 0.1},
        {"callback": lambda record: None, "lr": 0.1},
    ],
    ids=str,
)
def test_what_has_to_be_looked_at_goes_the_long_way(short, said):
    NETWORKS["dense"]().fit(X, Y, **{"epochs": 2, **said})
    assert short.ways == [False]


@pytest.mark.parametrize(
    ("said", "data"),
    [
        ({"epochs": 0}, (X, Y)),
        ({"epochs": True}, (X, Y)),
        ({"epochs": 1.0}, (X, Y)),
        ({"lr": 0.0}, (X, Y)),
        ({"lr": -0.1}, (X, Y)),
        ({"lr": np.inf}, (X, Y)),
        ({"lr": np.nan}, (X, Y)),
        ({"n_threads": True}, (X, Y)),
        ({"n_threads": 0}, (X, Y)),
        ({"optimizer": "adams"}, (X, Y)),
        ({"optimizer": nnc.Adam}, (X, Y)),
        ({"lr": 0.1}, (X[:, :2], Y)),
        ({"lr": 0.1}, (X, Y[:5])),
        ({"lr": 0.1}, (X[:0], Y[:0])),
        ({"lr": 0.1}, (np.where(X > 0.9, np.nan, X), Y)),
        ({"lr": 0.1}, (X, np.full_like(Y, np.inf))),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_both_ways_refuse_in_the_same_words(short, said, data):
    messages = []
    for short.is_open in (True, False):
        net = NETWORKS["dense"]()
        before = everything(net, net.history)
        with pytest.raises((TypeError, ValueError)) as caught:
            net.fit(*data, **{"epochs": 2, **said})
        messages.append((caught.type, str(caught.value)))
        assert everything(net, net.history) == before
        net.fit(X, Y, epochs=1, lr=0.1)  # nothing is left in the way
    assert messages[0] == messages[1]


def test_weights_that_are_not_finite_are_refused(short):
    net = NETWORKS["dense"]()
    net.weights[0][1, 2] = np.nan
    with pytest.raises(ValueError, match="weights of the network must be finite, got nan"):
        net.fit(X, Y, epochs=1, lr=0.1)
    assert short.ways == []


@pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")
def test_a_short_fit_that_diverges(short):
    found = []
    for short.is_open in (True, False):
        net = NeuralNetwork([3, 5, 2], activation="relu", loss="mse", seed=7)
        with pytest.raises(nnc.DivergedError) as caught:
            net.fit(X, Y, epochs=200, lr=1e5)
        found.append((str(caught.value), everything(net, caught.value.history)))
    assert short.ways == [True, False]
    assert found[0] == found[1]


@pytest.mark.parametrize("method", ["open", "note", "history"])
def test_ctrl_c_ends_the_loop_around_short_fits(method, monkeypatch):
    net, same = NETWORKS["dense"](), NETWORKS["dense"]()
    undisturbed = getattr(Fit, method)

    def disturbed(run, *arguments):
        monkeypatch.setattr(Fit, method, undisturbed)
        signal.raise_signal(signal.SIGINT)
        return undisturbed(run, *arguments)

    monkeypatch.setattr(Fit, method, disturbed)
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, Y, epochs=2, lr=0.1)
    done = 0 if method == "open" else 2
    assert net.history.epochs == done
    if done:
        assert net.history.stop_reason == "interrupt"
        same.fit(X, Y, epochs=2, lr=0.1)
        assert net.params.tolist() == same.params.tolist()
    net.fit(X, Y, epochs=3, lr=0.1)
    same.fit(X, Y, epochs=3, lr=0.1)
    assert net.params.tolist() == same.params.tolist()
    assert net.history.epochs == done + 3


def strange(array):
    """Arrays that hold the same numbers, and are not as the engine takes them."""
    wide = np.repeat(array, 2, axis=1)
    shifted = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    shifted[...] = array
    other = {8: np.float32, 4: np.float64}[array.dtype.itemsize]
    return {
        "columns first": np.asfortranarray(array),
        "every other": wide[:, ::2],
        "backwards": array[::-1].copy()[::-1],
        "bytes swapped": array.astype(array.dtype.newbyteorder()),
        "misaligned": shifted,
        "another type": array.astype(other).astype(array.dtype),
        "whole numbers": array.round().astype(np.int64).astype(array.dtype),
        "read only": np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape),
        "a list": array.tolist(),
        "a subclass": array.view(np.ma.MaskedArray).data.view(np.recarray).view(np.ndarray),
    }


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_arrays_of_every_layout_give_the_same(dtype):
    net = NeuralNetwork([3, 5, 2], activation="tanh", loss="mse", dtype=dtype, seed=7)
    A, B = X.astype(dtype), Y.astype(dtype)
    for (name, given), targets in zip(strange(A).items(), strange(B).values(), strict=True):
        plain, plain_y = np.array(given, dtype), np.array(targets, dtype)
        assert np.array_equal(net.predict(given), net.predict(plain)), name
        assert net.loss(given, targets) == net.loss(plain, plain_y), name
        for (dW, db), (dV, dc) in zip(net.gradients(given, targets), net.gradients(plain, plain_y), strict=True):
            assert np.array_equal(dW, dV), name
            assert np.array_equal(db, dc), name
        one, other = net.copy(), net.copy()
        one.fit(given, targets, epochs=2, lr=0.1)
        other.fit(plain, plain_y, epochs=2, lr=0.1)
        one.train_step(given, targets)
        other.train_step(plain, plain_y)
        assert everything(one, one.history) == everything(other, other.history), name


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_where_predictions_are_written(dtype):
    net = NeuralNetwork([2, 5, 2], dtype=dtype, seed=7)
    A = X[:, :2].astype(dtype).copy()
    expected = net.predict(A)
    for name, out in strange(np.zeros((12, 2), dtype)).items():
        if name in ("columns first", "every other", "backwards", "bytes swapped", "misaligned", "read only", "a list"):
            with pytest.raises((TypeError, ValueError), match="out"):
                net.predict(A, out=out)
        else:
            assert net.predict(A, out=out) is out
            assert np.array_equal(out, expected), name
    both = A.copy()
    assert np.array_equal(net.predict(both, out=both), expected)  # X itself
    room = np.zeros((24, 2), dtype)
    room[:12] = A
    net.predict(room[:12], out=room[6:18])  # a part of X
    assert np.array_equal(room[6:18], expected)
    for wrong in (np.zeros((11, 2), dtype), np.zeros((12, 3), dtype), np.zeros((0, 2), dtype), np.zeros(24, dtype)):
        with pytest.raises((TypeError, ValueError), match="out"):
            net.predict(A, out=wrong)
