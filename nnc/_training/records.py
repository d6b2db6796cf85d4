"""Losses, learning rates and times of the epochs of a run."""

from __future__ import annotations

from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._training.history import History

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from nnc._training.state import TrainingState

CHUNK_EPOCHS = 4096  # number of epochs for which learning rates are computed in advance
MIN_RECORD_SECONDS = 0.005  # minimum number of seconds between two entries of `time_points`


class EpochRecords:
    """Growing table of the epochs of a run, from which its History is created.

    Parameters
    ----------
    state : TrainingState
        Source of the learning rates.
    capacity : int
        Number of epochs for which memory is allocated at first.
    steps_per_epoch : int
        Number of learning rates per epoch: 1, or the number of steps if the schedule changes within epochs.

    Attributes
    ----------
    earlier_epochs : int
        Number of epochs of earlier fits with this optimizer.
    start_time : float
        Start of the run, by `perf_counter`, in seconds.
    losses : array (capacity,)
        Training loss of each epoch.
    rates : array or float
        Learning rates of the planned epochs or of their steps. A float is the constant rate of all steps.
    planned_epochs : int
        Number of epochs for which `rates` has values and `losses` has memory.
    time_points : list of (epochs, seconds)
        Numbers of completed epochs, which may be fractional, and the seconds from the start until then.
    columns : dict of lists or arrays
        Validation loss and metrics of each epoch. An array may be longer than the number of epochs.
    """

    def __init__(self, state: TrainingState, capacity: int, steps_per_epoch: int = 1) -> None:
        self.state, self.steps_per_epoch = state, steps_per_epoch
        self.earlier_epochs = state.epoch
        self.start_time = perf_counter()
        self.losses = np.empty(capacity)
        self.rates: NDArray[np.float64] | float = 0.0
        self.planned_epochs = 0
        self.time_points = [(0.0, 0.0)]
        self.columns: dict[str, Any] = {}

    def plan(self, epoch: int, goal: int) -> None:
        """Compute learning rates and allocate memory for losses, for the epochs after `epoch` up to at most `goal`."""
        state = self.state
        is_constant = state.schedule is None
        chunk = max(1, CHUNK_EPOCHS // self.steps_per_epoch)
        until = min(goal, len(self.losses) if is_constant else epoch + chunk)
        if until <= epoch:
            until = min(goal, epoch + chunk)
        if until > len(self.losses):
            self.losses = np.concatenate([self.losses, np.empty(max(until, len(self.losses)))])
        if self.planned_epochs == 0:
            self.rates = (
                state.lr
                if is_constant
                else state.rates(self.earlier_epochs, self.earlier_epochs + until, self.steps_per_epoch)
            )
        elif not is_constant or isinstance(self.rates, np.ndarray) or self.rates != state.lr:
            self._append_rates(epoch, until)
        self.planned_epochs = until

    def _append_rates(self, epoch: int, until: int) -> None:
        """Compute the learning rates of the epochs from `epoch` to `until` - 1."""
        steps = self.steps_per_epoch
        rates = self.rates
        if not isinstance(rates, np.ndarray) or until * steps > len(rates) or not rates.flags.writeable:
            n_computed = self.planned_epochs * steps
            larger = np.empty(max(until, min(len(self.losses), 2 * self.planned_epochs)) * steps)
            larger[:n_computed] = rates[:n_computed] if isinstance(rates, np.ndarray) else rates
            self.rates = rates = larger
        rates[epoch * steps : until * steps] = self.state.rates(
            self.earlier_epochs + epoch, self.earlier_epochs + until, steps
        )

    def rate_of_epoch(self, epoch: int) -> float:
        """Return the learning rate of the first step of an epoch. Epochs of this run are counted from 0."""
        return self.rate_of_step(epoch * self.steps_per_epoch)

    def rate_of_step(self, step: int) -> float:
        """Return the learning rate at an index of `rates`, or the constant learning rate."""
        return float(self.rates[step] if isinstance(self.rates, np.ndarray) else self.rates)

    def record_time(self, epochs: float, now: float) -> None:
        """Record that `epochs` epochs are complete at the time `now`, unless the last record is recent."""
        if now - self.start_time - self.time_points[-1][1] > MIN_RECORD_SECONDS:
            self.add_time(epochs, now)

    def add_time(self, epochs: float, now: float) -> None:
        """Record that `epochs` epochs are complete at the time `now`."""
        self.time_points.append((epochs, now - self.start_time))

    def is_out_of_time(self, max_seconds: float | None) -> bool:
        """Return whether the run has lasted for at least `max_seconds`."""
        return max_seconds is not None and perf_counter() - self.start_time >= max_seconds

    def history(
        self, epochs: int, reason: str, best_epoch: int | None, n_threads: int, settings: dict[str, Any] | None = None
    ) -> History:
        """Return the History of the first `epochs` epochs.

        Parameters
        ----------
        epochs : int
            Number of complete epochs.
        reason : str
            Why the run has ended.
        best_epoch : int or None
            Epoch with the best monitored value, counted from 1.
        n_threads : int
            Number of threads that trained on most rows.
        settings : dict, optional
            Resolved settings of the fit.
        """
        seconds = perf_counter() - self.start_time
        rates, steps = self.rates, self.steps_per_epoch
        columns: dict[str, NDArray[np.float64] | float | Callable[[], NDArray[np.float64]]] = {
            "loss": self.losses if epochs == self.losses.size else self.losses[:epochs],
            "lr": rates[: epochs * steps : steps] if isinstance(rates, np.ndarray) else rates,
        }
        if len(self.time_points) == 1:
            columns["epoch_seconds"] = seconds / max(epochs, 1)
        else:
            is_complete = self.time_points[-1][0] >= epochs
            points = np.array(self.time_points if is_complete else [*self.time_points, (epochs, seconds)])
            columns["epoch_seconds"] = partial(_durations, points, epochs)
        # Pad with NaN, because an exception may have left the last epoch without values.
        for name, values in self.columns.items():
            columns[name] = np.array([*values[:epochs], *[np.nan] * (epochs - len(values))], np.float64)
        return History(columns, seconds, reason, best_epoch, n_threads=n_threads, settings=settings)


def _durations(points: NDArray[np.float64], epochs: int) -> NDArray[np.float64]:
    """Return the duration of each epoch by interpolation: epochs between two time points take equally long.

    Parameters
    ----------
    points : array (n, 2)
        Numbers of completed epochs, and the seconds until then.
    epochs : int
        Number of epochs.
    """
    completed, times = points.T
    return np.diff(np.interp(np.arange(epochs + 1), completed, times))
