"""Output to the terminal with escaped control characters, closed standard streams, and terminating signals."""

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

# Characters that are escaped in output: control characters except newline and tab, because a terminal may interpret
# them as commands, and bidirectional formatting characters (UAX 9), because they change the order of the text.
CONTROL_CHARACTERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def printable(text: object) -> str:
    """Return the text with control characters escaped as in Python's string literals."""
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
    """Replacement for the standard output if it was closed before the process started (`>&-` in a shell)."""

    def write(self, text: str) -> NoReturn:
        """Raise OSError, as for any write to a closed stream."""
        raise OSError(errno.EBADF, "standard output is closed; redirect it to a file or to /dev/null")


def replace_closed_streams() -> None:
    """Replace the standard streams that were closed before the process started.

    Python sets such a stream (sys.stdin, sys.stdout or sys.stderr) to None. The next file that is opened would get its
    file descriptor.
    """
    if None not in (sys.stdin, sys.stdout, sys.stderr):
        return
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    if sys.stdout is None:
        sys.stdout = ClosedOutput()
    if sys.stderr is None:  # without standard error, print would write to standard output
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


# --------------------------------------------------------------------------- termination by signals


class TerminatedError(BaseException):
    """Exception for a signal that terminates the process; like KeyboardInterrupt, it is no subclass of Exception."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number


@contextmanager
def raise_on_termination() -> Iterator[None]:
    """Raise TerminatedError for SIGTERM and SIGHUP inside a `with` block, so that temporary files are deleted.

    A signal that is ignored (as by nohup) or already has a handler is not changed. A second signal ends the process
    immediately. Outside the main thread, this context manager does nothing.
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
    """Send a signal to this process; if the process survives, return the exit status 128 + signal number."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os.kill(os.getpid(), signal_number)
    return 128 + signal_number
