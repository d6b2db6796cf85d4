"""Learning rate schedules, by PyTorch's formulas in closed form.

    net.fit(X, y, epochs=200, lr=CosineLR(0.1))
    net.fit(X, y, epochs=200, lr=Warmup(StepLR(0.1, step_size=50), epochs=5))

A schedule is an immutable function of the epoch, which is counted from 0. Only ReduceLROnPlateau depends on the
training; its state is a separate object, PlateauState.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from nnc._utils.checks import build_check, check_count, check_not_negative, check_positive, check_real, short_repr
from nnc._utils.value import Value, field

if TYPE_CHECKING:
    from typing import Self

__all__ = [
    "Constant",
    "CosineLR",
    "CosineLogLR",
    "ExponentialLR",
    "OneCycleLR",
    "PerStep",
    "PlateauState",
    "ReduceLROnPlateau",
    "Schedule",
    "StepLR",
    "Warmup",
    "is_stored",
    "schedule_from_dict",
]


def _optional_count(name: str, value: Any) -> int | None:
    """Return a positive integer or None; raise an error for any other value."""
    return None if value is None else check_count(name, value)


def _check_warmup_schedule(name: str, value: Any) -> Schedule:
    """Return `value` if it is a schedule that Warmup supports; otherwise raise an error."""
    if not isinstance(value, Schedule):
        raise TypeError(f"{name} must be a Schedule, such as Constant(0.1), got {short_repr(value)}")
    if isinstance(value, (Warmup, PerStep, ReduceLROnPlateau)):
        raise ValueError(f"{name} must not be Warmup, PerStep or ReduceLROnPlateau, got {short_repr(value)}")
    return value


def _check_step_schedule(name: str, value: Any) -> Schedule:
    """Return `value` if it is a schedule that PerStep supports; otherwise raise an error."""
    if not isinstance(value, Schedule):
        raise TypeError(f"{name} must be a Schedule, such as CosineLR(0.1), got {short_repr(value)}")
    if isinstance(value, (PerStep, ReduceLROnPlateau)):
        raise ValueError(f"{name} must not be PerStep or ReduceLROnPlateau, got {short_repr(value)}")
    return value


class Schedule(Value, ABC):
    """Base class of schedules. They are compared by their constants and can be hashed and pickled."""

    counts_steps: ClassVar[bool] = False  # whether the learning rate may change between the steps of an epoch
    reads_loss: ClassVar[bool] = False  # whether the learning rate depends on the loss

    @abstractmethod
    def __call__(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 0."""

    @property
    def peak(self) -> float:
        """Largest learning rate; for an ExponentialLR that grows without limit, its first learning rate."""
        return float(vars(self).get("lr", 0.0))

    def is_over(self, epoch: int) -> bool:
        """Return whether the learning rate is 0 from this epoch on."""
        return self(epoch) == 0

    def resolved(self, epochs: int) -> Self:
        """Return the schedule for a fit; if its length is None, `epochs` becomes its length."""
        return self.replace(epochs=epochs) if vars(self).get("epochs", epochs) is None else self

    def to_dict(self) -> dict[str, Any]:
        """Return a dict for JSON: the name of the class as "name", and each constant under its own name."""
        return {"name": type(self).__name__, **vars(self)}


class Constant(Schedule):
    """Constant learning rate.

    Parameters
    ----------
    lr : float
        Learning rate of all epochs.
    """

    lr: float = field(check=check_positive)

    def __call__(self, epoch: int) -> float:
        return self.lr


