"""Layers for sequences: convolution and pooling.

A sequence of shape (steps, features) is stored as one row of numbers. The value of feature c in step t has the
index t * features + c. A window is a list of the indices of the elements that a layer combines, as for images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnc.reference.images import AvgPool2D, Conv2D, MaxPool2D

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nnc.reference.images import Window


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


class Conv1D(Conv2D):
    """Convolutional layer of sequences: a dense layer that is applied to each window.

    a[t][j] = f(b[j] + the sum over k and c of x[t * stride + k * dilation - zeros][c] * W[k * features + c][j])

    j is the filter, f the activation and `zeros` the number of zeros before the sequence.
    """


class MaxPool1D(MaxPool2D):
    """Max-pooling of sequences: output a[t][c] of step t, feature c is the maximum over k of x[t * stride + k][c]."""


class AvgPool1D(AvgPool2D):
    """Average pooling of sequences: output a[t][c] of step t, feature c is the mean over k of x[t * stride + k][c]."""
