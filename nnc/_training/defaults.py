"""The automatic rule of `fit`: epochs, batch size, optimizer, learning rate and scalings that are not named.

The rule was chosen with benchmarks/defaults.py.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._registry.optimizers import parse_optimizer
from nnc._training.options import STOPPING
from nnc._training.schedules import CosineLR, PerStep
from nnc._utils.checks import check_count

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._data.converter import DataConverter
    from nnc._model.model import Model
    from nnc._training.arguments import FitArguments
    from nnc._training.state import TrainingState
    from nnc._training.trainable import Trainable

OPTIMIZER, RATE = "adam", 0.001  # where it is not known how long; its own
PEAK, FEW_INPUTS = 0.02, 64  # the rate of the first step, where no neuron has more inputs; the last one's is next to 0
STEPS, EPOCHS = 10_000, 20  # at least
FEWEST, MOST = 32, 256  # rows of a step, in between a hundredth of all
ENDS = {*STOPPING} - {"callback"}  # end a training without epochs; a callback may only look on


def falling(model: Model) -> CosineLR:
    """The rate. A step of Adam changes each weight by as much, and so what a neuron adds up by the more, the more
    inputs it has."""
    most = max(len(W) for W in model.W if W is not None)
    return CosineLR(PEAK * min(1.0, sqrt(FEW_INPUTS / most)))


def batch_of(n: int) -> int:
    """How many of n rows a step takes."""
    batch = min(max(FEWEST, n // 100), MOST)
    while batch < n and n % batch == 1:  # a BatchNorm needs two rows
        batch += 1
    return batch


def chosen(
    arguments: FitArguments,
    network: Trainable,
    converter: DataConverter,
    X: NDArray[Any],
    n: int,
    before: TrainingState | None,
) -> FitArguments:
    """Return the arguments of a fit on n rows of X after the automatic rule, and set the scalings of `converter`."""
    scale(converter, network._automatic_scalings(), X, n)
    return filled(arguments, n, network.model, before)


def filled(arguments: FitArguments, n: int, model: Model, before: TrainingState | None) -> FitArguments:
    """Return the arguments of a fit, those that are not named replaced by the rule's.

    Parameters
    ----------
    arguments : FitArguments
    n : int
        Number of rows.
    model : Model
    before : TrainingState or None
        The state that the network could continue. Where that followed this rule, the fit continues it for the epochs
        that are left, as from a checkpoint, and where the length is not known; else Adam begins anew.
    """
    if arguments.names_rate:
        return _filled_around_named(arguments, n, model, before)
    batch = arguments.batch_size or batch_of(n)
    filled = arguments.replaced(batch_size=batch)
    continues = before is not None and before.by_rule and not arguments.reset_optimizer
    epochs = arguments.epochs
    if epochs is None and any(getattr(arguments, name) is not None for name in ENDS):  # at Adam's own rate
        filled.lr = RATE
        if not continues:
            filled.optimizer, filled.reset_optimizer = OPTIMIZER, True
        return filled
    if epochs is None:
        filled.epochs = max(EPOCHS, -(-STEPS // -(-n // batch)))
    elif (
        continues
        and before is not None
        and isinstance(before.schedule, PerStep)
        and check_count("epochs", epochs) <= (before.schedule.epochs or 0) - before.epoch
    ):
        filled.lr = before.schedule
        return filled
    filled.lr, filled.optimizer, filled.reset_optimizer = PerStep(falling(model)), OPTIMIZER, True
    return filled


def _filled_around_named(arguments: FitArguments, n: int, model: Model, before: TrainingState | None) -> FitArguments:
    """Return the arguments of a fit that names its learning rate or optimizer with the other settings of the rule."""
    filled = arguments.replaced()
    optimizer: Any = parse_optimizer(OPTIMIZER if arguments.optimizer is None else arguments.optimizer)
    is_first_order = hasattr(optimizer, "lr")
    if arguments.batch_size is None and is_first_order:
        filled.batch_size = batch_of(n)
    is_ended = any(getattr(arguments, name) is not None for name in ENDS)
    if arguments.epochs is None and not is_ended:
        filled.epochs = max(EPOCHS, -(-STEPS // -(-n // (filled.batch_size or n))))
    if arguments.optimizer is None:
        filled.optimizer = optimizer_to_begin(before)
    elif arguments.lr is None and is_first_order and optimizer.lr == type(optimizer)().lr:
        filled.lr = None if filled.epochs is None else PerStep(falling(model))
    return filled


def optimizer_to_begin(before: TrainingState | None) -> str | None:
    """Return the rule's optimizer, or None where the state that the network continues has that one."""
    return None if before is not None and before.optimizer == parse_optimizer(OPTIMIZER) else OPTIMIZER


def scale(converter: DataConverter, open_: frozenset[str], X: NDArray[Any], n: int) -> None:
    """Chooses the scalings that a fresh network leaves open. Images of whole bytes are pixels, others stay as they are;
    of targets, those are scaled that are numbers of any size."""
    from nnc._data.scaling import Pixels, Standardize

    model, scaler_X, scaler_y = converter.model, converter.scaler_X, converter.scaler_y
    if "scale_X" in open_:
        if len(model.input_shape) == 1:
            scaler_X = Standardize() if n > 1 else None
        elif X.dtype == np.uint8:
            scaler_X = Pixels()
            converter.scaling_X = scaler_X.scaling_without_data("scale_X", model.input_shape)
    of_numbers = converter.loss.target_type == "continuous" and model.activations[-1] == "identity"
    if "scale_y" in open_ and of_numbers and n > 1 and model.custom is None and model.heads is None:
        scaler_y = Standardize()
    converter.set_scalers(scaler_X, scaler_y)
