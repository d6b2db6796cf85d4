"""The command line: runs a command, and says what is to be said where it fails; arguments.py tells what there is.

Each command is a module of its own, loaded when it is asked for: whoever runs `python -m nnc` in the source folder has
no compiled core there, and should get help, version and one clear line about it instead of a traceback.
"""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import suppress
from functools import partial
from importlib import import_module
from time import monotonic
from typing import TYPE_CHECKING

from nnc._cli.arguments import UsageError, parser
from nnc._cli.paths import check_outputs
from nnc._cli.terminal import (
    TerminatedError,
    end_by,
    printable,
    replace_closed_streams,
    terminating_signals,
)

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Sequence


EXTRA = {"polars": "polars", "rich": "rich", "PIL": "Pillow"}  # packages that commands need, as PyPI calls them


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; those of the process by default.

    Returns
    -------
    int
        0 if all is well, 1 after an error (one line on standard error says which), 2 if the arguments are
        wrong, 130 after Ctrl-C, 141 if the reader of standard output went away. SIGTERM and SIGHUP end the process
        by the signal, after temporary files are deleted.
    """
    replace_closed_streams()
    _write_all_characters()
    try:
        with terminating_signals():
            status = _run(list(sys.argv[1:] if argv is None else argv))
            sys.stdout.flush()
    except SystemExit:  # of --help, --version and wrong arguments
        _flush()
        raise
    except TerminatedError as end:
        return end_by(end.number)
    except BrokenPipeError:
        # As with `nnc inspect FILE | head`: the reader has seen enough, which is no error to talk about.
        _discard_output()
        return 141
    except KeyboardInterrupt:
        print("nnc: interrupted", file=sys.stderr)
        status = 130
    except (ImportError, OSError, ValueError, ArithmeticError, MemoryError) as error:
        print(f"nnc: {_message(error)}", file=sys.stderr)
        status = 1
    _flush()
    return status


def _run(argv: list[str]) -> int:
    """Run the command of these arguments and return the exit status."""
    known = parser()
    _complete(known)
    arguments = known.parse_args(argv)
    if not hasattr(arguments, "command"):
        known.print_help(sys.stderr)
        return 2
    arguments.argv, arguments.began = argv, monotonic()
    warnings.showwarning = partial(_tell, getattr(arguments, "quiet", False))
    try:
        check_outputs(arguments)
        status: int = import_module(f"nnc._cli.{arguments.command}").run(arguments)
    except UsageError as error:
        print(f"nnc {arguments.command}: {printable(error)}; see nnc {arguments.command} --help", file=sys.stderr)
        return 2
    return status


def _complete(known: ArgumentParser) -> None:
    """What a shell asks for where somebody presses Tab, if argcomplete is there."""
    if "_ARGCOMPLETE" in os.environ:
        with suppress(ImportError):
            import argcomplete

            argcomplete.autocomplete(known)


def _write_all_characters() -> None:
    """A name of a column that the terminal has no characters for is escaped, and no reason to fail."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _tell(quiet: bool, message: Warning | str, *_: object) -> None:
    """A warning, in a line."""
    if not quiet:
        print(f"note: {printable(' '.join(str(message).split()))}", file=sys.stderr)


def _message(error: Exception) -> str:
    """Return what an error says, in one line, without the number that Python puts before it."""
    text = str(error)
    if isinstance(error, MemoryError):
        text = f"there is not enough memory: {text}" if text else "there is not enough memory"
    package = (error.name or "").partition(".")[0] if isinstance(error, ImportError) else ""
    if package in EXTRA:
        return f'this needs {EXTRA[package]}, which is not there; install it with pip install "nnc-cython[cli]"'
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror
        if error.filename is not None and str(error.filename) not in text:
            text += f": {error.filename}"
    return printable(" ".join(text.split()))


def _flush() -> None:
    try:
        sys.stdout.flush()
    except OSError:  # already reported, or of no use now
        _discard_output()


def _discard_output() -> None:
    """Let what standard output still holds go nowhere, or Python would complain about it at its end."""
    with suppress(OSError):  # of a stream without a descriptor
        number = sys.stdout.fileno()
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, number)
        os.close(devnull)
