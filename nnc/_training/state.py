"""What goes on from fit to fit, and into a checkpoint: the optimizer's moments and steps, the learning rate, the
history, and how far the streams of random numbers have been used."""

from __future__ import annotations

from collections import deque
from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._registry.optimizers import optimizer_from_dict, parse_optimizer
from nnc._training.history import History
from nnc._utils.arrays import constant_array, to_lists
from nnc._utils.checks import check_bool, check_count, check_positive, check_real

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from nnc._model.cores import CoreTraining
    from nnc._model.model import Model
    from nnc._registry.optimizers import Optimizer
    from nnc._training.arguments import Rate
    from nnc._training.schedules import PlateauState, Schedule
    from nnc._utils.random import Streams

NO_MOMENTS = {np.dtype(number): np.zeros((0, 0), number) for number in (np.float32, np.float64)}
FITS, EPOCHS = 1000, 100_000  # how many of the last ones stand in a checkpoint, the epochs at least
BEGIN_ANEW = "give lr again, such as lr=0.01, or reset_optimizer=True to begin anew"  # where a schedule is over
FUNCTION = "function"  # as a file has a learning rate that was a function of the user's


def left_behind(epoch: int) -> float:
    """Stands where the learning rate was a function of the user's, which went into no file."""
    raise ValueError("lr was a function when the network was saved, which no file can hold: give it again")


def continued(current: Optimizer, wanted: str | Optimizer, lr: Rate | None) -> tuple[Optimizer | None, Rate | None]:
    """Return the optimizer to start with, None to continue with the current one, and the learning rate.

    A checkpoint stores the current rate as that of the optimizer, so optimizers that differ only in the rate are equal.
    A rate that is given by an optimizer object is used nevertheless.
    """
    named = parse_optimizer(wanted)
    own_rate: float | None = getattr(named, "lr", None)
    rate: float | None = getattr(current, "lr", None)
    is_same = named == current if own_rate is None or rate is None else named.with_lr(rate) == current
    if not is_same:
        return named, lr
    has_other_rate = own_rate != rate and not isinstance(wanted, str)
    return None, own_rate if lr is None and has_other_rate else lr


