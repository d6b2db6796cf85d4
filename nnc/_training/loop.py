"""The training loop: from options, rows and state through the compiled core to a History.

The core runs the epochs. Python gets control back about every 50 ms, and after each epoch that something depends on:
validation, patience, a metric or a callback.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._team import Interrupt, Team
from nnc._training.callbacks import CallbackRunner, Record
from nnc._training.divergence import DivergedError, divergence, too_fast
from nnc._training.evaluation import Evaluator
from nnc._training.options import check_weights, resolved_settings
from nnc._training.records import CHUNK_EPOCHS, EpochRecords
from nnc._training.stopping import Monitor
from nnc._training.threads import ThreadTuner, borrow_tuner, doubling, return_tuner, settle
from nnc._utils import processors

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from nnc._model.data import Data
    from nnc._model.model import Model
    from nnc._training.dataset import Dataset
    from nnc._training.history import History
    from nnc._training.options import TrainingOptions
    from nnc._training.state import TrainingState

GIVE_WAY_SECONDS = 0.001  # to a thread that wants to read the parameters
MIN_THREAD_MULTIPLY_ADDS = 100_000  # of a thread between two barriers: with fewer it cannot be faster
MAX_SHORT_MULTIPLY_ADDS = 1_000_000  # of a run that leaves Ctrl-C to its caller: at most a millisecond
NOT_NOTED: AbstractContextManager[None] = nullcontext()
FIRST_MULTIPLY_ADDS_PER_SECOND = 3e8  # assumed for the first slice of a run


class TrainingLoop:
    """One call of `fit` on arrays.

    Parameters
    ----------
    model : Model
    dataset : Dataset
    options : TrainingOptions
    state : TrainingState
        Updated by the run.
    first_batch : Data, optional
        The rows that the core is opened for. Default: all rows.

    Attributes
    ----------
    training : core.Training
        The compiled run, once it has been opened.
    records : EpochRecords
    monitor : Monitor
    evaluator : Evaluator or None
    callbacks : CallbackRunner or None
    every : int
        Number of epochs after which Python has to look at the run; 0: never.
    seen : int
        Epochs that were looked at.
    rows_by_threads : dict of int to int
        Rows that were trained on by this number of threads together.
    """

    every = 0
    seen = 0
    looking_seconds = 0.0  # spent between epochs
    training: Any = None
    evaluator: Evaluator | None = None
    callbacks: CallbackRunner | None = None
    work_kind: tuple[Any, ...] | None = None  # under which the best number of threads is remembered

    def __init__(
        self,
        model: Model,
        dataset: Dataset,
        options: TrainingOptions,
        state: TrainingState,
        first_batch: Data | None = None,
    ) -> None:
        self.model, self.dataset, self.options, self.state = model, dataset, options, state
        self.data, self.params = dataset.rows if first_batch is None else first_batch, model.theta
        n = self.data.n
        self.batch_size = size = n if options.batch_size is None else min(n, options.batch_size)
        model.check_parameters()
        if model.min_batch_rows > 1:
            model.check_batch_rows(n if size >= n else n % size or size, None if size in (1, n) or size > n else n)
        steps = -(-n // size) if state.changes_by_step else 1
        self.is_plain = options.is_plain and dataset.validation is None and state.plateau is None
        # Where another rule may end the run, memory is allocated as it is needed; else at once, or refused at once.
        space = options.epochs or CHUNK_EPOCHS
        if not self.is_plain and options.may_stop_early:
            space = min(16 * CHUNK_EPOCHS, space)
        self.records = EpochRecords(state, space, steps)
        self.monitor = Monitor(options)
        self.rows_by_threads: dict[int, int] = {}
        self.settings = resolved_settings(dataset.converter, options, state, size)
        if not self.is_plain:
            self.prepare_to_look()

    def prepare_to_look(self) -> None:
        """Prepare what happens between epochs."""
        options, dataset, columns = self.options, self.dataset, self.records.columns
        if dataset.validation is not None:
            columns["val_loss"] = []
        for name in options.metrics:
            columns[name] = []
        if dataset.validation is not None or options.metrics:
            check_weights(options.metrics, dataset.measured)
            self.evaluator = Evaluator(self.model, dataset, options, columns)
        watches = options.patience is not None or bool(options.keeps_best) or self.state.plateau is not None
        if self.evaluator is not None or watches or options.changes is not None:
            self.every = 1
        callbacks = options.callbacks if options.display is None else [*options.callbacks, options.display]
        if callbacks:
            self.callbacks = CallbackRunner(callbacks, self.records.began)

    # ------------------------------------------------------------------------------------------ the run

    def run(self, interrupt: Interrupt | None = None) -> History:
        """Train; return the History.

        Parameters
        ----------
        interrupt : Interrupt, optional
            Of many runs at once, inside its `with`; by default its own.

        Raises
        ------
        DivergedError
            The loss or the weights are no longer finite.
        """
        with self.noting(interrupt) as noted, processors.active_fits, Team(self.most_threads(), settle) as team:
            self.enter(noted, team)
            return self.go()

    def noting(self, interrupt: Interrupt | None) -> AbstractContextManager[Interrupt | None]:
        """Return the context in which Ctrl-C is noted instead of raised.

        A short run is over before Ctrl-C could be noticed: it leaves Ctrl-C to the caller, whose loop it ends.
        """
        if interrupt is not None or (self.is_plain and self.is_short):
            return NOT_NOTED if interrupt is None else nullcontext(interrupt)
        return Interrupt()

    def enter(self, interrupt: Interrupt | None, team: Team) -> None:
        """Prepare the first epoch."""
        self.interrupt, self.team = interrupt, team
        self.tuner = self.choose(team.max_threads)
        self.open(team.max_threads)

    def go(self) -> History:
        """Run all epochs."""
        reason = ""
        try:
            while not reason and self.epoch != self.options.epochs:
                self.advance(self.goal())
                reason = self.look()
            return self.finish(reason or "epochs")
        except BaseException as error:
            self.fail(error)
            raise
        finally:
            if self.work_kind is not None:
                return_tuner(self.work_kind, self.tuner)

    def fail(self, error: BaseException) -> None:
        """End the run after an exception, wherever it came from."""
        if self.state.current is not None:  # else the run was over
            reasons = {DivergedError: "diverged", KeyboardInterrupt: "interrupt"}
            try:
                self.close(reasons.get(type(error), "error"))
            finally:
                self.state.current = None  # which refers to the run
                self.close_callbacks()

    def finish(self, reason: str) -> History:
        """End the run regularly."""
        return self.close(reason, restores=True)

    def close(self, reason: str, restores: bool = False) -> History:
        """Write the results into the state; other threads see the run before or after that.

        `restores` is whether the parameters of the best epoch replace the last ones, if they are kept.
        """
        best = self.monitor.params
        with self.model.snapshot_lock:
            self.sync()
            history = self.history(reason)
            self.state.remember(history)
            if restores and best is not None:
                self.params[...] = best
        self.close_callbacks()
        return history

    def close_callbacks(self) -> None:
        """Tell the callbacks, once, that the run is over."""
        callbacks, self.callbacks = self.callbacks, None
        if callbacks is not None:
            callbacks.close()

    @property
    def is_short(self) -> bool:
        """Whether the run is over before anybody could wait for it."""
        options, model = self.options, self.model
        work = 3 * (options.epochs or MAX_SHORT_MULTIPLY_ADDS) * self.data.n * model.n_params
        is_small = work <= MAX_SHORT_MULTIPLY_ADDS and not model.has_image_input
        return is_small and options.n_threads in (None, 1) and self.records.steps_per_epoch == 1

    @property
    def epoch(self) -> int:
        """Number of epochs of this fit that are complete."""
        return int(self.training.epoch)

    def rises(self) -> tuple[int, float]:
        """Return how many of the last epochs in a row have raised the loss, and the loss before them."""
        rises: tuple[int, float] = self.training.rises
        return rises

    # ------------------------------------------------------------------------------------------ threads and the core

    def most_threads(self) -> int:
        """Return the largest number of threads that may pay."""
        model, batch = self.model, self.batch_size
        if self.options.n_threads is not None:
            return self.options.n_threads
        pay = model.engine.blocks(batch) or 3 * model.n_params * batch // MIN_THREAD_MULTIPLY_ADDS
        return min(processors.get_num_threads(), pay) if pay > 1 else 1

    def choose(self, most: int) -> ThreadTuner:
        """Return the tuner that chooses the number of threads of each slice."""
        model, batch = self.model, self.batch_size
        if most == 1 or self.options.n_threads is not None:
            return ThreadTuner([most])
        optimizer = type(self.state.optimizer)
        self.work_kind = model.core.__name__, model.input_shape, *model.sizes, model.n_params, batch, optimizer
        return borrow_tuner(self.work_kind, doubling(most), processors.get_num_threads)

    def open(self, threads: int) -> None:
        """Open the core's run for so many threads."""
        options, state, model = self.options, self.state, self.model
        settings = {**state.optimizer.core_settings(), **options.settings, **state.counters()}
        rows, moments = self.data.source, state.moments if len(state.moments) else None
        arrays = rows.X, rows.Y, rows.labels, rows.weights, self.batch_size, options.order, moments, settings, threads
        self.training = model.core.Training(model.engine, model.theta_view, *arrays, self.data.index)
        state.current = self.report

    def goal(self) -> int:
        """Return the epoch up to which the core runs before Python has to look."""
        epoch, options = self.epoch, self.options
        first = self.records.first
        if options.changes is not None:
            options.changes(self.training, first + epoch)
        goal = sys.maxsize if options.epochs is None else options.epochs
        if self.every:
            goal = min(goal, epoch + self.every)
        if self.callbacks is not None:
            training_seconds = perf_counter() - self.records.began - self.looking_seconds
            goal = min(goal, epoch + self.callbacks.epochs_until_due(epoch, first, training_seconds))
        if goal > self.records.planned:
            self.records.plan(epoch, goal)
        return min(goal, self.records.planned)

    def aim(self, goal: int) -> None:
        """Tell the core up to which epoch it runs, on the parameters as they are now: callbacks may change them."""
        records = self.records
        self.training.refresh()
        self.training.set_epochs(records.losses, records.rates, goal, records.steps_per_epoch > 1)

    def advance(self, goal: int) -> None:
        """Run to the end of epoch `goal` in slices of time, unless something ends the run."""
        training = self.training
        self.aim(goal)
        while not training.done and not self.interrupt and not self.is_late():
            self.run_slice()
        if training.diverged or training.broken_layer:
            self.diverged()

    def run_slice(self) -> None:
        """Run the core for one slice: on one thread for a number of blocks of rows, on a team for a time."""
        training, n = self.training, self.data.n
        began = perf_counter()
        left, before = self.rows_left(), training.epoch * n + training.row
        threads, seconds = self.tuner.next(left)
        if self.options.max_seconds is not None:
            seconds = min(seconds, self.options.max_seconds / 2)
        if threads > 1:
            threads = 1 if training.single_threaded else self.team.grow(threads)
        blocks = sys.maxsize
        if threads == 1:
            rate = self.tuner.rates.get(1) or FIRST_MULTIPLY_ADDS_PER_SECOND / self.model.n_params
            blocks = max(1, int(rate * seconds / training.block))
        training.resume(threads, seconds)
        if self.model.snapshot_lock.awaited:  # or this thread would lock it again before the other one is awake
            sleep(GIVE_WAY_SECONDS)
        with self.model.snapshot_lock:  # together with what `history` reads
            began = perf_counter()
            self.team.run(training.task, blocks, threads, training.abort)
            now = perf_counter()
            rows = training.epoch * n + training.row - before
            self.rows_by_threads[threads] = self.rows_by_threads.get(threads, 0) + rows
            self.mark(now)
        if rows:
            self.tuner.record(threads, rows, now - began)

    def mark(self, now: float) -> None:
        """Record the time."""
        self.records.mark(self.training.epoch + self.training.row / self.data.n, now)

    def rows_left(self) -> float:
        """Return how many rows are still to be trained on, at most."""
        epochs = self.options.epochs
        return np.inf if epochs is None else (epochs - self.epoch) * self.data.n

    def reached_target(self) -> bool:
        """Return whether the last loss is at most `target_loss`."""
        target = self.options.target_loss
        return target is not None and self.epoch > 0 and bool(self.records.losses[self.epoch - 1] <= target)

    def is_late(self) -> bool:
        """Return whether `max_seconds` are over."""
        limit = self.options.max_seconds
        return limit is not None and perf_counter() - self.records.began >= limit

    # ------------------------------------------------------------------------------------------ after an epoch

    def look(self) -> str:
        """Do what happens between epochs; return the reason why the training ends, or ""."""
        if self.is_plain:
            return "interrupt" if self.interrupt else ""
        epoch = self.epoch
        reason = ""
        if epoch > self.seen and (self.every or self.callbacks is not None):
            began = perf_counter()
            better = self.watch(epoch)
            self.seen = epoch
            if self.monitor.is_out_of_patience(epoch):
                reason = "patience"
            is_last = epoch == self.options.epochs or self.reached_target() or self.is_late()
            if self.call_back(epoch, better, bool(reason or self.interrupt) or is_last):
                reason = "callback"
            self.looking_seconds += perf_counter() - began
        if self.reached_target():
            reason = "target_loss"
        elif self.interrupt:
            reason = "interrupt"
        elif self.is_late():
            reason = "max_seconds"
        if reason and epoch:  # for callbacks that were not due before the epoch became the last one
            self.call_back(epoch, better=False, last=True)
        return reason

    def watch(self, epoch: int) -> bool:
        """Evaluate an epoch; return whether it is the best so far, also of epochs that were not looked at."""
        options, losses = self.options, self.records.losses
        self.evaluate()
        values = self.records.columns.get(options.monitor)
        if values is None:
            at = self.seen + int(losses[self.seen : epoch].argmin())
            value = float(losses[at])
        else:
            at, value = epoch - 1, values[-1]
        signed = -value if options.larger_is_better else value
        if self.state.plateau is not None:
            self.state.plateau.observe(signed)
        return self.monitor.observe(signed, at + 1, epoch, self.params)

    def evaluate(self) -> None:
        """Compute the validation loss and the metrics."""
        if self.evaluator is not None:
            self.evaluator.evaluate(self.team, self.tuner.best, self.interrupt, self.training.block)

    def call_back(self, epoch: int, better: bool, last: bool) -> bool:
        """Call the callbacks that are due; return whether one of them ends the training."""
        if self.callbacks is None:
            return False
        due = self.callbacks.due(epoch, self.records.first + epoch, last)
        if not due:
            return False
        self.sync()
        records = self.records
        record = Record(epoch=records.first + epoch, loss=float(records.losses[epoch - 1]))
        record.update((name, values[-1]) for name, values in records.columns.items())
        record.update(lr=records.rate_of(epoch - 1), seconds=perf_counter() - records.began)
        better = better and self.monitor.beats_earlier_fits(list(self.state.histories))
        record.update(best=better, network=self.options.network)
        if self.evaluator is not None and self.dataset.validation is not None:
            record.outputs = self.evaluator.outputs
        stop = self.callbacks.call(due, record, epoch)
        self.model.check_parameters(", which a callback has put there")
        return stop

    def sync(self) -> None:
        """Write the progress of the run into the state, as a checkpoint needs it; other threads may call this, too."""
        with self.model.snapshot_lock:
            state = self.state
            draws = state.take(self.training.counters)
            if self.options.order is not None:  # else the rows are not shuffled, or not by the core
                state.streams.shuffle_position = draws
            state.epoch = self.records.first + self.epoch

    def report(self) -> History:
        """Return the History up to now."""
        self.sync()
        return self.history("epochs")

    def history(self, reason: str) -> History:
        """Return the History of the epochs that are complete."""
        rows = self.rows_by_threads
        threads = max(rows, key=rows.__getitem__) if len(rows) > 1 else next(iter(rows), 1)
        return self.records.history(self.epoch, reason, self.monitor.best_epoch, threads, self.settings)

    # ------------------------------------------------------------------------------------------ divergence

    def diverged(self) -> None:
        """Raise DivergedError: the core has come to numbers that are not finite.

        Where the loss was not finite, the core took no step; in a step, parameters that would not have been finite
        kept their values.
        """
        X, layer, history = self.data.X, self.training.broken_layer, self.history("diverged")
        raise divergence(self.model, X, layer, self.epoch + 1, history, self.cause())

    def cause(self) -> str:
        """Return the most likely cause of a divergence, and what to do."""
        return too_fast(self.records.rate_of(self.epoch), self.dataset.converter.max_abs_input)
