"""What a run of `nnc train` leaves beside its model: what it can be made again from, a file to go on from where it was
ended, and a log of JSON lines for machines.

{"event": "start", "time": "2026-01-31T12:00:00+00:00", "command": [...], "nnc": "0.2.0", "data": {...}}
{"event": "epoch", "network": 0, "epoch": 1, "loss": 0.9, "val_loss": 0.8, "val_accuracy": 0.7, "seconds": 0.1}
{"event": "end", "time": "...", "networks": 16, "seconds": 4.2, "score": 0.93, "interrupted": false}

The last epoch of a network of a table that is past its best has "spared", too: the epochs that it does not need.
"""

from __future__ import annotations

import json
import math
import os
import shlex
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from platform import platform, python_version
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any

from nnc._cli.models import refuse_old
from nnc._utils import disk
from nnc._version import __version__

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator
    from io import TextIOWrapper

    from nnc._cli.screen import Screen


def provenance(arguments: Namespace, data: str, digest: str) -> dict[str, str]:
    """What a run can be made again from."""
    packages = {name: version(name) for name in ("numpy", "scikit-learn", "polars")}
    return {
        "command": shlex.join(["nnc", *arguments.argv]),
        "versions": ", ".join(f"{name} {number}" for name, number in {"nnc": __version__, **packages}.items()),
        "platform": f"Python {python_version()}, {platform(terse=True)}",
        "data": data,
        "SHA-256": digest,
    }


def check_files(arguments: Namespace, unfinished: str) -> None:
    """Before anything is done: that nothing is written over, and that there is something to go on from."""
    if arguments.resume:
        if not os.path.exists(unfinished):
            raise FileNotFoundError(f"--resume: there is no {unfinished}, which a run that was ended leaves")
    elif os.path.exists(unfinished) and not arguments.force:
        raise FileExistsError(
            f"{unfinished} is from a run that was ended: go on with --resume, or begin anew with --force"
        )
    else:
        for path in (arguments.output, arguments.log, arguments.report):
            refuse_old(path, arguments.force)
        if os.path.exists(unfinished):
            os.remove(unfinished)
    for path in (arguments.output, arguments.log, arguments.report):
        folder = os.path.dirname(path or "")
        if folder and not os.path.isdir(folder):
            raise FileNotFoundError(f"there is no folder {folder!r} to write {path} in; make it first")
        if path is not None and os.path.isdir(path):
            raise IsADirectoryError(f"{path} is a folder; add the name of a file in it")


def networks_in(unfinished: str) -> int:
    """How many networks are done in the file that a run goes on from."""
    if not os.path.exists(unfinished):
        return 0
    with disk.opened(unfinished, "unfinished model") as file:
        try:
            networks = json.load(file)["networks"]
            if isinstance(networks, list):
                return len(networks)
        except (KeyError, TypeError, ValueError, RecursionError):
            pass
    raise ValueError(f"{unfinished} is damaged, so the run cannot go on: begin anew with --force and without --resume")


def ended(complete: bool, kept: str, arguments: Namespace, unfinished: str, screen: Screen) -> int:
    """Says what is kept of a run that was ended before; returns the exit status."""
    if complete:
        return 0
    if arguments.max_seconds is not None and monotonic() - arguments.began >= arguments.max_seconds:
        screen.warn(f"ended after {arguments.max_seconds:g} seconds: the model is {kept}")
        if os.path.exists(unfinished):
            os.remove(unfinished)
        return 0
    screen.warn(f"interrupted: the best so far, {kept}, is kept in {arguments.output}")
    if os.path.exists(unfinished):
        screen.warn("to go on, run the same command with --resume")
    return 130


# ------------------------------------------------------------------------------------------ log


class RunLog:
    """Writes a line for each event, at once; nothing where there is no file."""

    def __init__(self, file: TextIOWrapper | None) -> None:
        self.file, self.lock = file, Lock()

    def write(self, event: str, **facts: Any) -> None:
        """One line. What is not finite is null, since JSON has no NaN."""
        if self.file is None:
            return
        plain = {key: None if isinstance(x, float) and not math.isfinite(x) else x for key, x in facts.items()}
        with self.lock:  # networks are trained in several threads
            self.file.write(json.dumps({"event": event, **plain}, ensure_ascii=False) + "\n")
            self.file.flush()

    def epoch(self, network: int, record: Any) -> None:
        """An epoch of a network is over."""
        numbers = {name: float(value) for name, value in record.numbers().items()}
        self.write("epoch", network=network, epoch=int(record["epoch"]), **numbers)


@contextmanager
def logging(path: str | None, goes_on: bool) -> Iterator[RunLog]:
    """The log of a run in the file of that path; behind what is there, where the run goes on."""
    if path is None:
        yield RunLog(None)
        return
    with open(path, "a" if goes_on else "w", encoding="utf-8") as file:
        yield RunLog(file)


def now() -> str:
    """The time, as logs have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
