"""Kill processes while they save, and simulate failures of each system call of saving and loading.

    python tools/campaigns/files.py --kills 300
    python tools/campaigns/files.py --kills 0       # only the failing calls, which takes a few seconds

After a kill at a random time the complete old file or the complete new file exists, and at most one temporary file next
to it.

A call fails with each of several errors of the operating system, with a MemoryError or with a KeyboardInterrupt. Then
the complete old file or the complete new file exists, and no temporary file. Saving must raise an OSError of the same
class, or the MemoryError or KeyboardInterrupt itself. If saving raises nothing, the new file must exist.

The campaign needs POSIX. It prints the number of trials and the findings, and exits with status 1 if there are any.
"""

import argparse
import builtins
import errno
import io
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import nnc

# Functions of the module os and methods of files that may fail.
OS_CALLS = ("stat", "lstat", "fstat", "readlink", "urandom", "open", "close", "fsync", "chmod", "chown")
OS_CALLS += ("replace", "unlink")
FILE_CALLS = ("write", "flush", "close", "read", "fileno")
ERRNOS = (errno.EIO, errno.ENOSPC, errno.EACCES, errno.EPERM, errno.EINTR, errno.EROFS, errno.EDQUOT, errno.EMFILE)
TEMPORARY_NAME = re.compile(r"\.nnc-[0-9a-f]{16}\.tmp")

# Program that saves two networks to the same file in turn, until it is killed.
SAVE_FOREVER = """
import sys
from nnc import NeuralNetwork
networks = [NeuralNetwork.load(path) for path in sys.argv[2:]]
print("ready", flush=True)
while True:
    for net in networks:
        net.save(sys.argv[1])
"""


def model_texts() -> list[str]:
    """Return the files of two networks, which differ in length."""
    return [nnc.NeuralNetwork([8, 40 * n, 4], loss="mse", seed=n).to_json() for n in (1, 3)]


def kill_processes(n: int, seed: int, report: Callable[[str], None]) -> None:
    """Kill n processes that save, each at a random time, and check the files."""
    random_numbers = random.Random(seed)
    complete = model_texts()
    with TemporaryDirectory() as name:
        folder = Path(name)
        sources = [folder / f"source{i}.json" for i in range(len(complete))]
        for source, text in zip(sources, complete, strict=True):
            source.write_text(text)
        (folder / "saved").mkdir()
        path = folder / "saved" / "net.json"
        nnc.NeuralNetwork.load(sources[0]).save(path)
        interrupted = 0
        for i in range(n):
            command = [sys.executable, "-P", "-c", SAVE_FOREVER, path, *sources]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
                assert child.stdout is not None
                child.stdout.readline()
                time.sleep(random_numbers.random() * 0.03)
                child.send_signal(signal.SIGKILL)
            if path.read_text() not in complete:
                report(f"kill {i}: {path.stat().st_size} bytes that are neither the old nor the new file")
            leftover = [entry for entry in os.listdir(path.parent) if entry != path.name]
            interrupted += bool(leftover)
            if len(leftover) > 1 or not all(map(TEMPORARY_NAME.fullmatch, leftover)):
                report(f"kill {i}: unexpected files {leftover}")
            for entry in leftover:
                os.unlink(path.parent / entry)
    print(f"{n} processes killed, {interrupted} of them left a temporary file")


