"""Operations that describe layers to exporters; each operation acts on one row.

Each layer class returns its operations. Exporters translate operations and need no layer classes. An image is an array
(height, width, channels). Vectors and matrices are lists, as in model files.
"""

from __future__ import annotations

from math import prod
from typing import Any

from nnc._utils.value import Value


class Operation(Value):
    """Base class of the operations that exporters translate.

    The shapes are those of one row before and after the operation. The number of steps of a sequence is None if the
    network accepts any number of steps.
    """

    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]


class Scale(Operation):
    """Elementwise operation (x - minus) * times + plus.

    Each list has one number for each element of a row, one for each channel, or one for all elements.
    """

    minus: list[float]
    times: list[float]
    plus: list[float]

    @property
    def is_by_element(self) -> bool:
        """Return whether the lists have one number for each element of a row."""
        return None not in self.input_shape and len(self.minus) == prod(self.input_shape)


class MatMul(Operation):
    """Matrix product x @ W + b for a row x, where W has the shape (n_in, n_out) and b may be None."""

    W: list[list[float]]
    b: list[float] | None


class StepMatMul(Operation):
    """Matrix product x @ W + b for each step x of a sequence (steps, n_in); b may be None."""

    W: list[list[float]]
    b: list[float] | None


class Direction(Value):
    """Parameters of the units of a recurrent layer that process the steps in one order.

    The columns of W and U are ordered by gate, then by unit. The gates are z, r, n in a GRU, and i, f, g, o in an LSTM.
    """

    W: list[list[float]]  # weights of the features of a step: (features, gates x units)
    U: list[list[float]]  # weights of the previous state: (units, gates x units)
    b: list[list[float]] | None  # one row of biases; in a GRU two rows, for x @ W and for h @ U
    reverse: bool  # whether the steps are processed from the last to the first

    @property
    def units(self) -> int:
        """Number of units, the length of the state h."""
        return len(self.U)


class Recur(Operation):
    """Recurrent layer for a sequence (steps, features), as defined in nnc/layers/recurrent.py; all states start at 0.

    Each step of the output contains the states h of all directions, in the order of the steps of the input.
    """

    cell: str  # "simple_rnn", "gru" or "lstm"
    activation: str  # activation of a simple_rnn; "tanh" in the other cells
    directions: tuple[Direction, ...]
    sequences: bool  # whether the output has all steps, or only the states after the last processed step


class Conv(Operation):
    """Cross-correlation of a zero-padded image, plus b.

    The rows of W are in the order window row, window column, channel; the columns are the filters.
    """

    W: list[list[float]]
    b: list[float] | None
    window: tuple[int, int]
    stride: tuple[int, int]
    pad: tuple[int, int, int, int]  # numbers of rows or columns of zeros at the top, left, bottom and right

    @property
    def dilation(self) -> int:
        """Distance between neighboring steps of a window in a convolution of sequences.

        If it is above 1, the image has this number of steps in each row, and windows are columns.
        """
        return self.input_shape[1] if self.window[0] > 1 else 1

    @property
    def n_states(self) -> int:
        """Number of inputs of earlier steps that a causal convolution of sequences depends on."""
        return (self.window[0] * self.window[1] - 1) * self.dilation * self.input_shape[2]


class MaxPool(Operation):
    """Max-pooling: maximum of each window in each channel."""

    window: tuple[int, int]
    stride: tuple[int, int]


class AvgPool(Operation):
    """Average pooling: mean of each window in each channel."""

    window: tuple[int, int]
    stride: tuple[int, int]


class Flatten(Operation):
    """Conversion of an image to a vector in the order row, column, channel."""


class Reshape(Operation):
    """Conversion of an image or sequence to another shape; the order of the numbers does not change."""


class Activate(Operation):
    """Activation function, given by its name."""

    name: str


class Sort(Operation):
    """Sorting of the quantiles of each target.

    The row consists of `groups` groups with n numbers each, one group for each quantile. For each j < n, the numbers
    j, j + n, j + 2 n, ... are sorted.
    """

    groups: int  # number of quantiles, each of which has one group of outputs


ALL = (Scale, MatMul, StepMatMul, Recur, Conv, MaxPool, AvgPool, Flatten, Reshape, Activate, Sort)


def with_activation(operation: Operation, name: str) -> list[Any]:
    """Return an operation followed by an activation, which is omitted if it is the identity."""
    shape = operation.output_shape
    return [operation] if name == "identity" else [operation, Activate(shape, shape, name)]


def with_shapes(operations: list[Any], input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> list[Any]:
    """Return the operations, after a Reshape from `input_shape` and before one to `output_shape` if shapes differ."""
    first, last = operations[0].input_shape, operations[-1].output_shape
    before = [Reshape(input_shape, first)] if first != input_shape else []
    after = [Reshape(last, output_shape)] if last != output_shape else []
    return [*before, *operations, *after]
