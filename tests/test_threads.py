"""Tests of thread teams and locks.

Exceptions end a fit without deadlocks and without leaked threads, and several threads may use one network.
"""

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
from nnc._training import first_order, loop
from nnc._training.threads import ThreadTuner
from nnc._utils import processors

pytestmark = pytest.mark.engine

rng = np.random.default_rng(0)
X, Y = rng.uniform(-1, 1, (400, 8)), rng.uniform(0, 1, (400, 2))


def network(**arguments):
    return NeuralNetwork([8, 60, 2], **{"loss": "mse", "seed": 0, **arguments})


# ------------------------------------------------------------------------------------------------- thread team


@pytest.mark.parametrize("n_threads", [1, 2, 3, 5])
def test_team_runs_work_in_each_thread(n_threads):
    calls = []
    with Team(n_threads) as team:
        assert team.size == 1
        assert team.grow(n_threads + 1) == team.size == n_threads
        for amount in range(50):
            calls.clear()
            team.run(lambda thread, amount: calls.append((thread, amount)), amount)
            assert sorted(calls) == [(thread, amount) for thread in range(n_threads)]
        calls.clear()
        team.run(lambda thread, _: calls.append(thread), 0, 1)
        assert calls == [0]
        assert team.grow(1) == 1  # grow(1) ends no thread; it returns the number of threads to use


def test_slices_use_chosen_thread_count_after_more_threads_started(monkeypatch, set_limit):
    """Training and validation use two threads after the tuner has reduced the number from four to two."""
    sizes = []

    class RecordingTeam(Team):
        def run(self, work, amount=0, size=None, abort=None):
            sizes.append(size)
            super().run(work, amount, size, abort)

    class DecreasingTuner(ThreadTuner):
        def next(self, rows_left):
            self.best = 4 if not sizes else 2
            return self.best, 0.0

        def record(self, threads, rows, seconds):
            """Ignore the measured speed, from which the tuner would choose again."""

    set_limit("nnc._training.first_order.MIN_THREAD_MULTIPLY_ADDS", 1)
    # No public result shows the number of threads of a single slice.
    monkeypatch.setattr(loop, "Team", RecordingTeam)
    # Thread counts are limited by the processors of the machine, which may have only two.
    monkeypatch.setattr(processors, "get_num_threads", lambda: 4)
    # The measured choice depends on the load of the machine; here it must decrease after the first slice.
    monkeypatch.setattr(first_order, "borrow_tuner", lambda workload, sizes, limit: DecreasingTuner(sizes, limit))
    network().fit(X, Y, epochs=3, batch_size=100, validation=(X, Y), lr=0.1)
    assert sizes[0] == 4
    assert set(sizes[1:]) == {2}


@pytest.mark.parametrize("has_start_hook", [False, True])
def test_team_wakes_after_pause_of_any_length(has_start_hook):
    """Between two calls, threads spin, sleep or are about to sleep; work is done with and without Python code."""
    net = network()
    data = Data(X, Y, None, None)
    evaluations = {n_threads: net.model.evaluation(data, None, n_threads) for n_threads in (1, 2, 3)}
    expected = net.evaluate_loss(X, Y)
    pauses = np.random.default_rng(0).choice([0, 2e-5, 2e-4, 3e-4, 4e-4, 2e-3], 200)
    with Team(3, (lambda *_: None) if has_start_hook else None) as team:
        team.grow(3)
        for k, pause in enumerate(pauses):
            end = time.perf_counter() + pause
            while time.perf_counter() < end:
                pass
            size = 1 + k % 3
            evaluation, threads = evaluations[size], []
            evaluation.restart()
            team.run(evaluation.task, 100, size)
            assert evaluation.done
            assert evaluation.loss == expected
            if k % 4 == 0:
                team.run(lambda thread, _, threads=threads: threads.append(thread), 0, size)
                assert sorted(threads) == list(range(size))


@pytest.mark.parametrize("failing_thread", [0, 1, 2])
def test_team_raises_exception_after_all_threads_have_finished(failing_thread):
    done, aborted = [], []

    def work(thread, _):
        if thread == failing_thread:
            raise ZeroDivisionError(thread)
        time.sleep(0.01)
        done.append(thread)

    with Team(3) as team:
        with pytest.raises(ZeroDivisionError, match=str(failing_thread)):
            team.run(work, abort=lambda: aborted.append(1))
        assert sorted(done) == sorted({0, 1, 2} - {failing_thread})
        assert aborted == [1]
        team.run(lambda thread, _: done.append(thread))  # the team is still usable
        assert len(done) == 5


def test_exception_of_caller_takes_precedence_over_other_threads():
    def work(thread, _):
        raise [KeyError, ValueError][thread]

    with Team(2) as team, pytest.raises(KeyError):
        team.run(work)


