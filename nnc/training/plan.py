"""The arguments of `fit`, checked once. They stand with their defaults in its signature; here each has its check."""

from __future__ import annotations

from reprlib import repr as shown
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc.base.checks import count, flag, fraction, no_nan, not_negative, one_of, positive
from nnc.base.random import DROPOUT
from nnc.kinds import losses

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from nnc.data.metrics import Metric
    from nnc.layers.stack import Stack
    from nnc.model.data import Data
    from nnc.model.model import Model
    from nnc.training.callbacks import Progress, Record
    from nnc.training.state import State

NO_METRICS: Mapping[str, Metric] = {}
MIN_SHARE = 1e-4  # of the best so far: what an improvement is where nothing but patience may end the creeping of a loss


class Plan:
    """What a run does, beside its data and the state that it goes on from. What is left out is not asked for."""

    epochs: int | None
    settings: dict[str, Any]  # of core.Training
    batch_size: int = 1
    order: NDArray[np.int32] | None = None
    n_threads: int | None = None
    validation: Data | None = None
    metrics: Mapping[str, Metric] = NO_METRICS
    monitor: str = "loss"
    larger_is_better: bool = False
    patience: int | None = None
    min_delta: float = 0.0
    min_share: float = 0.0  # of the best so far, on top of min_delta
    restore_best: bool = True
    target_loss: float | None = None
    max_seconds: float | None = None
    callbacks: Sequence[Callable[[Record], Any]] = ()
    progress: Progress | None = None
    network: Any = None  # what a Record calls the network

    def __init__(self, **given: Any) -> None:
        vars(self).update(given)


def options(given: Mapping[str, Any], model: Model, state: State) -> dict[str, Any]:
    """The arguments of `fit` that need no data, as a Plan takes them.

    Parameters
    ----------
    given : dict
        All arguments of `fit` by their names.
    """
    epochs, callback = given["epochs"], given["callback"]
    rules = (given["patience"], given["target_loss"], given["max_seconds"], callback)
    if epochs is not None:
        epochs = count("epochs", epochs)
    elif all(rule is None for rule in rules):
        raise TypeError(
            "epochs must be given where no other rule ends the training: "
            "patience, target_loss, max_seconds or a callback"
        )
    n_threads = given["n_threads"]
    plan: dict[str, Any] = {
        "epochs": epochs,
        "settings": settings(given, model.stack, state),
        "n_threads": None if n_threads is None else count("n_threads", n_threads),
    }
    for name, check in (("patience", count), ("target_loss", no_nan), ("max_seconds", positive)):
        if given[name] is not None:
            plan[name] = check(name, given[name])
    if given["min_delta"] is not None:
        plan["min_delta"] = not_negative("min_delta", given["min_delta"])
    elif epochs is None and given["patience"] is not None:
        plan["min_share"] = MIN_SHARE
    if not flag("restore_best", given["restore_best"]):
        plan["restore_best"] = False
    validated = given["validation"] is not None
    if given["metrics"] or given["monitor"] is not None or validated:
        plan.update(_metrics(given["metrics"], given["monitor"], validated, model.loss))
    plan["callbacks"] = callbacks_of(callback)
    if flag("progress", given["progress"]):
        from nnc.training.callbacks import Progress

        plan["progress"] = Progress(epochs, state.epoch)
    return plan


def _is_zero(value: Any) -> bool:
    """Whether it is the default of a number; what is no number is left to its check."""
    return isinstance(value, (float, int)) and value == 0


def settings(given: Mapping[str, Any], stack: Stack, state: State) -> dict[str, Any]:
    """What the core is told beside the optimizer's constants."""
    told: dict[str, Any] = {}
    if not (_is_zero(given["l1"]) and _is_zero(given["l2"])):
        told.update(l1=not_negative("l1", given["l1"]), l2=not_negative("l2", given["l2"]))
    for name in ("clip_norm", "clip_value", "max_norm"):
        if given[name] is not None:
            told[name] = positive(name, given[name])
    if flag("regularize_bias", given["regularize_bias"]):
        told["biases_too"] = True
    told.update(dropout_settings(given["dropout"], stack, state))
    return told


def dropout_settings(dropout: Any, stack: Stack, state: State) -> dict[str, Any]:
    """What the core is told of dropout, by the argument of a fit or by the network's own Dropout layers."""
    if _is_zero(dropout):
        if not stack.drops:
            return {}
        shares = [rate or 0.0 for rate in stack.dropout]
    elif stack.drops:
        raise ValueError(f"dropout must be left out where the network has Dropout layers, got {dropout!r}")
    else:
        n_hidden = len(stack.dropout)
        shares = [dropout] * n_hidden if np.ndim(dropout) == 0 else list(dropout)
        if len(shares) != n_hidden or (not n_hidden and np.ndim(dropout) == 0):
            raise ValueError(
                f"dropout must be one number or one for each of the {n_hidden} hidden layers, got {dropout!r}"
            )
        shares = [fraction("dropout", share) for share in shares]
    return {"dropout": shares, "drop_key": state.streams.key(DROPOUT)}


def _metrics(names: Any, monitor: Any, validated: bool, loss: str) -> dict[str, Any]:
    from nnc.data.metrics import METRICS

    prefix = "val_" if validated else ""
    of_classes = losses.ROWS[loss].of_classes
    known = [name for name, metric in METRICS.items() if (metric.takes == "classes") == of_classes]
    if not isinstance(names, (str, list, tuple)):
        raise TypeError(f"metrics must be names, such as ['r2'], got {shown(names)}")
    names = [names] if isinstance(names, str) else names
    for name in names:
        if isinstance(name, str) and name in METRICS and name not in known:
            kinds = ("numbers", "classes") if of_classes else ("classes", "numbers")
            raise ValueError(
                f"metrics: {name!r} is for losses of {kinds[0]}, and {loss!r} is one of {kinds[1]}: choose from "
                f"{', '.join(known)}"
            )
    metrics = {prefix + one_of("metrics", name, known): METRICS[name] for name in names}
    columns = ["loss", *(["val_loss"] if validated else []), *metrics]
    if monitor is None:
        monitor = "val_loss" if validated else "loss"
    elif monitor not in columns and prefix + str(monitor) in columns:
        monitor = prefix + monitor
    one_of("monitor", monitor, columns)
    better = monitor in metrics and metrics[monitor].larger_is_better
    return {"metrics": metrics, "monitor": monitor, "larger_is_better": better}


def callbacks_of(callback: Any) -> list[Callable[[Record], Any]]:
    """The argument as a list of functions, checked."""
    if callback is None:
        return []
    from nnc.training.callbacks import pace

    callbacks = list(callback) if isinstance(callback, (list, tuple)) else [callback]
    for function in callbacks:
        if not callable(function) or isinstance(function, type):
            raise TypeError(f"callback must be a function of an epoch's record, or several, got {function!r}")
        pace(function)
    return callbacks
