"""Random initial weights, drawn with the methods that nnc/_registry/initializers.py lists."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from nnc._registry.initializers import INITIALIZERS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._utils.random import Stream
    from nnc.layers.base import ParameterArray

CHUNK_WEIGHTS = 1 << 16  # number of weights drawn at a time, which limits the memory of temporary arrays


def draw_weights(W: NDArray[Any], b: NDArray[Any] | None, name: str, array: ParameterArray, stream: Stream) -> None:
    """Draw the weights of a layer, and the biases if the initialization draws them; other biases stay 0.

    Parameters
    ----------
    W, b : arrays (n_in, n_out) and (n_out,)
        Arrays to fill.
    name : str
        Name of a row of INITIALIZERS.
    array : ParameterArray
        Fan-in and fan-out of W.
    """
    row = INITIALIZERS[name]
    fan = row.fan(array.fan_in, array.fan_out)
    height = max(1, CHUNK_WEIGHTS // W.shape[1])
    for start in range(0, len(W), height):
        rows = W[start : start + height]
        if row.distribution == "normal":
            rows[...] = stream.normal(rows.shape) * math.sqrt(2 / fan)
        elif row.distribution == "symmetric":
            rows[...] = (2 * stream.uniform(rows.shape) - 1) * math.sqrt(6 / fan)
        elif row.distribution == "unit":
            rows[...] = stream.uniform(rows.shape)
        else:
            rows[...] = 0
    if row.draws_biases and b is not None:
        b[...] = stream.uniform(b.shape)
