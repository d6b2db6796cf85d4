"""Tests of short fits, single and repeated: errors, interrupts, copies, memory and array layouts."""

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
from nnc._training.first_order import FirstOrder
from nnc._training.loop import TrainingLoop

rng = np.random.default_rng(5)
X, Y = rng.uniform(-1, 1, (12, 3)), rng.uniform(0, 1, (12, 2))


def build_network(loss="mse", **settings):
    return NeuralNetwork([3, 5, 2], **{"activation": "tanh", "loss": loss, "seed": 7, **settings})


def checkpoint_document(net):
    """Return the JSON document of a checkpoint without the durations of its history."""
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
def test_rejected_fit_leaves_network_unchanged(options, data):
    net = build_network()
    before = checkpoint_document(net)
    with pytest.raises((TypeError, ValueError)):
        net.fit(*data, **{"epochs": 2, **options})
    assert checkpoint_document(net) == before
    net.fit(X, Y, epochs=1, lr=0.1)  # after the error, the network can still be trained


@pytest.mark.parametrize("method", ["create_training", "save_progress", "history"])
def test_interrupt_ends_short_fit_with_consistent_state(method, monkeypatch):
    net, expected = build_network(), build_network()
    owner = FirstOrder if method == "create_training" else TrainingLoop
    original, calls = getattr(owner, method), []

    def interrupt_first_call(loop, *arguments):
        calls.append(method)
        if len(calls) == 1:
            signal.raise_signal(signal.SIGINT)
        return original(loop, *arguments)

    # The method is patched because a callback would disable the fast path of short fits.
    monkeypatch.setattr(owner, method, interrupt_first_call)
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, Y, epochs=2, lr=0.1)
    n_epochs = 0 if method == "create_training" else 2
    assert net.history.epochs == n_epochs
    if n_epochs:
        assert net.history.stop_reason == "interrupt"
        expected.fit(X, Y, epochs=2, lr=0.1)
        assert net.params.tolist() == expected.params.tolist()
    net.fit(X, Y, epochs=3, lr=0.1)
    expected.fit(X, Y, epochs=3, lr=0.1)
    assert net.params.tolist() == expected.params.tolist()
    assert net.history.epochs == n_epochs + 3


def array_layouts(array):
    """Return arrays with the same numbers, in layouts and types that mostly need a conversion, by name."""
    doubled = np.repeat(array, 2, axis=1)
    misaligned = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    misaligned[...] = array
    other_dtype = {8: np.float32, 4: np.float64}[array.dtype.itemsize]
    return {
        "Fortran order": np.asfortranarray(array),
        "every second column": doubled[:, ::2],
        "reversed": array[::-1].copy()[::-1],
        "swapped bytes": array.astype(array.dtype.newbyteorder()),
        "misaligned": misaligned,
        "converted dtype": array.astype(other_dtype).astype(array.dtype),
        "rounded": array.round().astype(np.int64).astype(array.dtype),
        "read-only": np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape),
        "list": array.tolist(),
        "subclass": array.view(np.ma.MaskedArray).data.view(np.recarray).view(np.ndarray),
    }


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_array_layout_does_not_change_bits(dtype):
    net = NeuralNetwork([3, 5, 2], activation="tanh", loss="mse", dtype=dtype, seed=7)
    A, B = X.astype(dtype), Y.astype(dtype)
    for (name, inputs), targets in zip(array_layouts(A).items(), array_layouts(B).values(), strict=True):
        plain_inputs, plain_targets = np.array(inputs, dtype), np.array(targets, dtype)
        assert np.array_equal(net.predict(inputs), net.predict(plain_inputs)), name
        assert net.evaluate_loss(inputs, targets) == net.evaluate_loss(plain_inputs, plain_targets), name
        for (dW, db), (dV, dc) in zip(
            net.gradients(inputs, targets), net.gradients(plain_inputs, plain_targets), strict=True
        ):
            assert np.array_equal(dW, dV), name
            assert np.array_equal(db, dc), name
        net_of_layout, net_of_plain = net.copy(), net.copy()
        net_of_layout.fit(inputs, targets, epochs=2, lr=0.1)
        net_of_plain.fit(plain_inputs, plain_targets, epochs=2, lr=0.1)
        net_of_layout.train_step(inputs, targets)
        net_of_plain.train_step(plain_inputs, plain_targets)
        assert checkpoint_document(net_of_layout) == checkpoint_document(net_of_plain), name


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_predict_writes_only_into_suitable_out(dtype):
    net = NeuralNetwork([2, 5, 2], dtype=dtype, seed=7)
    A = X[:, :2].astype(dtype).copy()
    expected = net.predict(A)
    for name, out in array_layouts(np.zeros((12, 2), dtype)).items():
        if name not in ("converted dtype", "rounded", "subclass"):
            with pytest.raises((TypeError, ValueError), match="out"):
                net.predict(A, out=out)
        else:
            assert net.predict(A, out=out) is out
            assert np.array_equal(out, expected), name
    inputs_and_outputs = A.copy()
    assert np.array_equal(net.predict(inputs_and_outputs, out=inputs_and_outputs), expected)  # out may be X itself
    buffer = np.zeros((24, 2), dtype)
    buffer[:12] = A
    net.predict(buffer[:12], out=buffer[6:18])  # out may overlap X
    assert np.array_equal(buffer[6:18], expected)
    for unsuitable in (
        np.zeros((11, 2), dtype),
        np.zeros((12, 3), dtype),
        np.zeros((0, 2), dtype),
        np.zeros(24, dtype),
    ):
        with pytest.raises((TypeError, ValueError), match="out"):
            net.predict(A, out=unsuitable)


