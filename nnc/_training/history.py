"""History of a fit: losses, metrics, learning rates and times of its epochs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from nnc._utils import disk
from nnc._utils.arrays import constant_array
from nnc._utils.checks import short_repr

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, KeysView
    from typing import IO, Any

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from nnc._drawing.svg import Drawing

STOP_REASONS = (
    "epochs",
    "max_seconds",
    "target_loss",
    "patience",
    "callback",
    "interrupt",
    "diverged",
    "converged",
    "error",
)
# Keys of the result of `History.to_dict` that are not columns.
_TOTALS = (
    "seconds",
    "stop_reason",
    "best_epoch",
    "untracked_epochs",
    "n_threads",
)


class History:
    """Table with one row per epoch of a fit, and the reason why the fit ended.

    Columns can be read by name, such as `history["loss"]`, or as attributes, such as `history.loss`. `history.keys()`
    and iteration yield the names. `dict(history)` is a plain dict, from which pandas.DataFrame creates a table. Metrics
    are further columns, such as "accuracy" and "val_accuracy".

    Parameters
    ----------
    columns : dict of float64 arrays (epochs,)
        Columns by name, including "loss". The dict is not copied.
    seconds, stop_reason, best_epoch, untracked_epochs, n_threads, settings
        Values of the attributes.

    Attributes
    ----------
    loss : float64 array (epochs,)
        Training loss of each epoch. The loss of a batch is computed before its step. The loss of an epoch is the sum of
        the losses of its batches (sse, half_sse) or their mean over the rows (mse, bce, cross_entropy).
    val_loss : float64 array (epochs,) or None
        Loss of the validation rows after each epoch; None without validation rows.
    lr : float64 array (epochs,)
        Learning rate.
    epoch_seconds : float64 array (epochs,)
        Wall time of each epoch.
    seconds : float
        Wall time of the training, without the selection of automatic settings before it.
    epochs : int
        Number of complete epochs.
    stop_reason : str
        Why the fit ended: "epochs" (all epochs are done), "max_seconds", "target_loss", "patience", "callback",
        "converged", "interrupt" (Ctrl-C), "diverged" (in the history of a DivergedError) or "error" (another exception,
        for example of a callback).
    best_epoch : int or None
        Epoch with the best monitored value, counted from 1; None if no value was monitored.
    untracked_epochs : int
        Number of epochs of the training without a row in the table: single steps, and epochs of old fits. `net.history`
        stores at most 1000 fits, and at least the last 100,000 epochs. The rows of the table are numbered from 1, even
        if epochs before them have no row.
    n_threads : int or None
        Number of threads that trained on most rows. The result of a fit does not depend on it.
    settings : dict or None
        Resolved settings of the last fit: "preset" ("auto" or "plain"), "optimizer", "lr" (a number, a schedule or the
        name of a function), "batch_size", "epochs", "scale_X", "scale_y" and "selection". The value of "selection" is
        a text with the number of epochs and the weight decay that an automatic fit has selected by validation, or None
        without a selection. The attribute is None for a history from `from_dict`, because `to_dict` omits the settings.
    """

    # Columns by name. A number stands for a constant column, and a function computes a column when it is first read.
    _columns: dict[str, NDArray[np.float64] | float | Callable[[], NDArray[np.float64]]]
    seconds: float
    stop_reason: str
    best_epoch: int | None
    untracked_epochs: int
    n_threads: int | None
    settings: dict[str, Any] | Any  # Any: type checkers require no check for None

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
        """Number of complete epochs."""
        return len(self._columns["loss"])  # type: ignore[arg-type]

    @property
    def loss(self) -> NDArray[np.float64]:
        """Training loss of each epoch."""
        return self._columns["loss"]  # type: ignore[return-value]

    @property
    def val_loss(self) -> NDArray[np.float64] | Any:  # Any: type checkers require no check for None
        """Loss of the validation rows after each epoch; None without validation rows."""
        return self["val_loss"] if "val_loss" in self._columns else None

    @property
    def lr(self) -> NDArray[np.float64]:
        """Learning rate of each epoch."""
        return self["lr"]

    @property
    def epoch_seconds(self) -> NDArray[np.float64]:
        """Wall time of each epoch, in seconds."""
        return self["epoch_seconds"]

    if not TYPE_CHECKING:  # hide __getattr__ from type checkers, which would accept misspelled attributes

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
            raise KeyError(f"the history has no column {name!r}; its columns are {', '.join(self._columns)}") from None
        if isinstance(column, float):
            column = self._columns[name] = constant_array(column, self.epochs)
        elif callable(column):
            column = self._columns[name] = column()
        return column

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def keys(self) -> KeysView[str]:
        """Return the names of the columns of the history, such as "loss" and "lr"."""
        return self._columns.keys()

    def __repr__(self) -> str:
        last = f", loss {self.loss[0]:.6g} -> {self.loss[-1]:.6g}" if self.epochs else ""
        return f"<History: {self._length()}{last}{self._best()}, stopped by {self.stop_reason}>"

    def __str__(self) -> str:
        """Return a text that describes how the fit ended, its settings, and each column with a small curve."""
        return "\n".join([self._ending(), *settings_lines(self.settings), *self.curves()])

    def _ending(self) -> str:
        """Return a line with the number of epochs and the reason why the fit ended."""
        return f"{self._length()}, stopped by {self.stop_reason}{self._best()}"

    def _length(self) -> str:
        """Return the number of epochs and the wall time as text."""
        total = f" of {self.untracked_epochs + self.epochs}" if self.untracked_epochs else ""
        return f"{self.epochs}{total} epochs in {self.seconds:.3g} s"

    def _best(self) -> str:
        """Return the best epoch as text; "" if there is none."""
        return "" if self.best_epoch is None else f", best epoch {self.best_epoch}"

    # ------------------------------------------------------------------------------------------ conversion

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self), *(getattr(self, name) for name in _TOTALS), self.settings)

    def to_dict(self) -> dict[str, Any]:
        """Return the columns and the other attributes except `settings` as plain lists and numbers.

        NaN and infinity become None, because JSON does not have them.
        """
        columns = {
            name: [x if abs(x) < np.inf else None for x in column.tolist()] for name, column in dict(self).items()
        }
        return {**columns, **{name: getattr(self, name) for name in _TOTALS}}

    @classmethod
    def from_dict(cls, d: Any) -> History:
        """Create a history from a dict that `to_dict` has returned; None in a column becomes NaN.

        Parameters
        ----------
        d : dict
            "loss" and "stop_reason" are required. Each list is a column.

        Raises
        ------
        ValueError
            `d` does not describe a history. No other exception is raised.
        """
        if not isinstance(d, dict):
            raise ValueError(f"a history must be an object, got {short_repr(d)}")
        columns = {name: _column(name, values) for name, values in d.items() if name not in _TOTALS}
        if "loss" not in columns:
            raise ValueError(f"a history must have the column 'loss', got {short_repr(list(columns))}")
        epochs = len(columns["loss"])
        for name, column in columns.items():
            if len(column) != epochs:
                lengths = f"{epochs} numbers of loss and {len(column)} of {name}"
                raise ValueError(f"all columns of a history must have the same length, got {lengths}")
        seconds, reason, best = d.get("seconds", 0.0), d.get("stop_reason"), d.get("best_epoch")
        if type(seconds) not in (int, float) or not 0 <= seconds < np.inf:
            raise ValueError(f"the seconds of a history must be a finite number, 0 or more, got {short_repr(seconds)}")
        if not isinstance(reason, str) or reason not in STOP_REASONS:
            names = ", ".join(STOP_REASONS)
            raise ValueError(f"the stop_reason of a history must be one of {names}, got {short_repr(reason)}")
        if best is not None and (type(best) is not int or not 1 <= best <= epochs):
            raise ValueError(f"the best_epoch of a history must be from 1 to {epochs} or None, got {short_repr(best)}")
        untracked_epochs = d.get("untracked_epochs", 0)
        if type(untracked_epochs) is not int or untracked_epochs < 0:
            raise ValueError(
                f"untracked_epochs of a history must be a whole number, 0 or more, got {short_repr(untracked_epochs)}"
            )
        threads = d.get("n_threads")
        if threads is not None and (type(threads) is not int or threads < 1):
            raise ValueError(
                f"n_threads of a history must be a whole number, 1 or more, or None, got {short_repr(threads)}"
            )
        return cls(columns, float(seconds), reason, best, untracked_epochs, threads)

    @classmethod
    def joined(cls, *parts: History) -> History:
        """Return the history of a training that consists of several fits.

        A column that a fit does not have is NaN in the epochs of this fit. `best_epoch` comes from the last fit with a
        best epoch, and counts the epochs of all fits. `untracked_epochs` comes from the first fit, and all other
        attributes come from the last fit.
        """

        def join(name: str) -> NDArray[np.float64]:
            return np.concatenate([part[name] if name in part else np.full(part.epochs, np.nan) for part in parts])

        names = {name: None for part in parts for name in part._columns}
        columns = {name: join(name) if name == "loss" else partial(join, name) for name in names}
        best, epochs = None, 0
        for part in parts:
            best = best if part.best_epoch is None else epochs + part.best_epoch
            epochs += part.epochs
        seconds = sum(part.seconds for part in parts)
        last = parts[-1]
        return cls(columns, seconds, last.stop_reason, best, parts[0].untracked_epochs, last.n_threads, last.settings)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write a CSV file with a header and one row for each epoch.

        The first column is the epoch, counted from 1. Numbers are written with all digits, so reading them gives the
        same bits. The file is replaced atomically, as in `NeuralNetwork.save`.

        Parameters
        ----------
        path : str or os.PathLike
            File to write.

        Raises
        ------
        OSError
            The file cannot be written: FileNotFoundError for a missing folder, PermissionError without permission,
            IsADirectoryError if the path is a folder. The message names the cause and a remedy.
        """
        import csv
        import io

        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["epoch", *self._columns])
        columns = [column.tolist() for column in dict(self).values()]
        writer.writerows(zip(range(1, self.epochs + 1), *columns, strict=True))
        disk.replace_file(path, text.getvalue().encode(), "history")

    # ------------------------------------------------------------------------------------------ display

    def curves(self) -> list[str]:
        """Return a list with one line of text for each column, which shows its curve in block characters.

        A constant learning rate has no line. A history without epochs gives an empty list.
        """
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
        """Return an SVG image of the losses, the metrics and, unless it is constant, the learning rate.

        Parameters
        ----------
        path : str, os.PathLike or text file, optional
            File to write, which is replaced atomically.

        Returns
        -------
        str
            Text of the image.

        Raises
        ------
        ValueError
            The history has no epoch.
        OSError
            The file cannot be written. The message names the cause and a remedy.
        """
        if not self.epochs:
            raise ValueError("the history must have at least one epoch to draw an image, got none")
        drawing = self._drawing()
        if path is not None:
            drawing.save(path)
        return str(drawing)

    def _drawing(self) -> Drawing:
        """Return a drawing of the columns as curves over the epochs, from which images are written."""
        from nnc._drawing import curves

        panels = curves.group_panels(dict(self))
        ranges = (
            f"{name} from {column[0]:.4g} to {column[-1]:.4g}" for panel in panels for name, column in panel.items()
        )
        return curves.draw(panels, self.best_epoch, "Training history", f"{self.epochs} epochs: {', '.join(ranges)}.")

    def _repr_html_(self) -> str:
        from nnc._drawing.html import paragraph

        text = "".join(map(paragraph, [self._ending(), *settings_lines(self.settings)]))
        return text + (self._drawing()._repr_html_() if self.epochs else "")

    def plot(self, ax: Axes | None = None) -> Axes:
        """Plot the losses over the epochs with matplotlib (extra `[plot]`); see `nnc.plot.history`.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Axes for the plot. Default: a new figure.

        Returns
        -------
        matplotlib.axes.Axes
            Axes of the losses; `matplotlib.pyplot.savefig("history.png")` writes the new figure to a file.

        Raises
        ------
        ImportError
            matplotlib is not installed.
        """
        from nnc.plot import history

        return history(self, ax)