class StepLR(Schedule):
    """Learning rate that is multiplied by gamma every `step_size` epochs.

    Parameters
    ----------
    lr : float
        Learning rate of the first epochs.
    step_size : int
        Number of epochs between two changes.
    gamma : float, default 0.1
        Factor of each change.
    """

    lr: float = field(check=check_positive)
    step_size: int = field(check=check_count)
    gamma: float = field(default=0.1, check=check_positive)

    def __call__(self, epoch: int) -> float:
        return self.lr * _power(self.gamma, epoch // self.step_size)


class ExponentialLR(Schedule):
    """Learning rate lr * gamma**epoch.

    Parameters
    ----------
    lr : float
        Learning rate of the first epoch.
    gamma : float
        Factor between two epochs. Below 1 the learning rate decreases. Above 1 it grows, which is useful to find the
        largest learning rate that works.
    """

    lr: float = field(check=check_positive)
    gamma: float = field(check=check_positive)

    def __call__(self, epoch: int) -> float:
        return self.lr * _power(self.gamma, epoch)


class CosineLR(Schedule):
    """Cosine decay from lr to min_lr (Loshchilov and Hutter, 2017, without restarts).

    The learning rate is min_lr + (lr - min_lr) * (1 + cos(pi * epoch / epochs)) / 2.

    Parameters
    ----------
    lr : float
        Learning rate of the first epoch.
    epochs : int, optional
        Epoch at which min_lr is reached and from which it is constant. Default: all epochs of the fit. A fit that would
        begin with a learning rate of 0 raises ValueError; pass lr again.
    min_lr : float, default 0
        Lowest learning rate, at most lr.
    """

    lr: float = field(check=check_positive)
    epochs: int | None = field(default=None, check=_optional_count)
    min_lr: float = field(default=0.0, check=check_not_negative)

    def __post_init__(self) -> None:
        _check_order(self.min_lr, self.lr)

    def __call__(self, epoch: int) -> float:
        return _cosine(self.lr, self.min_lr, min(epoch / _require_epochs(self, self.epochs), 1))


class CosineLogLR(Schedule):
    """Cosine waves between 0 and lr, each twice as long as the previous one.

    The learning rate is lr * (1 - cos(2 * pi * log2(1 + (2**cycles - 1) * epoch / epochs))) / 2, proposed for tables by
    Holzmueller, Grinsztajn and Steinwart (2024). The first learning rate is 0. With few epochs, use
    `PerStep(CosineLogLR(lr))`, which wastes a step instead of an epoch.

    Parameters
    ----------
    lr : float
        Largest learning rate, in the middle of each wave.
    epochs : int, optional
        Total length of the waves, after which the learning rate is 0. Default: all epochs of the fit.
    cycles : int, default 4
        Number of waves, at most 64.
    """

    lr: float = field(check=check_positive)
    epochs: int | None = field(default=None, check=_optional_count)
    cycles: int = field(default=4, check=partial(check_count, maximum=64))

    def __call__(self, epoch: int) -> float:
        progress = min(epoch / _require_epochs(self, self.epochs), 1)
        return self.lr / 2 * (1 - math.cos(2 * math.pi * math.log2(1 + (2**self.cycles - 1) * progress)))

    def is_over(self, epoch: int) -> bool:
        return epoch >= _require_epochs(self, self.epochs)


class OneCycleLR(Schedule):
    """One cycle (Smith and Topin, 2017): the learning rate rises to max_lr and then decreases.

    It rises from max_lr / div_factor to max_lr, then decreases to max_lr / (div_factor * final_div_factor). Each
    part is half a cosine wave.

    Parameters
    ----------
    max_lr : float
        Largest learning rate.
    epochs : int, optional
        Length of the cycle. After it, the last learning rate is constant and almost 0. Default: all epochs of the fit.
    pct_start : float, default 0.3
        Fraction of the epochs in which the learning rate rises, from 0 to 1. It reaches max_lr in epoch
        pct_start * epochs - 1, counted from 0.
    div_factor : float, default 25
        Quotient of max_lr and the first learning rate.
    final_div_factor : float, default 1e4
        Quotient of the first and the last learning rate.
    """

    max_lr: float = field(check=check_positive)
    epochs: int | None = field(default=None, check=_optional_count)
    pct_start: float = field(default=0.3, check=build_check(lambda x: 0 <= x <= 1, "from 0 to 1"))
    div_factor: float = field(default=25.0, check=check_positive)
    final_div_factor: float = field(default=1e4, check=check_positive)

    def __call__(self, epoch: int) -> float:
        epochs = _require_epochs(self, self.epochs)
        epoch = min(epoch, epochs - 1)
        first_lr = self.max_lr / self.div_factor
        top = self.pct_start * epochs - 1
        if epoch <= top:
            return _cosine(first_lr, self.max_lr, epoch / top if top > 0 else 1)
        return _cosine(self.max_lr, first_lr / self.final_div_factor, (epoch - top) / (epochs - 1 - top))

    @property
    def peak(self) -> float:
        return self.max_lr


class Warmup(Schedule):
    """Linear warm-up of another schedule: its learning rates times a factor that grows from start_factor to 1.

    Parameters
    ----------
    schedule : Schedule
        Any other schedule except ReduceLROnPlateau and PerStep. Its epochs include those of the warm-up.
    epochs : int
        Epoch at which the factor reaches 1.
    start_factor : float, default 1/3
        Factor of the first epoch, above 0 and at most 1.
    """

    schedule: Schedule = field(check=_check_warmup_schedule)
    epochs: int = field(check=check_count)
    start_factor: float = field(default=1 / 3, check=build_check(lambda x: 0 < x <= 1, "above 0 and at most 1"))

    def __call__(self, epoch: int) -> float:
        factor = self.start_factor + (1 - self.start_factor) * min(epoch / self.epochs, 1)
        return self.schedule(epoch) * factor

    @property
    def peak(self) -> float:
        return self.schedule.peak

    def resolved(self, epochs: int) -> Self:
        return self.replace(schedule=self.schedule.resolved(epochs))

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "schedule": self.schedule.to_dict()}


