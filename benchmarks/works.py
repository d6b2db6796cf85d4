"""Definition of the works: networks, data, initial weights and training settings, the same for all peers.

Data and initial weights follow from fixed seeds, so each peer's process creates the same ones. The final loss is
computed here from the weights or predictions that a peer returns, with one formula for all peers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import NamedTuple

import numpy as np


class Dense(NamedTuple):
    """A dense layer; the table of works lists only its number of neurons."""

    n: int

    def __str__(self):
        return str(self.n)

    def output_shape(self, input_shape):
        """Return the shape of an output row."""
        return (self.n,)

    def weight_shape(self, input_shape):
        """Return the shape of W, (n_in, n_out), for input rows of this shape."""
        return prod(input_shape), self.n


class Conv(NamedTuple):
    """A convolution of stride 1 with square windows, with padding to the same image size if `same`, else unpadded."""

    filters: int
    size: int
    same: bool = False

    def __str__(self):
        return f"{self.filters}c{self.size}"

    def output_shape(self, input_shape):
        """Return the shape of an output image."""
        height, width = (n if self.same else n - self.size + 1 for n in input_shape[:2])
        return height, width, self.filters

    def weight_shape(self, input_shape):
        """Return the shape of W, (pixels and channels of a window, filters)."""
        return self.size**2 * input_shape[2], self.filters


class MaxPool(NamedTuple):
    """Max pooling of square windows that do not overlap."""

    size: int

    def __str__(self):
        return f"p{self.size}"

    def output_shape(self, input_shape):
        """Return the shape of an output image."""
        return input_shape[0] // self.size, input_shape[1] // self.size, input_shape[2]


class PlacedLayer(NamedTuple):
    """A layer of a network with the shapes of one row: (n,) or (height, width, channels)."""

    layer: Dense | Conv | MaxPool
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of the forward pass for one row."""
        return prod(self.output_shape[:-1]) * prod(self.layer.weight_shape(self.input_shape))


