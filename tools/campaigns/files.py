"""Kills processes that save, and lets every call of the operating system fail that saving and loading make.

    python tools/campaigns/files.py --kills 300
    python tools/campaigns/files.py --kills 0       # the failing calls alone: some seconds

After a kill at a random moment the file is the old one or the new one, whole, and what the process left beside it is
at most one temporary file. After a call that failed (with each of several errors of the system, or with a MemoryError
or a KeyboardInterrupt) the same holds, the error is an OSError of that class or the MemoryError or KeyboardInterrupt
itself, and nothing is left beside the file; where saving did not raise, the new one is there. POSIX only.

It prints what it did, and exits 1 with findings.
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

OS_CALLS = ("stat", "lstat", "fstat", "readlink", "urandom", "open", "close", "fsync", "chmod", "chown")
OS_CALLS += ("replace", "unlink")
FILE_CALLS = ("write", "flush", "close", "read", "fileno")
ERRNOS = (errno.EIO, errno.ENOSPC, errno.EACCES, errno.EPERM, errno.EINTR, errno.EROFS, errno.EDQUOT, errno.EMFILE)
TEMPORARY = re.compile(r"\.nnc-[0-9a-f]{16}\.tmp")

SAVE_FOR_EVER = """
import sys
from nnc import NeuralNetwork
networks = [NeuralNetwork.load(path) for path in sys.argv[2:]]
print("ready", flush=True)
while True:
    for net in networks:
        net.save(sys.argv[1])
"""


def texts() -> list[str]:
    """Two networks whose files differ in length."""
    return [nnc.NeuralNetwork([8, 40 * n, 4], loss="mse", seed=n).to_json() for n in (1, 3)]


def kills(n: int, seed: int, report: Callable[[str], None]) -> None:
    draw = random.Random(seed)
    whole = texts()
    with TemporaryDirectory() as name:
        folder = Path(name)
        sources = [folder / f"source{i}.json" for i in range(len(whole))]
        for source, text in zip(sources, whole, strict=True):
            source.write_text(text)
        (folder / "saved").mkdir()
        path = folder / "saved" / "net.json"
        nnc.NeuralNetwork.load(sources[0]).save(path)
        amid = 0
        for i in range(n):
            command = [sys.executable, "-P", "-c", SAVE_FOR_EVER, path, *sources]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
                assert child.stdout is not None
                child.stdout.readline()
                time.sleep(draw.random() * 0.03)
                child.send_signal(signal.SIGKILL)
            if path.read_text() not in whole:
                report(f"kill {i}: {path.stat().st_size} bytes that are neither the old nor the new file")
            left = [entry for entry in os.listdir(path.parent) if entry != path.name]
            amid += bool(left)
            if len(left) > 1 or not all(map(TEMPORARY.fullmatch, left)):
                report(f"kill {i}: left {left}")
            for entry in left:
                os.unlink(path.parent / entry)
    print(f"{n} processes killed, {amid} of them with half a file")


class Fails:
    """Counts the calls that saving makes of the system, and lets the one of number `at` raise `error`."""

    def __init__(self, at: int, error: BaseException, late: bool) -> None:
        self.at, self.error, self.late, self.calls, self.name = at, error, late, 0, ""

    def wrapped(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            number, self.calls = self.calls, self.calls + 1
            if number != self.at:
                return function(*arguments, **named)
            self.name = name
            if self.late or name.endswith("close"):  # after the call, as a handler of signals raises; close does close
                with suppress(OSError):
                    result = function(*arguments, **named)
                    if name == "open":  # or it were open for ever
                        result.close()
            raise self.error

        return call

    def opened(self, *arguments: Any, **named: Any) -> Any:
        file = self.open(*arguments, **named)
        return Wrapped(file, self) if isinstance(file, io.IOBase) else file

    @contextmanager
    def around(self) -> Iterator[None]:
        """Replaces the functions of os and the methods of files while it lasts."""
        self.open = self.wrapped("open", open)
        calls = {name: getattr(os, name) for name in OS_CALLS}
        calls["fsync"] = lambda handle: None  # takes long, and is of use where the power fails
        patches = [patch.object(os, name, self.wrapped(f"os.{name}", function)) for name, function in calls.items()]
        patches.append(patch.object(builtins, "open", self.opened))
        for each in patches:
            each.start()
        try:
            yield
        finally:
            for each in reversed(patches):
                each.stop()


class Wrapped:
    """An open file, each call of which may fail."""

    def __init__(self, file: Any, fails: Fails) -> None:
        self.file = file
        for name in FILE_CALLS:
            setattr(self, name, fails.wrapped(f"file.{name}", getattr(file, name)))

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()  # type: ignore[attr-defined]


def errors(codes: Iterable[int]) -> Iterator[BaseException]:
    for code in codes:
        yield OSError(code, os.strerror(code))
    yield MemoryError()
    yield KeyboardInterrupt()


def failures(codes: Iterable[int], report: Callable[[str], None]) -> None:
    """Every call failing in turn, while a new file is saved, an old one replaced (by a link, too), one loaded."""
    old, new = texts()
    network = nnc.from_json(new)
    n = 0
    for action in ("new", "replace", "link", "load"):
        for error in errors(codes):
            for late in (False, True) if not isinstance(error, OSError) else (False,):
                at = 0
                while _fails(action, error, late, at, old, new, network, report):
                    at += 1
                    n += 1
    print(f"{n} failing calls of the system")


def _fails(
    action: str,
    error: BaseException,
    late: bool,
    at: int,
    old: str,
    new: str,
    network: nnc.NeuralNetwork,
    report: Callable[[str], None],
) -> bool:
    """One of them; False where there is no call of that number any more."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "net.json")
        if action != "new":
            path.write_text(old)
        asked = Path(folder, "link") if action == "link" else path
        if action == "link":
            asked.symlink_to("net.json")
        before = sorted(os.listdir(folder))
        fails = Fails(at, error, late)
        raised: BaseException | None = None
        try:
            with fails.around():
                if action == "load":
                    nnc.NeuralNetwork.load(asked)
                else:
                    network.save(asked)
        except BaseException as caught:
            raised = caught
        found = path.read_text() if path.exists() else None
        where = f"{action}, call {at} ({fails.name}), {error!r}{' after it' if late else ''}: "
        if isinstance(error, OSError):
            clean = raised is None or (type(raised) is type(error) and raised.errno == error.errno)  # type: ignore[attr-defined]
        else:
            clean = raised is error or (action == "load" and getattr(raised, "errno", None) == errno.ENOMEM)
        if fails.name and not clean:
            report(where + f"raised {raised!r}")
        if action == "load":
            valid = {old}
        elif raised is None:
            valid = {new}
        else:
            valid = {old, new} if action != "new" else {None, new}
        if found not in valid:
            report(where + f"left {None if found is None else len(found)} bytes")
        if isinstance(error, OSError) and raised is not None and found not in (old, None):
            report(where + "raised, and the new file is there")
        left = set(os.listdir(folder)) - {*before, "net.json"}
        if left and fails.name != "os.unlink":
            report(where + f"left {left}")
        return fails.name != ""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--short", action="store_true", help="one error of the system instead of all")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    found: list[str] = []

    def report(finding: str) -> None:
        found.append(finding)
        print(finding, flush=True)

    failures(ERRNOS[1:2] if options.short else ERRNOS, report)
    kills(options.kills, options.seed, report)
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
