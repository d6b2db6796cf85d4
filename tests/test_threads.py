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

import nnc
from nnc import DivergedError, NeuralNetwork, fit_many
from nnc._model.data import Data
from nnc._team import ActiveCount, Interrupt, LockGroup, SnapshotLock, Team, TrainingLock
from nnc._training import loop
from nnc._training.threads import ThreadTuner
from nnc._utils import processors

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
        assert team.grow(1) == 1  # of those that there are


def test_slices_use_the_chosen_threads_where_more_have_started(monkeypatch, set_limit):
    """Training and validation use two threads when the tuner falls from four to two."""
    sizes = []

    class Watched(Team):
        def run(self, work, amount=0, size=None, abort=None):
            sizes.append(size)
            super().run(work, amount, size, abort)

    class Falling(ThreadTuner):
        def next(self, rows_left):
            self.best = 4 if not sizes else 2
            return self.best, 0.0

    set_limit("nnc._training.loop.MIN_THREAD_MULTIPLY_ADDS", 1)
    # The number of threads that a single slice uses is visible in no result.
    monkeypatch.setattr(loop, "Team", Watched)
    # No setting raises the number above the processors of the machine, which may be two.
    monkeypatch.setattr(processors, "get_num_threads", lambda: 4)
    # The measured choice depends on the load of the machine; it must fall at a certain moment here.
    monkeypatch.setattr(loop, "borrow_tuner", lambda work, sizes, limit: Falling(sizes, limit))
    network().fit(X, Y, epochs=3, batch_size=100, validation=(X, Y), lr=0.1)
    assert sizes[0] == 4
    assert set(sizes[1:]) == {2}


@pytest.mark.parametrize("settles", [False, True])
def test_a_team_is_woken_however_long_it_has_slept(settles):
    """Between two pieces of work threads spin, sleep, or are just about to; with Python in the work and without."""
    net = network()
    data = Data(X, Y, None, None)
    evaluations = {threads: net.model.evaluation(data, None, threads) for threads in (1, 2, 3)}
    whole = net.evaluate_loss(X, Y)
    pauses = np.random.default_rng(0).choice([0, 2e-5, 2e-4, 3e-4, 4e-4, 2e-3], 200)
    with Team(3, (lambda *_: None) if settles else None) as team:
        team.grow(3)
        for k, pause in enumerate(pauses):
            end = time.perf_counter() + pause
            while time.perf_counter() < end:
                pass
            size = 1 + k % 3
            evaluation, seen = evaluations[size], []
            evaluation.restart()
            team.run(evaluation.task, 100, size)
            assert evaluation.done
            assert evaluation.loss == whole
            if k % 4 == 0:
                team.run(lambda thread, _, seen=seen: seen.append(thread), 0, size)
                assert sorted(seen) == list(range(size))


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
def test_a_thread_that_fails_ends_the_fit(monkeypatch, make_fail, batch_size):
    """The other threads wait for it at the barrier, without the GIL."""
    before = threading.active_count()
    net, plain = network(), network()
    for each in (net, plain):
        each.fit(X, Y, epochs=3, lr=0.1, batch_size=batch_size, optimizer="adam", n_threads=2)
    make_fail("nnc._training.loop.avoid_caller_processor", MemoryError("no more"))
    with pytest.raises(MemoryError, match="no more"):
        net.fit(X, Y, epochs=1000, n_threads=3, batch_size=batch_size, validation=(X, Y))
    monkeypatch.undo()
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


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs an alarm")
def test_what_a_handler_raises_is_never_lost_and_everything_is_left():
    """Whatever it raises: a ValueError is what Python raises, too, where a thread must not set a handler."""
    interrupt, turn, still, crowd = Interrupt(), TrainingLock("taken"), SnapshotLock(), ActiveCount()
    every = LockGroup([turn, still])
    rung = caught = 0
    expected = False

    def ring(number, frame):
        nonlocal rung
        if expected:
            rung += 1
            raise ValueError("the alarm")

    before, ctrl_c = signal.signal(signal.SIGALRM, ring), signal.getsignal(signal.SIGINT)
    try:
        while rung < 200:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.01)
                expected = True
                while True:
                    with interrupt, every, crowd:
                        pass
            except ValueError:
                expected = False
                caught += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert caught == rung
    assert signal.getsignal(signal.SIGINT) is ctrl_c
    assert len(crowd) == 0
    with turn:
        pass
    thread = threading.Thread(target=still.__enter__)  # which would wait for good
    thread.start()
    thread.join(60)
    assert not thread.is_alive()


