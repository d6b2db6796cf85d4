"""Threads and interrupts during one call of fit.

A team of threads starts with the call and ends with it. No pool outlives a fit, so nothing sleeps in an idle process,
nothing has to survive a fork and nothing is left at exit; starting a thread costs some 50 microseconds, and only fits
that take much longer use more than one.
"""

from __future__ import annotations

import _thread
import os
from contextlib import suppress
from functools import cache
from time import monotonic
from typing import TYPE_CHECKING

from nnc._cpu import processor

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from types import FrameType, TracebackType
else:
    import _signal as signal  # the C module: its Python face turns numbers into enums, 25 microseconds a fit


@cache
def _may_move() -> bool:
    """Whether a thread may choose its processors: under a seccomp filter, asking for it can end the process."""
    try:
        with open("/proc/self/status") as file:  # Linux'
            return "\nSeccomp:\t0\n" in file.read()
    except OSError:
        return False


class Team:
    """Threads that do a piece of work together, again and again.

    Some systems wake a thread on the processor of the one that woke it, even where others are idle, and there it waits
    for milliseconds. So a thread that finds itself on the caller's processor leaves it, where there are enough of them.

    Parameters
    ----------
    n_threads : int
        Threads, the calling one included. `size` says how many there are: fewer where the system refuses more.
    """

    def __init__(self, n_threads: int) -> None:
        self._work: Callable[[int, int], None] | None = None
        self._amount = 0
        self._home = -1  # the processor that the caller is on
        self._caller = _thread.get_native_id() if n_threads > 1 else 0
        self._locks: list[tuple[_thread.LockType, _thread.LockType]] = []  # of each further thread: go, done
        for thread in range(1, n_threads):
            go, done = _thread.allocate_lock(), _thread.allocate_lock()
            go.acquire()
            done.acquire()
            try:
                _thread.start_new_thread(self._member, (thread, go, done))
            except RuntimeError:
                break
            self._locks.append((go, done))
        self.size = 1 + len(self._locks)

    def _member(self, thread: int, go: _thread.LockType, done: _thread.LockType) -> None:
        while True:
            go.acquire()
            if self._work is not None:
                self._move()
                self._work(thread, self._amount)
                done.release()
            else:
                done.release()
                return

    def _move(self) -> None:
        """Moves the thread to another processor than the caller's, of those that the caller may use."""
        if processor() != self._home or not _may_move():
            return
        with suppress(Exception):  # it is but a hint
            allowed = os.sched_getaffinity(self._caller)
            if len(allowed) >= self.size:
                os.sched_setaffinity(0, allowed - {self._home})

    def run(self, work: Callable[[int, int], None] | None, amount: int = 0, size: int | None = None) -> None:
        """Calls work(thread, amount) in thread 0, 1, ... at once, in `size` of them or all, and waits for them; None
        sends the threads home."""
        self._work, self._amount, self._home = work, amount, processor()
        locks = self._locks if size is None else self._locks[: size - 1]
        for go, _ in locks:
            go.release()
        if work is not None:
            work(0, amount)
        for _, done in locks:
            done.acquire()

    def __enter__(self) -> Team:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.run(None)


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
