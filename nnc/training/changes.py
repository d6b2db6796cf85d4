"""What changes from epoch to epoch beside the learning rate: weight decay and dropout, by schedules or functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnc.base.checks import count, fraction, not_negative
from nnc.training.schedules import ReduceLROnPlateau, Schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nnc.model.model import Model
    from nnc.training.state import State

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

    def __init__(self, decay: Any, shares: list[Any], model: Model) -> None:
        self.decay, self.shares, self.model = decay, shares, model

    def __call__(self, training: Any, epoch: int) -> None:
        """To be called before an epoch, counted from 0 since the optimizer began."""
        decay = not_negative("weight_decay", self.decay(epoch)) if callable(self.decay) else self.decay
        shares = [fraction("dropout", share(epoch)) if callable(share) else share for share in self.shares]
        training.change(decay, self.model.by_place(shares, 0.0) if shares else ())


def changes(said: Mapping[str, Any], model: Model, state: State) -> tuple[dict[str, Any], Changes | None]:
    """The arguments with a number in the place of what changes, and what changes it; None where nothing does.

    Raises
    ------
    ValueError, TypeError
        An argument is none that changes so, or does not go with the network or the optimizer.
    """
    told, epochs = dict(said), said.get("epochs")
    last = None if epochs is None else state.epoch + count("epochs", epochs)
    dropout = said.get("dropout", 0.0)
    shares = model.stack.dropping(dropout) if callable(dropout) else dropout
    if not isinstance(shares, (list, tuple)):
        shares = []
    scheduled = [_known("dropout", share, last) if callable(share) else share for share in shares]
    if any(map(callable, scheduled)):
        told["dropout"] = [SOME if callable(share) else share for share in scheduled]
    else:
        scheduled = []
    decay = said.get("weight_decay")
    if decay is not None and not hasattr(state.optimizer, "weight_decay"):
        raise ValueError(f"weight_decay does not go with the optimizer {state.optimizer.name!r}, got {decay!r}")
    if callable(decay):
        decay = _known("weight_decay", decay, last)
    elif decay is not None:
        decay = not_negative("weight_decay", decay)
    if not scheduled and not callable(decay):
        return told, None
    return told, Changes(getattr(state.optimizer, "weight_decay", 0.0) if decay is None else decay, scheduled, model)


def _known(name: str, value: Any, last: int | None) -> Callable[[int], Any]:
    """A function of the epoch, whose length is known."""
    if isinstance(value, (type, ReduceLROnPlateau)):
        raise TypeError(f"{name} must be a number, a schedule or a function of the epoch, got {value!r}")
    if not isinstance(value, Schedule):
        return value  # type: ignore[no-any-return]
    if last is None and value != value.resolved(1):
        raise ValueError(f"{name} must have a length of its own where epochs is not given, got {value!r}")
    return value.resolved(last or 1)
