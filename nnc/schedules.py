"""Learning rate schedules: the rate of every epoch, by PyTorch's formulas in closed form.

    net.fit(X, y, epochs=200, lr=CosineLR(0.1))
    net.fit(X, y, epochs=200, lr=Warmup(StepLR(0.1, step_size=50), epochs=5))

A schedule is a constant: calling it with the number of an epoch, counted from 0, gives that epoch's rate, whenever and
however often. Only ReduceLROnPlateau depends on how the training goes; what it has seen is in a separate PlateauState.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import MISSING, dataclass, fields, replace
from reprlib import repr as shown
from typing import Any

from nnc.checks import count, not_negative, positive, real

__all__ = [
    "Constant",
    "CosineLR",
    "ExponentialLR",
    "OneCycleLR",
    "PlateauState",
    "ReduceLROnPlateau",
    "Schedule",
    "StepLR",
    "Warmup",
    "schedule_from_dict",
]


class Schedule(ABC):
    """What all schedules can do. They compare equal by their constants, can be hashed and pickled."""

    @abstractmethod
    def __call__(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0."""

    def resolved(self, epochs: int) -> Schedule:
        """This schedule for a fit of so many epochs: where a length was left as None, `epochs` takes its place."""
        return self

    def to_dict(self) -> dict[str, Any]:
        """The class as "name", and the constants by their names: plain values, as JSON has them."""
        constants = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        return {"name": type(self).__name__, **constants}

    def _set(self, **checked: Any) -> None:
        """Puts checked constants, now plain ints and floats, in place of those that came."""
        for name, value in checked.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class Constant(Schedule):
    """The same rate in every epoch.

    Parameters
    ----------
    lr : float
        The learning rate.
    """

    lr: float

    def __post_init__(self) -> None:
        self._set(lr=positive("lr", self.lr))

    def __call__(self, epoch: int) -> float:
        return self.lr


@dataclass(frozen=True)
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

    lr: float
    step_size: int
    gamma: float = 0.1

    def __post_init__(self) -> None:
        self._set(
            lr=positive("lr", self.lr),
            step_size=count("step_size", self.step_size),
            gamma=positive("gamma", self.gamma),
        )

    def __call__(self, epoch: int) -> float:
        return self.lr * _power(self.gamma, epoch // self.step_size)


@dataclass(frozen=True)
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

    lr: float
    gamma: float

    def __post_init__(self) -> None:
        self._set(lr=positive("lr", self.lr), gamma=positive("gamma", self.gamma))

    def __call__(self, epoch: int) -> float:
        return self.lr * _power(self.gamma, epoch)


@dataclass(frozen=True)
class CosineLR(Schedule):
    """Half a wave of the cosine from lr down to min_lr (Loshchilov and Hutter, 2017, without restarts):
    min_lr + (lr - min_lr) (1 + cos(pi epoch / epochs)) / 2.

    Parameters
    ----------
    lr : float
        The rate of the first epoch.
    epochs : int, optional
        When min_lr is reached; there it stays. Default: all epochs of the fit.
    min_lr : float, default 0
        At most lr.
    """

    lr: float
    epochs: int | None = None
    min_lr: float = 0.0

    def __post_init__(self) -> None:
        self._set(lr=positive("lr", self.lr), epochs=_length(self.epochs), min_lr=_least(self.min_lr, self.lr))

    def __call__(self, epoch: int) -> float:
        return _cosine(self.lr, self.min_lr, min(epoch / _known(self, self.epochs), 1))

    def resolved(self, epochs: int) -> CosineLR:
        return self if self.epochs is not None else replace(self, epochs=epochs)


@dataclass(frozen=True)
class OneCycleLR(Schedule):
    """From max_lr / div_factor up to max_lr, then down to max_lr / (div_factor final_div_factor), each along half a
    wave of the cosine (Smith and Topin, 2017).

    Parameters
    ----------
    max_lr : float
        The largest rate.
    epochs : int, optional
        The length of the cycle, whose last rate stays. Default: all epochs of the fit.
    pct_start : float, default 0.3
        The share of the epochs in which the rate rises, from 0 to 1: max_lr is reached in epoch pct_start epochs - 1,
        counted from 0.
    div_factor : float, default 25
        max_lr / first rate.
    final_div_factor : float, default 1e4
        First rate / last rate.
    """

    max_lr: float
    epochs: int | None = None
    pct_start: float = 0.3
    div_factor: float = 25.0
    final_div_factor: float = 1e4

    def __post_init__(self) -> None:
        pct_start = real("pct_start", self.pct_start)
        if not 0 <= pct_start <= 1:
            raise ValueError(f"pct_start must be from 0 to 1, got {self.pct_start!r}")
        self._set(
            max_lr=positive("max_lr", self.max_lr),
            epochs=_length(self.epochs),
            pct_start=pct_start,
            div_factor=positive("div_factor", self.div_factor),
            final_div_factor=positive("final_div_factor", self.final_div_factor),
        )

    def __call__(self, epoch: int) -> float:
        epochs = _known(self, self.epochs)
        epoch = min(epoch, epochs - 1)
        first_lr = self.max_lr / self.div_factor
        top = self.pct_start * epochs - 1
        if epoch <= top:
            return _cosine(first_lr, self.max_lr, epoch / top if top > 0 else 1)
        return _cosine(self.max_lr, first_lr / self.final_div_factor, (epoch - top) / (epochs - 1 - top))

    def resolved(self, epochs: int) -> OneCycleLR:
        return self if self.epochs is not None else replace(self, epochs=epochs)


@dataclass(frozen=True)
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

    schedule: Schedule
    epochs: int
    start_factor: float = 1 / 3

    def __post_init__(self) -> None:
        if not isinstance(self.schedule, Schedule):
            raise TypeError(f"schedule must be a Schedule, such as Constant(0.1), got {shown(self.schedule)}")
        if isinstance(self.schedule, (Warmup, ReduceLROnPlateau)):
            raise ValueError(f"schedule must be neither Warmup nor ReduceLROnPlateau, got {shown(self.schedule)}")
        start_factor = real("start_factor", self.start_factor)
        if not 0 < start_factor <= 1:
            raise ValueError(f"start_factor must be above 0 and at most 1, got {self.start_factor!r}")
        self._set(epochs=count("epochs", self.epochs), start_factor=start_factor)

    def __call__(self, epoch: int) -> float:
        factor = self.start_factor + (1 - self.start_factor) * min(epoch / self.epochs, 1)
        return self.schedule(epoch) * factor

    def resolved(self, epochs: int) -> Warmup:
        return replace(self, schedule=self.schedule.resolved(epochs))

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "schedule": self.schedule.to_dict()}


