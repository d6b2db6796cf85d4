"""Layers for images: convolution, pooling and flattening.

An image of shape (height, width, channels) is stored as one row of numbers, in the order row, column, channel. The
value of channel c in row y and column x has the index (y * width + x) * channels + c. A window is a list of the indices
of the elements that a layer combines.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from nnc.reference.layers import Dense, Layer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nnc.reference.layers import Gradient, Row, Rows

    Pair = tuple[int, int]
    Window = list[list[int | None]]  # for each pixel of a window, the indices of its channels in the image
    # Type of functions that return the windows of an image, given its number of values, which varies for sequences.
    CreateWindows = Callable[[int], list[Window]]


def windows(
    input_shape: Sequence[int], output_shape: Sequence[int], size: Pair, stride: Pair, pad: Pair
) -> list[Window]:
    """Return the windows of an image, one for each pixel of the output, row by row.

    The window of output pixel y, x has its upper left corner at y * stride[0] - pad[0], x * stride[1] - pad[1]. Pixels
    outside of the image have index None.
    """
    height, width, channels = input_shape

    def pixel(y: int, x: int) -> list[int | None]:
        inside = 0 <= y < height and 0 <= x < width
        return [(y * width + x) * channels + c if inside else None for c in range(channels)]

    return [
        [
            pixel(y * stride[0] + ky - pad[0], x * stride[1] + kx - pad[1])
            for ky in range(size[0])
            for kx in range(size[1])
        ]
        for y in range(output_shape[0])
        for x in range(output_shape[1])
    ]


def chunks(row: Row, n: int) -> list[Row]:
    """Split a row into chunks of n numbers."""
    return [row[first : first + n] for first in range(0, len(row), n)]


class Conv2D(Dense):
    """Convolutional layer: a dense layer that is applied to each window; its neurons are called filters.

    a[y][x][k] = f(b[k] + the sum over ky, kx and c of
        image[y * stride[0] + ky - pad[0]][x * stride[1] + kx - pad[1]][c] * W[(ky * size[1] + kx) * channels + c][k])

    k is the filter and f the activation. Each row of W belongs to one element of the window.
    """

    create_windows: CreateWindows

    def __init__(
        self, W: list[list[float]], b: list[float] | None, activation: str, create_windows: CreateWindows
    ) -> None:
        super().__init__(W, b, activation)
        self.create_windows = create_windows

    def windows(self, images: Rows) -> list[list[int | None]]:
        """Return for each window the indices of its inputs in the images, which have equal sizes.

        The indices are in the order of the rows of W: the channel changes fastest, then the column, then the row.
        """
        return [list(chain(*window)) for window in self.create_windows(len(images[0]))]

    def window_rows(self, images: Rows) -> Rows:
        """Return one row for each window of each image: the elements of the window, with 0 for padding."""
        windows = self.windows(images)
        return [[0.0 if i is None else image[i] for i in window] for image in images for window in windows]

    def pixels(self, images: Rows) -> Rows:
        """Return output images as rows of the dense layer: one row for each window, one column for each filter."""
        return [pixel for image in images for pixel in chunks(image, self.n_out)]

    def forward(self, A_in: Rows) -> Rows:
        """Return A_out: an output image for each input image, computed from its windows as in a dense layer."""
        pixels = super().forward(self.window_rows(A_in))
        n = len(pixels) // len(A_in)
        return [list(chain(*pixels[first : first + n])) for first in range(0, len(pixels), n)]

    def backward(self, A_in: Rows, A_out: Rows, dA: Rows) -> tuple[Rows, Gradient]:
        """Return delta = dL/dZ of the net inputs, a row for each window, and (dW, db), given dA = dL/dA_out."""
        # Weights are used in each window, so their gradient is the sum over all windows of all images.
        return super().backward(self.window_rows(A_in), self.pixels(A_out), self.pixels(dA))

    def input_gradient(self, A_in: Rows, delta: Rows) -> Rows:
        """Return dL/dA_in, the derivatives of the loss with respect to the inputs of the layer."""
        # An input contributes to all windows that contain it, so its derivative is a sum over these windows.
        dA = [[0.0] * len(image) for image in A_in]
        parts, windows = iter(super().input_gradient(A_in, delta)), self.windows(A_in)
        for image in dA:
            for window in windows:
                for i, part in zip(window, next(parts)):
                    if i is not None:
                        image[i] += part
        return dA


class Pool(Layer):
    """Base class of pooling layers, whose outputs have the order window, channel."""

    create_windows: CreateWindows

    def __init__(self, create_windows: CreateWindows) -> None:
        self.create_windows = create_windows

    def windows(self, images: Rows) -> list[list[int]]:
        """Return for each window and channel the indices of its inputs in the images, which have equal sizes."""
        # No index is None, because pooling layers have no padding; the condition is only for type checkers.
        windows = self.create_windows(len(images[0]))
        return [[i for i in channel if i is not None] for window in windows for channel in zip(*window)]


class MaxPool2D(Pool):
    """Max-pooling: maximum of each window in each channel."""

    def forward(self, A_in: Rows) -> Rows:
        """Return the maximum of each window."""
        windows = self.windows(A_in)
        return [[max(image[i] for i in window) for window in windows] for image in A_in]

    def input_gradient(self, A_in: Rows, delta: Rows) -> Rows:
        """Return dL/dA_in, the derivatives of the loss with respect to the inputs of the layer."""
        # The derivative of the maximum is 1 for the largest number of a window (the first one if several are equal) and
        # 0 for the others.
        dA, windows = [[0.0] * len(image) for image in A_in], self.windows(A_in)
        for image, gradient, row in zip(A_in, dA, delta):
            for window, d in zip(windows, row):
                gradient[max(window, key=lambda i: image[i])] += d
        return dA


class AvgPool2D(Pool):
    """Average pooling: mean of each window in each channel."""

    def forward(self, A_in: Rows) -> Rows:
        """Return the mean of each window."""
        windows = self.windows(A_in)
        return [[sum(image[i] for i in window) / len(window) for window in windows] for image in A_in]

    def input_gradient(self, A_in: Rows, delta: Rows) -> Rows:
        """Return dL/dA_in, the derivatives of the loss with respect to the inputs of the layer."""
        # Each output is the mean of a window, so its derivative with respect to an input is 1 / (size of the window).
        dA, windows = [[0.0] * len(image) for image in A_in], self.windows(A_in)
        for gradient, row in zip(dA, delta):
            for window, d in zip(windows, row):
                for i in window:
                    gradient[i] += d / len(window)
        return dA


class Flatten(Layer):
    """Reshaping of images to vectors. Images are already stored as vectors, so nothing is computed."""

    def forward(self, A_in: Rows) -> Rows:
        """Return the inputs A_in unchanged."""
        return A_in

    def input_gradient(self, A_in: Rows, delta: Rows) -> Rows:
        """Return dL/dA_in, which is equal to dL/dA_out because the layer computes nothing."""
        return delta
