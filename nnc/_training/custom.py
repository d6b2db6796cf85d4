"""Training with a custom loss, which is a function of the outputs and the targets."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._model.custom import NonFiniteLossError
from nnc._team import CustomStep
from nnc._training.divergence import NotFiniteError
from nnc._training.threads import SLICE_SECONDS

if TYPE_CHECKING:
    from nnc._model.data import Data, RunSettings
    from nnc._model.model import Model
    from nnc._training.first_order import FirstOrder
    from nnc._training.records import EpochRecords
    from nnc._training.sources import BatchSource


class CustomObjective:
    """Objective that Python computes: the core receives derivatives with respect to the outputs as targets.

    The loss of an epoch is the mean of the losses of its batches, weighted by their rows. For `fit` on arrays, the
    source yields several batches at once, which `train_on` splits.

    Attributes
    ----------
    custom_step : CustomStep or None
        Steps on one thread and on batches of one block of rows; None if a step uses several threads or blocks, or if
        the rows have lengths or outputs at each step.
    """

    divergence_cause = ""
    custom_step: CustomStep | None = None

    def max_threads(self, n_threads: int | None) -> int:
        """Return 0, because the network determines the number of threads."""
        return 0

    def before_epochs(self, records: EpochRecords) -> None:
        """Do nothing, because steps need no preparation."""

    def create_training(self, model: Model, data: Data | None, settings: RunSettings) -> Any:
        """Return a run of the core for batches with the layout of these rows."""
        assert data is not None
        rows = data.with_output_gradient(np.zeros((data.n, model.sizes[-1]), model.dtype))
        training = model.core.Training(model.engine, model.theta_view, rows, settings)
        is_simple = len(model.stack.output_shape) == 1 and data.lengths is None
        is_one_block = is_simple and settings.threads == 1 and data.n <= training.block
        self.custom_step = CustomStep(training, model) if is_one_block else None
        return training

    def train_on(self, data: Data, minimizer: FirstOrder, source: BatchSource) -> None:
        """Take a step on each batch of these rows, unless Ctrl-C or the time limit ends the run."""
        size, row = source.batch_size or data.n, 0
        if source.batch_size is None:
            source.ensure_capacity(minimizer, data)
        try:
            while row < data.n and not (row and minimizer.is_interrupted()):
                if self.custom_step is None:
                    self.step(data.rows(slice(row, row + size)), minimizer, source)
                    row += size
                else:
                    row = self.take_steps(self.custom_step, data, row, size, minimizer, source)
        except NonFiniteLossError as error:
            raise NotFiniteError(reason=str(error)) from None

    def take_steps(
        self,
        custom_step: CustomStep,
        data: Data,
        row: int,
        size: int,
        minimizer: FirstOrder,
        source: BatchSource,
    ) -> int:
        """Take steps on batches of `size` rows from `row` on for about 50 ms; return the index of the next row."""
        records, total, penalties = minimizer.records, source.total, source.penalties
        rates: Any = records.rate_of_step(source.epochs)
        if minimizer.state.changes_by_step:
            rates = records.rates[source.steps :]  # type: ignore[index]
        minimizer.yield_to_readers()
        end, source.total, source.penalties = custom_step.run(data, row, size, rates, SLICE_SECONDS, total, penalties)
        if source.total != source.total:
            raise NotFiniteError(data.rows(slice(end, end + size)).X, minimizer.training.broken_layer)
        source.steps += -(-(end - row) // size)
        source.weight += end - row
        return end

    def step(self, data: Data, minimizer: FirstOrder, source: BatchSource) -> None:
        """Take a step in several calls of the core, possibly with several threads."""
        model, training, team = minimizer.model, minimizer.training, minimizer.team
        P = np.empty((data.n, model.sizes[-1]), model.dtype)
        threads = 1 if training.single_threaded else team.grow(minimizer.n_threads)
        team.run(partial(training.outputs, data, P, threads), 0, threads)
        if model.core.find_not_finite(P)[0] >= 0:
            raise NotFiniteError(data.X, training.broken_layer)
        assert model.custom is not None
        loss, dP = model.custom.of_rows(P, data)
        source.step(minimizer, data.with_output_gradient(dP))
        source.add(minimizer, data, loss + float(minimizer.training.penalty))
