"""The arguments of `fit`, checked once. They stand with their defaults in its signature; here each has its check."""

from __future__ import annotations

from reprlib import repr as shown
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc.base import processors
from nnc.base.checks import count, flag, fraction, no_nan, not_negative, one_of, positive
from nnc.base.random import DROPOUT
from nnc.kinds import losses

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from nnc.data.metrics import Metric
    from nnc.kinds.losses import LossRow
    from nnc.model.data import Data
    from nnc.model.model import Model
    from nnc.training.callbacks import Lines, Progress, Record
    from nnc.training.state import State

NO_METRICS: Mapping[str, Metric] = {}
MIN_SHARE = 1e-4  # of the best so far: what an improvement is where nothing but patience may end the creeping of a loss


def unchanged(training: Any, epoch: int) -> None:
    """Where weight decay and dropout are the same in every epoch."""


class Plan:
    """What a run does, beside its data and the state that it goes on from. What is left out is not asked for."""

    epochs: int | None
    is_bare: bool = False  # nothing is asked for but how the epochs are done
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
    keeps_best: str = ""  # which of the best weights the network ends with: the "first", or the "last" of equal ones
    target_loss: float | None = None
    max_seconds: float | None = None
    callbacks: Sequence[Callable[[Record], Any]] = ()
    display: Progress | Lines | None = None  # of how far it has come
    changes: Callable[[Any, int], None] = staticmethod(unchanged)  # what is done before each epoch
    network: Any = None  # what a Record calls the network, where there is one

    def __init__(self, **given: Any) -> None:
        vars(self).update(given)


CHECKS: Mapping[str, Callable[[str, Any], Any]] = {
    "patience": count,
    "target_loss": no_nan,
    "max_seconds": positive,
    "min_delta": not_negative,
}
SETTINGS = frozenset({"l1", "l2", "dropout", "weight_decay", "clip_norm", "clip_value", "max_norm", "regularize_bias"})
RESERVED = ("loss", "val_loss", "lr", "epoch_seconds", "seconds", "epoch", "best", "network")  # of a record, a History
FEW = {"epochs", "lr", "optimizer", "batch_size", "shuffle", "n_threads"}  # which most fits say
MOST_THREADS = 64  # or as many as there are processors: more of them would only wait for each other
RULES = ("patience", "target_loss", "max_seconds", "callback")  # what may end a training, beside its epochs


def left_to_rule(said: Mapping[str, Any], state: State | None) -> bool:
    """Whether a fit goes by the rule of nnc/training/defaults.py: nothing says how fast it learns, neither an argument
    nor what the network goes on from. One that says nothing of its end either begins anew."""
    if "lr" in said or "optimizer" in said:
        return False
    return state is None or state.by_rule or said.keys().isdisjoint(("epochs", *RULES))


def options(said: Mapping[str, Any], network: Any, state: State) -> dict[str, Any]:
    """The arguments of `fit` that need no data, as a Plan takes them.

    Parameters
    ----------
    said : dict
        The arguments by their names, those that are not the defaults.
    """
    model, epochs = network.model, said.get("epochs")
    if epochs is not None:
        epochs = count("epochs", epochs)
    elif all(said.get(rule) is None for rule in RULES):
        raise TypeError(
            "epochs must be given where no other rule ends the training: "
            "patience, target_loss, max_seconds or a callback"
        )
    plan: dict[str, Any] = {"epochs": epochs}
    if "n_threads" in said:
        plan["n_threads"] = threads = count("n_threads", said["n_threads"])
        if threads > MOST_THREADS:
            plan["n_threads"] = min(threads, max(MOST_THREADS, processors.cpu_count()))
    if said.keys() <= FEW:
        plan["settings"], plan["is_bare"] = settings(said, model, state), True
        return plan
    if not said.keys().isdisjoint(("weight_decay", "dropout")):
        from nnc.training.changes import changes

        said, change = changes(said, model, state)
        if change is not None:
            plan["changes"] = change
    plan["settings"] = settings(said, model, state)
    for name, check in CHECKS.items():
        if name in said:
            plan[name] = check(name, said[name])
    if epochs is None and "patience" in plan and "min_delta" not in plan:
        plan["min_share"] = MIN_SHARE
    best = _best(said.get("restore_best"), plan.get("patience"))
    if best:
        plan["keeps_best"] = best
    metrics, monitor, validated = said.get("metrics", ()), said.get("monitor"), "validation" in said
    measures = not isinstance(metrics, (list, tuple)) or len(metrics) > 0
    if measures or monitor is not None or validated:
        if measures and model.heads is not None:
            raise ValueError("metrics are of one loss, and this network has several heads: a callback can take them")
        plan.update(_metrics(metrics, monitor, validated, losses.ROWS[model.loss]))
    if "callback" in said:
        plan["callbacks"], plan["network"] = callbacks_of(said["callback"]), network
    progress, verbose = flag("progress", said.get("progress", False)), said.get("verbose", 0)
    if verbose not in (0, 1, 2):
        raise ValueError(f"verbose must be 0, 1 or 2, got {shown(verbose)}")
    if progress and verbose:
        raise ValueError(f"verbose must be left out where progress=True shows a bar, got {verbose}")
    if progress or verbose:
        from nnc.training.callbacks import Lines, Progress

        plan["display"] = Progress(epochs, state.epoch) if progress else Lines(epochs, state.epoch, verbose == 2)
        plan["network"] = network
    return plan


