"""Checked options of a run, built from the arguments of `fit`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from nnc._registry import losses
from nnc._registry.capabilities import PAIRS, check, check_arguments, is_given
from nnc._registry.optimizers import optimizer_from_dict
from nnc._training.arguments import CORE_OPTIONS, DEFAULTS
from nnc._utils.checks import check_choice, check_fraction, check_not_negative, short_repr
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
    from nnc._training.live import LivePlot
    from nnc._training.state import TrainingState
    from nnc._training.trainable import Trainable

NO_METRICS: Mapping[str, Metric] = {}
# Smallest improvement, as a fraction of the best value, that counts for `patience` in a fit without `epochs`. If every
# improvement counted, a loss that decreases very slowly would prevent the end of the training.
MIN_RELATIVE_IMPROVEMENT = 1e-4
# names that metrics must not have, because a Record or a History uses them
RESERVED = ("loss", "val_loss", "lr", "epoch_seconds", "seconds", "epoch", "best", "refit", "network")
MAX_EPOCHS = 10_000_000  # limit of a fit without `epochs`, whose history then takes 80 MB for each column
# options that need a certain network or optimizer, whatever the rows are
CHECKED_OPTIONS = ("l1", "weight_decay", "dropout", "clip_norm", "clip_value", "max_norm", "metrics", "truncate")


class TrainingOptions(NamedTuple):
    """Options of a run. By default, a run has no metrics, stopping rules or callbacks.

    Attributes
    ----------
    epochs : int or None
        Number of epochs; None if another rule ends the run.
    settings : dict
        Settings of core.Training: penalties, clipping, dropout, and the learning options of layers.
    batch_size : int or None
        Rows in a batch; None for all rows.
    order : int array (n,) or None
        Buffer in which the core shuffles the indices of the rows; None to keep their order.
    n_threads : int or None
        Maximum number of threads; None to choose it by measurement.
    metrics : dict
        Metrics by the names of their columns.
    monitor : str
        Column whose values determine the best epoch.
    larger_is_better : bool
        Whether larger values of `monitor` are better.
    patience, target_loss, max_seconds : number or None
        Stopping rules, as in `fit`.
    min_delta : float
        Smallest improvement that counts for `patience`.
    min_relative_delta : float
        Fraction of the best value that is added to `min_delta`.
    restore_best : str
        Which of several equally good epochs supplies the final parameters: "first" or "last"; "" to keep the last
        parameters.
    callbacks : sequence of callables
        Callbacks of the caller.
    epoch_settings : EpochSettings or None
        Schedules of weight decay and dropout.
    display : Progress, Lines, LivePlot or None
        Display of the progress.
    network : NeuralNetwork, Problem or None
        Value of `network` in a Record.
    preset : "auto" or "plain"
        Whether any setting was chosen automatically.
    selection : str or None
        Text that describes the settings which nnc/_training/selection.py has selected; None without a selection.
    refit : bool
        Whether the run trains on rows that were held out for this selection.
    is_uncertain : bool
        Whether the automatic settings are uncertain, because the fit has few rows.
    copies : str or None
        Text of the warning about rows that are copies of an earlier row; None without a validation, or without copies.
    is_interrupted : bool
        Whether Ctrl-C has ended the selection, so that the run ends before its first epoch.
    """

    epochs: int | None
    settings: Mapping[str, Any]
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
    display: Progress | Lines | LivePlot | None = None
    epoch_settings: EpochSettings | None = None
    network: Any = None
    preset: str = "plain"
    selection: str | None = None
    refit: bool = False
    is_uncertain: bool = False
    copies: str | None = None
    is_interrupted: bool = False

    @property
    def max_epochs(self) -> int:
        """Return the largest number of epochs of the run."""
        return MAX_EPOCHS if self.epochs is None else self.epochs

    @property
    def may_stop_early(self) -> bool:
        """Return whether a stopping rule or a callback may end the run before its last epoch."""
        return (
            self.patience is not None
            or self.target_loss is not None
            or self.max_seconds is not None
            or bool(self.callbacks)
        )

    @property
    def is_plain(self) -> bool:
        """Return whether the core may train several epochs in one call, if there are no validation rows."""
        return not (
            self.may_stop_early or self.display or self.metrics or self.restore_best or self.epoch_settings is not None
        )


def uses_automatic_settings(arguments: FitArguments, state: TrainingState | None) -> bool:
    """Return whether a fit chooses settings automatically, as nnc/_training/defaults.py describes.

    The argument `preset` decides. If it is None, settings are automatic if neither the arguments nor the state that the
    network continues set the learning rate. A fit without epochs and without a stopping rule does not continue a state,
    so only its arguments count.
    """
    if arguments.preset is not None:
        return arguments.preset == "auto"
    if arguments.lr is not None or arguments.optimizer is not None:
        return False
    starts_anew = arguments.epochs is None and not arguments.ends_training
    return state is None or state.is_automatic or starts_anew


def checked_options(
    arguments: FitArguments,
    given: Mapping[str, Any],
    model: Model,
    state: TrainingState,
    network: Trainable,
    preset: str,
    copies: str | None,
) -> TrainingOptions:
    """Return the options of a fit, after checking them together with the network and the optimizer.

    `given` are the arguments that were given; TrainingOptions describes `network`, `preset` and `copies`.
    """
    epochs, patience, min_delta = arguments.epochs, arguments.patience, arguments.min_delta
    if epochs is None and not arguments.ends_training:
        raise TypeError(
            "epochs must be set if no other argument ends the training (patience, target_loss, max_seconds or callback)"
        )
    check_arguments(PAIRS["fit"], given, DEFAULTS)
    check_options(given, model, state)
    dropout, epoch_settings = arguments.dropout, None
    if arguments.weight_decay is not None or callable(dropout) or isinstance(dropout, (list, tuple)):
        from nnc._training.epoch_settings import schedule_settings

        arguments, epoch_settings = schedule_settings(arguments, model, state)
    core_settings, fields = settings(arguments, model, state), {}
    if is_given(arguments.metrics, ()) or arguments.monitor is not None or arguments.validation is not None:
        fields = _metric_fields(arguments, model)
    is_relative = epochs is None and patience is not None and min_delta is None
    restores = patience is not None if arguments.restore_best is None else arguments.restore_best
    return TrainingOptions(
        epochs=epochs,
        settings=core_settings,
        batch_size=arguments.batch_size,
        n_threads=arguments.n_threads,
        patience=patience,
        min_delta=min_delta or 0.0,
        min_relative_delta=MIN_RELATIVE_IMPROVEMENT if is_relative else 0.0,
        restore_best="last" if restores == "last" else "first" if restores else "",
        target_loss=arguments.target_loss,
        max_seconds=arguments.max_seconds,
        epoch_settings=epoch_settings,
        callbacks=callbacks_of(arguments.callback),
        display=_display(arguments, epochs, state),
        network=network,
        preset=preset,
        copies=copies,
        **fields,
    )


def check_options(given: Mapping[str, Any], model: Model, state: TrainingState) -> None:
    """Raise ValueError if the network or the optimizer does not have what an option of a fit or of a layer needs."""
    optimizer = state.optimizer
    for name in CHECKED_OPTIONS:
        if name in given:
            check(name, model, optimizer=optimizer)
    if model.has_dropout or model.input_dropout_rates:
        check("a layer with dropout", optimizer=optimizer)
    if model.has_learning_options:
        kinds = [layer.kind for layer in model.stack.parametric_layers if not layer.kind.frozen]
        if any((kind.lr_factor, kind.bias_lr_factor) != (1, 1) for kind in kinds):
            check("lr_factor", optimizer=optimizer)


def resolved_settings(
    converter: DataConverter, options: TrainingOptions, state: TrainingState, batch_size: int
) -> dict[str, Any]:
    """Return the settings of a run for its History, including those that were chosen automatically."""
    lr: Any = state.lr if state.schedule is None else state.schedule
    if callable(lr) and not hasattr(lr, "to_dict"):  # replace a function by its name, as functions cannot be pickled
        lr = getattr(lr, "__name__", type(lr).__name__)
    return {
        "preset": options.preset,
        "optimizer": state.optimizer,
        "lr": lr if state.optimizer.first_order else None,
        "batch_size": batch_size,
        "epochs": options.epochs,
        "scale_X": converter.scaler_X,
        "scale_y": converter.scaler_y,
        "selection": options.selection,
    }


def settings_to_dict(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a History as plain values, without the scalings, which files store elsewhere."""
    from nnc._training.schedules import is_stored

    lr = settings["lr"]
    if callable(lr):  # replace a schedule of a user's class by its name, because files cannot restore it
        lr = lr.to_dict() if is_stored(lr) else type(lr).__name__
    return {
        **{name: settings[name] for name in ("preset", "batch_size", "epochs")},
        "optimizer": settings["optimizer"].to_dict(),
        "lr": lr,
        **({"selection": settings["selection"]} if settings["selection"] else {}),
    }


