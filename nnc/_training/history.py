"""History: what a call of fit did, epoch by epoch."""

from __future__ import annotations

from reprlib import repr as shown
from typing import TYPE_CHECKING

import numpy as np

from nnc._utils import disk
from nnc._utils.arrays import constant_array

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, KeysView
    from typing import IO, Any

    from numpy.typing import NDArray

    from nnc._drawing.svg import Drawing

STOP_REASONS = (
    *("epochs", "max_seconds", "target_loss", "patience", "callback"),
    *("interrupt", "diverged", "converged", "error"),
)
_TOTALS = (
    "seconds",
    "stop_reason",
    "best_epoch",
    "untracked_epochs",
    "n_threads",
)  # what stands beside the columns in a dict


class History:
    """What a call of fit did: a table with one row for each epoch, and how the whole ended.

    Its columns are read by name, as `history["loss"]`, or as attributes, as `history.loss`; `history.keys()` and
    iteration give the names, and `dict(history)` is a plain dict, which pandas.DataFrame takes.

    Parameters
    ----------
    columns : dict of float64 arrays (epochs,)
        The columns by name, "loss" among them. The dict is kept, not copied.
    seconds : float
        Wall time of the whole call.
    stop_reason : str
        See below.
    best_epoch : int, optional
        See below.
    untracked_epochs : int, default 0
        See below.
    n_threads : int, optional
        See below.
    settings : dict, optional
        See below.

    Attributes
    ----------
    loss : float64 array (epochs,)
        The training loss of every epoch. Each batch is taken before its step: so for the full batch it is the loss
        before the epoch's step; for mini-batches the losses of an epoch's batches are added up (sse, half_sse) or
        averaged over its rows (mse, bce, cross_entropy).
    val_loss : float64 array (epochs,) or None
        The loss of the validation rows after every epoch; None where there were none.
    lr : float64 array (epochs,)
        The learning rate.
    epoch_seconds : float64 array (epochs,)
        Wall time of every epoch.
    seconds : float
        Wall time of the whole call.
    epochs : int
        Epochs that were completed.
    stop_reason : str
        "epochs" (all done), "max_seconds", "target_loss", "patience" (no progress for so long), "callback" (it said
        so), "converged" (nothing left to gain), "interrupt" (Ctrl-C), "diverged" (in a DivergedError's history) or
        "error" (in `net.history`, where an exception of a callback, say, has ended it).
    best_epoch : int or None
        The epoch with the best value of what was monitored, counted from 1; None where no epoch was looked at.
    untracked_epochs : int
        Epochs of the training that have no row in the table. `net.history` keeps the last 1000 fits, and of longer ones
        the last 100,000 epochs at least; what is older is counted here, and so are single steps. Rows are counted from
        1 all the same.
    n_threads : int or None
        How many threads have worked on most of the rows together. What they compute does not depend on it.
    settings : dict or None
        The resolved settings of the fit, in `net.history` of the last one: "preset" ("auto" or "plain"), "optimizer",
        "lr" (a number, a schedule, or the name of a function), "batch_size", "epochs", "scale_X" and "scale_y". None in
        a history that was read from a file or a dict.

    Metrics that were asked for are further columns, such as "accuracy" and "val_accuracy".
    """

    _columns: dict[str, NDArray[np.float64] | float]  # a number stands for the same one in every epoch
    seconds: float
    stop_reason: str
    best_epoch: int | None
    untracked_epochs: int
    n_threads: int | None
    settings: dict[str, Any] | None

    __slots__ = ("_columns", "best_epoch", "n_threads", "seconds", "settings", "stop_reason", "untracked_epochs")

    def __init__(
        self,
        columns: dict[str, Any],
        seconds: float,
        stop_reason: str,
        best_epoch: int | None = None,
        untracked_epochs: int = 0,
        n_threads: int | None = None,
        settings: dict[str, Any] | None = None,
    ) -> None:
        self._columns = columns
        self.seconds = seconds
        self.stop_reason = stop_reason
        self.best_epoch = best_epoch
        self.untracked_epochs = untracked_epochs
        self.n_threads = n_threads
        self.settings = settings

    @property
    def epochs(self) -> int:
        """Epochs that were completed."""
        return len(self._columns["loss"])  # type: ignore[arg-type]

    @property
    def loss(self) -> NDArray[np.float64]:
        """The training loss of every epoch."""
        return self._columns["loss"]  # type: ignore[return-value]

    @property
    def val_loss(self) -> NDArray[np.float64] | None:
        """The loss of the validation rows after every epoch, None where there were none."""
        return self["val_loss"] if "val_loss" in self._columns else None

    @property
    def lr(self) -> NDArray[np.float64]:
        """The learning rate of every epoch."""
        return self["lr"]

    @property
    def epoch_seconds(self) -> NDArray[np.float64]:
        """Wall time of every epoch."""
        return self["epoch_seconds"]

    if not TYPE_CHECKING:  # or every misspelled attribute would be a column to type checkers

        def __getattr__(self, name: str) -> NDArray[np.float64]:
            if not name.startswith("_") and name in self._columns:
                return self[name]
            from nnc._utils.names import unknown_attribute_error

            raise unknown_attribute_error(f"{type(self).__name__!r} object", name, dir(type(self)))

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._columns})

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        try:
            column = self._columns[name]
        except KeyError:
            raise KeyError(f"the history has no {name!r}, it has {', '.join(self._columns)}") from None
        if isinstance(column, float):
            column = self._columns[name] = constant_array(column, self.epochs)
        return column

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def keys(self) -> KeysView[str]:
        """The names of the columns."""
        return self._columns.keys()

    def __repr__(self) -> str:
        last = f", loss {self.loss[0]:.6g} -> {self.loss[-1]:.6g}" if self.epochs else ""
        return f"<History: {self._length()}{last}{self._best()}, stopped by {self.stop_reason}>"

    def __str__(self) -> str:
        """What `print` shows: how it ended, and of each column a small curve from its first number to its last."""
        return "\n".join([self._ending(), *settings_lines(self.settings), *self.curves()])

    def _ending(self) -> str:
        return f"{self._length()}, stopped by {self.stop_reason}{self._best()}"

    def _length(self) -> str:
        which = f"{self.epochs} of {self.untracked_epochs + self.epochs}" if self.untracked_epochs else f"{self.epochs}"
        return f"{which} epochs in {self.seconds:.3g} s"

    def _best(self) -> str:
        return "" if self.best_epoch is None else f", best epoch {self.best_epoch}"

    # ------------------------------------------------------------------------------------------ in other forms

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self), *(getattr(self, name) for name in _TOTALS), self.settings)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers: the columns by name, then seconds, stop_reason, best_epoch, untracked_epochs and
        n_threads.

        JSON has no NaN and no infinity: None stands for both.
        """
        columns = {
            name: [x if abs(x) < np.inf else None for x in column.tolist()] for name, column in dict(self).items()
        }
        return {**columns, **{name: getattr(self, name) for name in _TOTALS}}

    @classmethod
    def from_dict(cls, d: Any) -> History:
        """The history that `to_dict` wrote; None in a column becomes NaN.

        Parameters
        ----------
        d : dict
            "loss" and "stop_reason" are needed. Every list is a column.

        Raises
        ------
        ValueError
            It is anything else; the message says what is wrong. No other exception comes out of a wrong `d`.
        """
        if not isinstance(d, dict):
            raise ValueError(f"a history must be an object, got {shown(d)}")
        columns = {name: _column(name, values) for name, values in d.items() if name not in _TOTALS}
        if "loss" not in columns:
            raise ValueError("a history must have a loss")
        epochs = len(columns["loss"])
        for name, column in columns.items():
            if len(column) != epochs:
                lengths = f"{epochs} numbers of loss and {len(column)} of {name}"
                raise ValueError(f"all columns of a history must have one length, got {lengths}")
        seconds, reason, best = d.get("seconds", 0.0), d.get("stop_reason"), d.get("best_epoch")
        if type(seconds) not in (int, float) or not 0 <= seconds < np.inf:
            raise ValueError(f"the seconds of a history must be a finite number, 0 or more, got {shown(seconds)}")
        if not isinstance(reason, str) or reason not in STOP_REASONS:
            names = ", ".join(STOP_REASONS)
            raise ValueError(f"the stop_reason of a history must be one of {names}, got {shown(reason)}")
        if best is not None and (type(best) is not int or not 1 <= best <= epochs):
            raise ValueError(f"the best_epoch of a history must be from 1 to {epochs} or None, got {shown(best)}")
        untracked_epochs = d.get("untracked_epochs", 0)
        if type(untracked_epochs) is not int or untracked_epochs < 0:
            raise ValueError(
                f"untracked_epochs of a history must be a whole number, 0 or more, got {shown(untracked_epochs)}"
            )
        threads = d.get("n_threads")
        if threads is not None and (type(threads) is not int or threads < 1):
            raise ValueError(f"n_threads of a history must be a whole number, 1 or more, or None, got {shown(threads)}")
        return cls(columns, float(seconds), reason, best, untracked_epochs, threads)

    @classmethod
    def joined(cls, *parts: History) -> History:
        """The history of a run that went on: the epochs of all parts, the last of which ended it.

        A column that only some of them have is NaN in the epochs of the others. `best_epoch` counts from the beginning;
        it is that of the last part that has one. `untracked_epochs` is that of the first part.
        """
        names = {name: None for part in parts for name in part._columns}
        columns = {
            name: np.concatenate([part[name] if name in part else np.full(part.epochs, np.nan) for part in parts])
            for name in names
        }
        best, epochs = None, 0
        for part in parts:
            best = best if part.best_epoch is None else epochs + part.best_epoch
            epochs += part.epochs
        seconds = sum(part.seconds for part in parts)
        last = parts[-1]
        return cls(columns, seconds, last.stop_reason, best, parts[0].untracked_epochs, last.n_threads, last.settings)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Writes a CSV file: a header, then one row for each epoch, which is the first column and counted from 1.

        Every number reads back to the same bits. As with `NeuralNetwork.save`, the old file or the new one is there,
        whole, whatever happens.

        Raises
        ------
        OSError
            The file cannot be written; the message says why and what to do. A missing folder is a FileNotFoundError, no
            permission a PermissionError, a folder in place of a file an IsADirectoryError.
        """
        import csv
        import io

        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["epoch", *self._columns])
        columns = [column.tolist() for column in dict(self).values()]
        writer.writerows(zip(range(1, self.epochs + 1), *columns, strict=True))
        disk.replace_file(path, text.getvalue().encode(), "history")

    # ------------------------------------------------------------------------------------------ to be looked at

    def curves(self) -> list[str]:
        """A line for each column, with a curve of block characters; none of the learning rate where that is constant,
        and none at all where there was no epoch."""
        from nnc._drawing import curves

        panels = curves.group_panels(dict(self))
        columns = {name: column for panel in panels for name, column in panel.items() if len(column)}
        heads = [f"{name}  {column[0]:.4g}" for name, column in columns.items()]
        longest = max(map(len, heads), default=0)
        return [
            f"{name}{column[0]:>{longest - len(name)}.4g} {curves.sparkline(column)} {column[-1]:.4g}"
            for name, column in columns.items()
        ]

    def to_svg(self, path: str | os.PathLike[str] | IO[str] | None = None) -> str:
        """Small curves of the losses, of the metrics and of a learning rate that changes, as SVG: what notebooks show.

        Parameters
        ----------
        path : str, os.PathLike or text file, optional
            Where it is written to; the old file or the new one is there, whole.

        Returns
        -------
        str
            The text of the file.

        Raises
        ------
        ValueError
            There was no epoch.
        OSError
            The file cannot be written; the message says why and what to do.
        """
        if not self.epochs:
            raise ValueError("the history must have an epoch to be drawn, got none")
        drawing = self._drawing()
        if path is not None:
            drawing.save(path)
        return str(drawing)

    def _drawing(self) -> Drawing:
        from nnc._drawing import curves

        panels = curves.group_panels(dict(self))
        said = (
            f"{name} from {column[0]:.4g} to {column[-1]:.4g}" for panel in panels for name, column in panel.items()
        )
        return curves.draw(panels, self.best_epoch, "Training history", f"{self.epochs} epochs: {', '.join(said)}.")

    def _repr_html_(self) -> str:
        from nnc._drawing.html import paragraph

        said = "".join(map(paragraph, [self._ending(), *settings_lines(self.settings)]))
        return said + (self._drawing()._repr_html_() if self.epochs else "")

    def plot(self, ax: Any = None) -> Any:
        """Draws the losses over the epochs with matplotlib (extra `[plot]`), see `nnc.plot.history`.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw. Default: a new figure.

        Returns
        -------
        matplotlib.axes.Axes
            Of the losses; `ax.figure.savefig("history.png")` writes it to a file.

        Raises
        ------
        ImportError
            matplotlib is not installed.
        """
        from nnc.plot import history

        return history(self, ax)


def settings_lines(settings: dict[str, Any] | None) -> list[str]:
    """Return the settings of a fit as a line of text; no line where they are not known."""
    if settings is None:
        return []
    names = ("lr", "batch_size", "epochs", "scale_X", "scale_y")
    named = [f"{name} {settings[name]}" for name in names if settings[name] is not None]
    return [f"preset {settings['preset']}: {', '.join([settings['optimizer'].name, *named])}"]


def _column(name: str, values: list[float | None]) -> NDArray[np.float64]:
    if not isinstance(name, str) or name.startswith("_"):
        raise ValueError(f"the columns of a history must have names, got {shown(name)}")
    if not isinstance(values, list) or not set(map(type, values)) <= {int, float, type(None)}:
        raise ValueError(f"{shown(name)} of a history must be a list of numbers, got {shown(values)}")
    try:
        return np.array([np.nan if value is None else value for value in values], np.float64)
    except OverflowError:
        raise ValueError(f"{shown(name)} of a history must hold numbers in the range of a float") from None
