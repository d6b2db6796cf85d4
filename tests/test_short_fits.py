"""Short fits, alone and repeated: refusals, interruptions, copies, memory, and arrays of every layout."""

import copy
import gc
import pickle
import signal
import threading
import tracemalloc
import weakref

import numpy as np
import pytest

import nnc
from nnc import NeuralNetwork
from nnc._training.loop import TrainingLoop

rng = np.random.default_rng(5)
X, Y = rng.uniform(-1, 1, (12, 3)), rng.uniform(0, 1, (12, 2))


def network(loss="mse", **settings):
    return NeuralNetwork([3, 5, 2], **{"activation": "tanh", "loss": loss, "seed": 7, **settings})


def everything(net):
    """A checkpoint of a network without its times."""
    document = net._document(checkpoint=True)
    if document["training"] is not None:
        del document["training"]["history"]["seconds"]
    return document


@pytest.mark.parametrize(
    ("options", "data"),
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
def test_a_refused_fit_changes_nothing(options, data):
    net = network()
    before = everything(net)
    with pytest.raises((TypeError, ValueError)):
        net.fit(*data, **{"epochs": 2, **options})
    assert everything(net) == before
    net.fit(X, Y, epochs=1, lr=0.1)  # nothing is left in the way


@pytest.mark.parametrize("method", ["create_training", "save_progress", "history"])
def test_ctrl_c_ends_the_loop_around_short_fits(method, monkeypatch):
    net, same = network(), network()
    undisturbed, calls = getattr(TrainingLoop, method), []

    def disturbed(run, *arguments):
        calls.append(method)
        if len(calls) == 1:
            signal.raise_signal(signal.SIGINT)
        return undisturbed(run, *arguments)

    # A callback would end the cached fast path of short fits, and no other code of the user runs at these moments.
    monkeypatch.setattr(TrainingLoop, method, disturbed)
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, Y, epochs=2, lr=0.1)
    done = 0 if method == "create_training" else 2
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
        assert net.evaluate_loss(given, targets) == net.evaluate_loss(plain, plain_y), name
        for (dW, db), (dV, dc) in zip(net.gradients(given, targets), net.gradients(plain, plain_y), strict=True):
            assert np.array_equal(dW, dV), name
            assert np.array_equal(db, dc), name
        one, other = net.copy(), net.copy()
        one.fit(given, targets, epochs=2, lr=0.1)
        other.fit(plain, plain_y, epochs=2, lr=0.1)
        one.train_step(given, targets)
        other.train_step(plain, plain_y)
        assert everything(one) == everything(other), name


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


def test_options_are_checked_in_every_fit():
    net = network()
    for _ in range(3):
        net.fit(X, Y, epochs=1, lr=1.0, batch_size=12)
    for wrong in ({"epochs": True}, {"epochs": 1.0}, {"lr": True}, {"batch_size": 12.0}, {"shuffle": 1}):
        with pytest.raises(TypeError):
            net.fit(X, Y, **{"epochs": 1, "lr": 1.0, "batch_size": 12, **wrong})


def test_optimizer_starts_anew_each_time_where_that_is_asked_for():
    net = network()
    for _ in range(3):
        net.fit(X, Y, epochs=2, optimizer="adam", reset_optimizer=True)
        assert net.state.epoch == net.state.steps == 2
        assert net.history.epochs == 2


def test_callbacks_are_called_each_time():
    net, calls = network(), []
    for _ in range(3):
        net.fit(X, Y, epochs=2, lr=0.001, callback=calls.append)
    assert [call.epoch for call in calls] == [1, 2, 3, 4, 5, 6]
    assert all(call.network is net for call in calls)


def test_rules_hold_each_time():
    net = network()
    for _ in range(3):
        assert net.fit(X, Y, epochs=10, lr=0.001, target_loss=1e9).epochs == 1
        assert net.fit(X, Y, epochs=10, lr=0.001).epochs == 10


