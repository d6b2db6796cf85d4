"""A run of training: from checked arrays through the compiled loop to a History.

The compiled core goes through the epochs. Python gets control back every 50 ms or so, and after an epoch where
something has to be looked at there: validation, patience, a metric, a callback that asks for it.
"""

from __future__ import annotations

import sys
from collections import deque
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnc._dispatch import cpu_count
from nnc._threads import Interrupt, Team
from nnc.base.arrays import constant
from nnc.history import History
from nnc.kinds import losses
from nnc.schedules import PlateauState, ReduceLROnPlateau, Schedule, schedule_from_dict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from nnc.callbacks import Progress
    from nnc.kinds.optimizers import Optimizer
    from nnc.metrics import Metric
    from nnc.network import NeuralNetwork

SLICE_SECONDS = 0.05  # Python gets control back about this often, however long or short an epoch is
LATE = 0.4  # the share of a team's time that is lost on late threads from which one thread goes on alone
ALONE_SECONDS = 0.02, 2.0  # at first, and at most: twice as long each time that the team is late again
TRIAL_SECONDS = 0.005  # how long a team works before that is decided, for the first time and after one has been alone
FITS, EPOCHS = 1000, 100_000  # how many of the last ones stand in a checkpoint, the epochs at least
LARGE_INPUT = 100  # beyond it inputs count as not scaled
CHUNK = 4096  # epochs for which learning rates are worked out ahead, and the space for losses grows


class DivergedError(ArithmeticError):
    """The loss or the weights stopped being finite. The network keeps the last finite weights.

    Attributes
    ----------
    history : History
        The epochs before.
    epoch : int
        The epoch, counted from 1, in which the loss or the weights stopped being finite.
    layer : int or None
        The first layer, counted from 1, whose outputs are not finite, or that a step would have given weights that are
        not finite; the last one where only the loss was not.
    """

    def __init__(self, message: str, history: History, epoch: int, layer: int | None = None) -> None:
        super().__init__(message)
        self.history = history
        self.epoch = epoch
        self.layer = layer

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.history, self.epoch, self.layer)


class Data(NamedTuple):
    """What the engine takes: inputs (n, n_in), then targets (n, n_out) or labels (n,), and how much each row counts."""

    X: NDArray[Any]
    Y: NDArray[Any] | None
    labels: NDArray[np.int32] | None
    weights: NDArray[Any] | None = None

    @property
    def target(self) -> NDArray[Any]:
        """Targets or labels, whichever there are."""
        target = self.Y if self.labels is None else self.labels
        assert target is not None
        return target

    def rows(self, index: NDArray[Any] | slice) -> Data:
        """Some of the rows."""
        return Data(*(None if part is None else part[index] for part in self))  # type: ignore[arg-type]


class Record(dict[str, Any]):
    """What a callback gets after an epoch; items can be read as attributes.

    "epoch" (counted from 1, over all fits that this one goes on from), "loss", "val_loss" and the metrics where there
    are any, "lr", "seconds" since the fit began, "best" (no epoch before was better), "network".
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the record has no {name!r}, it has {', '.join(self)}") from None


FUNCTION = "function"  # as a file has it


def left_behind(epoch: int) -> float:
    """Stands where the learning rate was a function of the user's, which went into no file."""
    raise ValueError("lr was a function when the network was saved, which no file can hold: give it again")