def test_repeated_fit_checks_options():
    net = build_network()
    for _ in range(3):
        net.fit(X, Y, epochs=1, lr=1.0, batch_size=12)
    for options in ({"epochs": True}, {"epochs": 1.0}, {"lr": True}, {"batch_size": 12.0}, {"shuffle": 1}):
        with pytest.raises(TypeError):
            net.fit(X, Y, **{"epochs": 1, "lr": 1.0, "batch_size": 12, **options})


def test_reset_optimizer_starts_optimizer_anew_in_each_fit():
    net = build_network()
    for _ in range(3):
        net.fit(X, Y, epochs=2, optimizer="adam", reset_optimizer=True)
        assert net.state.epoch == net.state.steps == 2
        assert net.history.epochs == 2


def test_repeated_fit_calls_callback():
    net, calls = build_network(), []
    for _ in range(3):
        net.fit(X, Y, epochs=2, lr=0.001, callback=calls.append)
    assert [call.epoch for call in calls] == [1, 2, 3, 4, 5, 6]
    assert all(call.network is net for call in calls)


def test_repeated_fit_obeys_stopping_rules():
    net = build_network()
    for _ in range(3):
        assert net.fit(X, Y, epochs=10, lr=0.001, target_loss=1e9).epochs == 1
        assert net.fit(X, Y, epochs=10, lr=0.001).epochs == 10


def test_repeated_fit_rejects_invalid_data():
    net = build_network()
    invalid_inputs, invalid_targets = X.copy(), Y.copy()
    invalid_inputs[2, 1], invalid_targets[3, 1] = np.nan, np.inf
    for _ in range(2):
        net.fit(X, Y, epochs=1, lr=0.001)
        before = net.to_json(checkpoint=True)
        with pytest.raises(ValueError, match="X must be finite in float64, got nan in row 2, column 1"):
            net.fit(invalid_inputs, Y, epochs=1, lr=0.001)
        net.fit(X, Y, epochs=1, lr=0.001)
        with pytest.raises(ValueError, match="y must be finite in float64, got inf in row 3, column 1"):
            net.fit(X, invalid_targets, epochs=1, lr=0.001)
        with pytest.raises(ValueError, match="y must have shape"):
            net.fit(X, Y[:3], epochs=1, lr=0.001)
        assert net.to_json(checkpoint=True) != before


