"""Models that are trained on derivatives of the targets with respect to the inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnc._model.model import sharing_model

if TYPE_CHECKING:
    from nnc._model.model import Model


def model_with_slopes(model: Model, weight: float) -> Model:
    """Return a model with the same parameters and locks, whose loss includes derivatives (src/objectives/slopes.pxd).

    `weight` is the weight of the squared errors of the derivatives `Data.dY`.
    """
    other = sharing_model(model)
    other.slope_weight = weight
    layers = [description for description, _ in model.stack.engine_layers()]
    other.engine = model.core.Engine(layers, model.loss, model.loss_parameter, slope_weight=weight)
    return other
