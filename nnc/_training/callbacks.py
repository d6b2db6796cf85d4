"""Callbacks: the record of an epoch, the schedule of the calls, and the callbacks of nnc."""

from __future__ import annotations

import os
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

from nnc._utils import disk
from nnc._utils.checks import check_bool, check_count, check_positive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


class Record(dict[str, Any]):
    """Argument of a callback: the numbers of an epoch, which can also be read as attributes.

    The items are "epoch" (counted from 1, including the fits that this one continues), "loss", "lr", "seconds" (since
    the start of the training), "best" (whether no earlier epoch was better) and "network". "val_loss" and the metrics
    are items if the fit computes them. "refit" is an item, with the value True, if the fit trains on rows that were
    held out for an automatic selection of its settings.

    Attributes
    ----------
    outputs : array (n, n_out) or None
        Outputs for the validation rows, which the next epoch overwrites. None without validation rows.
    """

    outputs: Any = None

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the record has no item {name!r}; its items are {', '.join(self)}") from None

    def numbers(self) -> dict[str, float]:
        """Return the numbers that loggers write: losses, metrics, lr and seconds."""
        return {name: value for name, value in self.items() if name not in ("epoch", "best", "refit", "network")}


class Call:
    """Callback of a run and the time of its last call.

    A callback is called after each epoch. With an attribute `every`, it is called only after epochs whose number is a
    multiple of `every`. With an attribute `seconds`, it is called only if that time has passed since its last call.

    Attributes
    ----------
    callback : callable
        Function that takes a Record.
    every : int or None
        Number of epochs between two calls; None if `seconds` determines the calls.
    seconds : float
        Minimum time between two calls.
    epoch : int
        Epoch of the last call, counted from 1 in this fit; 0 before the first call.
    at : float
        End of the last call, or start of the fit, by `perf_counter`.
    """

    callback: Callable[[Record], Any]
    every: int | None
    seconds: float
    epoch: int
    at: float

    __slots__ = ("at", "callback", "epoch", "every", "seconds")

    def __init__(self, callback: Callable[[Record], Any], start_time: float) -> None:
        self.callback, self.epoch, self.at = callback, 0, start_time
        every, seconds = call_interval(callback)
        self.seconds = seconds or 0.0
        self.every = None if seconds is not None else every or 1

    def is_due(self, epoch: int, now: float) -> bool:
        """Return whether the callback is due after this epoch, counted over all fits."""
        return now - self.at >= self.seconds if self.every is None else epoch % self.every == 0


def call_interval(callback: Callable[[Record], Any]) -> tuple[int | None, float | None]:
    """Return the attributes `every` and `seconds` of a callback; raise an error if one of them is invalid."""
    every, seconds = getattr(callback, "every", None), getattr(callback, "seconds", None)
    if every is not None and seconds is not None:
        raise ValueError(f"a callback must have only one of `every` and `seconds`, got {every!r} and {seconds!r}")
    return (
        None if every is None else check_count("every of the callback", every),
        None if seconds is None else check_positive("seconds of the callback", seconds),
    )


def call_callback(callback: Callable[[Record], Any], record: Record) -> bool:
    """Call a callback, and return whether it ends the training.

    An exception gets a note that names the callback and the epoch.
    """
    try:
        return bool(callback(record))
    except Exception as error:
        error.add_note(f"in the callback {callback!r} after epoch {record['epoch']}")
        raise


def call_method(callbacks: Iterable[Any], event: str) -> None:
    """Call the method `event` of all callbacks that have it.

    `event` is "open" before the first epoch, and "close" after the last one.
    """
    for callback in callbacks:
        method = getattr(callback, event, None)
        if callable(method):
            method()


class CallbackRunner:
    """Runner of the callbacks of a run. The constructor calls their method `open`.

    Parameters
    ----------
    callbacks : sequence of callables
        Functions that take a Record.
    start_time : float
        Start of the run, by `perf_counter`, in seconds.
    """

    def __init__(self, callbacks: Sequence[Callable[[Record], Any]], start_time: float) -> None:
        self.calls = [Call(callback, start_time) for callback in callbacks]
        call_method(callbacks, "open")

    def close(self) -> None:
        """Call the method `close` of the callbacks."""
        call_method((call.callback for call in self.calls), "close")

    def epochs_until_due(self, epoch: int, first: int, training_seconds: float) -> int:
        """Return how many epochs run before the next callback is due.

        Parameters
        ----------
        epoch : int
            Number of complete epochs of this run.
        first : int
            Number of epochs before this run.
        training_seconds : float
            Duration of the epochs of this run.
        """
        return min(
            self._epochs_for(call, epoch, training_seconds)
            if call.every is None
            else call.every - (first + epoch) % call.every
            for call in self.calls
        )

    @staticmethod
    def _epochs_for(call: Call, epoch: int, training_seconds: float) -> int:
        """Return the estimated number of epochs until a callback with the attribute `seconds` is due."""
        per_second = epoch / max(training_seconds, 1e-9)
        return max(1, int(per_second * (call.at + call.seconds - perf_counter())))

    def due(self, epoch: int, total: int, last: bool) -> list[Call]:
        """Return the callbacks that are due after an epoch, as `Call` objects; after the last epoch, all are due.

        Parameters
        ----------
        epoch, total : int
            Epoch in this run, and over all fits, counted from 1.
        last : bool
            Whether this is the last epoch.
        """
        now = perf_counter()
        return [call for call in self.calls if call.epoch != epoch and (last or call.is_due(total, now))]

    def call(self, due: Sequence[Call], record: Record, epoch: int) -> bool:
        """Call the callbacks in `due`, and return whether one of them ends the training."""
        stop = False
        for call in due:
            call.epoch = epoch
            stop = call_callback(call.callback, record) or stop
            call.at = perf_counter()
        return stop


