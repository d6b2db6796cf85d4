"""A run with a loss of the user's: each step asks the network for its outputs, the function for the derivative by them,
and learns from that."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from nnc._model.custom import NoNumberError, placeholder
from nnc._training.batches import BatchLoop
from nnc._training.divergence import DivergedError

if TYPE_CHECKING:
    from nnc._model.data import Data
    from nnc._training.history import History


class CustomLossLoop(BatchLoop):
    """One call of `fit` or `fit_batches` with a loss of the user's.

    The loss of an epoch is the mean of the losses of its batches, weighted by their rows.
    """

    adds_up = False

    def open(self, threads: int) -> None:
        given = self.data
        self.data = placeholder(given, self.model.sizes[-1])
        super().open(threads)
        self.data = given

    def step(self, data: Data) -> float:
        self.make_room(data)
        P = np.empty((data.n, self.model.sizes[-1]), self.model.dtype)
        threads = self.team.grow(self.tuner.best)
        self.team.run(partial(self.training.outputs, data.X, P, threads), 0, threads)
        if self.model.core.scan(P)[0] >= 0:
            self.data = data
            self.diverged()
        assert self.model.custom is not None
        assert data.Y is not None
        try:
            loss, dP = self.model.custom(P, data.Y)
        except NoNumberError as error:
            raise no_number(error, self.epoch + 1, self.history("diverged"), self.cause()) from None
        super().step(data.with_targets(dP))
        return loss + float(self.training.penalty)


def no_number(error: NoNumberError, epoch: int, history: History, cause: str) -> DivergedError:
    """What to raise in a training for a loss that is none, or its derivative."""
    message = f"{error}; in epoch {epoch} the network keeps the weights from before this step. {cause}"
    return DivergedError(message, history, epoch)
