"""Training with a custom loss, which is a function of the outputs and the targets."""

from __future__ import annotations

from functools import partial
from time import sleep
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._model.custom import NonFiniteLossError
from nnc._team import CustomStep
from nnc._training.batches import BatchLoop
from nnc._training.divergence import DivergedError
from nnc._training.loop import YIELD_SECONDS
from nnc._training.threads import SLICE_SECONDS

if TYPE_CHECKING:
    from nnc._model.data import Data
    from nnc._training.history import History


class CustomLossLoop(BatchLoop):
    """Training run of one call of `fit` or `fit_batches` with a custom loss.

    The loss of an epoch is the mean of the losses of its batches, weighted by their rows. For `fit` on arrays,
    `batches` yields several batches at once, which `train_on` splits.

    Attributes
    ----------
    custom_step : CustomStep or None
        Steps on one thread and on batches of one block of rows; None if a step uses several threads or blocks, or if
        the rows have lengths or outputs at each step.
    """

    custom_step: CustomStep | None = None

    def create_training(self, threads: int) -> None:
        data = self.data
        # Python computes a custom loss, and the core receives its derivatives with respect to the outputs as targets.
        self.data = data.with_output_gradient(np.zeros((data.n, self.model.sizes[-1]), self.model.dtype))
        super().create_training(threads)
        self.data = data
        is_simple = len(self.model.stack.output_shape) == 1 and data.lengths is None
        is_one_block = is_simple and threads == 1 and data.n <= self.training.block
        self.custom_step = CustomStep(self.training, self.model) if is_one_block else None

    def train_on(self, data: Data) -> None:
        """Take a step on each batch of these rows, unless Ctrl-C or the time limit ends the run."""
        size, row = self.rows_per_step or data.n, 0
        if self.rows_per_step is None:
            self.ensure_capacity(data)
        try:
            while row < data.n and not (row and (self.interrupt or self.is_out_of_time())):
                if self.custom_step is None:
                    super().train_on(data.rows(slice(row, row + size)))
                    row += size
                else:
                    row = self.take_steps(self.custom_step, data, row, size)
        except NonFiniteLossError as error:
            history = self.history("diverged")
            raise custom_divergence_error(error, self.epoch + 1, history, self.divergence_cause()) from None

    def take_steps(self, custom_step: CustomStep, data: Data, row: int, size: int) -> int:
        """Take steps on batches of `size` rows from `row` on for about 50 ms; return the index of the next row."""
        records, total, penalties = self.records, self.total, self.penalties
        rates: Any = records.rate_of_step(self.completed_epochs)
        if self.state.changes_by_step:
            rates = records.rates[self.steps_taken :]  # type: ignore[index]
        if self.model.snapshot_lock.awaited:  # pause, so that a waiting thread can acquire the snapshot lock
            sleep(YIELD_SECONDS)
        end, self.total, self.penalties = custom_step.run(data, row, size, rates, SLICE_SECONDS, total, penalties)
        if self.total != self.total:
            self.data = data.rows(slice(end, end + size))
            self.raise_divergence()
        self.steps_taken += -(-(end - row) // size)
        self.weight += end - row
        return end

    def step(self, data: Data) -> float:
        """Take a step in several calls of the core, possibly with several threads; return the loss before the step."""
        P = np.empty((data.n, self.model.sizes[-1]), self.model.dtype)
        threads = 1 if self.training.single_threaded else self.team.grow(self.tuner.best)
        self.team.run(partial(self.training.outputs, data.X, P, threads, lengths=data.lengths), 0, threads)
        if self.model.core.find_not_finite(P)[0] >= 0:
            self.data = data
            self.raise_divergence()
        assert self.model.custom is not None
        loss, dP = self.model.custom.of_rows(P, data)
        super().step(data.with_output_gradient(dP))
        return loss + float(self.training.penalty)


def custom_divergence_error(error: NonFiniteLossError, epoch: int, history: History, cause: str) -> DivergedError:
    """Return the DivergedError for a custom loss or a derivative of it that is not finite."""
    message = f"{error}; in epoch {epoch} the network keeps the weights from before this step. {cause}"
    return DivergedError(message, history, epoch)