@pytest.mark.parametrize("batch_size", [None, 20])
def test_failing_thread_ends_fit_and_leaves_weights_unchanged(monkeypatch, make_fail, batch_size):
    """Without the failing thread, the other threads would wait at the barrier without the GIL."""
    before = threading.active_count()
    net, plain = network(), network()
    for one in (net, plain):
        one.fit(X, Y, epochs=3, lr=0.1, batch_size=batch_size, optimizer="adam", n_threads=2)
    make_fail("nnc._training.loop.avoid_caller_processor", MemoryError("no more"))
    with pytest.raises(MemoryError, match="no more"):
        net.fit(X, Y, epochs=1000, n_threads=3, batch_size=batch_size, validation=(X, Y))
    monkeypatch.undo()
    assert net.history.stop_reason == "error"
    assert threading.active_count() == before
    assert net.params.tobytes() == plain.params.tobytes()  # the failed fit left the parameters unchanged
    for one in (net, plain):
        one.fit(X, Y, epochs=3, batch_size=batch_size, shuffle=False)
    assert net.params.tobytes() == plain.params.tobytes()


SIGNALS = """
import os, signal, sys, threading, traceback
import numpy as np
from nnc import NeuralNetwork

case, n_threads, milliseconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
def leave(number, frame):
    if case == "exit":
        sys.exit(7)
    raise LookupError("simulated error of the alarm handler")
signal.signal(signal.SIGALRM, leave)
rng = np.random.default_rng(0)
X, Y = rng.uniform(-1, 1, (400, 8)), rng.uniform(0, 1, (400, 2))
net = NeuralNetwork([8, 60, 2], loss="mse", seed=0)
net.fit(X, Y, epochs=2, n_threads=n_threads)
try:
    signal.setitimer(signal.ITIMER_REAL, milliseconds / 1000)
    net.fit(X, Y, epochs=10**9, n_threads=n_threads, callback=[None, lambda record: None][case == "callback"])
except LookupError as error:
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert str(error) == "simulated error of the alarm handler"
    names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    if "advance" in names and "with_selection" not in names:  # raised during training
        assert net.history.stop_reason == "error"
    assert np.isfinite(net.params).all()
    deadline = 100
    while len(os.listdir("/proc/self/task")) > int(sys.argv[4]) and deadline:
        deadline -= 1
        threading.Event().wait(0.01)
    net.fit(X, Y, epochs=3, n_threads=n_threads)
    print("done", deadline > 0)
"""