def _is_zero(value: Any) -> bool:
    """Whether it is the default of a number; what is no number is left to its check."""
    return isinstance(value, (float, int)) and value == 0


def settings(said: Mapping[str, Any], model: Model, state: State) -> dict[str, Any]:
    """What the core is told beside the optimizer's constants."""
    told: dict[str, Any] = {}
    if model.uneven or state.missed:
        if all(model.frozen or [False]):
            raise ValueError("all layers are frozen, so nothing would be learned: let one be trainable")
        told["learning"] = model.learning(state.missed)
    if said.keys().isdisjoint(SETTINGS) and not model.drops:
        return told
    l1, l2 = said.get("l1", 0.0), said.get("l2", 0.0)
    if not (_is_zero(l1) and _is_zero(l2)):
        told.update(l1=not_negative("l1", l1), l2=not_negative("l2", l2))
    for name in ("clip_norm", "clip_value", "max_norm"):
        if said.get(name) is not None:
            told[name] = positive(name, said[name])
    decay = said.get("weight_decay")
    if decay is not None:  # a function stands for one that is not 0, or the run would be laid out for none
        told["decay"] = 1.0 if callable(decay) else not_negative("weight_decay", decay)
    if flag("regularize_bias", said.get("regularize_bias", False)):
        told["biases_too"] = True
    told.update(dropout_settings(said.get("dropout", 0.0), model, state))
    return told


def dropout_settings(dropout: Any, model: Model, state: State) -> dict[str, Any]:
    """What the core is told of dropout, by the argument of a fit or by the network's own Dropout layers."""
    stack = model.stack
    if _is_zero(dropout):
        if not model.drops:
            return {}
        shares = [rate or 0.0 for rate in stack.dropout]
    elif model.drops:
        raise ValueError(f"dropout must be left out where the network has Dropout layers, got {dropout!r}")
    elif stack.norms:
        raise ValueError(f"dropout must be said by Dropout layers where the network has BatchNorm, got {dropout!r}")
    else:
        n_hidden = len(stack.computing) - 1
        shares = stack.dropping(dropout) if np.ndim(dropout) == 0 else list(dropout)
        if len(shares) != n_hidden or (not n_hidden and np.ndim(dropout) == 0):
            raise ValueError(
                f"dropout must be one number or one for each of the {n_hidden} hidden layers, got {dropout!r}"
            )
        shares = model.by_place([fraction("dropout", share) for share in shares], 0.0)
    return {"dropout": shares, "drop_key": state.streams.key(DROPOUT)}


def _best(restore_best: Any, patience: int | None) -> str:
    """Which of the best weights the network is to end with."""
    if restore_best is None:
        return "first" if patience is not None else ""
    if isinstance(restore_best, str):
        if restore_best == "last":
            return restore_best
        raise ValueError(f'restore_best must be True, False or "last", got {shown(restore_best)}')
    return "first" if flag("restore_best", restore_best) else ""


def _metrics(values: Any, monitor: Any, validated: bool, loss: LossRow) -> dict[str, Any]:
    from nnc.data.metrics import Metric, as_metric

    prefix = "val_" if validated else ""
    if isinstance(values, (str, Metric)) or callable(values):
        values = [values]
    if not isinstance(values, (list, tuple)):
        raise TypeError(f"metrics must be names or functions, such as ['r2'], got {shown(values)}")
    metrics: dict[str, Metric] = {}
    for metric in (as_metric("metrics", value, loss) for value in values):
        name = prefix + metric.name
        if metrics.get(name, metric) is not metric or name in RESERVED:
            raise ValueError(f"metrics: the name {metric.name!r} is taken, give nnc.Metric(another_name, function)")
        metrics[name] = metric
    columns = ["loss", *(["val_loss"] if validated else []), *metrics]
    if monitor is None:
        monitor = "val_loss" if validated else "loss"
    elif isinstance(monitor, str) and monitor not in columns and prefix + monitor in columns:
        monitor = prefix + monitor
    one_of("monitor", monitor, columns)
    better = monitor in metrics and metrics[monitor].larger_is_better
    if better is None:
        raise ValueError(
            f"monitor: nothing says which way {monitor!r} is better: give "
            f"nnc.Metric({metrics[monitor].name!r}, function, larger_is_better=True) or False"
        )
    return {"metrics": metrics, "monitor": monitor, "larger_is_better": better}


def check_weights(plan: Plan, rows: Data) -> None:
    """Raises where rows have weights, and a metric of the user's on them takes none."""
    for metric in () if rows.weights is None else plan.metrics.values():
        if metric.is_given and not metric.takes_weights:
            raise ValueError(
                f"metrics: the function of {metric.name!r} has to take sample_weight, as rows have weights"
            )


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
