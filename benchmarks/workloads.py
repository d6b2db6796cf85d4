"""Definition of the workloads: networks, data, initial weights and training settings, the same for all peers.

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
    """A dense layer for whole rows, or for each step of a sequence; the text form starts with the number of neurons."""

    n: int
    each_step: bool = False

    def __str__(self):
        return f"{self.n}/step" if self.each_step else str(self.n)

    def output_shape(self, input_shape):
        """Return the shape of an output row."""
        return (*input_shape[:-1], self.n) if self.each_step else (self.n,)

    def weight_shape(self, input_shape):
        """Return the shape of W, (n_in, n_out), for input rows of this shape."""
        return input_shape[-1] if self.each_step else prod(input_shape), self.n


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


class Conv1D(NamedTuple):
    """A convolution over the steps of a sequence, with `padding` zeros before and after the sequence."""

    filters: int
    size: int
    stride: int
    padding: int

    def __str__(self):
        return f"{self.filters}c{self.size}/{self.stride}"

    def output_shape(self, input_shape):
        """Return the shape of an output sequence."""
        return (input_shape[0] + 2 * self.padding - self.size) // self.stride + 1, self.filters

    def weight_shape(self, input_shape):
        """Return the shape of W, (steps and features of a window, filters)."""
        return self.size * input_shape[1], self.filters


class Recurrent(NamedTuple):
    """A GRU or LSTM, whose output is the last state, or the states of all steps if `sequences` is True."""

    cell: str
    units: int
    sequences: bool = False
    bidirectional: bool = False

    def __str__(self):
        return f"{'bi' * self.bidirectional}{self.cell}{self.units}"

    @property
    def directions(self) -> int:
        """Number of directions in which the layer processes the steps."""
        return 1 + self.bidirectional

    @property
    def columns(self) -> int:
        """Number of columns of W of one direction: one for each gate and unit."""
        return {"gru": 3, "lstm": 4}[self.cell] * self.units

    def output_shape(self, input_shape):
        """Return the shape of an output row."""
        n = self.directions * self.units
        return (input_shape[0], n) if self.sequences else (n,)

    def weight_shape(self, input_shape):
        """Return the shape of W, (features and units, columns of all directions)."""
        return input_shape[1] + self.units, self.directions * self.columns

    def bias_shape(self):
        """Return the shape of b; the second row of a GRU is added to the products with the previous state."""
        n = self.directions * self.columns
        return (2, n) if self.cell == "gru" else (n,)

    def split(self, W, b):
        """Return (W, U, b) of each direction: weights of the inputs, weights of the previous state, and biases."""
        columns = [slice(d * self.columns, (d + 1) * self.columns) for d in range(self.directions)]
        return [(W[: -self.units, part], W[-self.units :, part], b[..., part]) for part in columns]


class PlacedLayer(NamedTuple):
    """A layer of a network with the shapes of one row: (n,), (steps, features) or (height, width, channels)."""

    layer: Dense | Conv | MaxPool | Conv1D | Recurrent
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]

    @property
    def positions(self) -> int:
        """Number of steps or windows of a row, each of which is multiplied by W."""
        is_recurrent = isinstance(self.layer, Recurrent)
        return self.input_shape[0] if is_recurrent else prod(self.output_shape[:-1])

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of the forward pass for one row."""
        return self.positions * prod(self.layer.weight_shape(self.input_shape))

    @property
    def input_multiply_adds(self) -> int:
        """Multiply-adds of the forward pass that have an input of the layer as a factor."""
        n_in, n_out = self.layer.weight_shape(self.input_shape)
        return self.positions * n_out * (n_in - getattr(self.layer, "units", 0))


