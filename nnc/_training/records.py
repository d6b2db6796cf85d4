"""Losses, learning rates and times of the epochs of a run."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from nnc._training.history import History

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from nnc._training.state import TrainingState

CHUNK_EPOCHS = 4096  # epochs for which learning rates are computed ahead, and the growth of the array of losses
MIN_MARK_SECONDS = 0.005  # between two readings of the clock that are recorded


class EpochRecords:
    """The table of a run while it grows, from which its History is made.

    Parameters
    ----------
    state : TrainingState
        Gives the learning rates.
    space : int
        Number of epochs for which there is space at first.
    steps_per_epoch : int
        Number of learning rates in an epoch: 1, or the number of its steps where the schedule changes within epochs.

    Attributes
    ----------
    first : int
        Number of epochs of earlier fits with this optimizer.
    began : float
        Time of the start, by `perf_counter`.
    losses : array
        Training loss of each epoch.
    rates : array or float
        Learning rates of all steps that are planned, or the one rate of all steps.
    planned : int
        Number of epochs for which `rates` and `losses` have values or space.
    marks : list of (epochs, seconds)
        Readings of the clock.
    columns : dict of lists
        Validation loss and metrics of each epoch.
    """

    def __init__(self, state: TrainingState, space: int, steps_per_epoch: int = 1) -> None:
        self.state, self.steps_per_epoch = state, steps_per_epoch
        self.first = state.epoch
        self.began = perf_counter()
        self.losses = np.empty(space)
        self.rates: NDArray[np.float64] | float = 0.0
        self.planned = 0
        self.marks = [(0.0, 0.0)]
        self.columns: dict[str, list[float]] = {}

    def plan(self, epoch: int, goal: int) -> None:
        """Provide learning rates, and space for losses, for some epochs after `epoch`, up to `goal` at most."""
        state = self.state
        is_constant = state.schedule is None
        chunk = max(1, CHUNK_EPOCHS // self.steps_per_epoch)
        until = min(goal, len(self.losses) if is_constant else epoch + chunk)
        if until <= epoch:
            until = min(goal, epoch + chunk)
        if until > len(self.losses):
            self.losses = np.concatenate([self.losses, np.empty(max(until, len(self.losses)))])
        if self.planned == 0:
            self.rates = state.lr if is_constant else state.rates(self.first, self.first + until, self.steps_per_epoch)
        elif not is_constant or isinstance(self.rates, np.ndarray) or self.rates != state.lr:
            self._append_rates(epoch, until)
        self.planned = until

    def _append_rates(self, epoch: int, until: int) -> None:
        steps = self.steps_per_epoch
        rates = self.rates
        if not isinstance(rates, np.ndarray) or until * steps > len(rates) or not rates.flags.writeable:
            known = self.planned * steps
            larger = np.empty(max(until, min(len(self.losses), 2 * self.planned)) * steps)
            larger[:known] = rates[:known] if isinstance(rates, np.ndarray) else rates
            self.rates = rates = larger
        rates[epoch * steps : until * steps] = self.state.rates(self.first + epoch, self.first + until, steps)

    def rate_of(self, epoch: int) -> float:
        """Return the learning rate of the first step of an epoch of this run, counted from 0."""
        return self.rate_of_step(epoch * self.steps_per_epoch)

    def rate_of_step(self, step: int) -> float:
        """Return the learning rate of an item of `rates`."""
        return float(self.rates[step] if isinstance(self.rates, np.ndarray) else self.rates)

    def mark(self, epochs: float, now: float) -> None:
        """Record the time at which so many epochs were complete, unless the last record is recent."""
        seconds = now - self.began
        if seconds - self.marks[-1][1] > MIN_MARK_SECONDS:
            self.marks.append((epochs, seconds))

    def history(
        self, epochs: int, reason: str, best_epoch: int | None, n_threads: int, settings: dict[str, Any] | None = None
    ) -> History:
        """Return the History of the epochs that are complete."""
        seconds = perf_counter() - self.began
        rates, steps = self.rates, self.steps_per_epoch
        columns: dict[str, NDArray[np.float64] | float] = {
            "loss": self.losses if epochs == self.losses.size else self.losses[:epochs],
            "lr": rates[: epochs * steps : steps] if isinstance(rates, np.ndarray) else rates,
        }
        if len(self.marks) == 1:
            columns["epoch_seconds"] = seconds / max(epochs, 1)
        else:  # between two readings of the clock, all epochs take the same time
            marks = self.marks if self.marks[-1][0] >= epochs else [*self.marks, (epochs, seconds)]
            at, when = np.array(marks).T
            columns["epoch_seconds"] = np.diff(np.interp(np.arange(epochs + 1), at, when))
        for name, values in self.columns.items():  # an exception may have come between an epoch and its values
            columns[name] = np.array([*values[:epochs], *[np.nan] * (epochs - len(values))], np.float64)
        return History(columns, seconds, reason, best_epoch, n_threads=n_threads, settings=settings)
