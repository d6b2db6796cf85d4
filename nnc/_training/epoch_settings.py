"""Weight decay and dropout rates that a schedule or function sets before each epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnc._registry.capabilities import check
from nnc._training.schedules import ReduceLROnPlateau, Schedule
from nnc._utils.checks import check_fraction, check_not_negative, short_repr

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nnc._model.cores import CoreTraining
    from nnc._model.model import Model
    from nnc._training.arguments import FitArguments
    from nnc._training.state import TrainingState

    Number = float | Callable[[int], float]

SCHEDULED_RATE = 0.5  # placeholder for a scheduled dropout rate: any positive rate makes the core allocate memory


class EpochSettings:
    """Weight decay and dropout rates as functions of the epoch.

    Parameters
    ----------
    decay : float or callable
        Weight decay.
    rates : list of floats or callables
        Dropout rate of each hidden layer; empty without dropout.
    model : Model
        Network in training.
    """

    def __init__(self, decay: Number, rates: Sequence[Number], model: Model) -> None:
        self.decay, self.rates, self.model = decay, rates, model

    def __call__(self, training: CoreTraining, epoch: int) -> None:
        """Set weight decay and dropout rates before an epoch, which is counted from 0 since the optimizer started."""
        decay = check_not_negative("weight_decay", self.decay(epoch)) if callable(self.decay) else self.decay
        rates = [check_fraction("dropout", rate(epoch)) if callable(rate) else rate for rate in self.rates]
        training.change(decay, self.model.by_engine_layer(rates, 0.0) if rates else ())


def schedule_settings(
    arguments: FitArguments, model: Model, state: TrainingState
) -> tuple[FitArguments, EpochSettings | None]:
    """Replace schedules of weight decay and dropout in the arguments by numbers.

    Returns
    -------
    arguments : FitArguments
        Arguments without schedules of weight decay and dropout.
    epoch_settings : EpochSettings or None
        Schedules of weight decay and dropout; None if both are numbers.

    Raises
    ------
    ValueError, TypeError
        An argument is not a schedule, a function or a number, or the network or the optimizer does not support it.
    """
    epochs, decay, dropout = arguments.epochs, arguments.weight_decay, arguments.dropout
    last_epoch = None if epochs is None else state.epoch + epochs
    rates = model.stack.hidden_dropout_rates(dropout) if callable(dropout) else dropout
    if not isinstance(rates, (list, tuple)):
        rates = []
    scheduled = [_resolved("dropout", rate, last_epoch) if callable(rate) else rate for rate in rates]
    if any(map(callable, scheduled)):
        arguments = arguments._replace(dropout=[SCHEDULED_RATE if callable(rate) else rate for rate in scheduled])
    else:
        scheduled = []
    if callable(decay):
        decay = _resolved("weight_decay", decay, last_epoch)
    elif decay is not None:
        decay = check_not_negative("weight_decay", decay)
    if not scheduled and not callable(decay):
        return arguments, None
    default = getattr(state.optimizer, "weight_decay", 0.0)
    return arguments, EpochSettings(default if decay is None else decay, scheduled, model)


def _resolved(name: str, value: Schedule | Callable[[int], float], last_epoch: int | None) -> Callable[[int], float]:
    """Return a function that maps an epoch to a value; a schedule without a length ends at `last_epoch`."""
    if isinstance(value, (type, ReduceLROnPlateau)):
        raise TypeError(f"{name} must be a number, a schedule or a function of the epoch, got {short_repr(value)}")
    if not isinstance(value, Schedule):
        return value
    if last_epoch is None:
        check("a fit without epochs", schedule=value)
    return value.resolved(last_epoch or 1)
