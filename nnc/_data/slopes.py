"""Derivatives of the targets with respect to the inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._utils.arrays import as_real_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._model.model import Model


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
