"""Training on batches that arrive one by one."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

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
    """One call of `fit_batches`: one step for each batch; no more than one batch is in memory.

    Parameters
    ----------
    model : Model
    converter : DataConverter
    passes : callable
        Returns an iterator of Data for each epoch.
    options : TrainingOptions
    state : TrainingState
    validation : Data, optional
    whole : Data, optional
        All rows, where they are at hand: metrics are computed on them where there are no validation rows.
    number : int, optional
        Number of batches in an epoch, where that is known.
    """

    def __init__(
        self,
        model: Model,
        converter: DataConverter,
        passes: Callable[[], Iterator[Data]],
        options: TrainingOptions,
        state: TrainingState,
        validation: Data | None = None,
        whole: Data | None = None,
        number: int | None = None,
    ) -> None:
        if state.changes_by_step and number is None:
            raise ValueError("lr: PerStep has to know how many batches there are, which come one by one here")
        self.passes = passes
        self.iterator = passes()
        first = next(self.iterator, None)
        if first is None:
            raise ValueError("batches must give at least one batch, got none")
        dataset = Dataset(converter, first if whole is None else whole, validation)
        self.rows_per_step = options.batch_size
        options.batch_size = min(first.n, options.batch_size or first.n)
        super().__init__(model, dataset, options, state, first.rows(slice(options.batch_size)))
        if state.changes_by_step:
            self.records.steps_per_epoch = number or 1
        self.waiting: Data | None = first
        self.complete = self.steps_taken = 0
        self.total = self.penalties = self.weight = 0.0  # sums over the rows of an epoch
        self.adds_up = model.loss_function is None and losses.ROWS[model.loss].is_sum
        self.is_plain, self.every = False, 1
        self.one_loss, self.one_rate = np.empty(1), np.empty(1)

    @property
    def epoch(self) -> int:
        return self.complete

    def rises(self) -> tuple[int, float]:
        losses = self.records.losses[: self.complete]
        fallen = np.flatnonzero(losses[1:] <= losses[:-1])
        last = int(fallen[-1]) + 1 if len(fallen) else 0
        return len(losses) - 1 - last, float(losses[last])

    def most_threads(self) -> int:
        self.batch_size = self.data.n
        return super().most_threads()

    def open(self, threads: int) -> None:
        self.batch_size = self.data.n  # for which the core has memory then
        super().open(threads)

    def batches(self) -> Iterator[Data]:
        """The batches of the next epoch, the one that was needed to begin included."""
        if self.waiting is not None:
            yield self.waiting
            self.waiting = None
            yield from self.iterator
        else:
            yield from self.passes()

    def advance(self, goal: int) -> None:
        """One epoch."""
        self.total = self.penalties = self.weight = 0.0
        self.training.refresh()
        for data in self.batches():
            self.train_on(data)
            if self.interrupt or self.is_late():
                return
        weight = self.weight
        if not weight:
            raise ValueError(f"batches must give at least one batch an epoch, got none in epoch {self.complete + 1}")
        with self.model.snapshot_lock:
            loss = self.total if self.adds_up else self.total / weight
            self.records.losses[self.complete] = loss + self.penalties / weight
            self.complete += 1
            self.mark(perf_counter())

    def train_on(self, data: Data) -> None:
        """Take a step on a batch, and add its loss to that of the epoch."""
        rows, loss = data.total_weight, self.step(data)
        penalty = self.training.penalty
        self.total += (loss - penalty) * (1.0 if self.adds_up else rows)
        self.penalties += penalty * rows
        self.weight += rows

    def make_room(self, data: Data) -> None:
        """Opens the core's run anew where there is no room in it for these rows."""
        self.model.check_batch_rows(data.n)
        (n, *kinds), (room, *there) = data.layout, self.data.layout
        if n > room or kinds != there:  # there are more of them, or labels or weights that there were none of
            self.sync()
            self.data = data
            self.open(self.team.max_threads)
            if self.options.changes is not None:
                self.options.changes(self.training, self.records.first + self.epoch)

    def step(self, data: Data) -> float:
        """One step on a batch; returns its loss."""
        self.make_room(data)
        self.training.set_rows(*data)
        at = self.steps_taken if self.state.changes_by_step else self.complete
        self.one_rate[0], self.one_loss[0] = self.records.rate_of_step(at), np.nan
        self.training.set_epochs(self.one_loss, self.one_rate, 1)
        while not self.training.done:
            self.run_slice()
        if self.training.diverged or self.training.broken_layer:
            self.data = data
            self.diverged()
        self.steps_taken += 1
        return float(self.one_loss[0])

    def rows_left(self) -> float:
        return np.inf

    def mark(self, now: float) -> None:
        self.records.marks.append((self.complete, now - self.records.began))


def epochs_of(
    model: Model,
    streams: Streams,
    data: Data,
    batch: int,
    shuffles: bool,
    read: Callable[[Data, NDArray[Any]], Data] | None = None,
) -> Callable[[], Iterator[Data]]:
    """Epochs over rows that are at hand, which are shuffled as the core does it. `read` makes of a batch, with the
    numbers of its rows, what the engine takes, where that is not done yet."""
    n = data.n
    order = np.arange(n, dtype=np.int32)

    def batches() -> Iterator[Data]:
        if shuffles:
            streams.shuffle_position = model.core.shuffle(order, streams.key(SHUFFLE), streams.shuffle_position)
        for start in range(0, n, batch):
            numbers = order[start : start + batch]
            rows = data.rows(numbers if shuffles else slice(start, start + batch))
            yield rows if read is None else read(rows, numbers)

    return batches
