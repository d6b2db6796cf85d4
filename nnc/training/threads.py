"""Threads during one call of fit.

A team of threads (src/_team.pyx) starts with the call and ends with it. No pool outlives a fit, so nothing sleeps in an
idle process, nothing has to survive a fork and nothing is left at exit; starting a thread costs some 50 microseconds,
and only fits that take much longer use more than one.
"""

from __future__ import annotations

import os
from contextlib import suppress
from copy import copy
from functools import cache
from math import inf
from typing import TYPE_CHECKING, Any

from nnc import _cpu

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


SLICE = 0.05  # seconds that a run goes on for, before it is looked at
TRY = 0.002  # seconds that a number of threads is tried for, at most; of a run that is short, a hundredth
SHORT = 0.01  # seconds: what is over by then is not worth a trial
SOON = 0.002  # seconds: nor what is over by then the start of a thread
WINDOW = 0.02  # seconds of work after which is decided anew: some turns of a scheduler
MEMORY = 0.1  # seconds of work, the last ones, that a rate is the mean of
BETTER = 1.03  # how much faster a larger number of threads must be
CLEAR = 1.3  # how much faster the best must be to be compared more and more seldom
WAIT = 0.1, 10.0  # seconds until it is compared again, at first and at most
LOSS = 0.01  # the share of the time that comparing may cost
CHANGED = 0.8  # a rate that has fallen to this share, or risen by as much, is a reason to compare soon
KEPT = 64  # kinds of work for which is remembered what was found


@cache
def may_move() -> bool:
    """Whether a thread may choose its processors: under a seccomp filter, asking for it can end the process."""
    try:
        with open("/proc/self/status") as file:  # Linux'
            return "\nSeccomp:\t0\n" in file.read()
    except OSError:
        return False


def settle(home: int, caller: int, size: int) -> None:
    """Moves the thread to another processor than the caller's, of those that the caller may use.

    Some systems wake a thread on the processor of the one that woke it, even where others are idle, and there it waits
    for milliseconds.
    """
    if _cpu.processor() != home or not may_move():
        return
    with suppress(Exception):  # it is but a hint
        allowed = os.sched_getaffinity(caller)
        if len(allowed) >= size:
            os.sched_setaffinity(0, allowed - {home})


