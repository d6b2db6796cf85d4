"""Entry point of the command line: runs a command and prints its error messages; arguments.py defines the commands.

Each command is a separate module, which is imported only when the command runs. So `python -m nnc` prints help and
version even in a source folder without the compiled core. A command that needs the core then prints an error message
of one line instead of a traceback.
"""

from __future__ import annotations

import errno
import os
import sys
import warnings
from contextlib import suppress
from functools import partial
from importlib import import_module
from time import monotonic
from typing import TYPE_CHECKING

from nnc._cli.arguments import UsageError, build_parser
from nnc._cli.paths import check_outputs
from nnc._cli.terminal import (
    TerminatedError,
    printable,
    raise_on_termination,
    replace_closed_streams,
    terminate_by,
)

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Sequence


# PyPI names of the packages in the extra [cli], keyed by module name.
EXTRA_PACKAGES = {"polars": "polars", "rich": "rich", "PIL": "Pillow"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments of the command line. Default: the arguments of the process.

    Returns
    -------
    int
        0 after success, 1 after an error (printed in one line to standard error), 2 if the arguments are invalid,
        130 after Ctrl-C, 141 if the reader of standard output has closed the pipe. After SIGTERM and SIGHUP, temporary
        files are deleted and the same signal then ends the process.
    """
    replace_closed_streams()
    _escape_unencodable_characters()
    try:
        with raise_on_termination():
            status = _run(list(sys.argv[1:] if argv is None else argv))
            sys.stdout.flush()
    except SystemExit:  # argparse exits after --help and --version, and for invalid arguments
        _flush()
        raise
    except TerminatedError as error:
        return terminate_by(error.signal_number)
    except BrokenPipeError:
        # The reader of standard output closed the pipe, as in `nnc inspect FILE | head`; do not report an error.
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
    """Parse the arguments of the command line, run the command, and return the exit status."""
    parser = build_parser()
    _complete(parser)
    arguments = parser.parse_args(argv)
    if not hasattr(arguments, "command"):
        parser.print_help(sys.stderr)
        return 2
    arguments.argv, arguments.start_time = argv, monotonic()
    warnings.showwarning = partial(_print_warning, getattr(arguments, "quiet", False))
    try:
        check_outputs(arguments)
        status: int = import_module(f"nnc._cli.{arguments.command}").run(arguments)
    except UsageError as error:
        print(f"nnc {arguments.command}: {printable(error)}; see nnc {arguments.command} --help", file=sys.stderr)
        return 2
    return status


def _complete(parser: ArgumentParser) -> None:
    """Print completions for the shell if the user has pressed the Tab key and argcomplete is installed."""
    if "_ARGCOMPLETE" in os.environ:
        with suppress(ImportError):
            import argcomplete

            argcomplete.autocomplete(parser)


def _escape_unencodable_characters() -> None:
    """Make the standard streams escape characters that do not exist in their encoding, for example in column names."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _print_warning(quiet: bool, message: Warning | str, *_: object) -> None:
    """Print a warning as one line on standard error, unless `quiet` is true."""
    if not quiet:
        print(f"note: {printable(' '.join(str(message).split()))}", file=sys.stderr)


def _message(error: Exception) -> str:
    """Return the message of an error in one line, without the error number that Python adds for an OSError."""
    text = str(error)
    if isinstance(error, MemoryError):
        text = f"there is not enough memory: {text}" if text else "there is not enough memory"
    package = (error.name or "").partition(".")[0] if isinstance(error, ImportError) else ""
    if package in EXTRA_PACKAGES:
        from nnc._utils.packages import install_command

        return f"this command needs {EXTRA_PACKAGES[package]}; install it with {install_command('cli')}"
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror
        if error.errno in (errno.ENOSPC, errno.EDQUOT) and error.filename is None:
            text = "cannot write the output: the disk is full; free some space and run the command again"
        if error.filename is not None and str(error.filename) not in text:
            text += f": {error.filename}"
    return printable(" ".join(text.split()))


def _flush() -> None:
    try:
        sys.stdout.flush()
    except OSError:  # standard output is closed: discard the buffered text
        _discard_output()


def _discard_output() -> None:
    """Redirect standard output to the null device, because Python would fail to flush the stream at exit."""
    with suppress(OSError):  # ignore the error of a stream without a file descriptor
        descriptor = sys.stdout.fileno()
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, descriptor)
        os.close(devnull)
