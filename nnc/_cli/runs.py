"""Files of a run of `nnc train` in addition to the model: checkpoint of an unfinished run, log, report and provenance.

The log has one JSON object per line:

{"event": "start", "time": "2026-01-31T12:00:00+00:00", "command": "nnc train ...", "SHA-256": "...", "rows": 150}
{"event": "epoch", "network": 0, "epoch": 1, "loss": 0.9, "val_loss": 0.8, "val_accuracy": 0.7, "seconds": 0.1}
{"event": "end", "time": "...", "networks": 16, "seconds": 4.2, "score": 0.93, "complete": true}

If a network for a table stops early, the line of its last epoch also has "skipped_epochs".
"""

from __future__ import annotations

import json
import math
import os
import shlex
from contextlib import contextmanager
from copy import copy
from datetime import UTC, datetime
from importlib.metadata import version
from platform import platform, python_version
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any

from nnc._cli.arguments import UsageError
from nnc._cli.models import refuse_existing
from nnc._cli.terminal import print_text
from nnc._serialization import safetensors
from nnc._serialization.text import other_format
from nnc._utils import disk
from nnc._utils.text_table import aligned
from nnc._version import __version__

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator
    from io import TextIOWrapper

    from nnc._cli.screen import Screen


def provenance(arguments: Namespace, data: str, digest: str) -> dict[str, str]:
    """Return what is needed to reproduce a run: command, versions, platform, and name and checksum of the data."""
    packages = {name: version(name) for name in ("numpy", "scikit-learn", "polars")}
    return {
        "command": shlex.join(["nnc", *arguments.argv]),
        "versions": ", ".join(f"{name} {number}" for name, number in {"nnc": __version__, **packages}.items()),
        "platform": f"Python {python_version()}, {platform(terse=True)}",
        "data": data,
        "SHA-256": digest,
    }


def check_files(arguments: Namespace, unfinished: str) -> None:
    """Check the output files and the checkpoint `unfinished` of a run before it starts.

    An OSError is raised if an output exists and --force is not given, if the folder of an output does not exist, or
    if there is no checkpoint to resume from. A UsageError is raised if the extension of the model file is that of
    another format. With --force, the checkpoint of an earlier run is deleted.
    """
    is_safetensors = arguments.images is not None and safetensors.is_path(arguments.output)
    if not is_safetensors and (other := other_format(arguments.output)):
        raise UsageError(f"--output must have the extension .json, got {arguments.output}; {other[0]}")
    if arguments.resume:
        if not os.path.exists(unfinished):
            raise FileNotFoundError(f"--resume requires the checkpoint of an unfinished run: there is no {unfinished}")
    elif os.path.exists(unfinished) and not arguments.force:
        raise FileExistsError(
            f"{unfinished} is the checkpoint of an unfinished run; continue it with --resume, or start again with "
            "--force"
        )
    else:
        for path in (arguments.output, arguments.log, arguments.report):
            refuse_existing(path, arguments.force)
        if os.path.exists(unfinished):
            os.remove(unfinished)
    for path in (arguments.output, arguments.log, arguments.report):
        folder = os.path.dirname(path or "")
        if folder and not os.path.isdir(folder):
            raise FileNotFoundError(f"cannot write {path}: there is no folder {folder!r}; create it first")
        if path is not None and os.path.isdir(path):
            raise IsADirectoryError(f"{path} is a folder; add the name of a file in it")


def count_trained_networks(unfinished: str) -> int:
    """Return the number of trained networks in the checkpoint of a run, or 0 if there is no checkpoint."""
    if not os.path.exists(unfinished):
        return 0
    with disk.open_binary(unfinished, "unfinished model") as file:
        try:
            networks = json.load(file)["networks"]
            if isinstance(networks, list):
                return len(networks)
        except (KeyError, TypeError, ValueError, RecursionError):
            pass
    raise ValueError(f"{unfinished} is damaged; start again with --force and without --resume")


def show_report(model: Any, arguments: Namespace, origin: dict[str, str], data: str = "") -> None:
    """Write the report of a saved model to the file of --report, and print it unless --quiet is given.

    Parameters
    ----------
    model : TableEstimator or Forecaster
    arguments : Namespace
        Arguments of the command.
    origin : dict
        Result of `provenance`.
    data : str
        End of the printed command that uses the model.
    """
    if arguments.quiet and arguments.report is None:
        return
    # The report contains the sizes of all exports, which take long for tables with many columns.
    report = model.report()
    if arguments.report is not None:
        page = copy(report)
        page.facts = {**report.facts, **origin}
        page.save(arguments.report)
    if not arguments.quiet:
        print_text(report)
        print_text()
        print_text("\n".join(aligned(list(origin.items()))))
        print_text()
        print_text(f"saved to {arguments.output}; to use it: nnc predict {shlex.quote(arguments.output)}{data}")


def report_end(is_complete: bool, content: str, arguments: Namespace, unfinished: str, screen: Screen) -> int:
    """Return the exit status of a run, and print a warning if --max-seconds or Ctrl-C has ended the run early.

    Parameters
    ----------
    is_complete : bool
        Whether all networks or epochs were trained. If true, nothing is printed.
    content : str
        Description of the saved model, such as "3 of 16 networks".
    arguments : Namespace
        Arguments of the command.
    unfinished : str
        Path of the checkpoint of the run. The file is deleted if --max-seconds has ended the run.
    screen : Screen
        Output for the warning.
    """
    if is_complete:
        return 0
    if arguments.max_seconds is not None and monotonic() - arguments.start_time >= arguments.max_seconds:
        screen.warn(f"stopped after {arguments.max_seconds:g} seconds: saved the best model so far ({content})")
        if os.path.exists(unfinished):
            os.remove(unfinished)
        return 0
    screen.warn(f"interrupted: saved the best model so far ({content}) to {arguments.output}")
    if os.path.exists(unfinished):
        screen.warn("to continue the training, run the same command with --resume")
    return 130


# --------------------------------------------------------------------------------- log of a run


class RunLog:
    """Log of a run: one line of JSON for each event, flushed at once. If `file` is None, nothing is written."""

    def __init__(self, file: TextIOWrapper | None) -> None:
        self.file, self.lock = file, Lock()

    def write(self, event: str, **facts: Any) -> None:
        """Write a line for an event. NaN and infinity become null, because they do not exist in JSON."""
        if self.file is None:
            return
        plain = {key: None if isinstance(x, float) and not math.isfinite(x) else x for key, x in facts.items()}
        with self.lock:  # lock, because several threads may write log lines at once
            self.file.write(json.dumps({"event": event, **plain}, ensure_ascii=False) + "\n")
            self.file.flush()

    def epoch(self, network: int, record: Any) -> None:
        """Write a log line with the loss, metrics and duration of an epoch of a network."""
        numbers = {name: float(value) for name, value in record.numbers().items()}
        self.write("epoch", network=network, epoch=int(record["epoch"]), **numbers)


@contextmanager
def open_log(path: str | None, append: bool) -> Iterator[RunLog]:
    """Open the log file of a run and yield its RunLog; if `append` is true, existing lines are preserved."""
    if path is None:
        yield RunLog(None)
        return
    with open(path, "a" if append else "w", encoding="utf-8") as file:
        yield RunLog(file)


def current_time() -> str:
    """Return the current time (UTC) as text in ISO 8601 format."""
    return datetime.now(UTC).isoformat(timespec="seconds")
