"""Choice of the thread count of a fit, and of the processors on which its threads run.

A team of threads (src/threads/team.pxi) starts with a fit and ends with it. Between fits there are therefore no
sleeping threads that would have to be restored after a fork or stopped at exit. Starting a thread takes about 50
microseconds, so only fits that take much longer use more than one thread.
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache
from math import inf
from typing import TYPE_CHECKING

from nnc import _cpu
from nnc._utils import processors

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence


SLICE_SECONDS = 0.05  # duration in seconds of a call of the core, after which Python checks for Ctrl-C and callbacks
WARM_UP_SECONDS = 0.002  # duration in seconds of the warm-up of a trial, in which new threads still change processors
TRIAL_SECONDS = 0.004  # duration in seconds of the measurement of one thread count
MIN_TRIAL_SECONDS = 0.01  # compare thread counts only if more than this many seconds of the run are left
MIN_THREADED_SECONDS = 0.002  # use one thread if at most this many seconds of the run are left
AVERAGING_SECONDS = 0.1  # time constant in seconds of the moving average of the throughput
MIN_SPEEDUP = 1.03  # use more threads only if the throughput is more than this many times as large
MAX_SWITCHES_PER_SECOND = 100  # maximum involuntary context switches per second and thread if processors are not shared
# seconds of training from the first comparison of thread counts to the second if the first chooses the fewest threads;
# new threads are slow for 20 to 40 ms
FIRST_INTERVAL_SECONDS = 0.05
MAX_INTERVAL_SECONDS = 10.0  # maximum seconds of training between two comparisons
# seconds until thread counts are compared again if the chosen thread count has changed
CHANGE_INTERVAL_SECONDS = 0.2
INTERVAL_GROWTH = 4  # a confirmed thread count increases the interval between comparisons by this factor
MAX_TUNERS = 64  # maximum number of workloads whose tuners are stored


@cache
def may_set_affinity() -> bool:
    """Return whether a thread may be bound to processors; a seccomp filter may end a process that does so."""
    try:
        with open("/proc/self/status") as file:  # /proc exists only on Linux
            return "\nSeccomp:\t0\n" in file.read()
    except OSError:
        return False


def avoid_caller_processor(home: int, caller: int, size: int) -> None:
    """Move the current thread to a processor other than that of the caller of the team.

    Some systems wake a thread on the processor of the thread that wakes it. The woken thread would wait there for
    milliseconds, even if other processors are idle.

    Parameters
    ----------
    home : int
        Processor of the caller.
    caller : int
        Native thread id of the caller, whose set of allowed processors is used.
    size : int
        Number of threads in the team.
    """
    if _cpu.processor() != home or not may_set_affinity():
        return
    with suppress(Exception):  # ignore errors, because the choice of the processor only saves time
        allowed = os.sched_getaffinity(caller)
        if len(allowed) >= size:
            os.sched_setaffinity(0, allowed - {home})


class ThreadTuner:
    """Choice of the number of threads from measurements during the training.

    The result of a fit does not depend on the number of threads, so the number may change between slices. Short trials
    propose a candidate; sustained throughput decides, because a trial overestimates multi-threading on a loaded
    machine: the scheduler favours threads that have just slept.

    Frequent involuntary context switches in the trial of a team show that other processes use the same processors. At
    each barrier, the team then waits for threads that do not run. The comparison continues with smaller counts, and the
    next comparison follows later.

    Parameters
    ----------
    candidates : sequence of int
        Thread counts to compare, in increasing order.
    limit : callable, optional
        Returns the number of threads available to the process now.

    Attributes
    ----------
    best : int
        The fastest candidate.
    max_threads : int
        Largest number of threads that may be used until the next comparison.
    throughput : dict of int to float
        Rows per second of each candidate: in its faster trial, or averaged over the last `AVERAGING_SECONDS`.
    trials : list of int
        Candidates of the current comparison that are still to be tried, the current one first. Each candidate is tried
        twice, in increasing and then in decreasing order.
    trial_throughput : dict of int to float
        Rows per second in the faster trial of each candidate in the current comparison.
    is_trial : bool
        Whether the current slice is part of a trial.
    is_proposed : bool
        Whether the throughput of `best` was measured only in its trial. The next slice replaces this value.
    rows, seconds : float
        Rows and duration of the current trial. `seconds` is negative during the warm-up.
    count_switches : callable
        Returns the number of involuntary context switches of the process so far.
    switches : int
        Result of `count_switches` before the current slice of a trial.
    work_seconds : float
        Duration of the training since the last comparison.
    comparison_interval : float
        Duration of the training until the next comparison, in seconds.
    previous_best : int
        Result of the last comparison, or the first candidate before the first comparison.
    """

    is_trial = is_proposed = False
    rows, seconds, switches = 0.0, -WARM_UP_SECONDS, 0
    work_seconds = comparison_interval = 0.0

    def __init__(self, candidates: Sequence[int], limit: Callable[[], int] | None = None) -> None:
        self.candidates, self.limit = candidates, limit
        self.count_switches = processors.count_involuntary_switches
        self.best = self.previous_best = candidates[0]
        self.max_threads = candidates[-1]
        self.throughput: dict[int, float] = {}
        self.trials: list[int] = []
        self.trial_throughput: dict[int, float] = {}

    def next(self, rows_left: float) -> tuple[int, float]:
        """Return the number of threads and the duration in seconds of the next slice.

        Parameters
        ----------
        rows_left : float
            Rows until the end of the run.
        """
        seconds_left = rows_left / self.throughput[self.best] if self.best in self.throughput else inf
        may_try = seconds_left > MIN_TRIAL_SECONDS and len(self.candidates) > 1
        if may_try and not self.trials and self.work_seconds >= self.comparison_interval:
            self.max_threads = max(self.candidates[0], self.limit() if self.limit else self.candidates[-1])
            self.trials, self.trial_throughput = [*self.candidates, *self.candidates[::-1]], {}
        self.is_trial = may_try and bool(self.trials)
        if self.is_trial:
            self.switches = self.count_switches()
            return self.trials[0], -self.seconds if self.seconds < 0 else TRIAL_SECONDS - self.seconds
        return self.best if seconds_left > MIN_THREADED_SECONDS else self.candidates[0], SLICE_SECONDS

    def record(self, n_threads: int, rows: float, seconds: float) -> None:
        """Record the number of rows and the duration of a slice with this number of threads."""
        self.work_seconds += seconds
        if self.is_trial:
            switches = self.count_switches() - self.switches
            if n_threads > self.candidates[0] and switches > n_threads * (1 + MAX_SWITCHES_PER_SECOND * seconds):
                self.max_threads = n_threads - 1
                self.comparison_interval = max(self.comparison_interval, CHANGE_INTERVAL_SECONDS)
                self.finish_trial()
            elif self.seconds < 0:
                self.throughput.setdefault(n_threads, rows / seconds)  # preliminary throughput from the warm-up
                self.seconds = min(self.seconds + seconds, 0.0)
            else:
                self.rows, self.seconds = self.rows + rows, self.seconds + seconds
                if self.seconds >= 0.8 * TRIAL_SECONDS:
                    best_trial = max(self.rows / self.seconds, self.trial_throughput.get(n_threads, 0.0))
                    self.trial_throughput[n_threads] = best_trial
                    self.finish_trial()
            return
        average = self.throughput.setdefault(n_threads, rows / seconds)
        weight = 1.0 if self.is_proposed else min(1.0, seconds / AVERAGING_SECONDS)
        self.throughput[n_threads] += weight * (rows / seconds - average)
        self.is_proposed = False
        if len(self.candidates) > 1:
            self.choose()
        if self.best != self.previous_best:
            self.comparison_interval = min(self.comparison_interval, CHANGE_INTERVAL_SECONDS)

    def finish_trial(self) -> None:
        """Start the trial of the next candidate, or choose the fastest one after the last trial."""
        self.trials = [n for n in self.trials[1:] if n <= self.max_threads]
        self.rows, self.seconds = 0.0, -WARM_UP_SECONDS
        if not self.trials:
            self.throughput.update(self.trial_throughput)
            self.choose()
            self.is_proposed = True
            interval = INTERVAL_GROWTH * self.comparison_interval or FIRST_INTERVAL_SECONDS
            is_changed = self.best != self.previous_best
            self.comparison_interval = CHANGE_INTERVAL_SECONDS if is_changed else min(interval, MAX_INTERVAL_SECONDS)
            self.work_seconds, self.previous_best = 0.0, self.best

    def choose(self) -> None:
        """Set `best` to the fastest candidate; more threads must be faster by the factor `MIN_SPEEDUP`."""
        self.best = self.candidates[0]
        for n in [n for n in self.candidates if n <= self.max_threads]:
            if self.throughput.get(n, 0.0) > MIN_SPEEDUP * self.throughput.get(self.best, 0.0):
                self.best = n


_tuners: dict[Hashable, ThreadTuner] = {}  # tuners of completed runs, by workload


def borrow_tuner(workload: Hashable, candidates: Sequence[int], limit: Callable[[], int]) -> ThreadTuner:
    """Remove and return the stored tuner for this workload, or return a new tuner if there is none."""
    tuner = _tuners.pop(workload, None)
    return tuner if tuner is not None and tuner.candidates == candidates else ThreadTuner(candidates, limit)


def return_tuner(workload: Hashable, tuner: ThreadTuner) -> None:
    """Store a tuner for the next run with the same workload."""
    _tuners.pop(workload, None)  # move the workload to the end of the dict, whose first entries are deleted below
    _tuners[workload] = tuner
    for oldest in [*_tuners][:-MAX_TUNERS]:
        _tuners.pop(oldest, None)  # no error if another thread has removed the tuner already


def thread_counts(maximum: int) -> list[int]:
    """Return all powers of two below `maximum`, followed by `maximum` itself."""
    return [1 << k for k in range(maximum.bit_length()) if 1 << k < maximum] + [maximum]