class PerStep(Schedule):
    """Schedule that applies another schedule as a function of the step instead of the epoch.

    The learning rate changes with each batch, and lengths of the schedule are numbers of steps. `fit_batches` does not
    support PerStep, because the number of batches of an epoch is not known in advance.

    Parameters
    ----------
    schedule : Schedule
        Any other schedule except ReduceLROnPlateau. A length of None becomes the number of steps in `epochs`.
    epochs : int, optional
        Number of epochs for a schedule without a length. Default: all epochs of the fit.
    """

    counts_steps: ClassVar[bool] = True

    schedule: Schedule = field(check=_check_step_schedule)
    epochs: int | None = field(default=None, check=_optional_count)

    def __call__(self, epoch: int) -> float:
        return self.at(1)(epoch)

    def at(self, steps: int) -> Schedule:
        """Return the wrapped schedule, as a function of the step, for epochs with `steps` steps each."""
        return self.schedule if self.epochs is None else self.schedule.resolved(self.epochs * steps)

    @property
    def peak(self) -> float:
        return self.schedule.peak

    def is_over(self, epoch: int) -> bool:
        return self.at(1).is_over(epoch)

    def resolved(self, epochs: int) -> Self:
        return self if self.schedule == self.schedule.resolved(1) else super().resolved(epochs)

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "schedule": self.schedule.to_dict()}


class ReduceLROnPlateau(Schedule):
    """Learning rate that is multiplied by `factor` when the monitored loss no longer decreases.

    The learning rate is not a function of the epoch. `state = schedule.start()` creates the state, `state.lr` is the
    learning rate of the next epoch, and `state.observe(loss)` after each epoch may decrease it.

    Parameters
    ----------
    lr : float
        First learning rate.
    factor : float, default 0.1
        Factor of each decrease, above 0 and below 1.
    patience : int, default 10
        Number of epochs in a row without a lower loss that are tolerated. The next such epoch decreases the learning
        rate.
    threshold : float, default 1e-4
        A loss counts as lower if it is below best - threshold |best|. At least 0 and below 1.
    min_lr : float, default 0
        Lowest learning rate, at most lr.

    Notes
    -----
    The rules are those of PyTorch's class of this name with threshold_mode "rel" and mode "min". Values for which
    larger is better are negated. As in PyTorch, a decrease by at most 1e-8 is omitted.
    """

    reads_loss: ClassVar[bool] = True

    lr: float = field(check=check_positive)
    factor: float = field(default=0.1, check=build_check(lambda x: 0 < x < 1, "above 0 and below 1"))
    patience: int = field(default=10, check=partial(check_count, minimum=0))
    threshold: float = field(default=1e-4, check=build_check(lambda x: 0 <= x < 1, "at least 0 and below 1"))
    min_lr: float = field(default=0.0, check=check_not_negative)

    def __post_init__(self) -> None:
        _check_order(self.min_lr, self.lr)

    def __call__(self, epoch: int) -> float:
        raise TypeError(
            "the learning rate of ReduceLROnPlateau is not a function of the epoch; use state = schedule.start(), "
            "state.lr and, after each epoch, state.observe(loss)"
        )

    def start(self) -> PlateauState:
        """Return the state of the schedule before the first epoch."""
        return PlateauState(self, self.lr)

    def resume(self, state: Any) -> PlateauState:
        """Create the state from a dict that `PlateauState.to_dict` has returned.

        Raises
        ------
        ValueError
            `state` is not a dict that `to_dict` returns.
        """
        if not isinstance(state, dict) or set(state) != {"lr", "best", "wait"}:
            raise ValueError(
                f"a state of ReduceLROnPlateau must be an object with lr, best and wait, got {short_repr(state)}"
            )
        try:
            best = math.inf if state["best"] is None else check_real("best", state["best"])
            return PlateauState(
                self, check_not_negative("lr", state["lr"]), best, check_count("wait", state["wait"], minimum=0)
            )
        except TypeError as error:
            raise ValueError(str(error)) from None


