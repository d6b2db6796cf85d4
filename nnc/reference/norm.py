"""Batch normalization, a layer in which the rows of a batch depend on each other."""

from __future__ import annotations

import math
from itertools import chain
from typing import TYPE_CHECKING

from nnc.reference.images import chunks
from nnc.reference.layers import ACTIVATIONS, Dense, transposed

if TYPE_CHECKING:
    from nnc.reference.layers import Gradient, Row, Rows


def normalized(channel: Row, eps: float) -> tuple[list[float], float, float]:
    """Return (x - mean) / sqrt(variance + eps) for the values x of a channel, and their mean and variance."""
    mean = sum(channel) / len(channel)
    variance = sum((x - mean) * (x - mean) for x in channel) / len(channel)
    return [(x - mean) / math.sqrt(variance + eps) for x in channel], mean, variance


class BatchNorm(Dense):
    """Batch normalization (Ioffe and Szegedy, 2015): standardized channels with a learned scale and offset.

    z = gamma * (x - mean) / sqrt(variance + eps) + beta, a = f(z)

    gamma is W, with one row, and beta is b. A channel is a column of the batch; for images it includes all pixels. A
    training step uses mean and variance of its batch. Predictions use running statistics, which each step moves towards
    those of its batch, so a prediction does not depend on other rows.
    """

    momentum: float
    eps: float
    running_mean: list[float]
    running_var: list[float]

    def __init__(self, channels: int, activation: str, momentum: float, eps: float) -> None:
        super().__init__([[1.0] * channels], [0.0] * channels, activation)
        self.momentum, self.eps = momentum, eps
        self.running_mean, self.running_var = [0.0] * channels, [1.0] * channels
        self.batch: list[tuple[float, float, int]] = []  # mean, variance and count of each channel in the last step

    def channels(self, A: Rows) -> Rows:
        """Return the values of A in channels-first order: one list for each channel."""
        return transposed([pixel for row in A for pixel in chunks(row, self.n_out)])

    def rows(self, channels: list[list[float]], n: int) -> list[Row]:
        """Return the values of all channels as n rows; this is the inverse of `channels`."""
        numbers = list(chain(*zip(*channels)))
        return chunks(numbers, len(numbers) // n)

    def scaled(self, channels: list[list[float]], n: int) -> list[Row]:
        """Return f(gamma * x + beta) for standardized channels x and the activation f, as n rows."""
        f, _ = ACTIVATIONS[self.activation]
        return self.rows([[f(z) for z in channel] for channel in self.shifted(channels)], n)

    def shifted(self, channels: list[list[float]]) -> list[list[float]]:
        """Return the net inputs z = gamma * x + beta for standardized channels x."""
        return [[g * x + b for x in channel] for g, b, channel in zip(self.W[0], self.b or [], channels)]

    def forward(self, A_in: Rows) -> list[Row]:
        """Return the outputs A_out, for channels normalized with the running mean and variance."""
        running = zip(self.channels(A_in), self.running_mean, self.running_var)
        return self.scaled(
            [[(x - mean) / math.sqrt(var + self.eps) for x in channel] for channel, mean, var in running], len(A_in)
        )

    def forward_batch(self, A_in: Rows) -> list[Row]:
        """Return the outputs A_out, for channels normalized with the mean and variance of the batch."""
        standardized = [(*normalized(channel, self.eps), len(channel)) for channel in self.channels(A_in)]
        self.batch = [(mean, variance, n) for _, mean, variance, n in standardized]
        return self.scaled([x for x, *_ in standardized], len(A_in))

    def backward(self, A_in: Rows, A_out: Rows, dA: Rows) -> tuple[Rows, Gradient]:
        """Return delta = dL/dz (a list for each channel) and the gradients of gamma and beta, given dA = dL/dA_out."""
        _, derivative = ACTIVATIONS[self.activation]
        x = [normalized(channel, self.eps)[0] for channel in self.channels(A_in)]
        parts = zip(self.channels(dA), self.shifted(x), self.channels(A_out))
        delta = [[d * derivative(z, a) for d, z, a in zip(*part)] for part in parts]

        # z = gamma x + beta with standardized x, so dL/dgamma = sum of delta x, and dL/dbeta = sum of delta.
        dgamma = [sum(d * x for d, x in zip(*pair)) for pair in zip(delta, x)]
        return delta, ([dgamma], [sum(channel) for channel in delta])

    def input_gradient(self, A_in: Rows, delta: Rows) -> list[Row]:
        """Return dL/dA_in, the derivatives of the loss with respect to the inputs of the layer."""
        # An input changes its own output and, through mean and variance, all outputs of its channel. With means over
        # the channel, dL/da = gamma / sqrt(variance + eps) * (delta - mean of delta - x * mean of (delta x)).
        dA: list[list[float]] = []
        for gamma, d, channel in zip(self.W[0], delta, self.channels(A_in)):
            x, _, variance = normalized(channel, self.eps)
            n, scale = len(x), gamma / math.sqrt(variance + self.eps)
            d_mean, dx_mean = sum(d) / n, sum(a * b for a, b in zip(d, x)) / n
            dA.append([scale * (a - d_mean - b * dx_mean) for a, b in zip(d, x)])
        return self.rows(dA, len(A_in))

    def update_running_statistics(self) -> None:
        """Update the running mean and variance: running = (1 - momentum) * running + momentum * batch."""
        # Multiply the variance of n numbers by n / (n - 1), which makes it an unbiased estimate.
        m = self.momentum
        means, variances = zip(*((mean, variance * n / (n - 1)) for mean, variance, n in self.batch))
        self.running_mean = [(1 - m) * old + m * new for old, new in zip(self.running_mean, means)]
        self.running_var = [(1 - m) * old + m * new for old, new in zip(self.running_var, variances)]
