"""Derivatives of the loss of a network of nnc.reference by central differences."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nnc.reference import NeuralNetwork


def numerical_derivatives(
    net: NeuralNetwork, X: list[list[float]], y: list[list[float]], row: list[float], h: float
) -> Iterator[float]:
    """Yield the derivative of the loss by each parameter of a row of the network's parameters."""
    for j, original in enumerate(row):
        row[j] = original + h
        loss_above = net.evaluate_loss(X, y)
        row[j] = original - h
        loss_below = net.evaluate_loss(X, y)
        row[j] = original
        yield (loss_above - loss_below) / (2 * h)
