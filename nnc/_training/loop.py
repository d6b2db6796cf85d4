"""Training loop of all fits.

A minimizer trains the network from epoch to epoch, and observers are called between epochs: for validation, early
stopping, metrics and callbacks. Control returns to Python about every 50 ms, to check for Ctrl-C.
"""

from __future__ import annotations

from contextlib import nullcontext
from time import perf_counter
from typing import TYPE_CHECKING, final

from nnc._team import Interrupt, Team
from nnc._training.callbacks import CallbackRunner, Record
from nnc._training.divergence import DivergedError, NotFiniteError, custom_loss_error, divergence_error
from nnc._training.evaluation import Evaluator
from nnc._training.first_order import FirstOrder
from nnc._training.options import check_weights, resolved_settings
from nnc._training.records import CHUNK_EPOCHS, EpochRecords
from nnc._training.stopping import Monitor
from nnc._training.threads import avoid_caller_processor
from nnc._utils import processors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from nnc._model.data import Data
    from nnc._model.model import Model
    from nnc._training.dataset import Dataset
    from nnc._training.history import History
    from nnc._training.minimizer import Evaluation, Minimizer, Observer
    from nnc._training.options import TrainingOptions
    from nnc._training.state import TrainingState

NO_INTERRUPT: AbstractContextManager[None] = nullcontext()


