"""Additional columns of the targets: derivatives with respect to the inputs, and weights of residuals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._model.channels import check_smooth
from nnc._model.data import Data
from nnc._model.extra_targets import model_with_weighted_residuals
from nnc._registry import losses
from nnc._utils.arrays import as_contiguous, as_real_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._data.converter import DataConverter
    from nnc._model.model import Model


def check_slopes(model: Model) -> None:
    """Raise ValueError if the network cannot be trained on derivatives."""
    check_smooth(model, "dY")
    if model.loss_function is not None or not losses.ROWS[model.loss].squared_error_factor:
        choices = ", ".join(row.name for row in losses.ROWS.values() if row.squared_error_factor)
        raise ValueError(f"dY requires a squared error ({choices}) as loss, got {model.loss_function or model.loss!r}")


def as_slopes(model: Model, dY: Any, n: int) -> NDArray[Any]:
    """Return the derivatives as an array (n, n_out, n_in) of float64, after checking that none is infinite."""
    n_in, n_out = model.sizes[0], model.sizes[-1]
    array = as_real_array("dY", dY)
    shape = array.shape
    if n_out == 1 and array.ndim == 2:
        array = array[:, None, :]
    if array.shape != (n, n_out, n_in):
        expected = f"({n}, {n_out}, {n_in})" + (f" or ({n}, {n_in})" if n_out == 1 else "")
        raise ValueError(f"dY must have shape {expected}, one number for each output and input, got {shape}")
    values = array.astype(np.float64)
    infinite = np.argwhere(np.isinf(values))
    if len(infinite):
        row, output, column = infinite[0].tolist()
        raise ValueError(
            f"dY must be finite or NaN, got {values[row, output, column]} in row {row}, output {output}, input {column}"
        )
    return values


def with_slopes(converter: DataConverter, data: Data, dY: NDArray[Any] | None) -> Data:
    """Return converted rows whose targets also contain derivatives; without dY, all derivatives are missing."""
    model, Y = converter.model, data.Y
    assert Y is not None
    slopes = np.full((data.n, model.sizes[-1], model.sizes[0]), np.nan) if dY is None else dY
    if converter.scaling_y is not None:
        slopes = slopes * converter.scaling_y.factor[:, None]
    if converter.scaling_X is not None:
        slopes = slopes / converter.scaling_X.factor
    targets = np.concatenate([Y, slopes.reshape(data.n, -1)], axis=1)
    return Data(data.X, as_contiguous(targets, model.dtype), None, data.weights)


def with_residual_weights(data: Data, weights: NDArray[Any] | None) -> Data:
    """Return converted rows whose targets have one more column: the weights divided by their mean; default 1."""
    assert data.Y is not None
    column = np.ones(data.n) if weights is None else weights / weights.mean(dtype=np.float64)
    return data.with_targets(np.column_stack([data.Y, column]).astype(data.Y.dtype))


def model_and_rows(
    converter: DataConverter, X: Any, y: Any, sample_weight: Any, learn: bool = False
) -> tuple[Model, Data]:
    """Return the model that computes the loss of the rows, and the converted rows.

    With nnc.LeastSquares, sample weights become an additional column of the targets, from which the returned model
    reads them. Otherwise the model is that of the converter.
    """
    model = converter.model
    if sample_weight is None or model.custom is None or not model.custom.has_residuals:
        return model, converter.data(X, y, sample_weight, learn=learn)
    data = converter.data(X, y, learn=learn)
    weights = converter.checked_weights("sample_weight", sample_weight, data.n)
    return model_with_weighted_residuals(model), with_residual_weights(data, weights)