def settings_lines(settings: dict[str, Any] | None) -> list[str]:
    """Return lines that describe the settings of a fit; an empty list if `settings` is None."""
    if settings is None:
        return []
    names = ("lr", "batch_size", "epochs", "scale_X", "scale_y")
    parts = [f"{name} {settings[name]}" for name in names if settings[name] is not None]
    lines = [f"preset {settings['preset']}: {', '.join([settings['optimizer'].name, *parts])}"]
    return [*lines, f"selected {settings['selection']}"] if settings["selection"] else lines


def _column(name: str, values: list[float | None]) -> NDArray[np.float64]:
    """Return a list of numbers as an array, with NaN for None; raise ValueError if `name` or `values` is invalid."""
    if not isinstance(name, str) or name.startswith("_"):
        raise ValueError(f"the columns of a history must have names that do not begin with '_', got {short_repr(name)}")
    if not isinstance(values, list) or not set(map(type, values)) <= {int, float, type(None)}:
        raise ValueError(f"{short_repr(name)} of a history must be a list of numbers, got {short_repr(values)}")
    try:
        return np.array([np.nan if value is None else value for value in values], np.float64)
    except OverflowError:
        raise ValueError(
            f"{short_repr(name)} of a history must have numbers in the range of a float, got a larger integer"
        ) from None
