"""Random targets for each loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._registry import losses

if TYPE_CHECKING:
    from numpy.typing import NDArray


def draw_targets(loss: str, rng: np.random.Generator, rows: int, n_out: int) -> NDArray[Any]:
    """Return targets (rows, n_out) of the type that the loss needs; probabilities instead of labels."""
    target_type = losses.ROWS[loss].target_type
    if target_type == "counts":
        return rng.poisson(2.0, (rows, n_out)).astype(np.float64)
    if target_type == "multilabel":
        return rng.uniform(size=(rows, n_out))
    if target_type == "plus_minus_one":
        return rng.choice([-1.0, 1.0], (rows, n_out))
    if target_type == "probabilities":
        return rng.dirichlet(np.ones(n_out), rows)
    return rng.normal(size=(rows, n_out))
