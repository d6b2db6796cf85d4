"""What `fit` calls after an epoch: the record that a callback gets, and callbacks that are more than a function."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

from nnc.base.checks import count, flag


class Record(dict[str, Any]):
    """What a callback gets after an epoch; items can be read as attributes.

    "epoch" (counted from 1, over all fits that this one goes on from), "loss", "val_loss" and the metrics where there
    are any, "lr", "seconds" since the fit began, "best" (no epoch before was better), "network".
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the record has no {name!r}, it has {', '.join(self)}") from None


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

    With patience, the file has the weights of its epoch, from which training goes on, and not those of the best one
    that `fit` ends with.

    Examples
    --------
    >>> net.fit(X, y, epochs=1000, optimizer="adam", callback=Checkpoint("run.json", every=50))
    >>> net = NeuralNetwork.load("run.json")
    >>> net.fit(X, y, epochs=1000)  # goes on as if nothing had happened, where other arguments are the same, too
    """

    def __init__(self, path: str | os.PathLike[str], every: int = 1, best_only: bool = False) -> None:
        self.path = os.fsdecode(path)
        self.every = count("every", every)
        self.best_only = flag("best_only", best_only)

    def __call__(self, record: Record) -> None:
        if record.best or not self.best_only:
            record.network.save(self.path.replace("{epoch}", str(record.epoch)), checkpoint=True)

    def __repr__(self) -> str:
        return f"Checkpoint({self.path!r}, every={self.every}, best_only={self.best_only})"


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

    def __init__(self, epochs: int | None, first: int = 0) -> None:
        try:
            from tqdm.auto import tqdm  # type: ignore[import-untyped,import-not-found,unused-ignore]
        except ImportError as error:
            raise ImportError(
                f'a progress bar needs tqdm ({error}); install it with pip install "nnc-cython[progress]"'
            ) from error
        self._first = first
        self._new_bar = partial(tqdm, total=epochs, unit="epoch")
        self._bar: Any = None

    def open(self) -> None:
        """Shows the bar."""
        self._bar = self._new_bar()

    def __call__(self, record: Record) -> None:
        if self._bar is None:
            self.open()
        shown = {name: f"{record[name]:.4g}" for name in ("loss", "val_loss") if name in record}
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update(record.epoch - self._first - self._bar.n)

    def close(self) -> None:
        """Leaves the bar as it is."""
        if self._bar is not None:
            self._bar.close()
