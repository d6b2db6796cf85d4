"""Random initial weights, drawn with the methods that nnc/_registry/initializers.py lists."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._registry.initializers import INITIALIZERS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._utils.random import Stream
    from nnc.layers.base import ParameterArray

SIREN_FREQUENCY = 30.0  # with "siren", weights of the first layer are uniform up to this number / fan-in
CHUNK_WEIGHTS = 1 << 16  # number of weights drawn at a time, which limits the memory of temporary arrays


def draw_weights(
    W: NDArray[Any], b: NDArray[Any] | None, name: str, array: ParameterArray, stream: Stream, is_first: bool = False
) -> None:
    """Draw the weights of a layer, and the biases if the initialization draws them; other biases stay 0.

    Parameters
    ----------
    W, b : arrays (n_in, n_out) and (n_out,)
        Arrays to fill.
    name : str
        Name of a row of INITIALIZERS.
    array : ParameterArray
        Fan-in and fan-out of W, and the number of units if the layer is recurrent.
    stream : Stream
        Source of the random numbers.
    is_first : bool
        Whether the layer is the first one with random weights.
    """
    if array.units:
        _draw_recurrent_weights(W, b, name, array, stream)
        return
    row = INITIALIZERS[name]
    fan = row.fan(array.fan_in, array.fan_out)
    height = max(1, CHUNK_WEIGHTS // W.shape[1])
    for start in range(0, len(W), height):
        rows = W[start : start + height]
        if row.distribution == "normal":
            rows[...] = stream.normal(rows.shape) * math.sqrt(2 / fan)
        elif row.distribution in ("symmetric", "siren"):
            limit = SIREN_FREQUENCY / fan if is_first and row.distribution == "siren" else math.sqrt(6 / fan)
            rows[...] = (2 * stream.uniform(rows.shape) - 1) * limit
        elif row.distribution == "unit":
            rows[...] = stream.uniform(rows.shape)
        else:
            rows[...] = 0
    if row.draws_biases and b is not None:
        phases = stream.uniform(b.shape)
        b[...] = (2 * phases - 1) * math.pi if row.distribution == "siren" else phases


def _draw_recurrent_weights(
    W: NDArray[Any], b: NDArray[Any] | None, name: str, array: ParameterArray, stream: Stream
) -> None:
    """Draw the weights of a recurrent layer: for each direction the weights of the inputs, then of the states.

    The arguments are those of `draw_weights`. The weights U of the states have orthonormal rows (Saxe, McClelland and
    Ganguli, 2014). The biases of the forget gate of an LSTM are 1.
    """
    units, columns, features = array.units, array.fan_out, array.fan_in
    inputs = array.replace(units=0)
    for start in range(0, W.shape[1], columns):
        part = W[:, start : start + columns]
        draw_weights(part[:features], None, name, inputs, stream)
        if name == "zeros":
            part[features:] = 0
        else:
            part[features:] = orthonormal_rows(stream.normal((units, columns)))
        # Set the biases of the forget gate of an LSTM, the only layer with four gates.
        if b is not None and columns == 4 * units:
            b[start + units : start + 2 * units] = 1


def orthonormal_rows(rows: NDArray[Any]) -> NDArray[Any]:
    """Return orthonormal rows that span the same space as `rows` (n, m), n <= m, by the Gram-Schmidt process.

    The process runs twice for each row, which limits the rounding errors. It does not call LAPACK, whose results depend
    on the machine.
    """
    for i, row in enumerate(rows):
        for _ in range(2):
            products = (rows[:i] * row).sum(axis=1)
            row -= (products[:, np.newaxis] * rows[:i]).sum(axis=0)
        row /= math.sqrt((row * row).sum())
    return rows
