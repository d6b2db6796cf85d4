"""Automatic thread count of a fit: limits, and choice of the fastest count by `ThreadTuner` on simulated machines."""

import os
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from math import ceil
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

import nnc
from nnc import NeuralNetwork
from nnc._training.threads import (
    CHANGE_INTERVAL_SECONDS,
    MAX_INTERVAL_SECONDS,
    MIN_TRIAL_SECONDS,
    TRIAL_SECONDS,
    WARM_UP_SECONDS,
    ThreadTuner,
    borrow_tuner,
    return_tuner,
    thread_counts,
)
from nnc._utils import processors


@pytest.fixture(autouse=True)
def eight_processors(monkeypatch, set_limit, tmp_path):
    """Simulate eight processors without limits by environment variables, control groups or libraries."""
    for name in processors.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    # If another test has loaded threadpoolctl, its limits would count.
    monkeypatch.delitem(sys.modules, "threadpoolctl", raising=False)
    monkeypatch.setattr(processors, "cpu_count", lambda: 8)  # simulate eight processors; this machine may have fewer
    set_limit("nnc._utils.processors.CGROUP_FOLDER", str(tmp_path / "cgroup"))
    processors._quota.cache_clear()
    yield
    nnc.set_num_threads(None)
    processors._quota.cache_clear()


# ------------------------------------------------------------------------------------------ limits of the thread count


def test_smallest_limit_determines_thread_count(monkeypatch):
    assert nnc.get_num_threads() == 8
    nnc.set_num_threads(6)
    assert nnc.get_num_threads() == 6
    monkeypatch.setenv("OMP_NUM_THREADS", "5,2")
    assert nnc.get_num_threads() == 5
    monkeypatch.setenv("NNC_NUM_THREADS", "4")
    assert nnc.get_num_threads() == 4
    monkeypatch.setenv("OMP_NUM_THREADS", "dynamic")
    assert nnc.get_num_threads() == 4


@pytest.mark.skipif(not os.path.exists("/proc/self/cgroup"), reason="needs control groups of Linux")
def test_quota_of_control_group_limits_thread_count(tmp_path):
    """The quota of a control group, rounded up, is the largest number of threads."""
    (tmp_path / "cgroup" / "cpu").mkdir(parents=True)
    for folder in ("cgroup", "cgroup/cpu"):  # the folders of control groups of version 2 and of version 1
        (tmp_path / folder / "cpu.max").write_text("250000 100000\n")
    assert nnc.get_num_threads() == 3
    nnc.set_num_threads(2)
    assert nnc.get_num_threads() == 2


def test_threadpoolctl_limits_thread_count():
    # A limit that threadpoolctl sets for BLAS also limits the threads of fits.
    threadpoolctl = pytest.importorskip("threadpoolctl")
    with threadpoolctl.threadpool_limits(1):
        assert nnc.get_num_threads() == 1


@pytest.mark.parametrize("invalid", [0, -1, 2.5, "two", True])
def test_invalid_thread_counts_raise(monkeypatch, invalid):
    with pytest.raises((TypeError, ValueError), match="n must be "):
        nnc.set_num_threads(invalid)
    monkeypatch.setenv("NNC_NUM_THREADS", str(invalid))
    with pytest.raises(ValueError, match="NNC_NUM_THREADS must be a whole number, 1 or more, got"):
        nnc.get_num_threads()


def test_concurrent_fits_share_processors():
    with processors.active_fits:
        assert nnc.get_num_threads() == 8
        with processors.active_fits, processors.active_fits:
            assert nnc.get_num_threads() == 2
    with pytest.raises(ZeroDivisionError), processors.active_fits:
        raise ZeroDivisionError
    assert nnc.get_num_threads() == 8


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs", "levenberg_marquardt"])
def test_fit_with_any_optimizer_counts_as_active(optimizer):
    counts = []
    X = np.linspace(-1, 1, 20)[:, None]
    network = NeuralNetwork([1, 3, 1], loss="mse", seed=0)
    with processors.active_fits:
        network.fit(X, X**2, epochs=1, optimizer=optimizer, callback=lambda _: counts.append(nnc.get_num_threads()))
    assert counts == [4]


