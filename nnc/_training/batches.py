"""Training on batches that are read one after the other."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._model.steps import model_for_steps
from nnc._registry import losses
from nnc._training.dataset import Dataset
from nnc._training.loop import TrainingLoop
from nnc._utils.random import SHUFFLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from nnc._data.converter import DataConverter
    from nnc._model.data import Data
    from nnc._model.model import Model
    from nnc._training.options import TrainingOptions
    from nnc._training.state import TrainingState
    from nnc._utils.random import Streams


class BatchLoop(TrainingLoop):
    """Training run of `fit_batches` with one batch in memory: a batch is one step, or several of `batch_size` rows.

    Parameters
    ----------
    model : Model
        Network to train.
    converter : DataConverter
        Conversion of the batches.
    start_epoch : callable
        Function that returns an iterator of the batches (Data) of an epoch.
    options : TrainingOptions
        Checked arguments of the fit.
    state : TrainingState
        State to continue, which the run updates.
    validation : Data, optional
        Validation rows.
    all_rows : Data, optional
        All training rows if they are in memory. Metrics are computed on them if there are no validation rows.
    n_batches : int, optional
        Number of batches in an epoch, which `PerStep` schedules need; None if it is not determined in advance.

    Attributes
    ----------
    pending : Data or None
        First batch, which `__init__` has read; None after the training on it.
    rows_per_step : int or None
        Value of `batch_size`, the number of rows in a step; None if there is one step for each batch.
    completed_epochs : int
        Number of complete epochs.
    steps_taken : int
        Number of steps.
    total, penalties, weight : float
        Sums over the rows of the current epoch: of the losses without penalties, of the penalties, and of the sample
        weights.
    unbound_model : Model
        Network of the fit. If it accepts any number of steps, `model` has an engine for the steps of the current batch.
    is_sum_loss : bool
        Whether the loss of an epoch is the sum of the losses of its batches instead of their mean.
    """

    def __init__(
        self,
        model: Model,
        converter: DataConverter,
        start_epoch: Callable[[], Iterator[Data]],
        options: TrainingOptions,
        state: TrainingState,
        validation: Data | None = None,
        all_rows: Data | None = None,
        n_batches: int | None = None,
    ) -> None:
        if n_batches is None:
            check_epoch_schedule(state)
        self.start_epoch = start_epoch
        self.iterator = start_epoch()
        first = next(self.iterator, None)
        if first is None:
            raise ValueError("batches must yield at least one batch, got none")
        self.unbound_model = model
        dataset = Dataset(converter, first if all_rows is None else all_rows, validation)
        self.rows_per_step = options.batch_size
        options.batch_size = min(first.n, options.batch_size or first.n)
        super().__init__(model, dataset, options, state, first.rows(slice(options.batch_size)))
        self.model = self.model_for(first)
        if state.changes_by_step:
            self.records.steps_per_epoch = n_batches or 1
        self.pending: Data | None = first
        self.completed_epochs = self.steps_taken = 0
        self.total = self.penalties = self.weight = 0.0
        self.is_sum_loss = model.loss_function is None and losses.ROWS[model.loss].is_sum
        self.is_plain, self.check_interval = False, 1
        self.step_loss, self.step_rate = np.empty(1), np.empty(1)

    @property
    def epoch(self) -> int:
        return self.completed_epochs

    def loss_rises(self) -> tuple[int, float]:
        losses = self.records.losses[: self.completed_epochs]
        decreases = np.flatnonzero(losses[1:] <= losses[:-1])
        last = int(decreases[-1]) + 1 if len(decreases) else 0
        return len(losses) - 1 - last, float(losses[last])

    def model_for(self, rows: Data) -> Model:
        model, n_in = self.unbound_model, rows.source.X.shape[1]
        return model if n_in == model.sizes[0] else model_for_steps(model, n_in // model.input_shape[1])

    def max_threads(self) -> int:
        self.batch_size = self.data.n
        return super().max_threads()

    def create_training(self, threads: int) -> None:
        self.batch_size = self.data.n  # number of rows for which the core allocates memory
        self.model = self.model_for(self.data)
        super().create_training(threads)

    def batches(self) -> Iterator[Data]:
        """Yield the batches of the next epoch; the first epoch starts with the batch that `__init__` has read."""
        if self.pending is not None:
            yield self.pending
            self.pending = None
            yield from self.iterator
        else:
            yield from self.start_epoch()

    def advance(self, goal: int) -> None:
        """Train for one epoch, unless Ctrl-C or the time limit ends the run."""
        self.total = self.penalties = self.weight = 0.0
        self.training.refresh()
        for data in self.batches():
            self.train_on(data)
            if self.interrupt or self.is_out_of_time():
                return
        weight = self.weight
        if not weight:
            epoch = self.completed_epochs + 1
            raise ValueError(f"batches must yield at least one batch in each epoch, got none in epoch {epoch}")
        with self.model.snapshot_lock:
            loss = self.total if self.is_sum_loss else self.total / weight
            self.records.losses[self.completed_epochs] = loss + self.penalties / weight
            self.completed_epochs += 1
            self.record_time(perf_counter())

    def train_on(self, data: Data) -> None:
        """Take a step on a batch, and add its loss to the sums of the epoch."""
        loss = self.step(data)
        rows = data.loss_weight(self.model.stack.output_shape)
        penalty = self.training.penalty
        self.total += (loss - penalty) * (1.0 if self.is_sum_loss else rows)
        self.penalties += penalty * rows
        self.weight += rows

    def ensure_capacity(self, data: Data) -> None:
        """Create a new run of the core if the buffers of the current run do not fit the batch."""
        self.model.check_batch_rows(data.n)
        (n, *parts), (capacity, *allocated) = data.layout, self.data.layout
        has_same_steps = data.X.shape[1] == self.data.X.shape[1]
        # Create a new run if the batch needs more or other buffers, or an engine for another number of steps.
        if n > capacity or parts != allocated or not has_same_steps:
            self.save_progress()
            self.data = data
            self.create_training(self.team.max_threads)
            if self.options.epoch_settings is not None:
                self.options.epoch_settings(self.training, self.records.earlier_epochs + self.epoch)

    def step(self, data: Data) -> float:
        """Take a step on a batch, and return its loss before the step, penalties included."""
        self.ensure_capacity(data)
        self.training.set_rows(data)
        at = self.steps_taken if self.state.changes_by_step else self.completed_epochs
        self.step_rate[0], self.step_loss[0] = self.records.rate_of_step(at), np.nan
        self.training.set_epochs(self.step_loss, self.step_rate, 1)
        while not self.training.done:
            self.run_slice()
        if self.training.diverged or self.training.broken_layer:
            self.data = data
            self.raise_divergence()
        self.steps_taken += 1
        return float(self.step_loss[0])

    def remaining_rows(self) -> float:
        return np.inf

    def record_time(self, now: float) -> None:
        self.records.time_points.append((self.completed_epochs, now - self.records.start_time))


def check_epoch_schedule(state: TrainingState) -> None:
    """Raise ValueError for a PerStep schedule, which needs the number of batches in an epoch."""
    if state.changes_by_step:
        raise ValueError(
            "lr must not be PerStep for fit_batches, which does not count the batches of an epoch in advance; pass a "
            "schedule that counts epochs"
        )


def epoch_batches(
    model: Model,
    streams: Streams,
    data: Data,
    batch_size: int,
    shuffles: bool,
    convert: Callable[[Data, NDArray[Any]], Data] | None = None,
) -> Callable[[], Iterator[Data]]:
    """Return a function that starts an epoch: it returns an iterator of the batches of `data`.

    Parameters
    ----------
    model : Model
        Network whose core shuffles the rows, in the same order as for a fit on arrays.
    streams : Streams
        Random streams of the fit.
    data : Data
        All rows.
    batch_size : int
        Rows in a batch.
    shuffles : bool
        Draw a new order of the rows for each epoch.
    convert : callable, optional
        Conversion of a batch, called with the batch and the indices of its rows.
    """
    n = data.n
    order = np.arange(n, dtype=np.int32)

    def batches() -> Iterator[Data]:
        if shuffles:
            streams.shuffle_position = model.core.shuffle(order, streams.key(SHUFFLE), streams.shuffle_position)
        for start in range(0, n, batch_size):
            indices = order[start : start + batch_size]
            rows = data.rows(indices if shuffles else slice(start, start + batch_size))
            yield rows if convert is None else convert(rows, indices)

    return batches