@dataclass
class State:
    """What goes on from fit to fit, and into a checkpoint."""

    optimizer: Optimizer
    moments: NDArray[Any]  # (optimizer.moments, engine.size)
    lr: float  # without a schedule
    steps: int = 0
    powers: tuple[float, float, float] = (1.0, 1.0, 1.0)  # what Adam and NAdam divide by, see src/optimizers.pxd
    epoch: int = 0
    schedule: Schedule | Callable[[int], float] | None = None  # None: lr is constant
    plateau: PlateauState | None = None
    histories: deque[History] = field(default_factory=deque)  # of the fits so far
    remembered: int = 0  # epochs in them
    current: Callable[[], History] | None = None  # of the fit that is going on

    @property
    def history(self) -> History:
        """All epochs since the optimizer began."""
        parts = [*self.histories, *([] if self.current is None else [self.current()])]
        none = {name: np.empty(0) for name in ("loss", "lr", "epoch_seconds")}
        return History.joined(*parts) if parts else History(none, 0.0, "epochs")

    def remember(self, history: History) -> None:
        """Adds a fit that is over. Of very many, the last are kept: a network that is trained on and on takes no more
        and more memory."""
        self.current = None
        self.histories.append(history)
        self.remembered += history.epochs
        while len(self.histories) > FITS or self.remembered - self.histories[0].epochs >= EPOCHS:
            self.remembered -= self.histories.popleft().epochs

    def __copy__(self) -> State:
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    def follow(self, lr: Any, epochs: int | None) -> None:
        """Takes the learning rate from here on: a number, a schedule or a callable of the epoch."""
        self.schedule, self.plateau = lr, None
        if isinstance(lr, ReduceLROnPlateau):
            self.plateau = lr.start()
        elif isinstance(lr, Schedule):
            self.schedule = lr.resolved(self.epoch + (epochs or 1))
            if epochs is None and self.schedule != lr:
                raise ValueError(f"lr must have a length of its own where epochs is not given, got {lr!r}")

    def schedule_document(self) -> dict[str, Any] | None:
        """The schedule as a file has it; None for a constant rate. Of a function it says only that there was one."""
        if self.schedule is None:
            return None
        if not isinstance(self.schedule, Schedule):
            return {"name": FUNCTION}
        document = self.schedule.to_dict()
        return document if self.plateau is None else {**document, "state": self.plateau.to_dict()}

    def leave_function(self) -> None:
        """To be called where the state goes into another process, which a function does not."""
        if self.schedule is not None and not isinstance(self.schedule, Schedule):
            self.schedule = left_behind

    def take_schedule(self, document: dict[str, Any] | None) -> None:
        """Goes on with the schedule that `schedule_document` wrote; ValueError where it is none."""
        if document is None:
            return
        if document == {"name": FUNCTION}:
            self.schedule = left_behind
            return
        document = dict(document)
        plateau = document.pop("state", None)
        self.schedule = schedule_from_dict(document)
        if isinstance(self.schedule, ReduceLROnPlateau):
            self.plateau = self.schedule.resume(plateau)

    def rate(self, epoch: int) -> float:
        """What the schedule, or the user's function, gives for an epoch."""
        assert self.schedule is not None
        value = self.schedule(epoch)
        if not isinstance(value, (float, int, np.floating, np.integer)):
            raise TypeError(f"lr must give a number, got {value!r} for epoch {epoch}")
        return float(value)

    def rates(self, first: int, last: int) -> NDArray[np.float64]:
        """The learning rates of epochs first <= epoch < last, counted over all fits."""
        if self.schedule is None or self.plateau is not None:
            return constant(self.lr if self.plateau is None else self.plateau.lr, last - first)
        rates = np.array([self.rate(epoch) for epoch in range(first, last)], np.float64)
        wrong = ~((rates >= 0) & (rates < np.inf))
        if wrong.any():
            epoch = first + int(wrong.argmax())
            raise ValueError(f"lr must give a finite number, 0 or more, got {rates[wrong][0]} for epoch {epoch}")
        return rates


@dataclass
class Plan:
    """The checked arguments of a fit."""

    epochs: int | None
    batch_size: int
    order: NDArray[np.int32] | None
    settings: dict[str, Any]  # of core.Training
    n_threads: int | None
    validation: Data | None = None
    metrics: dict[str, Metric] = field(default_factory=dict)
    monitor: str = "loss"
    larger_is_better: bool = False
    patience: int | None = None
    min_delta: float = 0.0
    restore_best: bool = True
    target_loss: float | None = None
    max_seconds: float | None = None
    callbacks: Sequence[Callable[[Record], Any]] = ()
    progress: Progress | None = None


def automatic_threads(net: NeuralNetwork, batch: int, batches: float) -> int:
    """How many threads pay for so many batches of so many rows.

    Two meetings of the threads cost about a microsecond a batch, and starting them some hundred: below, one thread is
    faster. The constants are measured (docs/design.md).
    """
    work = 3 * net.n_params * batch  # multiply-adds
    if work * batches < 50_000_000:
        return 1
    most = net._engine.blocks(batch) or work // 750_000
    return max(1, min(cpu_count(), most))


