"""Derivatives by central differences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nnc.reference import NeuralNetwork


def numerical_derivatives(
    net: NeuralNetwork, X: list[list[float]], y: list[list[float]], row: list[float], h: float
) -> Iterator[float]:
    """Yield the derivative of the loss with respect to each parameter in `row`, a row of the network's parameters."""
    for j, original in enumerate(row):
        row[j] = original + h
        loss_above = net.evaluate_loss(X, y)
        row[j] = original - h
        loss_below = net.evaluate_loss(X, y)
        row[j] = original
        yield (loss_above - loss_below) / (2 * h)


def numerical_derivative(f, x, h=1e-5):
    """Return df/dx by central differences; the last axes are those of x."""
    parts = []
    for index in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[index] += h
        down[index] -= h
        parts.append((f(up) - f(down)) / (2 * h))
    return np.moveaxis(np.array(parts), 0, -1).reshape((*np.shape(parts[0]), *x.shape))