def test_workers_of_pools_use_one_thread():
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda _: nnc.get_num_threads(), range(4))) == [1] * 4
    counts = []
    thread = threading.Thread(target=lambda: counts.append(nnc.get_num_threads()))
    thread.start()
    thread.join()
    assert counts == [8]  # a thread that the user starts is not a worker of a pool
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(nnc.get_num_threads).result() == 1
    with get_context("spawn").Pool(1) as pool:
        assert pool.apply(nnc.get_num_threads) == 1


def test_quota_is_read_from_both_versions_of_control_groups(monkeypatch, tmp_path):
    monkeypatch.undo()
    version2, version1 = tmp_path / "version2", tmp_path / "version1"
    for folder in (version2, version1):
        folder.mkdir()
    (version2 / "cpu.max").write_text("150000 100000\n")
    assert processors._group_quota(str(version2)) == 1.5
    (version2 / "cpu.max").write_text("max 100000\n")
    assert processors._group_quota(str(version2)) > 1e9
    (version1 / "cpu.cfs_quota_us").write_text("50000\n")
    (version1 / "cpu.cfs_period_us").write_text("100000\n")
    assert processors._group_quota(str(version1)) == 0.5
    (version1 / "cpu.cfs_quota_us").write_text("-1\n")
    assert processors._group_quota(str(version1)) > 1e9
    (version2 / "cpu.max").write_text("what?")
    assert processors._group_quota(str(version2)) > 1e9
    assert processors._group_quota(str(tmp_path / "none")) > 1e9
    assert processors._quota() >= 1


