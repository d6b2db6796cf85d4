"""Early stopping: the best value so far, patience, and the weights to restore."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._training.history import History
    from nnc._training.options import TrainingOptions


class Monitor:
    """Follow the value that a run monitors. Smaller is better: the sign of other values is changed.

    Parameters
    ----------
    options : TrainingOptions

    Attributes
    ----------
    best : float
        The best value of this run.
    best_epoch : int or None
        Its epoch, counted from 1.
    improved : int
        The last epoch with an improvement by more than the threshold; patience counts from it.
    params : array or None
        The parameters at the end of the best epoch, where they are kept.
    """

    best = np.inf
    best_epoch: int | None = None
    improved = 0
    params: NDArray[np.floating] | None = None
    earlier_best: float | None = None

    def __init__(self, options: TrainingOptions) -> None:
        self.options = options

    def observe(self, value: float, number: int, epoch: int, params: NDArray[np.floating]) -> bool:
        """Take account of the value of epoch `number` at the end of `epoch`, which may be a later one.

        Returns
        -------
        bool
            Whether `epoch` is the best one so far.
        """
        options = self.options
        threshold = options.min_delta
        if options.min_share and self.best_epoch is not None:
            threshold += options.min_share * abs(self.best)
        if value < self.best - threshold:
            self.improved = number
        elif not (options.keeps_best == "last" and value == self.best < np.inf):
            return False
        self.best, self.best_epoch = value, number
        if number != epoch:
            return False
        if options.keeps_best:
            self.keep(params)
        return True

    def keep(self, params: NDArray[np.floating]) -> None:
        """Copy these parameters."""
        if self.params is None:
            self.params = np.empty_like(params)
        self.params[...] = params

    def is_out_of_patience(self, epoch: int) -> bool:
        """Return whether the last improvement is too many epochs ago."""
        patience = self.options.patience
        return patience is not None and epoch - self.improved >= patience

    def beats_earlier_fits(self, histories: list[History]) -> bool:
        """Return whether the best value is better than all of these fits, which this one continues."""
        if self.best == np.inf:  # not followed here
            return True
        if self.earlier_best is None:
            name, sign = self.options.monitor, -1 if self.options.larger_is_better else 1
            columns = [sign * history[name] for history in histories if name in history]
            self.earlier_best = float(np.fmin.reduce(np.concatenate([[np.inf], *columns])))
        return self.best < self.earlier_best
