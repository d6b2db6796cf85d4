"""Layers for sequences: dense layer on each step, convolution and pooling.

A sequence of shape (steps, features) is stored as one row of numbers. The value of feature c in step t has the
index t * features + c. A window is a list of the indices of the elements that a layer combines, as for images.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from nnc.reference.images import AvgPool2D, Conv2D, MaxPool2D, chunks
from nnc.reference.layers import Dense

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nnc.reference.images import Window
    from nnc.reference.layers import Gradient, Rows


def sequence_windows(
    input_shape: Sequence[int], n: int, size: int, stride: int = 1, dilation: int = 1, zeros: int = 0
) -> list[Window]:
    """Return the n windows of a sequence, one for each step of the output.

    The window of output step t consists of the steps t * stride + k * dilation - zeros for each k < size, where `zeros`
    is the number of zeros before the sequence. Steps outside of the sequence have index None.
    """
    steps, features = input_shape

    def numbers(t: int) -> list[int | None]:
        return [t * features + c if 0 <= t < steps else None for c in range(features)]

    return [[numbers(t * stride + k * dilation - zeros) for k in range(size)] for t in range(n)]


class StepDense(Dense):
    """Dense layer that is applied to each step of a sequence."""

    def steps(self, sequences: Rows, n: int) -> Rows:
        """Return one row of n numbers for each step of each sequence."""
        return [step for sequence in sequences for step in chunks(sequence, n)]

    def sequences(self, steps: Rows, count: int) -> Rows:
        """Join each `count` consecutive rows, one for each step, into one sequence."""
        return [list(chain(*steps[first : first + count])) for first in range(0, len(steps), count)]

    def forward(self, A_in: Rows) -> Rows:
        """Return the outputs A_out of all steps, in one row for each sequence."""
        return self.sequences(super().forward(self.steps(A_in, self.n_in)), len(A_in[0]) // self.n_in)

    def backward(self, A_in: Rows, A_out: Rows, dA: Rows) -> tuple[Rows, Gradient]:
        """Return delta = dL/dZ of the net inputs, a row for each step, and (dW, db), given dA = dL/dA_out."""
        A_out, dA = self.steps(A_out, self.n_out), self.steps(dA, self.n_out)
        return super().backward(self.steps(A_in, self.n_in), A_out, dA)

    def input_gradient(self, A_in: Rows, delta: Rows) -> Rows:
        """Return dL/dA_in, the derivatives of the loss with respect to the inputs of the layer."""
        return self.sequences(super().input_gradient(A_in, delta), len(A_in[0]) // self.n_in)


class Conv1D(Conv2D):
    """Convolutional layer of sequences: a dense layer that is applied to each window.

    a[t][j] = f(b[j] + the sum over k and c of x[t * stride + k * dilation - zeros][c] * W[k * features + c][j])

    j is the filter, f the activation and `zeros` the number of zeros before the sequence.
    """


class MaxPool1D(MaxPool2D):
    """Max-pooling of sequences: output a[t][c] of step t, feature c is the maximum over k of x[t * stride + k][c]."""


class AvgPool1D(AvgPool2D):
    """Average pooling of sequences: output a[t][c] of step t, feature c is the mean over k of x[t * stride + k][c]."""
