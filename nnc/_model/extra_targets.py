"""Models whose targets have additional columns: derivatives with respect to the inputs, or weights of residuals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnc._model.custom import CustomLoss, LeastSquares, WeightedLeastSquares
from nnc._model.data import Data

if TYPE_CHECKING:
    from nnc._model.model import Model


def model_with_slopes(model: Model, weight: float) -> Model:
    """Return a model with the same parameters and locks, whose targets include derivatives (src/slopes.pxd).

    Rows of Y contain the targets of the values (n_out), then those of the derivatives (n_out, n_in), with NaN for a
    missing one. `weight` is the weight of the squared errors of the derivatives.
    """
    other = object.__new__(type(model))
    vars(other).update(vars(model))
    other.bound_model, other.slope_weight = None, weight
    layers = [description for description, _ in model.stack.engine_layers()]
    other.engine = model.core.Engine(layers, model.loss, model.loss_parameter, slope_weight=weight)
    return other


def model_with_weighted_residuals(model: Model) -> Model:
    """Return a model with the same parameters and locks, whose loss reads weights from the last column of Y."""
    assert model.custom is not None
    assert isinstance(model.custom.function, LeastSquares)
    other = object.__new__(type(model))
    vars(other).update(vars(model))
    other.bound_model = None
    other.custom = other.loss_function = CustomLoss(WeightedLeastSquares(model.custom.function.function))
    return other


def without_extra_targets(model: Model, data: Data) -> Data:
    """Return rows without the additional columns of the targets, for metrics."""
    if model.slope_weight is not None:
        assert data.Y is not None
        return Data(data.X, data.Y[:, : model.sizes[-1]], None, data.weights)
    if model.custom is not None and isinstance(model.custom.function, WeightedLeastSquares):
        assert data.Y is not None
        return Data(data.X, data.Y[:, :-1], None, data.Y[:, -1])
    return data