class Fit:
    """One call of `fit` on arrays."""

    def __init__(self, net: NeuralNetwork, data: Data, plan: Plan, state: State) -> None:
        self.net, self.data, self.plan, self.state = net, data, plan, state
        self.params = net._theta
        self.first = state.epoch  # epochs of the fits before
        self.began = perf_counter()
        self.marks = [(0.0, 0.0)]  # (epochs, seconds) where the clock was read
        alone = plan.patience is None and plan.target_loss is None and plan.max_seconds is None and not plan.callbacks
        # Where another rule may end it first, space is taken as it is needed; else all at once, or refused at once.
        self.losses = np.empty((plan.epochs or CHUNK) if alone else min(16 * CHUNK, plan.epochs or CHUNK))
        self.rates, self.rated = np.empty(0), 0  # of epochs, as many as are known
        self.seen = 0  # epochs that were looked at
        self.looking = 0.0  # seconds that this took
        self.called_at = self.began  # when callbacks without `every` had their turn
        self.alone_until, self.alone_for = 0.0, ALONE_SECONDS[0]  # where the threads do not pay
        self.teamed = self.waited = 0.0  # seconds since that was last decided, and those that threads waited for others
        self.team_pays = plan.n_threads is not None
        self.evaluation: Any = None
        self.outputs: NDArray[Any] | None = None
        self.columns: dict[str, list[float]] = {}  # validation loss and metrics, epoch by epoch
        if plan.validation is not None:
            self.columns["val_loss"] = []
        for name in plan.metrics:
            self.columns[name] = []
        self.best = np.inf
        self.record_before: float | None = None  # the best of the fits before, once it is asked for
        self.best_epoch: int | None = None
        self.best_params: NDArray[Any] | None = None
        watching = plan.patience is not None or plan.validation is not None
        self.every = 1 if watching or plan.metrics or state.plateau is not None else 0
        self.calls = [(callback, int(getattr(callback, "every", 0) or 0)) for callback in plan.callbacks]
        self.called: dict[int, int] = {}  # the epoch that each of them was called for last
        if plan.progress is not None:
            self.calls.append((plan.progress, 0))
            plan.progress.open()

    # ------------------------------------------------------------------------------------------ the run

    def run(self) -> History:
        """Trains; returns the History.

        Raises
        ------
        DivergedError
            The loss or the weights are no longer finite.
        """
        plan = self.plan
        reason = ""
        with Interrupt() as self.interrupt, Team(self.count_threads()) as self.team:
            self.training = self.open()
            # blocks of rows a slice: a first guess; then what the clock says
            self.blocks = max(1, int(1e6 / (3 * len(self.params) * self.training.block)))
            try:
                while not reason and self.epoch != plan.epochs:
                    self.advance(self.goal())
                    reason = self.look()
            except BaseException:
                self.state.remember(self.history("interrupt"))
                raise
            finally:
                self.close()
        return self.finish(reason or "epochs")

    def close(self) -> None:
        """What has to be done however a run ends."""
        self.sync()
        if self.plan.progress is not None:
            self.plan.progress.close()

    def finish(self, reason: str) -> History:
        history = self.history(reason)
        self.state.remember(history)
        if self.plan.patience is not None and self.plan.restore_best and self.best_params is not None:
            self.params[...] = self.best_params
        return history

    @property
    def epoch(self) -> int:
        """Epochs of this fit that are complete."""
        return int(self.training.epoch)

    def rises(self) -> tuple[int, float]:
        """How many epochs in a row, the last one included, have raised the loss, and the loss before them."""
        rises: tuple[int, float] = self.training.rises
        return rises

    def count_threads(self) -> int:
        plan, batch = self.plan, self.plan.batch_size
        batches = (plan.epochs or 1000) * len(self.data.X) / batch
        return plan.n_threads or automatic_threads(self.net, batch, batches)

    def open(self) -> Any:
        plan, state = self.plan, self.state
        power1, power2, mu_product = state.powers
        settings = {**state.optimizer.settings(), **plan.settings, "steps": state.steps}
        settings.update(draws=self.net._draws, drops=self.net._drops)
        settings.update(power1=power1, power2=power2, mu_product=mu_product)
        training = self.net._core.Training(
            self.net._engine,
            self.params,
            *self.data,
            plan.batch_size,
            plan.order,
            state.moments,
            settings,
            threads=self.team.size,
        )
        state.current = lambda: self.history("epochs")
        return training

    def goal(self) -> int:
        """The epoch up to which the core goes before Python has to look."""
        epoch = self.epoch
        goal = sys.maxsize if self.plan.epochs is None else self.plan.epochs
        if self.every:
            goal = epoch + 1
        for _, every in self.calls:
            goal = min(goal, epoch + every - (self.first + epoch) % every) if every else min(goal, epoch + self.pace())
        if epoch >= self.rated or goal > self.rated:
            self.look_ahead(epoch, goal)
        return min(goal, self.rated)

    def pace(self) -> int:
        """Epochs until callbacks without `every` have their turn."""
        now = perf_counter()
        training = max(now - self.began - self.looking, 1e-9)
        return max(1, int(self.epoch / training * (self.called_at + SLICE_SECONDS - now)))

    def look_ahead(self, epoch: int, goal: int) -> None:
        """Learning rates for the epochs to come, and space for their losses."""
        state = self.state
        until = min(goal, epoch + CHUNK) if state.schedule is not None else min(goal, len(self.losses))
        if until <= epoch:
            until = min(goal, epoch + CHUNK)
        if until > len(self.losses):
            self.losses = np.concatenate([self.losses, np.empty(max(until, len(self.losses)))])
        if self.rated == 0:
            self.rates = state.rates(self.first, self.first + until)
        else:
            if until > len(self.rates) or not self.rates.flags.writeable:
                known = self.rates[: self.rated]
                self.rates = np.empty(len(self.losses))
                self.rates[: self.rated] = known
            self.rates[epoch:until] = state.rates(self.first + epoch, self.first + until)
        self.rated = until

    def advance(self, goal: int) -> None:
        """Goes on to the end of epoch `goal`, in slices of time, unless something ends the run."""
        training = self.training
        training.refresh()  # after a callback
        training.plan(self.losses, self.rates, goal)
        while not training.done and not self.interrupt and not self.is_late():
            began = perf_counter()
            alone = self.go_on(self.blocks)
            now = perf_counter()
            self.mark(now)
            if alone and (not training.done or now - began > SLICE_SECONDS):
                self.blocks = max(1, int(self.blocks * min(SLICE_SECONDS / max(now - began, 1e-6), 8)))
        if training.lost or training.broken_layer:
            self.diverged()

    def go_on(self, blocks: int) -> bool:
        """Lets the core go on for a slice: one thread for so many blocks of rows, a team for so long as it may. Returns
        whether one thread did it.

        Where other processes want the processors, the threads of a team wait for each other most of the time. Since
        their number does not change the result, one goes on alone then, unless the user has asked for so many.
        """
        training = self.training
        began = perf_counter()
        threads = 1 if training.alone or began < self.alone_until else self.team.size
        seconds = SLICE_SECONDS if self.team_pays else min(TRIAL_SECONDS, SLICE_SECONDS)
        training.resume(threads, seconds if self.plan.max_seconds is None else min(seconds, self.plan.max_seconds / 2))
        self.team.run(training.work, blocks if threads == 1 else sys.maxsize, threads)
        if threads > 1 and self.plan.n_threads is None:
            now = perf_counter()
            self.teamed += now - began
            self.waited += training.late
            if self.teamed >= TRIAL_SECONDS:  # late once, in one of many short epochs, says nothing
                self.team_pays = self.waited <= LATE * self.teamed * (threads - 1)
                self.teamed = self.waited = 0.0
                if not self.team_pays:
                    self.alone_until = now + self.alone_for
                    self.alone_for = min(2 * self.alone_for, ALONE_SECONDS[1])
                else:
                    self.alone_for = ALONE_SECONDS[0]
        return threads == 1

    def mark(self, now: float) -> None:
        seconds = now - self.began
        if seconds - self.marks[-1][1] > 0.1 * SLICE_SECONDS:
            self.marks.append((self.training.epoch + self.training.row / len(self.data.X), seconds))

    def reached_target(self) -> bool:
        target = self.plan.target_loss
        return target is not None and self.epoch > 0 and self.losses[self.epoch - 1] <= target

    def is_late(self) -> bool:
        limit = self.plan.max_seconds
        return limit is not None and perf_counter() - self.began >= limit

    def look(self) -> str:
        """What is to be done at the end of an epoch; returns the reason why the training ends, or nothing."""
        plan, epoch = self.plan, self.epoch
        reason = ""
        if epoch > self.seen and (self.every or self.calls):
            began = perf_counter()
            better = self.watch(epoch)
            self.seen = epoch
            if plan.patience is not None and epoch - (self.best_epoch or 0) >= plan.patience:
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
        if not signed < self.best - plan.min_delta:
            return False
        self.best, self.best_epoch = signed, at + 1
        if self.best_epoch != epoch:
            return False
        if plan.patience is not None and plan.restore_best:
            if self.best_params is None:
                self.best_params = np.empty_like(self.params)
            self.best_params[...] = self.params
        return True

    def evaluate(self) -> None:
        """The loss of the validation rows and the metrics, of those or else of the training rows."""
        plan, net = self.plan, self.net
        rows = self.data if plan.validation is None else plan.validation
        if self.evaluation is None:
            if plan.metrics:
                self.outputs = np.empty((len(rows.X), net.sizes[-1]), net.dtype)
            self.evaluation = net._core.Evaluation(net._engine, self.params, *rows, self.outputs, self.team.size)
        self.evaluation.restart()
        blocks = max(1, int(1e9 / (len(self.params) * self.training.block)))
        while not self.evaluation.done and not self.interrupt:
            self.team.run(self.evaluation.work, blocks)
        if plan.validation is not None:
            self.columns["val_loss"].append(self.evaluation.loss if self.evaluation.done else np.nan)
        for name, metric in plan.metrics.items():
            assert self.outputs is not None
            self.columns[name].append(net._measure(metric, rows, self.outputs) if self.evaluation.done else np.nan)

    def call_back(self, epoch: int, better: bool, last: bool) -> bool:
        """Calls the callbacks whose turn it is; returns whether one of them ends the training."""
        record = None
        stop = False
        resting = perf_counter() - self.called_at < SLICE_SECONDS
        for number, (callback, every) in enumerate(self.calls):
            if self.called.get(number) == epoch:
                continue
            if not last and ((self.first + epoch) % every if every else resting):
                continue
            if record is None:
                self.sync()
                record = Record(epoch=self.first + epoch, loss=float(self.losses[epoch - 1]))
                record.update((name, values[-1]) for name, values in self.columns.items())
                record.update(lr=float(self.rates[epoch - 1]), seconds=perf_counter() - self.began)
                better = better and (self.best == np.inf or self.best < self.best_before())  # inf: not kept here
                record.update(best=better, network=self.net)
            self.called[number] = epoch
            stop = bool(callback(record)) or stop
        if not resting:
            self.called_at = perf_counter()
        return stop

    def best_before(self) -> float:
        """The best value of what is monitored in the fits that this one goes on from, as `best` has it."""
        if self.record_before is None:
            name, sign = self.plan.monitor, -1 if self.plan.larger_is_better else 1
            columns = [sign * history[name] for history in self.state.histories if name in history]
            self.record_before = float(np.fmin.reduce(np.concatenate([[np.inf], *columns])))
        return self.record_before

    def sync(self) -> None:
        """Writes where the run stands into the network, as a checkpoint needs it."""
        state, training, plan = self.state, self.training, self.plan
        draws, self.net._drops, state.steps, *powers = training.counters
        if plan.order is not None:  # else the rows are not shuffled, or not by the core
            self.net._draws = draws
        state.powers = (powers[0], powers[1], powers[2])
        state.epoch = self.first + self.epoch

    def history(self, reason: str) -> History:
        epochs, seconds = self.epoch, perf_counter() - self.began
        columns = {"loss": self.losses[:epochs], "lr": self.rates[:epochs]}
        if len(self.marks) == 1:
            columns["epoch_seconds"] = constant(seconds / max(epochs, 1), epochs)
        else:  # between two looks at the clock, all epochs take the same time
            marks = self.marks if self.marks[-1][0] >= epochs else [*self.marks, (epochs, seconds)]
            at, when = np.array(marks).T
            columns["epoch_seconds"] = np.diff(np.interp(np.arange(epochs + 1), at, when))
        for name, values in self.columns.items():  # an exception may have come between an epoch and its values
            columns[name] = np.array([*values[:epochs], *[np.nan] * (epochs - len(values))], np.float64)
        return History(columns, seconds, reason, self.best_epoch)

    # ------------------------------------------------------------------------------------------ divergence

    def diverged(self) -> None:
        """Raises, since the core has come to numbers that are not finite. Where the loss was not, it took no step; in a
        step, the parameters that would not have been finite kept their values."""
        epoch, layer = self.epoch + 1, self.training.broken_layer
        if layer:
            what = f"a step of epoch {epoch} would make weights in layer {layer} infinite or NaN"
        else:
            broken, last = self.broken_outputs(), len(self.net.sizes) - 1
            layer = broken or last
            what = f"the loss of epoch {epoch} is not finite, "
            what += f"as outputs of layer {layer} are not" if broken else f"though the outputs of layer {last} are"
        raise DivergedError(
            f"{what}; the network keeps the last finite weights. {self.cause()}",
            self.history("diverged"),
            epoch,
            layer,
        )

    def broken_outputs(self) -> int:
        """The first layer, counted from 1, with outputs that are not finite; 0 where there is none."""
        net, X = self.net, self.data.X
        found = len(net.sizes)
        for start in range(0, len(X), CHUNK):
            rows = X[start : start + CHUNK]
            outs = [np.empty((len(rows), n_out), net.dtype) for n_out in net.sizes[1:]]
            net._engine.forward(self.params, rows, outs)
            found = next((l for l, A in enumerate(outs[: found - 1], 1) if not np.isfinite(A).all()), found)
        return found if found < len(net.sizes) else 0

    def cause(self) -> str:
        """What most likely made it diverge, and what to do."""
        rate = self.rates[self.epoch]
        return f"The learning rate of {rate:g} may be too large, or {self.unscaled()}."

    def unscaled(self) -> str:
        largest = self.net._largest
        if largest > LARGE_INPUT:
            return f'X, which reaches up to {largest:g}, needs scaling (scale_X="standardize")'
        return "the targets or inputs need scaling"


