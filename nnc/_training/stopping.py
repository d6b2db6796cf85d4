"""Early stopping: best value so far, patience, and parameters to restore."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._training.history import History
    from nnc._training.options import TrainingOptions


class Monitor:
    """Observer of the monitored value of a run.

    A smaller value is better. The caller negates values for which larger is better.

    Parameters
    ----------
    options : TrainingOptions
        Patience, thresholds, and whether to restore the best parameters.

    Attributes
    ----------
    best : float
        Best value of this run.
    best_epoch : int or None
        Epoch of the best value, counted from 1.
    last_improvement : int
        Last epoch that improved the value by more than the threshold. Patience counts from this epoch.
    params : array or None
        Copy of the parameters at the end of the best epoch, if the run restores them.
    earlier_best : float or None
        Best value of the fits that this run continues; None before it is computed.
    """

    best = np.inf
    best_epoch: int | None = None
    last_improvement = 0
    params: NDArray[np.floating] | None = None
    earlier_best: float | None = None

    def __init__(self, options: TrainingOptions) -> None:
        self.options = options

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

    def is_out_of_patience(self, epoch: int) -> bool:
        """Return whether the last improvement is at least `patience` epochs ago."""
        patience = self.options.patience
        return patience is not None and epoch - self.last_improvement >= patience

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
