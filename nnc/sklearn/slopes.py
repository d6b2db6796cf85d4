"""Training of estimators on derivatives of the targets with respect to the features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import issparse

from nnc._data.slopes import as_slopes
from nnc._model.slopes import model_with_slopes
from nnc._registry.capabilities import check
from nnc._utils.checks import check_not_negative

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._model.model import Model


def with_slopes(estimator: Any, model: Model, X: Any, slopes: tuple[Any, float]) -> tuple[Model, NDArray[Any]]:
    """Return a model whose loss includes derivatives and that shares its parameters with `model`, and the array dY.

    `slopes` are dY and dY_weight.
    """
    check("dY", model)
    if issparse(X):
        raise TypeError("X must be a dense array if dY is passed, got a sparse matrix; use X.toarray()")
    if np.any(estimator.dropout):
        raise ValueError(f"dropout must be 0 if dY is passed, got {estimator.dropout!r}")
    dY, dY_weight = slopes
    weight = check_not_negative("dY_weight", dY_weight)
    return model_with_slopes(model, weight), as_slopes(model, dY, len(X))
