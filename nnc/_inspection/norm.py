"""Batch normalization by the textbook formulas, with first-order bounds of its rounding errors.

The rows of X are the rows of the batch, or the pixels of all images; its columns are channels.
nnc/_inspection/rounding.py uses the bounds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


class Norm:
    """Normalization x = (X - mean) / sqrt(variance + eps) of each column; BatchNorm computes gamma * x + beta.

    Parameters
    ----------
    eps : float
        Number that is added to the variance.
    """

    def __init__(self, eps: float) -> None:
        self.eps = eps

    def _parts(self, X: Array) -> tuple[Array, Array, Array]:
        """Return X - mean, the variance, and 1 / sqrt(variance + eps); mean and variance are those of each column."""
        deviation = X - X.mean(axis=0)
        variance = (deviation**2).mean(axis=0)
        return deviation, variance, 1 / np.sqrt(variance + self.eps)

    def forward(self, X: Array) -> Array:
        """Return the normalized rows of X."""
        deviation, _, inverse = self._parts(X)
        return deviation * inverse

    def backward(self, X: Array, gamma: Array, delta: Array) -> Array:
        """Return the derivatives dL/dX of the loss from delta = dL/dz; z = gamma * x + beta for normalized rows x."""
        deviation, _, inverse = self._parts(X)
        x = deviation * inverse
        dX: Array = gamma * inverse * (delta - delta.mean(axis=0) - x * (delta * x).mean(axis=0))
        return dX

    def errors(self, X: Array, E: Array, eps: float, terms: float) -> tuple[Array, Array]:
        """Return bounds of the error of the normalized rows and of the relative error of 1 / sqrt(variance + self.eps).

        E is the error bound of X, and `eps` the machine epsilon. The factor `terms` bounds the error of a sum over a
        channel: it is at most terms * eps times the sum of the absolute values.
        """
        deviation, variance, inverse = self._parts(X)
        of_mean = E.mean(axis=0) + terms * eps * abs(X).mean(axis=0)
        of_variance = 2 * (abs(deviation) * E).mean(axis=0) + (terms + 2) * eps * variance
        relative = of_variance * inverse**2 / 2 + 3 * eps
        return inverse * (E + of_mean + eps * abs(deviation)) + abs(deviation) * inverse * relative, relative

    def back_through(
        self, X: Array, E_X: Array, gamma: Array, delta: Array, E: Array, eps: float, terms: float
    ) -> Array:
        """Return error bounds of dL/dX, given error bounds E_X of X and E of delta; `eps` is the machine epsilon."""
        E_x, relative = self.errors(X, E_X, eps, terms)
        _, _, inverse = self._parts(X)
        x, size = self.forward(X), abs(delta)
        mean, product = delta.mean(axis=0), (delta * x).mean(axis=0)
        of_mean = E.mean(axis=0) + terms * eps * size.mean(axis=0)
        of_product = (E * abs(x) + size * E_x + terms * eps * size * abs(x)).mean(axis=0)
        rounded = 3 * eps * (size + abs(mean) + abs(x * product))
        inner = E + of_mean + abs(x) * of_product + E_x * abs(product) + rounded
        error: Array = abs(gamma) * inverse * (inner + abs(delta - mean - x * product) * (relative + 2 * eps))
        return error

    def input_kinks(self, gamma: Array, kinks: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return a mask of the elements of X, which is True in all channels that contain a kink.

        A whole channel is marked, because each of its elements changes the mean and variance of the channel.
        """
        return np.broadcast_to(kinks.any(axis=0) & (gamma != 0), kinks.shape)
