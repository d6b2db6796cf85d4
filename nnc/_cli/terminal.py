"""Terminal output and process signals: escaped control characters, closed streams, and terminating signals."""

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

# Characters that a terminal may interpret as a command, or that change the order of text: all control characters except
# newlines and tabs, and the bidirectional formatting characters (UAX 9).
CONTROL_CHARACTERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def printable(text: object) -> str:
    """Return text for a terminal, with control characters escaped as in Python's literals."""
    return CONTROL_CHARACTERS.sub(lambda match: match[0].encode("unicode_escape").decode(), str(text))


def print_text(text: object = "") -> None:
    """Print text to standard output, with control characters escaped."""
    print(printable(text))


def print_json(value: Any) -> None:
    """Print a value as JSON to standard output, with control characters escaped."""
    import json

    text = json.dumps(value, ensure_ascii=False, indent=2)
    print(CONTROL_CHARACTERS.sub(lambda match: f"\\u{ord(match[0]):04x}", text))


# -------------------------------------------------------------------- standard streams closed at the start


class ClosedOutput(io.TextIOBase):
    """Replacement for a standard output that was closed before the process started (`>&-`)."""

    def write(self, text: str) -> NoReturn:
        """Raise OSError, because the stream is closed."""
        raise OSError(errno.EBADF, "standard output is closed; redirect it to a file or to /dev/null")


def replace_closed_streams() -> None:
    """Replace the standard streams that were closed before the process started.

    For such a stream Python sets sys.stdout to None, and the next opened file would get its file descriptor.
    """
    if None not in (sys.stdin, sys.stdout, sys.stderr):
        return
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    if sys.stdout is None:
        sys.stdout = ClosedOutput()
    if sys.stderr is None:  # otherwise print(..., file=sys.stderr) would write to standard output
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


# --------------------------------------------------------------------------- termination by signals


class TerminatedError(BaseException):
    """Request to terminate the process by a signal; like KeyboardInterrupt, it is not an Exception."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number


@contextmanager
def raise_on_termination() -> Iterator[None]:
    """Raise TerminatedError for SIGTERM and SIGHUP inside a `with` block, so that temporary files are deleted.

    Signals that are ignored (nohup) or have a handler are not changed. A second signal ends the process immediately.
    Outside the main thread this context manager does nothing.
    """
    changed = []

    def handle_signal(number: int, frame: FrameType | None) -> NoReturn:
        signal.signal(number, signal.SIG_DFL)
        raise TerminatedError(number)

    try:
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, handle_signal)
                changed.append(number)
    except ValueError:  # signal handlers can be set only in the main thread
        pass
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)


def terminate_by(signal_number: int) -> int:
    """Send the signal to this process; return the exit status 128 + number if the process survives it."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os.kill(os.getpid(), signal_number)
    return 128 + signal_number