class SystemCalls:
    """Counter of system calls that raises an error in one of them.

    Parameters
    ----------
    failing : int
        Index of the call that fails.
    error : BaseException
        Exception to raise.
    late : bool
        Whether to raise the exception after the call has succeeded, like a signal handler.

    Attributes
    ----------
    name : str
        Name of the function that failed, or "" if there were not enough calls.
    """

    def __init__(self, failing: int, error: BaseException, late: bool) -> None:
        self.failing, self.error, self.late, self.calls, self.name = failing, error, late, 0, ""

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that counts its calls and may fail."""

        def call(*arguments: Any, **keywords: Any) -> Any:
            number, self.calls = self.calls, self.calls + 1
            if number != self.failing:
                return function(*arguments, **keywords)
            self.name = name
            if self.late or name.endswith("close"):  # a failing call of close must close the file, as in reality
                with suppress(OSError):
                    result = function(*arguments, **keywords)
                    if name == "open":  # close the file here, because the caller does not receive it
                        result.close()
            raise self.error

        return call

    def open_file(self, *arguments: Any, **keywords: Any) -> Any:
        """Open a file whose methods are counted and may fail."""
        file = self.counted_open(*arguments, **keywords)
        return CountedFile(file, self) if isinstance(file, io.IOBase) else file

    @contextmanager
    def patched(self) -> Iterator[None]:
        """Replace the functions of os and the methods of files inside a with statement."""
        self.counted_open = self.wrap("open", open)
        calls = {name: getattr(os, name) for name in OS_CALLS}
        calls["fsync"] = lambda handle: None  # fsync is slow, and protects only against power failures
        patches = [patch.object(os, name, self.wrap(f"os.{name}", function)) for name, function in calls.items()]
        patches.append(patch.object(builtins, "open", self.open_file))
        for replacement in patches:
            replacement.start()
        try:
            yield
        finally:
            for replacement in reversed(patches):
                replacement.stop()


class CountedFile:
    """File whose method calls are counted and may fail."""

    def __init__(self, file: Any, calls: SystemCalls) -> None:
        self.file = file
        for name in FILE_CALLS:
            setattr(self, name, calls.wrap(f"file.{name}", getattr(file, name)))

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()  # type: ignore[attr-defined]


def errors(codes: Iterable[int]) -> Iterator[BaseException]:
    """Yield the exceptions to be raised: an OSError for each errno, MemoryError and KeyboardInterrupt."""
    for code in codes:
        yield OSError(code, os.strerror(code))
    yield MemoryError()
    yield KeyboardInterrupt()


def fail_each_call(codes: Iterable[int], report: Callable[[str], None]) -> None:
    """Let each call fail in turn: for a new file, a replaced file, a file behind a symbolic link, and when loading."""
    old, new = model_texts()
    network = nnc.from_json(new)
    n = 0
    for action in ("new", "replace", "link", "load"):
        for error in errors(codes):
            for late in (False, True) if not isinstance(error, OSError) else (False,):
                failing = 0
                while _fail_call(action, error, late, failing, old, new, network, report):
                    failing += 1
                    n += 1
    print(f"{n} failing system calls")


def _fail_call(
    action: str,
    error: BaseException,
    late: bool,
    failing: int,
    old: str,
    new: str,
    network: nnc.NeuralNetwork,
    report: Callable[[str], None],
) -> bool:
    """Run an action in which one call fails, and check its effects; return False if there were not enough calls."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "net.json")
        if action != "new":
            path.write_text(old)
        target = Path(folder, "link") if action == "link" else path
        if action == "link":
            target.symlink_to("net.json")
        before = sorted(os.listdir(folder))
        calls = SystemCalls(failing, error, late)
        raised: BaseException | None = None
        try:
            with calls.patched():
                if action == "load":
                    nnc.NeuralNetwork.load(target)
                else:
                    network.save(target)
        except BaseException as caught:
            raised = caught
        content = path.read_text() if path.exists() else None
        trial = f"{action}, call {failing} ({calls.name}), {error!r}{' after the call' if late else ''}: "
        if isinstance(error, OSError):
            is_expected = raised is None or (type(raised) is type(error) and raised.errno == error.errno)  # type: ignore[attr-defined]
        else:
            is_expected = raised is error or (action == "load" and getattr(raised, "errno", None) == errno.ENOMEM)
        if calls.name and not is_expected:
            report(trial + f"raised {raised!r}")
        if action == "load":
            valid = {old}
        elif raised is None:
            valid = {new}
        else:
            valid = {old, new} if action != "new" else {None, new}
        if content not in valid:
            report(trial + f"the file has {None if content is None else len(content)} bytes")
        if isinstance(error, OSError) and raised is not None and content not in (old, None):
            report(trial + "saving raised an exception, but the new file exists")
        leftover = set(os.listdir(folder)) - {*before, "net.json"}
        if leftover and calls.name != "os.unlink":
            report(trial + f"unexpected files {leftover}")
        return calls.name != ""


def main(arguments: list[str] | None = None) -> int:
    """Run the campaign and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300, help="processes to kill (default: %(default)s)")
    parser.add_argument(
        "--short", action="store_true", help="simulate one error of the operating system instead of all"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the times of kills (default: %(default)s)")
    options = parser.parse_args(arguments)
    findings: list[str] = []

    def report(finding: str) -> None:
        findings.append(finding)
        print(finding, flush=True)

    fail_each_call(ERRNOS[1:2] if options.short else ERRNOS, report)
    kill_processes(options.kills, options.seed, report)
    return bool(findings)


if __name__ == "__main__":
    sys.exit(main())
