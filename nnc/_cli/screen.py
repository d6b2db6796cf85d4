"""Progress output of commands on standard error: lines of text, and in a terminal a progress bar.

The package rich draws the bar; the environment variable NO_COLOR switches its colors off. If standard error is a file
or a pipe, a line is printed every few seconds instead. With --quiet nothing is printed.
"""

from __future__ import annotations

import sys
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from nnc._cli.terminal import printable

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

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


class ProgressBar:
    """Progress bar of a training, with a description of the last epoch and the estimated remaining time.

    Parameters
    ----------
    screen : Screen
        Output to which the bar or the progress lines are printed.
    total : int
        Number of epochs of all networks.
    """

    def __init__(self, screen: Screen, total: int) -> None:
        self.screen, self.total, self.completed = screen, max(total, 1), 0
        self.start_time = self.line_time = monotonic()  # start of the training, time of the last printed line
        self.lock = Lock()
        self.is_live = screen.console.is_terminal and not screen.quiet
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
            elif now - self.line_time > LINE_INTERVAL:
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