def test_bad_data_is_refused_in_every_fit():
    net = network()
    bad, strange = X.copy(), Y.copy()
    bad[2, 1], strange[3, 1] = np.nan, np.inf
    for _ in range(2):
        net.fit(X, Y, epochs=1, lr=0.001)
        before = net.to_json(checkpoint=True)
        with pytest.raises(ValueError, match="X must be finite in float64, got nan in row 2, column 1"):
            net.fit(bad, Y, epochs=1, lr=0.001)
        net.fit(X, Y, epochs=1, lr=0.001)
        with pytest.raises(ValueError, match="y must be finite in float64, got inf in row 3, column 1"):
            net.fit(X, strange, epochs=1, lr=0.001)
        with pytest.raises(ValueError, match="y must have shape"):
            net.fit(X, Y[:3], epochs=1, lr=0.001)
        assert net.to_json(checkpoint=True) != before


def test_warnings_come_each_time():
    net = network(activation="identity")
    for _ in range(3):
        with pytest.warns(nnc.UnscaledInputWarning, match="X reaches up to 1000") as caught:
            net.fit(np.full((4, 3), 1000.0), Y[:4], epochs=1, lr=1e-9)
        assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs POSIX signals")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it rang in others' garbage callback
def test_an_exception_of_a_signal_handler_leaves_a_network_that_trains_on():
    """A signal handler may raise between any two bytecodes."""

    class Bell(Exception):
        pass

    def ring(number, frame):
        raise Bell

    net = network()
    before, ctrl_c = signal.signal(signal.SIGALRM, ring), signal.getsignal(signal.SIGINT)
    rung = 0
    try:
        for number in range(400):
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-6 * (1 + number % 97))
                for _ in range(20):
                    net.fit(X, Y, epochs=1, lr=0.001)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Bell:
                rung += 1
                assert np.isfinite(net.params).all()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert rung
    assert signal.getsignal(signal.SIGINT) is ctrl_c  # which a fit had to put back, perhaps, when it rang
    other = net.copy()
    for _ in range(3):
        assert net.fit(X, Y, epochs=1).loss.tolist() == other.fit(X, Y, epochs=1).loss.tolist()
    assert np.array_equal(net.params, other.params)


def pickled(net):
    return pickle.loads(pickle.dumps(net))


@pytest.mark.parametrize("copied", [NeuralNetwork.copy, copy.deepcopy, copy.copy, pickled])
def test_copies_train_independently(copied):
    net = network()
    for _ in range(3):
        net.fit(X, Y, epochs=1, lr=0.001)
    other = copied(net)
    before = net.params
    for _ in range(2):
        other.fit(X, Y, epochs=1, lr=0.001)
    assert np.array_equal(net.params, before)
    for _ in range(2):
        net.fit(X, Y, epochs=1, lr=0.001)
    assert everything(net) == everything(other)


def test_a_fit_during_a_fit_of_another_thread_is_refused():
    net = network()
    failures, done = [], []

    def train():
        for _ in range(300):
            try:
                done.append(net.fit(X, Y, epochs=1, lr=0.001).epochs)
            except RuntimeError as error:
                failures.append(str(error))

    net.fit(X, Y, epochs=1, lr=0.001)
    threads = [threading.Thread(target=train) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all("is already being trained" in failure for failure in failures)
    assert len(done) + len(failures) == 1200
    assert np.isfinite(net.params).all()
    net.fit(X, Y, epochs=1, lr=0.001)


def test_a_fit_releases_the_arrays_of_the_caller():
    net = network()
    x, y = X.copy(), Y.copy()
    for _ in range(3):
        history = net.fit(x, y, epochs=1, lr=0.1)
    holders = weakref.ref(x), weakref.ref(y)
    del x, y
    assert [holder() for holder in holders] == [None, None]
    known = history.loss.copy(), history.lr.copy()
    net.fit(X, Y, epochs=1, lr=0.1)
    assert np.array_equal(history.loss, known[0])
    assert np.array_equal(history.lr, known[1])
    gone = weakref.ref(net)
    gc.disable()
    try:
        del net
        assert gone() is None
    finally:
        gc.enable()


def test_memory_does_not_grow():
    net = NeuralNetwork([3, 2, 1], seed=0)
    x, y = X[:4].copy(), Y[:4, :1].copy()

    def fits(count):
        for _ in range(count):
            net.fit(x, y, epochs=1, lr=0.001)

    fits(2000)  # the history is full then
    tracemalloc.start()
    fits(1000)
    before = tracemalloc.get_traced_memory()[0]
    fits(3000)
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert after < before + 20_000
