"""Threads during one call of fit.

A team of threads (src/_team.pyx) starts with the call and ends with it. No pool outlives a fit, so nothing sleeps in an
idle process, nothing has to survive a fork and nothing is left at exit; starting a thread costs some 50 microseconds,
and only fits that take much longer use more than one.
"""

from __future__ import annotations

import os
from contextlib import suppress
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
BETTER = 1.03  # how much faster a larger number of threads must be
CLEAR = 1.3  # how much faster the best must be to be compared more and more seldom
WAIT = 0.1, 10.0  # seconds until it is compared again, at first and at most
LOSS = 0.01  # the share of the time that comparing may cost
CHANGED = 0.8  # a rate that has fallen to this share, or risen by as much, is a reason to compare at once
WINDOW = 0.02  # seconds over which a rate is taken
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

    Each number has its turns of some milliseconds, in rows a second of the work itself, and the best one goes on. They
    are compared again now and then, the more seldom the clearer it was, and at once when the rate changes: other
    processes come and go, and two processors of a virtual machine are at times two halves of one.

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
        self.turns: list[int] = []  # whose turn it is, in a comparison, and whose come then
        self.found: list[tuple[int, float, float]] = []  # of the turns that are over: the number, rows and seconds
        self.rows = self.seconds = 0.0  # of the turn, or of the window
        self.compared = self.wait = 0.0  # when that was, and how long it is good for

    def again(self, limit: Callable[[], int]) -> Chooser:
        """One for a run of the same work, which goes on from what was found."""
        other = Chooser(self.sizes, limit)
        other.best, other.rates = self.best, self.rates.copy()
        other.compared, other.wait = self.compared, self.wait
        return other

    def next(self, now: float, rows_left: float) -> tuple[int, float]:
        """How many threads are to go on, and for how many seconds, where so many rows are left."""
        left = self.seconds_of(rows_left)
        if not self.turns and len(self.sizes) > 1 and now - self.compared >= self.wait and left > SHORT:
            self.turns = self.order()
            self.rows = self.seconds = 0.0
        if self.turns:
            return self.turns[0], max(self.turn(left) - self.seconds, 1e-4)
        return (self.best if left > SOON else self.sizes[0]), SLICE

    def order(self) -> list[int]:
        """The turns of a comparison, there and back; at first only that of the smallest number, by which can be told
        how long all will take."""
        if self.sizes[0] not in self.rates:
            return [self.sizes[0]]
        most = max(self.sizes[0], self.limit() if self.limit else self.sizes[-1])
        sizes = [size for size in self.sizes if size <= most]
        return sizes + sizes[::-1]

    def seconds_of(self, rows: float) -> float:
        """How long so many rows will take, as far as is known."""
        return rows / self.rates[self.best] if self.best in self.rates else inf

    @staticmethod
    def turn(left: float) -> float:
        """Seconds of a turn, of a run that takes so many."""
        return min(TRY, max(0.01 * left, 1e-4))

    def judge(self, size: int, rows: float, seconds: float, now: float, rows_left: float) -> None:
        """Takes account of a slice of work."""
        self.rows += rows
        self.seconds += seconds
        if not self.turns:
            self.rates.setdefault(size, rows / seconds)
            if self.seconds >= WINDOW:
                self.watch(size, now)
            return
        self.rates[size] = self.rows / self.seconds
        if self.seconds < self.turn(self.seconds_of(rows_left)):
            return
        self.found.append((self.turns.pop(0), self.rows, self.seconds))
        self.rows = self.seconds = 0.0
        if not self.turns:
            self.decide(now)

    def watch(self, size: int, now: float) -> None:
        """Looks at the rate of a window."""
        rate, before = self.rows / self.seconds, self.rates[size]
        self.rows = self.seconds = 0.0
        self.rates[size] = 0.5 * (rate + before)
        if not CHANGED * before <= rate <= before / CHANGED and now - self.compared > WAIT[0]:
            self.wait = 0.0

    def decide(self, now: float) -> None:
        """The end of a comparison."""
        rates: dict[int, float] = {}
        for size, rows, seconds in self.found:  # the better one of its turns: what disturbs one makes it slower
            rates[size] = max(rates.get(size, 0.0), rows / seconds)
        best = self.sizes[0]
        for size, rate in rates.items():
            if rate > BETTER * rates[best]:
                best = size
        others = max((rate for size, rate in rates.items() if size != best), default=0.0)
        if others:
            lost = sum(seconds - rows / rates[best] for _, rows, seconds in self.found)
            is_clear = best == self.best and rates[best] > CLEAR * others
            self.wait = max(min(2 * self.wait, WAIT[1]) if is_clear else 0.0, WAIT[0], lost / LOSS)
            self.compared = now
        self.best = best
        self.rates.update(rates)
        self.found.clear()


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
