"""Output to terminals and pipes: escaped control characters, closed streams, and signals that end the process."""

from __future__ import annotations

import errno
import io
import os
import re
import signal
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

# What a terminal may take for a command, or what changes the order of text: control characters but for line ends and
# tabs, and the marks of writing directions (UAX 9).
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def printable(text: object) -> str:
    """Return text for a terminal, with control characters escaped as in Python's literals."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


def say(text: object = "") -> None:
    """Print text to standard output, escaped for a terminal."""
    print(printable(text))


def say_json(value: Any) -> None:
    """Print a value as JSON, escaped for a terminal."""
    import json

    text = json.dumps(value, ensure_ascii=False, indent=2)
    print(CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


# ------------------------------------------------------------------------------------------ closed streams


class ClosedOutput(io.TextIOBase):
    """Standard output that was closed before the process began (`>&-`): each write fails."""

    def write(self, text: str) -> NoReturn:
        raise OSError(errno.EBADF, "standard output is closed; redirect it to a file or to /dev/null")


def replace_closed_streams() -> None:
    """Give the process streams where it has none.

    Python sets sys.stdout to None if its descriptor is closed, and the next file that is opened gets the descriptor.
    """
    if None not in (sys.stdin, sys.stdout, sys.stderr):
        return
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(handle)
    if sys.stdout is None:
        sys.stdout = ClosedOutput()
    if sys.stderr is None:  # or print would write to standard output
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


# ------------------------------------------------------------------------------------------ signals


class TerminatedError(BaseException):
    """A signal asks the process to end; like KeyboardInterrupt, it is no Exception."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def terminating_signals() -> Iterator[None]:
    """Raise TerminatedError for SIGTERM and SIGHUP inside a `with`, so that temporary files are deleted.

    A signal that is ignored (nohup) or handled by the program stays so; a second one ends the process at once. Nothing
    is changed in threads other than the main one.
    """
    changed = []

    def end(number: int, frame: FrameType | None) -> NoReturn:
        signal.signal(number, signal.SIG_DFL)
        raise TerminatedError(number)

    try:
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, end)
                changed.append(number)
    except ValueError:  # this is not the main thread
        pass
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)


def end_by(number: int) -> int:
    """End the process by a signal, as the system does; return the status if it goes on."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os.kill(os.getpid(), number)
    return 128 + number
