"""What changes from epoch to epoch beside the learning rate: weight decay and dropout, by schedules or functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnc._training.schedules import ReduceLROnPlateau, Schedule
from nnc._utils.checks import check_count, check_fraction, check_not_negative

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nnc._model.cores import CoreTraining
    from nnc._model.model import Model
    from nnc._training.arguments import FitArguments
    from nnc._training.state import TrainingState

    Number = float | Callable[[int], float]

SOME = 0.5  # stands for a share that changes, where a run is laid out for it


class Changes:
    """Sets weight decay and shares to drop for an epoch.

    Parameters
    ----------
    decay : float or callable
    shares : list of floats or callables
        For each hidden layer; none where nothing drops.
    model : Model
    """

    def __init__(self, decay: Number, shares: Sequence[Number], model: Model) -> None:
        self.decay, self.shares, self.model = decay, shares, model

    def __call__(self, training: CoreTraining, epoch: int) -> None:
        """To be called before an epoch, counted from 0 since the optimizer began."""
        decay = check_not_negative("weight_decay", self.decay(epoch)) if callable(self.decay) else self.decay
        shares = [check_fraction("dropout", share(epoch)) if callable(share) else share for share in self.shares]
        training.change(decay, self.model.by_engine_layer(shares, 0.0) if shares else ())


def changes(arguments: FitArguments, model: Model, state: TrainingState) -> tuple[FitArguments, Changes | None]:
    """Replace schedules of weight decay and dropout by numbers; return them as Changes, or None where there are none.

    Raises
    ------
    ValueError, TypeError
        An argument is no schedule, function or number, or does not go with the network or the optimizer.
    """
    epochs, decay, dropout = arguments.epochs, arguments.weight_decay, arguments.dropout
    last = None if epochs is None else state.epoch + check_count("epochs", epochs)
    shares = model.stack.hidden_dropout_rates(dropout) if callable(dropout) else dropout
    if not isinstance(shares, (list, tuple)):
        shares = []
    scheduled = [_known("dropout", share, last) if callable(share) else share for share in shares]
    if any(map(callable, scheduled)):
        arguments = arguments.replaced(dropout=[SOME if callable(share) else share for share in scheduled])
    else:
        scheduled = []
    if decay is not None and not hasattr(state.optimizer, "weight_decay"):
        raise ValueError(f"weight_decay does not go with the optimizer {state.optimizer.name!r}, got {decay!r}")
    if callable(decay):
        decay = _known("weight_decay", decay, last)
    elif decay is not None:
        decay = check_not_negative("weight_decay", decay)
    if not scheduled and not callable(decay):
        return arguments, None
    own = getattr(state.optimizer, "weight_decay", 0.0)
    return arguments, Changes(own if decay is None else decay, scheduled, model)


def _known(name: str, value: Schedule | Callable[[int], float], last: int | None) -> Callable[[int], float]:
    """A function of the epoch, whose length is known."""
    if isinstance(value, (type, ReduceLROnPlateau)):
        raise TypeError(f"{name} must be a number, a schedule or a function of the epoch, got {value!r}")
    if not isinstance(value, Schedule):
        return value
    if last is None and value != value.resolved(1):
        raise ValueError(f"{name} must have a length of its own where epochs is not given, got {value!r}")
    return value.resolved(last or 1)
