"""Learning rate schedules: the rate of every epoch, by PyTorch's formulas in closed form.

    net.fit(X, y, epochs=200, lr=CosineLR(0.1))
    net.fit(X, y, epochs=200, lr=Warmup(StepLR(0.1, step_size=50), epochs=5))

A schedule is a constant: calling it with the number of an epoch, counted from 0, gives that epoch's rate, whenever and
however often. Only ReduceLROnPlateau depends on how the training goes; what it has seen is in a separate PlateauState.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import partial
from reprlib import repr as shown
from typing import TYPE_CHECKING, Any

from nnc._utils.checks import build_check, check_count, check_not_negative, check_positive, check_real
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
    "schedule_from_dict",
]


def _length(name: str, value: Any) -> int | None:
    return None if value is None else check_count(name, value)


def _follower(name: str, value: Any) -> Schedule:
    if not isinstance(value, Schedule):
        raise TypeError(f"{name} must be a Schedule, such as Constant(0.1), got {shown(value)}")
    if isinstance(value, (Warmup, PerStep, ReduceLROnPlateau)):
        raise ValueError(f"{name} must be none of Warmup, PerStep and ReduceLROnPlateau, got {shown(value)}")
    return value


def _by_number(name: str, value: Any) -> Schedule:
    if not isinstance(value, Schedule):
        raise TypeError(f"{name} must be a Schedule, such as CosineLR(0.1), got {shown(value)}")
    if isinstance(value, (PerStep, ReduceLROnPlateau)):
        raise ValueError(f"{name} must be neither PerStep nor ReduceLROnPlateau, got {shown(value)}")
    return value


class Schedule(Value, ABC):
    """What all schedules can do. They compare equal by their constants, can be hashed and pickled."""

    @abstractmethod
    def __call__(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0."""

    @property
    def peak(self) -> float:
        """The largest rate, growing ones excepted: what the others are small beside."""
        return float(vars(self).get("lr", 0.0))

    def is_over(self, epoch: int) -> bool:
        """Whether the rate is 0 from this epoch on."""
        return self(epoch) == 0

    def resolved(self, epochs: int) -> Self:
        """This schedule for a fit of so many epochs: where a length was left as None, `epochs` takes its place."""
        return self.replace(epochs=epochs) if vars(self).get("epochs", epochs) is None else self

    def to_dict(self) -> dict[str, Any]:
        """The class as "name", and the constants by their names: plain values, as JSON has them."""
        return {"name": type(self).__name__, **vars(self)}


class Constant(Schedule):
    """The same rate in every epoch.

    Parameters
    ----------
    lr : float
        The learning rate.
    """

    lr: float = field(check=check_positive)

    def __call__(self, epoch: int) -> float:
        return self.lr


