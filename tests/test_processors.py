"""How many threads a fit takes where that is left to nnc: how many it may take, and how many it finds to pay."""

import os
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

import nnc
from nnc import NeuralNetwork
from nnc._training.threads import (
    COMPARISON_SECONDS,
    MIN_TRIAL_SECONDS,
    TRIAL_SECONDS,
    WARM_UP_SECONDS,
    ThreadTuner,
    borrow_tuner,
    return_tuner,
    thread_counts,
)
from nnc._utils import processors

QUIET = dict.fromkeys(processors.VARIABLES, "")


@pytest.fixture(autouse=True)
def eight_processors(monkeypatch, set_limit, tmp_path):
    """A machine with eight processors, where no variable, control group or library limits the threads."""
    for name in processors.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delitem(sys.modules, "threadpoolctl", raising=False)  # other tests may have loaded it
    monkeypatch.setattr(processors, "cpu_count", lambda: 8)  # the machine that runs the tests may have fewer
    set_limit("nnc._utils.processors.CGROUP_FOLDER", str(tmp_path / "cgroup"))
    processors._quota.cache_clear()
    yield
    nnc.set_num_threads(None)
    processors._quota.cache_clear()


# ------------------------------------------------------------------------------------------ how many it may take


def test_what_limits_the_threads(monkeypatch):
    assert nnc.get_num_threads() == 8
    nnc.set_num_threads(6)
    assert nnc.get_num_threads() == 6
    monkeypatch.setenv("OMP_NUM_THREADS", "5,2")
    assert nnc.get_num_threads() == 5
    monkeypatch.setenv("NNC_NUM_THREADS", "4")
    assert nnc.get_num_threads() == 4
    monkeypatch.setenv("OMP_NUM_THREADS", "dynamic")
    assert nnc.get_num_threads() == 4


@pytest.mark.skipif(not os.path.exists("/proc/self/cgroup"), reason="there are no control groups")
def test_control_group_limits_the_threads(tmp_path):
    """The quota of a control group, rounded up, is the largest number of threads."""
    (tmp_path / "cgroup" / "cpu").mkdir(parents=True)
    for folder in ("cgroup", "cgroup/cpu"):  # of versions 2 and 1
        (tmp_path / folder / "cpu.max").write_text("250000 100000\n")
    assert nnc.get_num_threads() == 3
    nnc.set_num_threads(2)
    assert nnc.get_num_threads() == 2


def test_threadpoolctl_limits_the_threads():
    """A limit that threadpoolctl sets for BLAS holds for fits, too."""
    threadpoolctl = pytest.importorskip("threadpoolctl")
    with threadpoolctl.threadpool_limits(1):
        assert nnc.get_num_threads() == 1


@pytest.mark.parametrize("wrong", [0, -1, 2.5, "two", True])
def test_wrong_numbers(monkeypatch, wrong):
    with pytest.raises((TypeError, ValueError), match="n must be "):
        nnc.set_num_threads(wrong)
    monkeypatch.setenv("NNC_NUM_THREADS", str(wrong))
    with pytest.raises(ValueError, match="NNC_NUM_THREADS must be a whole number, 1 or more, got"):
        nnc.get_num_threads()


def test_fits_that_run_at_once_share_the_processors():
    with processors.active_fits:
        assert nnc.get_num_threads() == 8
        with processors.active_fits, processors.active_fits:
            assert nnc.get_num_threads() == 2
    with pytest.raises(ZeroDivisionError), processors.active_fits:
        raise ZeroDivisionError
    assert nnc.get_num_threads() == 8


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs", "levenberg_marquardt"])
def test_a_fit_counts_whatever_its_optimizer(optimizer):
    found = []
    X = np.linspace(-1, 1, 20)[:, None]
    network = NeuralNetwork([1, 3, 1], loss="mse", seed=0)
    with processors.active_fits:
        network.fit(X, X**2, epochs=1, optimizer=optimizer, callback=lambda _: found.append(nnc.get_num_threads()))
    assert found == [4]


def test_workers_take_one():
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda _: nnc.get_num_threads(), range(4))) == [1] * 4
    found = []
    thread = threading.Thread(target=lambda: found.append(nnc.get_num_threads()))
    thread.start()
    thread.join()
    assert found == [8]  # a thread of the user's is no worker
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(nnc.get_num_threads).result() == 1
    with get_context("spawn").Pool(1) as pool:
        assert pool.apply(nnc.get_num_threads) == 1


def test_the_quota_of_a_container(monkeypatch, tmp_path):
    monkeypatch.undo()
    two, one = tmp_path / "two", tmp_path / "one"
    for folder in (two, one):
        folder.mkdir()
    (two / "cpu.max").write_text("150000 100000\n")
    assert processors._group_quota(str(two)) == 1.5
    (two / "cpu.max").write_text("max 100000\n")
    assert processors._group_quota(str(two)) > 1e9
    (one / "cpu.cfs_quota_us").write_text("50000\n")
    (one / "cpu.cfs_period_us").write_text("100000\n")
    assert processors._group_quota(str(one)) == 0.5
    (one / "cpu.cfs_quota_us").write_text("-1\n")
    assert processors._group_quota(str(one)) > 1e9
    (two / "cpu.max").write_text("what?")
    assert processors._group_quota(str(two)) > 1e9
    assert processors._group_quota(str(tmp_path / "none")) > 1e9
    assert processors._quota() >= 1


