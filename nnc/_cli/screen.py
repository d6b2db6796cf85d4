"""Progress output of commands on standard error: lines of text, and in a terminal a progress bar.

The package rich draws the bar; the environment variable NO_COLOR switches its colors off. If standard error is a file
or a pipe, a line is printed every few seconds instead. With --quiet nothing is printed.
"""

from __future__ import annotations

import sys
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from nnc._cli.terminal import printable
from nnc._training.live import Display

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

MAX_WATCHED_NETWORKS = 4  # maximum number of networks whose curves a plot shows
LINE_INTERVAL = 5.0  # minimum seconds between two progress lines if standard error is not a terminal


class Screen:
    """Writer of messages to standard error; if `quiet` is true, it prints nothing."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.console = Console(file=sys.stderr, quiet=quiet, highlight=False, markup=False, soft_wrap=True)

    def print(self, text: str = "") -> None:
        """Print a line of text to standard error."""
        self.console.print(printable(text))

    def warn(self, text: str) -> None:
        """Print a highlighted line that begins with "note:"."""
        self.console.print(f"note: {printable(text)}", style="yellow")


class TrainingPlot:
    """Plot of the losses and held-out scores of networks, which `nnc train --watch` redraws twice a second.

    Parameters
    ----------
    screen : Screen
        Output of the command; nothing is drawn if it is quiet.
    """

    def __init__(self, screen: Screen) -> None:
        self.display, self.lock, self.is_quiet = Display(), Lock(), screen.quiet
        self.panels: tuple[dict[str, list[float]], ...] = ({}, {})  # losses and scores of networks, by name
        self.title = ""

    def add(self, network: int, record: Any, title: str) -> None:
        """Add the numbers of an epoch of a network, and redraw the plot if enough time has passed."""
        score = next((name for name in ("val_accuracy", "val_loss") if name in record), None)
        with self.lock:
            self.title = title
            self._append(0, f"loss {network + 1}", record["loss"])
            if score is not None:
                self._append(1, f"{score.removeprefix('val_')} {network + 1}", record[score])
            if self.display.is_due():
                self.show()

    def _append(self, panel: int, name: str, value: float) -> None:
        """Append a value to a curve; only the curves of the last MAX_WATCHED_NETWORKS networks are kept."""
        curves = self.panels[panel]
        curves.setdefault(name, []).append(float(value))
        if len(curves) > MAX_WATCHED_NETWORKS:
            del curves[next(iter(curves))]

    def show(self, is_last: bool = False) -> None:
        """Draw the plot; the last one is also written if standard error is a file."""
        if not self.is_quiet:
            # The curves are in the order of the numbers of the networks, which end their names.
            panels = [
                {name: np.array(curves[name]) for name in sorted(curves, key=lambda name: int(name.split()[-1]))}
                for curves in self.panels
                if curves
            ]
            self.display.show(panels, self.title, is_last=is_last)


class ProgressBar:
    """Progress bar of a training, with a description of the last epoch and the estimated remaining time.

    Parameters
    ----------
    screen : Screen
        Output to which the bar or the progress lines are printed.
    total : int
        Number of epochs of all networks.
    is_hidden : bool, default False
        Whether nothing is shown, because a plot replaces the bar.
    """

    def __init__(self, screen: Screen, total: int, is_hidden: bool = False) -> None:
        self.screen, self.total, self.completed = screen, max(total, 1), 0
        self.start_time = self.line_time = monotonic()  # start of the training, time of the last printed line
        self.lock = Lock()
        self.is_hidden = is_hidden
        self.is_live = screen.console.is_terminal and not screen.quiet and not is_hidden
        self.progress = Progress(
            BarColumn(14), TextColumn("{task.percentage:>3.0f} %  {task.description}"), console=screen.console
        )  # fmt: skip
        self.task = self.progress.add_task("", total=self.total)

    def __enter__(self) -> Self:
        if self.is_live:
            self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.is_live:
            self.progress.stop()

    def advance(self, text: str, epochs: int = 1) -> None:
        """Advance the progress bar by completed or skipped epochs, and show `text` next to it."""
        with self.lock:
            self.completed += epochs
            now = monotonic()
            remaining = (now - self.start_time) * max(self.total - self.completed, 0) / self.completed
            text = f"{text}  {_format_duration(remaining)} left"
            if self.is_live:
                self.progress.update(self.task, completed=self.completed, description=text)
            elif now - self.line_time > LINE_INTERVAL and not self.is_hidden:
                self.line_time = now
                self.screen.print(f"{100 * self.completed / self.total:3.0f} %  {text}")


def _format_duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def format_record(record: Any) -> str:
    """Format the training loss of an epoch, and its accuracy or loss on held-out rows, as text."""
    text = f"loss {record['loss']:.4g}"
    for name in ("val_accuracy", "val_loss"):
        if name in record:
            return f"{text}  held-out {name.removeprefix('val_')} {record[name]:.4g}"
    return text
