"""Options of `fit`: their defaults, their checks, and the functions that accept them.

`FitArguments` declares the name, the type and the default of each option; `OPTIONS` declares the rest.
"""

from __future__ import annotations

from functools import partial
from itertools import compress
from numbers import Integral
from operator import is_not
from typing import TYPE_CHECKING, Any, NamedTuple

from nnc._registry.capabilities import given_arguments
from nnc._utils import processors
from nnc._utils.checks import (
    check_bool,
    check_choice,
    check_count,
    check_not_nan,
    check_not_negative,
    check_positive,
    short_repr,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Self, TypeAlias

    from numpy.typing import ArrayLike

    from nnc._data.metrics import Metric
    from nnc._data.splits import LastRows
    from nnc._registry.optimizers import Optimizer
    from nnc._training.callbacks import Record
    from nnc._training.schedules import Schedule

    Rate: TypeAlias = float | Schedule | Callable[[int], float]
    Measure: TypeAlias = str | Metric | Callable[..., float]
    Callback: TypeAlias = Callable[[Record], Any]

MAX_THREADS = 64  # largest value of `n_threads` on a computer with at most this number of processors
PRESETS = ("auto", "plain")  # allowed values of `preset`, in addition to None


class FitArguments(NamedTuple):
    """Arguments of `NeuralNetwork.fit`, except X, y and lengths, with the defaults of that method.

    Defaults are None, (), bools and small integers, of which Python has one object each: `passed` compares with `is`.
    """

    epochs: int | None = None
    lr: Rate | None = None
    optimizer: str | Optimizer | None = None
    preset: str | None = None
    reset_optimizer: bool = False
    batch_size: int | None = None
    shuffle: bool = True
    sample_weight: ArrayLike | None = None
    truncate: int | None = None
    warm_up: int = 0
    class_weight: str | Mapping[Any, float] | None = None
    dY: ArrayLike | None = None
    dY_weight: float = 1
    validation: float | str | LastRows | Sequence[ArrayLike] | None = None
    metrics: Measure | Sequence[Measure] = ()
    l1: float = 0
    l2: float = 0
    weight_decay: Rate | None = None
    dropout: Rate | Sequence[Rate] = 0
    clip_norm: float | None = None
    clip_value: float | None = None
    max_norm: float | None = None
    regularize_bias: bool = False
    patience: int | None = None
    min_delta: float | None = None
    monitor: str | None = None
    restore_best: bool | str | None = None
    target_loss: float | None = None
    max_seconds: float | None = None
    callback: Callback | Sequence[Callback] | None = None
    progress: bool | str = False
    verbose: int = 0
    n_threads: int | None = None

    @property
    def sets_rate(self) -> bool:
        """Return whether the caller sets the learning rate or the optimizer."""
        return self.lr is not None or self.optimizer is not None

    @property
    def ends_training(self) -> bool:
        """Return whether another option than `epochs` may end the training."""
        return any(getattr(self, name) is not None for name in STOPPING)

    def passed(self) -> dict[str, Any]:
        """Return the arguments that are not the objects of their defaults, by name, including those without effect."""
        return {name: getattr(self, name) for name in compress(DEFAULTS, map(is_not, self, DEFAULTS.values()))}

    def checked(self) -> tuple[Self, dict[str, Any]]:
        """Return the arguments after all checks without the network and the data, and those that were given.

        A checked value has a built-in type; for example, a NumPy integer becomes an int. `is_given` describes which
        arguments are given.
        """
        passed, changes = self.passed(), {}
        for name, value in passed.items():
            if name in CHECKS and (result := CHECKS[name](name, value)) is not value:
                changes[name] = result
        given = given_arguments({**passed, **changes}, NEUTRAL)
        return (self._replace(**changes), given) if changes else (self, given)


class Option(NamedTuple):
    """Properties of an option of `fit`, in addition to its type and its default.

    Attributes
    ----------
    check : callable, optional
        Function (name, value) that checks a value and returns it. None if the check needs the network or the data.
    ends : bool
        Whether the option can end a training without `epochs`.
    in_core : bool
        Whether the core has a setting of the same name.
    in_batches, in_many, in_stepper, in_equations : bool
        Whether `fit_batches`, `fit_many` with `search`, `stepper`, and `Problem.fit` have the option.
    """

    check: Callable[[str, Any], Any] | None = None
    ends: bool = False
    in_core: bool = False
    in_batches: bool = True
    in_many: bool = True
    in_stepper: bool = False
    in_equations: bool = False


def check_threads(name: str, value: int) -> int:
    """Check a number of threads; limit it to the larger of MAX_THREADS and the number of processors."""
    threads = check_count(name, value)
    return threads if threads <= MAX_THREADS else min(threads, max(MAX_THREADS, processors.cpu_count()))


def check_restore_best(name: str, value: bool | str) -> bool | str:
    """Check `restore_best`: a bool or "last"."""
    if isinstance(value, str) and value != "last":
        raise ValueError(f'{name} must be True, False or "last", got {short_repr(value)}')
    return value if isinstance(value, str) else check_bool(name, value)


def check_progress(name: str, value: bool | str) -> bool | str:
    """Check `progress`: a bool or "plot"."""
    if isinstance(value, str):
        return check_choice(name, value, ("plot",), ", True or False")
    return check_bool(name, value)


def check_verbose(name: str, value: int) -> int:
    """Check `verbose`: 0, 1 or 2."""
    if not isinstance(value, Integral) or value not in (0, 1, 2):
        raise ValueError(f"{name} must be 0, 1 or 2, got {short_repr(value)}")
    return int(value)


OPTIONS = {
    "epochs": Option(check_count, in_equations=True),
    "lr": Option(in_stepper=True, in_equations=True),
    "optimizer": Option(in_stepper=True, in_equations=True),
    "preset": Option(partial(check_choice, choices=PRESETS)),
    "reset_optimizer": Option(check_bool, in_stepper=True, in_equations=True),
    "batch_size": Option(check_count, in_batches=False),
    "shuffle": Option(check_bool, in_batches=False),
    "sample_weight": Option(in_batches=False),
    "truncate": Option(check_count, in_batches=False),
    "warm_up": Option(partial(check_count, minimum=0), in_batches=False),
    "class_weight": Option(in_batches=False),
    "dY": Option(in_batches=False, in_many=False),
    "dY_weight": Option(check_not_negative, in_batches=False, in_many=False),
    "validation": Option(),
    "metrics": Option(),
    "l1": Option(check_not_negative, in_core=True, in_stepper=True),
    "l2": Option(check_not_negative, in_core=True, in_stepper=True),
    "weight_decay": Option(in_equations=True),
    "dropout": Option(in_stepper=True),
    "clip_norm": Option(check_positive, in_core=True, in_stepper=True, in_equations=True),
    "clip_value": Option(check_positive, in_core=True, in_stepper=True),
    "max_norm": Option(check_positive, in_core=True, in_stepper=True, in_equations=True),
    "regularize_bias": Option(check_bool, in_stepper=True),
    "patience": Option(check_count, ends=True),
    "min_delta": Option(check_not_negative),
    "monitor": Option(),
    "restore_best": Option(check_restore_best),
    "target_loss": Option(check_not_nan, ends=True, in_equations=True),
    "max_seconds": Option(check_positive, ends=True, in_equations=True),
    "callback": Option(ends=True, in_equations=True),
    "progress": Option(check_progress, in_many=False, in_equations=True),
    "verbose": Option(check_verbose, in_many=False, in_equations=True),
    "n_threads": Option(check_threads, in_many=False, in_equations=True),
}
DEFAULTS: Mapping[str, Any] = FitArguments._field_defaults
NEUTRAL = {**DEFAULTS, "weight_decay": 0}  # values with which an option requires and excludes nothing
CHECKS = {name: option.check for name, option in OPTIONS.items() if option.check is not None}
STOPPING = [name for name, option in OPTIONS.items() if option.ends]
CORE_OPTIONS = [name for name, option in OPTIONS.items() if option.in_core]
BATCH_OPTIONS = [name for name, option in OPTIONS.items() if option.in_batches]
MANY_OPTIONS = [name for name, option in OPTIONS.items() if option.in_many]