def test_repeated_fit_warns_each_time():
    net = build_network(activation="identity")
    for _ in range(3):
        with pytest.warns(nnc.UnscaledInputWarning, match="X reaches up to 1000") as caught:
            net.fit(np.full((4, 3), 1000.0), Y[:4], epochs=1, lr=1e-9)
        assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs POSIX signals")
# The signal handler may also raise inside a callback of the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_signal_exception_leaves_network_consistent():
    """A signal handler may raise between any two bytecodes."""

    class AlarmError(Exception):
        pass

    def raise_alarm(number, frame):
        raise AlarmError

    net = build_network()
    previous_handler, interrupt_handler = signal.signal(signal.SIGALRM, raise_alarm), signal.getsignal(signal.SIGINT)
    n_alarms = 0
    try:
        for number in range(400):
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-6 * (1 + number % 97))
                for _ in range(20):
                    net.fit(X, Y, epochs=1, lr=0.001)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except AlarmError:
                n_alarms += 1
                assert np.isfinite(net.params).all()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous_handler)
    assert n_alarms
    # Each fit restores the handler of SIGINT, also if an alarm ends the fit.
    assert signal.getsignal(signal.SIGINT) is interrupt_handler
    other = net.copy()
    for _ in range(3):
        assert net.fit(X, Y, epochs=1).loss.tolist() == other.fit(X, Y, epochs=1).loss.tolist()
    assert np.array_equal(net.params, other.params)


def copy_by_pickle(net):
    return pickle.loads(pickle.dumps(net))


@pytest.mark.parametrize("make_copy", [NeuralNetwork.copy, copy.deepcopy, copy.copy, copy_by_pickle])
def test_copies_train_independently(make_copy):
    net = build_network()
    for _ in range(3):
        net.fit(X, Y, epochs=1, lr=0.001)
    other = make_copy(net)
    before = net.params
    for _ in range(2):
        other.fit(X, Y, epochs=1, lr=0.001)
    assert np.array_equal(net.params, before)
    for _ in range(2):
        net.fit(X, Y, epochs=1, lr=0.001)
    assert checkpoint_document(net) == checkpoint_document(other)


def test_concurrent_fits_of_same_network_are_rejected():
    net = build_network()
    messages, completed = [], []

    def train():
        for _ in range(300):
            try:
                completed.append(net.fit(X, Y, epochs=1, lr=0.001).epochs)
            except RuntimeError as error:
                messages.append(str(error))

    net.fit(X, Y, epochs=1, lr=0.001)
    threads = [threading.Thread(target=train) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all("is already being trained" in message for message in messages)
    assert len(completed) + len(messages) == 1200
    assert np.isfinite(net.params).all()
    net.fit(X, Y, epochs=1, lr=0.001)


def test_fit_releases_arrays_of_caller():
    net = build_network()
    x, y = X.copy(), Y.copy()
    for _ in range(3):
        history = net.fit(x, y, epochs=1, lr=0.1)
    references = weakref.ref(x), weakref.ref(y)
    del x, y
    assert [reference() for reference in references] == [None, None]
    expected = history.loss.copy(), history.lr.copy()
    net.fit(X, Y, epochs=1, lr=0.1)
    assert np.array_equal(history.loss, expected[0])
    assert np.array_equal(history.lr, expected[1])
    network_reference = weakref.ref(net)
    gc.disable()
    try:
        del net
        assert network_reference() is None
    finally:
        gc.enable()


def test_repeated_short_fits_do_not_increase_memory():
    net = NeuralNetwork([3, 2, 1], seed=0)
    x, y = X[:4].copy(), Y[:4, :1].copy()

    def fits(count):
        for _ in range(count):
            net.fit(x, y, epochs=1, lr=0.001)

    fits(2000)  # first reach the maximal length of the history, so that later fits need no memory for it
    tracemalloc.start()
    fits(1000)
    before = tracemalloc.get_traced_memory()[0]
    fits(1000)
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert after < before + 7_000