@dataclass(frozen=True)
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

    lr: float
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    min_lr: float = 0.0

    def __post_init__(self) -> None:
        factor, threshold = real("factor", self.factor), real("threshold", self.threshold)
        if not 0 < factor < 1:
            raise ValueError(f"factor must be above 0 and below 1, got {self.factor!r}")
        if not 0 <= threshold < 1:
            raise ValueError(f"threshold must be at least 0 and below 1, got {self.threshold!r}")
        self._set(
            lr=positive("lr", self.lr),
            factor=factor,
            patience=count("patience", self.patience, least=0),
            threshold=threshold,
            min_lr=_least(self.min_lr, self.lr),
        )

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
            best = math.inf if state["best"] is None else real("best", state["best"])
            return PlateauState(self, not_negative("lr", state["lr"]), best, count("wait", state["wait"], least=0))
        except TypeError as error:
            raise ValueError(str(error)) from None


@dataclass
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
    best: float = math.inf
    wait: int = 0

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
    kind.__name__: kind for kind in (Constant, StepLR, ExponentialLR, CosineLR, OneCycleLR, Warmup, ReduceLROnPlateau)
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
    known = {field.name: field.default is MISSING for field in fields(kind)}  # type: ignore[arg-type]
    for key in constants:
        if key not in known:
            raise ValueError(f"the schedule {name} has the unknown constant {shown(key)}, expected {', '.join(known)}")
    for key, needed in known.items():
        if needed and key not in constants:
            raise ValueError(f"the schedule {name} lacks its constant {key}")
    try:
        if kind is Warmup and isinstance(d["schedule"], dict):
            if d["schedule"].get("name") == name:  # said before reading it: it may be nested endlessly
                raise ValueError("schedule must not be a Warmup again")
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


def _length(epochs: Any) -> int | None:
    return None if epochs is None else count("epochs", epochs)


def _known(schedule: Schedule, epochs: int | None) -> int:
    if epochs is None:
        raise ValueError(f"{schedule!r} has no length yet: give it epochs, or call resolved(epochs)")
    return epochs


def _least(min_lr: Any, lr: Any) -> float:
    least = not_negative("min_lr", min_lr)
    if least > positive("lr", lr):
        raise ValueError(f"min_lr must be at most lr, which is {lr!r}, got {min_lr!r}")
    return least
