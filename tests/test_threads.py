"""Threads: whatever is raised, wherever and whenever, nobody waits for good, nobody is left, and it is what comes out;
and networks that several threads use."""

import gc
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import weakref

import numpy as np
import pytest

from nnc import DivergedError, NeuralNetwork
from nnc._team import Team, Turn
from nnc.training import fit

rng = np.random.default_rng(0)
X, Y = rng.uniform(-1, 1, (400, 8)), rng.uniform(0, 1, (400, 2))


def network(**arguments):
    return NeuralNetwork([8, 60, 2], **{"loss": "mse", "seed": 0, **arguments})


# ------------------------------------------------------------------------------------------------- the team


@pytest.mark.parametrize("n_threads", [1, 2, 3, 5])
def test_a_team_works_together(n_threads):
    seen = []
    with Team(n_threads) as team:
        assert team.size == 1
        assert team.grow(n_threads + 1) == team.size == n_threads
        for amount in range(50):
            seen.clear()
            team.run(lambda thread, amount: seen.append((thread, amount)), amount)
            assert sorted(seen) == [(thread, amount) for thread in range(n_threads)]
        seen.clear()
        team.run(lambda thread, _: seen.append(thread), 0, 1)
        assert seen == [0]


@pytest.mark.parametrize("who", [0, 1, 2])
def test_what_one_raises_comes_out_when_all_are_done(who):
    done, aborted = [], []

    def work(thread, _):
        if thread == who:
            raise ZeroDivisionError(thread)
        time.sleep(0.01)
        done.append(thread)

    with Team(3) as team:
        with pytest.raises(ZeroDivisionError, match=str(who)):
            team.run(work, abort=lambda: aborted.append(1))
        assert sorted(done) == sorted({0, 1, 2} - {who})
        assert aborted == [1]
        team.run(lambda thread, _: done.append(thread))  # and it goes on
        assert len(done) == 5


def test_the_caller_goes_first_where_several_raise():
    def work(thread, _):
        raise [KeyError, ValueError][thread]

    with Team(2) as team, pytest.raises(KeyError):
        team.run(work)


@pytest.mark.parametrize("batch_size", [None, 20])
def test_a_thread_that_fails_ends_the_fit(monkeypatch, batch_size):
    """The others wait for it at the barrier, without the GIL."""

    def fails(home, caller, size):
        raise MemoryError("no more")

    before = threading.active_count()
    net, plain = network(), network()
    for each in (net, plain):
        each.fit(X, Y, epochs=3, lr=0.1, batch_size=batch_size, optimizer="adam", n_threads=2)
    with monkeypatch.context() as patch:
        patch.setattr(fit, "settle", fails)
        with pytest.raises(MemoryError, match="no more"):
            net.fit(X, Y, epochs=1000, n_threads=3, batch_size=batch_size, validation=(X, Y))
    assert net.history.stop_reason == "error"
    assert threading.active_count() == before
    assert net.params.tobytes() == plain.params.tobytes()  # no step was taken without it
    for each in (net, plain):
        each.fit(X, Y, epochs=3, batch_size=batch_size, shuffle=False)
    assert net.params.tobytes() == plain.params.tobytes()


SIGNALS = """
import os, signal, sys, threading, traceback
import numpy as np
from nnc import NeuralNetwork

what, n_threads, milliseconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
def leave(number, frame):
    if what == "exit":
        sys.exit(7)
    raise LookupError("the alarm")
signal.signal(signal.SIGALRM, leave)
rng = np.random.default_rng(0)
X, Y = rng.uniform(-1, 1, (400, 8)), rng.uniform(0, 1, (400, 2))
net = NeuralNetwork([8, 60, 2], loss="mse", seed=0)
net.fit(X, Y, epochs=2, n_threads=n_threads)
signal.setitimer(signal.ITIMER_REAL, milliseconds / 1000, milliseconds / 1000 if what == "again" else 0)
try:
    net.fit(X, Y, epochs=10**9, n_threads=n_threads, callback=[None, lambda record: None][what == "callback"])
except LookupError as error:
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert str(error) == "the alarm"
    if "advance" in [frame.name for frame in traceback.extract_tb(error.__traceback__)]:  # else it rang before the run
        assert net.history.stop_reason == "error"
    assert np.isfinite(net.params).all()
    deadline = 100
    while len(os.listdir("/proc/self/task")) > int(sys.argv[4]) and deadline:
        deadline -= 1
        threading.Event().wait(0.01)
    net.fit(X, Y, epochs=3, n_threads=n_threads)
    print("over", deadline > 0)
"""


