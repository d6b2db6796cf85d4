"""Training loop of `fit`.

The compiled core runs the epochs. Control returns to Python about every 50 ms, to check for Ctrl-C, and after each
epoch that needs Python: for validation, patience, a metric or a callback.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._model.data import RunSettings
from nnc._team import Interrupt, Team
from nnc._training.callbacks import CallbackRunner, Record
from nnc._training.divergence import DivergedError, divergence_error, likely_cause
from nnc._training.evaluation import Evaluator
from nnc._training.options import check_weights, resolved_settings
from nnc._training.records import CHUNK_EPOCHS, EpochRecords
from nnc._training.stopping import Monitor
from nnc._training.threads import ThreadTuner, avoid_caller_processor, borrow_tuner, return_tuner, thread_counts
from nnc._utils import processors

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from nnc._model.data import Data
    from nnc._model.model import Model
    from nnc._training.dataset import Dataset
    from nnc._training.history import History
    from nnc._training.options import TrainingOptions
    from nnc._training.state import TrainingState

YIELD_SECONDS = 0.001  # pause between slices in seconds, if another thread waits to read the parameters
MIN_THREAD_MULTIPLY_ADDS = 100_000  # minimum number of multiply-adds of a thread between two barriers
# A run with at most this number of multiply-adds takes about 1 ms. It installs no handler for Ctrl-C, because Python
# raises KeyboardInterrupt soon enough after the run.
MAX_SHORT_MULTIPLY_ADDS = 1_000_000
NO_INTERRUPT: AbstractContextManager[None] = nullcontext()
ASSUMED_MULTIPLY_ADDS_PER_SECOND = 3e8  # speed of one thread, assumed until it is measured


class TrainingLoop:
    """Training run of one call of `fit` on arrays.

    Parameters
    ----------
    model : Model
        Network to train.
    dataset : Dataset
        Training and validation rows.
    options : TrainingOptions
        Checked arguments of the fit.
    state : TrainingState
        State to continue, which the run updates.
    first_batch : Data, optional
        Rows for which the core allocates memory. Default: all rows.

    Attributes
    ----------
    training : core.Training
        Run of the compiled core; None before `create_training`.
    records : EpochRecords
        Losses, learning rates and times of the epochs.
    monitor : Monitor
        Early stopping.
    evaluator : Evaluator or None
        Validation loss and metrics.
    callbacks : CallbackRunner or None
        Callbacks and the display of the progress.
    is_plain : bool
        Whether no epoch needs Python, for example for validation, metrics or callbacks.
    check_interval : int
        Number of epochs between two calls of `check_epoch`; 0 if no epoch needs a check.
    checked_epochs : int
        Number of epochs that `check_epoch` has processed.
    check_seconds : float
        Time spent in `check_epoch`.
    tuner_key : tuple or None
        Workload under which the ThreadTuner is stored for later runs.
    rows_by_threads : dict of int to int
        Number of training rows for each number of threads.
    """

    check_interval = 0
    checked_epochs = 0
    check_seconds = 0.0
    training: Any = None
    evaluator: Evaluator | None = None
    callbacks: CallbackRunner | None = None
    tuner_key: tuple[Any, ...] | None = None

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
        # Allocate memory for all epochs now, so that a lack of memory is detected before the training. A run that may
        # stop early begins with memory for fewer epochs.
        capacity = options.epochs or CHUNK_EPOCHS
        if not self.is_plain and options.may_stop_early:
            capacity = min(16 * CHUNK_EPOCHS, capacity)
        self.records = EpochRecords(state, capacity, steps)
        self.monitor = Monitor(options)
        self.rows_by_threads: dict[int, int] = {}
        self.settings = resolved_settings(dataset.converter, options, state, size)
        if not self.is_plain:
            self.prepare_checks()

    def prepare_checks(self) -> None:
        """Prepare validation, metrics, early stopping and callbacks."""
        options, dataset, columns = self.options, self.dataset, self.records.columns
        if dataset.validation is not None:
            columns["val_loss"] = []
        for name in options.metrics:
            columns[name] = []
        if dataset.validation is not None or options.metrics:
            check_weights(options.metrics, dataset.metric_rows)
            self.evaluator = Evaluator(self.model_for(dataset.metric_rows), dataset, options, columns)
        is_monitored = options.patience is not None or bool(options.restore_best) or self.state.plateau is not None
        if self.evaluator is not None or is_monitored or options.epoch_settings is not None:
            self.check_interval = 1
        callbacks = options.callbacks if options.display is None else [*options.callbacks, options.display]
        if callbacks:
            self.callbacks = CallbackRunner(callbacks, self.records.start_time)

    def model_for(self, rows: Data) -> Model:
        """Return the network; `BatchLoop` returns it with an engine for the number of steps of these rows."""
        return self.model

    # ------------------------------------------------------------------------------------------ run

    def run(self, interrupt: Interrupt | None = None) -> History:
        """Train, and return the History.

        Parameters
        ----------
        interrupt : Interrupt, optional
            Active context that several runs share. By default the run creates one of its own.

        Raises
        ------
        DivergedError
            The loss or a parameter is no longer finite.
        """
        with (
            self.interrupt_context(interrupt) as active,
            processors.active_fits,
            Team(self.max_threads(), avoid_caller_processor) as team,
        ):
            self.start(active, team)
            return self.run_epochs()

    def interrupt_context(self, interrupt: Interrupt | None) -> AbstractContextManager[Interrupt | None]:
        """Return the context in which Ctrl-C ends the run instead of raising KeyboardInterrupt.

        A run of less than about a millisecond does not handle Ctrl-C. Python then raises KeyboardInterrupt after the
        run, so that Ctrl-C can end a loop over many short fits.
        """
        if interrupt is not None or (self.is_plain and self.is_short):
            return NO_INTERRUPT if interrupt is None else nullcontext(interrupt)
        return Interrupt()

    def start(self, interrupt: Interrupt | None, team: Team) -> None:
        """Create the thread tuner and the run of the core, before the first epoch."""
        self.interrupt, self.team = interrupt, team
        self.tuner = self.create_tuner(team.max_threads)
        self.create_training(team.max_threads)

    def run_epochs(self) -> History:
        """Run all epochs, and return the History."""
        reason = "interrupt" if self.options.is_interrupted else ""
        try:
            while not reason and self.epoch != self.options.epochs:
                self.advance(self.next_check())
                reason = self.check_epoch()
            return self.finish(reason or "epochs")
        except BaseException as error:
            self.fail(error)
            raise
        finally:
            self.store_tuner()

    def store_tuner(self) -> None:
        """Store the ThreadTuner for later runs with the same workload."""
        if self.tuner_key is not None:
            return_tuner(self.tuner_key, self.tuner)

    def fail(self, error: BaseException) -> None:
        """End the run after an exception."""
        if self.state.current is not None:  # skip a run that has already ended
            reasons = {DivergedError: "diverged", KeyboardInterrupt: "interrupt"}
            try:
                self.close(reasons.get(type(error), "error"))
            finally:
                self.state.current = None  # remove the reference to the run that has ended
                self.close_callbacks()

    def finish(self, reason: str) -> History:
        """End a run that raised no exception, and return the History."""
        return self.close(reason, restores=True)

    def close(self, reason: str, restores: bool = False) -> History:
        """Write the results into the state, and return the History.

        Other threads see the state and the parameters either before or after all changes.

        Parameters
        ----------
        reason : str
            Why the run ended, for `History.stop_reason`.
        restores : bool
            Replace the last parameters by those of the best epoch, if these were saved.
        """
        best = self.monitor.params
        with self.model.snapshot_lock:
            self.save_progress()
            history = self.history(reason)
            self.state.add_history(history)
            if restores and best is not None:
                self.params[...] = best
        self.close_callbacks()
        return history

    def close_callbacks(self) -> None:
        """Close the callbacks, unless they have been closed already."""
        callbacks, self.callbacks = self.callbacks, None
        if callbacks is not None:
            callbacks.close()

    @property
    def is_short(self) -> bool:
        """Return whether the run takes at most about a millisecond."""
        options, model = self.options, self.model
        work = 3 * (options.epochs or MAX_SHORT_MULTIPLY_ADDS) * self.data.n * model.n_params
        is_small = work <= MAX_SHORT_MULTIPLY_ADDS and not model.uses_lanes
        return is_small and options.n_threads in (None, 1) and self.records.steps_per_epoch == 1

    @property
    def epoch(self) -> int:
        """Number of complete epochs of this fit."""
        return int(self.training.epoch)

    def loss_rises(self) -> tuple[int, float]:
        """Return the number of consecutive epochs in which the loss has risen, and the loss before the rise."""
        rises: tuple[int, float] = self.training.rises
        return rises

    # ------------------------------------------------------------------------------------------ threads and the core

    def max_threads(self) -> int:
        """Return the largest number of threads that may speed up the run."""
        model, batch = self.model, self.batch_size
        if self.options.n_threads is not None:
            return self.options.n_threads
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

    def create_training(self, threads: int) -> None:
        """Create the run of the core, with memory for `threads` threads."""
        options, state, model = self.options, self.state, self.model
        settings = {**state.optimizer.core_settings(), **options.settings, **state.counters()}
        moments = state.moments if len(state.moments) else None
        run_settings = RunSettings(self.batch_size, settings, options.order, moments, threads)
        self.training = model.core.Training(model.engine, model.theta_view, self.data, run_settings)
        state.current = self.current_history

    def next_check(self) -> int:
        """Return the epoch at which the core returns to Python, and prepare learning rates up to it."""
        epoch, options = self.epoch, self.options
        first = self.records.earlier_epochs
        if options.epoch_settings is not None:
            options.epoch_settings(self.training, first + epoch)
        goal = sys.maxsize if options.epochs is None else options.epochs
        if self.check_interval:
            goal = min(goal, epoch + self.check_interval)
        if self.callbacks is not None:
            training_seconds = perf_counter() - self.records.start_time - self.check_seconds
            goal = min(goal, epoch + self.callbacks.epochs_until_due(epoch, first, training_seconds))
        if goal > self.records.planned_epochs:
            self.records.plan(epoch, goal)
        return min(goal, self.records.planned_epochs)

    def next_change(self) -> int:
        """Return the next epoch of this run after which the objective changes, such as its points."""
        return sys.maxsize

    def set_goal(self, goal: int) -> None:
        """Set the epoch at which the core returns to Python.

        Also update the copies of the parameters in the core, because a callback may have changed the parameters.
        """
        records = self.records
        self.training.refresh()
        self.training.set_epochs(records.losses, records.rates, goal, records.steps_per_epoch > 1)

    def advance(self, goal: int) -> None:
        """Train in slices of about 50 ms until epoch `goal` is complete.

        Ctrl-C, the time limit or divergence may end the run earlier.
        """
        training = self.training
        self.set_goal(goal)
        while not training.done and not self.interrupt and not self.is_out_of_time():
            self.run_slice()
        if training.diverged or training.broken_layer:
            self.raise_divergence()

    def run_slice(self) -> None:
        """Run the core for one slice, which is a number of blocks on one thread, or a duration on several threads."""
        training, n = self.training, self.data.n
        began = perf_counter()
        rows_before = training.epoch * n + training.row
        threads, seconds = self.tuner.next(self.remaining_rows())
        if self.options.max_seconds is not None:
            seconds = min(seconds, self.options.max_seconds / 2)
        if threads > 1:
            threads = 1 if training.single_threaded else self.team.grow(threads)
        blocks = sys.maxsize
        if threads == 1:
            rate = self.tuner.throughput.get(1) or ASSUMED_MULTIPLY_ADDS_PER_SECOND / self.model.n_params
            blocks = max(1, int(rate * seconds / training.block))
        training.resume(threads, seconds)
        if self.model.snapshot_lock.awaited:  # pause, so that a waiting thread can acquire the snapshot lock
            sleep(YIELD_SECONDS)
        with self.model.snapshot_lock:  # prevent other threads from reading parameters or state during the slice
            began = perf_counter()
            self.team.run(training.task, blocks, threads, training.abort)
            now = perf_counter()
            rows = training.epoch * n + training.row - rows_before
            self.rows_by_threads[threads] = self.rows_by_threads.get(threads, 0) + rows
            self.record_time(now)
        if rows:
            self.tuner.record(threads, rows, now - began)

    def record_time(self, now: float) -> None:
        """Record the time `now` together with the number of epochs so far, which may be fractional."""
        self.records.record_time(self.training.epoch + self.training.row / self.data.n, now)

    def remaining_rows(self) -> float:
        """Return the number of rows until the last epoch ends; infinity if `epochs` is None."""
        epochs = self.options.epochs
        return np.inf if epochs is None else (epochs - self.epoch) * self.data.n

    def has_reached_target(self) -> bool:
        """Return whether the last loss is at most `target_loss`."""
        target = self.options.target_loss
        return target is not None and self.epoch > 0 and bool(self.records.losses[self.epoch - 1] <= target)

    def is_out_of_time(self) -> bool:
        """Return whether the time limit `max_seconds` has passed."""
        limit = self.options.max_seconds
        return limit is not None and perf_counter() - self.records.start_time >= limit

    # ------------------------------------------------------------------------------------------ after an epoch

    def check_epoch(self) -> str:
        """Evaluate the last epoch and call the callbacks; return the reason to stop, or "" to continue."""
        if self.is_plain:
            return "interrupt" if self.interrupt else ""
        epoch = self.epoch
        reason = ""
        if epoch > self.checked_epochs and (self.check_interval or self.callbacks is not None):
            began = perf_counter()
            is_best = self.monitor_epoch(epoch)
            self.checked_epochs = epoch
            if self.monitor.is_out_of_patience(epoch):
                reason = "patience"
            is_last = epoch == self.options.epochs or self.has_reached_target() or self.is_out_of_time()
            if self.run_callbacks(epoch, is_best, bool(reason or self.interrupt) or is_last):
                reason = "callback"
            self.check_seconds += perf_counter() - began
        if self.has_reached_target():
            reason = "target_loss"
        elif self.interrupt:
            reason = "interrupt"
        elif self.is_out_of_time():
            reason = "max_seconds"
        if reason and epoch:  # all callbacks are due after the last epoch
            self.run_callbacks(epoch, is_best=False, is_last=True)
        return reason

    def monitor_epoch(self, epoch: int) -> bool:
        """Evaluate an epoch, and return whether it is the best one so far.

        If the training loss is monitored, earlier epochs since the last check are compared too.
        """
        options, losses = self.options, self.records.losses
        self.evaluate()
        values = self.records.columns.get(options.monitor)
        if values is None:
            index = self.checked_epochs + int(losses[self.checked_epochs : epoch].argmin())
            value = float(losses[index])
        else:
            index, value = epoch - 1, values[-1]
        signed = -value if options.larger_is_better else value
        if self.state.plateau is not None:
            self.state.plateau.observe(signed)
        return self.monitor.observe(signed, index + 1, epoch, self.params)

    def evaluate(self) -> None:
        """Compute the validation loss and the metrics."""
        if self.evaluator is not None:
            self.evaluator.evaluate(self.team, self.tuner.best, self.interrupt, self.training.block)

    def run_callbacks(self, epoch: int, is_best: bool, is_last: bool) -> bool:
        """Call the callbacks that are due; return whether one of them ends the training."""
        if self.callbacks is None:
            return False
        due = self.callbacks.due(epoch, self.records.earlier_epochs + epoch, is_last)
        if not due:
            return False
        self.save_progress()
        records = self.records
        record = Record(epoch=records.earlier_epochs + epoch, loss=float(records.losses[epoch - 1]))
        record.update((name, values[-1]) for name, values in records.columns.items())
        record.update(lr=records.rate_of_epoch(epoch - 1), seconds=perf_counter() - records.start_time)
        is_best = is_best and self.monitor.beats_earlier_fits(list(self.state.histories))
        record.update(best=is_best, network=self.options.network)
        if self.options.refit:
            record["refit"] = True
        if self.evaluator is not None and self.dataset.validation is not None:
            record.outputs = self.evaluator.outputs
        stop = self.callbacks.call(due, record, epoch)
        self.model.check_parameters(", which a callback has assigned")
        return stop

    def save_progress(self) -> None:
        """Update the counters of the training state, for checkpoints. Any thread may call this method."""
        with self.model.snapshot_lock:
            state = self.state
            draws = state.update_counters(self.training.counters)
            if self.options.order is not None:  # `order` is None if the core does not shuffle the rows
                state.streams.shuffle_position = draws
            state.epoch = self.records.earlier_epochs + self.epoch

    def current_history(self) -> History:
        """Update the counters of the training state, and return the History of the run so far."""
        self.save_progress()
        return self.history("epochs")

    def history(self, reason: str) -> History:
        """Return the History of the complete epochs.

        Parameters
        ----------
        reason : str
            Value of `History.stop_reason`.
        """
        rows = self.rows_by_threads
        threads = max(rows, key=rows.__getitem__) if len(rows) > 1 else next(iter(rows), 1)
        return self.records.history(self.epoch, reason, self.monitor.best_epoch, threads, self.settings)

    # ------------------------------------------------------------------------------------------ divergence

    def raise_divergence(self) -> None:
        """Raise DivergedError after the core has computed numbers that are not finite.

        The parameters are finite: the core takes no step if the loss is not finite, and it keeps the old value of each
        parameter that a step would make infinite or NaN.
        """
        X, layer, history = self.data.X, self.training.broken_layer, self.history("diverged")
        raise divergence_error(self.model, X, layer, self.epoch + 1, history, self.divergence_cause())

    def divergence_cause(self) -> str:
        """Return a sentence about the most likely cause of a divergence."""
        return likely_cause(self.records.rate_of_epoch(self.epoch), self.dataset.converter.max_abs_input)
