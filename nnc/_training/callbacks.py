"""What `fit` calls after an epoch: the record that a callback gets, when a callback has its turn, and callbacks that
are more than a function."""

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
    """What a callback gets after an epoch; items can be read as attributes.

    "epoch" (counted from 1, over all fits that this one goes on from), "loss", "val_loss" and the metrics where there
    are any, "lr", "seconds" since the fit began, "best" (no epoch before was better), "network".

    Attributes
    ----------
    outputs : array (n, n_out) or None
        Outputs for the validation rows, which the next epoch overwrites; None without validation rows.
    """

    outputs: Any = None

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the record has no {name!r}, it has {', '.join(self)}") from None

    def numbers(self) -> dict[str, float]:
        """What loggers take: the losses and metrics, lr and seconds."""
        return {name: value for name, value in self.items() if name not in ("epoch", "best", "network")}


class Call:
    """A callback, and when it was called last. It has its turn after every epoch, unless its attribute `every` asks for
    every so many, or `seconds` for so much time in between at least.

    Attributes
    ----------
    every : int or None
        None where it waits for `seconds`.
    epoch : int
        Of this fit, the last that it was called for.
    at : float
        When that was over, or the fit began.
    """

    callback: Callable[[Record], Any]
    every: int | None
    seconds: float
    epoch: int
    at: float

    __slots__ = ("at", "callback", "epoch", "every", "seconds")

    def __init__(self, callback: Callable[[Record], Any], began: float) -> None:
        self.callback, self.epoch, self.at = callback, 0, began
        every, seconds = pace(callback)
        self.seconds = seconds or 0.0
        self.every = None if seconds is not None else every or 1

    def is_due(self, epoch: int, now: float) -> bool:
        """Whether it has its turn after this epoch, counted over all fits."""
        return now - self.at >= self.seconds if self.every is None else epoch % self.every == 0


def pace(callback: Callable[[Record], Any]) -> tuple[int | None, float | None]:
    """The attributes `every` and `seconds` of a callback, checked."""
    every, seconds = getattr(callback, "every", None), getattr(callback, "seconds", None)
    if every is not None and seconds is not None:
        raise ValueError(f"a callback must have `every` or `seconds`, and not both, got {every!r} and {seconds!r}")
    return (
        None if every is None else check_count("every of the callback", every),
        None if seconds is None else check_positive("seconds of the callback", seconds),
    )


def asked(callback: Callable[[Record], Any], record: Record) -> bool:
    """Calls it; returns whether it ends the training. An exception comes out as it is, with a note that names it."""
    try:
        return bool(callback(record))
    except Exception as error:
        error.add_note(f"in the callback {callback!r} after epoch {record['epoch']}")
        raise


def tell(callbacks: Iterable[Any], event: str) -> None:
    """Calls the method of those that have one of this name: "open", for their training is about to begin, or "close",
    for it is over."""
    for callback in callbacks:
        method = getattr(callback, event, None)
        if callable(method):
            method()


class CallbackRunner:
    """Call the callbacks of a run when they are due. Made before the first epoch, of which it tells them.

    Parameters
    ----------
    callbacks : sequence of callables
    began : float
        Time of the start, by `perf_counter`.
    """

    def __init__(self, callbacks: Sequence[Callable[[Record], Any]], began: float) -> None:
        self.calls = [Call(callback, began) for callback in callbacks]
        tell(callbacks, "open")

    def close(self) -> None:
        """Tell them that the run is over."""
        tell((call.callback for call in self.calls), "close")

    def epochs_until_due(self, epoch: int, first: int, training_seconds: float) -> int:
        """Return how many epochs run before the next callback is due.

        Parameters
        ----------
        epoch : int
            Epochs of this run up to now.
        first : int
            Epochs before this run.
        training_seconds : float
            What the epochs of this run took.
        """
        return min(
            self._epochs_for(call, epoch, training_seconds)
            if call.every is None
            else call.every - (first + epoch) % call.every
            for call in self.calls
        )

    @staticmethod
    def _epochs_for(call: Call, epoch: int, training_seconds: float) -> int:
        """Return the number of epochs until a callback that waits for some time is due."""
        per_second = epoch / max(training_seconds, 1e-9)
        return max(1, int(per_second * (call.at + call.seconds - perf_counter())))

    def due(self, epoch: int, total: int, last: bool) -> list[Call]:
        """Return the calls that are due after an epoch; all that have not been made after the last one.

        Parameters
        ----------
        epoch, total : int
            Number of the epoch in this run, and over all fits.
        last : bool
        """
        now = perf_counter()
        return [call for call in self.calls if call.epoch != epoch and (last or call.is_due(total, now))]

    def call(self, due: Sequence[Call], record: Record, epoch: int) -> bool:
        """Call them; return whether one of them ends the training."""
        stop = False
        for call in due:
            call.epoch = epoch
            stop = asked(call.callback, record) or stop
            call.at = perf_counter()
        return stop


def judged(record: Record, form: Callable[[float], str]) -> dict[str, str]:
    """The losses and metrics of a record, as text."""
    return {name: form(value) for name, value in record.numbers().items() if name not in ("lr", "seconds")}