def test_a_fit_takes_no_more_than_it_may():
    code = """
import os, sys, threading, numpy as np
from nnc import NeuralNetwork
rng = np.random.default_rng(0)
X, y = rng.random((4000, 200)), rng.random((4000, 10))
most = 1
def look(record):
    global most
    most = max(most, len(os.listdir("/proc/self/task")))
before = len(os.listdir("/proc/self/task"))
NeuralNetwork([200, 200, 10], loss="mse", seed=0).fit(X, y, epochs=4, batch_size=500, callback=look)
print(most - before)
"""
    if not os.path.exists("/proc/self/task"):
        pytest.skip("threads are not listed here")
    run = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={**os.environ, "NNC_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.stdout.strip() == "0", run.stderr


# ------------------------------------------------------------------------------------------ how many pay


class Machine:
    """Simulated work on a simulated clock, at given rows per second for each number of threads."""

    min_rows = 0.0  # of a slice

    def __init__(self, rates, limit=None):
        self.rates, self.now, self.rows, self.seconds = dict(rates), 0.0, 0.0, Counter()
        self.tuner = ThreadTuner(list(rates), limit)

    def run(self, seconds, left=np.inf):
        """Work for this long, or until no rows are left."""
        end = self.now + seconds
        while self.now < end and left > 0:
            n_threads, slice_seconds = self.tuner.next(left)
            rate = self.rate(n_threads, slice_seconds)
            rows = min(max(rate * slice_seconds, self.min_rows), left)
            self.now += rows / rate
            self.rows += rows
            left -= rows
            self.seconds[n_threads] += rows / rate
            self.tuner.record(n_threads, rows, rows / rate)
        return self

    def repeat(self, seconds, left):
        """Run fits of this many rows one after the other."""
        end = self.now + seconds
        while self.now < end:
            self.run(end - self.now, left)
        return self

    def rate(self, n_threads, seconds):
        return self.rates[n_threads]

    @property
    def best(self):
        return self.tuner.best


class Busy(Machine):
    """Other processes run: the scheduler prefers a team that has slept for 4 ms, and then gives it half the time."""

    slept, worked = True, 0.0

    def rate(self, n_threads, seconds):
        if n_threads == 1:
            self.slept, self.worked = True, 0.0
            return self.rates[1]
        preferred = min(max(0.004 - self.worked, 0.0), seconds) if self.slept else 0.0
        self.worked += seconds
        self.slept = self.worked < 0.004
        return self.rates[2] * (preferred + 0.5 * (seconds - preferred)) / seconds


@pytest.mark.parametrize("best", [1, 2, 4, 8, 12])
def test_the_fastest_number_of_threads_is_found(best):
    rates = {n: 1e6 * (2 if n == best else 0.5 + 0.01 * n) for n in thread_counts(12)}
    machine = Machine(rates).run(20)
    assert machine.best == best
    comparisons = 1 + 20 / COMPARISON_SECONDS[1]
    assert sum(machine.seconds.values()) - machine.seconds[best] <= comparisons * 4.01 * (
        TRIAL_SECONDS + WARM_UP_SECONDS
    )


@pytest.mark.parametrize("rate", [1.2e6, 1.6e6, 1.9e6])
@pytest.mark.parametrize("left", [np.inf, 5e4, 1.5e4])
def test_a_trial_that_favours_a_team_costs_little(rate, left):
    assert Busy({1: 1e6, 2: rate}).repeat(10, left).rows > 0.97 * 1e6 * 10


@pytest.mark.parametrize("until", range(1, 40))
def test_a_run_may_end_during_a_trial(until):
    machine = Machine({1: 1e6, 2: 1.9e6, 4: 3e6})
    for _ in range(until):
        n_threads, seconds = machine.tuner.next(1e9)
        machine.now += 0.3 * seconds
        machine.tuner.record(n_threads, 0.3 * machine.rates[n_threads] * seconds, 0.3 * seconds)
    for _ in range(3):
        machine.run(0.5)
    assert machine.best == 4


class Waking(Machine):
    """Work whose team is slow until its threads are awake."""

    n_threads, begun = 1, 0.0

    def rate(self, n_threads, seconds):
        if n_threads != self.n_threads:
            self.n_threads, self.begun = n_threads, self.now
        is_slow = n_threads > 1 and self.now - self.begun < 0.003
        return self.rates[n_threads] * (0.1 if is_slow else 1)


def test_waking_threads_do_not_count():
    machine = Waking({1: 1e6, 2: 1.9e6}).repeat(0.5, 5e4)
    assert machine.best == 2
    assert machine.rows > 0.8 * 1.9e6 * 0.5


def test_random_disturbances_cost_little():
    """Each number of threads is disturbed for milliseconds, at random."""
    random = np.random.default_rng(0)

    class Disturbed(Machine):
        def rate(self, n_threads, seconds):
            slots = random.random(max(1, int(seconds / 0.002))) < (0.8 if n_threads == 1 else 0.4)
            return self.rates[n_threads] * max(slots.mean(), 1e-3)

    machine = Disturbed({1: 1e6, 2: 1.9e6}).run(20)  # 0.8e6 and 0.76e6
    assert machine.rows > 0.93 * 0.8e6 * 20
    machine = Disturbed({1: 1e6, 2: 1.2e6}).run(20)  # 0.8e6 and 0.48e6
    assert machine.rows > 0.93 * 0.8e6 * 20


def test_fewer_threads_if_more_bring_nothing():
    assert Machine({1: 1e6, 2: 1.02e6}).run(2).best == 1


@pytest.mark.parametrize("rows", [1, 100, 0.9 * MIN_TRIAL_SECONDS * 1e6])
def test_short_runs_have_no_trials(rows):
    machine = Machine({1: 1e6, 2: 2e6})
    machine.tuner.throughput[1] = 1e6
    assert set(machine.run(10, left=rows).seconds) == {1}


def test_a_slow_candidate_costs_a_medium_run_one_trial():
    machine = Machine({1: 1e6, 2: 1e3}).run(10, left=1e5)  # 0.1 s on one thread
    assert machine.now < 0.1 + 1.01 * (TRIAL_SECONDS + WARM_UP_SECONDS)


def test_a_change_is_noticed():
    """Another process takes one of two processors and releases it later."""
    machine = Machine({1: 1e6, 2: 1.9e6}).run(30)
    assert machine.best == 2
    machine.rates[2] = 0.5e6
    machine.run(0.3)
    assert machine.best == 1
    machine.rates[2] = 1.9e6  # only a comparison can notice
    machine.run(COMPARISON_SECONDS[1] + 0.1)
    assert machine.best == 2


def test_a_short_disturbance_has_no_lasting_effect():
    machine = Machine({1: 1e6, 2: 1.6e6}).run(30)
    machine.rates[2] = 0.1e6
    machine.run(0.15)
    assert machine.best == 1
    machine.rates[2] = 1.6e6
    machine.run(COMPARISON_SECONDS[0] + 0.1)
    assert machine.best == 2


def test_comparisons_are_rare():
    machine = Machine({1: 1e6, 2: 2e6}).run(60)
    before = machine.seconds[1]
    machine.run(60)
    assert machine.seconds[1] - before < (60 / COMPARISON_SECONDS[1] + 1) * 1.01 * (TRIAL_SECONDS + WARM_UP_SECONDS)


def test_a_limit_holds_while_it_runs():
    most = 8
    machine = Machine({1: 1e6, 2: 2e6, 4: 4e6, 8: 8e6}, lambda: most).run(2)
    assert machine.best == 8
    most = 2
    machine.run(30)
    machine.seconds.clear()
    machine.run(30)
    assert set(machine.seconds) <= {1, 2}


@pytest.mark.parametrize("candidates", [[1, 4], [4], [2, 4]])
def test_fewer_threads_than_asked_for_end_the_trial(candidates):
    """The system may refuse to start threads, and some runs use only one."""
    tuner = ThreadTuner(candidates)
    for _ in range(10):
        _, seconds = tuner.next(np.inf)
        tuner.record(1, 1e6 * seconds, seconds)
    assert not tuner.trials
    assert tuner.best == candidates[0]


def test_the_next_run_of_the_same_work_uses_the_tuner():
    work = object()
    tuner = borrow_tuner(work, [1, 2], lambda: 2)
    machine = Machine({1: 1e6, 2: 2e6})
    machine.tuner = tuner
    return_tuner(work, machine.run(0.9).tuner)
    again = borrow_tuner(work, [1, 2], lambda: 2)
    assert again is tuner
    assert again.next(1e9)[0] == 2
    assert again.next(100)[0] == 1  # the run is over before a thread has started
    assert borrow_tuner(work, [1, 2], lambda: 2) is not tuner  # used by another run
    return_tuner(work, tuner)
    assert borrow_tuner(work, [1, 2, 4], lambda: 4).best == 1  # other candidates


def test_the_history_says_how_many_it_were():
    X, y = np.random.default_rng(0).random((400, 8)), np.ones((400, 2))
    histories = []
    for n_threads in (None, 2):
        net = NeuralNetwork([8, 60, 2], loss="mse", seed=0)
        histories.append(net.fit(X, y, epochs=2, lr=0.001, n_threads=n_threads))
    assert [history.n_threads for history in histories] == [1, 2]  # what is short is for one
    for history in histories:
        assert nnc.History.from_dict(history.to_dict()).n_threads == history.n_threads
    with pytest.raises(ValueError, match="n_threads of a history must be a whole number"):
        nnc.History.from_dict({**histories[0].to_dict(), "n_threads": 0})
