"""A run of training: from checked arrays through the compiled loop to a History.

The compiled core goes through the epochs. Python gets control back every 50 ms or so, and after an epoch where
something has to be looked at there: validation, patience, a metric, a callback.
"""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import nullcontext
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._team import Interrupt, Team
from nnc.base import processors
from nnc.training.callbacks import Call, Record, asked, tell
from nnc.training.divergence import DivergedError, divergence, too_fast
from nnc.training.history import History
from nnc.training.plan import check_weights, unchanged
from nnc.training.threads import SLICE, ThreadTuner, borrow_tuner, doubling, return_tuner, settle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nnc.data.intake import Intake
    from nnc.model.data import Data
    from nnc.model.model import Model
    from nnc.training.plan import Plan
    from nnc.training.state import State

GIVE_WAY_SECONDS = 0.001  # to a thread that wants to read the parameters
LEAST = 100_000  # multiply-adds of a thread between two barriers: with fewer it can be no faster
SHORT = 1_000_000  # multiply-adds of a run that is over before anybody could wait for it: at most a millisecond
CHUNK = 4096  # epochs for which learning rates are worked out ahead, and the space for losses grows


class Fit:
    """One call of `fit` on arrays."""

    # What a run that nothing is looked at in leaves as it is.
    is_alone = True  # no other rule may end it before its epochs do
    every = 0  # epochs until Python has to look; 0: it need not
    seen = 0  # epochs that were looked at
    looking = 0.0  # seconds that this took
    evaluation: Any = None
    outputs: NDArray[Any] | None = None
    best = np.inf
    record_before: float | None = None  # the best of the fits before, once it is asked for
    best_epoch: int | None = None
    improved = 0  # the epoch of the last improvement, which patience counts from
    best_params: NDArray[Any] | None = None
    training: Any = None  # the core's run
    calls: Sequence[Call] = ()
    rows_of: Counter[int] | None = None  # rows that so many threads have worked on together
    rates: Any = np.empty(0)  # of epochs, as many as are known; or a number, which is that of all
    rated = 0
    rates_an_epoch = 1  # or one for each step

    def __init__(self, model: Model, intake: Intake, data: Data, plan: Plan, state: State) -> None:
        self.model, self.plan, self.state = model, plan, state
        self.params = model.theta
        self.columns: dict[str, list[float]] = {}  # validation loss and metrics, epoch by epoch
        if state.schedule is not None:
            if state.changes_by_step:
                self.rates_an_epoch = -(-data.n // plan.batch_size)
            self.every = 1 if state.plateau is not None else 0
        if not plan.is_bare:
            self.prepare_to_look(data)
        self.begin(intake, data)
        if plan.callbacks or plan.display:
            self.open_callbacks()

    def prepare_to_look(self, data: Data) -> None:
        """What the plan asks for beside epochs."""
        plan = self.plan
        # Where another rule may end it first, space is taken as it is needed; else all at once, or refused at once.
        self.is_alone = (
            plan.patience is None and plan.target_loss is None and plan.max_seconds is None and not plan.callbacks
        )
        if plan.validation is not None:
            self.columns["val_loss"] = []
        for name in plan.metrics:
            self.columns[name] = []
        watching = plan.patience is not None or plan.validation is not None or bool(plan.keeps_best)
        if watching or plan.changes is not unchanged or plan.metrics:
            self.every = 1
        if plan.metrics:
            check_weights(plan, data if plan.validation is None else plan.validation)

    def open_callbacks(self) -> None:
        """Tells those that want to know that the run begins."""
        plan = self.plan
        callbacks = plan.callbacks if plan.display is None else [*plan.callbacks, plan.display]
        self.calls = [Call(callback, self.began) for callback in callbacks]
        tell((call.callback for call in self.calls), "open")

    def begin(self, intake: Intake, data: Data) -> None:
        """What is done at the beginning, the first time and whenever the run is repeated on data of the same form."""
        self.model.check_parameters()
        n, size = data.n, self.plan.batch_size
        if self.model.least_rows > 1:
            self.model.check_rows(n if size >= n else n % size or size, None if size in (1, n) or size > n else n)
        self.intake, self.data = intake, data
        self.first = self.state.epoch  # epochs of the fits before
        self.began = perf_counter()
        self.marks = [(0.0, 0.0)]  # (epochs, seconds) where the clock was read
        epochs = self.plan.epochs or CHUNK
        self.losses = np.empty(epochs if self.is_alone else min(16 * CHUNK, epochs))

    # ------------------------------------------------------------------------------------------ the run

    def run(self, interrupt: Interrupt | None = None) -> History:
        """Trains; returns the History.

        Parameters
        ----------
        interrupt : Interrupt, optional
            Of many runs at once, inside its `with`; by default its own.

        Raises
        ------
        DivergedError
            The loss or the weights are no longer finite.
        """
        if interrupt is None and self.is_plain and self.is_short:
            return self.run_at_once()
        noting = Interrupt() if interrupt is None else nullcontext(interrupt)
        with noting as noted, processors.at_work, Team(self.most_threads(), settle) as team:
            self.enter(noted, team)
            return self.go()

    def enter(self, interrupt: Interrupt, team: Team) -> None:
        """What comes before the first epoch."""
        self.interrupt, self.team = interrupt, team
        self.tuner, self.rows_of = self.choose(), Counter()
        self.open(team.most)

    def go(self) -> History:
        """All epochs."""
        reason = ""
        try:
            while not reason and self.epoch != self.plan.epochs:
                self.advance(self.goal())
                reason = self.look()
            return self.finish(reason or "epochs")
        except BaseException as error:
            self.fail(error)
            raise
        finally:
            return_tuner(self.kind, self.tuner)

    def run_at_once(self) -> History:
        """The same in one piece, on one thread, for a short run that nothing is looked at in. It is over before Ctrl-C
        could be heard, which is left to the caller, whose loop it ends."""
        state = self.state
        try:
            self.open(1)
            losses = self.losses
            self.rates = state.lr if state.schedule is None else state.rates(self.first, self.first + len(losses))
            with self.model.still:
                if not self.training.run_through(losses, self.rates):
                    self.diverged()
                self.note()  # and what else `close` does
                history = self.history("epochs")
                state.current = None
                state.remember(history)
                return history
        except BaseException as error:
            self.fail(error)
            raise

    def fail(self, error: BaseException) -> None:
        """To be called where an exception ends it, at whatever point."""
        if self.state.current is not None:  # else it was over
            reasons = {DivergedError: "diverged", KeyboardInterrupt: "interrupt"}
            self.close(reasons.get(type(error), "error"))

    def finish(self, reason: str) -> History:
        """To be called where it has come to its end."""
        return self.close(reason, self.best_params)

    def close(self, reason: str, params: NDArray[Any] | None = None) -> History:
        """What has to be done however a run ends; `params` are those that it ends with, if not the last ones. Other
        threads see it as it goes on, or as it is over."""
        state = self.state
        try:
            with self.model.still:
                try:
                    self.sync()
                    history = self.history(reason)
                finally:
                    state.current = None  # which holds the run
                state.remember(history)
                if params is not None:
                    self.params[...] = params
        finally:
            if self.calls:
                tell((call.callback for call in self.calls), "close")
        return history

    def release(self) -> None:
        """Lets go of the data, until the run begins again."""
        self.training.release()
        del self.data, self.losses, self.intake

    @property
    def is_short(self) -> bool:
        """Whether it is over before anybody could wait for it."""
        plan, model = self.plan, self.model
        work = 3 * (plan.epochs or SHORT) * self.data.n * model.n_params
        return work <= SHORT and plan.n_threads in (None, 1) and self.rates_an_epoch == 1 and not model.images

    @property
    def is_plain(self) -> bool:
        """Whether nothing is looked at between its beginning and its end."""
        return self.is_alone and not self.every and not self.calls

    @property
    def epoch(self) -> int:
        """Epochs of this fit that are complete."""
        return self.training.epoch  # type: ignore[no-any-return]

    @property
    def steps(self) -> int:
        """Steps of these epochs."""
        return self.epoch * -(-self.data.n // self.plan.batch_size)

    def rises(self) -> tuple[int, float]:
        """How many epochs in a row, the last one included, have raised the loss, and the loss before them."""
        rises: tuple[int, float] = self.training.rises
        return rises

    def most_threads(self) -> int:
        """How many threads there may be."""
        model, batch = self.model, self.plan.batch_size
        if self.plan.n_threads is not None:
            return self.plan.n_threads
        pay = model.engine.blocks(batch) or 3 * model.n_params * batch // LEAST
        return max(1, min(processors.get_num_threads(), pay))

    def choose(self) -> ThreadTuner:
        """Return the tuner that chooses the number of threads."""
        model, batch, most = self.model, self.plan.batch_size, self.team.most
        self.kind = model.core.__name__, model.shape, *model.sizes, model.n_params, batch, type(self.state.optimizer)
        if self.plan.n_threads is not None:
            return ThreadTuner([most])
        return borrow_tuner(self.kind, doubling(most), processors.get_num_threads)

    def open(self, threads: int) -> None:
        """Opens the core's run for so many threads, or hands the data to the one that is there."""
        plan, state = self.plan, self.state
        if self.training is None:
            settings = {**state.optimizer.settings(), **plan.settings, **state.counters()}
            rows = self.data.whole
            self.training = self.model.core.Training(
                self.model.engine,
                self.model.read,
                rows.X,
                rows.Y,
                rows.labels,
                rows.weights,
                plan.batch_size,
                plan.order,
                state.moments if len(state.moments) else None,
                settings,
                threads,
                self.data.index,
            )
        else:
            rows = self.data
            self.training.feed(rows.X, rows.Y, rows.labels, rows.weights)
        state.current = self.report

    def goal(self) -> int:
        """The epoch up to which the core goes before Python has to look."""
        epoch = self.epoch
        self.plan.changes(self.training, self.first + epoch)
        goal = sys.maxsize if self.plan.epochs is None else self.plan.epochs
        if self.every:
            goal = min(goal, epoch + self.every)
        for call in self.calls:
            until = self.pace(call) if call.every is None else call.every - (self.first + epoch) % call.every
            goal = min(goal, epoch + until)
        if goal > self.rated:
            self.look_ahead(epoch, goal)
        return min(goal, self.rated)

    def pace(self, call: Call) -> int:
        """Epochs until a callback that waits for some time has its turn."""
        now = perf_counter()
        training = max(now - self.began - self.looking, 1e-9)
        return max(1, int(self.epoch / training * (call.at + call.seconds - now)))

    def look_ahead(self, epoch: int, goal: int) -> None:
        """Learning rates for the epochs to come, and space for their losses."""
        state, steps = self.state, self.rates_an_epoch
        chunk = max(1, CHUNK // steps)
        until = min(goal, epoch + chunk) if state.schedule is not None else min(goal, len(self.losses))
        if until <= epoch:
            until = min(goal, epoch + chunk)
        if until > len(self.losses):
            self.losses = np.concatenate([self.losses, np.empty(max(until, len(self.losses)))])
        if self.rated == 0:
            self.rates = state.rates(self.first, self.first + until, steps)
        else:
            if until * steps > len(self.rates) or not self.rates.flags.writeable:
                known = self.rates[: self.rated * steps]
                self.rates = np.empty(max(until, min(len(self.losses), 2 * self.rated)) * steps)
                self.rates[: len(known)] = known
            self.rates[epoch * steps : until * steps] = state.rates(self.first + epoch, self.first + until, steps)
        self.rated = until

    def rate_of(self, epoch: int) -> float:
        """The learning rate of the first step of an epoch of this fit, counted from 0."""
        return float(self.rates if type(self.rates) is float else self.rates[epoch * self.rates_an_epoch])

    def aim(self, goal: int) -> None:
        """Tells the core's run to which epoch it goes, from the weights as they are now: a callback may have changed
        them."""
        self.training.refresh()
        self.training.plan(self.losses, self.rates, goal, self.rates_an_epoch > 1)

    def advance(self, goal: int) -> None:
        """Goes on to the end of epoch `goal`, in slices of time, unless something ends the run."""
        training = self.training
        self.aim(goal)
        while not training.done and not self.interrupt and not self.is_late():
            self.go_on()
        if training.lost or training.broken_layer:
            self.diverged()

    def go_on(self) -> None:
        """Lets the core go on for a slice: one thread for so many blocks of rows, a team for so long as it may."""
        training, n = self.training, self.data.n
        began = perf_counter()
        left, before = self.rows_left(), training.epoch * n + training.row
        threads, seconds = self.tuner.next(left)
        if self.plan.max_seconds is not None:
            seconds = min(seconds, self.plan.max_seconds / 2)
        if threads > 1:
            threads = 1 if training.alone else self.team.grow(threads)
        blocks = sys.maxsize
        if threads == 1:
            rate = self.tuner.rates.get(1) or 3e8 / self.model.n_params  # a first guess; then what the clock says
            blocks = max(1, int(rate * seconds / training.block))
        training.resume(threads, seconds)
        if self.model.still.awaited:  # or this thread would be in it again before the other one is awake
            sleep(GIVE_WAY_SECONDS)
        with self.model.still:  # with what `history` reads
            began = perf_counter()
            self.team.run(training.task, blocks, threads, training.abort)
            now = perf_counter()
            rows = training.epoch * n + training.row - before
            assert self.rows_of is not None
            self.rows_of[threads] += rows
            self.mark(now)
        if rows:
            self.tuner.record(threads, rows, now - began)

    def rows_left(self) -> float:
        """How many rows are still to be trained on, at most."""
        epochs = self.plan.epochs
        return np.inf if epochs is None else (epochs - self.epoch) * self.data.n

    def mark(self, now: float) -> None:
        seconds = now - self.began
        if seconds - self.marks[-1][1] > 0.1 * SLICE:
            self.marks.append((self.training.epoch + self.training.row / self.data.n, seconds))

    def reached_target(self) -> bool:
        target = self.plan.target_loss
        return target is not None and self.epoch > 0 and self.losses[self.epoch - 1] <= target

    def is_late(self) -> bool:
        limit = self.plan.max_seconds
        return limit is not None and perf_counter() - self.began >= limit

    def look(self) -> str:
        """What is to be done at the end of an epoch; returns the reason why the training ends, or nothing."""
        if self.is_plain:
            return "interrupt" if self.interrupt else ""
        plan, epoch = self.plan, self.epoch
        reason = ""
        if epoch > self.seen and (self.every or self.calls):
            began = perf_counter()
            better = self.watch(epoch)
            self.seen = epoch
            if plan.patience is not None and epoch - self.improved >= plan.patience:
                reason = "patience"
            last = bool(reason or self.interrupt) or self.reached_target() or self.is_late() or epoch == plan.epochs
            if self.call_back(epoch, better, last):
                reason = "callback"
            self.looking += perf_counter() - began
        if self.reached_target():
            reason = "target_loss"
        elif self.interrupt:
            reason = "interrupt"
        elif self.is_late():
            reason = "max_seconds"
        if reason and self.calls and epoch:  # those whose turn this epoch was not, before it became the last
            self.call_back(epoch, better=False, last=True)
        return reason

    # ------------------------------------------------------------------------------------------ after an epoch

    def watch(self, epoch: int) -> bool:
        """Validation and metrics of an epoch; returns whether it is the best so far, also of those not looked at."""
        plan = self.plan
        if plan.validation is not None or plan.metrics:
            self.evaluate()
        values = self.columns.get(plan.monitor)
        if values is None:
            at = self.seen + int(self.losses[self.seen : epoch].argmin())
            value = float(self.losses[at])
        else:
            at, value = epoch - 1, values[-1]
        signed = -value if plan.larger_is_better else value
        if self.state.plateau is not None:
            self.state.plateau.observe(signed)
        least = plan.min_delta
        if plan.min_share and self.best_epoch is not None:
            least += plan.min_share * abs(self.best)
        if signed < self.best - least:
            self.improved = at + 1
        elif not (plan.keeps_best == "last" and signed == self.best < np.inf):
            return False
        self.best, self.best_epoch = signed, at + 1
        if self.best_epoch != epoch:
            return False
        if plan.keeps_best:
            if self.best_params is None:
                self.best_params = np.empty_like(self.params)
            self.best_params[...] = self.params
        return True

    @property
    def measured(self) -> Data:
        """The rows that metrics are taken of."""
        return self.data if self.plan.validation is None else self.plan.validation

    def evaluate(self) -> None:
        """The loss of the validation rows and the metrics, of those or else of the training rows."""
        plan, model, rows = self.plan, self.model, self.measured
        if model.custom is not None:
            P = model.net_outputs(rows.X)
            if plan.validation is not None:
                assert rows.Y is not None
                self.columns["val_loss"].append(model.custom.value(P, rows.Y))
            for name, metric in plan.metrics.items():
                self.columns[name].append(self.intake.measure(metric, rows, P))
            return
        threads = self.team.grow(self.tuner.best)
        if self.evaluation is None or self.evaluation.threads != threads:
            if plan.metrics and self.outputs is None:
                self.outputs = np.empty((rows.n, model.sizes[-1]), model.dtype)
            self.evaluation = model.evaluation(rows, self.outputs, threads)
        self.evaluation.restart()
        blocks = max(1, int(1e9 / (len(self.params) * self.training.block)))
        while not self.evaluation.done and not self.interrupt:
            self.team.run(self.evaluation.task, blocks, threads)
        if plan.validation is not None:
            self.columns["val_loss"].append(self.evaluation.loss if self.evaluation.done else np.nan)
        for name, metric in plan.metrics.items():
            assert self.outputs is not None
            done = self.evaluation.done
            self.columns[name].append(self.intake.measure(metric, rows, self.outputs) if done else np.nan)

    def call_back(self, epoch: int, better: bool, last: bool) -> bool:
        """Calls the callbacks whose turn it is; returns whether one of them ends the training."""
        record = None
        stop = False
        now = perf_counter()
        for call in self.calls:
            if call.epoch == epoch or not (last or call.is_due(self.first + epoch, now)):
                continue
            if record is None:
                self.sync()
                record = Record(epoch=self.first + epoch, loss=float(self.losses[epoch - 1]))
                record.update((name, values[-1]) for name, values in self.columns.items())
                record.update(lr=self.rate_of(epoch - 1), seconds=perf_counter() - self.began)
                better = better and (self.best == np.inf or self.best < self.best_before())  # inf: not kept here
                record.update(best=better, network=self.plan.network)
            call.epoch = epoch
            stop = asked(call.callback, record) or stop
            call.at = perf_counter()
        if record is not None:
            self.model.check_parameters(", which a callback has put there")
        return stop

    def best_before(self) -> float:
        """The best value of what is monitored in the fits that this one goes on from, as `best` has it."""
        if self.record_before is None:
            name, sign = self.plan.monitor, -1 if self.plan.larger_is_better else 1
            columns = [sign * history[name] for history in self.state.histories if name in history]
            self.record_before = float(np.fmin.reduce(np.concatenate([[np.inf], *columns])))
        return self.record_before

    def sync(self) -> None:
        """Writes where the run stands into the network, as a checkpoint needs it. Other threads do so, too, where they
        ask for it."""
        with self.model.still:
            self.note()

    def note(self) -> None:
        """The same where no other thread trains."""
        state = self.state
        draws = state.take(self.training.counters)
        if self.plan.order is not None:  # else the rows are not shuffled, or not by the core
            state.streams.draws = draws
        state.epoch = self.first + self.epoch

    def report(self) -> History:
        """How far the run has come."""
        self.sync()
        return self.history("epochs")

    def history(self, reason: str) -> History:
        epochs, seconds = self.epoch, perf_counter() - self.began
        columns: dict[str, NDArray[np.float64] | float]
        rates, each = self.rates, self.rates_an_epoch
        losses = self.losses if epochs == self.losses.size else self.losses[:epochs]
        columns = {"loss": losses, "lr": rates if type(rates) is float else rates[: epochs * each : each]}
        if len(self.marks) == 1:
            columns["epoch_seconds"] = seconds / max(epochs, 1)
        else:  # between two looks at the clock, all epochs take the same time
            marks = self.marks if self.marks[-1][0] >= epochs else [*self.marks, (epochs, seconds)]
            at, when = np.array(marks).T
            columns["epoch_seconds"] = np.diff(np.interp(np.arange(epochs + 1), at, when))
        for name, values in self.columns.items():  # an exception may have come between an epoch and its values
            columns[name] = np.array([*values[:epochs], *[np.nan] * (epochs - len(values))], np.float64)
        threads = self.rows_of.most_common(1)[0][0] if self.rows_of else 1
        return History(columns, seconds, reason, self.best_epoch, n_threads=threads)

    # ------------------------------------------------------------------------------------------ divergence

    def diverged(self) -> None:
        """Raises, since the core has come to numbers that are not finite. Where the loss was not, it took no step; in a
        step, the parameters that would not have been finite kept their values."""
        raise divergence(
            self.model, self.data.X, self.training.broken_layer, self.epoch + 1, self.history("diverged"), self.cause()
        )

    def cause(self) -> str:
        """What most likely made it diverge, and what to do."""
        return too_fast(self.rate_of(self.epoch), self.intake.largest)
