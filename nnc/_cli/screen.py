"""What commands say while they work, on standard error: plain lines, and in a terminal a bar that moves (rich).

NO_COLOR and --quiet are heeded; a file or a pipe gets a line now and then.
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

PACE = 5.0  # seconds between two lines where nothing moves


class Screen:
    """Where lines go."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.console = Console(file=sys.stderr, quiet=quiet, highlight=False, markup=False, soft_wrap=True)

    def say(self, text: str = "") -> None:
        """A line."""
        self.console.print(printable(text))

    def warn(self, text: str) -> None:
        """A line that stands out."""
        self.console.print(f"note: {printable(text)}", style="yellow")


class Bar:
    """How far a training is: a bar with what was last heard, and the time that is left.

    Parameters
    ----------
    screen : Screen
    total : int
        Epochs, of all networks.
    """

    def __init__(self, screen: Screen, total: int) -> None:
        self.screen, self.total, self.done = screen, max(total, 1), 0
        self.began = self.told = monotonic()
        self.lock = Lock()
        self.live = screen.console.is_terminal and not screen.quiet
        self.shown = Progress(
            BarColumn(14), TextColumn("{task.percentage:>3.0f} %  {task.description}"), console=screen.console
        )  # fmt: skip
        self.task = self.shown.add_task("", total=self.total)

    def __enter__(self) -> Self:
        if self.live:
            self.shown.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.live:
            self.shown.stop()

    def tell(self, text: str, epochs: int = 1) -> None:
        """An epoch is over, or as many as need not be any more."""
        with self.lock:
            self.done += epochs
            now = monotonic()
            left = (now - self.began) * max(self.total - self.done, 0) / self.done
            text = f"{text}  {_time(left)} left"
            if self.live:
                self.shown.update(self.task, completed=self.done, description=text)
            elif now - self.told > PACE:
                self.told = now
                self.screen.say(f"{100 * self.done / self.total:3.0f} %  {text}")


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def figures(record: Any) -> str:
    """The loss of an epoch, and what the rows say that were held out."""
    text = f"loss {record['loss']:.4g}"
    for name in ("val_accuracy", "val_loss"):
        if name in record:
            return f"{text}  held-out {name.removeprefix('val_')} {record[name]:.4g}"
    return text