def format_numbers(record: Record, form: Callable[[float], str]) -> dict[str, str]:
    """Return the losses and metrics of a record as text."""
    return {name: form(value) for name, value in record.numbers().items() if name not in ("lr", "seconds")}


class Checkpoint:
    """Callback that saves the network with its training state at regular intervals and after the last epoch.

    Parameters
    ----------
    path : str or os.PathLike
        File to write. "{epoch}" in the name is replaced by the number of the epoch, so that each checkpoint has its own
        file. Otherwise each checkpoint atomically replaces the previous one.
    every : int, default 1
        Number of epochs between two checkpoints.
    best_only : bool, default False
        Save only if the monitored value is the best one so far, including the epochs before a `load`.

    Raises
    ------
    TypeError, ValueError
        An argument is invalid.
    OSError
        The network cannot be saved. `fit` raises this error; for a missing folder, before the first epoch.

    Notes
    -----
    With patience, a checkpoint contains the current weights, from which the training can continue. `fit` itself ends
    with the weights of the best epoch.

    Examples
    --------
    >>> net.fit(X, y, epochs=1000, optimizer="adam", callback=Checkpoint("run.json", every=50))
    >>> net = NeuralNetwork.load("run.json")
    >>> net.fit(X, y, epochs=1000)  # continues exactly, if the other arguments are the same too
    """

    path: str
    every: int
    best_only: bool

    def __init__(self, path: str | os.PathLike[str], every: int = 1, best_only: bool = False) -> None:
        self.path = disk.check_path("path", path)
        self.every = check_count("every", every)
        self.best_only = check_bool("best_only", best_only)

    def open(self) -> None:
        """Raise OSError if the checkpoint file cannot be written."""
        if "{epoch}" not in os.path.dirname(self.path):
            disk.check_writable(self.path.replace("{epoch}", "1"), "network")

    def __call__(self, record: Record) -> None:
        if record.best or not self.best_only:
            record.network.save(self.path.replace("{epoch}", str(record.epoch)), checkpoint=True)

    def __repr__(self) -> str:
        return f"Checkpoint({self.path!r}, every={self.every}, best_only={self.best_only})"


def bar_factory(total: int | None, unit: str) -> Callable[[], Any]:
    """Return a function that creates a progress bar of tqdm; raise ImportError if tqdm is not installed."""
    try:
        from tqdm.auto import tqdm  # type: ignore[import-untyped,import-not-found,unused-ignore]
    except ImportError as error:
        from nnc._utils.packages import missing_package

        raise missing_package("a progress bar", "tqdm", error, "progress") from error
    return partial(tqdm, total=total, unit=unit)


class Progress:
    """Progress bar of `fit(progress=True)`. It needs tqdm (extra `[progress]`).

    Parameters
    ----------
    epochs : int or None
        Number of epochs of the fit; None if only another stopping rule ends the fit.
    first : int, default 0
        Number of epochs of the fits that this one continues.

    Raises
    ------
    ImportError
        tqdm is not installed.
    """

    seconds: float = 0.05  # minimum seconds between two updates of the progress bar

    def __init__(self, epochs: int | None, first: int = 0) -> None:
        self._first = first
        self._new_bar = bar_factory(epochs, "epoch")
        self._bar: Any = None

    def open(self) -> None:
        """Show the progress bar."""
        self._bar = self._new_bar()

    def __call__(self, record: Record) -> None:
        if self._bar is None:
            self.open()
        self._bar.set_postfix(format_numbers(record, "{:.4g}".format), refresh=False)
        self._bar.update(record.epoch - self._first - self._bar.n)

    def close(self) -> None:
        """Stop updating the progress bar, which remains visible."""
        if self._bar is not None:
            self._bar.close()


class Lines:
    """Progress display of `fit(verbose=1)` and `fit(verbose=2)`: printed lines in the format of Keras.

    Parameters
    ----------
    epochs : int or None
        Number of epochs of the fit; None if only another stopping rule ends the fit.
    first : int, default 0
        Number of epochs of the fits that this one continues.
    all_epochs : bool, default False
        Print a line for each epoch. Otherwise at most ten lines per second are printed, and one for the last epoch.
    """

    def __init__(self, epochs: int | None, first: int = 0, all_epochs: bool = False) -> None:
        if all_epochs:
            self.every = 1
        else:
            # Minimum seconds between two lines, because printing a line may take longer than an epoch.
            self.seconds = 0.1
        self._of = "" if epochs is None else f"/{first + epochs}"
        self._epoch, self._at = first, 0.0

    def __call__(self, record: Record) -> None:
        epoch_seconds = (record.seconds - self._at) / max(record.epoch - self._epoch, 1)
        self._epoch, self._at = record.epoch, record.seconds
        numbers = {**format_numbers(record, _plain), "lr": _plain(record.lr)}
        parts = [
            f"{_time(record.seconds)} - {_time(epoch_seconds)}/epoch",
            *(f"{name}: {text}" for name, text in numbers.items()),
        ]
        print(f"Epoch {record.epoch}{self._of} - {' - '.join(parts)}", flush=True)


def _plain(value: float) -> str:
    """Return a number with four decimals, or in scientific notation if it is small."""
    return f"{value:.4f}" if abs(value) > 1e-3 or value == 0 else f"{value:.4e}"


def _time(seconds: float) -> str:
    """Return a duration as text, in s, ms or us."""
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.0f}{unit}"
    return f"{seconds * 1e6:.0f}us"
