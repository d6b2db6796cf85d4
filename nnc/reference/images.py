"""The layers of images: convolution, pools, flatten.

An image of shape (height, width, channels) is a row of numbers like any other, in the order row, column, channel: the
number of channel c at row y, column x has the place (y * width + x) * channels + c. All that these layers add is which
numbers of a row are seen together, and that is a window.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from nnc.reference.layers import Dense, Layer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nnc.reference.layers import Gradient, Row, Rows

    Pair = tuple[int, int]
    Window = list[list[int | None]]  # for each of its pixels the place of every channel


def windows(below: Sequence[int], out: Sequence[int], size: Pair, stride: Pair, pad: Pair = (0, 0)) -> list[Window]:
    """The windows of an image of shape `below`, one for every pixel of the output `out`, row by row.

    The window of the pixel y, x has its upper left corner at y * stride[0] - pad[0], x * stride[1] - pad[1]. What of it
    is out of the image has no place: None.
    """
    height, width, channels = below

    def pixel(y: int, x: int) -> list[int | None]:
        inside = 0 <= y < height and 0 <= x < width
        return [(y * width + x) * channels + c if inside else None for c in range(channels)]

    return [
        [
            pixel(y * stride[0] + ky - pad[0], x * stride[1] + kx - pad[1])
            for ky in range(size[0])
            for kx in range(size[1])
        ]
        for y in range(out[0])
        for x in range(out[1])
    ]


def cut(row: Row, n: int) -> list[Row]:
    """A row in pieces of n numbers."""
    return [row[first : first + n] for first in range(0, len(row), n)]


class Conv2D(Dense):
    """A convolutional layer: a dense layer whose neurons, the filters, look at every window with the same weights.

    a[y][x][f] = f(b[f] + the sum over ky, kx and c of
        image[y * stride[0] + ky - pad[0]][x * stride[1] + kx - pad[1]][c] * W[(ky * size[1] + kx) * channels + c][f])

    A row of W is an input, as in every dense layer: here one of the numbers of a window.
    """

    windows: list[list[int | None]]

    def __init__(self, W: list[list[float]], b: list[float] | None, activation: str, windows: list[Window]) -> None:
        super().__init__(W, b, activation)
        self.windows = [list(chain(*window)) for window in windows]  # the order of the rows of W: ky, kx, channel

    def seen(self, images: Rows) -> Rows:
        """The numbers of every window of every image, 0 out of the image."""
        return [[0.0 if i is None else image[i] for i in window] for image in images for window in self.windows]

    def pixels(self, images: Rows) -> Rows:
        """Images of outputs as the rows that the dense layer has: a number for each filter, for every window."""
        return [pixel for image in images for pixel in cut(image, self.n_out)]

    def forward(self, A_in: Rows) -> Rows:
        """A_out = f(windows W + b), an image of outputs for every image of inputs."""
        pixels = super().forward(self.seen(A_in))
        n = len(self.windows)
        return [list(chain(*pixels[first : first + n])) for first in range(0, len(pixels), n)]

    def backward(self, A_in: Rows, A_out: Rows, dA: Rows) -> tuple[Rows, Gradient]:
        """delta, a row for every window, and (dW, db)."""
        # A weight acts in every window, so its gradient is the sum over all windows of all images.
        return super().backward(self.seen(A_in), self.pixels(A_out), self.pixels(dA))

    def downward(self, A_in: Rows, delta: Rows) -> Rows:
        """dL/dA_in."""
        # A number acts through every window that it is in, so its dL/da is the sum over them.
        dA = [[0.0] * len(image) for image in A_in]
        parts = iter(super().downward(A_in, delta))
        for image in dA:
            for window in self.windows:
                for i, part in zip(window, next(parts)):
                    if i is not None:
                        image[i] += part
        return dA


class Pool(Layer):
    """What pools have in common: a number for each channel of each window, in the order window, channel."""

    windows: list[list[int]]

    def __init__(self, windows: list[Window]) -> None:
        # A pool has no padding, so all pixels have their place.
        self.windows = [[i for i in channel if i is not None] for window in windows for channel in zip(*window)]


class MaxPool2D(Pool):
    """The largest number of each window, channel by channel."""

    def forward(self, A_in: Rows) -> Rows:
        """a = max of the window."""
        return [[max(image[i] for i in window) for window in self.windows] for image in A_in]

    def downward(self, A_in: Rows, delta: Rows) -> Rows:
        """dL/dA_in."""
        # A number acts through every window that it is the largest of; of several that are, it is the first.
        dA = [[0.0] * len(image) for image in A_in]
        for image, below, row in zip(A_in, dA, delta):
            for window, d in zip(self.windows, row):
                below[max(window, key=lambda i: image[i])] += d
        return dA


class AvgPool2D(Pool):
    """The mean of each window, channel by channel."""

    def forward(self, A_in: Rows) -> Rows:
        """a = sum of the window / number of its pixels."""
        return [[sum(image[i] for i in window) / len(window) for window in self.windows] for image in A_in]

    def downward(self, A_in: Rows, delta: Rows) -> Rows:
        """dL/dA_in."""
        # A number acts through every window that it is in, with a weight of 1 / number of its pixels.
        dA = [[0.0] * len(image) for image in A_in]
        for below, row in zip(dA, delta):
            for window, d in zip(self.windows, row):
                for i in window:
                    below[i] += d / len(window)
        return dA


class Flatten(Layer):
    """An image becomes a vector: row, column, channel. That is how it is stored, so there is nothing to do."""

    def forward(self, A_in: Rows) -> Rows:
        """A_out = A_in."""
        return A_in

    def downward(self, A_in: Rows, delta: Rows) -> Rows:
        """dL/dA_in = dL/dA_out."""
        return delta
