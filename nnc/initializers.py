"""Initial weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc.base.random import Stream

CHUNK = 1 << 16  # weights that are drawn at a time, so that a large matrix takes no memory beside its own

NAMES = ("uniform", "glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "zeros")


def fill(W: NDArray[Any], name: str, stream: Stream) -> None:
    """Draws a weight matrix (n_in, n_out) by the name of its initialization.

    uniform is U(0, 1), the tutorial's; glorot_uniform U(-a, a) with a = sqrt(6 / (n_in + n_out)); he_uniform U(-a, a)
    with a = sqrt(6 / n_in); glorot_normal and he_normal are normal with the variances 2 / (n_in + n_out) and 2 / n_in.
    """
    n_in, n_out = W.shape
    fan = n_in + n_out if name.startswith("glorot") else n_in
    height = max(1, CHUNK // n_out)
    for start in range(0, n_in, height):
        rows = W[start : start + height]
        if name == "zeros":
            rows[...] = 0
        elif name == "uniform":
            rows[...] = stream.uniform(rows.shape)
        elif name.endswith("normal"):
            rows[...] = stream.normal(rows.shape) * math.sqrt(2 / fan)
        else:
            rows[...] = (2 * stream.uniform(rows.shape) - 1) * math.sqrt(6 / fan)
