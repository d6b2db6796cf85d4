"""Operations between two parametric layers: pooling, extraction of convolution windows, and normalization.

Images are stored as rows of numbers in the order row, column, channel, and sequences are images of one row. A
convolution is treated as a dense layer with one row for each window of each image. This module computes these rows.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._inspection.norm import Norm
from nnc._inspection.recurrent import Recurrence
from nnc.layers import BatchNorm, Conv1D, Dense
from nnc.layers import image as image_layers
from nnc.layers.base import as_image_shape
from nnc.layers.recurrent import RecurrentLayer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from nnc.layers.base import Layer, Shape
    from nnc.layers.stack import PlacedLayer

    Array = NDArray[np.float64]


class Windows:
    """Windows of an image, one for each pixel of the output.

    Parameters
    ----------
    geometry : WindowGeometry
        Shapes, sizes and positions of the windows.
    is_sequence : bool
        Whether the image is a sequence, whose steps are the columns of its only row.
    dilation : int
        Distance between neighboring columns of a window.

    Attributes
    ----------
    input_shape, output_shape : (height, width, channels)
        Shapes of the input image and of the output.
    size : (height, width)
        Size of a window.
    is_step : bool
        Whether the windows are those of a Dense, which is applied to each step of a sequence.
    pixel_noun, channel_noun, neuron_noun : str
        Words for a pixel, a channel and an output of a window in texts: "step" and "feature" for sequences.
    indices : int array (pixels, height * width of a window, channels)
        For each element of a window, its index in the flattened image. Padding has an index after the last element.
    is_output, is_inside : bool arrays (n or 1, pixels) and (n or 1, *indices.shape)
        Whether an output, or an element of a window, counts. False beyond the lengths of the sequences, see
        `set_lengths`.
    """

    def __init__(
        self,
        geometry: image_layers.WindowGeometry,
        is_sequence: bool = False,
        dilation: int = 1,
        is_step: bool = False,
    ) -> None:
        input_shape, output_shape = geometry.input_shape, geometry.output_shape
        size, stride, pad = geometry.size, geometry.stride, geometry.pad
        self.input_shape, self.output_shape, self.size = input_shape, output_shape, size
        self.is_sequence = is_sequence
        self.pixel_noun, self.channel_noun = ("step", "feature") if is_sequence else ("pixel", "channel")
        self.is_step, self.neuron_noun = is_step, "neuron" if is_step else "filter"
        height, width, channels = input_shape
        y, x = (
            np.arange(output_shape[i])[:, None] * stride[i] + np.arange(size[i]) * dilation - pad[i] for i in (0, 1)
        )
        y, x = y[:, None, :, None], x[:, None, :]  # axes: output row, output column, window row, window column
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        indices = (y * width + x)[..., None] * channels + np.arange(channels)
        self.indices = np.where(inside[..., None], indices, prod(input_shape)).reshape(-1, prod(size), channels)
        self.is_inside = np.ones((1, *self.indices.shape), bool)
        self.is_output = np.ones((1, len(self.indices)), bool)
        self.step_offset, self.stride = geometry.step_offset, stride[1]

    def set_lengths(self, lengths: NDArray[Any]) -> NDArray[Any]:
        """Set the numbers of steps (n,) of the sequences, and return the numbers of steps of the outputs."""
        counts: NDArray[Any] = (lengths + self.step_offset) // self.stride + 1
        self.is_output = np.arange(len(self.indices)) < counts[:, None]
        is_step = self.indices < lengths[:, None, None, None] * self.input_shape[2]
        self.is_inside = is_step & self.is_output[:, :, None, None]
        return counts

    def gather(self, A: NDArray[Any], outside: int = 0) -> NDArray[Any]:
        """Return the elements of all windows (n, pixels, window, channels) of flattened images A (n, n_in)."""
        padding_column = np.full((len(A), 1), outside, A.dtype)
        return np.hstack([A, padding_column])[:, self.indices]

    def scatter_add(self, parts: NDArray[Any]) -> NDArray[Any]:
        """Sum values (n, pixels, window, channels) of overlapping windows, and return flattened images (n, n_in).

        This linear map is the transpose of `gather`.
        """
        total = np.zeros((len(parts), prod(self.input_shape) + 1), parts.dtype)
        # `+=` adds only once to a repeated index. This is correct here, because only the index of the padding repeats.
        for k in range(self.indices.shape[1]):
            total[:, self.indices[:, k]] += parts[:, :, k]
        return total[:, :-1]


class Pool:
    """Max-pool or average pool.

    Attributes
    ----------
    name : str
        Name of the layer.
    windows : Windows
        Windows of the pool.
    is_max : bool
        True for the maximum, False for the mean.
    """

    def __init__(self, name: str, kind: image_layers.Pool, input_shape: Shape) -> None:
        self.name, self.is_max = name, kind.is_max
        self.windows = Windows(kind.window_geometry(input_shape), len(input_shape) == 2)

    def forward(self, A: Array) -> Array:
        """Return the outputs (n, n_out) of the pool for inputs A (n, n_in)."""
        if not self.is_max:
            return self.means(self.windows.gather(A)).reshape(len(A), -1)
        has_elements = self.windows.is_inside.any(axis=2)
        return np.where(has_elements, self.candidates(A).max(axis=2), 0.0).reshape(len(A), -1)

    def means(self, values: Array) -> Array:
        """Return the means of the values (n, pixels, window, channels) of the elements of each window that count."""
        is_inside = self.windows.is_inside
        means: Array = np.where(is_inside, values, 0.0).sum(axis=2) / np.maximum(is_inside.sum(axis=2), 1)
        return means

    def candidates(self, A: Array) -> Array:
        """Return the elements of all windows, with -infinity in place of those that do not count."""
        return np.where(self.windows.is_inside, self.windows.gather(A), -np.inf)

    def winners(self, A: Array) -> NDArray[np.bool_]:
        """Return a mask that is True at the maximum of each window and channel, or at the first of equal maxima."""
        gathered = self.candidates(A)
        first: NDArray[np.bool_] = gathered.argmax(axis=2)[:, :, None] == np.arange(gathered.shape[2])[:, None]
        return first & self.windows.is_inside

    def derivatives(self, A: Array) -> Array:
        """Return the derivative of each output of the pool with respect to each element of its window."""
        if self.is_max:
            return self.winners(A).astype(np.float64)
        is_inside = self.windows.is_inside
        shares: Array = is_inside / np.maximum(is_inside.sum(axis=2, keepdims=True), 1)
        return np.broadcast_to(shares, (len(A), *shares.shape[1:]))

    def per_window(self, d: NDArray[Any]) -> NDArray[Any]:
        """Return d, which has one value per output of the pool, with an additional axis for the window elements."""
        pixels, _, channels = self.windows.indices.shape
        return d.reshape(len(d), pixels, 1, channels)

    def backward(self, A: Array, dA: Array) -> Array:
        """Return the derivatives of the loss with respect to the inputs A of the pool.

        `dA` contains the derivatives of the loss with respect to the outputs of the pool.
        """
        return self.windows.scatter_add(self.derivatives(A) * self.per_window(dA))


class Connection:
    """Operations between a parametric layer and the previous parametric layer, or the inputs of the network.

    Attributes
    ----------
    pools : tuple of Pool
        Pools between the two layers, in order.
    windows : Windows or None
        Parts of an image that are processed as separate rows: the windows of a convolution, or single pixels for a
        BatchNorm of images. A Dense on sequences processes single steps. None for a Dense on vectors.
    norm : Norm or None
        Normalization of the rows for BatchNorm, None for other layers.
    columnwise : bool
        True if neuron j is connected to input j only, as in BatchNorm and Scale.
    recurrence : Recurrence or None
        Computation of all steps of a recurrent layer, None for other layers.
    is_output : bool array (rows, 1) or None
        False for outputs beyond the lengths of the sequences, see `set_lengths`. None if all outputs count.
    """

    is_output: NDArray[np.bool_] | None = None

    def __init__(self, layers: Iterable[PlacedLayer[Layer]] = ()) -> None:
        layers = list(layers)
        self.pools = tuple(
            Pool(layer.name, layer.kind, layer.input_shape)
            for layer in layers
            if isinstance(layer.kind, image_layers.Pool)
        )
        self.windows: Windows | None = None
        self.norm: Norm | None = None
        self.columnwise = False
        self.recurrence: Recurrence | None = None
        for layer in layers[-1:]:
            kind, input_shape = layer.kind, layer.input_shape
            self.columnwise = kind.columnwise
            if isinstance(kind, Conv1D):
                self.windows = Windows(kind.sequence_geometry(input_shape), True, kind.dilation)
            elif isinstance(kind, image_layers.Convolution):
                self.windows = Windows(kind.window_geometry(input_shape))
            elif isinstance(kind, RecurrentLayer):
                self.recurrence = Recurrence(kind, input_shape)
            elif isinstance(kind, Dense) and len(input_shape) == 2:  # Dense on sequences: each step is a row
                steps = image_layers.WindowGeometry(
                    as_image_shape(input_shape), (1, *layer.output_shape), (1, 1), (1, 1), step_offset=-1
                )
                self.windows = Windows(steps, True, is_step=True)
            if isinstance(kind, BatchNorm):
                self.norm, shape = Norm(kind.eps), as_image_shape(input_shape)
                pixels = image_layers.WindowGeometry(shape, shape, (1, 1), (1, 1))
                self.windows = Windows(pixels, len(input_shape) == 2) if len(shape) == 3 else None

    def set_lengths(self, lengths: NDArray[Any]) -> NDArray[Any]:
        """Set the numbers of steps (n,) of the sequences, and return the numbers of steps of the outputs."""
        for pool in self.pools:
            lengths = pool.windows.set_lengths(lengths)
        if self.recurrence is not None:
            self.recurrence.lengths = lengths
        elif self.windows is not None:
            lengths = self.windows.set_lengths(lengths)
            self.is_output = self.windows.is_output.reshape(-1, 1)
        return lengths

    def mask_outputs(self, A: NDArray[Any]) -> NDArray[Any]:
        """Return outputs of the layer, or related values, with zeros beyond the lengths of the sequences."""
        return A if self.is_output is None else np.where(self.is_output, A, A.dtype.type(0))

    def multiply(self, A: Array, W: Array) -> Array:
        """Return the product of the inputs A and the weights W, which is elementwise if `columnwise` is True."""
        return A * W if self.columnwise else A @ W

    def multiply_transposed(self, D: NDArray[Any], W: NDArray[Any]) -> NDArray[Any]:
        """Return D W^T for derivatives D (rows, neurons) and weights W: the sum over the neurons for each input."""
        product: NDArray[Any] = D * W if self.columnwise else D @ W.T
        return product

    def weight_sums(self, A: Array, D: Array) -> Array:
        """Return A^T D for inputs A and derivatives D (rows, neurons): the sum over the rows for each weight."""
        return (A * D).sum(axis=0, keepdims=True) if self.columnwise else A.T @ D

    @property
    def max_uses(self) -> int:
        """Largest number of windows that contain the same element of an image; 1 for a dense layer."""
        return 1 if self.windows is None else self.windows.indices.shape[1]

    def pool_inputs(self, A: Array) -> list[Array]:
        """Return a list of the inputs of each pool, followed by the outputs of the last pool."""
        images = [A]
        for pool in self.pools:
            images.append(pool.forward(images[-1]))
        return images

    def rows(self, A: NDArray[Any], outside: int = 0) -> NDArray[Any]:
        """Return the input rows of the layer: a row for each window of A, or A itself if the layer has no windows."""
        if self.windows is None:
            return A
        return self.windows.gather(A, outside).reshape(-1, self.windows.indices[0].size)

    def sum_rows(self, parts: NDArray[Any]) -> NDArray[Any]:
        """Return flattened images whose elements are sums of their values in all windows (the transpose of `rows`)."""
        if self.windows is None:
            return parts
        return self.windows.scatter_add(parts.reshape(-1, *self.windows.indices.shape))


def connections(layers: Iterable[PlacedLayer[Layer]]) -> list[Connection]:
    """Return a list with one Connection for each parametric layer."""
    result, between = [], []
    for layer in layers:
        between.append(layer)
        if layer.has_parameters:
            result.append(Connection(between))
            between = []
    return result


def equivalence_labels(connections: list[Connection], X: Array, widths: list[int]) -> list[list[NDArray[np.int64]]]:
    """Return integer labels of the inputs of each pool; inputs with equal labels are equal functions of the parameters.

    For example, all windows on a uniform background get equal labels. The gradient does not depend on which of these
    inputs is the maximum, although they may differ by rounding. `widths` are the numbers of neurons of each layer.
    """
    labels: list[list[NDArray[np.int64]]] = [[] for _ in connections]
    last = max((l for l, c in enumerate(connections) if any(pool.is_max for pool in c.pools)), default=-1)
    current: NDArray[Any] = np.unique(X, return_inverse=True)[1].reshape(X.shape)
    for l, connection in enumerate(connections[: last + 1]):
        for pool in connection.pools:
            labels[l].append(current)
            gathered = np.moveaxis(np.where(pool.windows.is_inside, pool.windows.gather(current), -1), 2, 3)
            current = _row_labels(gathered.reshape(-1, gathered.shape[3])).reshape(len(X), -1)
        if connection.recurrence is not None:  # recurrent layer: each sequence is one row with a label
            n_out = connection.recurrence.n_out
            current = _row_labels(current)[:, None] * n_out + np.arange(n_out)
            continue
        if connection.columnwise:  # label each channel separately, because it has its own weight
            current = current * widths[l] + np.arange(current.shape[1]) % widths[l]
            continue
        rows = _row_labels(connection.rows(current, -1))
        current = rows[:, None] * widths[l] + np.arange(widths[l])
        if connection.is_output is not None:  # outputs beyond the lengths are 0, so they get the label of padding
            current = np.where(connection.is_output, current, -1)
        current = current.reshape(len(X), -1)
    return labels


def _row_labels(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return an integer label for each row; equal rows have equal labels."""
    return np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)