class PlateauState:
    """State of a training with ReduceLROnPlateau.

    Attributes
    ----------
    schedule : ReduceLROnPlateau
        Constants of the schedule.
    lr : float
        Learning rate of the next epoch.
    best : float
        Lowest loss so far; infinity before the first epoch.
    wait : int
        Number of epochs since the lowest loss or since the last decrease of the learning rate.
    """

    schedule: ReduceLROnPlateau
    lr: float
    best: float
    wait: int

    def __init__(self, schedule: ReduceLROnPlateau, lr: float, best: float = math.inf, wait: int = 0) -> None:
        self.schedule, self.lr, self.best, self.wait = schedule, lr, best, wait

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other) if isinstance(other, PlateauState) else NotImplemented

    def __repr__(self) -> str:
        return f"PlateauState({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"

    def observe(self, value: float) -> None:
        """Update the state with the loss of an epoch. NaN does not count as a lower loss."""
        constants = self.schedule
        if value < self.best * (1 - constants.threshold if self.best > 0 else 1 + constants.threshold):
            self.best = float(value)
            self.wait = 0
        else:
            self.wait += 1
        if self.wait > constants.patience:
            self.wait = 0
            lower = max(self.lr * constants.factor, constants.min_lr)
            if self.lr - lower > 1e-8:
                self.lr = lower

    def to_dict(self) -> dict[str, Any]:
        """Return a dict of lr, best and wait, from which `schedule.resume` restores the state.

        An infinite `best` becomes None, for JSON.
        """
        return {"lr": self.lr, "best": self.best if math.isfinite(self.best) else None, "wait": self.wait}


SCHEDULES: dict[str, type[Schedule]] = {
    kind.__name__: kind
    for kind in (
        Constant,
        StepLR,
        ExponentialLR,
        CosineLR,
        CosineLogLR,
        OneCycleLR,
        Warmup,
        PerStep,
        ReduceLROnPlateau,
    )
}


def is_stored(schedule: Any) -> bool:
    """Return whether `schedule_from_dict` can restore a schedule: its class and any nested schedule are in SCHEDULES.

    Subclasses and functions of the user are not restored.
    """
    nested = getattr(schedule, "schedule", None)
    return type(schedule) in SCHEDULES.values() and (nested is None or is_stored(nested))


def schedule_from_dict(d: Any) -> Schedule:
    """Create a schedule from a dict that `Schedule.to_dict` has returned.

    Parameters
    ----------
    d : dict
        "name" and the constants. Constants with a default may be missing.

    Raises
    ------
    ValueError
        `d` does not describe a schedule. No other exception is raised.
    """
    if not isinstance(d, dict):
        raise ValueError(f"a schedule must be an object with a name and constants, got {short_repr(d)}")
    name = d.get("name")
    if not isinstance(name, str) or name not in SCHEDULES:
        raise ValueError(f"the name of a schedule must be one of {', '.join(SCHEDULES)}, got {short_repr(name)}")
    kind = SCHEDULES[name]
    constants = {key: value for key, value in d.items() if key != "name"}
    choices = {name: constant.required for name, constant in kind._fields.items()}
    for key in constants:
        if key not in choices:
            raise ValueError(f"constants of the schedule {name} must be {', '.join(choices)}, got {short_repr(key)}")
    for key, is_required in choices.items():
        if is_required and key not in constants:
            raise ValueError(f"the schedule {name} requires the constant {key!r}, which is missing")
    try:
        if kind in (Warmup, PerStep) and isinstance(d["schedule"], dict):
            # Without this check, nested schedules of a malicious file could exceed the recursion limit.
            if d["schedule"].get("name") in (name, PerStep.__name__):
                raise ValueError(f"a {name} schedule must not contain a {d['schedule']['name']} schedule")
            constants["schedule"] = schedule_from_dict(d["schedule"])
        return kind(**constants)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the schedule {name} is invalid: {error}") from None


def _power(base: float, exponent: int) -> float:
    """Return base**exponent; infinity if it overflows."""
    try:
        return base**exponent
    except OverflowError:
        return math.inf


def _cosine(start: float, end: float, progress: float) -> float:
    """Return a point of half a cosine wave from `start` (progress 0) to `end` (progress 1)."""
    return end + (start - end) / 2 * (1 + math.cos(math.pi * progress))


def _require_epochs(schedule: Schedule, epochs: int | None) -> int:
    """Return the length of a schedule; raise ValueError if it has none."""
    if epochs is None:
        raise ValueError(f"{schedule!r} has no length; set its epochs, or call resolved(epochs)")
    return epochs


def _check_order(min_lr: float, lr: float) -> None:
    """Raise ValueError if min_lr exceeds lr."""
    if min_lr > lr:
        raise ValueError(f"min_lr must be at most lr, which is {lr!r}, got {min_lr!r}")
