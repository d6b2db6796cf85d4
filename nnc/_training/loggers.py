"""Callbacks that write what `fit` tells after an epoch to where other programs look at it."""

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


_OPENED = itertools.count()


class CSVLogger:
    """Writes a row of a CSV file after every so many epochs and the last one, which other programs can follow: epoch,
    loss, val_loss and metrics where there are any, lr, seconds. Every number reads back to the same bits.

    Parameters
    ----------
    path : str or os.PathLike
        The file. The first row takes the place of what was in it; further fits with the same object go on in it.
    append : bool, default False
        Go on at the end of the file, whose columns have to be the same.
    every : int, default 1
        Epochs from one row to the next.

    Raises
    ------
    ValueError
        From `fit`: the file, or the fit before, has other columns.
    OSError
        From `fit`: the file cannot be written; the message says why and what to do.

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
        """Raises where nothing could be written, before a training that is to be written down."""
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
                f"the log {self.path!r} has the columns {', '.join(self._columns)}, and this fit has "
                f"{', '.join(columns)}; give it another file"
            )
        disk.append_bytes(self.path, _line(row.values()), "log")

    def __repr__(self) -> str:
        return f"CSVLogger({self.path!r}, append={self.append}, every={self.every})"


def _line(cells: Iterable[str | float]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()


class TensorBoard:
    """Writes losses, metrics and the learning rate for TensorBoard (extra `[tensorboard]`, which is tensorboardX) after
    every so many epochs and the last one, under the names that a History has for them.

    Parameters
    ----------
    log_dir : str or os.PathLike, optional
        The folder of the run, which is made where it is missing. Default: one in runs/, named by the time.
    every : int, default 1
        Epochs from one to the next.
    histograms : bool, default False
        Whether to write the distribution of the weights and biases of each layer as well.

    Raises
    ------
    ImportError
        tensorboardX is not installed.

    Examples
    --------
    >>> net.fit(X, y, epochs=1000, callback=nnc.TensorBoard("runs/first", every=10))

    and then `tensorboard --logdir runs`.
    """

    log_dir: str | None
    every: int
    histograms: bool

    def __init__(self, log_dir: str | os.PathLike[str] | None = None, every: int = 1, histograms: bool = False) -> None:
        try:
            from tensorboardX import SummaryWriter  # type: ignore[import-untyped,import-not-found,unused-ignore]
        except ImportError as error:
            raise ImportError(
                f'TensorBoard needs tensorboardX ({error}); install it with pip install "nnc-cython[tensorboard]"'
            ) from error
        self.log_dir = None if log_dir is None else disk.check_path("log_dir", log_dir)
        self.every = check_count("every", every)
        self.histograms = check_bool("histograms", histograms)
        self._new_writer = SummaryWriter
        self._writer: Any = None

    def __call__(self, record: Record) -> None:
        if self._writer is None:
            suffix = f".{os.getpid()}.{next(_OPENED):06}"  # for its names change but once a second
            self._writer = self._new_writer(self.log_dir, flush_secs=5, filename_suffix=suffix)
            self.log_dir = self._writer.logdir
        for name, value in record.numbers().items():
            self._writer.add_scalar(name, value, record.epoch)
        if self.histograms:
            layers = record.network._layers_with_weights()
            for layer, W, b in zip(layers, record.network.model.W, record.network.model.b, strict=True):
                for letter, part in (("W", W), ("b", b)):
                    if part is not None:
                        name = f"{layer.name}/{letter}".replace(" ", "_")  # a tag has no blanks
                        self._writer.add_histogram(name, part, record.epoch)

    def close(self) -> None:
        """Writes all that is still in memory. `fit` calls it at the end; a later fit goes on in the same folder."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __repr__(self) -> str:
        return f"TensorBoard({self.log_dir!r}, every={self.every}, histograms={self.histograms})"