class StepLR(Schedule):
    """lr gamma**k from epoch k step_size on.

    Parameters
    ----------
    lr : float
        The rate of the first epochs.
    step_size : int
        After how many epochs the rate changes.
    gamma : float, default 0.1
        The factor of each change.
    """

    lr: float = field(check=check_positive)
    step_size: int = field(check=check_count)
    gamma: float = field(default=0.1, check=check_positive)

    def __call__(self, epoch: int) -> float:
        return self.lr * _power(self.gamma, epoch // self.step_size)


class ExponentialLR(Schedule):
    """lr gamma**epoch.

    Parameters
    ----------
    lr : float
        The rate of the first epoch.
    gamma : float
        The factor from each epoch to the next: below 1 the rate falls, above 1 it grows, as in a search for the
        largest rate that works.
    """

    lr: float = field(check=check_positive)
    gamma: float = field(check=check_positive)

    def __call__(self, epoch: int) -> float:
        return self.lr * _power(self.gamma, epoch)


class CosineLR(Schedule):
    """Half a wave of the cosine from lr down to min_lr (Loshchilov and Hutter, 2017, without restarts):
    min_lr + (lr - min_lr) (1 + cos(pi epoch / epochs)) / 2.

    Parameters
    ----------
    lr : float
        The rate of the first epoch.
    epochs : int, optional
        When min_lr is reached; there it stays. Default: all epochs of the fit. A fit that would begin with a rate of 0
        is refused: give lr again.
    min_lr : float, default 0
        At most lr.
    """

    lr: float = field(check=check_positive)
    epochs: int | None = field(default=None, check=_length)
    min_lr: float = field(default=0.0, check=check_not_negative)

    def __post_init__(self) -> None:
        _check_order(self.min_lr, self.lr)

    def __call__(self, epoch: int) -> float:
        return _cosine(self.lr, self.min_lr, min(epoch / _known(self, self.epochs), 1))


class CosineLogLR(Schedule):
    """Waves of the cosine, each twice as long as the one before, between 0 and lr:
    lr (1 - cos(2 pi log2(1 + (2**cycles - 1) epoch / epochs))) / 2 (Holzmueller, Grinsztajn and Steinwart, 2024, for
    tables). The first rate is 0: with few epochs, `PerStep(CosineLogLR(lr))` loses a step by that and no epoch.

    Parameters
    ----------
    lr : float
        The largest rate, in the middle of each wave.
    epochs : int, optional
        The length of all waves; from there on the rate is 0. Default: all epochs of the fit.
    cycles : int, default 4
        Number of waves, at most 64.
    """

    lr: float = field(check=check_positive)
    epochs: int | None = field(default=None, check=_length)
    cycles: int = field(default=4, check=partial(check_count, maximum=64))

    def __call__(self, epoch: int) -> float:
        share = min(epoch / _known(self, self.epochs), 1)
        return self.lr / 2 * (1 - math.cos(2 * math.pi * math.log2(1 + (2**self.cycles - 1) * share)))

    def is_over(self, epoch: int) -> bool:
        return epoch >= _known(self, self.epochs)


class OneCycleLR(Schedule):
    """From max_lr / div_factor up to max_lr, then down to max_lr / (div_factor final_div_factor), each along half a
    wave of the cosine (Smith and Topin, 2017).

    Parameters
    ----------
    max_lr : float
        The largest rate.
    epochs : int, optional
        The length of the cycle, whose last rate stays, which trains next to nothing. Default: all epochs of the fit.
    pct_start : float, default 0.3
        The share of the epochs in which the rate rises, from 0 to 1: max_lr is reached in epoch pct_start epochs - 1,
        counted from 0.
    div_factor : float, default 25
        max_lr / first rate.
    final_div_factor : float, default 1e4
        First rate / last rate.
    """

    max_lr: float = field(check=check_positive)
    epochs: int | None = field(default=None, check=_length)
    pct_start: float = field(default=0.3, check=build_check(lambda x: 0 <= x <= 1, "from 0 to 1"))
    div_factor: float = field(default=25.0, check=check_positive)
    final_div_factor: float = field(default=1e4, check=check_positive)

    def __call__(self, epoch: int) -> float:
        epochs = _known(self, self.epochs)
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
    """Another schedule, whose rates are multiplied by a factor that grows linearly from start_factor to 1.

    Parameters
    ----------
    schedule : Schedule
        Any of the others; its epochs count from the beginning of the warm-up. ReduceLROnPlateau is refused, since its
        rates do not depend on the epoch.
    epochs : int
        When the factor is 1; there it stays.
    start_factor : float, default 1/3
        The factor of the first epoch, above 0 and at most 1.
    """

    schedule: Schedule = field(check=_follower)
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
    """Another schedule, which counts steps in place of epochs: its rate changes from batch to batch, its lengths are
    steps, and one that it does not say is all steps of the fit. Batches that come one by one (`fit_batches`) are
    refused, since their number is not known.

    Parameters
    ----------
    schedule : Schedule
        Any of the others but ReduceLROnPlateau.
    epochs : int, optional
        Whose steps a length is that the schedule does not say. Default: all epochs of the fit.
    """

    schedule: Schedule = field(check=_by_number)
    epochs: int | None = field(default=None, check=_length)

    def __call__(self, epoch: int) -> float:
        return self.at(1)(epoch)

    def at(self, steps: int) -> Schedule:
        """The schedule by numbers of steps, so many of which make an epoch."""
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
    """A rate that is multiplied by `factor` when a loss has stopped falling.

    The rate is not one of the epoch: `state = schedule.start()` begins, `state.lr` is the rate of the next epoch, and
    `state.observe(loss)` after every epoch may lower it.

    Parameters
    ----------
    lr : float
        The first rate.
    factor : float, default 0.1
        Above 0 and below 1.
    patience : int, default 10
        How many epochs in a row may pass without a lower loss; the one after them lowers the rate.
    threshold : float, default 1e-4
        A loss counts as lower when it is below best - threshold |best|; at least 0 and below 1.
    min_lr : float, default 0
        The rate never falls below, at most lr.

    Notes
    -----
    As PyTorch's class of this name with threshold_mode "rel" and mode "min", or "max" for what is better the larger it
    is, whose negative counts as the loss. As there, a change of the rate by 1e-8 or less is left out.
    """

    lr: float = field(check=check_positive)
    factor: float = field(default=0.1, check=build_check(lambda x: 0 < x < 1, "above 0 and below 1"))
    patience: int = field(default=10, check=partial(check_count, minimum=0))
    threshold: float = field(default=1e-4, check=build_check(lambda x: 0 <= x < 1, "at least 0 and below 1"))
    min_lr: float = field(default=0.0, check=check_not_negative)

    def __post_init__(self) -> None:
        _check_order(self.min_lr, self.lr)

    def __call__(self, epoch: int) -> float:
        raise TypeError(
            "the rate of ReduceLROnPlateau does not depend on the epoch: use state = schedule.start(), state.lr and, "
            "after every epoch, state.observe(loss)"
        )

    def start(self) -> PlateauState:
        """The state before the first epoch."""
        return PlateauState(self, self.lr)

    def resume(self, state: Any) -> PlateauState:
        """The state that `PlateauState.to_dict` wrote.

        Raises
        ------
        ValueError
            It is anything else.
        """
        if not isinstance(state, dict) or set(state) != {"lr", "best", "wait"}:
            raise ValueError(f"a state of ReduceLROnPlateau must be an object of lr, best and wait, got {shown(state)}")
        try:
            best = math.inf if state["best"] is None else check_real("best", state["best"])
            return PlateauState(
                self, check_not_negative("lr", state["lr"]), best, check_count("wait", state["wait"], minimum=0)
            )
        except TypeError as error:
            raise ValueError(str(error)) from None


class PlateauState:
    """How far a training with ReduceLROnPlateau has come.

    Attributes
    ----------
    schedule : ReduceLROnPlateau
        The constants.
    lr : float
        The rate of the next epoch.
    best : float
        The lowest loss so far, infinity before the first epoch.
    wait : int
        Epochs since then, or since the rate was lowered.
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
        """Takes in the loss of the epoch that has ended. NaN is no lower loss."""
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
        """lr, best (None for infinity, which JSON does not have) and wait; `schedule.resume` reads them."""
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


def schedule_from_dict(d: Any) -> Schedule:
    """The schedule that `to_dict` wrote.

    Parameters
    ----------
    d : dict
        "name" and the constants; those that have a default may be missing.

    Raises
    ------
    ValueError
        It is anything else; the message says what is wrong. No other exception comes out of a wrong `d`.
    """
    if not isinstance(d, dict):
        raise ValueError(f"a schedule must be an object with a name and constants, got {shown(d)}")
    name = d.get("name")
    if not isinstance(name, str) or name not in SCHEDULES:
        raise ValueError(f"the name of a schedule must be one of {', '.join(SCHEDULES)}, got {shown(name)}")
    kind = SCHEDULES[name]
    constants = {key: value for key, value in d.items() if key != "name"}
    known = {name: constant.required for name, constant in kind._fields.items()}
    for key in constants:
        if key not in known:
            raise ValueError(f"the schedule {name} has the unknown constant {shown(key)}, expected {', '.join(known)}")
    for key, needed in known.items():
        if needed and key not in constants:
            raise ValueError(f"the schedule {name} lacks its constant {key}")
    try:
        if kind in (Warmup, PerStep) and isinstance(d["schedule"], dict):
            # Said before reading it: it may be nested endlessly.
            if d["schedule"].get("name") in (name, PerStep.__name__):
                raise ValueError(f"schedule must not be a {d['schedule']['name']} again")
            constants["schedule"] = schedule_from_dict(d["schedule"])
        return kind(**constants)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the schedule {name} is wrong: {error}") from None


def _power(base: float, exponent: int) -> float:
    try:
        return base**exponent
    except OverflowError:  # a rate that has grown beyond all bounds
        return math.inf


def _cosine(start: float, end: float, share: float) -> float:
    """From start (share 0) to end (share 1) along half a wave."""
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))


def _known(schedule: Schedule, epochs: int | None) -> int:
    if epochs is None:
        raise ValueError(f"{schedule!r} has no length yet: give it epochs, or call resolved(epochs)")
    return epochs


def _check_order(min_lr: float, lr: float) -> None:
    if min_lr > lr:
        raise ValueError(f"min_lr must be at most lr, which is {lr!r}, got {min_lr!r}")
