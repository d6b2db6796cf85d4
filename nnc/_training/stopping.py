"""Early stopping: best value so far, patience, and parameters to restore."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._training.history import History
    from nnc._training.minimizer import Run
    from nnc._training.options import TrainingOptions


class Monitor:
    """Observer with the stopping rules of the options: it determines the best epoch and ends a run out of patience.

    Parameters
    ----------
    options : TrainingOptions
        Patience, thresholds, and whether to restore the best parameters.

    Attributes
    ----------
    interval : int
        Number of epochs between two checks; 0 if only callbacks need them.
    checked_epochs : int
        Number of epochs that were checked.
    best : float
        Best value of this run. A smaller value is better; values for which larger is better are negated.
    best_epoch : int or None
        Epoch of the best value, counted from 1.
    last_improvement : int
        Last epoch that improved the value by more than the threshold. Patience counts from this epoch.
    params : array or None
        Copy of the parameters at the end of the best epoch, if the run restores them.
    earlier_best : float or None
        Best value of the fits that this run continues; None before it is computed.
    """

    interval = 0
    checked_epochs = 0
    best = np.inf
    best_epoch: int | None = None
    last_improvement = 0
    params: NDArray[np.floating] | None = None
    earlier_best: float | None = None

    def __init__(self, options: TrainingOptions) -> None:
        self.options = options

    def next_check(self, epoch: int) -> int:
        """Return the epoch after which `check` has to be called."""
        return epoch + self.interval if self.interval else sys.maxsize

    def check(self, run: Run) -> str:
        """Evaluate the last epoch and call the callbacks; return the reason to end the run, or "" to continue."""
        epoch, options, reason = run.epoch, self.options, ""
        if epoch == self.checked_epochs:
            return reason
        is_best = self.compare(run, epoch)
        self.checked_epochs = epoch
        if options.patience is not None and epoch - self.last_improvement >= options.patience:
            reason = "patience"
        is_last = bool(reason) or epoch == options.max_epochs or bool(run.limit())
        return "callback" if run.run_callbacks(epoch, is_best, is_last) else reason

    def compare(self, run: Run, epoch: int) -> bool:
        """Evaluate an epoch, and return whether it is the best one so far.

        If the training loss is monitored, earlier epochs since the last check are compared too.
        """
        options, losses = self.options, run.records.losses
        run.evaluate()
        values = run.records.columns.get(options.monitor)
        if values is None:
            index = self.checked_epochs + int(losses[self.checked_epochs : epoch].argmin())
            value = float(losses[index])
        else:
            index, value = epoch - 1, values[-1]
        signed = -value if options.larger_is_better else value
        if run.state.plateau is not None:
            run.state.plateau.observe(signed)
        return self.observe(signed, index + 1, epoch, run.params)

    def observe(self, value: float, value_epoch: int, epoch: int, params: NDArray[np.floating]) -> bool:
        """Update the best value.

        Parameters
        ----------
        value : float
            Monitored value.
        value_epoch : int
            Epoch of the value, counted from 1.
        epoch : int
            Last complete epoch, which may be later than `value_epoch`.
        params : array
            Parameters after `epoch`.

        Returns
        -------
        bool
            Whether `epoch` is the best one so far.
        """
        options = self.options
        threshold = options.min_delta
        if options.min_relative_delta and self.best_epoch is not None:
            threshold += options.min_relative_delta * abs(self.best)
        if value < self.best - threshold:
            self.last_improvement = value_epoch
        elif not (options.restore_best == "last" and value == self.best < np.inf):
            return False
        self.best, self.best_epoch = value, value_epoch
        if value_epoch != epoch:
            return False
        if options.restore_best:
            self.save_params(params)
        return True

    def save_params(self, params: NDArray[np.floating]) -> None:
        """Copy `params`, the parameters of the best epoch, to `self.params`."""
        if self.params is None:
            self.params = np.empty_like(params)
        self.params[...] = params

    def beats_earlier_fits(self, histories: list[History]) -> bool:
        """Return whether the best value of this run is better than those of the earlier fits that it continues.

        Return True if no value has been monitored in this run.
        """
        if self.best == np.inf:
            return True
        if self.earlier_best is None:
            name, sign = self.options.monitor, -1 if self.options.larger_is_better else 1
            columns = [sign * history[name] for history in histories if name in history]
            self.earlier_best = float(np.fmin.reduce(np.concatenate([[np.inf], *columns])))
        return self.best < self.earlier_best
