"""Training state of a network, which the next fit continues and checkpoints store.

The state consists of the optimizer with its moments and steps, the learning rate, the history, and the positions in the
streams of random numbers.
"""

from __future__ import annotations

from collections import deque
from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._registry.capabilities import check
from nnc._registry.optimizers import optimizer_from_dict, parse_optimizer
from nnc._training.history import History
from nnc._utils.arrays import constant_array, to_lists
from nnc._utils.checks import check_positive, check_real

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
MAX_STORED_FITS = 1000  # store the histories of at most this many fits
MIN_STORED_EPOCHS = 100_000  # delete old histories only if at least this many epochs remain
# Remedy in messages about a schedule that has ended.
RESTART_HINT = "pass lr again, such as lr=0.01, or reset_optimizer=True to start anew"
FUNCTION = "function"  # name in files that replaces a function or a user-defined schedule


def missing_function(epoch: int) -> float:
    """Raise ValueError: this placeholder replaces a learning rate function, which files cannot store."""
    raise ValueError("lr must be passed again, because it was a function, which files cannot store")


def continued(current: Optimizer, requested: str | Optimizer, lr: Rate | None) -> tuple[Optimizer | None, Rate | None]:
    """Return two values: the optimizer to start with (None: continue the current one), and the learning rate.

    Optimizers that differ only in the learning rate count as equal, because a checkpoint stores the current learning
    rate as that of the optimizer. If `requested` is an optimizer object with another learning rate, the training
    continues with the rate of the object. The name of Levenberg-Marquardt continues with any initial damping.
    """
    named = parse_optimizer(requested)
    damping: float | None = getattr(current, "damping", None)
    if isinstance(requested, str) and type(named) is type(current) and damping is not None:
        named = named.replace(damping=damping)
    own_rate: float | None = getattr(named, "lr", None)
    rate: float | None = getattr(current, "lr", None)
    is_same = named == current if own_rate is None or rate is None else named.with_lr(rate) == current
    if not is_same:
        return named, lr
    has_other_rate = own_rate != rate and not isinstance(requested, str)
    return None, own_rate if lr is None and has_other_rate else lr