def settings_from_dict(document: dict[str, Any], converter: DataConverter) -> dict[str, Any]:
    """Restore settings from the result of `settings_to_dict`, and add the scalings of the network."""
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
        "selection": document.get("selection"),
    }


def _display(arguments: FitArguments, epochs: int | None, state: TrainingState) -> Progress | Lines | LivePlot | None:
    """Return the display that the arguments `progress` and `verbose` describe."""
    progress, verbose = arguments.progress, arguments.verbose
    if not (progress or verbose):
        return None
    if progress == "plot":
        from nnc._training.live import LivePlot

        return LivePlot()
    from nnc._training.callbacks import Lines, Progress

    return Progress(epochs, state.epoch) if progress else Lines(epochs, state.epoch, verbose == 2)


def _is_zero(value: Rate | Sequence[Rate] | None) -> bool:
    """Return whether an argument is the number 0."""
    return isinstance(value, (float, int)) and value == 0


def settings(arguments: FitArguments, model: Model, state: TrainingState) -> dict[str, Any]:
    """Return the core's settings for a fit, such as penalties and clipping, except the optimizer's constants."""
    core_settings: dict[str, Any] = {name: value for name in CORE_OPTIONS if (value := getattr(arguments, name))}
    if model.has_learning_options or state.frozen_steps:
        if all(model.frozen or [False]):
            raise ValueError(
                "the network must have a trainable layer, but all layers are frozen; "
                "set trainable = True for one of net.layers"
            )
        core_settings["learning"] = model.core_learning_options(state.frozen_steps)
    decay = arguments.weight_decay
    if decay is not None:  # 1.0 is a placeholder for a weight decay that a function sets before each epoch
        core_settings["decay"] = 1.0 if callable(decay) else check_not_negative("weight_decay", decay)
    if arguments.regularize_bias:
        core_settings["biases_too"] = True
    if model.has_dropout or not _is_zero(arguments.dropout):
        # The cast is valid, because schedule_settings() has replaced scheduled dropout rates by placeholders.
        dropout = cast("float | Sequence[float]", arguments.dropout)
        core_settings.update(dropout_settings(dropout, model, state))
    if model.input_dropout_rates:
        core_settings.update(input_dropout=model.input_dropout_rates, drop_key=state.streams.key(DROPOUT))
    return core_settings