class BatchFit(Fit):
    """One call of `fit_batches`: the rows come batch by batch, and no more of them are held than one batch.

    Parameters
    ----------
    passes : callable
        Gives an iterator of Data for each epoch.
    """

    def __init__(self, net: NeuralNetwork, passes: Callable[[], Iterator[Data]], plan: Plan, state: State) -> None:
        self.passes = passes
        self.iterator = passes()
        first = next(self.iterator, None)
        if first is None:
            raise ValueError("batches must give at least one batch, got none")
        super().__init__(net, first, plan, state)
        self.waiting: Data | None = first
        self.complete = 0
        self.every = 1
        self.one_loss, self.one_rate = np.empty(1), np.empty(1)

    @property
    def epoch(self) -> int:
        return self.complete

    def rises(self) -> tuple[int, float]:
        losses = self.losses[: self.complete]
        fallen = np.flatnonzero(losses[1:] <= losses[:-1])
        last = int(fallen[-1]) + 1 if len(fallen) else 0
        return len(losses) - 1 - last, float(losses[last])

    def count_threads(self) -> int:
        return self.plan.n_threads or automatic_threads(self.net, len(self.data.X), 1000)

    def open(self) -> Any:
        self.plan.batch_size = len(self.data.X)
        return super().open()

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
        total = penalties = weight = 0.0
        adds_up = losses.ROWS[self.net.loss_name].adds_up
        self.training.refresh()
        for data in self.batches():
            rows = len(data.X) if data.weights is None else float(data.weights.sum(dtype=np.float64))
            loss = self.step(data)
            penalty = self.training.penalty
            total += (loss - penalty) * (1.0 if adds_up else rows)
            penalties += penalty * rows
            weight += rows
            if self.interrupt or self.is_late():
                return
        if not weight:
            raise ValueError(f"batches must give at least one batch an epoch, got none in epoch {self.complete + 1}")
        self.losses[self.complete] = (total if adds_up else total / weight) + penalties / weight
        self.complete += 1
        self.mark(perf_counter())

    def step(self, data: Data) -> float:
        """One step on a batch; returns its loss."""
        fits = len(data.X) <= len(self.data.X) and all(
            (new is None) == (old is None) for new, old in zip(data, self.data, strict=True)
        )
        if not fits:  # room for a larger batch, or for labels or weights that there were none of
            self.sync()
            self.data = data
            self.training = self.open()
        self.training.feed(*data)
        self.one_rate[0], self.one_loss[0] = self.rates[self.complete], np.nan
        self.training.plan(self.one_loss, self.one_rate, 1)
        while not self.training.done:
            self.go_on(sys.maxsize)
        if self.training.lost or self.training.broken_layer:
            self.data = data
            self.diverged()
        return float(self.one_loss[0])

    def mark(self, now: float) -> None:
        self.marks.append((self.complete, now - self.began))
