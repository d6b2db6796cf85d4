"""The way from the outputs of one layer with weights to the inputs of the next: pools, and the windows of a Conv2D.

Images are rows of numbers in the order row, column, channel. A convolution is a dense layer with a row for each window
of each image, so everything that holds for dense layers holds for it; what is added is here.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._inspection.norm import Norm
from nnc.layers import AvgPool2D, BatchNorm, Conv2D, GlobalAvgPool2D, MaxPool2D

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from nnc.layers.base import Layer, Shape
    from nnc.layers.stack import PlacedLayer

    Array = NDArray[np.float64]
    Pair = tuple[int, int]


class Windows:
    """The windows of images of shape `below`, one for each pixel of the output.

    Attributes
    ----------
    below, out : (height, width, channels)
        Shapes of an image, and of what a window gives.
    size : (height, width)
        Of a window.
    places : array (pixels, height * width of a window, channels)
        Where in its row a number is; out of the image that is the place behind the last.
    """

    def __init__(self, below: Shape, out: Shape, size: Pair, stride: Pair, pad: Pair = (0, 0)) -> None:
        self.below, self.out, self.size = below, out, size
        height, width, channels = below
        y, x = (np.arange(out[i])[:, None] * stride[i] + np.arange(size[i]) - pad[i] for i in (0, 1))
        y, x = y[:, None, :, None], x[:, None, :]  # of a pixel's row and column, and a row and column of its window
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        places = (y * width + x)[..., None] * channels + np.arange(channels)
        self.places = np.where(inside[..., None], places, prod(below)).reshape(-1, prod(size), channels)

    def seen(self, A: NDArray[Any], outside: int = 0) -> NDArray[Any]:
        """What windows see of rows (n, n_in), in the shape of `places`, for each row."""
        beyond = np.full((len(A), 1), outside, A.dtype)
        return np.hstack([A, beyond])[:, self.places]

    def added(self, parts: NDArray[Any]) -> NDArray[Any]:
        """The opposite: rows (n, n_in), each number the sum of what windows have for it."""
        total = np.zeros((len(parts), prod(self.below) + 1), parts.dtype)
        for k in range(self.places.shape[1]):  # none but the place out of the image is there twice
            total[:, self.places[:, k]] += parts[:, :, k]
        return total[:, :-1]


class Pool:
    """A number for each channel of each window: the largest, or the mean.

    Attributes
    ----------
    name : str
    windows : Windows
    largest : bool
    """

    def __init__(self, layer: PlacedLayer[Layer]) -> None:
        kind, self.name, self.largest = layer.kind, layer.name, isinstance(layer.kind, MaxPool2D)
        if isinstance(kind, (MaxPool2D, AvgPool2D)):
            size, stride = kind.size, kind.stride
        else:
            size = stride = layer.input_shape[0], layer.input_shape[1]
        self.windows = Windows(layer.input_shape, layer.output_shape, size, stride)

    def forward(self, A: Array) -> Array:
        seen = self.windows.seen(A)
        pooled: Array = seen.max(axis=2) if self.largest else seen.mean(axis=2)
        return pooled.reshape(len(A), -1)

    def winners(self, A: Array) -> NDArray[np.bool_]:
        """Which numbers of each window are the largest of a channel, the first where there are more."""
        seen = self.windows.seen(A)
        first: NDArray[np.bool_] = seen.argmax(axis=2)[:, :, None] == np.arange(seen.shape[2])[:, None]
        return first

    def shares(self, A: Array) -> Array:
        """The derivatives of the outputs by the numbers of their windows: 1 for the largest and 0 for all others; or
        the same for all."""
        if self.largest:
            return self.winners(A).astype(np.float64)
        return np.full((len(A), *self.windows.places.shape), 1 / self.windows.places.shape[1])

    def per_window(self, d: NDArray[Any]) -> NDArray[Any]:
        """Numbers of the outputs, one for all numbers of their window."""
        pixels, _, channels = self.windows.places.shape
        return d.reshape(len(d), pixels, 1, channels)

    def backward(self, A: Array, dA: Array) -> Array:
        """dL/dA of the inputs A by that of the outputs."""
        return self.windows.added(self.shares(A) * self.per_window(dA))


class Way:
    """From rows of outputs of a layer, or the input, to the rows of inputs of the next layer with weights.

    Attributes
    ----------
    pools : tuple of Pool
        In order.
    windows : Windows or None
        Those of a convolution, whose inputs have a row for each; None before a dense layer. A BatchNorm of images has a
        row for each pixel.
    norm : Norm or None
        What normalizes these rows.
    columnwise : bool
        Whether each neuron sees an input of its own alone, as those of a BatchNorm and a Scale do.
    """

    def __init__(self, layers: Iterable[PlacedLayer[Layer]] = ()) -> None:
        layers = list(layers)
        self.pools = tuple(
            Pool(layer) for layer in layers if isinstance(layer.kind, (MaxPool2D, AvgPool2D, GlobalAvgPool2D))
        )
        self.windows: Windows | None = None
        self.norm: Norm | None = None
        self.columnwise = False
        for layer in layers[-1:]:
            kind, below = layer.kind, layer.input_shape
            self.columnwise = kind.columnwise
            if isinstance(kind, Conv2D):
                self.windows = Windows(below, layer.output_shape, kind.size, kind.stride, kind.pad(below))
            if isinstance(kind, BatchNorm):
                self.norm = Norm(kind.eps)
                self.windows = Windows(below, below, (1, 1), (1, 1)) if len(below) == 3 else None

    def times(self, A: Array, W: Array) -> Array:
        """What goes from inputs A through weights to the neurons: each neuron sees all, or its own."""
        return A * W if self.columnwise else A @ W

    def back(self, D: NDArray[Any], W: NDArray[Any]) -> NDArray[Any]:
        """The opposite: the sum over the neurons that see an input of D times weight."""
        product: NDArray[Any] = D * W if self.columnwise else D @ W.T
        return product

    def summed(self, A: Array, D: Array) -> Array:
        """The sum over the rows of inputs times D of the neurons, for each weight."""
        return (A * D).sum(axis=0, keepdims=True) if self.columnwise else A.T @ D

    @property
    def terms(self) -> int:
        """How many rows of inputs a number may be in."""
        return 1 if self.windows is None else self.windows.places.shape[1]

    def pooled(self, A: Array) -> list[Array]:
        """What goes into each pool, and what comes out of the last."""
        images = [A]
        for pool in self.pools:
            images.append(pool.forward(images[-1]))
        return images

    def rows(self, A: NDArray[Any], outside: int = 0) -> NDArray[Any]:
        """What comes out of the last pool as rows of inputs."""
        if self.windows is None:
            return A
        return self.windows.seen(A, outside).reshape(-1, self.windows.places[0].size)

    def joined(self, parts: NDArray[Any]) -> NDArray[Any]:
        """The opposite: for each number of images the sum over the rows of inputs that it is in."""
        return parts if self.windows is None else self.windows.added(parts.reshape(-1, *self.windows.places.shape))


def ways(layers: Iterable[PlacedLayer[Layer]]) -> list[Way]:
    """The way to each of the layers with weights."""
    found, between = [], []
    for layer in layers:
        between.append(layer)
        if layer.has_parameters:
            found.append(Way(between))
            between = []
    return found


def names(ways: list[Way], X: Array, widths: list[int]) -> list[list[NDArray[np.int64]]]:
    """What the numbers that go into each pool are called: the same, where they are the same function of the parameters,
    as all numbers are that see nothing but the same background. Which of them is the largest means nothing to any
    gradient, though they may differ by rounding. `widths` are the numbers of neurons."""
    found: list[list[NDArray[np.int64]]] = [[] for _ in ways]
    last = max((l for l, way in enumerate(ways) if any(pool.largest for pool in way.pools)), default=-1)
    now: NDArray[Any] = np.unique(X, return_inverse=True)[1].reshape(X.shape)
    for l, way in enumerate(ways[: last + 1]):
        for pool in way.pools:
            found[l].append(now)
            seen = np.moveaxis(pool.windows.seen(now), 2, 3)
            now = _named(seen.reshape(-1, seen.shape[3])).reshape(len(X), -1)
        if way.columnwise:  # the same function for all numbers of a channel
            now = now * widths[l] + np.arange(now.shape[1]) % widths[l]
            continue
        rows = _named(way.rows(now, -1))
        now = (rows[:, None] * widths[l] + np.arange(widths[l])).reshape(len(X), -1)
    return found


def _named(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """A number for each row, the same for the same."""
    return np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)
