"""Training with a custom loss, which is a function of the outputs and the targets."""

from __future__ import annotations

from functools import partial
from time import sleep
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._model.custom import NonFiniteLossError, zero_target_data
from nnc._team import CustomStep
from nnc._training.batches import BatchLoop
from nnc._training.divergence import DivergedError
from nnc._training.loop import GIVE_WAY_SECONDS
from nnc._training.threads import SLICE

if TYPE_CHECKING:
    from nnc._model.data import Data
    from nnc._training.history import History


class CustomLossLoop(BatchLoop):
    """One call of `fit` or `fit_batches` with a custom loss.

    The loss of an epoch is the mean of the losses of its batches, weighted by their rows. For `fit` on arrays,
    `batches` yields several batches at once, which `train_on` splits.
    """

    prepared: CustomStep | None = None  # for steps on one thread and on one block of rows

    def open(self, threads: int) -> None:
        data = self.data
        self.data = zero_target_data(data, self.model.sizes[-1])
        super().open(threads)
        self.data = data
        is_one_block = threads == 1 and data.n <= self.training.block
        self.prepared = CustomStep(self.training, self.model) if is_one_block else None

    def train_on(self, data: Data) -> None:
        """Take a step on each batch of these rows, until Ctrl-C or `max_seconds` ends the run."""
        size, row = self.rows_per_step or data.n, 0
        if size > self.data.n:
            self.make_room(data)
        try:
            while row < data.n and not (row and (self.interrupt or self.is_late())):
                if self.prepared is None:
                    super().train_on(data.rows(slice(row, row + size)))
                    row += size
                else:
                    row = self.take_steps(self.prepared, data, row, size)
        except NonFiniteLossError as error:
            raise no_number(error, self.epoch + 1, self.history("diverged"), self.cause()) from None

    def take_steps(self, prepared: CustomStep, data: Data, row: int, size: int) -> int:
        """Take steps on batches of `size` rows from `row` on; return the row where the next slice begins."""
        records, total, penalties = self.records, self.total, self.penalties
        rates: Any = records.rate_of_step(self.complete)
        if self.state.changes_by_step:
            rates = records.rates[self.steps_taken :]  # type: ignore[index]
        if self.model.snapshot_lock.awaited:  # or this thread would lock it again before the other one is awake
            sleep(GIVE_WAY_SECONDS)
        assert data.Y is not None
        Y = data.Y.view()
        Y.flags.writeable = False  # once for all batches
        end, self.total, self.penalties = prepared.run(data.X, Y, row, size, rates, SLICE, total, penalties)
        if self.total != self.total:
            self.data = data.rows(slice(end, end + size))
            self.diverged()
        self.steps_taken += -(-(end - row) // size)
        self.weight += end - row
        return end

    def step(self, data: Data) -> float:
        """Take a step with a team of threads, or on a batch of several blocks, which slices of time divide."""
        P = np.empty((data.n, self.model.sizes[-1]), self.model.dtype)
        threads = self.team.grow(self.tuner.best)
        self.team.run(partial(self.training.outputs, data.X, P, threads), 0, threads)
        if self.model.core.find_not_finite(P)[0] >= 0:
            self.data = data
            self.diverged()
        assert self.model.custom is not None
        assert data.Y is not None
        loss, dP = self.model.custom(P, data.Y)
        super().step(data.with_targets(dP))
        return loss + float(self.training.penalty)


def no_number(error: NonFiniteLossError, epoch: int, history: History, cause: str) -> DivergedError:
    """What to raise in a training for a loss that is none, or its derivative."""
    message = f"{error}; in epoch {epoch} the network keeps the weights from before this step. {cause}"
    return DivergedError(message, history, epoch)