class TrainingState:
    """State from which a fit continues.

    Parameters
    ----------
    optimizer : Optimizer
        Optimizer with its constants.
    moments : array (optimizer.n_moments, size of theta)
        Moments of the optimizer.
    lr : float
        Learning rate if there is no schedule.
    streams : Streams
        Random streams with their positions.

    Attributes
    ----------
    steps, epoch : int
        Numbers of steps and epochs since the optimizer started.
    counted_epochs : int
        Number of epochs of fits, to which the single training steps of `step_run` do not count.
    powers : three floats
        Bias corrections of Adam and NAdam, see src/kernels/optimizers.pxd.
    schedule : Schedule, callable or None
        Learning rate schedule; None if the learning rate is constant.
    plateau : PlateauState or None
        State of a ReduceLROnPlateau schedule.
    histories : deque of History
        Histories of the completed fits.
    stored_epochs : int
        Number of epochs in `histories`.
    frozen : tuple of bool
        Whether each parametric layer is frozen; empty if no layer is frozen.
    frozen_steps : tuple of int
        Number of steps in which each layer was frozen. The optimizer does not count them for the layer.
    current : callable or None
        Function that updates the state during a fit and returns the History of this fit.
    step_run : (core.Training, int) or None
        Run of the core that takes and counts single steps, and the epoch of its first step.
    is_automatic : bool
        Whether nnc/_training/defaults.py chose optimizer, learning rate and batch size.
    max_epochs : int
        Largest number of epochs that nnc/_training/selection.py could select for the schedule; 0 without a selection.
    damping : float or None
        Damping of the next step of Levenberg-Marquardt; None for other optimizers.
    """

    optimizer: Optimizer
    moments: NDArray[Any]
    lr: float
    streams: Streams

    steps: int = 0
    counted_epochs: int = 0
    powers: tuple[float, float, float] = (1.0, 1.0, 1.0)
    schedule: Schedule | Callable[[int], float] | None = None
    plateau: PlateauState | None = None
    stored_epochs: int = 0
    frozen: tuple[bool, ...] = ()
    frozen_steps: tuple[int, ...] = ()
    current: Callable[[], History] | None = None
    step_run: tuple[CoreTraining, int] | None = None
    is_automatic: bool = False
    max_epochs: int = 0

    def __init__(self, optimizer: Optimizer, moments: NDArray[Any], lr: float, streams: Streams) -> None:
        self.optimizer, self.moments, self.lr, self.streams = optimizer, moments, lr, streams
        self.damping: float | None = getattr(optimizer, "damping", None)
        self.histories: deque[History] = deque()

    def __copy__(self) -> TrainingState:
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    @classmethod
    def new(cls, model: Model, optimizer: str | Optimizer, streams: Streams) -> TrainingState:
        """Return the training state of a new optimizer, before its first step."""
        parsed = parse_optimizer(optimizer)
        n_moments = parsed.n_moments
        moments = np.zeros((n_moments, model.engine.size), model.dtype) if n_moments else NO_MOMENTS[model.dtype]
        return cls(parsed, moments, getattr(parsed, "lr", 0.0), streams)

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
        """Return the state from which a fit or a step starts; `before`, the state of the network, is not changed.

        If `optimizer` has the settings of the previous optimizer, its moments and counters are kept. Otherwise, or
        with `reset`, the optimizer starts anew.
        """
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
            check("lr", optimizer=state.optimizer)
            if isinstance(lr, type):
                raise TypeError(f"lr must be a number, a schedule or a function, got the class {lr.__name__}")
            if callable(lr):
                state.set_schedule(lr, epochs)
                state.rates(state.epoch, state.epoch + 1)  # raise an error if `lr` returns no valid number
            else:
                state.lr, state.schedule, state.plateau = check_positive("lr", lr), None, None
        elif state.schedule is missing_function:
            missing_function(state.epoch)
        elif state.is_automatic:  # only `fit` knows the steps per epoch, which an automatic schedule needs
            state.schedule = None
        if state.schedule is not None:
            state.check_not_over("lr", RESTART_HINT)
        if state.optimizer.stores_step_sizes and state.steps == 0:
            state.moments[-1] = state.rates(state.epoch, state.epoch + 1)[0]
            model.scale_learning_rates(state.moments[-1])
        state.frozen = model.frozen
        return state

    def successor(self, streams: Streams) -> TrainingState:
        """Return a copy from which a fit continues; its counters include the single training steps so far."""
        self.sync_counters()
        state = self.__copy__()
        state.streams, state.step_run = streams, None
        return state

    def counters(self) -> dict[str, Any]:
        """Return the counters of steps and random numbers as settings for the next core run; {} if all are 0."""
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

    def update_counters(self, counters: tuple[Any, ...]) -> int:
        """Update the state from the counters of the core; return the position in the random stream for shuffling."""
        draws, self.streams.dropout_position, steps, powers = counters
        frozen_steps, new_steps = self.frozen_steps, steps - self.steps
        if self.frozen and new_steps > 0:
            frozen_steps = tuple(
                n + new_steps * frozen
                for n, frozen in zip(frozen_steps or [0] * len(self.frozen), self.frozen, strict=True)
            )
        # Change both values in one statement, because a signal handler may run the same update between two statements.
        self.steps, self.frozen_steps = steps, frozen_steps
        self.powers = powers
        return draws  # type: ignore[no-any-return]

    def sync_counters(self) -> None:
        """Update the counters from `step_run`, the run of the core that takes single training steps."""
        step_run = self.step_run
        if step_run is not None:
            self.update_counters(step_run[0].counters)
            self.counted_epochs = step_run[1] + step_run[0].single_steps

    def count_steps_of(self, training: CoreTraining) -> None:
        """Set `training` as the run of the core that takes and counts the following single training steps."""
        self.sync_counters()
        self.step_run = training, self.counted_epochs

    @property
    def epoch(self) -> int:
        """Number of epochs since the optimizer started; a single training step counts as an epoch."""
        step_run = self.step_run
        return self.counted_epochs if step_run is None else step_run[1] + step_run[0].single_steps

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self.step_run, self.counted_epochs = None, epoch

    # ------------------------------------------------------------------------------------------ history

    def history_parts(self) -> list[History]:
        """Return the histories of the stored fits and of the running one, without a copy of their arrays."""
        return [*self.histories, *([] if self.current is None else [self.current()])]

    @property
    def history(self) -> History:
        """History of all stored epochs since the optimizer started; `untracked_epochs` counts those not stored."""
        parts = self.history_parts()
        empty = {name: np.empty(0) for name in ("loss", "lr", "epoch_seconds")}
        history = History.joined(*parts) if parts else History(empty, 0.0, "epochs")
        history.untracked_epochs = max(0, self.epoch - history.epochs)
        return history

    @property
    def settings(self) -> dict[str, Any] | None:
        """Resolved settings of the last fit, as in `History.settings`; None before the first fit."""
        if self.current is not None:
            return self.current().settings
        return self.histories[-1].settings if self.histories else None

    def add_history(self, history: History) -> None:
        """Add the history of a completed fit, and delete the oldest histories if there are too many.

        The memory of a network therefore does not grow without limit.
        """
        self.current = None
        histories = self.histories
        histories.append(history)
        self.stored_epochs += history.epochs
        while len(histories) > MAX_STORED_FITS or (
            self.stored_epochs > MIN_STORED_EPOCHS and self.stored_epochs - histories[0].epochs >= MIN_STORED_EPOCHS
        ):
            self.stored_epochs -= histories.popleft().epochs

    def clear_history(self) -> None:
        """Delete the histories of all fits."""
        self.histories.clear()
        self.stored_epochs = 0

    # ------------------------------------------------------------------------------------------ learning rate

    def set_schedule(self, lr: Schedule | Callable[[int], float], epochs: int | None) -> None:
        """Set a schedule, or a function of the epoch, for the next epochs.

        Parameters
        ----------
        lr : Schedule or callable
            Learning rate.
        epochs : int or None
            Number of epochs of the fit, for a schedule without a length.
        """
        from nnc._training.schedules import ReduceLROnPlateau, Schedule

        self.schedule, self.plateau = lr, None
        if isinstance(lr, ReduceLROnPlateau):
            self.plateau = lr.start()
        elif isinstance(lr, Schedule):
            self.schedule = lr.resolved(self.epoch + (epochs or 1))
            if epochs is None:
                check("a fit without epochs", schedule=lr)

    def check_not_over(self, name: str, remedy: str) -> None:
        """Raise ValueError if the schedule is over and gives a learning rate of 0 from now on.

        Parameters
        ----------
        name : str
            Argument to name in the message.
        remedy : str
            Remedy to name in the message.
        """
        from nnc._training.schedules import Schedule

        if isinstance(self.schedule, Schedule) and self.plateau is None and self.schedule.is_over(self.epoch):
            raise ValueError(
                f"{name} must be greater than 0 to continue the training, but the schedule {self.schedule!r} is 0 "
                f"from epoch {self.epoch} on (counted from 0 since the optimizer started); {remedy}"
            )

    def rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch from the schedule or the function of the caller."""
        assert self.schedule is not None
        value = self.schedule(epoch)
        if not isinstance(value, (float, int, np.floating, np.integer)):
            raise TypeError(f"lr must return a number, got {value!r} for epoch {epoch}")
        return check_real("lr", value)

    @property
    def next_rate(self) -> float:
        """Learning rate of the next epoch or single step."""
        return self.lr if self.schedule is None else self.rates(self.epoch, self.epoch + 1)[0]

    @property
    def changes_by_step(self) -> bool:
        """Return whether the learning rate may change between the steps of an epoch."""
        return getattr(self.schedule, "counts_steps", False)

    def rates(self, first: int, last: int, steps: int = 1) -> NDArray[np.float64]:
        """Return the learning rates of the epochs from `first` to `last` - 1, counted over all fits.

        With `steps` > 1, there is a learning rate for each of the `steps` steps of an epoch.
        """
        if steps > 1:
            by_step = self.schedule.at(steps)  # type: ignore[union-attr]
            return np.array([by_step(step) for step in range(first * steps, last * steps)], np.float64)
        if self.schedule is None or self.plateau is not None:
            return constant_array(self.lr if self.plateau is None else self.plateau.lr, last - first)
        rates = np.array([self.rate(epoch) for epoch in range(first, last)], np.float64)
        wrong = ~((rates >= 0) & (rates < np.inf))
        if wrong.any():
            epoch = first + int(wrong.argmax())
            raise ValueError(f"lr must return a finite number, 0 or more, got {rates[wrong][0]} for epoch {epoch}")
        return rates

    # ------------------------------------------------------------------------------------------ files and copies

    def to_dict(self, model: Model, numbers: Callable[[NDArray[Any]], Any] = to_lists) -> dict[str, Any]:
        """Return the training state as the JSON value "training" of a checkpoint file; `numbers` converts arrays."""
        self.sync_counters()
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
            **({"max_epochs": self.max_epochs} if self.is_automatic and self.max_epochs else {}),
            **({} if self.damping is None else {"damping": self.damping}),
        }

    @classmethod
    def from_dict(cls, document: dict[str, Any], model: Model, streams: Streams) -> TrainingState:
        """Create the state from a dict that `to_dict` has returned; raise ValueError or TypeError if it is invalid."""
        state = cls.new(model, optimizer_from_dict(document["optimizer"]), streams)
        for row, values in zip(state.moments, document["moments"], strict=True):
            model.unpack(np.array(values, model.dtype), row)
        power1, power2, mu_product = document["powers"]
        state.powers = power1, power2, mu_product
        state.steps, state.epoch = document["steps"], document["epoch"]
        state.is_automatic, state.max_epochs = document.get("by_rule", False), document.get("max_epochs", 0)
        state.damping = document.get("damping", state.damping)  # older files have the current damping in the optimizer
        state._schedule_from_dict(document["schedule"])
        columns = dict(document["history"])
        columns["epoch_seconds"] = columns.pop("seconds")
        total = sum(columns["epoch_seconds"])
        state.add_history(History.from_dict({**columns, "seconds": total, "stop_reason": "epochs"}))
        return state

    def _schedule_to_dict(self) -> dict[str, Any] | None:
        """Return the schedule for a file; None for a constant rate.

        A function, or a schedule of a user's class, is replaced by a fixed name.
        """
        from nnc._training.schedules import is_stored

        schedule: Any = self.schedule
        if schedule is None:
            return None
        if not is_stored(schedule):
            return {"name": FUNCTION}
        document: dict[str, Any] = schedule.to_dict()
        return document if self.plateau is None else {**document, "state": self.plateau.to_dict()}

    def _schedule_from_dict(self, document: dict[str, Any] | None) -> None:
        """Restore the schedule from the result of `_schedule_to_dict`; raise ValueError if `document` is invalid."""
        from nnc._training.schedules import ReduceLROnPlateau, schedule_from_dict

        if document is None:
            return
        if document == {"name": FUNCTION}:
            self.schedule = missing_function
            return
        document = dict(document)
        plateau = document.pop("state", None)
        self.schedule = schedule_from_dict(document)
        if isinstance(self.schedule, ReduceLROnPlateau):
            self.plateau = self.schedule.resume(plateau)

    def packed(self, model: Model) -> TrainingState:
        """Return an independent copy without padding in the moments, because padding depends on the instruction set."""
        self.sync_counters()
        histories = deque([self.history])
        other = copy(self)
        other.histories, other.current, other.step_run, other.plateau = histories, None, None, copy(self.plateau)
        other.moments = np.array([model.pack(row) for row in self.moments], model.dtype)
        return other

    def unpack(self, model: Model, streams: Streams) -> None:
        """Restore the padding of the moments, which `packed` has removed, in the layout of this model."""
        flat, self.streams = self.moments, streams
        self.moments = np.zeros((len(flat), model.engine.size), model.dtype)
        for row, values in zip(self.moments, flat, strict=True):
            model.unpack(values, row)

    def replace_function(self) -> None:
        """Replace a schedule that is a function, because functions cannot be sent to another process."""
        if self.schedule is not None and not hasattr(self.schedule, "to_dict"):
            self.schedule = missing_function
