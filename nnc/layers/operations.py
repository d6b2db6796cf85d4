"""What layers do to a row, in the few operations that every language has. A kind of layer says which ones it is made
of, and who writes a network in another format writes operations: it knows no kind of layer.

An image is an array (height, width, channels). Numbers and matrices are lists, as documents hold them.
"""

from __future__ import annotations

from typing import Any

from nnc._utils.value import Value


class Operation(Value):
    """What it gets and gives are the shapes of a row."""

    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]


class Scale(Operation):
    """(x - minus) * times + plus: of each a number for every number of a row, or for every channel, or one for all."""

    minus: list[float]
    times: list[float]
    plus: list[float]


class MatMul(Operation):
    """x @ W + b; W (numbers in, numbers out), b may be None."""

    W: list[list[float]]
    b: list[float] | None


class Conv(Operation):
    """A cross-correlation with zeros around the image, then + b. Rows of W are in the order of ky, kx and channel."""

    W: list[list[float]]
    b: list[float] | None
    window: tuple[int, int]
    stride: tuple[int, int]
    pad: tuple[int, int, int, int]  # rows above, columns to the left, rows below, columns to the right


class MaxPool(Operation):
    """The largest number of each window, channel by channel."""

    window: tuple[int, int]
    stride: tuple[int, int]


class AvgPool(Operation):
    """The mean of each window, channel by channel."""

    window: tuple[int, int]
    stride: tuple[int, int]


class Flatten(Operation):
    """An image becomes a vector: height, width, channel, the last one fastest."""


class Activate(Operation):
    """An activation, by its name."""

    name: str


class Sort(Operation):
    """The numbers j, j + n, j + 2 n, ... sorted for each j < n, where n is the length of a group.

    The groups are the quantiles of a network, in each of which there is a number for each target.
    """

    groups: int


ALL = (Scale, MatMul, Conv, MaxPool, AvgPool, Flatten, Activate, Sort)


def with_activation(operation: Operation, name: str) -> list[Any]:
    """An operation, and the activation behind it."""
    return (
        [operation]
        if name == "identity"
        else [operation, Activate(operation.output_shape, operation.output_shape, name)]
    )