def dropout_settings(dropout: float | Sequence[float], model: Model, state: TrainingState) -> dict[str, Any]:
    """Return the dropout settings of the core, from the argument of a fit or from the Dropout layers."""
    stack = model.stack
    if _is_zero(dropout):
        if not model.has_dropout:
            return {}
        rates = [rate or 0.0 for rate in stack.dropout_rates]
    else:
        n_hidden = len(stack.parametric_layers) - 1
        if is_list := isinstance(dropout, (list, tuple, np.ndarray)):
            rates = list(cast("Sequence[float]", dropout))
        else:
            rates = stack.hidden_dropout_rates(cast("float", dropout))
        if len(rates) != n_hidden or not (n_hidden or is_list):
            raise ValueError(
                f"dropout must be a number, or a list with one number per hidden layer (here {n_hidden}), "
                f"got {short_repr(dropout)}"
            )
        rates = model.by_engine_layer([check_fraction("dropout", rate) for rate in rates], 0.0)
    return {"dropout": rates, "drop_key": state.streams.key(DROPOUT)}


def _metric_fields(arguments: FitArguments, model: Model) -> dict[str, Any]:
    """Check the metrics and the monitored column, and return them as fields of TrainingOptions."""
    values, monitor, has_validation = arguments.metrics, arguments.monitor, arguments.validation is not None
    prefix = "val_" if has_validation else ""
    metrics = _named_metrics(values, prefix, losses.ROWS[model.loss])
    columns = ["loss", *(["val_loss"] if has_validation else []), *metrics]
    if monitor is None:
        monitor = "val_loss" if has_validation else "loss"
    elif isinstance(monitor, str) and monitor not in columns and prefix + monitor in columns:
        monitor = prefix + monitor
    check_choice("monitor", monitor, columns)
    larger_is_better = monitor in metrics and metrics[monitor].larger_is_better
    if larger_is_better is None:
        raise ValueError(
            f"monitor must be a metric that defines larger_is_better, got {monitor!r}; pass "
            f"nnc.Metric({metrics[monitor].name!r}, function, larger_is_better=True), or False if smaller is better"
        )
    return {"metrics": metrics, "monitor": monitor, "larger_is_better": larger_is_better}


def _named_metrics(values: Measure | Sequence[Measure], prefix: str, loss: LossRow) -> dict[str, Metric]:
    """Return a dict of the metrics, with the names of their History columns as keys."""
    from nnc._data.metrics import Metric, as_metric

    if isinstance(values, (str, Metric)) or callable(values):
        values = [values]
    if not isinstance(values, (list, tuple)):
        raise TypeError(f"metrics must be names or functions, such as ['r2'], got {short_repr(values)}")
    metrics: dict[str, Metric] = {}
    for metric in (as_metric("metrics", value, loss) for value in values):
        name = prefix + metric.name
        if metrics.get(name, metric) is not metric or name in RESERVED:
            raise ValueError(
                f"metrics must have unique names, but {metric.name!r} is already used; pass "
                "nnc.Metric(another_name, function)"
            )
        metrics[name] = metric
    return metrics


def check_weights(metrics: Mapping[str, Metric], rows: Data) -> None:
    """Raise ValueError if rows have weights, but the function of a metric has no argument for them."""
    for metric in () if rows.metric_weights is None else metrics.values():
        if metric.is_custom and not metric.takes_weights:
            raise ValueError(
                f"metrics must accept sample_weight if rows have weights, but the function of {metric.name!r} does not"
            )


def callbacks_of(callback: Callback | Sequence[Callback] | None) -> list[Callback]:
    """Return the callbacks as a list; raise an error if one of them is invalid."""
    if callback is None:
        return []
    from nnc._training.callbacks import call_interval

    callbacks = list(callback) if isinstance(callback, (list, tuple)) else [cast("Callback", callback)]
    for function in callbacks:
        if not callable(function) or isinstance(function, type):
            raise TypeError(
                "callback must be a function that takes a Record, or a list of such functions, got "
                f"{short_repr(function)}"
            )
        call_interval(function)
    return callbacks