class Chooser:
    """How many threads are fastest, found by measuring while they work: their number does not change the result.

    A turn of some milliseconds nominates, and the work that follows decides. Threads that have slept are preferred by
    schedulers, so the turn of a team that shares its processors with other processes is faster than what comes after
    it. What goes on is measured all the time, in rows a second of the work itself, and makes place as soon as another
    number is known to be faster. Those that do not work have turns now and then, the more seldom the clearer they are
    behind, and soon when the rate changes: other processes come and go, and two processors of a virtual machine are at
    times two halves of one.

    Parameters
    ----------
    sizes : sequence of int
        The numbers to choose from, the smallest first.
    limit : callable, optional
        Says how many there may be at a time.
    """

    def __init__(self, sizes: Sequence[int], limit: Callable[[], int] | None = None) -> None:
        self.sizes, self.limit = sizes, limit
        self.best = sizes[0]
        self.rates: dict[int, float] = {}  # rows a second, of each number that has worked
        self.known: dict[int, float] = {}  # seconds of work that this is the mean of
        self.turns: list[int] = []  # whose turn it is, in a comparison, and whose come then
        self.found: list[tuple[int, float, float]] = []  # of the turns that are over: the number, rows and seconds
        self.waking: list[tuple[float, float]] = []  # rows and seconds of what went before them
        self.is_awake = False  # whether the one whose turn it is has begun to count
        self.rows = self.seconds = 0.0  # of the turn, or of the window
        self.compared = self.wait = 0.0  # when that was, and how long it is good for
        self.lost = self.worked = 0.0  # seconds that it has cost, and those of work since
        self.usual = 0.0  # the rate of the best then
        self.on_trial = False  # it has been nominated, and no window of work has passed since
        self.met: set[int] = set()  # those that have had turns
        self.is_first = False  # one of them in the last comparison for the first time

    def again(self, limit: Callable[[], int]) -> Chooser:
        """One for a run of the same work, which goes on from what was found."""
        other = copy(self)
        other.limit, other.rates, other.known = limit, self.rates.copy(), self.known.copy()
        other.turns, other.found, other.waking, other.is_awake, other.met = [], [], [], False, self.met.copy()
        if self.turns:
            other.rows = other.seconds = 0.0
        return other

    def next(self, now: float, rows_left: float) -> tuple[int, float]:
        """How many threads are to go on, and for how many seconds, where so many rows are left."""
        left = self.seconds_of(rows_left)
        if not self.turns and len(self.sizes) > 1 and left > SHORT and self.is_due(now):
            self.begin(now)
        if self.turns:
            return self.turns[0], max(self.turn(left, self.turns[0]) - self.seconds, 1e-4)
        if left <= SOON:
            return self.sizes[0], SLICE
        return self.best, SLICE if self.known.get(self.best, WINDOW) >= WINDOW else WINDOW

    def is_due(self, now: float) -> bool:
        """Whether it is time for a comparison."""
        return now - self.compared >= self.wait and LOSS * self.worked >= self.lost

    def begin(self, now: float) -> None:
        """A comparison begins, with turns there and back of all but the best, which is measured as it is; at first with
        a single one of the smallest number, by which can be told how long all will take."""
        self.compared = now
        most = max(self.sizes[0], self.limit() if self.limit else self.sizes[-1])
        for size in [size for size in self.rates if size > most]:
            del self.rates[size]
            self.known.pop(size, None)
        if self.best > most:
            self.best = self.sizes[0]
        self.rows = self.seconds = 0.0
        if self.sizes[0] not in self.rates:
            self.turns = [self.sizes[0]]
            return
        is_measured = self.known.get(self.best, 0.0) >= WINDOW
        sizes = [size for size in self.sizes if size <= most and not (size == self.best and is_measured)]
        self.turns = sizes + sizes[::-1]
        others = max((rate for size, rate in self.rates.items() if size != self.best), default=inf)
        is_clear = self.rates[self.best] > CLEAR * others
        self.wait = max(min(2 * self.wait, WAIT[1]) if is_clear else 0.0, WAIT[0])

    def seconds_of(self, rows: float) -> float:
        """How long so many rows will take, as far as is known."""
        return rows / self.rates[self.best] if self.best in self.rates else inf

    @staticmethod
    def turn(left: float, size: int) -> float:
        """Seconds of a turn, or of each half of a team's, of a run that takes so many."""
        return min(TRY, max(0.01 * left, 1e-4)) / min(size, 2)

    def judge(self, size: int, rows: float, seconds: float, now: float, rows_left: float) -> None:
        """Takes account of a slice of work."""
        self.worked += seconds
        if not self.turns:
            self.learn(size, rows, seconds)
            if size == self.best:
                self.rows += rows
                self.seconds += seconds
                if self.seconds >= WINDOW:
                    self.decide()
            return
        if size > 1 and not self.is_awake:  # in a first half threads wake up, and may meet their memory
            self.is_awake = True
            self.waking.append((rows, seconds))
            return
        if size not in self.rates:  # the run may end before the turn does
            self.rates[size], self.known[size] = rows / seconds, seconds
        self.rows += rows
        self.seconds += seconds
        if self.seconds < self.turn(self.seconds_of(rows_left), size):
            return
        self.found.append((self.turns.pop(0), self.rows, self.seconds))
        self.rows, self.seconds, self.is_awake = 0.0, 0.0, False
        if not self.turns:
            self.nominate(now)

    def learn(self, size: int, rows: float, seconds: float) -> None:
        """Takes what a number has done into its rate."""
        known = min(self.known.get(size, 0.0), MEMORY)
        self.rates[size] = (self.rates.get(size, 0.0) * known + rows) / (known + seconds)
        self.known[size] = known + seconds

    def fastest(self) -> int:
        """The number with the best rate, a larger one only where that is clearly better."""
        best = self.sizes[0]
        for size in self.sizes:
            if self.rates.get(size, 0.0) > BETTER * self.rates.get(best, 0.0):
                best = size
        return best

    def nominate(self, now: float) -> None:
        """The end of a comparison. Of a number's turns the better one counts: the first one of a team has its threads
        placed."""
        sizes = {size for size, _, _ in self.found}
        self.is_first = not sizes <= self.met
        self.met |= sizes
        for size in sizes:
            self.rates[size], self.known[size] = max((r / s, s) for number, r, s in self.found if number == size)
        before, self.best = self.best, self.fastest()
        self.on_trial = self.best != before
        if len(self.rates) > 1:
            turns = [(rows, seconds) for _, rows, seconds in self.found]
            self.lost = sum(max(0.0, s - r / self.rates[self.best]) for r, s in turns + self.waking)
            if self.is_first:  # threads are being placed, others' are awake still: it will not be so again
                self.lost = min(self.lost, TRY)
            self.compared, self.worked, self.usual = now, 0.0, self.rates[self.best]
        self.found.clear()
        self.waking.clear()

    def decide(self) -> None:
        """The end of a window of work."""
        before, self.best = self.best, self.fastest()
        rate = self.rates[self.best]
        if self.best != before:
            self.known[self.best] = min(self.known[self.best], WINDOW)  # it is long ago
            self.usual = rate
            if self.on_trial and not self.is_first:
                self.lost += max(0.0, self.seconds - self.rows / rate)
            else:  # for good, or by a disturbance that is over soon
                self.wait = WAIT[0]
        elif not CHANGED * self.usual <= rate <= self.usual / CHANGED:
            self.wait = WAIT[0]
        self.on_trial = False
        self.rows = self.seconds = 0.0


_found: dict[Any, Chooser] = {}  # by the kind of work, what the last run of it has found


def chooser(work: Any, sizes: Sequence[int], limit: Callable[[], int]) -> Chooser:
    """One for work of this kind, with what is known of it."""
    known = _found.get(work)
    return Chooser(sizes, limit) if known is None or known.sizes != sizes else known.again(limit)


def remember(work: Any, found: Chooser) -> None:
    """Keeps what a run has found for those to come."""
    if found.compared:
        _found.pop(work, None)  # so that the last comes last
        _found[work] = found
        for old in [*_found][:-KEPT]:  # other threads do the same
            _found.pop(old, None)


def doubling(most: int) -> list[int]:
    """1, 2, 4 and so on, and the most."""
    return [1 << k for k in range(most.bit_length()) if 1 << k < most] + [most]