def run_with_signal(case, n_threads, milliseconds):
    tasks = len(os.listdir("/proc/self/task")) if os.path.exists("/proc/self/task") else 1
    arguments = [case, str(n_threads), str(milliseconds), str(max(tasks, 64))]
    child = subprocess.run(
        [sys.executable, "-P", "-c", SIGNALS, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert not child.stderr, child.stderr
    return child


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs an alarm")
@pytest.mark.sampled(13)
@pytest.mark.parametrize("milliseconds", [3, 20, 61])
@pytest.mark.parametrize("n_threads", [1, 2, 3])
@pytest.mark.parametrize("case", ["alarm", "callback", "exit"])
def test_fit_raises_exception_of_signal_handler(case, n_threads, milliseconds):
    child = run_with_signal(case, n_threads, milliseconds)
    if case == "exit":
        assert child.returncode == 7
    else:
        assert (child.returncode, child.stdout) == (0, "done True\n")


@pytest.mark.serial
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs an alarm")
def test_exception_of_signal_handler_releases_all_locks():
    """The handler raises ValueError, which Python also raises if a thread other than the main thread sets a handler."""
    interrupt, training_lock, snapshot_lock, active = Interrupt(), TrainingLock("taken"), SnapshotLock(), ActiveCount()
    locks = LockGroup([training_lock, snapshot_lock])
    raised = caught = 0
    expected = False

    def raise_error(number, frame):
        nonlocal raised, expected
        if expected:
            expected = False  # a second alarm must not interrupt the handling of this error
            raised += 1
            raise ValueError("simulated error of the alarm handler")

    before, ctrl_c = signal.signal(signal.SIGALRM, raise_error), signal.getsignal(signal.SIGINT)
    try:
        while raised < 200:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.01)
                expected = True
                while True:
                    with interrupt, locks, active:
                        pass
            except ValueError:
                caught += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert caught == raised
    assert signal.getsignal(signal.SIGINT) is ctrl_c
    assert len(active) == 0
    with training_lock:
        pass
    # The thread would wait forever if the lock had not been released.
    thread = threading.Thread(target=snapshot_lock.__enter__)
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
    nnc.from_json(text)  # loading verifies the self-test
print("done")
"""


@pytest.mark.sampled(2)
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs an alarm")
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_signal_handler_may_save_network_during_fit(optimizer):
    """The handler runs in the training thread, so it must not wait for the snapshot lock of its own thread."""
    child = subprocess.run(
        [sys.executable, "-P", "-c", SAVES, optimizer], capture_output=True, text=True, timeout=60, check=False
    )
    assert (child.stdout, child.stderr, child.returncode) == ("done\n", "", 0)


# ---------------------------------------------------------------------------- locks, and one network in several threads


def test_snapshot_lock_is_reentrant_and_blocks_other_threads():
    snapshot_lock, entered = SnapshotLock(), []

    def other():
        with snapshot_lock:
            entered.append("other")

    thread = threading.Thread(target=other)
    with snapshot_lock:
        with snapshot_lock, snapshot_lock:
            thread.start()
        while not snapshot_lock.awaited:
            time.sleep(0.001)
        assert not entered
    thread.join()
    assert entered == ["other"]


def test_training_lock_rejects_second_owner():
    lock = TrainingLock("taken")
    with lock, pytest.raises(RuntimeError, match="taken"), lock:
        pass
    with lock:
        pass


def test_lock_group_acquires_all_locks_or_none():
    first, second = TrainingLock("the first"), TrainingLock("the second")
    with second, pytest.raises(RuntimeError, match="the second"), LockGroup([first, second]):
        pass
    with LockGroup(lock for lock in (first, second)):
        for lock in (first, second):
            with pytest.raises(RuntimeError), lock:
                pass
    with first, second:
        pass


@pytest.mark.parametrize("train", ["fit", "fit_batches", "train_step"])
def test_second_training_of_same_network_is_rejected(train):
    net = network()
    calls = {
        "fit": lambda: net.fit(X, Y, epochs=1, lr=0.001),
        "fit_batches": lambda: net.fit_batches([(X, Y)]),
        "train_step": lambda: net.train_step(X, Y),
    }
    errors = []

    def nested(record):
        with pytest.raises(RuntimeError, match=r"network is .*being trained"):
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
    calls[train]()  # after the fit has ended, another training is allowed


@pytest.mark.parametrize("train", ["fit", "fit_batches", "fit_many"])
def test_training_is_rejected_while_fit_reads_its_starting_state(train):
    """A second training would continue from the same state, and its epochs and steps would be lost."""
    net, rejections = network(), []
    net.fit(X, Y, epochs=2, optimizer="adam")

    def attempt():
        try:
            net.fit(X, Y, epochs=1)
        except RuntimeError as error:
            rejections.append(str(error))

    def schedule(epoch):
        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()
        return 0.01

    if train == "fit":
        net.fit(X, Y, epochs=3, lr=schedule)
    elif train == "fit_batches":
        net.fit_batches([(X, Y)], epochs=3, lr=schedule)
    else:
        fit_many([net, network(), network()], X, Y, epochs=3, lr=schedule)
    assert len(rejections) >= 3
    assert net.history.epochs == net.state.steps == 5


def test_history_and_weights_are_current_when_callbacks_close():
    """When a callback is closed, it sees the history of all epochs and the final weights, also after an error."""
    net = network()

    class CloseRecorder:
        epochs = None

        def __call__(self, record):
            pass

        def close(self):
            self.epochs, self.params = net.history.epochs, net.params

    recorder = CloseRecorder()
    best = []
    net.fit(
        X,
        Y,
        epochs=4,
        lr=0.001,
        callback=[recorder, lambda record: best.append((record.loss, net.params))],
        restore_best=True,
    )
    assert recorder.epochs == 4
    assert recorder.params.tobytes() == net.params.tobytes()

    def fails(record):
        raise LookupError

    with pytest.raises(LookupError):
        net.fit(X, Y, epochs=4, lr=0.001, callback=[fails, recorder])
    assert recorder.epochs == 5
    assert net.history.stop_reason == "error"


def test_error_in_close_of_callback_keeps_history():
    def fails():
        raise LookupError("simulated error in close")

    def callback(record):
        pass

    callback.close = fails
    net = network()
    with pytest.raises(LookupError, match="simulated error in close"):
        net.fit(X, Y, epochs=4, lr=0.001, callback=callback)
    assert (net.history.epochs, net.history.stop_reason, net.state.epoch) == (4, "epochs", 4)


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
@pytest.mark.filterwarnings("ignore::nnc._training.advice.LearningRateWarning")
def test_history_read_by_other_threads_is_consistent(optimizer):
    net, problems, counts = network(), [], []
    # For adam, freeze the first layer: its frozen steps must be counted only once.
    net.layers[0].trainable = optimizer == "lbfgs"
    stop = threading.Event()

    def read():
        try:
            while not stop.is_set():
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
            assert net.state.frozen_steps == (net.state.steps, 0)
    stop.set()
    for reader in readers:
        reader.join()
    assert not problems, problems
    assert counts


# The number of epochs, and thus this warning, depends on the speed of the machine.
@pytest.mark.filterwarnings("ignore::nnc._training.advice.LearningRateWarning")
def test_files_saved_during_fit_are_consistent():
    """Predictions during the fit are finite, although the weights change during a prediction."""
    net = network(dtype="float32")
    texts, problems = [], []
    stop = threading.Event()

    def save():
        try:
            while not stop.is_set():
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
        net.fit(X, Y, max_seconds=0.1, **options)
    stop.set()
    for thread in savers:
        thread.join()
    assert not problems
    assert len(texts) > 4
    for text in texts:
        again = nnc.from_json(text)  # loading raises an error if the outputs differ from those of the self-test
        assert again.state.steps == json.loads(text)["training"]["steps"]


def test_concurrent_fits_of_different_networks_are_independent():
    nets = [network(seed=seed) for seed in range(3)]
    plain = [network(seed=seed) for seed in range(3)]
    options = {"epochs": 200, "lr": 0.001, "n_threads": 2}
    threads = [threading.Thread(target=net.fit, args=(X, Y), kwargs=options) for net in nets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for net, reference in zip(nets, plain, strict=True):
        reference.fit(X, Y, epochs=200, lr=0.001)
        assert net.params.tobytes() == reference.params.tobytes()


# ------------------------------------------------------------------------------ modified arguments and errors


@pytest.mark.parametrize("batch_size", [None, 16])
@pytest.mark.parametrize("kind", [np.int32, np.int64, np.uint8])
def test_changing_labels_during_fit_has_no_effect(kind, batch_size):
    """The engine copies labels, because invalid ones would make it access memory out of bounds."""
    labels = rng.integers(0, 3, 400).astype(kind)
    validation_labels = labels.copy()
    net, plain = (NeuralNetwork([8, 16, 3], loss="cross_entropy", seed=0) for _ in range(2))

    def overwrite(record):
        labels[:] = np.iinfo(kind).max
        validation_labels[:] = np.iinfo(kind).max

    overwrite.every = 1
    original = labels.copy()
    options = {"epochs": 20, "batch_size": batch_size}
    net.fit(X, labels, validation=(X, validation_labels), callback=overwrite, **options)
    plain.fit(X, original, validation=(X, original), **options)
    assert net.params.tobytes() == plain.params.tobytes()


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("part", ["X", "y", "sample_weight"])
def test_changing_numbers_during_fit_does_at_most_diverge(part, n_threads):
    """The engine reads numbers without a copy, so changes affect the result or make it diverge."""
    data = {"X": X.copy(), "y": Y.copy(), "sample_weight": np.ones(400)}
    net = network()

    def overwrite(record):
        data[part][...] = [1e300, np.nan, -np.inf, 0.5, -1.0][record.epoch % 5]

    overwrite.every = 1
    with pytest.raises(DivergedError):
        net.fit(**data, epochs=20, lr=0.1, batch_size=64, callback=overwrite, n_threads=n_threads)
    assert np.isfinite(net.params).all()


def test_stop_reason_distinguishes_callback_errors_and_interrupts():
    def fails(record):
        raise LookupError("simulated error of the callback")

    for options, reason in (({}, "error"), ({"optimizer": "lbfgs"}, "error")):
        net = network()
        with pytest.raises(LookupError, match="simulated error of the callback"):
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
        ("sgd", "first_order.FirstOrder.train_epochs"),
        ("lbfgs", "second_order.SecondOrder.read_pairs"),
        ("lbfgs", "second_order.NetworkObjective.loss_and_gradient"),
        ("levenberg_marquardt", "second_order.NetworkObjective.loss"),
    ],
)
def test_memory_error_of_an_optimizer_is_raised(monkeypatch, make_fail, optimizer, where):
    """`fit` raises the MemoryError itself, not an error that follows from it, and the next fit works."""
    net = network()
    make_fail(f"nnc._training.{where}", MemoryError("none"))
    with pytest.raises(MemoryError, match="none"):
        net.fit(X, Y, epochs=5, optimizer=optimizer)
    monkeypatch.undo()
    assert net.history.stop_reason == "error"
    assert net.fit(X, Y, epochs=5).epochs == 5


def test_memory_error_at_end_of_fit_releases_run(monkeypatch):
    runs = []

    def history(run, reason):
        runs.append(weakref.ref(run))
        raise MemoryError

    net = network()
    gc.disable()
    try:
        with monkeypatch.context() as patch:
            # A real lack of memory cannot be timed, and no public object refers to the run.
            patch.setattr(loop.TrainingLoop, "history", history)
            with pytest.raises(MemoryError):
                net.fit(X, Y, epochs=5, lr=0.001)
        assert runs
        assert runs[0]() is None
    finally:
        gc.enable()
    assert net.fit(X, Y, epochs=5, lr=0.001).epochs == 5