SAVES = """
import signal, sys
import numpy as np
import nnc
from nnc import NeuralNetwork

rng = np.random.default_rng(0)
X, Y = rng.uniform(-1, 1, (400, 8)), rng.uniform(0, 1, (400, 2))
net = NeuralNetwork([8, 60, 2], loss="mse", seed=0)
options = {"n_threads": 2, "optimizer": "adam"} if sys.argv[1] == "adam" else {"optimizer": sys.argv[1]}
net.fit(X, Y, epochs=2, **options)
texts = [net.to_json(checkpoint=True)]
def save(number, frame):
    texts.append(net.to_json(checkpoint=True))
    assert net.history.epochs == net.state.epoch
    signal.setitimer(signal.ITIMER_REAL, 0.01)
signal.signal(signal.SIGALRM, save)
signal.setitimer(signal.ITIMER_REAL, 0.01)
while len(texts) < 5:
    net.fit(X, Y, max_seconds=0.1, **options)
signal.setitimer(signal.ITIMER_REAL, 0)
for text in texts:
    nnc.from_json(text)  # compares the self-test
print("over")
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs an alarm")
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_a_signal_handler_may_save(optimizer):
    """It runs in the thread that trains, and would wait for that one to pause."""
    child = subprocess.run(
        [sys.executable, "-P", "-c", SAVES, optimizer], capture_output=True, text=True, timeout=60, check=False
    )
    assert (child.stdout, child.stderr, child.returncode) == ("over\n", "", 0)


# ------------------------------------------------------------------------------- one network, several threads


def test_the_one_that_is_still_comes_in_again():
    still, seen = SnapshotLock(), []

    def other():
        with still:
            seen.append("other")

    thread = threading.Thread(target=other)
    with still:
        with still, still:
            thread.start()
        while not still.awaited:
            time.sleep(0.001)
        assert not seen
    thread.join()
    assert seen == ["other"]


def test_a_turn_is_for_one():
    turn = TrainingLock("taken")
    with turn, pytest.raises(RuntimeError, match="taken"), turn:
        pass
    with turn:
        pass


def test_all_turns_or_none():
    first, second = TrainingLock("the first"), TrainingLock("the second")
    with second, pytest.raises(RuntimeError, match="the second"), LockGroup([first, second]):
        pass
    with LockGroup(turn for turn in (first, second)):
        for turn in (first, second):
            with pytest.raises(RuntimeError), turn:
                pass
    with first, second:
        pass


@pytest.mark.parametrize("train", ["fit", "fit_batches", "train_step"])
def test_a_second_training_is_refused(train):
    net = network()
    calls = {
        "fit": lambda: net.fit(X, Y, epochs=1, lr=0.001),
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

    history = net.fit(X, Y, epochs=3, lr=0.001, callback=nested)
    assert history.epochs == 3
    assert errors
    assert net.history.epochs == 3
    calls[train]()  # now it may


@pytest.mark.parametrize("train", ["fit", "fit_batches", "fit_many"])
def test_nobody_trains_where_a_fit_has_asked_what_to_go_on_from(train):
    """Another one would go on from it as well, and its epochs and steps be forgotten."""
    net, refused = network(), []
    net.fit(X, Y, epochs=2, optimizer="adam")

    def attempt():
        try:
            net.fit(X, Y, epochs=1)
        except RuntimeError as error:
            refused.append(str(error))

    def rate(epoch):
        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()
        return 0.01

    if train == "fit":
        net.fit(X, Y, epochs=3, lr=rate)
    elif train == "fit_batches":
        net.fit_batches([(X, Y)], epochs=3, lr=rate)
    else:
        fit_many([net, network(), network()], X, Y, epochs=3, lr=rate)
    assert len(refused) >= 3
    assert net.history.epochs == net.state.steps == 5


def test_a_run_is_going_on_or_over_to_who_asks():
    """Also while its callbacks are closed, and of the weights that it ends with."""
    net = network()

    class Closed:
        epochs = None

        def __call__(self, record):
            pass

        def close(self):
            self.epochs, self.params = net.history.epochs, net.params

    closed = Closed()
    best = []
    net.fit(
        X,
        Y,
        epochs=4,
        lr=0.001,
        callback=[closed, lambda record: best.append((record.loss, net.params))],
        restore_best=True,
    )
    assert closed.epochs == 4
    assert closed.params.tobytes() == net.params.tobytes()

    def fails(record):
        raise LookupError

    with pytest.raises(LookupError):
        net.fit(X, Y, epochs=4, lr=0.001, callback=[fails, closed])
    assert closed.epochs == 5
    assert net.history.stop_reason == "error"


def test_what_closing_raises_leaves_the_history():
    def fails():
        raise LookupError("closing")

    def callback(record):
        pass

    callback.close = fails
    net = network()
    with pytest.raises(LookupError, match="closing"):
        net.fit(X, Y, epochs=4, lr=0.001, callback=callback)
    assert (net.history.epochs, net.history.stop_reason, net.state.epoch) == (4, "epochs", 4)


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
@pytest.mark.filterwarnings("ignore::nnc._training.advice.LearningRateWarning")
def test_a_history_that_others_read_is_whole(optimizer):
    net, problems, counts = network(), [], []
    net.layers[0].trainable = optimizer == "lbfgs"  # steps that a frozen layer has missed are counted once
    over = threading.Event()

    def read():
        try:
            while not over.is_set():
                history = net.history
                if history is not None:
                    counts.append(history.epochs + history.untracked_epochs)
                    assert len(history.epoch_seconds) == history.epochs
                    assert history.untracked_epochs == 0
        except BaseException as error:
            problems.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for _ in range(10):
        net.fit(X, Y, epochs=5, optimizer=optimizer if net.state is None else None, batch_size=None, n_threads=None)
        if optimizer == "adam":
            net.fit(X, Y, epochs=5, batch_size=50)
            assert net.state.missed == (net.state.steps, 0)
    over.set()
    for reader in readers:
        reader.join()
    assert not problems, problems
    assert counts


@pytest.mark.filterwarnings(
    "ignore::nnc._training.advice.LearningRateWarning"
)  # how far fits come depends on the clock
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
                assert np.isfinite(net.evaluate_loss(X, Y))
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
        again = nnc.from_json(text)  # compares the self-test
        assert again.state.steps == json.loads(text)["training"]["steps"]


def test_two_networks_train_side_by_side():
    nets = [network(seed=seed) for seed in range(3)]
    plain = [network(seed=seed) for seed in range(3)]
    options = {"epochs": 200, "lr": 0.001, "n_threads": 2}
    threads = [threading.Thread(target=net.fit, args=(X, Y), kwargs=options) for net in nets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for net, same in zip(nets, plain, strict=True):
        same.fit(X, Y, epochs=200, lr=0.001)
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
        ("sgd", "loop.TrainingLoop.advance"),
        ("lbfgs", "second_order.SecondOrderLoop.read_pairs"),
        ("lbfgs", "second_order.SecondOrderLoop.objective"),
        ("levenberg_marquardt", "second_order.SecondOrderLoop.compute_loss"),
    ],
)
def test_memory_error_of_an_optimizer_is_raised(monkeypatch, make_fail, optimizer, where):
    """The error is not replaced by another one, and the next fit works."""
    net = network()
    make_fail(f"nnc._training.{where}", MemoryError("none"))
    with pytest.raises(MemoryError, match="none"):
        net.fit(X, Y, epochs=5, optimizer=optimizer)
    monkeypatch.undo()
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
            # Memory cannot be made to end at this moment, and the run is reachable from no public object.
            patch.setattr(loop.TrainingLoop, "history", history)
            with pytest.raises(MemoryError):
                net.fit(X, Y, epochs=5, lr=0.001)
        assert runs
        assert runs[0]() is None
    finally:
        gc.enable()
    assert net.fit(X, Y, epochs=5, lr=0.001).epochs == 5
