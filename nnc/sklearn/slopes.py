"""Training of estimators on derivatives of the targets with respect to the features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import issparse

from nnc._data.slopes import as_slopes, check_slopes
from nnc._model.extra_targets import model_with_slopes
from nnc._utils.checks import check_not_negative

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._network import NeuralNetwork


def with_slopes(
    estimator: Any, net: NeuralNetwork, X: Any, y: NDArray[Any], slopes: tuple[Any, float], validation: Any
) -> tuple[NeuralNetwork, NDArray[Any], Any]:
    """Return a network whose targets include derivatives, and targets of training and validation rows with them.

    The network shares its parameters with `net`. `slopes` are dY and dY_weight. All derivatives of the validation rows
    are missing.
    """
    check_slopes(net.model)
    if issparse(X):
        raise TypeError("X must be a dense array if dY is passed, got a sparse matrix; use X.toarray()")
    if np.any(estimator.dropout):
        raise ValueError(f"dropout must be 0 if dY is passed, got {estimator.dropout!r}")
    dY, dY_weight = slopes
    weight = check_not_negative("dY_weight", dY_weight)
    columns = as_slopes(net.model, dY, len(y)).reshape(len(y), -1)
    if validation is not None:
        X_val, y_val, weights = validation
        validation = X_val, np.hstack([y_val, np.full((len(y_val), columns.shape[1]), np.nan)]), weights
    other = object.__new__(type(net))
    vars(other).update(vars(net), model=model_with_slopes(net.model, weight))
    return other, np.hstack([y, columns]), validation
