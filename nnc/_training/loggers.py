"""Callbacks that write losses and metrics to files of other programs: CSV and TensorBoard."""

from __future__ import annotations

import csv
import io
import itertools
import os
from typing import TYPE_CHECKING, Any

from nnc._utils import disk
from nnc._utils.checks import check_bool, check_count

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nnc._training.callbacks import Record


_WRITER_NUMBERS = itertools.count()  # counter that makes the names of TensorBoard files unique in this process


class CSVLogger:
    """Callback that writes a row of a CSV file at regular intervals and after the last epoch.

    The columns are epoch, loss, val_loss and metrics (if the fit computes them), lr and seconds. Numbers are written
    with all digits, so reading them gives the same bits.

    Parameters
    ----------
    path : str or os.PathLike
        File to write. The first row replaces the content of the file. Later fits with the same object append to it.
    append : bool, default False
        Append to the existing file, which must have the same columns.
    every : int, default 1
        Number of epochs between two rows.

    Raises
    ------
    ValueError
        The file, or an earlier fit with this object, has other columns. `fit` raises this error.
    OSError
        The file cannot be written. `fit` raises this error, whose message names the cause and a remedy.

    Examples
    --------
    >>> net.fit(X, y, epochs=1000, callback=nnc.CSVLogger("training.csv", every=10))
    """

    path: str
    append: bool
    every: int

    def __init__(self, path: str | os.PathLike[str], append: bool = False, every: int = 1) -> None:
        self.path = disk.check_path("path", path)
        self.append = check_bool("append", append)
        self.every = check_count("every", every)
        self._columns: list[str] | None = None

    def open(self) -> None:
        """Check that the CSV file can be written; raise OSError if it cannot."""
        disk.check_writable(self.path, "log")

    def __call__(self, record: Record) -> None:
        row = {"epoch": record.epoch, **record.numbers()}
        columns = [*row]
        if self._columns is None and self.append and os.path.exists(self.path):
            with disk.open_binary(self.path, "log") as file:
                head = file.readline().decode("utf-8", "replace")
            self._columns = next(csv.reader([head]), None) or None
        if self._columns is None:
            disk.replace_file(self.path, _line(columns) + _line(row.values()), "log")
            self._columns = columns
            return
        if columns != self._columns:
            raise ValueError(
                f"the log {self.path!r} must have the columns of this fit ({', '.join(columns)}), got "
                f"({', '.join(self._columns)}); use another file"
            )
        disk.append_bytes(self.path, _line(row.values()), "log")

    def __repr__(self) -> str:
        return f"CSVLogger({self.path!r}, append={self.append}, every={self.every})"


def _line(cells: Iterable[str | float]) -> bytes:
    """Return cells as a line of a CSV file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()


class TensorBoard:
    """Callback that writes losses, metrics and the learning rate for TensorBoard.

    It writes at regular intervals and after the last epoch, under the names of the columns of a History. It needs
    tensorboardX (extra `[tensorboard]`).

    Parameters
    ----------
    log_dir : str or os.PathLike, optional
        Folder of the run, which is created if it is missing. Default: a new folder in runs/, named after date and time.
    every : int, default 1
        Number of epochs between two writes.
    histograms : bool, default False
        Also write histograms of the weights and biases of each layer.

    Raises
    ------
    ImportError
        tensorboardX is not installed.

    Examples
    --------
    >>> net.fit(X, y, epochs=1000, callback=nnc.TensorBoard("runs/first", every=10))

    Show the files in a browser with the command `tensorboard --logdir runs`.
    """

    log_dir: str | None
    every: int
    histograms: bool

    def __init__(self, log_dir: str | os.PathLike[str] | None = None, every: int = 1, histograms: bool = False) -> None:
        try:
            from tensorboardX import SummaryWriter  # type: ignore[import-untyped,import-not-found,unused-ignore]
        except ImportError as error:
            from nnc._utils.packages import missing_package

            raise missing_package("TensorBoard", "tensorboardX", error, "tensorboard") from error
        self.log_dir = None if log_dir is None else disk.check_path("log_dir", log_dir)
        self.every = check_count("every", every)
        self.histograms = check_bool("histograms", histograms)
        self._new_writer = SummaryWriter
        self._writer: Any = None

    def __call__(self, record: Record) -> None:
        if self._writer is None:
            # Add a suffix, because files that are created in the same second would otherwise have the same name.
            suffix = f".{os.getpid()}.{next(_WRITER_NUMBERS):06}"
            self._writer = self._new_writer(self.log_dir, flush_secs=5, filename_suffix=suffix)
            self.log_dir = self._writer.logdir
        for name, value in record.numbers().items():
            self._writer.add_scalar(name, value, record.epoch)
        if self.histograms:
            layers = record.network._layers_with_weights()
            for layer, W, b in zip(layers, record.network.model.W, record.network.model.b, strict=True):
                for letter, part in (("W", W), ("b", b)):
                    if part is not None:
                        name = f"{layer.name}/{letter}".replace(" ", "_")  # TensorBoard rejects tags with blanks
                        self._writer.add_histogram(name, part, record.epoch)

    def close(self) -> None:
        """Write the buffered data. `fit` calls this method at its end; a later fit continues in the same folder."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __repr__(self) -> str:
        return f"TensorBoard({self.log_dir!r}, every={self.every}, histograms={self.histograms})"
