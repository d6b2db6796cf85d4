"""Probabilities that mean what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    import numpy as np


def fit_temperature(logits: ArrayLike, index: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """The T > 0 for which softmax(logits / T) has the least cross-entropy on these validation rows. Logits may be
    logarithms of probabilities; (n, classes), index (n,)."""
    raise NotImplementedError


def with_temperature(P: ArrayLike, temperature: float) -> NDArray[np.float64]:
    """Probabilities (n, classes) as they are at a temperature: P**(1 / T), so that rows add up to 1."""
    raise NotImplementedError


def expected_calibration_error(P: ArrayLike, index: ArrayLike, bins: int = 15) -> float:
    """The mean of |accuracy - confidence| over bins of confidence, weighted by rows."""
    raise NotImplementedError