class Checkpoint:
    """Saves the network, with all that training goes on from, after every so many epochs and at the end.

    Parameters
    ----------
    path : str or os.PathLike
        The file. A "{epoch}" in it is replaced by the number of the epoch, so that all of them are kept; else each
        takes the place of the one before, whole.
    every : int, default 1
        Epochs from one to the next.
    best_only : bool, default False
        Only where no epoch before was better, by what `fit` monitors, those before a `load` included.

    Raises
    ------
    TypeError, ValueError
        An argument is not one of these.
    OSError
        From `fit`: the network cannot be saved there; a missing folder is noticed before the first epoch.

    Notes
    -----
    With patience, the file has the weights of its epoch, from which training goes on, and not those of the best one
    that `fit` ends with.

    Examples
    --------
    >>> net.fit(X, y, epochs=1000, optimizer="adam", callback=Checkpoint("run.json", every=50))
    >>> net = NeuralNetwork.load("run.json")
    >>> net.fit(X, y, epochs=1000)  # goes on as if nothing had happened, where other arguments are the same, too
    """

    path: str
    every: int
    best_only: bool

    def __init__(self, path: str | os.PathLike[str], every: int = 1, best_only: bool = False) -> None:
        self.path = disk.check_path("path", path)
        self.every = check_count("every", every)
        self.best_only = check_bool("best_only", best_only)

    def open(self) -> None:
        """Raises where nothing could be saved, before a training that is to be saved."""
        if "{epoch}" not in os.path.dirname(self.path):
            disk.check_writable(self.path.replace("{epoch}", "1"), "network")

    def __call__(self, record: Record) -> None:
        if record.best or not self.best_only:
            record.network.save(self.path.replace("{epoch}", str(record.epoch)), checkpoint=True)

    def __repr__(self) -> str:
        return f"Checkpoint({self.path!r}, every={self.every}, best_only={self.best_only})"


def bar_of(total: int | None, unit: str) -> Callable[[], Any]:
    """A function that shows a bar of tqdm; ImportError where that is not installed."""
    try:
        from tqdm.auto import tqdm  # type: ignore[import-untyped,import-not-found,unused-ignore]
    except ImportError as error:
        raise ImportError(
            f'a progress bar needs tqdm ({error}); install it with pip install "nnc-cython[progress]"'
        ) from error
    return partial(tqdm, total=total, unit=unit)


class Progress:
    """A progress bar (tqdm, extra `[progress]`): what `fit(progress=True)` shows.

    Parameters
    ----------
    epochs : int or None
        How many there will be, if that is known.
    first : int, default 0
        Epochs that were done before, by the fits that this one goes on from.

    Raises
    ------
    ImportError
        tqdm is not installed.
    """

    seconds: float = 0.05  # from one look to the next: nobody sees more

    def __init__(self, epochs: int | None, first: int = 0) -> None:
        self._first = first
        self._new_bar = bar_of(epochs, "epoch")
        self._bar: Any = None

    def open(self) -> None:
        """Shows the bar."""
        self._bar = self._new_bar()

    def __call__(self, record: Record) -> None:
        if self._bar is None:
            self.open()
        self._bar.set_postfix(judged(record, "{:.4g}".format), refresh=False)
        self._bar.update(record.epoch - self._first - self._bar.n)

    def close(self) -> None:
        """Leaves the bar as it is."""
        if self._bar is not None:
            self._bar.close()


class Lines:
    """A line for an epoch, in the form that Keras gives it: what `fit(verbose=1)` prints.

    Parameters
    ----------
    epochs : int or None
        How many there will be, if that is known.
    first : int, default 0
        Epochs that were done before, by the fits that this one goes on from.
    all_epochs : bool, default False
        Whether each has its line; else ten a second at most have one, and the last.
    """

    def __init__(self, epochs: int | None, first: int = 0, all_epochs: bool = False) -> None:
        if all_epochs:
            self.every = 1
        else:
            self.seconds = 0.1  # a line takes longer than many an epoch
        self._of = "" if epochs is None else f"/{first + epochs}"
        self._epoch, self._at = first, 0.0

    def open(self) -> None:
        """There is nothing to be shown before the first epoch."""

    def __call__(self, record: Record) -> None:
        each = (record.seconds - self._at) / max(record.epoch - self._epoch, 1)
        self._epoch, self._at = record.epoch, record.seconds
        numbers = {**judged(record, _plain), "lr": _plain(record.lr)}
        said = [
            f"{_time(record.seconds)} - {_time(each)}/epoch",
            *(f"{name}: {text}" for name, text in numbers.items()),
        ]
        print(f"Epoch {record.epoch}{self._of} - {' - '.join(said)}", flush=True)


def _plain(value: float) -> str:
    """Four decimals, or four behind the first digit of what is small."""
    return f"{value:.4f}" if abs(value) > 1e-3 or value == 0 else f"{value:.4e}"


def _time(seconds: float) -> str:
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.0f}{unit}"
    return f"{seconds * 1e6:.0f}us"
