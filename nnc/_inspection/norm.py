"""Batch normalization by its definition, and how far rounding may take it.

Rows are those of the batch, or the pixels of all its images; a column is a channel, whose numbers all depend on each
other. For nnc/_inspection/rounding.py errors go through mean and variance to first order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


class Norm:
    """x = (X - mean) / sqrt(variance + eps), column by column, which a layer then multiplies with gamma.

    Parameters
    ----------
    eps : float
    """

    def __init__(self, eps: float) -> None:
        self.eps = eps

    def _parts(self, X: Array) -> tuple[Array, Array, Array]:
        """X - mean, the variance, and 1 / sqrt(variance + eps)."""
        apart = X - X.mean(axis=0)
        variance = (apart**2).mean(axis=0)
        return apart, variance, 1 / np.sqrt(variance + self.eps)

    def forward(self, X: Array) -> Array:
        apart, _, inverse = self._parts(X)
        return apart * inverse

    def backward(self, X: Array, gamma: Array, delta: Array) -> Array:
        """dL/dX."""
        apart, _, inverse = self._parts(X)
        x = apart * inverse
        dX: Array = gamma * inverse * (delta - delta.mean(axis=0) - x * (delta * x).mean(axis=0))
        return dX

    def errors(self, X: Array, E: Array, eps: float, terms: float) -> tuple[Array, Array]:
        """The errors of x, by those of X, and the relative ones of 1 / sqrt(variance + eps); a sum over a channel is
        right to `terms` eps of its absolute values."""
        apart, variance, inverse = self._parts(X)
        of_mean = E.mean(axis=0) + terms * eps * abs(X).mean(axis=0)
        of_variance = 2 * (abs(apart) * E).mean(axis=0) + (terms + 2) * eps * variance
        relative = of_variance * inverse**2 / 2 + 3 * eps
        return inverse * (E + of_mean + eps * abs(apart)) + abs(apart) * inverse * relative, relative

    def back_through(
        self, X: Array, E_X: Array, gamma: Array, delta: Array, E: Array, eps: float, terms: float
    ) -> Array:
        """The errors of dL/dX, by those of X and of delta."""
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

    def bends_below(self, gamma: Array, bends: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which numbers of X act through a number that is at a bend: all of its channel do."""
        return np.broadcast_to(bends.any(axis=0) & (gamma != 0), bends.shape)
