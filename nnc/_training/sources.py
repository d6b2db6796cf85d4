"""Sources of the rows of a run that are read one batch after the other."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from nnc._model.steps import model_for_rows
from nnc._registry import losses
from nnc._training.first_order import Objective
from nnc._utils.random import SHUFFLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from nnc._model.data import Data
    from nnc._model.model import Model
    from nnc._training.first_order import FirstOrder
    from nnc._utils.random import Streams


class Batches:
    """Iterable over the batches of the next epoch.

    Parameters
    ----------
    start_epoch : callable
        Function that returns an iterator of the batches (Data) of an epoch.

    Attributes
    ----------
    first : Data
        First batch of the first epoch, which is read at once.

    Raises
    ------
    ValueError
        The first epoch has no batch.
    """

    def __init__(self, start_epoch: Callable[[], Iterator[Data]]) -> None:
        self.start_epoch = start_epoch
        self.iterator: Iterator[Data] | None = start_epoch()
        first = next(self.iterator, None)
        if first is None:
            raise ValueError("batches must yield at least one batch, got none")
        self.first = first

    def __iter__(self) -> Iterator[Data]:
        iterator, self.iterator = self.iterator, None
        if iterator is None:
            yield from self.start_epoch()
        else:
            yield self.first
            yield from iterator


class BatchObjective(Objective, Protocol):
    """Objective that takes the steps on the batches of a BatchSource."""

    def train_on(self, data: Data, minimizer: FirstOrder, source: BatchSource) -> None:
        """Take a step on each batch of these rows, unless Ctrl-C or the time limit ends the run."""


class BatchSource:
    """Source with one batch in memory: a batch is one step, or several of `batch_size` rows with a custom loss.

    Parameters
    ----------
    model : Model
        Network of the fit. If it accepts any number of steps, each batch has an engine for its number of steps.
    start_epoch : callable
        Function that returns an iterator of the batches (Data) of an epoch.
    batch_size : int or None
        Rows in a step of a custom loss; None if there is one step for each batch.
    n_batches : int, optional
        Number of steps in an epoch, which `PerStep` schedules need; None if it is not determined in advance.
    custom : BatchObjective, optional
        Objective that takes the steps.

    Attributes
    ----------
    first : Data
        First batch.
    rows : Data
        Rows of the first step.
    epochs : int
        Number of complete epochs.
    steps : int
        Number of steps.
    total, penalties, weight : float
        Sums over the rows of the current epoch: of the losses without penalties, of the penalties, and of the sample
        weights.
    is_sum_loss : bool
        Whether the loss of an epoch is the sum of the losses of its batches instead of their mean.
    """

    reads_batches = True

    def __init__(
        self,
        model: Model,
        start_epoch: Callable[[], Iterator[Data]],
        batch_size: int | None = None,
        n_batches: int | None = None,
        custom: BatchObjective | None = None,
    ) -> None:
        self.model, self.batch_size, self.custom = model, batch_size, custom
        self.steps_per_epoch = n_batches or 1
        self.batches = Batches(start_epoch)
        self.first = first = self.batches.first
        self.rows = first.rows(slice(min(first.n, batch_size or first.n)))
        self.epochs = self.steps = 0
        self.total = self.penalties = self.weight = 0.0
        self.is_sum_loss = model.loss_function is None and losses.ROWS[model.loss].is_sum

    def count_epochs(self, core_epochs: int) -> int:
        """Return the number of complete epochs; in the core, each step is an epoch."""
        return self.epochs

    def train(self, minimizer: FirstOrder, goal: int) -> None:
        """Train for one epoch, unless Ctrl-C or the time limit ends the run."""
        self.total = self.penalties = self.weight = 0.0
        minimizer.training.refresh()
        for data in self.batches:
            if self.custom is None:
                self.step(minimizer, data)
                self.add(minimizer, data, float(minimizer.step_loss[0]))
            else:
                self.custom.train_on(data, minimizer, self)
            if minimizer.is_interrupted():
                return
        weight, records = self.weight, minimizer.records
        if not weight:
            raise ValueError(
                f"batches must yield at least one batch in each epoch, got none in epoch {self.epochs + 1}"
            )
        with self.model.snapshot_lock:
            loss = self.total if self.is_sum_loss else self.total / weight
            records.losses[self.epochs] = loss + self.penalties / weight
            self.epochs += 1
            records.add_time(self.epochs, perf_counter())

    def add(self, minimizer: FirstOrder, data: Data, loss: float) -> None:
        """Add the loss of the last step on a batch, which includes the penalty, to the sums of the epoch."""
        penalty, rows = minimizer.training.penalty, data.loss_weight(minimizer.model.stack.output_shape)
        self.total += (loss - penalty) * (1.0 if self.is_sum_loss else rows)
        self.penalties += penalty * rows
        self.weight += rows

    def step(self, minimizer: FirstOrder, data: Data) -> None:
        """Take a step on a batch."""
        self.ensure_capacity(minimizer, data)
        at = self.steps if minimizer.state.changes_by_step else self.epochs
        minimizer.take_step(data, minimizer.records.rate_of_step(at))
        minimizer.check_finite(data)
        self.steps += 1

    def ensure_capacity(self, minimizer: FirstOrder, data: Data) -> None:
        """Create a new run of the core if the buffers of the current run do not fit the batch."""
        self.model.check_batch_rows(data.n)
        assert minimizer.data is not None
        (n, *parts), (capacity, *allocated) = data.layout, minimizer.data.layout
        has_same_steps = data.source.X.shape[1] == minimizer.data.source.X.shape[1]
        # Create a new run if the batch needs more or other buffers, or an engine for another number of steps.
        if n > capacity or parts != allocated or not has_same_steps:
            minimizer.replace_training(self.model_for(data), data)
            settings = minimizer.options.epoch_settings
            if settings is not None:
                settings(minimizer.training, minimizer.records.earlier_epochs + self.epochs)

    def model_for(self, rows: Data) -> Model:
        """Return the network, with an engine for the number of steps of these rows."""
        return model_for_rows(self.model, rows)


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