def after_a_signal(what, n_threads, milliseconds):
    tasks = len(os.listdir("/proc/self/task")) if os.path.exists("/proc/self/task") else 1
    arguments = [what, str(n_threads), str(milliseconds), str(max(tasks, 64))]
    child = subprocess.run(
        [sys.executable, "-P", "-c", SIGNALS, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert not child.stderr, child.stderr
    return child


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs an alarm")
@pytest.mark.parametrize("n_threads", [1, 2, 3])
@pytest.mark.parametrize("what", ["alarm", "callback", "exit"])
def test_exceptions_of_signal_handlers(what, n_threads):
    for milliseconds in (3, 20, 61):
        child = after_a_signal(what, n_threads, milliseconds)
        if what == "exit":
            assert child.returncode == 7
        else:
            assert (child.returncode, child.stdout) == (0, "over True\n")


# ------------------------------------------------------------------------------- one network, several threads


def test_a_turn_is_for_one():
    turn = Turn("taken")
    with turn, pytest.raises(RuntimeError, match="taken"), turn:
        pass
    with turn:
        pass


@pytest.mark.parametrize("train", ["fit", "fit_batches", "train_step"])
def test_a_second_training_is_refused(train):
    net = network()
    calls = {
        "fit": lambda: net.fit(X, Y, epochs=1),
        "fit_batches": lambda: net.fit_batches([(X, Y)]),
        "train_step": lambda: net.train_step(X, Y),
    }
    errors = []

    def nested(record):
        with pytest.raises(RuntimeError, match="the network is being trained"):
            calls[train]()
        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()

    def attempt():
        try:
            calls[train]()
        except RuntimeError as error:
            errors.append(str(error))

    history = net.fit(X, Y, epochs=3, callback=nested)
    assert history.epochs == 3
    assert errors
    assert net.history.epochs == 3
    calls[train]()  # now it may


@pytest.mark.filterwarnings("ignore::nnc.training.advice.LearningRateWarning")  # how far fits come depends on the clock
def test_what_other_threads_save_is_of_one_moment():
    """And what they predict is finite, while the weights change under it."""
    net = network(dtype="float32")
    texts, problems = [], []
    over = threading.Event()

    def save():
        try:
            while not over.is_set():
                texts.append(net.to_json(checkpoint=True))
                texts.append(pickle.loads(pickle.dumps(net)).to_json(checkpoint=True))
                assert np.isfinite(net.predict(X)).all()
                assert np.isfinite(net.loss(X, Y))
        except Exception as error:
            problems.append(error)

    savers = [threading.Thread(target=save) for _ in range(2)]
    net.fit(X, Y, epochs=1, lr=0.1)
    for thread in savers:
        thread.start()
    for options in ({"optimizer": "adam", "lr": 0.001, "n_threads": 2}, {"batch_size": 50}, {"optimizer": "lbfgs"}):
        net.fit(X, Y, max_seconds=0.6, **options)
    over.set()
    for thread in savers:
        thread.join()
    assert not problems
    assert len(texts) > 4
    for text in texts:
        again = NeuralNetwork.from_json(text)  # compares the self-test
        assert again.state.steps == json.loads(text)["training"]["steps"]


def test_two_networks_train_side_by_side():
    nets = [network(seed=seed) for seed in range(3)]
    plain = [network(seed=seed) for seed in range(3)]
    threads = [threading.Thread(target=net.fit, args=(X, Y), kwargs={"epochs": 200, "n_threads": 2}) for net in nets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for net, same in zip(nets, plain, strict=True):
        same.fit(X, Y, epochs=200)
        assert net.params.tobytes() == same.params.tobytes()


# ------------------------------------------------------------------------------ what is the user's, and errors


@pytest.mark.parametrize("batch_size", [None, 16])
@pytest.mark.parametrize("kind", [np.int32, np.int64, np.uint8])
def test_labels_may_change_during_a_fit(kind, batch_size):
    """What indexes is a copy; wild labels would lead the core out of its memory."""
    labels = rng.integers(0, 3, 400).astype(kind)
    held = labels.copy()
    net, plain = (NeuralNetwork([8, 16, 3], loss="cross_entropy", seed=0) for _ in range(2))

    def scribble(record):
        labels[:] = np.iinfo(kind).max
        held[:] = np.iinfo(kind).max

    scribble.every = 1
    wanted = labels.copy()
    options = {"epochs": 20, "batch_size": batch_size}
    net.fit(X, labels, validation=(X, held), callback=scribble, **options)
    plain.fit(X, wanted, validation=(X, wanted), **options)
    assert net.params.tobytes() == plain.params.tobytes()


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("part", ["X", "y", "sample_weight"])
def test_numbers_may_change_during_a_fit(part, n_threads):
    """They are read where they lie: the result is another one, or diverges, and nothing worse."""
    data = {"X": X.copy(), "y": Y.copy(), "sample_weight": np.ones(400)}
    net = network()

    def scribble(record):
        data[part][...] = [1e300, np.nan, -np.inf, 0.5, -1.0][record.epoch % 5]

    scribble.every = 1
    with pytest.raises(DivergedError):
        net.fit(**data, epochs=20, lr=0.1, batch_size=64, callback=scribble, n_threads=n_threads)
    assert np.isfinite(net.params).all()


def test_an_exception_of_a_callback_is_no_interrupt():
    def fails(record):
        raise LookupError("mine")

    for options, reason in (({}, "error"), ({"optimizer": "lbfgs"}, "error")):
        net = network()
        with pytest.raises(LookupError, match="mine"):
            net.fit(X, Y, epochs=10, callback=fails, **options)
        assert net.history.stop_reason == reason
        assert net.history.epochs >= 1

    def interrupts(record):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        net.fit(X, Y, epochs=10, optimizer="sgd", callback=interrupts)
    assert net.history.stop_reason == "interrupt"
    with pytest.raises(DivergedError):
        net.fit(1e6 * X, Y, epochs=1000, lr=1e9)
    assert net.history.stop_reason == "diverged"


@pytest.mark.parametrize(
    ("optimizer", "where"),
    [
        ("sgd", "fit.Fit.advance"),
        ("lbfgs", "second_order.SecondOrderFit.stored_pairs"),
        ("lbfgs", "second_order.SecondOrderFit.objective"),
        ("levenberg_marquardt", "second_order.SecondOrderFit.loss_of"),
    ],
)
def test_a_lack_of_memory_stays_one(monkeypatch, optimizer, where):
    net = network()

    def none(*arguments):
        raise MemoryError("none")

    with monkeypatch.context() as patch:
        patch.setattr(f"nnc.training.{where}", none)
        with pytest.raises(MemoryError, match="none"):
            net.fit(X, Y, epochs=5, optimizer=optimizer)
    assert net.history.stop_reason == "error"
    assert net.fit(X, Y, epochs=5).epochs == 5


def test_nothing_stays_behind_where_memory_is_short_at_the_end(monkeypatch):
    runs = []

    def history(run, reason):
        runs.append(weakref.ref(run))
        raise MemoryError

    net = network()
    gc.disable()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(fit.Fit, "history", history)
            with pytest.raises(MemoryError):
                net.fit(X, Y, epochs=5)
        assert runs
        assert runs[0]() is None
    finally:
        gc.enable()
    assert net.fit(X, Y, epochs=5).epochs == 5
