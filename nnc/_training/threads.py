"""Number of threads of a fit, and where they run.

A team of threads (src/team.pxi) starts with a fit and ends with it. Nothing outlives the fit: nothing sleeps in an idle
process, has to survive a fork, or is left at exit. Starting a thread costs about 50 microseconds, so only fits that
take much longer use more than one thread.
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache
from math import inf
from typing import TYPE_CHECKING

from nnc import _cpu

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence


SLICE = 0.05  # seconds that the core runs before Python checks for interrupts and callbacks
WARM_UP_SECONDS = 0.004  # ignore the start of a trial: new threads are being placed on processors
TRIAL_SECONDS = 0.02  # measure each thread count for this long
MIN_TRIAL_SECONDS = 0.01  # do not benchmark thread counts in runs shorter than this
MIN_THREADED_SECONDS = 0.002  # keep shorter runs on one thread
AVERAGING_SECONDS = 0.1  # time constant of the average throughput
MIN_SPEEDUP = 1.03  # required throughput of more threads, relative to fewer
RATE_CHANGE = 1.25  # compare again if the throughput has changed by this factor
COMPARE_SECONDS = 0.5, 10.0  # of work between comparisons: after a change of throughput or choice, and otherwise
MAX_TUNERS = 64  # kinds of work whose tuners are stored


@cache
def may_move() -> bool:
    """Return whether a thread may choose its processors: under a seccomp filter, the call can end the process."""
    try:
        with open("/proc/self/status") as file:  # Linux
            return "\nSeccomp:\t0\n" in file.read()
    except OSError:
        return False


def settle(home: int, caller: int, size: int) -> None:
    """Move the thread to another processor than the caller's, among those that the caller may use.

    Some systems wake a thread on the processor of the thread that woke it, where it waits for milliseconds even if
    other processors are idle.
    """
    if _cpu.processor() != home or not may_move():
        return
    with suppress(Exception):  # placement is only an optimization
        allowed = os.sched_getaffinity(caller)
        if len(allowed) >= size:
            os.sched_setaffinity(0, allowed - {home})


class ThreadTuner:
    """Choose the number of threads by timing the training itself.

    The result of a fit does not depend on the number of threads, so the number may change between slices. Short trials
    propose a candidate; sustained throughput decides, because a trial overestimates multi-threading on a loaded
    machine: the scheduler favours threads that have just slept.

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
    rates : dict of int to float
        Rows per second of each candidate: of its last trial, or averaged over the last `AVERAGING_SECONDS`.
    """

    def __init__(self, candidates: Sequence[int], limit: Callable[[], int] | None = None) -> None:
        self.candidates, self.limit = candidates, limit
        self.best = candidates[0]
        self.rates: dict[int, float] = {}
        self.trials: list[int] = []  # candidates that are still to be tried, the current one first
        self.is_trial = False  # whether the current slice belongs to the trial
        self.is_proposed = False  # whether the best is known only from its trial, which the next slice replaces
        self.rows, self.seconds = 0.0, -WARM_UP_SECONDS  # of the current trial
        self.work_seconds, self.interval = 0.0, 0.0  # since the last comparison, and until the next one
        self.chosen, self.reference = candidates[0], 0.0  # fastest candidate in it, and its throughput

    def next(self, rows_left: float) -> tuple[int, float]:
        """Return the number of threads for the next slice, and its length in seconds."""
        seconds_left = rows_left / self.rates[self.best] if self.best in self.rates else inf
        may_try = seconds_left > MIN_TRIAL_SECONDS and len(self.candidates) > 1
        if may_try and not self.trials and self.work_seconds >= self.interval:
            most = max(self.candidates[0], self.limit() if self.limit else self.candidates[-1])
            self.trials = [n for n in self.candidates if n <= most]
            self.rates = {n: rate for n, rate in self.rates.items() if n <= most}
        self.is_trial = may_try and bool(self.trials)
        if self.is_trial:
            return self.trials[0], -self.seconds if self.seconds < 0 else TRIAL_SECONDS - self.seconds
        return self.best if seconds_left > MIN_THREADED_SECONDS else self.candidates[0], SLICE

    def record(self, n_threads: int, rows: float, seconds: float) -> None:
        """Take account of a slice in which so many threads worked on so many rows."""
        self.work_seconds += seconds
        if self.is_trial:
            if self.seconds < 0:
                self.rates.setdefault(n_threads, rows / seconds)  # an estimate until the trial is over
                self.seconds = min(self.seconds + seconds, 0.0)
                return
            self.rows, self.seconds = self.rows + rows, self.seconds + seconds
            self.rates[n_threads] = self.rows / self.seconds
            if self.seconds >= 0.8 * TRIAL_SECONDS:
                self.finish_trial()
            return
        before = self.rates.setdefault(n_threads, rows / seconds)
        weight = 1.0 if self.is_proposed else min(1.0, seconds / AVERAGING_SECONDS)
        self.rates[n_threads] += weight * (rows / seconds - before)
        self.is_proposed = False
        self.choose()
        if not self.reference / RATE_CHANGE < self.rates.get(self.best, 0.0) < self.reference * RATE_CHANGE:
            self.interval = COMPARE_SECONDS[0]

    def finish_trial(self) -> None:
        """Go on to the next candidate; after the last one, choose the fastest."""
        del self.trials[0]
        self.rows, self.seconds = 0.0, -WARM_UP_SECONDS
        if not self.trials:
            self.choose()
            self.is_proposed = True
            self.interval = COMPARE_SECONDS[self.best == self.chosen]
            self.work_seconds, self.chosen, self.reference = 0.0, self.best, self.rates.get(self.best, 0.0)

    def choose(self) -> None:
        """Set `best` to the candidate with the highest throughput, preferring fewer threads."""
        self.best = self.candidates[0]
        for n in self.candidates:
            if self.rates.get(n, 0.0) > MIN_SPEEDUP * self.rates.get(self.best, 0.0):
                self.best = n


_tuners: dict[Hashable, ThreadTuner] = {}  # of runs that are over, by the kind of work


def borrow_tuner(work: Hashable, candidates: Sequence[int], limit: Callable[[], int]) -> ThreadTuner:
    """Return the tuner of the last run of this kind of work, or a new one. No other run has it meanwhile."""
    tuner = _tuners.pop(work, None)
    return tuner if tuner is not None and tuner.candidates == candidates else ThreadTuner(candidates, limit)


def return_tuner(work: Hashable, tuner: ThreadTuner) -> None:
    """Store a tuner for the next run of this kind of work."""
    _tuners.pop(work, None)  # so that it becomes the last
    _tuners[work] = tuner
    for old in [*_tuners][:-MAX_TUNERS]:
        _tuners.pop(old, None)  # another thread may have removed it


def doubling(most: int) -> list[int]:
    """Return 1, 2, 4 and so on, and `most`."""
    return [1 << k for k in range(most.bit_length()) if 1 << k < most] + [most]