@dataclass(frozen=True)
class Work:
    """A workload: network, data and training.

    Attributes
    ----------
    key : str
        Short name, such as "A" or "L32-adam".
    layers : tuple
        Input size, hidden layer sizes and output size; or input shape of an image, `Conv`, `MaxPool` and sizes.
    hidden, output : str
        Activation of the hidden layers and of the output layer.
    loss : str
        `sse`, `mse` or `cross_entropy`, defined as in nnc.
    epochs : int
        Passes over the rows in one run. If `training` is False, the calls of `predict` in one run.
    rows : int
        Training rows.
    batch : int or None
        Rows of a mini-batch. None trains on all rows at once, without shuffling.
    optimizer : str
        "sgd" (plain gradient descent) or "adam".
    lr : float
        Learning rate.
    dtype : str
        Precision of data and parameters.
    bias : bool
        If False, the layers have no biases.
    training : bool
        If False, a run predicts one row again and again.
    single_steps : bool
        If True, a run calls a training step on NumPy arrays `epochs` times from Python, with one thread.
    goals : dict of str to float
        Goal for the ratio of a peer's time to the time of nnc, by peer.
    single_thread_goals : dict of str to float
        Goal for the same ratio when both use one thread.
    peak_goals : tuple of float
        Goal for the fraction of the multiply-add peak that nnc reaches, with one thread and with all cores.
    """

    key: str
    layers: tuple
    hidden: str
    output: str
    loss: str
    epochs: int
    rows: int = 12_000
    batch: int | None = None
    optimizer: str = "sgd"
    lr: float = 0.1
    dtype: str = "float32"
    bias: bool = True
    training: bool = True
    single_steps: bool = False
    goals: dict[str, float] = field(default_factory=dict)
    single_thread_goals: dict[str, float] = field(default_factory=dict)
    peak_goals: tuple[float, ...] = ()

    @property
    def is_fit(self) -> bool:
        """Return whether a run is one call of `fit`, which is compared with the multiply-add peak."""
        return self.training and not self.single_steps

    @property
    def has_images(self) -> bool:
        """Return whether the rows are images."""
        return not isinstance(self.layers[0], int)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an input row."""
        return self.layers[0] if self.has_images else self.layers[:1]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Layer sizes of a dense network, from the input to the output."""
        assert not self.has_images
        return self.layers

    @property
    def stack(self) -> list[PlacedLayer]:
        """All layers except the input, with their shapes."""
        input_shape, stack = self.shape, []
        for layer in self.layers[1:]:
            layer = Dense(layer) if isinstance(layer, int) else layer
            stack.append(PlacedLayer(layer, input_shape, layer.output_shape(input_shape)))
            input_shape = stack[-1].output_shape
        return stack

    @property
    def parametric_layers(self) -> list[PlacedLayer]:
        """Layers with weights."""
        return [placed for placed in self.stack if not isinstance(placed.layer, MaxPool)]

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds that the training of one row requires.

        Each layer computes its outputs, the gradient of its weights and the derivative by its inputs. The first layer
        needs no derivative by its inputs.
        """
        first, *others = (placed.multiply_adds for placed in self.parametric_layers)
        return 2 * first + 3 * sum(others)

    @property
    def name(self) -> str:
        """Key and layers, such as "C 64-64-10"."""
        shape = "x".join(map(str, self.shape))
        return f"{self.key} {'-'.join([shape, *(str(placed.layer) for placed in self.stack)])}"

    @property
    def title(self) -> str:
        """Description of the work in one line."""
        network = f"{self.name} {self.hidden}, {self.output}, {self.dtype}"
        if not self.training:
            return f"{network}: {self.epochs} calls of predict with one row"
        if self.single_steps:
            rows = "one row" if self.rows == 1 else f"{self.rows} rows"
            return f"{network}: {self.loss}, {self.optimizer}, {self.epochs} steps on {rows}, one call for each step"
        rows = "full batch" if self.batch is None else f"batch {self.batch}"
        bias = "" if self.bias else ", no bias"
        return f"{network}{bias}: {self.loss}, {self.optimizer}, {self.rows} rows, {rows}, {self.epochs} epochs"

    @property
    def steps(self) -> int:
        """Training steps, or calls of `predict`, in one run; the tables show the time of one."""
        return self.epochs * -(-self.rows // (self.batch or self.rows))

    @cached_property
    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """X of shape (rows, *shape), and y: labels (rows,) for cross-entropy, else targets (rows, n_out)."""
        if self.key == "A":
            X = np.array([[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]], self.dtype)
            return X, np.array([[0], [1], [1], [0]], self.dtype)
        rng = np.random.default_rng(20)
        n_in, n_out = prod(self.shape), self.layers[-1]
        X = rng.standard_normal((self.rows, n_in))
        scores = X @ rng.standard_normal((n_in, n_out)) / np.sqrt(n_in)
        scores += 0.3 * rng.standard_normal(scores.shape)  # noise keeps the final loss well above 0
        y = scores.argmax(axis=1) if self.loss == "cross_entropy" else np.tanh(scores).astype(self.dtype)
        if self.has_images:  # add a pattern of each class that is wider than one pixel, for the convolutions
            X += 0.3 * np.repeat(rng.standard_normal((n_out, n_in // 7)), 7, axis=1)[y]
        X *= min(1.0, 8.0 / np.sqrt(n_in))  # scale rows with many inputs to the norm of MNIST images
        return X.astype(self.dtype).reshape(self.rows, *self.shape), y

    @property
    def X(self) -> np.ndarray:
        """Inputs of shape (rows, *shape)."""
        return self.data[0]

    @property
    def y(self) -> np.ndarray:
        """Labels (rows,) for cross-entropy, else targets (rows, n_out)."""
        return self.data[1]

    @property
    def Y(self) -> np.ndarray:
        """Targets of shape (rows, n_out), with labels in one-hot encoding."""
        return np.eye(self.layers[-1], dtype=self.dtype)[self.y] if self.y.ndim == 1 else self.y

    @cached_property
    def weights(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Initial weights for all peers: W (n_in, n_out) and b (n_out,) of each layer, which a peer must copy.

        For a convolution, the rows of W are ordered by row, column and channel of the window; the columns are filters.
        """
        rng = np.random.default_rng(1)
        layers = []
        for placed in self.parametric_layers:
            n_in, n_out = shape = placed.layer.weight_shape(placed.input_shape)
            W = rng.random(shape) if self.key == "A" else rng.standard_normal(shape) * np.sqrt(2 / n_in)
            layers.append((W.astype(self.dtype), np.zeros(n_out, self.dtype)))
        return layers

    def final_loss(self, result) -> float:
        """Return the loss over all rows for the result of a run: trained weights, or the predictions for row 0."""
        if not self.training:
            return self._loss(np.asarray(result, float).reshape(1, -1), self.y[:1])
        # The outputs are computed in blocks of rows with at most two million numbers, to limit the memory.
        block_rows = max(1, 2_000_000 // max(prod(placed.output_shape) for placed in self.stack))
        starts = range(0, self.rows, block_rows)
        outputs = [self._outputs(self.X[i : i + block_rows].astype(float), result) for i in starts]
        return self._loss(np.concatenate(outputs), self.y)

    def _outputs(self, A: np.ndarray, weights) -> np.ndarray:
        """Return the outputs of the network, computed in float64; logits instead of softmax outputs."""
        parts = iter(weights)
        for number, (layer, _, output_shape) in enumerate(self.stack, start=1):
            if isinstance(layer, MaxPool):
                A = max_pool(A, layer.size, output_shape)
                continue
            W, b = next(parts)
            W = np.asarray(W, float)
            A = convolve(A, layer, W, output_shape) if isinstance(layer, Conv) else A.reshape(len(A), -1) @ W
            if b is not None:
                A += np.asarray(b, float)
            if number < len(self.stack):
                A = _ACTIVATIONS[self.hidden](A)
            elif self.output != "softmax":  # cross-entropy is computed from logits
                A = _ACTIVATIONS[self.output](A)
        return A

    def _loss(self, P: np.ndarray, y: np.ndarray) -> float:
        """Return the loss of predictions or logits P."""
        if self.loss == "cross_entropy":
            P = P - P.max(axis=1, keepdims=True)
            return float(np.mean(np.log(np.exp(P).sum(axis=1)) - P[np.arange(len(y)), y]))
        squares = (P - y) ** 2
        return float(squares.sum() if self.loss == "sse" else squares.mean())


def convolve(A: np.ndarray, layer: Conv, W: np.ndarray, output_shape: tuple[int, ...]) -> np.ndarray:
    """Return the convolution of images as a sum of one matrix product for each pixel of the window."""
    height, width, filters = output_shape
    if layer.same:
        before, after = (layer.size - 1) // 2, layer.size // 2
        A = np.pad(A, ((0, 0), (before, after), (before, after), (0, 0)))
    Z = np.zeros((len(A) * height * width, filters))
    for pixel, pixel_weights in enumerate(W.reshape(layer.size**2, -1, filters)):
        y, x = divmod(pixel, layer.size)
        Z += A[:, y : y + height, x : x + width].reshape(len(Z), -1) @ pixel_weights
    return Z.reshape(-1, *output_shape)


def max_pool(A: np.ndarray, size: int, output_shape: tuple[int, ...]) -> np.ndarray:
    """Return the maximum of each window of the images, for windows that do not overlap."""
    height, width, channels = output_shape
    windows = A[:, : height * size, : width * size].reshape(-1, height, size, width, size, channels)
    return windows.max(axis=(2, 4))


_ACTIVATIONS = {
    "sigmoid": lambda Z: 1 / (1 + np.exp(-Z)),
    "tanh": np.tanh,
    "relu": lambda Z: np.maximum(Z, 0),
    "identity": lambda Z: Z,
}

# Layers, settings and goals that several works share.
_MNIST = (784, 128, 10)
_CLASSIFICATION = ("relu", "softmax", "cross_entropy")
_LENET = ((28, 28, 1), Conv(6, 5), MaxPool(2), Conv(16, 5), MaxPool(2), 120, 84, 10)
_TWO_CONVOLUTIONS = ((28, 28, 1), Conv(32, 3, same=True), Conv(32, 3, same=True), MaxPool(2), 128, 10)
_SMALL = (4, 16, 3)
_GOALS_BATCH_32 = {
    "goals": {"torch": 5.5, "jax": 6}, "single_thread_goals": {"torch": 4.2, "jax": 6}, "peak_goals": (0.8, 0.75),
}  # fmt: skip
_GOALS_BATCH_128 = {
    "goals": {"torch": 4.4, "jax": 6}, "single_thread_goals": {"torch": 3.3, "jax": 6}, "peak_goals": (0.8, 0.75),
}  # fmt: skip

WORKS = {
    work.key: work
    for work in (
        Work("A", (3, 4, 1), "sigmoid", "sigmoid", "sse", 1500, rows=4, lr=1.0, dtype="float64", bias=False,
             goals={"numpy": 110, "torch": 1000, "jax": 4, "genann": 2.3}),
        Work("B", (4, 16, 10), *_CLASSIFICATION, 5, batch=32,
             goals={"numpy": 40, "torch": 150, "sklearn": 130, "jax": 20}),
        Work("C", (64, 64, 10), *_CLASSIFICATION, 5, batch=32,
             goals={"numpy": 25, "torch": 35, "sklearn": 32, "jax": 6.5, "kann": 9}),
        Work("D", _MNIST, *_CLASSIFICATION, 3, batch=32,
             goals={"numpy": 5, "torch": 6.5, "sklearn": 7.5, "jax": 2, "kann": 16}),
        Work("E", _MNIST, *_CLASSIFICATION, 3, batch=256, lr=0.5,
             goals={"numpy": 3, "torch": 3, "sklearn": 3, "jax": 1.8}),
        Work("F", (784, 512, 512, 10), *_CLASSIFICATION, 2, batch=256, lr=0.2,
             goals={"numpy": 2, "torch": 2.4, "sklearn": 2.2, "jax": 1.15}),
        Work("G", (4, 32, 16, 4), "tanh", "identity", "mse", 20, rows=10_000, optimizer="adam", lr=0.01,
             goals={"numpy": 10, "torch": 5.5, "jax": 2.7}),
        Work("H", _SMALL, "relu", "identity", "mse", 10_000, rows=1, training=False,
             goals={"numpy": 2, "torch": 6, "sklearn": 40}),
        Work("L32", _LENET, *_CLASSIFICATION, 1, rows=4096, batch=32, lr=0.05, **_GOALS_BATCH_32),
        Work("L32-adam", _LENET, *_CLASSIFICATION, 1, rows=4096, batch=32, optimizer="adam", lr=0.001,
             **_GOALS_BATCH_32),
        Work("L128", _LENET, *_CLASSIFICATION, 2, rows=4096, batch=128, lr=0.1, **_GOALS_BATCH_128),
        Work("L128-adam", _LENET, *_CLASSIFICATION, 2, rows=4096, batch=128, optimizer="adam", lr=0.001,
             **_GOALS_BATCH_128),
        Work("K32", _TWO_CONVOLUTIONS, *_CLASSIFICATION, 1, rows=1024, batch=32, lr=0.02,
             goals={"torch": 1.25}, single_thread_goals={"torch": 1.25}, peak_goals=(0.8, 0.8)),
        *(
            Work(f"S{rows}{wide}{adam}", sizes, "tanh", "identity", "mse", 2000, rows=rows, single_steps=True,
                 optimizer=optimizer, lr=lr, goals={"torch": 70, "jax": 10} if rows == 1 and not wide else {})
            for rows in (1, 32)
            for wide, sizes in (("", _SMALL), ("-wide", (64, 64, 10)))
            for adam, optimizer, lr in (("", "sgd", 0.01), ("-adam", "adam", 0.001))
        ),
    )
}  # fmt: skip
