"""The options of a run: the arguments of `fit`, each checked once."""

from __future__ import annotations

from reprlib import repr as shown
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from nnc._registry import losses
from nnc._registry.optimizers import optimizer_from_dict
from nnc._utils import processors
from nnc._utils.checks import (
    check_bool,
    check_choice,
    check_count,
    check_fraction,
    check_not_nan,
    check_not_negative,
    check_positive,
)
from nnc._utils.random import DROPOUT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from nnc._data.converter import DataConverter
    from nnc._data.metrics import Metric
    from nnc._model.data import Data
    from nnc._model.model import Model
    from nnc._registry.losses import LossRow
    from nnc._training.arguments import Callback, FitArguments, Measure, Rate
    from nnc._training.callbacks import Lines, Progress
    from nnc._training.epoch_settings import EpochSettings
    from nnc._training.state import TrainingState
    from nnc._training.trainable import Trainable

NO_METRICS: Mapping[str, Metric] = {}
MIN_RELATIVE_IMPROVEMENT = 1e-4  # of the best value, where only patience may end a training whose loss creeps down
RESERVED = ("loss", "val_loss", "lr", "epoch_seconds", "seconds", "epoch", "best", "network")  # of a record, a History
MAX_THREADS = 64  # or the number of processors: more threads would only wait for each other
PRESETS = ("auto", "plain")  # values of `preset` besides None
STOPPING = ("patience", "target_loss", "max_seconds", "callback")  # arguments that may end a training before its epochs


class TrainingOptions:
    """What a run does, next to its data and the state that it continues. The defaults ask for nothing.

    Parameters
    ----------
    epochs : int or None
        None where another rule ends the run.
    settings : dict
        Settings of core.Training: penalties, clipping, dropout, how layers learn.

    Attributes
    ----------
    batch_size : int or None
        None: all rows.
    order : int array or None
        Order of the rows, which the core shuffles; None where it takes them in theirs.
    min_relative_delta : float
        Share of the best value that is added to `min_delta`.
    restore_best : str
        Which of the best weights the network ends with: the "first" or the "last" of equally good ones, or "".
    changes : Changes or None
        Sets weight decay and dropout before each epoch.
    display : Progress, Lines or None
        Shows the progress.
    network : object
        What a Record calls the network.
    preset : "auto" or "plain"
        The resolved preset.
    """

    batch_size: int | None = None
    order: NDArray[np.int32] | None = None
    n_threads: int | None = None
    metrics: Mapping[str, Metric] = NO_METRICS
    monitor: str = "loss"
    larger_is_better: bool = False
    patience: int | None = None
    min_delta: float = 0.0
    min_relative_delta: float = 0.0
    restore_best: str = ""
    target_loss: float | None = None
    max_seconds: float | None = None
    callbacks: Sequence[Callback] = ()
    display: Progress | Lines | None = None
    epoch_settings: EpochSettings | None = None
    network: Trainable | None = None
    preset: str = "plain"

    def __init__(self, epochs: int | None, settings: dict[str, Any]) -> None:
        self.epochs, self.settings = epochs, settings

    @property
    def may_stop_early(self) -> bool:
        """Whether another rule may end the run before its epochs are over."""
        return (
            self.patience is not None
            or self.target_loss is not None
            or self.max_seconds is not None
            or bool(self.callbacks)
        )

    @property
    def is_plain(self) -> bool:
        """Whether nothing happens between epochs, except with validation rows."""
        return not (
            self.may_stop_early or self.display or self.metrics or self.restore_best or self.epoch_settings is not None
        )


def uses_automatic_settings(arguments: FitArguments, state: TrainingState | None) -> bool:
    """Return whether a fit follows the rule of nnc/_training/defaults.py, which `preset` decides.

    If `preset` is None, that is where neither an argument nor the state that the network continues determines the
    learning rate. A fit without epochs and without a stopping rule begins anew.
    """
    if arguments.preset is not None:
        return check_choice("preset", arguments.preset, PRESETS) == "auto"
    if arguments.lr is not None or arguments.optimizer is not None:
        return False
    is_open = arguments.epochs is None and all(getattr(arguments, rule) is None for rule in STOPPING)
    return state is None or state.is_automatic or is_open


def checked_options(arguments: FitArguments, network: Trainable, state: TrainingState) -> TrainingOptions:
    """Check the arguments of a fit, as far as the data is not needed."""
    model = network.model
    epochs = arguments.epochs
    if epochs is not None:
        epochs = check_count("epochs", epochs)
    elif all(getattr(arguments, rule) is None for rule in STOPPING):
        raise TypeError(
            "epochs must be given where no other rule ends the training: "
            "patience, target_loss, max_seconds or a callback"
        )
    threads = checked_threads(arguments.n_threads)
    dropout, epoch_settings = arguments.dropout, None
    if arguments.weight_decay is not None or callable(dropout) or isinstance(dropout, (list, tuple)):
        from nnc._training.epoch_settings import schedule_settings

        arguments, epoch_settings = schedule_settings(arguments, model, state)
    options = TrainingOptions(epochs, settings(arguments, model, state))
    options.n_threads, options.epoch_settings = threads, epoch_settings
    options.batch_size = arguments.batch_size
    _check_stopping(arguments, options)
    if _are_given(arguments.metrics) or arguments.monitor is not None or arguments.validation is not None:
        _check_metrics(arguments, options, model)
    if arguments.callback is not None:
        options.callbacks, options.network = callbacks_of(arguments.callback), network
    _check_display(arguments, options, network, state)
    return options


