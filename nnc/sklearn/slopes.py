"""Training of estimators on derivatives of the targets with respect to the features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import issparse

from nnc._data.slopes import as_slopes, check_slopes
from nnc._model.slopes import model_with_slopes
from nnc._utils.checks import check_not_negative

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._network import NeuralNetwork


def with_slopes(
    estimator: Any, net: NeuralNetwork, X: Any, slopes: tuple[Any, float]
) -> tuple[NeuralNetwork, NDArray[Any]]:
    """Return a network whose loss includes derivatives and that shares its parameters with `net`, and the array dY.

    `slopes` are dY and dY_weight.
    """
    check_slopes(net.model)
    if issparse(X):
        raise TypeError("X must be a dense array if dY is passed, got a sparse matrix; use X.toarray()")
    if np.any(estimator.dropout):
        raise ValueError(f"dropout must be 0 if dY is passed, got {estimator.dropout!r}")
    dY, dY_weight = slopes
    weight = check_not_negative("dY_weight", dY_weight)
    other = object.__new__(type(net))
    vars(other).update(vars(net), model=model_with_slopes(net.model, weight))
    return other, as_slopes(net.model, dY, len(X))
