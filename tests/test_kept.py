"""A fit with the arguments of the one before is the run of that one, begun once more: to the bit what a fit that
prepares everything anew does, whatever has happened in between."""

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

rng = np.random.default_rng(3)
X, Y = rng.uniform(-1, 1, (12, 3)), rng.uniform(0, 1, (12, 2))
LABELS = rng.integers(0, 2, 12)
OPTIONS = {
    "plain": {},
    "several epochs": {"epochs": 3},
    "mini-batches": {"batch_size": 5},
    "in order": {"batch_size": 5, "shuffle": False},
    "penalties": {"l1": 1e-3, "l2": 1e-3, "regularize_bias": True},
    "dropout": {"dropout": 0.3},
    "dropout in mini-batches": {"dropout": 0.3, "batch_size": 5},
    "clipped": {"clip_norm": 0.01, "max_norm": 0.5},
    "one thread": {"n_threads": 1},
    "another rate": {"lr": 0.03},
}


def network(loss="mse", **settings):
    return NeuralNetwork([3, 5, 2], **{"activation": "tanh", "loss": loss, "seed": 7, **settings})


def anew(net, *data, **options):
    """A fit that nothing has been kept for."""
    net._kept = None
    return net.fit(*data, **options)


def everything(net):
    """All that a checkpoint has of it, but how long it took."""
    document = net._document(checkpoint=True)
    if document["training"] is not None:
        del document["training"]["history"]["seconds"]
    return document


def refused(error, net, *data, **options):
    with pytest.raises(error):
        net.fit(*data, **options)


def same(one, other):
    return everything(one) == everything(other)


def pair(**settings):
    """Two equal networks that have been fitted twice, one of them with a run that is kept."""
    net = network(**settings)
    return net, net.copy()


# ---------------------------------------------------------------------------------------------- it is the same


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rprop", nnc.SGD(momentum=0.9)])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_kept_run_is_a_run(options, optimizer, dtype):
    net, other = pair(dtype=dtype)
    x, y = X.astype(dtype), Y.astype(dtype)
    options = {"epochs": 1, **options}
    for one in (net, other):
        one.fit(x, y, optimizer=optimizer, **options)
    net.fit(x, y, **options)
    anew(other, x, y, **options)
    kept = net._kept
    assert kept is not None
    for _ in range(5):
        history, expected = net.fit(x, y, **options), anew(other, x, y, **options)
        assert net._kept is kept
        assert np.array_equal(history.loss, expected.loss)
        assert np.array_equal(history.lr, expected.lr)
        assert (history.epochs, history.stop_reason) == (expected.epochs, expected.stop_reason)
        assert len(history.epoch_seconds) == history.epochs
        assert same(net, other)


@pytest.mark.parametrize("loss", ["mse", "cross_entropy", "bce", "hinge"])
@pytest.mark.parametrize("kind", [np.int64, np.int32, np.float64, str, bool, list])
def test_every_kind_of_data(loss, kind):
    net, other = pair(loss=loss)
    y = Y
    if loss != "mse":
        y = LABELS[:, None] == [0, 1] if loss == "bce" else LABELS
        y = 2.0 * (LABELS[:, None] == [0, 1]) - 1 if loss == "hinge" else y
    y = y.tolist() if kind is list else y if loss in ("mse", "hinge") else y.astype(kind)
    if kind is str and loss == "bce":
        y = LABELS[:, None] == [0, 1]
    for _ in range(4):
        assert net.fit(X, y, epochs=2, lr=0.001).loss.tolist() == anew(other, X, y, epochs=2, lr=0.001).loss.tolist()
        assert same(net, other)


CHANGES = {
    "weights": lambda net: net.weights[0].__setitem__(..., 0.25),
    "one weight": lambda net: net.weights[1].__setitem__((1, 1), 0.5),
    "params": lambda net: setattr(net, "params", 0.5 * net.params),
    "biases": lambda net: setattr(net, "biases", [np.ones(5), np.zeros(2)]),
    "a step": lambda net: net.train_step(X, Y),
    "a step of another optimizer": lambda net: net.train_step(X, Y, 0.01, "adam"),
    "a fit of another optimizer": lambda net: net.fit(X, Y, epochs=2, optimizer="adam"),
    "a schedule": lambda net: net.fit(X, Y, epochs=2, lr=nnc.ExponentialLR(0.1, 0.9)),
    "batches": lambda net: net.fit_batches([(X, Y), (X, Y)]),
    "other rows": lambda net: net.fit(X[:5], Y[:5], epochs=1),
    "other weights of rows": lambda net: net.fit(X, Y, epochs=1, sample_weight=np.arange(12.0)),
    "a patient fit": lambda net: net.fit(X, Y, epochs=4, validation=(X, Y), patience=2, metrics=["r2"]),
    "lbfgs and back": lambda net: [net.fit(X, Y, epochs=2, optimizer=name) for name in ("lbfgs", "sgd")],
    "another type": lambda net: net.fit(X.astype("f"), Y.tolist(), epochs=1),
    "a refused fit": lambda net: refused(ValueError, net, X, Y * np.nan, epochs=1),
    "a refused option": lambda net: refused(ValueError, net, X, Y, epochs=1, l1=-1),
    "an unknown option": lambda net: refused(TypeError, net, X, Y, epochs=1, optimiser="sgd"),
    "predictions": lambda net: (net.predict(X), net.loss(X, Y), net.gradients(X, Y)),
}


@pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_whatever_comes_between(change, optimizer):
    net, other = pair()
    for one in (net, other):
        one.fit(X, Y, epochs=1, optimizer=optimizer)
    for _ in range(3):
        for _ in range(2):
            net.fit(X, Y, epochs=1)
            anew(other, X, Y, epochs=1)
        for one in (net, other):
            change(one)
    net.fit(X, Y, epochs=1)
    anew(other, X, Y, epochs=1)
    assert same(net, other)