@final
class TrainingLoop:
    """Training run of one call of `fit`.

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
    minimizer : Minimizer, optional
        Optimizer of the run. Default: FirstOrder on the training rows.
    observers : sequence of Observer
        Observers that are called before the stopping rules.
    rules : Observer, optional
        Stopping rules in place of those of the options.
    evaluation : Evaluation, optional
        Evaluation after each epoch in place of that of the validation rows and the metrics.

    Attributes
    ----------
    records : EpochRecords
        Losses, learning rates and times of the epochs.
    monitor : Monitor
        Best epoch, and stopping rules of the options.
    evaluation : Evaluation or None
        Validation loss and metrics.
    callbacks : CallbackRunner or None
        Callbacks and the display of the progress.
    is_plain : bool
        Whether no epoch needs Python, for example for validation, metrics or callbacks.
    check_seconds : float
        Time spent in `check_epoch`.
    """

    check_seconds = 0.0
    evaluation: Evaluation | None = None
    callbacks: CallbackRunner | None = None
    interrupt: Interrupt | None = None
    team: Team

    def __init__(
        self,
        model: Model,
        dataset: Dataset,
        options: TrainingOptions,
        state: TrainingState,
        minimizer: Minimizer | None = None,
        observers: Sequence[Observer] = (),
        rules: Observer | None = None,
        evaluation: Evaluation | None = None,
    ) -> None:
        self.model, self.dataset, self.options, self.state = model, dataset, options, state
        if minimizer is None:
            minimizer = FirstOrder(model, dataset.rows, options, state)
        self.minimizer: Minimizer = minimizer
        self.params, self.observers = model.theta, observers
        self.is_plain = (
            options.is_plain
            and minimizer.is_plain
            and dataset.validation is None
            and state.plateau is None
            and rules is None
            and evaluation is None
        )
        # Allocate memory for all epochs now, so that a lack of memory is detected before the training. A run that may
        # stop early begins with memory for fewer epochs.
        capacity = options.epochs or CHUNK_EPOCHS
        if not self.is_plain and options.may_stop_early:
            capacity = min(16 * CHUNK_EPOCHS, capacity)
        self.records = EpochRecords(state, capacity, minimizer.steps_per_epoch)
        self.monitor = Monitor(options)
        self.settings = resolved_settings(dataset.converter, options, state, minimizer.batch_size)
        if not self.is_plain:
            self.prepare_checks(rules, evaluation)

    def prepare_checks(self, rules: Observer | None, evaluation: Evaluation | None) -> None:
        """Prepare validation, metrics, stopping rules and callbacks."""
        options, dataset = self.options, self.dataset
        if evaluation is None and (dataset.validation is not None or options.metrics):
            check_weights(options.metrics, dataset.metric_rows)
            evaluation = Evaluator(self.model, dataset, options)
        self.evaluation = evaluation
        self.records.columns.update((name, []) for name in (() if evaluation is None else evaluation.columns))
        is_monitored = options.patience is not None or bool(options.restore_best) or self.state.plateau is not None
        if evaluation is not None or is_monitored or options.epoch_settings is not None or not self.minimizer.is_plain:
            self.monitor.interval = 1
        callbacks = options.callbacks if options.display is None else [*options.callbacks, options.display]
        if rules is not None or self.monitor.interval or callbacks:
            self.observers = [*self.observers, self.monitor if rules is None else rules]
        if callbacks:
            self.callbacks = CallbackRunner(callbacks, self.records.start_time)

    @property
    def data(self) -> Data:
        """Training rows in memory: all rows, or one batch."""
        assert self.minimizer.data is not None
        return self.minimizer.data

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
            Team(self.minimizer.max_threads(), avoid_caller_processor) as team,
        ):
            self.start(active, team)
            return self.run_epochs()

    def interrupt_context(self, interrupt: Interrupt | None) -> AbstractContextManager[Interrupt | None]:
        """Return the context in which Ctrl-C ends the run instead of raising KeyboardInterrupt.

        A run of less than about a millisecond does not handle Ctrl-C. Python then raises KeyboardInterrupt after the
        run, so that Ctrl-C can end a loop over many short fits.
        """
        if interrupt is not None or (self.is_plain and self.minimizer.is_short):
            return NO_INTERRUPT if interrupt is None else nullcontext(interrupt)
        return Interrupt()

    def start(self, interrupt: Interrupt | None, team: Team) -> None:
        """Prepare the minimizer, before the first epoch."""
        self.interrupt, self.team = interrupt, team
        self.minimizer.start(self.records, interrupt, team)
        self.state.current = self.current_history

    def run_epochs(self) -> History:
        """Run all epochs, and return the History."""
        reason, minimizer = "interrupt" if self.options.is_interrupted else "", self.minimizer
        try:
            while not reason and minimizer.epoch != self.options.max_epochs:
                reason = self.advance(self.next_check()) or self.check_epoch()
            return self.close(reason or "epochs", restores=True)
        except BaseException as error:
            self.fail(error)
            raise
        finally:
            minimizer.end()

    def advance(self, goal: int) -> str:
        """Train at most until epoch `goal` is complete; return the reason to end the run, or ""."""
        try:
            return self.minimizer.advance(goal)
        except NotFiniteError as error:
            raise self.divergence(error) from None

    def fail(self, error: BaseException) -> None:
        """End the run after an exception."""
        if self.state.current is not None:  # skip a run that has already ended
            reasons = {DivergedError: "diverged", KeyboardInterrupt: "interrupt"}
            try:
                self.minimizer.restore()
                self.close(reasons.get(type(error), "error"))
            finally:
                self.state.current = None  # remove the reference to the run that has ended
                self.close_callbacks()

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
    def epoch(self) -> int:
        """Number of complete epochs of this fit."""
        return self.minimizer.epoch

    def next_check(self, last_epoch: int | None = None) -> int:
        """Return the epoch at which the minimizer returns, and prepare learning rates up to it.

        `last_epoch` is the last epoch of a run without a number of epochs.
        """
        epoch, options, first = self.minimizer.epoch, self.options, self.records.earlier_epochs
        if options.epoch_settings is not None:
            options.epoch_settings(self.minimizer.training, first + epoch)
        goal = min(options.max_epochs, last_epoch or options.max_epochs)
        for observer in self.observers:
            goal = min(goal, observer.next_check(epoch))
        if self.callbacks is not None:
            training_seconds = perf_counter() - self.records.start_time - self.check_seconds
            goal = min(goal, epoch + self.callbacks.epochs_until_due(epoch, first, training_seconds))
        if goal > self.records.planned_epochs:
            self.records.plan(epoch, goal)
        return min(goal, self.records.planned_epochs)

    # ------------------------------------------------------------------------------------------ after an epoch

    def check_epoch(self) -> str:
        """Call the observers and apply the limits; return the reason to stop, or "" to continue."""
        began = perf_counter() if self.observers else 0.0
        reason = ""
        for observer in self.observers:
            reason = observer.check(self) or reason
        if self.is_plain:
            return "interrupt" if self.interrupt else reason
        self.check_seconds += perf_counter() - began
        reason = self.limit() or reason
        if reason and self.epoch:  # all callbacks are due after the last epoch
            self.run_callbacks(self.epoch, is_best=False, is_last=True)
        return reason

    def limit(self) -> str:
        """Return which limit ends the run: "target_loss", "interrupt" or "max_seconds"; "" for none."""
        target = self.options.target_loss
        if target is not None and self.epoch > 0 and self.records.losses[self.epoch - 1] <= target:
            return "target_loss"
        if self.interrupt:
            return "interrupt"
        return "max_seconds" if self.records.is_out_of_time(self.options.max_seconds) else ""

    def evaluate(self) -> None:
        """Compute the validation loss and the metrics, and append them to their columns."""
        if self.evaluation is not None:
            values = self.evaluation.evaluate(self.team, self.minimizer.n_threads, self.interrupt)
            for name, value in zip(self.evaluation.columns, values, strict=True):
                self.records.columns[name].append(value)

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
        record.update((name, values[epoch - 1]) for name, values in records.columns.items())
        record.update(lr=records.rate_of_epoch(epoch - 1), seconds=perf_counter() - records.start_time)
        is_best = is_best and self.monitor.beats_earlier_fits(list(self.state.histories))
        record.update(best=is_best, network=self.options.network)
        if self.options.refit:
            record["refit"] = True
        if self.evaluation is not None and self.dataset.validation is not None:
            record.outputs = self.evaluation.outputs
        stop = self.callbacks.call(due, record, epoch)
        self.model.check_parameters(", which a callback has assigned")
        return stop

    def save_best(self) -> None:
        """Copy the parameters, as those of the best epoch."""
        self.monitor.save_params(self.params)

    def save_progress(self) -> None:
        """Update the training state, for checkpoints. Any thread may call this method."""
        with self.model.snapshot_lock:
            self.minimizer.save_progress()
            self.state.epoch = self.records.earlier_epochs + self.minimizer.epoch

    def current_history(self) -> History:
        """Update the training state, and return the History of the run so far."""
        self.save_progress()
        return self.history("epochs")

    def history(self, reason: str) -> History:
        """Return the History of the complete epochs.

        Parameters
        ----------
        reason : str
            Value of `History.stop_reason`.
        """
        epoch, threads = self.minimizer.epoch, self.minimizer.main_threads
        return self.records.history(epoch, reason, self.monitor.best_epoch, threads, self.settings)

    def divergence(self, error: NotFiniteError) -> DivergedError:
        """Return the error to raise after the minimizer has computed numbers that are not finite."""
        epoch, history = self.epoch + 1, self.history("diverged")
        cause = self.minimizer.divergence_cause(self.dataset.converter.max_abs_input)
        if error.reason:
            return custom_loss_error(error.reason, epoch, history, cause)
        return divergence_error(self.minimizer.model, error.X, error.broken_layer, epoch, history, cause)