class TrainingState:
    """What a fit goes on from.

    Parameters
    ----------
    optimizer : Optimizer
    moments : array (optimizer.moments, size of the model's theta)
    lr : float
        Without a schedule.
    streams : Streams

    Attributes
    ----------
    steps, epoch : int
        Since the optimizer began.
    powers : three floats
        What Adam and NAdam divide by, see src/optimizers.pxd.
    schedule : Schedule, callable or None
        None: lr is constant.
    histories : deque of History
        Of the fits so far.
    current : callable or None
        Brings all of this up to date with the fit that is going on, and gives its History.
    live : (core.Training, int) or None
        What single steps are taken with, which counts them, and the epoch at which it began.
    is_automatic : bool
        Whether optimizer, rate and batches were left to nnc/_training/defaults.py.
    """

    optimizer: Optimizer
    moments: NDArray[Any]
    lr: float
    streams: Streams

    steps: int = 0
    counted: int = 0  # epochs, when it was last caught up
    powers: tuple[float, float, float] = (1.0, 1.0, 1.0)
    schedule: Schedule | Callable[[int], float] | None = None
    plateau: PlateauState | None = None
    remembered: int = 0  # epochs in the histories
    frozen: tuple[bool, ...] = ()  # which layers do not learn now; none at all where all do
    missed: tuple[int, ...] = ()  # the steps that each was frozen in, which its optimizer does not count
    current: Callable[[], History] | None = None
    live: tuple[CoreTraining, int] | None = None
    is_automatic: bool = False

    def __init__(self, optimizer: Optimizer, moments: NDArray[Any], lr: float, streams: Streams) -> None:
        self.optimizer, self.moments, self.lr, self.streams = optimizer, moments, lr, streams
        self.histories: deque[History] = deque()

    def __copy__(self) -> TrainingState:
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    @classmethod
    def new(cls, model: Model, optimizer: str | Optimizer, streams: Streams) -> TrainingState:
        """At the beginning of an optimizer."""
        chosen = parse_optimizer(optimizer)
        kept = chosen.n_moments
        moments = np.zeros((kept, model.engine.size), model.dtype) if kept else NO_MOMENTS[model.dtype]
        return cls(chosen, moments, getattr(chosen, "lr", 0.0), streams)

    @classmethod
    def begin(
        cls,
        before: TrainingState | None,
        model: Model,
        optimizer: str | Optimizer | None,
        lr: Rate | None,
        epochs: int | None,
        streams: Streams,
        reset: bool = False,
    ) -> TrainingState:
        """Return the state that a fit or a step continues, by its arguments; `before` stays as it is.

        An optimizer with the settings of the one before continues it. Another one starts anew, and with `reset` so does
        the same one.
        """
        reset = check_bool("reset_optimizer", reset)
        if reset and before is not None:
            optimizer, before = optimizer or before.optimizer, None
        elif before is not None and optimizer is not None:
            optimizer, lr = continued(before.optimizer, optimizer, lr)
        if optimizer is not None or before is None:
            state = cls.new(model, "sgd" if optimizer is None else optimizer, streams)
        else:
            state = before.successor(streams)
            state.is_automatic = state.is_automatic and lr is None
        if lr is not None:
            if not hasattr(state.optimizer, "lr"):
                raise ValueError(f"lr is for optimizers that have a learning rate, {state.optimizer.name!r} has none")
            if isinstance(lr, type):
                raise TypeError(f"lr must be a number, a schedule or a function, got the class {lr.__name__}")
            if callable(lr):
                state.follow(lr, None if epochs is None else check_count("epochs", epochs))
                state.rates(state.epoch, state.epoch + 1)  # whether it gives one
            else:
                state.lr, state.schedule, state.plateau = check_positive("lr", lr), None, None
        elif state.schedule is left_behind:
            left_behind(state.epoch)
        elif state.is_automatic:  # steps and batches, whose number is not known, go on at the optimizer's own rate
            state.schedule = None
        if state.schedule is not None:
            state.refuse_rest("lr", BEGIN_ANEW)
        if state.optimizer.stores_step_sizes and state.steps == 0:
            state.moments[-1] = state.rates(state.epoch, state.epoch + 1)[0]
            model.scale_learning_rates(state.moments[-1])
        state.frozen = model.frozen
        return state

    def successor(self, streams: Streams) -> TrainingState:
        """Another one that goes on from here, and from what single steps have counted."""
        self.catch_up()
        state = self.__copy__()
        state.streams, state.live = streams, None
        return state

    def counters(self) -> dict[str, Any]:
        """What the core's counters begin with, as it names them, where something has been counted."""
        streams = self.streams
        if not (self.steps or streams.shuffle_position or streams.dropout_position):
            return {}
        power1, power2, mu_product = self.powers
        return {
            "steps": self.steps,
            "power1": power1,
            "power2": power2,
            "mu_product": mu_product,
            "draws": streams.shuffle_position,
            "drops": streams.dropout_position,
        }

    def take(self, counters: tuple[Any, ...]) -> int:
        """Takes over what the core has counted, but the numbers drawn for shuffling, which it returns."""
        draws, self.streams.dropout_position, steps, powers = counters
        missed, more = self.missed, steps - self.steps
        if self.frozen and more > 0:
            missed = tuple(
                n + more * frozen for n, frozen in zip(missed or [0] * len(self.frozen), self.frozen, strict=True)
            )
        self.steps, self.missed = steps, missed  # at once: a signal handler that saves may have done the same meanwhile
        self.powers = powers
        return draws  # type: ignore[no-any-return]

    def catch_up(self) -> None:
        """Takes over what single steps have counted."""
        live = self.live
        if live is not None:
            self.take(live[0].counters)
            self.counted = live[1] + live[0].single_steps

    def attend(self, training: CoreTraining) -> None:
        """Single steps are taken with this from here on, and counted there."""
        self.catch_up()
        self.live = training, self.counted

    @property
    def epoch(self) -> int:
        live = self.live
        return self.counted if live is None else live[1] + live[0].single_steps

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self.live, self.counted = None, epoch

    # ------------------------------------------------------------------------------------------ the history

    @property
    def history(self) -> History:
        """All epochs since the optimizer began that are remembered, and how many are not."""
        current = self.current
        parts = [*self.histories, *([] if current is None else [current()])]
        none = {name: np.empty(0) for name in ("loss", "lr", "epoch_seconds")}
        history = History.joined(*parts) if parts else History(none, 0.0, "epochs")
        history.untracked_epochs = max(0, self.epoch - history.epochs)
        return history

    @property
    def settings(self) -> dict[str, Any] | None:
        """The resolved settings of the last fit, as `History.settings`; None before the first one."""
        if self.current is not None:
            return self.current().settings
        return self.histories[-1].settings if self.histories else None

    def remember(self, history: History) -> None:
        """Adds a fit that is over. Of very many, the last are kept: a network that is trained on and on takes no more
        and more memory."""
        self.current = None
        histories = self.histories
        histories.append(history)
        self.remembered += history.epochs
        while len(histories) > FITS or (self.remembered > EPOCHS and self.remembered - histories[0].epochs >= EPOCHS):
            self.remembered -= histories.popleft().epochs

    def forget(self) -> None:
        """Leaves the fits so far out of the history."""
        self.histories.clear()
        self.remembered = 0

    # ------------------------------------------------------------------------------------------ the learning rate

    def follow(self, lr: Schedule | Callable[[int], float], epochs: int | None) -> None:
        """Takes the learning rate from here on: a schedule or a callable of the epoch."""
        from nnc._training.schedules import ReduceLROnPlateau, Schedule

        self.schedule, self.plateau = lr, None
        if isinstance(lr, ReduceLROnPlateau):
            self.plateau = lr.start()
        elif isinstance(lr, Schedule):
            self.schedule = lr.resolved(self.epoch + (epochs or 1))
            if epochs is None and self.schedule != lr:
                raise ValueError(f"lr must have a length of its own where epochs is not given, got {lr!r}")

    def refuse_rest(self, name: str, remedy: str) -> None:
        """Raises where the schedule is over and its rate 0, so that nothing would be learned. A function of the user's
        may begin with 0."""
        from nnc._training.schedules import Schedule

        if isinstance(self.schedule, Schedule) and self.plateau is None and self.schedule.is_over(self.epoch):
            raise ValueError(
                f"{name}, which is {self.schedule!r}, is 0 from epoch {self.epoch} on (counted from 0 since the "
                f"optimizer began), so nothing would be learned: {remedy}"
            )

    def rate(self, epoch: int) -> float:
        """What the schedule, or the user's function, gives for an epoch."""
        assert self.schedule is not None
        value = self.schedule(epoch)
        if not isinstance(value, (float, int, np.floating, np.integer)):
            raise TypeError(f"lr must give a number, got {value!r} for epoch {epoch}")
        return check_real("lr", value)

    @property
    def next_rate(self) -> float:
        """Learning rate of the next epoch or single step."""
        return self.lr if self.schedule is None else self.rates(self.epoch, self.epoch + 1)[0]

    @property
    def changes_by_step(self) -> bool:
        """Whether steps of one epoch may have different rates."""
        if self.schedule is None:
            return False
        from nnc._training.schedules import PerStep

        return isinstance(self.schedule, PerStep)

    def rates(self, first: int, last: int, steps: int = 1) -> NDArray[np.float64]:
        """The learning rates of epochs first <= epoch < last, counted over all fits; of each of their steps, where
        there are several."""
        if steps > 1:
            by_step = self.schedule.at(steps)  # type: ignore[union-attr]
            return np.array([by_step(step) for step in range(first * steps, last * steps)], np.float64)
        if self.schedule is None or self.plateau is not None:
            return constant_array(self.lr if self.plateau is None else self.plateau.lr, last - first)
        rates = np.array([self.rate(epoch) for epoch in range(first, last)], np.float64)
        wrong = ~((rates >= 0) & (rates < np.inf))
        if wrong.any():
            epoch = first + int(wrong.argmax())
            raise ValueError(f"lr must give a finite number, 0 or more, got {rates[wrong][0]} for epoch {epoch}")
        return rates

    # ------------------------------------------------------------------------------------------ files and copies

    def to_dict(self, model: Model, numbers: Callable[[NDArray[Any]], Any] = to_lists) -> dict[str, Any]:
        """What a checkpoint holds of it, of arrays what `numbers` makes of them."""
        self.catch_up()
        history = self.history.to_dict()
        optimizer = self.optimizer.to_dict()
        if "lr" in optimizer:
            optimizer["lr"] = self.lr
        columns = {name: values for name, values in history.items() if isinstance(values, list)}
        columns["seconds"] = columns.pop("epoch_seconds")
        return {
            "optimizer": optimizer,
            "steps": self.steps,
            "powers": list(self.powers),
            "epoch": self.epoch,
            "schedule": self._schedule_to_dict(),
            "moments": [numbers(model.pack(row)) for row in self.moments],
            "history": columns,
            **({"by_rule": True} if self.is_automatic else {}),
        }

    @classmethod
    def from_dict(cls, document: dict[str, Any], model: Model, streams: Streams) -> TrainingState:
        """The state that `to_dict` wrote; ValueError or TypeError where it is none."""
        state = cls.new(model, optimizer_from_dict(document["optimizer"]), streams)
        for row, values in zip(state.moments, document["moments"], strict=True):
            model.unpack(np.array(values, model.dtype), row)
        power1, power2, mu_product = document["powers"]
        state.powers = power1, power2, mu_product
        state.steps, state.epoch = document["steps"], document["epoch"]
        state.is_automatic = document.get("by_rule", False)
        state._take_schedule(document["schedule"])
        columns = dict(document["history"])
        columns["epoch_seconds"] = columns.pop("seconds")
        total = sum(columns["epoch_seconds"])
        state.remember(History.from_dict({**columns, "seconds": total, "stop_reason": "epochs"}))
        return state

    def _schedule_to_dict(self) -> dict[str, Any] | None:
        """The schedule as a file has it; None for a constant rate. Of a function it says only that there was one."""
        if self.schedule is None:
            return None
        to_dict: Callable[[], dict[str, Any]] | None = getattr(self.schedule, "to_dict", None)
        if to_dict is None:
            return {"name": FUNCTION}
        document = to_dict()
        return document if self.plateau is None else {**document, "state": self.plateau.to_dict()}

    def _take_schedule(self, document: dict[str, Any] | None) -> None:
        """Goes on with the schedule that `_schedule_to_dict` wrote; ValueError where it is none."""
        from nnc._training.schedules import ReduceLROnPlateau, schedule_from_dict

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

    def packed(self, model: Model) -> TrainingState:
        """A copy that stands for itself, whose moments have no padding: for another core, perhaps."""
        self.catch_up()
        histories = deque([self.history])
        other = copy(self)
        other.histories, other.current, other.live, other.plateau = histories, None, None, copy(self.plateau)
        other.moments = np.array([model.pack(row) for row in self.moments], model.dtype)
        return other

    def unpack(self, model: Model, streams: Streams) -> None:
        """Undoes what `packed` did to the moments."""
        flat, self.streams = self.moments, streams
        self.moments = np.zeros((len(flat), model.engine.size), model.dtype)
        for row, values in zip(self.moments, flat, strict=True):
            model.unpack(values, row)

    def leave_function(self) -> None:
        """To be called where the state goes into another process, which a function does not."""
        if self.schedule is not None and not hasattr(self.schedule, "to_dict"):
            self.schedule = left_behind