def test_values_of_another_kind_are_checked():
    net = network()
    for _ in range(3):
        net.fit(X, Y, epochs=1, lr=1.0, batch_size=12)
    for wrong in ({"epochs": True}, {"epochs": 1.0}, {"lr": True}, {"batch_size": 12.0}, {"shuffle": 1}):
        with pytest.raises(TypeError):
            net.fit(X, Y, **{"epochs": 1, "lr": 1.0, "batch_size": 12, **wrong})


def test_what_may_change_is_not_kept():
    net, other = pair()
    shares, wanted = [0.1], ["r2"]
    for share in (0.1, 0.5):
        shares[0] = share
        for _ in range(2):
            net.fit(X, Y, epochs=1, lr=0.001, dropout=shares)
            anew(other, X, Y, epochs=1, lr=0.001, dropout=share)
        assert same(net, other)
    assert "mae" not in net.fit(X, Y, epochs=1, lr=0.001, metrics=wanted)
    wanted.append("mae")
    assert "mae" in net.fit(X, Y, epochs=1, lr=0.001, metrics=wanted)


def test_a_named_optimizer_begins_anew_each_time():
    net = network()
    for _ in range(3):
        net.fit(X, Y, epochs=2, optimizer="adam")
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


# ---------------------------------------------------------------------------------------------- what is raised


def test_bad_data_is_refused_as_ever():
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


def test_a_weight_that_is_not_finite_is_found():
    net = network()
    for _ in range(3):
        net.fit(X, Y, epochs=1, lr=0.001)
    net.weights[0][1, 1] = np.nan
    with pytest.raises(ValueError, match="the weights of the network must be finite"):
        net.fit(X, Y, epochs=1, lr=0.001)
    net.weights[0][1, 1] = 0.5
    assert net.fit(X, Y, epochs=1, lr=0.001).epochs == 1


@pytest.mark.parametrize("rows", [12, 4])
@pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")
def test_divergence_leaves_nothing_behind(rows):
    net, other = pair()
    large = 1e200 * np.ones((rows, 2))
    x, y = X[:rows], Y[:rows]
    for fit in (NeuralNetwork.fit, anew):
        one = net if fit is NeuralNetwork.fit else other
        for _ in range(3):
            fit(one, x, y, epochs=1, lr=0.1)
        with pytest.raises(nnc.DivergedError) as error:
            fit(one, x, large, epochs=1, lr=0.1)
        assert error.value.history.epochs == 0
        assert one.history.stop_reason == "diverged"
        for _ in range(3):
            assert fit(one, x, y, epochs=1, lr=0.1).epochs == 1
    assert same(net, other)


def test_warnings_come_each_time():
    net = network(activation="identity")
    for _ in range(3):
        with pytest.warns(nnc.UnscaledInputWarning, match="X reaches up to 1000") as caught:
            net.fit(np.full((4, 3), 1000.0), Y[:4], epochs=1, lr=1e-9)
        assert [warning.filename for warning in caught] == [__file__]


def test_a_warning_that_is_an_error_keeps_nothing():
    net, other = pair(activation="identity")
    x = np.full((4, 3), 1000.0)
    for _ in range(3):
        with pytest.raises(nnc.UnscaledInputWarning):
            net.fit(x, Y[:4], epochs=1, lr=1e-9)
        with pytest.warns(nnc.UnscaledInputWarning):
            anew(other, x, Y[:4], epochs=1, lr=1e-9)
    assert same(net, other)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs POSIX signals")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it rang in others' garbage callback
def test_an_exception_out_of_the_blue():
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
        assert net.fit(X, Y, epochs=1, lr=0.001).loss.tolist() == anew(other, X, Y, epochs=1).loss.tolist()
    assert np.array_equal(net.params, other.params)


# ---------------------------------------------------------------------------------------------- whose it is


def pickled(net):
    return pickle.loads(pickle.dumps(net))


@pytest.mark.parametrize("copied", [NeuralNetwork.copy, copy.deepcopy, copy.copy, pickled])
def test_copies_have_none(copied):
    net = network()
    for _ in range(3):
        net.fit(X, Y, epochs=1, lr=0.001)
    other = copied(net)
    assert other._kept is None
    before = net.params
    for _ in range(2):
        other.fit(X, Y, epochs=1, lr=0.001)
    assert np.array_equal(net.params, before)
    for _ in range(2):
        net.fit(X, Y, epochs=1, lr=0.001)
    assert same(net, other)


def test_threads_do_not_share_it():
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
    assert all("is being trained" in failure for failure in failures)
    assert len(done) + len(failures) == 1200
    assert np.isfinite(net.params).all()
    net.fit(X, Y, epochs=1, lr=0.001)


def test_nothing_of_the_users_is_held():
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


@pytest.mark.parametrize("optimizer", ["lbfgs", "levenberg_marquardt"])
@pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")
def test_what_is_looked_at_is_not_kept(optimizer):
    net, other = pair()
    for one in (net, other):
        one.fit(X, Y, epochs=3, optimizer=optimizer)
    for _ in range(3):
        assert net.fit(X, Y, epochs=3).loss.tolist() == anew(other, X, Y, epochs=3).loss.tolist()
        assert net._kept is None
    assert same(net, other)


def test_large_runs_are_not_kept():
    net = network()
    net.fit(X, Y, epochs=5000, lr=0.001)
    assert net._kept is None
    net.fit(X, Y, max_seconds=0.01, lr=0.001)
    assert net._kept is None
