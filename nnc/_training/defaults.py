"""Automatic settings of `fit`: epochs, batch size, optimizer, learning rate and scalings that the caller does not set.

The values were chosen with benchmarks/defaults.py.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._registry.optimizers import parse_optimizer
from nnc._training.arguments import STOPPING
from nnc._training.options import uses_automatic_settings
from nnc._training.schedules import CosineLR, PerStep

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._data.converter import DataConverter
    from nnc._model.model import Model
    from nnc._training.arguments import FitArguments
    from nnc._training.plan import Plan
    from nnc._training.state import TrainingState

OPTIMIZER = "adam"
LEARNING_RATE = 0.001  # constant learning rate of a fit without a number of epochs
PEAK_LEARNING_RATE = 0.02  # initial learning rate if no neuron has more than MAX_PEAK_INPUTS inputs
MAX_PEAK_INPUTS = 64
MIN_STEPS, MIN_EPOCHS = 10_000, 20
MIN_BATCH_ROWS, MAX_BATCH_ROWS = 32, 256  # limits of the batch size, which is 1/100 of the number of rows
# Arguments that replace `epochs`. Callbacks are not included, because they need not end the fit.
STOPPING_RULES = {*STOPPING} - {"callback"}


def has_stopping_rule(arguments: FitArguments) -> bool:
    """Return whether the caller sets an argument that replaces `epochs`."""
    return any(getattr(arguments, name) is not None for name in STOPPING_RULES)


def selects_settings(arguments: FitArguments, state: TrainingState | None) -> bool:
    """Return whether a fit with enough rows selects the number of epochs, as nnc/_training/selection.py describes."""
    is_automatic = uses_automatic_settings(arguments, state) and not arguments.sets_rate
    return is_automatic and not has_stopping_rule(arguments)


def default_schedule(model: Model) -> CosineLR:
    """Return the automatic learning rate schedule of a fit.

    A step of Adam changes all weights by about the same amount. The net input of a neuron with many inputs
    therefore changes more than that of a neuron with few inputs, so the learning rate decreases with the number of
    inputs.
    """
    n_inputs = max(len(W) for W in model.W if W is not None)
    return CosineLR(PEAK_LEARNING_RATE * min(1.0, sqrt(MAX_PEAK_INPUTS / n_inputs)))


def default_batch_size(n: int) -> int:
    """Return the automatic batch size for n training rows."""
    batch_size = min(max(MIN_BATCH_ROWS, n // 100), MAX_BATCH_ROWS)
    while batch_size < n and n % batch_size == 1:  # BatchNorm needs at least two rows, also in the last batch
        batch_size += 1
    return batch_size


def default_epochs(n: int, batch_size: int) -> int:
    """Return the number of epochs for n rows, with at least MIN_EPOCHS epochs and MIN_STEPS steps."""
    return max(MIN_EPOCHS, -(-MIN_STEPS // -(-n // batch_size)))


def with_automatic_settings(plan: Plan, X: NDArray[Any], n: int) -> Plan:
    """Return the plan of a fit on n rows with automatic settings; its converter receives the automatic scalings.

    `X` are the inputs, as `choose_scalings` expects them.
    """
    choose_scalings(plan.converter, plan.network._automatic_scalings(), X, n)
    arguments = fill_arguments(plan.arguments, n, plan.model, plan.previous)
    return plan._replace(arguments=arguments, is_automatic=True)


def fill_arguments(arguments: FitArguments, n: int, model: Model, previous_state: TrainingState | None) -> FitArguments:
    """Return the arguments of a fit with automatic settings for those that the caller does not set.

    Parameters
    ----------
    arguments : FitArguments
        Arguments of the caller.
    n : int
        Number of rows.
    model : Model
        Network to train.
    previous_state : TrainingState or None
        State that the network could continue. The fit continues the state if its settings were automatic too, and if
        either epochs of its schedule are left, as after loading a checkpoint, or a stopping rule replaces `epochs`.
        Otherwise Adam starts anew.
    """
    if arguments.sets_rate:
        return _fill_around_rate(arguments, n, model, previous_state)
    batch_size = arguments.batch_size or default_batch_size(n)
    result = arguments._replace(batch_size=batch_size)
    continues = previous_state is not None and previous_state.is_automatic and not arguments.reset_optimizer
    epochs = arguments.epochs
    if epochs is None and has_stopping_rule(arguments):
        result = result._replace(lr=LEARNING_RATE)
        return result if continues else result._replace(optimizer=OPTIMIZER, reset_optimizer=True)
    if epochs is None:
        result = result._replace(epochs=default_epochs(n, batch_size))
    elif continues and previous_state is not None and isinstance(previous_state.schedule, PerStep):
        end, epoch = previous_state.schedule.epochs or 0, previous_state.epoch
        if 0 < epoch < end and epochs <= (previous_state.max_epochs or end) - epoch:
            return result._replace(lr=previous_state.schedule, epochs=min(epochs, end - epoch))
    return result._replace(lr=PerStep(default_schedule(model)), optimizer=OPTIMIZER, reset_optimizer=True)


def _fill_around_rate(
    arguments: FitArguments, n: int, model: Model, previous_state: TrainingState | None
) -> FitArguments:
    """Return the arguments with automatic settings; a learning rate or optimizer of the caller does not change."""
    batch_size, epochs = arguments.batch_size, arguments.epochs
    optimizer: Any = parse_optimizer(OPTIMIZER if arguments.optimizer is None else arguments.optimizer)
    if batch_size is None and optimizer.first_order:
        batch_size = default_batch_size(n)
    if epochs is None and not has_stopping_rule(arguments):
        epochs = default_epochs(n, batch_size or n)
    result = arguments._replace(batch_size=batch_size, epochs=epochs)
    if arguments.optimizer is None:
        return result._replace(optimizer=optimizer_to_begin(previous_state))
    if arguments.lr is None and optimizer.first_order and optimizer.lr == type(optimizer)().lr:
        return result._replace(lr=None if epochs is None else PerStep(default_schedule(model)))
    return result


def optimizer_to_begin(previous_state: TrainingState | None) -> str | None:
    """Return the name of the automatic optimizer, or None if the previous training state already has this optimizer."""
    is_current = previous_state is not None and previous_state.optimizer == parse_optimizer(OPTIMIZER)
    return None if is_current else OPTIMIZER


def choose_scalings(converter: DataConverter, automatic: frozenset[str], X: NDArray[Any], n: int) -> None:
    """Set the scalings of a new network that are "auto".

    Inputs are standardized, sequences for each feature. Images of dtype uint8 are scaled as pixels, other
    images are not scaled. Targets are standardized if they may be any numbers.

    Parameters
    ----------
    converter : DataConverter
        Conversion of the fit.
    automatic : set of str
        Scalings to choose: "scale_X", "scale_y", both or none.
    X : array
        Inputs.
    n : int
        Number of rows.
    """
    from nnc._data.scaling import Pixels, Standardize

    model, scaler_X, scaler_y = converter.model, converter.scaler_X, converter.scaler_y
    if "scale_X" in automatic:
        if not model.has_image_input:
            scaler_X = Standardize() if n > 1 else None
        elif X.dtype == np.uint8:
            scaler_X = Pixels()
            converter.scaling_X = scaler_X.scaling_without_data("scale_X", model.input_shape)
    is_regression = converter.loss.target_type == "continuous" and model.activations[-1] == "identity"
    if "scale_y" in automatic and is_regression and n > 1 and model.custom is None and model.heads is None:
        scaler_y = Standardize()
    converter.set_scalers(scaler_X, scaler_y)