def resolved_settings(
    converter: DataConverter, options: TrainingOptions, state: TrainingState, batch_size: int
) -> dict[str, Any]:
    """Return the settings of a run for its History: those that were named and those that were chosen."""
    lr: Any = state.lr if state.schedule is None else state.schedule
    if callable(lr) and not hasattr(lr, "to_dict"):  # a function, which a History could not be pickled with
        lr = getattr(lr, "__name__", type(lr).__name__)
    return {
        "preset": options.preset,
        "optimizer": state.optimizer,
        "lr": lr if hasattr(state.optimizer, "lr") else None,
        "batch_size": batch_size,
        "epochs": options.epochs,
        "scale_X": converter.scaler_X,
        "scale_y": converter.scaler_y,
    }


def settings_to_dict(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a History as plain values for files, which contain the scalings elsewhere."""
    lr = settings["lr"]
    return {
        **{name: settings[name] for name in ("preset", "batch_size", "epochs")},
        "optimizer": settings["optimizer"].to_dict(),
        "lr": lr.to_dict() if hasattr(lr, "to_dict") else lr,
    }


def settings_from_dict(document: dict[str, Any], converter: DataConverter) -> dict[str, Any]:
    """Return the settings that `settings_to_dict` has converted, with the scalings of a network."""
    from nnc._training.schedules import schedule_from_dict

    lr = document["lr"]
    return {
        "preset": document["preset"],
        "optimizer": optimizer_from_dict(document["optimizer"]),
        "lr": schedule_from_dict(lr) if isinstance(lr, dict) else lr,
        "batch_size": document["batch_size"],
        "epochs": document["epochs"],
        "scale_X": converter.scaler_X,
        "scale_y": converter.scaler_y,
    }


def checked_threads(n_threads: int | None) -> int | None:
    """Check a number of threads, of which no more are used than processors or MAX_THREADS."""
    if n_threads is None:
        return None
    threads = check_count("n_threads", n_threads)
    return threads if threads <= MAX_THREADS else min(threads, max(MAX_THREADS, processors.cpu_count()))


def _check_stopping(arguments: FitArguments, options: TrainingOptions) -> None:
    """Check what may end the run, and which weights it ends with."""
    if arguments.patience is not None:
        options.patience = check_count("patience", arguments.patience)
        options.restore_best = "first"
    if arguments.target_loss is not None:
        options.target_loss = check_not_nan("target_loss", arguments.target_loss)
    if arguments.max_seconds is not None:
        options.max_seconds = check_positive("max_seconds", arguments.max_seconds)
    if arguments.min_delta is not None:
        options.min_delta = check_not_negative("min_delta", arguments.min_delta)
    elif options.epochs is None and options.patience is not None:
        options.min_relative_delta = MIN_RELATIVE_IMPROVEMENT
    if arguments.restore_best is not None:
        options.restore_best = _which_best(arguments.restore_best)


def _which_best(restore_best: bool | str) -> str:
    """Return which of the best weights the network ends with."""
    if isinstance(restore_best, str):
        if restore_best == "last":
            return restore_best
        raise ValueError(f'restore_best must be True, False or "last", got {shown(restore_best)}')
    return "first" if check_bool("restore_best", restore_best) else ""


def _check_display(arguments: FitArguments, options: TrainingOptions, network: Trainable, state: TrainingState) -> None:
    progress, verbose = check_bool("progress", arguments.progress), arguments.verbose
    if verbose not in (0, 1, 2):
        raise ValueError(f"verbose must be 0, 1 or 2, got {shown(verbose)}")
    if progress and verbose:
        raise ValueError(f"verbose must be left out where progress=True shows a bar, got {verbose}")
    if progress or verbose:
        from nnc._training.callbacks import Lines, Progress

        epochs = options.epochs
        options.display = Progress(epochs, state.epoch) if progress else Lines(epochs, state.epoch, verbose == 2)
        options.network = network


def _is_zero(value: Rate | Sequence[Rate] | None) -> bool:
    """Return whether an argument is 0; what is no number is left to its check."""
    return isinstance(value, (float, int)) and value == 0


def settings(arguments: FitArguments, model: Model, state: TrainingState) -> dict[str, Any]:
    """Return the settings of the core next to the optimizer's constants."""
    told: dict[str, Any] = {}
    if model.has_learning_options or state.missed:
        if all(model.frozen or [False]):
            raise ValueError("all layers are frozen, so nothing would be learned: let one be trainable")
        told["learning"] = model.core_learning_options(state.missed)
    l1, l2, decay = arguments.l1, arguments.l2, arguments.weight_decay
    if not (_is_zero(l1) and _is_zero(l2)):
        told.update(l1=check_not_negative("l1", l1), l2=check_not_negative("l2", l2))
    if arguments.clip_norm is not None:
        told["clip_norm"] = check_positive("clip_norm", arguments.clip_norm)
    if arguments.clip_value is not None:
        told["clip_value"] = check_positive("clip_value", arguments.clip_value)
    if arguments.max_norm is not None:
        told["max_norm"] = check_positive("max_norm", arguments.max_norm)
    if decay is not None:  # a function stands for one that is not 0, or the run would be laid out for none
        told["decay"] = 1.0 if callable(decay) else check_not_negative("weight_decay", decay)
    if check_bool("regularize_bias", arguments.regularize_bias):
        told["biases_too"] = True
    if model.has_dropout or not _is_zero(arguments.dropout):
        dropout = cast("float | Sequence[float]", arguments.dropout)  # numbers stand for schedules, see changes.py
        told.update(dropout_settings(dropout, model, state))
    return told


def dropout_settings(dropout: float | Sequence[float], model: Model, state: TrainingState) -> dict[str, Any]:
    """Return the settings of dropout, of the argument of a fit or of the Dropout layers of the network."""
    stack = model.stack
    if _is_zero(dropout):
        if not model.has_dropout:
            return {}
        shares = [rate or 0.0 for rate in stack.dropout_rates]
    elif model.has_dropout:
        raise ValueError(f"dropout must be left out where the network has Dropout layers, got {dropout!r}")
    elif stack.has_batch_norm:
        raise ValueError(f"dropout must be said by Dropout layers where the network has BatchNorm, got {dropout!r}")
    else:
        n_hidden = len(stack.parametric_layers) - 1
        shares = (
            stack.hidden_dropout_rates(dropout) if np.ndim(dropout) == 0 else list(cast("Sequence[float]", dropout))
        )
        if len(shares) != n_hidden or (not n_hidden and np.ndim(dropout) == 0):
            raise ValueError(
                f"dropout must be one number or one for each of the {n_hidden} hidden layers, got {dropout!r}"
            )
        shares = model.by_engine_layer([check_fraction("dropout", share) for share in shares], 0.0)
    return {"dropout": shares, "drop_key": state.streams.key(DROPOUT)}


def _check_metrics(arguments: FitArguments, options: TrainingOptions, model: Model) -> None:
    """Check the metrics, and which column is monitored."""
    values, monitor, validated = arguments.metrics, arguments.monitor, arguments.validation is not None
    if model.heads is not None and _are_given(values):
        raise ValueError("metrics are of one loss, and this network has several heads: a callback can take them")
    prefix = "val_" if validated else ""
    metrics = _named_metrics(values, prefix, losses.ROWS[model.loss])
    columns = ["loss", *(["val_loss"] if validated else []), *metrics]
    if monitor is None:
        monitor = "val_loss" if validated else "loss"
    elif isinstance(monitor, str) and monitor not in columns and prefix + monitor in columns:
        monitor = prefix + monitor
    check_choice("monitor", monitor, columns)
    better = monitor in metrics and metrics[monitor].larger_is_better
    if better is None:
        raise ValueError(
            f"monitor: nothing says which way {monitor!r} is better: give "
            f"nnc.Metric({metrics[monitor].name!r}, function, larger_is_better=True) or False"
        )
    options.metrics, options.monitor, options.larger_is_better = metrics, monitor, better


def _are_given(metrics: Measure | Sequence[Measure]) -> bool:
    """Return whether the argument names any metric."""
    return not isinstance(metrics, (list, tuple)) or len(metrics) > 0


def _named_metrics(values: Measure | Sequence[Measure], prefix: str, loss: LossRow) -> dict[str, Metric]:
    """Return metrics by the names of their columns."""
    from nnc._data.metrics import Metric, as_metric

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
    return metrics


def check_weights(metrics: Mapping[str, Metric], rows: Data) -> None:
    """Raise where rows have weights, and the function of a metric does not take any."""
    for metric in () if rows.weights is None else metrics.values():
        if metric.is_custom and not metric.takes_weights:
            raise ValueError(
                f"metrics: the function of {metric.name!r} has to take sample_weight, as rows have weights"
            )


def callbacks_of(callback: Callback | Sequence[Callback] | None) -> list[Callback]:
    """Return the argument as a list of functions, checked."""
    if callback is None:
        return []
    from nnc._training.callbacks import pace

    callbacks = list(callback) if isinstance(callback, (list, tuple)) else [cast("Callback", callback)]
    for function in callbacks:
        if not callable(function) or isinstance(function, type):
            raise TypeError(f"callback must be a function of an epoch's record, or several, got {function!r}")
        pace(function)
    return callbacks
