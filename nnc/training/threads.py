"""Threads and interrupts during one call of fit.

A team of threads (src/_team.pyx) starts with the call and ends with it. No pool outlives a fit, so nothing sleeps in an
idle process, nothing has to survive a fork and nothing is left at exit; starting a thread costs some 50 microseconds,
and only fits that take much longer use more than one.
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache
from time import monotonic
from typing import TYPE_CHECKING

from nnc import _cpu

if TYPE_CHECKING:
    import signal
    from types import FrameType, TracebackType
else:
    import _signal as signal  # the C module: its Python face turns numbers into enums, 25 microseconds a fit


LATE = 0.4  # the share of a team's time that is lost on late threads from which one thread goes on alone
ALONE_SECONDS = 0.02, 2.0  # at first, and at most: twice as long each time that the team is late again
TRIAL_SECONDS = 0.005  # how long a team works before that is decided, for the first time and after one has been alone


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


class Trial:
    """Whether a team pays: where other processes want the processors, its threads wait for each other most of the time.
    Since their number does not change the result, one goes on alone then, for a while.

    Attributes
    ----------
    alone_until : float
        When the team is to be tried again.
    is_over : bool
        The team has been found to pay.
    """

    def __init__(self) -> None:
        self.alone_until, self.alone_for = 0.0, ALONE_SECONDS[0]
        self.is_over = False
        self.worked = self.waited = (
            0.0  # seconds since that was last decided, and those that a thread waited for others
        )

    def judge(self, now: float, worked: float, waited: float) -> None:
        """Takes account of a slice of the team's work."""
        self.worked += worked
        self.waited += waited
        if self.worked < TRIAL_SECONDS:  # late once, in one of many short epochs, says nothing
            return
        self.is_over = self.waited <= LATE * self.worked
        self.worked = self.waited = 0.0
        if self.is_over:
            self.alone_for = ALONE_SECONDS[0]
        else:
            self.alone_until = now + self.alone_for
            self.alone_for = min(2 * self.alone_for, ALONE_SECONDS[1])


class Interrupt:
    """Inside a `with`, Ctrl-C is noted instead of raised: bool(interrupt) tells.

    A second one, a second or more later, raises KeyboardInterrupt after all, for a callback that hangs. In threads
    other than the main one, and where a program handles SIGINT in its own way, nothing is changed.
    """

    def __init__(self) -> None:
        self._since = 0.0
        self._ours = False

    def __bool__(self) -> bool:
        return self._since > 0

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._since and monotonic() - self._since > 1:
            raise KeyboardInterrupt
        self._since = self._since or monotonic()

    def __enter__(self) -> Interrupt:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            try:
                signal.signal(signal.SIGINT, self._note)
                self._ours = True
            except ValueError:  # not the main thread
                pass
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
