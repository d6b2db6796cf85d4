"""Minimizer with a learning rate: the compiled core takes a step for each batch of rows."""

from __future__ import annotations

import sys
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from nnc._model.data import RunSettings
from nnc._training.divergence import NotFiniteError, likely_cause
from nnc._training.threads import ThreadTuner, borrow_tuner, return_tuner, thread_counts
from nnc._utils import processors

if TYPE_CHECKING:
    from nnc._model.data import Data
    from nnc._model.model import Model
    from nnc._team import Interrupt, Team
    from nnc._training.options import TrainingOptions
    from nnc._training.records import EpochRecords
    from nnc._training.state import TrainingState

YIELD_SECONDS = 0.001  # pause between slices in seconds, if another thread waits to read the parameters
MIN_THREAD_MULTIPLY_ADDS = 100_000  # minimum number of multiply-adds of a thread between two barriers
# A run with at most this number of multiply-adds takes about 1 ms. It installs no handler for Ctrl-C, because Python
# raises KeyboardInterrupt soon enough after the run.
MAX_SHORT_MULTIPLY_ADDS = 1_000_000
ASSUMED_MULTIPLY_ADDS_PER_SECOND = 3e8  # speed of one thread, assumed until it is measured


class Source(Protocol):
    """Source of the rows of a `FirstOrder` minimizer that does not train on all rows in one call of the core."""

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps in an epoch; 1 if it is not known in advance."""

    @property
    def reads_batches(self) -> bool:
        """Return whether the source reads one batch after the other."""

    def count_epochs(self, core_epochs: int) -> int:
        """Return the number of complete epochs if the run of the core has completed `core_epochs`."""

    def train(self, minimizer: FirstOrder, goal: int) -> None:
        """Train at most until epoch `goal` is complete."""


class Objective(Protocol):
    """Objective of a first-order minimizer that replaces the loss of the network."""

    @property
    def divergence_cause(self) -> str:
        """Sentence about the most likely cause of a divergence; "" if it is that of a network."""

    def max_threads(self, n_threads: int | None) -> int:
        """Return the largest number of threads that may speed up the run; 0 if the network determines it.

        `n_threads` is the limit of the caller.
        """

    def create_training(self, model: Model, data: Data | None, settings: RunSettings) -> Any:
        """Return a run of the core for these rows."""

    def before_epochs(self, records: EpochRecords) -> None:
        """Prepare the next epochs, after learning rates and memory for losses were prepared."""


class FirstOrder:
    """Minimizer of a run whose optimizer has a learning rate, such as Adam.

    Parameters
    ----------
    model : Model
        Network to train.
    data : Data or None
        Rows on which the core trains, or for which it allocates memory if there is a source. None if the objective has
        no rows; an epoch is then one step.
    options : TrainingOptions
        Checked arguments of the fit.
    state : TrainingState
        State to continue, which the run updates.
    source : Source, optional
        Source of the rows. Default: the core trains on `data` in each epoch.
    objective : Objective, optional
        Objective that replaces the loss of the network.

    Attributes
    ----------
    n : int
        Number of rows in an epoch of the core.
    batch_size : int
        Number of rows in a step.
    is_plain : bool
        Whether the core trains several epochs in one call.
    tuner : ThreadTuner
        Choice of the number of threads.
    tuner_key : tuple or None
        Workload under which the ThreadTuner is stored for later runs.
    rows_by_threads : dict of int to int
        Number of training rows for each number of threads.
    step_loss : array (1,)
        Loss of a step on a batch of the source.
    """

    training: Any = None
    interrupt: Interrupt | None = None
    tuner: ThreadTuner
    tuner_key: tuple[Any, ...] | None = None
    records: EpochRecords
    team: Team

    def __init__(
        self,
        model: Model,
        data: Data | None,
        options: TrainingOptions,
        state: TrainingState,
        source: Source | None = None,
        objective: Objective | None = None,
    ) -> None:
        self.model, self.data, self.options, self.state = model, data, options, state
        self.source, self.objective = source, objective
        self.is_plain = source is None
        self.n = n = 1 if data is None else data.n
        size = n if options.batch_size is None else min(n, options.batch_size)
        self.batch_size = size if data is not None else options.batch_size or 1
        self.rows_by_threads: dict[int, int] = {}
        self.step_loss = np.empty(1)
        model.check_parameters()
        if model.min_batch_rows > 1:
            model.check_batch_rows(n if size >= n else n % size or size, None if size in (1, n) or size > n else n)
        self.steps_per_epoch = 1
        if state.changes_by_step:
            self.steps_per_epoch = -(-n // size) if source is None else source.steps_per_epoch

    @property
    def reads_batches(self) -> bool:
        """Return whether a source reads one batch after the other."""
        return self.source is not None and self.source.reads_batches

    @property
    def is_short(self) -> bool:
        """Return whether the run takes at most about a millisecond."""
        options, model = self.options, self.model
        work = 3 * (options.epochs or MAX_SHORT_MULTIPLY_ADDS) * self.n * model.n_params
        is_small = work <= MAX_SHORT_MULTIPLY_ADDS and not model.uses_lanes and self.objective is None
        return is_small and options.n_threads in (None, 1) and self.steps_per_epoch == 1

    @property
    def epoch(self) -> int:
        """Number of complete epochs."""
        epoch: int = self.training.epoch
        return epoch if self.source is None else self.source.count_epochs(epoch)

    # ------------------------------------------------------------------------------------------ threads and the core

    @property
    def n_threads(self) -> int:
        """The fastest number of threads so far."""
        return self.tuner.best

    @property
    def main_threads(self) -> int:
        """Number of threads that trained on most rows."""
        rows = self.rows_by_threads
        return max(rows, key=rows.__getitem__) if len(rows) > 1 else next(iter(rows), 1)

    def max_threads(self) -> int:
        """Return the largest number of threads that may speed up the run."""
        model, batch, n_threads = self.model, self.batch_size, self.options.n_threads
        if self.objective is not None and (most := self.objective.max_threads(n_threads)):
            return most
        if n_threads is not None:
            return n_threads
        useful = model.engine.blocks(batch) or 3 * model.n_params * batch // MIN_THREAD_MULTIPLY_ADDS
        return min(processors.get_num_threads(), useful) if useful > 1 else 1

    def create_tuner(self, most: int) -> ThreadTuner:
        """Return the tuner that chooses the number of threads of each slice."""
        model, batch = self.model, self.batch_size
        if most == 1 or self.options.n_threads is not None:
            return ThreadTuner([most])
        optimizer = type(self.state.optimizer)
        self.tuner_key = model.core.__name__, model.input_shape, *model.sizes, model.n_params, batch, optimizer
        return borrow_tuner(self.tuner_key, thread_counts(most), processors.get_num_threads)

    def start(self, records: EpochRecords, interrupt: Interrupt | None, team: Team) -> None:
        """Create the thread tuner and the run of the core, before the first epoch."""
        self.records, self.interrupt, self.team = records, interrupt, team
        self.tuner = self.create_tuner(team.max_threads)
        self.create_training(team.max_threads)

    def create_training(self, threads: int) -> None:
        """Create the run of the core, with memory for `threads` threads."""
        options, state, model = self.options, self.state, self.model
        constants = {**state.optimizer.core_settings(), **options.settings, **state.counters()}
        if self.source is None and options.target_loss is not None:
            constants["target_loss"] = options.target_loss
        moments = state.moments if len(state.moments) else None
        settings = RunSettings(self.batch_size, constants, options.order, moments, threads)
        if self.objective is None:
            self.training = model.core.Training(model.engine, model.theta_view, self.data, settings)
        else:
            self.training = self.objective.create_training(model, self.data, settings)

    def replace_training(self, model: Model, data: Data) -> None:
        """Create another run of the core that continues with these rows, whose memory they determine."""
        with self.model.snapshot_lock:
            self.save_progress()
        self.model, self.data, self.n = model, data, data.n
        self.batch_size = data.n
        self.create_training(self.team.max_threads)

    def end(self) -> None:
        """Store the ThreadTuner for later runs with the same workload."""
        if self.tuner_key is not None:
            return_tuner(self.tuner_key, self.tuner)

    def save_progress(self) -> None:
        """Update the counters of the training state."""
        state = self.state
        draws = state.update_counters(self.training.counters)
        if self.options.order is not None:  # `order` is None if the core does not shuffle the rows
            state.streams.shuffle_position = draws

    def restore(self) -> None:
        """Do nothing, because the core takes a step completely or not at all."""

    def change_objective(self) -> None:
        """Do nothing, because a step depends only on the current objective."""

    def loss_rises(self) -> tuple[int, float]:
        """Return the number of consecutive epochs in which the loss has risen, and the loss before the rise."""
        if self.source is None:
            rises: tuple[int, float] = self.training.rises
            return rises
        losses = self.records.losses[: self.epoch]
        decreases = np.flatnonzero(losses[1:] <= losses[:-1])
        last = int(decreases[-1]) + 1 if len(decreases) else 0
        return len(losses) - 1 - last, float(losses[last])

    def divergence_cause(self, max_abs_input: float) -> str:
        """Return a sentence about the most likely cause of a divergence."""
        own = "" if self.objective is None else self.objective.divergence_cause
        return own or likely_cause(self.records.rate_of_epoch(self.epoch), max_abs_input)

    # ------------------------------------------------------------------------------------------ epochs

    def advance(self, goal: int) -> str:
        """Train until epoch `goal` is complete, or an epoch of the source; Ctrl-C or the time limit may end it."""
        if self.source is None:
            self.train_epochs(goal)
        else:
            self.source.train(self, goal)
        return ""

    def set_goal(self, goal: int) -> None:
        """Set the epoch at which the core returns to Python.

        Also update the copies of the parameters in the core, because a callback may have changed the parameters.
        """
        records = self.records
        if self.objective is not None:
            self.objective.before_epochs(records)
        self.training.refresh()
        self.training.set_epochs(records.losses, records.rates, goal, records.steps_per_epoch > 1)

    def train_epochs(self, goal: int) -> None:
        """Train on `data` in slices of about 50 ms until epoch `goal` of the core is complete."""
        training = self.training
        self.set_goal(goal)
        while not training.done and not self.is_interrupted():
            self.run_slice(self.remaining_rows())
            self.records.record_time(training.epoch + training.row / self.n, perf_counter())
        self.check_finite(self.data)

    def take_step(self, data: Data, rate: float) -> None:
        """Take a step on a batch with this learning rate; `step_loss` receives the loss before, penalties included."""
        training, loss = self.training, self.step_loss
        loss[0] = np.nan
        training.set_rows(data)
        training.set_epochs(loss, rate, 1)
        while not training.done:
            self.run_slice(np.inf)

    def check_finite(self, data: Data | None) -> None:
        """Raise NotFiniteError if the core has computed numbers that are not finite from these rows.

        The parameters are always finite: the core takes no step if the loss is not finite, and it keeps the old value
        of each parameter that a step would make infinite or NaN.
        """
        if self.training.diverged or self.training.broken_layer:
            raise NotFiniteError(None if data is None else data.X, self.training.broken_layer)

    def run_slice(self, rows_left: float) -> None:
        """Run the core for one slice, which is a number of blocks on one thread, or a duration on several threads."""
        training, n = self.training, self.n
        rows_before = training.epoch * n + training.row
        threads, seconds = self.tuner.next(rows_left)
        if self.options.max_seconds is not None:
            seconds = min(seconds, self.options.max_seconds / 2)
        if threads > 1:
            threads = 1 if training.single_threaded else self.team.grow(threads)
        blocks = sys.maxsize
        if threads == 1:
            rate = self.tuner.throughput.get(1) or ASSUMED_MULTIPLY_ADDS_PER_SECOND / self.model.n_params
            blocks = max(1, int(rate * seconds / training.block))
        training.resume(threads, seconds)
        self.yield_to_readers()
        with self.model.snapshot_lock:  # prevent other threads from reading parameters or state during the slice
            began = perf_counter()
            self.team.run(training.task, blocks, threads, training.abort)
            seconds = perf_counter() - began
            rows = training.epoch * n + training.row - rows_before
            self.rows_by_threads[threads] = self.rows_by_threads.get(threads, 0) + rows
        if rows:
            self.tuner.record(threads, rows, seconds)

    def yield_to_readers(self) -> None:
        """Pause if another thread waits for the snapshot lock, so that it can acquire the lock."""
        if self.model.snapshot_lock.awaited:
            sleep(YIELD_SECONDS)

    def remaining_rows(self) -> float:
        """Return the number of rows until the last epoch ends; infinity if `epochs` is None."""
        epochs = self.options.epochs
        return np.inf if epochs is None else (epochs - self.epoch) * self.n

    def is_interrupted(self) -> bool:
        """Return whether Ctrl-C or the time limit ends the run."""
        return bool(self.interrupt) or self.records.is_out_of_time(self.options.max_seconds)