@dataclass(frozen=True)
class Workload:
    """Network, data and settings of a benchmark run.

    Attributes
    ----------
    key : str
        Short name, such as "A" or "L32-adam".
    layers : tuple
        Input size, hidden layer sizes and output size; or input shape of an image, `Conv`, `MaxPool` and sizes; or
        input shape of a sequence, `Recurrent`, `Conv1D`, `Dense` and sizes.
    hidden, output : str
        Activation of the hidden layers, except recurrent ones, and of the output layer.
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
        """Return whether a run is one call of `fit`; only those are compared with the peak rate of multiply-adds."""
        return self.training and not self.single_steps

    @property
    def has_images(self) -> bool:
        """Return whether the rows are images."""
        return len(self.shape) == 3

    @property
    def has_sequences(self) -> bool:
        """Return whether the rows are sequences."""
        return len(self.shape) == 2

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an input row."""
        return self.layers[:1] if isinstance(self.layers[0], int) else self.layers[0]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Layer sizes of a dense network, from the input to the output."""
        assert len(self.shape) == 1
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

        Each layer computes its outputs, the gradient of its weights and the derivative with respect to its inputs. A
        recurrent layer also computes the derivative with respect to its previous states. The first layer needs no
        derivative with respect to its inputs.
        """
        layers = self.parametric_layers
        return 3 * sum(placed.multiply_adds for placed in layers) - layers[0].input_multiply_adds

    @property
    def name(self) -> str:
        """Key and layers, such as "C 64-64-10"."""
        shape = "x".join(map(str, self.shape))
        return f"{self.key} {'-'.join([shape, *(str(placed.layer) for placed in self.stack)])}"

    @property
    def title(self) -> str:
        """Description of the workload in one line."""
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
        """Training steps, or calls of `predict`, in one run; the tables show the time of one step or call."""
        return self.epochs * -(-self.rows // (self.batch or self.rows))

    @cached_property
    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """X of shape (rows, *shape), and y: labels (rows,) for cross-entropy, else targets (rows, *output shape)."""
        if self.key == "A":
            X = np.array([[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]], self.dtype)
            return X, np.array([[0], [1], [1], [0]], self.dtype)
        if self.has_sequences:
            return self._sequences()
        rng = np.random.default_rng(20)
        n_in, n_out = prod(self.shape), self.layers[-1]
        X = rng.standard_normal((self.rows, n_in))
        scores = X @ rng.standard_normal((n_in, n_out)) / np.sqrt(n_in)
        scores += 0.3 * rng.standard_normal(scores.shape)  # noise in the targets keeps the final loss well above 0
        y = scores.argmax(axis=1) if self.loss == "cross_entropy" else np.tanh(scores).astype(self.dtype)
        if self.has_images:  # add a pattern of each class that is wider than one pixel, for the convolutions
            X += 0.3 * np.repeat(rng.standard_normal((n_out, n_in // 7)), 7, axis=1)[y]
        X *= min(1.0, 8.0 / np.sqrt(n_in))  # scale rows with many inputs to the norm of MNIST images
        return X.astype(self.dtype).reshape(self.rows, *self.shape), y

    def _sequences(self):
        """Return X and y: the targets of a step depend on a weighted sum of this step and the steps before."""
        rng = np.random.default_rng(20)
        (steps, features), (*each_step, n_out) = self.shape, self.stack[-1].output_shape
        X = rng.standard_normal((self.rows, steps, features))
        scores = X @ rng.standard_normal((features, n_out)) / np.sqrt(features)
        for step in range(1, steps):
            # The factors 0.9 and 0.44 keep the variance of the scores at 1.
            scores[:, step] = 0.9 * scores[:, step - 1] + 0.44 * scores[:, step]
        scores = scores if each_step else scores[:, -1]
        scores += 0.3 * rng.standard_normal(scores.shape)
        y = scores.argmax(axis=1) if self.loss == "cross_entropy" else np.tanh(scores).astype(self.dtype)
        return X.astype(self.dtype), y

    @property
    def X(self) -> np.ndarray:
        """Inputs of shape (rows, *shape)."""
        return self.data[0]

    @property
    def y(self) -> np.ndarray:
        """Labels (rows,) for cross-entropy, else targets (rows, *output shape)."""
        return self.data[1]

    @property
    def Y(self) -> np.ndarray:
        """Targets of shape (rows, *output shape), with labels in one-hot encoding."""
        return np.eye(self.layers[-1], dtype=self.dtype)[self.y] if self.y.ndim == 1 else self.y

    @cached_property
    def weights(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Initial weights for all peers: W (n_in, n_out) and b (n_out,) of each layer, which a peer must copy.

        For a convolution, the rows of W are ordered by row, column and channel of the window; the columns are filters.
        For a recurrent layer, W and b are those of nnc: W has a row for each feature and unit, and the columns are
        ordered by direction, gate and unit. The gates are in the order z, r, n (GRU) and i, f, g, o (LSTM).
        """
        rng = np.random.default_rng(1)
        layers = []
        for placed in self.parametric_layers:
            n_in, n_out = shape = placed.layer.weight_shape(placed.input_shape)
            W = rng.random(shape) if self.key == "A" else rng.standard_normal(shape) * np.sqrt(2 / n_in)
            bias_shape = placed.layer.bias_shape() if isinstance(placed.layer, Recurrent) else n_out
            layers.append((W.astype(self.dtype), np.zeros(bias_shape, self.dtype)))
        return layers

    def final_loss(self, result) -> float:
        """Return the loss over all rows for the result of a run: trained weights, or the predictions for row 0."""
        if not self.training:
            return self._loss(np.asarray(result, float).reshape(1, -1), self.y[:1])
        # Compute the outputs in blocks of rows with at most two million numbers, to limit the memory.
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
            if isinstance(layer, Recurrent):
                A = process_steps(A, layer, W, np.asarray(b, float))
                continue
            if isinstance(layer, Conv):
                A = convolve(A, layer, W, output_shape)
            elif isinstance(layer, Conv1D):
                A = convolve_steps(A, layer, W, output_shape)
            else:
                A = (A if layer.each_step else A.reshape(len(A), -1)) @ W
            if b is not None:
                A += np.asarray(b, float)
            if number < len(self.stack):
                A = _ACTIVATIONS[self.hidden](A)
            elif self.output != "softmax":  # omit softmax, because cross-entropy is computed from logits
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


def convolve_steps(A: np.ndarray, layer: Conv1D, W: np.ndarray, output_shape: tuple[int, ...]) -> np.ndarray:
    """Return the convolution of sequences as a sum of one matrix product for each step of the window."""
    A = np.pad(A, ((0, 0), (layer.padding, layer.padding), (0, 0)))
    last = layer.stride * (output_shape[0] - 1)
    parts = enumerate(W.reshape(layer.size, -1, layer.filters))
    return sum(A[:, step : step + last + 1 : layer.stride] @ step_weights for step, step_weights in parts)


def process_steps(A: np.ndarray, layer: Recurrent, W: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the states of a recurrent layer: those of all steps, or the last state of each direction."""
    sigmoid, outputs = _ACTIVATIONS["sigmoid"], []
    for direction, (W_inputs, U, bias) in enumerate(layer.split(W, b)):
        h = c = np.zeros((len(A), layer.units))
        states = []
        for x in np.moveaxis(A[:, ::-1] if direction else A, 1, 0):
            if layer.cell == "gru":
                (z, r, n), (z_state, r_state, n_state) = (
                    np.split(net_input, 3, axis=1) for net_input in (x @ W_inputs + bias[0], h @ U + bias[1])
                )
                z, r = sigmoid(z + z_state), sigmoid(r + r_state)
                h = z * h + (1 - z) * np.tanh(n + r * n_state)
            else:
                i, f, g, o = np.split(x @ W_inputs + h @ U + bias, 4, axis=1)
                c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
                h = sigmoid(o) * np.tanh(c)
            states.append(h)
        outputs.append(np.stack(states[::-1] if direction else states, axis=1) if layer.sequences else h)
    return np.concatenate(outputs, axis=-1)


_ACTIVATIONS = {
    "sigmoid": lambda Z: 1 / (1 + np.exp(-Z)),
    "tanh": np.tanh,
    "relu": lambda Z: np.maximum(Z, 0),
    "identity": lambda Z: Z,
}

# Layers, settings and goals that several workloads share.
_MNIST = (784, 128, 10)
_CLASSIFICATION = ("relu", "softmax", "cross_entropy")
_LENET = ((28, 28, 1), Conv(6, 5), MaxPool(2), Conv(16, 5), MaxPool(2), 120, 84, 10)
_TWO_CONVOLUTIONS = ((28, 28, 1), Conv(32, 3, same=True), Conv(32, 3, same=True), MaxPool(2), 128, 10)
_SMALL = (4, 16, 3)
_SEQUENCE_REGRESSION = ("relu", "identity", "mse")
# Layers of the convolutional network of the MNIST-1D benchmark.
_CONVOLUTIONS_1D = ((40, 1), Conv1D(25, 5, 2, 1), Conv1D(25, 3, 2, 1), Conv1D(25, 3, 2, 1), 10)
_GOALS_BATCH_32 = {
    "goals": {"torch": 5.5, "jax": 6}, "single_thread_goals": {"torch": 4.2, "jax": 6}, "peak_goals": (0.8, 0.75),
}  # fmt: skip
_GOALS_BATCH_128 = {
    "goals": {"torch": 4.4, "jax": 6}, "single_thread_goals": {"torch": 3.3, "jax": 6}, "peak_goals": (0.8, 0.75),
}  # fmt: skip

WORKLOADS = {
    workload.key: workload
    for workload in (
        Workload("A", (3, 4, 1), "sigmoid", "sigmoid", "sse", 1500, rows=4, lr=1.0, dtype="float64", bias=False,
                 goals={"numpy": 110, "torch": 1000, "jax": 4, "genann": 2.3}),
        Workload("B", (4, 16, 10), *_CLASSIFICATION, 5, batch=32,
                 goals={"numpy": 40, "torch": 150, "sklearn": 130, "jax": 20}),
        Workload("C", (64, 64, 10), *_CLASSIFICATION, 5, batch=32,
                 goals={"numpy": 25, "torch": 35, "sklearn": 32, "jax": 6.5, "kann": 9}),
        Workload("D", _MNIST, *_CLASSIFICATION, 3, batch=32,
                 goals={"numpy": 5, "torch": 6.5, "sklearn": 7.5, "jax": 2, "kann": 16}),
        Workload("E", _MNIST, *_CLASSIFICATION, 3, batch=256, lr=0.5,
                 goals={"numpy": 3, "torch": 3, "sklearn": 3, "jax": 1.8}),
        Workload("F", (784, 512, 512, 10), *_CLASSIFICATION, 2, batch=256, lr=0.2,
                 goals={"numpy": 2, "torch": 2.4, "sklearn": 2.2, "jax": 1.15}),
        Workload("G", (4, 32, 16, 4), "tanh", "identity", "mse", 20, rows=10_000, optimizer="adam", lr=0.01,
                 goals={"numpy": 10, "torch": 5.5, "jax": 2.7}),
        Workload("H", _SMALL, "relu", "identity", "mse", 10_000, rows=1, training=False,
                 goals={"numpy": 2, "torch": 6, "sklearn": 40}),
        Workload("L32", _LENET, *_CLASSIFICATION, 1, rows=4096, batch=32, lr=0.05, **_GOALS_BATCH_32),
        Workload("L32-adam", _LENET, *_CLASSIFICATION, 1, rows=4096, batch=32, optimizer="adam", lr=0.001,
                 **_GOALS_BATCH_32),
        Workload("L128", _LENET, *_CLASSIFICATION, 2, rows=4096, batch=128, lr=0.1, **_GOALS_BATCH_128),
        Workload("L128-adam", _LENET, *_CLASSIFICATION, 2, rows=4096, batch=128, optimizer="adam", lr=0.001,
                 **_GOALS_BATCH_128),
        Workload("K32", _TWO_CONVOLUTIONS, *_CLASSIFICATION, 1, rows=1024, batch=32, lr=0.02,
                 goals={"torch": 1.25}, single_thread_goals={"torch": 1.25}, peak_goals=(0.8, 0.8)),
        Workload("R1", ((64, 32), Recurrent("gru", 64), 1), *_SEQUENCE_REGRESSION, 1, rows=1024, batch=32,
                 optimizer="adam", lr=0.003, single_thread_goals={"torch": 6, "jax": 3, "keras": 2.5},
                 peak_goals=(0.65,)),
        Workload("R1e", ((64, 32), Recurrent("gru", 64, sequences=True), Dense(1, each_step=True)),
                 *_SEQUENCE_REGRESSION, 1, rows=1024, batch=32, optimizer="adam", lr=0.003,
                 single_thread_goals={"torch": 6}),
        Workload("L", ((64, 32), Recurrent("lstm", 32), 1), *_SEQUENCE_REGRESSION, 1, rows=1024, batch=32,
                 optimizer="adam", lr=0.003, single_thread_goals={"torch": 2.7}, peak_goals=(0.6,)),
        Workload("R2", ((40, 1), Recurrent("gru", 6, bidirectional=True), 10), *_CLASSIFICATION, 1, rows=4000,
                 batch=100, optimizer="adam", lr=0.01, single_thread_goals={"torch": 15}),
        Workload("R3", ((2048, 1), Recurrent("lstm", 16, sequences=True), Dense(1, each_step=True)),
                 *_SEQUENCE_REGRESSION, 1, rows=128, batch=32, optimizer="adam", lr=0.01,
                 single_thread_goals={"torch": 4, "jax": 8.5}),
        Workload("C1", _CONVOLUTIONS_1D, *_CLASSIFICATION, 2, rows=4000, batch=100, optimizer="adam", lr=0.003,
                 single_thread_goals={"torch": 6, "jax": 2.5}),
        *(
            Workload(f"S{rows}{wide}{adam}", sizes, "tanh", "identity", "mse", 2000, rows=rows, single_steps=True,
                     optimizer=optimizer, lr=lr, goals={"torch": 70, "jax": 10} if rows == 1 and not wide else {})
            for rows in (1, 32)
            for wide, sizes in (("", _SMALL), ("-wide", (64, 64, 10)))
            for adam, optimizer, lr in (("", "sgd", 0.01), ("-adam", "adam", 0.001))
        ),
    )
}  # fmt: skip