def test_fit_does_not_exceed_limit_of_environment_variable():
    code = """
import os, sys, threading, numpy as np
from nnc import NeuralNetwork
rng = np.random.default_rng(0)
X, y = rng.random((4000, 200)), rng.random((4000, 10))
max_threads = 1
def count_threads(record):
    global max_threads
    max_threads = max(max_threads, len(os.listdir("/proc/self/task")))
before = len(os.listdir("/proc/self/task"))
NeuralNetwork([200, 200, 10], loss="mse", seed=0).fit(X, y, epochs=4, batch_size=500, callback=count_threads)
print(max_threads - before)
"""
    if not os.path.exists("/proc/self/task"):
        pytest.skip("needs /proc/self/task")
    run = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={**os.environ, "NNC_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.stdout.strip() == "0", run.stderr


# ------------------------------------------------------------------------------------------ choice of the thread count


class Machine:
    """Simulate training on a virtual clock, at a given number of rows per second for each thread count."""

    min_rows = 0.0  # smallest number of rows in a slice
    free_processors = np.inf  # larger teams share processors with other processes
    switches = 0  # involuntary context switches so far: 1000 per second on shared processors, otherwise 60

    def __init__(self, rates, limit=None):
        self.rates, self.now, self.rows, self.seconds, self.n_slices = dict(rates), 0.0, 0.0, Counter(), Counter()
        self.tuner = ThreadTuner(list(rates), limit)
        self.tuner.count_switches = lambda: self.switches

    def run(self, seconds, remaining_rows=np.inf):
        """Simulate a fit that ends after `seconds` or after `remaining_rows` rows."""
        end = self.now + seconds
        while self.now < end and remaining_rows > 0:
            n_threads, slice_seconds = self.tuner.next(remaining_rows)
            rate = self.rate(n_threads, slice_seconds)
            rows = min(max(rate * slice_seconds, self.min_rows), remaining_rows)
            self.now += rows / rate
            self.rows += rows
            remaining_rows -= rows
            self.seconds[n_threads] += rows / rate
            self.n_slices[n_threads] += 1
            self.switches += ceil((1000 if n_threads > self.free_processors else 60) * n_threads * rows / rate)
            self.tuner.record(n_threads, rows, rows / rate)
        return self

    def repeat(self, seconds, rows_per_fit):
        """Simulate consecutive fits of `rows_per_fit` rows for `seconds`."""
        end = self.now + seconds
        while self.now < end:
            self.run(end - self.now, rows_per_fit)
        return self

    def rate(self, n_threads, seconds):
        return self.rates[n_threads]

    @property
    def best(self):
        return self.tuner.best


class BusyMachine(Machine):
    """Simulate a machine with other processes.

    The scheduler prefers threads that have slept: they run at full speed for 4 ms, then they get half of the time.
    """

    slept, seconds_since_sleep = True, 0.0

    def rate(self, n_threads, seconds):
        if n_threads == 1:
            self.slept, self.seconds_since_sleep = True, 0.0
            return self.rates[1]
        preferred = min(max(0.004 - self.seconds_since_sleep, 0.0), seconds) if self.slept else 0.0
        self.seconds_since_sleep += seconds
        self.slept = self.seconds_since_sleep < 0.004
        return self.rates[2] * (preferred + 0.5 * (seconds - preferred)) / seconds


@pytest.mark.parametrize("best", [1, 2, 4, 8, 12])
def test_tuner_finds_fastest_thread_count(best):
    rates = {n: 1e6 * (2 if n == best else 0.5 + 0.01 * n) for n in thread_counts(12)}
    machine = Machine(rates).run(20)
    assert machine.best == best
    comparisons = 6  # counts are compared after 0, 0.05, 0.25, 1.05, 4.25 and 14.25 s of work
    trials = 2 * 4  # in each comparison, the other four candidates have two trials each
    assert sum(machine.seconds.values()) - machine.seconds[best] <= comparisons * trials * 1.05 * (
        TRIAL_SECONDS + WARM_UP_SECONDS
    )


@pytest.mark.parametrize("rate", [1.2e6, 1.6e6, 1.9e6])
@pytest.mark.parametrize("rows_per_fit", [np.inf, 5e4, 1.5e4])
def test_trials_that_overestimate_threads_cost_little(rate, rows_per_fit):
    assert BusyMachine({1: 1e6, 2: rate}).repeat(10, rows_per_fit).rows > 0.97 * 1e6 * 10


@pytest.mark.parametrize("n_slices", range(1, 40))
def test_run_that_ends_during_trial_does_not_mislead_tuner(n_slices):
    machine = Machine({1: 1e6, 2: 1.9e6, 4: 3e6})
    for _ in range(n_slices):
        n_threads, seconds = machine.tuner.next(1e9)
        machine.now += 0.3 * seconds
        machine.tuner.record(n_threads, 0.3 * machine.rates[n_threads] * seconds, 0.3 * seconds)
    for _ in range(3):
        machine.run(0.5)
    assert machine.best == 4


class SlowWakeUpMachine(Machine):
    """Simulate threads that are slow for 3 ms after a change of the thread count."""

    n_threads, changed_at = 1, 0.0

    def rate(self, n_threads, seconds):
        if n_threads != self.n_threads:
            self.n_threads, self.changed_at = n_threads, self.now
        slow_seconds = max(0.003 - (self.now - self.changed_at), 0.0) if n_threads > 1 else 0.0
        return self.rates[n_threads] * (1 - 0.9 * min(slow_seconds / seconds, 1))


def test_slow_wake_up_of_threads_does_not_mislead_tuner():
    machine = SlowWakeUpMachine({1: 1e6, 2: 1.9e6}).repeat(0.5, 5e4)
    assert machine.best == 2
    assert machine.rows > 0.8 * 1.9e6 * 0.5


def test_tuner_recovers_from_slow_threads_at_start_of_process():
    # In the first fit of a process, a new team of threads is slow for up to 40 ms.
    class StartingMachine(Machine):
        def rate(self, n_threads, seconds):
            return self.rates[n_threads] * (0.3 if n_threads > 1 and self.now < 0.04 else 1)

    machine = StartingMachine({1: 1e6, 2: 1.8e6}).run(0.05)
    assert machine.best == 1
    machine.run(0.05)
    assert machine.best == 2
    assert machine.run(0.3).rows > 0.8 * 1.8e6 * 0.4


def test_random_disturbances_cost_little():
    # In random intervals of 2 ms the simulated machine makes no progress, with two threads more often than with one.
    random = np.random.default_rng(0)

    class DisturbedMachine(Machine):
        def rate(self, n_threads, seconds):
            slots = random.random(max(1, int(seconds / 0.002))) < (0.8 if n_threads == 1 else 0.4)
            return self.rates[n_threads] * max(slots.mean(), 1e-3)

    machine = DisturbedMachine({1: 1e6, 2: 1.9e6}).run(20)  # effective rates: 0.8e6 with one thread, 0.76e6 with two
    assert machine.rows > 0.93 * 0.8e6 * 20
    machine = DisturbedMachine({1: 1e6, 2: 1.2e6}).run(20)  # effective rates: 0.8e6 with one thread, 0.48e6 with two
    assert machine.rows > 0.93 * 0.8e6 * 20


def test_tuner_prefers_fewer_threads_if_more_gain_little():
    assert Machine({1: 1e6, 2: 1.02e6}).run(2).best == 1


@pytest.mark.parametrize("rows", [1, 100, 0.9 * MIN_TRIAL_SECONDS * 1e6])
def test_short_runs_have_no_trials(rows):
    machine = Machine({1: 1e6, 2: 2e6})
    machine.tuner.throughput[1] = 1e6
    assert set(machine.run(10, remaining_rows=rows).seconds) == {1}


def test_slow_candidate_costs_run_of_100_ms_only_two_comparisons():
    # The fit needs 0.1 s with one thread and 100 s with two.
    machine = Machine({1: 1e6, 2: 1e3}).run(10, remaining_rows=1e5)
    assert machine.now < 0.1 + 4 * 1.05 * (TRIAL_SECONDS + WARM_UP_SECONDS)


def test_tuner_adapts_to_changed_throughput():
    # Another process occupies one of two processors and releases it later.
    machine = Machine({1: 1e6, 2: 1.9e6}).run(30)
    assert machine.best == 2
    machine.rates[2] = 0.5e6
    machine.run(0.3)
    assert machine.best == 1
    machine.rates[2] = 1.9e6  # only a periodic comparison detects that two threads are faster now
    machine.run(MAX_INTERVAL_SECONDS + 0.1)
    assert machine.best == 2


@pytest.mark.parametrize("free_processors", [1, 2, 4])
def test_team_on_shared_processors_is_not_used(free_processors):
    # In its trials such a team has the largest throughput, because the scheduler favours threads that have slept.
    machine = Machine({1: 1e6, 2: 1.9e6, 4: 3.6e6, 8: 6.8e6})
    machine.free_processors = free_processors
    machine.run(30)
    assert machine.best == free_processors
    comparisons = 6  # with free_processors = 1, only five: after 0, 0.8, 4, 14 and 24 s of work
    assert sum(n for n_threads, n in machine.n_slices.items() if n_threads > free_processors) <= comparisons
    machine.free_processors = np.inf
    machine.run(MAX_INTERVAL_SECONDS + 0.2)
    assert machine.best == 8


def test_time_sharing_of_one_thread_causes_no_comparisons():
    # Another process uses the same processor half of the time, in intervals of 0.1 s.
    class SharedMachine(Machine):
        def rate(self, n_threads, seconds):
            return self.rates[n_threads] * (0.5 if self.now % 0.2 < 0.1 else 1)

    machine = SharedMachine({1: 1e6, 2: 0.3e6}).run(4)
    comparisons = 4  # after 0, 0.05, 0.25 and 1.05 s of work
    assert machine.seconds[2] <= comparisons * 2 * 1.05 * (TRIAL_SECONDS + WARM_UP_SECONDS)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts the switches that were measured")
def test_involuntary_context_switches_of_all_threads_are_counted():
    before = [
        int(line.split()[1])
        for status in Path("/proc/self/task").glob("*/status")
        for line in status.read_text().splitlines()
        if line.startswith("nonvoluntary_ctxt_switches:")
    ]
    assert processors.count_involuntary_switches() >= sum(before)


def test_tuner_recovers_from_short_disturbance():
    machine = Machine({1: 1e6, 2: 1.6e6}).run(30)
    machine.rates[2] = 0.1e6
    machine.run(0.15)
    assert machine.best == 1
    machine.rates[2] = 1.6e6
    machine.run(CHANGE_INTERVAL_SECONDS + 0.1)
    assert machine.best == 2


def test_comparisons_are_rare():
    machine = Machine({1: 1e6, 2: 2e6}).run(60)
    before = machine.seconds[1]
    machine.run(60)
    trials = 2 * (60 / MAX_INTERVAL_SECONDS + 1)
    assert machine.seconds[1] - before < trials * 1.05 * (TRIAL_SECONDS + WARM_UP_SECONDS)


def test_tuner_respects_limit_that_changes_during_run():
    limit = 8
    machine = Machine({1: 1e6, 2: 2e6, 4: 4e6, 8: 8e6}, lambda: limit).run(2)
    assert machine.best == 8
    limit = 2
    machine.run(30)
    machine.seconds.clear()
    machine.run(30)
    assert set(machine.seconds) <= {1, 2}


@pytest.mark.parametrize("candidates", [[1, 4], [4], [2, 4]])
def test_trial_ends_if_fewer_threads_run_than_requested(candidates):
    # The operating system may refuse to start threads, and some runs use only one.
    tuner = ThreadTuner(candidates)
    for _ in range(8):
        _, seconds = tuner.next(np.inf)
        tuner.record(1, 1e6 * seconds, seconds)
    assert not tuner.trials
    assert tuner.best == candidates[0]


def test_next_run_of_same_workload_reuses_tuner():
    workload = object()
    tuner = borrow_tuner(workload, [1, 2], lambda: 2)
    machine = Machine({1: 1e6, 2: 2e6})
    machine.tuner = tuner
    tuner.count_switches = lambda: machine.switches
    return_tuner(workload, machine.run(0.9).tuner)
    second_tuner = borrow_tuner(workload, [1, 2], lambda: 2)
    assert second_tuner is tuner
    assert second_tuner.next(1e9)[0] == 2
    assert second_tuner.next(100)[0] == 1  # 100 rows are too few for a second thread
    assert borrow_tuner(workload, [1, 2], lambda: 2) is not tuner  # `tuner` is still borrowed, so a new one is created
    return_tuner(workload, tuner)
    assert borrow_tuner(workload, [1, 2, 4], lambda: 4).best == 1  # a tuner with other candidates is not reused


def test_history_contains_thread_count():
    X, y = np.random.default_rng(0).random((400, 8)), np.ones((400, 2))
    histories = []
    for n_threads in (None, 2):
        net = NeuralNetwork([8, 60, 2], loss="mse", seed=0)
        histories.append(net.fit(X, y, epochs=2, lr=0.001, n_threads=n_threads))
    assert [history.n_threads for history in histories] == [1, 2]  # a short fit uses one thread
    for history in histories:
        assert nnc.History.from_dict(history.to_dict()).n_threads == history.n_threads
    with pytest.raises(ValueError, match="n_threads of a history must be a whole number"):
        nnc.History.from_dict({**histories[0].to_dict(), "n_threads": 0})
